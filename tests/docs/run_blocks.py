"""Runs the Python examples of one page, each in a process of its own: ``run_blocks.py page.md``.

Those that define tests go to pytest. Works in the current folder, prints the place of each example that failed, and
exits with their number.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

_FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """Line number and code of each example."""
    text = page.read_text()
    for found in _FENCED.finditer(text):
        line = text[: found.start(1)].count("\n")
        yield line + 1, "\n" * line + found[1]  # so that tracebacks name the page's own lines


_DEFINES_TESTS = re.compile(r"^(async )?def test_", re.MULTILINE)


def _run(page: Path, code: str) -> int:
    try:
        exec(compile(code, str(page), "exec", dont_inherit=True), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(page: Path) -> int:
    found = list(blocks(page))
    tests = {line: code for line, code in found if _DEFINES_TESTS.search(code)}
    for line, code in tests.items():
        Path(f"test_line_{line}.py").write_text(code.lstrip("\n"))
    failed = 0
    if tests:
        # Examples leave clients open, as programs do, and the next test would be told.
        options = ("-q", "-p", "no:asyncio", "-W", "ignore::ResourceWarning")
        failed += subprocess.run([sys.executable, "-m", "pytest", *options]).returncode != 0
    programs = [(line, code) for line, code in found if line not in tests]
    for library in ("anthropic", "openai"):
        if any(f"import {library}" in code for _, code in programs):
            import_module(library)  # once for all of them
    for line, code in programs:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            sys.exit(_run(page, code))
        _, status = os.waitpid(child, 0)
        if status:
            failed += 1
            sys.stdout.write(f"FAILED {page.name}:{line}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
