"""What observing adds to an agent's run: 10 model calls and 10 tool calls of a real framework.

    python -m benchmarks.agents [FRAMEWORK ...] [--check]

The model is the fake provider in a process of its own, which answers at once or after some 40 ms. Processes without
observation, with seatrace, and with spans, metrics and events of the same calls written by hand (``handwritten.py``: no
roll-up, no watch for loops) take turns run by run, all of them warm.
Handing spans and events to exporters, which read them, is a part of each run.

A process is faster or slower than its twin by some 5 % all its life, so that several of each are compared, by the
medians of the time that a run takes. Instructions are told exactly, where valgrind is installed. ``--check`` exits 1
where those of a run with a model that answers at once are above the reach, or more than by hand, or, with a model that
takes 40 ms, the whole 95 % interval of the ratio of times is above the reach. It leaves out what it does not check: the
time with a model that answers at once, where the SDK by hand does not meet the reach either.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter_ns, process_time_ns
from typing import IO

import seatrace
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider

from ._gauge import Sample, counts_instructions, instructions_at_marks, interval, mark
from ._sdk import Providers, providers
from ._table import table
from .handwritten import Handwritten, instrumented

CALLS = 10
REACH = 1.05
LATENCIES = {0.0: (5, 8), 0.04: (3, 3)}
"""Seconds until the model answers (any real one takes longer); how many processes of each kind make how many runs."""

VARIANTS = BARE, HAND, OURS = "bare", "hand-written", "seatrace"

WARM = 5
"""Runs before anything is measured."""

COUNTED = 10
"""Runs whose instructions are counted."""

HEAD = "10 model and 10 tool calls"
MODEL = "gpt-4o-mini"
QUESTION = "When may we enter?"

Run = Callable[[], None]


def tide(port: str) -> str:
    """Says when high water is."""
    return f"high at noon in {port}"


def _model(ask: Ask) -> Reply:
    """One tool in each turn, the last one with two, then an answer."""
    said = "\n".join(piece.text for piece in ask.pieces)
    made = said.count("tide(")
    if made >= CALLS:
        return Reply("At noon.", (), "stop", 3, 0)
    wanted = 2 if made == CALLS - 2 else 1
    calls = [ToolCall("tide", json.dumps({"port": f"port {made + at}"})) for at in range(wanted)]
    return Reply("", calls, "tools", 10 * wanted, 0)


def _langgraph() -> Run:
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI

    agent = create_agent(ChatOpenAI(model=MODEL), [tide], name="captain")
    return lambda: agent.invoke({"messages": [("user", QUESTION)]})


def _agents() -> Run:
    import agents

    agents.set_tracing_disabled(disabled=True)
    agents.set_default_openai_api("chat_completions")
    captain = agents.Agent("captain", model=MODEL, tools=[agents.function_tool(tide)])
    return lambda: agents.Runner.run_sync(captain, QUESTION, max_turns=CALLS + 1)


def _pydantic_ai() -> Run:
    from pydantic_ai import Agent

    captain = Agent(f"openai-chat:{MODEL}", name="captain", tools=[tide])
    return lambda: captain.run_sync(QUESTION)


FRAMEWORKS: dict[str, Callable[[], Run]] = {
    "langgraph": _langgraph,
    "openai-agents": _agents,
    "pydantic-ai": _pydantic_ai,
}


# --- one process ----------------------------------------------------------------------------------------------------


def _work(name: str, variant: str) -> None:
    """Makes a run for each line that comes in, and says how many nanoseconds it took: of time and of CPU time."""
    run = _warm(name, variant)
    print("ready", flush=True)
    for _ in sys.stdin:
        clock, cpu = perf_counter_ns(), process_time_ns()
        run()
        print(perf_counter_ns() - clock, process_time_ns() - cpu, flush=True)


def _count(name: str, variant: str) -> None:
    """Marks where runs begin and end."""
    run = _warm(name, variant)
    mark()
    for _ in range(COUNTED):
        run()
    mark()


def _warm(name: str, variant: str) -> Run:
    """A run, made often enough to be warm, whose telemetry is exported at its end."""
    given = providers()
    run = {BARE: FRAMEWORKS[name], HAND: lambda: _by_hand(name, given), OURS: lambda: _observed(name, given)}[variant]()

    def whole() -> None:
        run()
        given.flush()

    for _ in range(WARM):
        whole()
    gc.collect()
    gc.freeze()  # what there is besides is looked at by no collection, which would come in one run or another
    return whole


def _observed(name: str, given: Providers) -> Run:
    seatrace.instrument(**given._asdict())
    return FRAMEWORKS[name]()


def _by_hand(name: str, given: Providers) -> Run:
    global tide
    otel, unobserved = Handwritten(*given), tide

    @functools.wraps(unobserved)
    def tide(port: str) -> str:
        with otel.step("execute_tool", "tide"):
            return unobserved(port)

    run = FRAMEWORKS[name]()

    def whole() -> None:
        with instrumented(otel), otel.step("invoke_agent", "captain"):
            run()

    return whole


# --- side by side ---------------------------------------------------------------------------------------------------


class _Worker:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._in: IO[str] = process.stdin  # type: ignore[assignment]
        self._out: IO[str] = process.stdout  # type: ignore[assignment]
        self._out.readline()

    def run(self) -> tuple[int, int]:
        """A run's time and CPU time."""
        print(file=self._in, flush=True)
        taken, cpu = map(int, self._out.readline().split())
        return taken, cpu


