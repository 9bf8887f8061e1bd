"""The ``seatrace`` command itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from seatrace.version import __version__


def command(*arguments: str, hidden: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run ``seatrace`` with ``arguments`` as if the packages in ``hidden`` were not installed."""
    start = f"""
import sys
sys.modules.update(dict.fromkeys({hidden!r}))
from seatrace.cli import main
sys.argv = ["seatrace", *{arguments!r}]
main()
"""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", start], env={**os.environ}, capture_output=True, text=True, timeout=60
    )


def test_version() -> None:
    ended = command("--version")
    assert (ended.stdout, ended.returncode) == (f"seatrace {__version__}\n", 0)


def test_help_names_the_commands() -> None:
    ended = command("--help")
    assert ended.returncode == 0
    assert {"demo", "run", "status"} <= {*ended.stdout.split()}
    assert "save-log" not in command("demo", "--help").stdout


@pytest.mark.parametrize("hidden", ["typer", "rich"])
def test_a_missing_cli_extra_is_said_plainly(hidden: str) -> None:
    ended = command("status", hidden=(hidden,))
    assert ended.returncode == 2
    assert "pip install 'seatrace[cli]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("hidden", ["openai", "anthropic", "starlette", "uvicorn"])
def test_a_missing_demo_extra_is_said_plainly(hidden: str) -> None:
    ended = command("demo", hidden=(hidden,))
    assert ended.returncode == 2
    assert f"the demo needs {hidden}: pip install 'seatrace[demo]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_status_lists_the_libraries() -> None:
    ended = command("status")
    assert ended.returncode == 0, ended.stderr
    assert "openai" in ended.stdout
    assert "anthropic" in ended.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["demo", "--calls", "0"], ["demo", "--port", "99999"], ["run"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    ended = command(*arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
