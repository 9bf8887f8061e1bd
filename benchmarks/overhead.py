"""CPU time (or instructions) that a call costs more with seatrace, beside the same telemetry written by hand.

    python -m benchmarks.overhead [--check] [--rounds 40]
    python -m benchmarks.overhead --instructions          # by valgrind, repeatable, takes minutes

The bare client, the hand-written instrumentation and seatrace take turns in one process, with a new order in each
round; what is compared are medians of the rounds' differences to the bare client. ``--check`` exits 1 where seatrace is
above its reach. On streams there is a second yardstick, ``without gaps``: the hand-written instrumentation less the
metric gen_ai.client.inference.time_per_output_chunk, whose recording chunk by chunk is most of what it costs. Streams
hand out chunks that were parsed before (``_wire.parsed_client``).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import process_time_ns
from typing import Any, NamedTuple

import seatrace

from ._sdk import providers
from ._table import table
from ._wire import HISTORY, MODEL, QUESTION, async_client, client, parsed_client
from .handwritten import Handwritten, instrumented

PARALLEL = 100
_SETTINGS: dict[str, Any] = {"model": MODEL, "temperature": 0.2, "max_tokens": 256}

Work = Callable[[int], None]
"""Makes that many calls."""


def _calls(messages: list[Any]) -> Work:
    chat = client().chat.completions

    def work(count: int) -> None:
        for _ in range(count):
            chat.create(messages=messages, **_SETTINGS)

    return work


def _streams() -> Work:
    chat = parsed_client().chat.completions

    def work(count: int) -> None:
        for _ in range(count):
            for _ in chat.create(messages=[QUESTION], stream=True, stream_options={"include_usage": True}, **_SETTINGS):
                pass

    return work


def _parallel() -> Work:
    async def all_of(count: int) -> None:
        chat = async_client().chat.completions
        for _ in range(0, count, PARALLEL):
            await asyncio.gather(*(chat.create(messages=[QUESTION], **_SETTINGS) for _ in range(PARALLEL)))

    return lambda count: asyncio.run(all_of(count))


class Case(NamedTuple):
    """One way to call."""

    name: str
    make: Callable[[], Work]
    calls: int
    """In a round."""
    reach: float | None = None
    """Seatrace's cost as a multiple of the hand-written one's."""
    sampled: bool = True


CASES = {
    "plain": Case("plain call", lambda: _calls([QUESTION]), 100, 1.0),
    "history": Case("history of 30 messages", lambda: _calls(HISTORY), 60, 1.0),
    "stream": Case("stream of 200 chunks", _streams, 8, 1.5),
    "async": Case("async, 100 at once", _parallel, PARALLEL),
    "unsampled": Case("plain call, unsampled", lambda: _calls([QUESTION]), 100, sampled=False),
}

BARE, OURS, HAND, FRUGAL = "bare", "seatrace", "hand-written", "without gaps"


class Cost(NamedTuple):
    """What one call costs: bare, and what is added to that, in one unit."""

    bare: float
    hand: float
    ours: float
    frugal: float | None = None

    @property
    def ratio(self) -> float:
        """Seatrace to hand-written."""
        return self.ours / self.hand


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _seatrace(given: Any) -> Iterator[None]:
    seatrace.instrument(**given._asdict())
    try:
        yield
    finally:
        seatrace.uninstrument()


def _variants(case: Case) -> dict[str, Callable[[], Any]]:
    """How to switch each variant on: context managers, made anew for every round."""
    ours, hand, frugal = (providers(sampled=case.sampled) for _ in range(3))
    by_hand, by_frugal_hand = Handwritten(*hand), Handwritten(*frugal, gaps=False)
    variants: dict[str, Callable[[], Any]] = {
        BARE: _nothing,
        HAND: lambda: instrumented(by_hand),
        OURS: lambda: _seatrace(ours),
    }
    if case is CASES["stream"]:
        variants[FRUGAL] = lambda: instrumented(by_frugal_hand)
    return variants


def measure(case: Case, rounds: int) -> Cost:
    """Microseconds of this process's CPU time a call."""
    work, variants = case.make(), _variants(case)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for round_ in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            with variants[name]():
                work(2)
                gc.collect()
                started = process_time_ns()
                work(case.calls)
                spent = (process_time_ns() - started) / 1e3 / case.calls
            if round_:  # the first one warms up
                taken[name].append(spent)
    return _cost(taken)


