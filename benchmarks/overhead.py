"""CPU time (or instructions) that a call costs more with seatrace, beside the same telemetry written by hand.

    python -m benchmarks.overhead [--check] [--rounds 80]
    python -m benchmarks.overhead --instructions          # by valgrind, repeatable, takes minutes

The bare client, the hand-written instrumentation and seatrace take turns in one process, with a new order in each
round; what is compared are medians of the rounds' differences to the bare client. Handing spans and events to the
exporters, which read them, is a part of each round. ``--check`` exits 1 where seatrace is
above its reach: by CPU time where the ratio's whole interval is (``_gauge.py``), and where valgrind is installed by
instructions, too. On streams there is a second yardstick, ``without gaps``: the hand-written instrumentation less the
metric gen_ai.client.inference.time_per_output_chunk, whose recording chunk by chunk is most of what it costs. Streams
hand out chunks that were parsed before (``_wire.parsed_client``).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time_ns
from typing import Any, NamedTuple

import seatrace

from ._gauge import counts_instructions, instructions, interval, ratio_of_added
from ._sdk import Providers, providers
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
    "plain": Case("plain call", lambda: _calls([QUESTION]), 50, 1.0),
    "history": Case("history of 30 messages", lambda: _calls(HISTORY), 20, 1.0),
    "stream": Case("stream of 200 chunks", _streams, 4, 1.5),
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
    spread: tuple[float, float] | None = None
    """The 95 % interval of :attr:`ratio`; ``None`` where that is exact."""

    @property
    def ratio(self) -> float:
        """Seatrace to hand-written."""
        return self.ours / self.hand

    def above(self, reach: float) -> bool:
        """Whether the ratio is above ``reach``, beyond what noise can explain."""
        return (self.ratio if self.spread is None else self.spread[0]) > reach


Flush = Callable[[], None]


@contextmanager
def _nothing() -> Iterator[Flush]:
    yield lambda: None


@contextmanager
def _by_hand(given: Providers, made: Handwritten) -> Iterator[Flush]:
    with instrumented(made):
        yield given.flush


@contextmanager
def _seatrace(given: Providers) -> Iterator[Flush]:
    seatrace.instrument(**given._asdict())
    try:
        yield given.flush
    finally:
        seatrace.uninstrument()


def _variants(case: Case) -> dict[str, Callable[[], Any]]:
    """How to switch each variant on: context managers, made anew for every round, which give a function that exports
    what there is."""
    ours, hand, frugal = (providers(sampled=case.sampled) for _ in range(3))
    by_hand, by_frugal_hand = Handwritten(*hand), Handwritten(*frugal, gaps=False)
    variants: dict[str, Callable[[], Any]] = {
        BARE: _nothing,
        HAND: lambda: _by_hand(hand, by_hand),
        OURS: lambda: _seatrace(ours),
    }
    if case is CASES["stream"]:
        variants[FRUGAL] = lambda: _by_hand(frugal, by_frugal_hand)
    return variants


def measure(case: Case, rounds: int) -> Cost:
    """Microseconds of this process's CPU time a call."""
    work, variants = case.make(), _variants(case)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for round_ in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            with variants[name]() as flush:
                work(2)
                flush()
                gc.collect()
                started = process_time_ns()
                work(case.calls)
                flush()
                spent = (process_time_ns() - started) / 1e3 / case.calls
            if round_:  # the first one warms up
                taken[name].append(spent)
        if not round_:  # what stays is not looked at again before each measurement
            gc.collect()
            gc.freeze()
    gc.unfreeze()
    return _cost(taken)


def _cost(taken: dict[str, list[float]]) -> Cost:
    def added(name: str) -> float:
        return statistics.median(more - bare for more, bare in zip(taken[name], taken[BARE], strict=True))

    rounds = list(zip(taken[BARE], taken[HAND], taken[OURS], strict=True))
    return Cost(
        statistics.median(taken[BARE]),
        added(HAND),
        added(OURS),
        added(FRUGAL) if FRUGAL in taken else None,
        interval(rounds, ratio_of_added),
    )


