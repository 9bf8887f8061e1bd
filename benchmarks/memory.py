"""Memory over 50,000 calls: plain ones, streams, some of them abandoned, and some that fail. It must not grow.

    python -m benchmarks.memory [--check] [--calls 50000]

After a fifth of the calls every queue has been full once and every series is known; from there to the end neither what
the interpreter has allocated (tracemalloc) nor what the process occupies (RSS) may grow by more than a trifle. Two
processes do this: tracemalloc would slow the other down and add memory of its own. ``--check`` exits 1 above the reach.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import openai

import seatrace

from . import _wire
from ._sdk import providers
from ._table import table

REACH = {"tracemalloc": 0.1, "RSS": 1.5}
"""MiB that may be added between a fifth and all of the calls. Of RSS some is the allocator's own doing."""


def occupied() -> float:
    """MiB of this process's resident set."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def allocated() -> float:
    """MiB that the interpreter has given out and not got back."""
    return tracemalloc.get_traced_memory()[0] / 2**20


def _work() -> Callable[[int], None]:
    chat = _wire.parsed_client().chat.completions
    stream = {"messages": [_wire.QUESTION], "stream": True, "stream_options": {"include_usage": True}}

    def call(index: int) -> None:
        kind = index % 20
        if kind < 15:
            chat.create(model=_wire.MODEL, messages=[_wire.QUESTION])
        elif kind == 15:
            for _ in chat.create(model=_wire.MODEL, **stream):
                pass
        elif kind == 16:
            next(chat.create(model=_wire.MODEL, **stream))  # dropped
        elif kind == 17:
            chunks = chat.create(model=_wire.MODEL, **stream)
            chunks.cycle = chunks  # dropped, and left to the garbage collector
        elif kind == 18:
            with chat.create(model=_wire.MODEL, **stream) as chunks:
                next(chunks)
        else:
            try:
                chat.create(model="fail", messages=[_wire.QUESTION])
            except openai.RateLimitError:
                pass

    return call


def watch(calls: int, gauge: Callable[[], float]) -> list[float]:
    """What ``gauge`` says after each tenth of the calls."""
    given = providers()
    seatrace.instrument(**given._asdict())
    call, seen = _work(), []
    for index in range(calls):
        call(index)
        if (index + 1) % (calls // 10) == 0:
            for provider in given:
                provider.force_flush()
            gc.collect()
            seen.append(gauge())
    return seen


def measure(calls: int) -> dict[str, list[float]]:
    """MiB after each tenth of the calls, by both gauges, each in a process of its own and both at once."""
    children = {
        name: subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--child", name, "--calls", str(calls)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in REACH
    }
    said = {name: child.communicate()[0] for name, child in children.items()}
    failed = [name for name, child in children.items() if child.returncode]
    if failed:
        raise SystemExit(f"the process that measures {' and '.join(failed)} failed, see above")
    return {name: json.loads(text) for name, text in said.items()}


def grown(seen: list[float]) -> float:
    """MiB between a fifth of the calls and all of them."""
    return seen[-1] - seen[1]


def report(calls: int, seen: dict[str, list[float]]) -> str:
    """A table in markdown."""
    rows = [
        [name, *(f"{of[at]:.2f}" for at in (0, 1, 4, 9)), f"{grown(of):+.2f}", f"≤ {REACH[name]} MiB {_mark(name, of)}"]
        for name, of in seen.items()
    ]
    return table(
        ["memory, MiB after", *(f"{calls * part // 10:,} calls" for part in (1, 2, 5, 10)), "grown", "reach"], rows
    )


def _mark(name: str, seen: list[float]) -> str:
    return "✓" if grown(seen) <= REACH[name] else "✗"


def missed(seen: dict[str, list[float]]) -> list[str]:
    """The gauges above their reach."""
    return [name for name, of in seen.items() if grown(of) > REACH[name]]


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--child", choices=REACH, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        if chosen.child == "tracemalloc":
            tracemalloc.start()
        seen = watch(chosen.calls, allocated if chosen.child == "tracemalloc" else occupied)
        print(json.dumps(seen), flush=True)
        os._exit(0)
    seen = measure(chosen.calls)
    print(report(chosen.calls, seen))
    return 1 if chosen.check and missed(seen) else 0


if __name__ == "__main__":
    sys.exit(main())