def _cost(taken: dict[str, list[float]]) -> Cost:
    def added(name: str) -> float:
        return statistics.median(more - bare for more, bare in zip(taken[name], taken[BARE], strict=True))

    return Cost(statistics.median(taken[BARE]), added(HAND), added(OURS), added(FRUGAL) if FRUGAL in taken else None)


# --- instructions ---------------------------------------------------------------------------------------------------


def count(case_name: str) -> Cost:
    """Thousands of instructions a call: a process with N calls against one with none, both under callgrind."""
    case = CASES[case_name]
    few = PARALLEL if case_name == "async" else max(10, case.calls // 2)
    names = [BARE, HAND, OURS, *([FRUGAL] if case_name == "stream" else [])]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {(name, calls): pool.submit(_callgrind, case_name, name, calls) for name in names for calls in (0, few)}
        each = {name: (runs[name, few].result() - runs[name, 0].result()) / few / 1e3 for name in names}
    bare = each[BARE]
    frugal = each[FRUGAL] - bare if FRUGAL in each else None
    return Cost(bare, each[HAND] - bare, each[OURS] - bare, frugal)


def _callgrind(case: str, variant: str, calls: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-m", __spec__.name]
    ran = subprocess.run(
        [*command, "--child", case, variant, str(calls)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", ran.stderr)
    if found is None:
        raise RuntimeError(f"callgrind said nothing of instructions: {ran.stderr[-500:]}")
    return int(found[1])


def _child(case_name: str, variant: str, calls: int) -> None:
    case = CASES[case_name]
    work = case.make()
    gc.disable()  # collections come and go with what else is in memory
    with _variants(case)[variant]():
        work(PARALLEL if case_name == "async" else 4)
        if calls:
            work(calls)
    sys.stdout.flush()
    os._exit(0)


# --- report ---------------------------------------------------------------------------------------------------------


def report(costs: dict[str, Cost], unit: str) -> str:
    """A table in markdown."""
    rows = []
    for name, cost in costs.items():
        case = CASES[name]
        verdict = "" if case.reach is None else f"≤ {case.reach:g}× {'✓' if cost.ratio <= case.reach else '✗'}"
        rows.append(_row(case.name, cost.bare, cost.hand, cost.ours, verdict))
        if cost.frugal is not None:
            rows.append(_row("… hand-written without gaps", cost.bare, cost.frugal, cost.ours, ""))
    head = ["case", f"bare client, {unit}", "hand-written adds", "seatrace adds", "to hand-written", "to bare", "reach"]
    return table(head, rows)


def _row(name: str, bare: float, hand: float, ours: float, verdict: str) -> list[str]:
    return [name, f"{bare:.0f}", f"{hand:.0f}", f"{ours:.0f}", f"{ours / hand:.2f}×", f"{ours / bare:.2f}×", verdict]


def missed(costs: dict[str, Cost]) -> list[str]:
    """The cases above their reach."""
    return [name for name, cost in costs.items() if (reach := CASES[name].reach) is not None and cost.ratio > reach]


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=[], help=", ".join(CASES))
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--instructions", action="store_true", help="count by valgrind instead of timing")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        _child(chosen.child[0], chosen.child[1], int(chosen.child[2]))
    names = chosen.cases or list(CASES)
    if chosen.instructions:
        if shutil.which("valgrind") is None:
            print("valgrind is not installed: no instructions counted")
            return 0
        costs, unit = {name: count(name) for name in names}, "thousand instructions"
    else:
        costs, unit = {name: measure(CASES[name], chosen.rounds) for name in names}, "µs of CPU"
    print(report(costs, unit))
    above = missed(costs)
    if above:
        print(f"\nabove the reach: {', '.join(above)}")
    return 1 if above and chosen.check else 0


if __name__ == "__main__":
    sys.exit(main())
