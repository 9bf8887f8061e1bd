"""A fresh interpreter, for what only shows there: imports, exits, forks, monkey patching."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parent.parent


def run(program: str, *flags: str, code: int = 0, **environment: str) -> str:
    """Runs ``program`` with ``-W error``, checks its exit code and that it wrote nothing to stderr; its stdout."""
    path = os.pathsep.join([str(TESTS), *(each for each in sys.path if each)])
    unset = ("OTEL_", "SEATRACE_", "PYTHONUNBUFFERED")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", textwrap.dedent(program)],
        env={**clean, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, ""), done.stderr + done.stdout
    return done.stdout