# --- instructions ---------------------------------------------------------------------------------------------------


def count(case_name: str) -> Cost:
    """Thousands of instructions a call: a process with N calls against one with none."""
    case = CASES[case_name]
    few = PARALLEL if case_name == "async" else max(10, case.calls // 2)
    names = [BARE, HAND, OURS, *([FRUGAL] if case_name == "stream" else [])]
    runs = [(name, calls) for name in names for calls in (0, few)]
    child = ["-m", __spec__.name, "--child", case_name]
    counted = dict(zip(runs, instructions([[*child, name, str(calls)] for name, calls in runs]), strict=True))
    each = {name: (counted[name, few] - counted[name, 0]) / few / 1e3 for name in names}
    bare = each[BARE]
    frugal = each[FRUGAL] - bare if FRUGAL in each else None
    return Cost(bare, each[HAND] - bare, each[OURS] - bare, frugal)


def _child(case_name: str, variant: str, calls: int) -> None:
    case = CASES[case_name]
    work = case.make()
    gc.disable()  # collections come and go with what else is in memory
    with _variants(case)[variant]() as flush:
        work(PARALLEL if case_name == "async" else 4)
        flush()
        if calls:
            work(calls)
            flush()
    sys.stdout.flush()
    os._exit(0)


# --- report ---------------------------------------------------------------------------------------------------------


def report(costs: dict[str, Cost], unit: str) -> str:
    """A table in markdown."""
    rows = []
    for name, cost in costs.items():
        case = CASES[name]
        verdict = "" if case.reach is None else f"≤ {case.reach:g}× {'✗' if cost.above(case.reach) else '✓'}"
        spread = "" if cost.spread is None else f"{cost.spread[0]:.2f} to {cost.spread[1]:.2f}"
        rows.append(_row(case.name, cost.bare, cost.hand, cost.ours, spread, verdict))
        if cost.frugal is not None:
            rows.append(_row("… hand-written without gaps", cost.bare, cost.frugal, cost.ours, "", ""))
    head = ["case", f"bare client, {unit}", "hand-written adds", "seatrace adds", "to hand-written", "95 %", "to bare"]
    return table([*head, "reach"], rows)


def _row(name: str, bare: float, hand: float, ours: float, spread: str, verdict: str) -> list[str]:
    costs = [f"{bare:.0f}", f"{hand:.0f}", f"{ours:.0f}"]
    return [name, *costs, f"{ours / hand:.2f}×", spread, f"{ours / bare:.2f}×", verdict]


def missed(costs: dict[str, Cost]) -> list[str]:
    """The cases above their reach."""
    return [name for name, cost in costs.items() if (reach := CASES[name].reach) is not None and cost.above(reach)]


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=[], help=", ".join(CASES))
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--instructions", action="store_true", help="count by valgrind instead of timing")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        _child(chosen.child[0], chosen.child[1], int(chosen.child[2]))
    names = chosen.cases or list(CASES)
    above = []
    if not chosen.instructions:
        above += _measured({name: measure(CASES[name], chosen.rounds) for name in names}, "µs of CPU")
    if not counts_instructions():
        print("\nvalgrind is not installed: no instructions counted")
    elif chosen.instructions:
        above += _measured({name: count(name) for name in names}, "thousand instructions")
    elif chosen.check:
        bound = [name for name in names if CASES[name].reach is not None]
        above += _measured({name: count(name) for name in bound}, "thousand instructions")
    return 1 if above and chosen.check else 0


def _measured(costs: dict[str, Cost], unit: str) -> list[str]:
    above = missed(costs)
    print(report(costs, unit), end="\n\n", flush=True)
    if above:
        print(f"above the reach: {', '.join(above)}")
    return above


if __name__ == "__main__":
    sys.exit(main())
