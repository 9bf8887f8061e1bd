"""What decides a benchmark: instructions where valgrind is installed, and CPU time as far as it is told from noise.

Instruction counts are the same at every run, whatever else the machine does. CPU time is not: its ratio is given with
an interval, and a bound is missed only where the whole interval lies above it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

Sample = Sequence[Sequence[float]]
"""A row a round, all of its figures taken one after the other."""


def counts_instructions() -> bool:
    """Whether valgrind is installed."""
    return shutil.which("valgrind") is not None


def instructions(commands: Sequence[Sequence[str]]) -> list[int]:
    """The instructions of each ``python COMMAND``, counted by cachegrind in a process of its own; as many at once as
    there are cores."""
    return [counts[-1] for counts in instructions_at_marks(commands)]


def instructions_at_marks(commands: Sequence[Sequence[str]]) -> list[list[int]]:
    """The same at each :func:`mark` of the process, and at its end."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_cachegrind, commands))


def mark() -> None:
    """Has cachegrind say how many instructions it has counted until here: it does so where a process ends, and a forked
    one begins with the count of its parent."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def _cachegrind(command: Sequence[str]) -> list[int]:
    # Without a cache to simulate it only counts: in less than half the time that callgrind takes for the same number.
    counting = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    ran = subprocess.run(
        [*counting, sys.executable, *command],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"I +refs: +([\d,]+)", ran.stderr)
    if not found:
        raise RuntimeError(f"cachegrind said nothing of instructions: {ran.stderr[-500:]}")
    return [int(each.replace(",", "")) for each in found]


def interval(sample: Sample, figure: Callable[[Sample], float], *, draws: int = 1000) -> tuple[float, float]:
    """The 95 % bootstrap interval of ``figure``: its spread over samples drawn from the rounds with replacement."""
    draw = random.Random(0)
    found = sorted(figure(draw.choices(sample, k=len(sample))) for _ in range(draws))
    return found[int(draws * 0.025)], found[int(draws * 0.975)]


def ratio_of_added(sample: Sample) -> float:
    """Of rounds ``(bare, yardstick, ours)``: what ours adds to bare, as a multiple of what the yardstick adds."""
    yardstick = statistics.median(row[1] - row[0] for row in sample)
    return statistics.median(row[2] - row[0] for row in sample) / yardstick
