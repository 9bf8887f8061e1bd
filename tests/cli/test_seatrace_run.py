"""``seatrace run`` starts a program as ``python`` does: each program here runs both ways and must say the same."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

SELF_PORTRAIT = """
import json, os, sys, types
import neighbour
me = sys.modules["__main__"]
print(json.dumps({
    "argv": sys.argv,
    "path": sys.path[0],
    "name": __name__,
    "file": __file__,
    "package": __package__,
    "spec": __spec__ and [__spec__.name, __spec__.parent],
    "main": me.__dict__ is globals(),
    "neighbour": neighbour.here,
    "builtins": isinstance(__builtins__, types.ModuleType),
}))
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs."""
    folder = tmp_path / "programs"
    (folder / "package").mkdir(parents=True)
    (folder / "neighbour.py").write_text("here = __name__")
    (folder / "script.py").write_text(SELF_PORTRAIT)
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "__main__.py").write_text(SELF_PORTRAIT)
    (folder / "package" / "neighbour.py").write_text("here = 'beside the main file'")
    return folder


def python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _start(folder, [], arguments, environment)


def seatrace(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _start(folder, ["-m", "seatrace.cli", "run"], arguments, environment)


def _start(
    folder: Path, command: list[str], arguments: tuple[str, ...], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=folder,
        env={**os.environ, "SEATRACE_EXPORTER": "none", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["script.py"],
        ["script.py", "--help", "-m", "--", "x"],
        ["./script.py", "a"],
        ["-m", "script", "--version"],
        ["-m", "package", "-m"],
        ["package"],
    ],
    ids=" ".join,
)
def test_a_program_sees_what_it_sees_under_python(programs: Path, arguments: list[str]) -> None:
    expected = python(programs, *arguments)
    assert expected.returncode == 0, expected.stderr
    observed = seatrace(programs, *arguments)
    assert (observed.stdout, observed.stderr, observed.returncode) == (expected.stdout, "", 0)


def test_a_double_dash_may_stand_before_the_program(programs: Path) -> None:
    assert seatrace(programs, "--", "script.py", "--x").stdout == python(programs, "script.py", "--x").stdout


def test_an_archive_is_run(programs: Path) -> None:
    with zipfile.ZipFile(programs / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", "import sys; print(__name__, sys.argv, sys.path[0])")
    assert seatrace(programs, "archive.pyz", "a").stdout == python(programs, "archive.pyz", "a").stdout


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "raise SystemExit",
        "raise SystemExit(7)",
        "import sys; sys.exit('out of water')",
        "raise KeyboardInterrupt",
        "1 / 0",
        "def f(:",
        "import os; os.abort()",
        "import typer; raise typer.Exit(3)",
    ],
)
def test_a_program_ends_as_it_ends_under_python(programs: Path, ending: str) -> None:
    (programs / "ends.py").write_text(f"def sail():\n    pass\n{ending}\n")
    expected = python(programs, "ends.py")
    observed = seatrace(programs, "ends.py")
    assert observed.returncode == expected.returncode
    assert observed.stdout == expected.stdout
    assert observed.stderr == expected.stderr


def test_the_program_is_observed(programs: Path) -> None:
    (programs / "observed.py").write_text(
        textwrap.dedent("""
        import openai, seatrace
        print({entry.name: entry.state for entry in seatrace.status()}["openai"])
        """)
    )
    assert seatrace(programs, "observed.py").stdout == "observed\n"


def test_exit_handlers_and_threads_find_their_main_module(programs: Path) -> None:
    (programs / "late.py").write_text(
        textwrap.dedent("""
        import atexit, pickle, sys, threading, time
        class Boat: pass
        def late():
            time.sleep(0.2)
            print(type(pickle.loads(pickle.dumps(Boat()))) is Boat)
        atexit.register(late)
        threading.Thread(target=late).start()
        """)
    )
    assert seatrace(programs, "late.py").stdout == "True\nTrue\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no_such.py"], "there is no file 'no_such.py'"),
        (["-m", "no_such"], "there is no module 'no_such'"),
        (["-m", "package.no_such"], "there is no module 'package.no_such'"),
        (["."], "cannot be run"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_run_is_said_plainly(programs: Path, arguments: list[str], told: str) -> None:
    ended = seatrace(programs, *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith("seatrace: ")
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [["no_such.py"], ["-m", "no_such"], ["."]], ids=" ".join)
def test_a_program_that_cannot_be_run_sends_nothing(programs: Path, arguments: list[str]) -> None:
    ended = seatrace(programs, *arguments, SEATRACE_EXPORTER="otlp", SEATRACE_ENDPOINT="http://127.0.0.1:9")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr  # and no word of a collector


def test_a_malformed_setting_is_said_plainly(programs: Path) -> None:
    ended = seatrace(programs, "script.py", SEATRACE_SEMCONV="classic")
    assert ended.returncode == 2
    assert "SEATRACE_SEMCONV" in ended.stderr
    assert "Traceback" not in ended.stderr
