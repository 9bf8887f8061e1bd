"""Every Python example of the documentation runs, with the real client libraries."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize(
    "page", [each for each in PAGES if "```python" in each.read_text()], ids=lambda page: page.name
)
def test_the_examples_of_a_page_run(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    runner = Path(__file__).with_name("run_blocks.py")
    done = subprocess.run(
        [sys.executable, str(runner), str(page)],
        env=environment,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_program_runs(example: Path, environment: dict[str, str], tmp_path: Path) -> None:
    program = shutil.copy(example, tmp_path)  # away from this project's pytest settings
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    done = subprocess.run(
        [sys.executable, *(tests if example.name.startswith("test_") else []), program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    assert not done.stderr
