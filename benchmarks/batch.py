"""Microseconds of CPU to batch one item, beside ``aiodataloader``, in one interleaved run; and how well each gathers.

    python -m benchmarks.batch [--repeats 30] [--check]

``burst``: 1,000 items submitted in one turn of the event loop, in batches of 100. ``map``: the same by each one's call
for several (``map`` and ``load_many``). Neither has duplicates to look for: the loader's cache is off, ``dedup`` too.
Each repeat runs both in turn; the figure is the best of all. ``spaced`` counts the calls that 50 items cost which come
one after the other, a turn of the loop apart: what batching is for. ``--check`` exits 1 where ours takes more CPU than
``LIMIT`` times the loader's, or does not gather.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from time import process_time_ns
from typing import Any

from aiodataloader import DataLoader

from seatrace.runtime import Batcher

from ._table import table

ITEMS = 1_000
SIZE = 100
LIMIT = 2.0
"""The loader gathers one turn of the loop: no deadline, weight, back-pressure, cancelled items or context."""


async def echo(items: list[int]) -> list[int]:
    """The batch function."""
    return items


def loader(function: Callable[[list[int]], Any] = echo) -> DataLoader[int, int]:
    """Theirs."""
    return DataLoader(function, max_batch_size=SIZE, cache=False)


def batcher(function: Callable[[list[int]], Any] = echo) -> Batcher[int, int]:
    """Ours."""
    return Batcher(function, max_size=SIZE, concurrency=10)


async def time_once(work: Callable[[], Awaitable[Any]]) -> float:
    """Microseconds of this process's CPU time an item."""
    started = process_time_ns()
    await work()
    return (process_time_ns() - started) / 1e3 / ITEMS


async def burst(submit: Callable[[int], Awaitable[int]]) -> None:
    """Each item from a task of its own."""

    async def one(item: int) -> int:
        return await submit(item)

    await asyncio.gather(*(one(item) for item in range(ITEMS)))


async def calls_when_spaced(make: Callable[[Any], Any], submit: str) -> int:
    """How often the function is called for 50 items that come one after the other."""
    calls = 0

    async def count(items: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        return items

    one = getattr(make(count), submit)
    tasks = []
    for item in range(50):
        tasks.append(asyncio.ensure_future(one(item)))
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    return calls


async def measure(repeats: int) -> tuple[dict[str, tuple[float, float]], tuple[int, int]]:
    """Ours and theirs: CPU by case, and calls when spaced."""
    ours, theirs = batcher(), loader()
    cases: dict[str, tuple[Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]] = {
        "burst": (lambda: burst(ours.submit), lambda: burst(theirs.load)),
        "map": (lambda: ours.map(range(ITEMS)), lambda: theirs.load_many(range(ITEMS))),
    }
    best = {name: (float("inf"), float("inf")) for name in cases}
    for _ in range(repeats):
        for name, (mine, other) in cases.items():
            best[name] = (min(best[name][0], await time_once(mine)), min(best[name][1], await time_once(other)))
    spaced = await calls_when_spaced(batcher, "submit"), await calls_when_spaced(loader, "load")
    return best, spaced


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    best, spaced = asyncio.run(measure(arguments.repeats))
    rows = [[name, f"{a:.2f} µs", f"{b:.2f} µs", f"{a / b:.2f}"] for name, (a, b) in best.items()]
    rows.append(["spaced, calls for 50 items", str(spaced[0]), str(spaced[1]), f"{spaced[0] / spaced[1]:.2f}"])
    print(table(["Case", "seatrace", "aiodataloader", "ratio"], rows))
    above = [name for name, (a, b) in best.items() if a > LIMIT * b]
    if arguments.check and (above or spaced[0] > 5):
        print(f"above its bound: {', '.join(above) or 'spaced'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
