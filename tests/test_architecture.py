"""What holds for the package as a whole. Who imports whom is checked by `make contracts`."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module, metadata
from pathlib import Path

import pytest

import seatrace
from seatrace.libraries import REGISTRY

SOURCE = Path(seatrace.__file__).parent
FILES = {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.rglob("*.py")}


def _imported(statements: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after ``statements``, beyond those it has anyway."""
    program = f"""
import os, sys
before = set(sys.modules)
{statements}
print(*(set(sys.modules) - before), flush=True)
os._exit(0)  # no export at exit
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    return set(done.stdout.split())


def _below(package: str, modules: Iterable[str]) -> set[str]:
    return {name for name in modules if name == package or name.startswith(f"{package}.")}


def test_importing_the_bare_package_imports_nothing_heavy() -> None:
    imported = _imported("import seatrace")
    assert _below("seatrace", imported) == {"seatrace"}
    assert {name.partition(".")[0] for name in imported} <= {"seatrace", "__future__", "importlib"} | set(
        sys.stdlib_module_names
    )
    assert not imported & {"asyncio", "inspect", "logging", "json", "dataclasses"}


@pytest.mark.parametrize("exporter", ["otlp", "none"])
def test_switching_on_imports_no_observed_library_and_no_exporter(exporter: str) -> None:
    imported = _imported(f"import seatrace; seatrace.instrument(exporter={exporter!r}); seatrace.status()")
    for library in ("openai", "anthropic", "httpx", "httpx2", "requests", "grpc", "google.protobuf", "typer", "rich"):
        assert not _below(library, imported), library
    assert not _below("seatrace.demo", imported)
    assert "seatrace.process.price" not in imported  # loaded with the first call that has tokens


def test_observed_libraries_are_no_dependencies() -> None:
    required = metadata.requires("seatrace") or []
    always = {re.split(r"[^\w-]", each, maxsplit=1)[0] for each in required if "extra ==" not in each}
    assert always == {"opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp", "wrapt", "tomli"}


def test_dependencies_have_no_upper_bound() -> None:
    assert [each for each in metadata.requires("seatrace") or [] if "<" in each.partition(";")[0]] == []


def test_the_version_matrix_runs_what_the_registry_promises() -> None:
    matrix = runpy.run_path(str(SOURCE.parents[1] / "noxfile.py"))["_OLDEST"]
    assert matrix == {each.distribution: each.oldest for each in REGISTRY if each.kind == "client"}


def test_each_framework_is_pinned_at_its_oldest_and_a_newer_version() -> None:
    pinned: dict[tuple[str, str], list[str]] = {}
    requirements = SOURCE.parents[1] / "requirements"
    together_with_clients = (requirements / "ci.txt").read_text().splitlines()
    for path in (requirements / "frameworks").glob("*.txt"):
        together, _, age = path.stem.rpartition("-")
        for name in together.split("+"):
            pinned[name, age] = path.read_text().splitlines()
    for each in REGISTRY:
        if each.kind == "framework":
            name = each.name.replace(".", "_")
            assert f"{each.distribution}=={each.oldest}" in pinned[name, "oldest"]
            newest = pinned.get((name, "newest"), together_with_clients)
            [newer] = [line.split(" ")[0] for line in newest if line.startswith(f"{each.distribution}==")]
            assert newer != f"{each.distribution}=={each.oldest}"


def test_public_names_are_sorted_and_exist() -> None:
    assert seatrace.__all__ == sorted(seatrace.__all__)
    assert set(seatrace.__all__) == set(seatrace._PUBLIC)
    for name in seatrace.__all__:
        assert getattr(seatrace, name) is not None
        assert name == "__version__" or getattr(seatrace, name).__doc__, name


def test_public_names_are_told_to_type_checkers() -> None:
    told = re.findall(r"^    from \.([\w.]+) import (\w+) as (\w+)$", FILES["__init__.py"], re.MULTILINE)
    assert {name: module for module, name, alias in told if name == alias} == seatrace._PUBLIC


def test_names_of_the_conventions_stand_in_one_place() -> None:
    elsewhere = {
        path: found
        for path, text in FILES.items()
        if path != "emit/semconv.py"
        and not path.startswith("emit/catalogue/")
        and (found := re.findall(r'"gen_ai\.[\w.]+"', text))
    }
    assert elsewhere == {}


def test_every_module_says_what_it_is_for() -> None:
    assert [path for path, text in FILES.items() if not re.match(r'(#!.*\n)?"""\S', text)] == []


def test_every_module_can_be_imported_alone() -> None:
    for path in FILES:
        name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__").replace("__init__", "")
        if name and not name.endswith("__main__"):
            import_module(f"seatrace.{name}")


def test_nothing_is_printed_by_the_library() -> None:
    silent = {path: text for path, text in FILES.items() if not path.startswith(("cli/", "demo/"))}
    assert [path for path, text in silent.items() if re.search(r"\bprint\(|sys\.std(out|err)", text)] == []