def measure(name: str, variants: Sequence[str], groups: int, runs: int) -> dict[str, Sample]:
    """Of each variant, rows of a run's time and CPU time in nanoseconds: the medians of a process, of ``groups``."""
    rows: dict[str, list[tuple[float, float]]] = {variant: [] for variant in variants}
    command = [sys.executable, "-m", __spec__.name, "--work", name]
    for _ in range(groups):
        taken: dict[str, list[tuple[int, int]]] = {variant: [] for variant in variants}
        with ExitStack() as stack:
            started = {each: stack.enter_context(_piped([*command, each])) for each in variants}
            workers = {each: _Worker(process) for each, process in started.items()}
            for _ in range(runs):
                for each in random.sample(variants, len(variants)):
                    taken[each].append(workers[each].run())
        for each, found in taken.items():
            rows[each].append((statistics.median(row[0] for row in found), statistics.median(row[1] for row in found)))
    return dict(rows)


def count(names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Instructions of a run, by framework and variant."""
    wanted = [(name, variant) for name in names for variant in VARIANTS]
    counted = instructions_at_marks([["-m", __spec__.name, "--count", *each] for each in wanted])
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for (name, variant), (before, after, *_) in zip(wanted, counted, strict=True):
        found[name][variant] = (after - before) / COUNTED
    return found


def ratio_of_time(sample: Sample) -> float:
    """Of rows ``(time bare, time observed)``: one to the other, as it is in most groups."""
    return statistics.median(row[1] / row[0] for row in sample)


@contextmanager
def _piped(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends when its input does."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.stdin.close()  # type: ignore[union-attr]


@contextmanager
def _provider(latency: float) -> Iterator[None]:
    """The fake provider in a process of its own, and where it is in the environment."""
    with _piped([sys.executable, "-m", __spec__.name, "--serve", str(latency)]) as process:
        url = process.stdout.readline().strip()  # type: ignore[union-attr]
        os.environ.update(OPENAI_API_KEY="none", OPENAI_BASE_URL=f"{url}/v1")
        yield


def _serve(latency: float) -> None:
    with FakeProvider(model=_model, latency=latency) as provider:
        print(provider.url, flush=True)
        sys.stdin.read()


# --- report ---------------------------------------------------------------------------------------------------------


def _times(names: Sequence[str], *, check: bool) -> bool:
    """Prints the table of times; whether a framework is above the reach where that is checked."""
    rows, missed = [], False
    for latency, (groups, runs) in LATENCIES.items():
        checked = latency > 0
        if check and not checked:
            continue
        for name in names:
            with _provider(latency):
                taken = measure(name, [BARE, OURS] if checked else VARIANTS, groups, runs)
            bare = [time for time, _ in taken.pop(BARE)]
            for variant, found in taken.items():
                pairs = list(zip(bare, (time for time, _ in found), strict=True))
                low, high = interval(pairs, ratio_of_time)
                missed = missed or (checked and low > REACH)
                rows.append(
                    [
                        f"{name}, {variant}",
                        "at once" if not latency else f"after {latency * 1e3:.0f} ms",
                        f"{statistics.median(bare) / 1e6:.0f}",
                        f"{ratio_of_time(pairs):.3f}×",
                        f"{low:.3f} to {high:.3f}",
                        _verdict(above=low > REACH) if checked else "not checked",
                    ]
                )
    print(table([HEAD, "model answers", "ms bare", "ratio", "95 %", "reach"], rows), flush=True)
    return missed


def _instructions(names: Sequence[str]) -> bool:
    """Prints the table of instructions; whether a framework is above the reach, or above what the SDK takes by hand."""
    with _provider(0.0):
        counted = count(names)
    rows, missed = [], False
    for name, found in counted.items():
        bare = found.pop(BARE)
        for variant, observed in found.items():
            verdict = ""
            if variant == OURS:
                above, more = observed > REACH * bare, observed > found[HAND]
                missed = missed or above or more
                verdict = f"{_verdict(above=above)}, ≤ {HAND} {'✗' if more else '✓'}"
            rows.append([f"{name}, {variant}", f"{bare / 1e6:.1f}", f"{observed / bare:.3f}×", verdict])
    print(table([HEAD, "million instructions bare", "ratio", "reach"], rows), flush=True)
    return missed


def _verdict(*, above: bool) -> str:
    return f"≤ {REACH}× {'✗' if above else '✓'}"


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frameworks", nargs="*", help=", ".join(FRAMEWORKS))
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--count", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        _serve(chosen.serve)
        return 0
    if chosen.work:
        _work(*chosen.work)
        return 0
    if chosen.count:
        _count(*chosen.count)
        return 0
    names = chosen.frameworks or list(FRAMEWORKS)
    missed = _times(names, check=chosen.check)
    print()
    if counts_instructions():
        missed = _instructions(names) or missed
    else:
        print("valgrind is not installed: no instructions counted")
    return 1 if chosen.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
