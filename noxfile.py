"""The version matrix: `nox` (or `make matrix`) runs the contract suite against the oldest and the newest libraries.

Newest stands in requirements/ci.txt; oldest in the registry (`seatrace.libraries`). Interpreters that the machine lacks
are skipped with a notice.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

_PINS = "requirements/ci.txt"
_BARE_PINS = "requirements/no-deps.txt"
_TESTS = ("tests/contract", "tests/core", "tests/own")
_OLDEST = {"openai": "1.66.0", "anthropic": "0.50.0"}
"""The oldest versions of the registry; tests/test_architecture.py holds the two together."""

_SDK = ("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp")


def _install(session: nox.Session, *changed: str) -> None:
    """The pinned environment, with the requirements ``changed`` in place of their pins."""
    session.install("--requirement", _PINS)
    session.install("--no-deps", "--requirement", _BARE_PINS)
    if changed:
        session.install(*changed)
    session.install("--no-deps", "--no-build-isolation", "--editable", ".")


@nox.session(python=["3.10", "3.13"])
def newest(session: nox.Session) -> None:
    """The newest libraries on the oldest and the newest Python; `make test` is on the machine's own."""
    _install(session)
    session.run("pytest", *_TESTS, "tests/pull", "tests/runtime", *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("library", sorted(_OLDEST))
def oldest(session: nox.Session, library: str) -> None:
    """The oldest supported version of one library beside the newest of the other."""
    _install(session, f"{library}=={_OLDEST[library]}")
    session.run("pytest", "tests/contract", *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("sdk", ["1.39.1", "1.44.0"])
def otel(session: nox.Session, sdk: str) -> None:
    """Older OpenTelemetry SDKs: the floor, and the one that some frameworks pin."""
    _install(session, *(f"{package}=={sdk}" for package in _SDK))
    session.run("pytest", *_TESTS, "tests/emit", "tests/pull", *session.posargs)


_FRAMEWORKS = sorted(path.stem for path in Path("requirements/frameworks").glob("*.txt"))
"""``<framework>[+<framework>…]-<newest or oldest>``: the exact versions of one environment."""


@nox.session(python="3.11")
@nox.parametrize("pins", _FRAMEWORKS)
def frameworks(session: nox.Session, pins: str) -> None:
    """Agent frameworks, each with its own pins, since theirs clash."""
    session.install("--requirement", f"requirements/frameworks/{pins}.txt")
    session.install("--no-deps", "--no-build-isolation", "--editable", ".")
    folders = (f"tests/frameworks/{name}" for name in pins.rpartition("-")[0].split("+"))
    session.run("pytest", *folders, *session.posargs)
