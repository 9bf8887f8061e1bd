"""What observing adds to an agent's run: 10 model calls and 10 tool calls of a real framework.

    python -m benchmarks.agents [--rounds 15] [--check]

The model is the fake provider in a process of its own, which answers at once or after some 40 ms. Runs with and
without seatrace take turns; handing spans and events to exporters, which read them, is a part of each. Compared are the
medians of the time that a run takes and of its CPU time. ``--check`` exits 1 where the whole 95 % interval of the first
ratio is above the reach with the model that takes 40 ms. With one that answers at once the reach is not met yet: that
row says what is left to do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns, process_time_ns

import seatrace
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider

from ._gauge import Sample, interval
from ._sdk import providers
from ._table import table

CALLS = 10
REACH = 1.05
LATENCIES = (0.0, 0.04)
"""Seconds until the model answers. Any real one takes longer."""

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


def measure(make: Callable[[], Run], rounds: int) -> Sample:
    """Rows of ``(time without, time with, CPU time without, CPU time with)``, nanoseconds a run."""
    run, given, rows = make(), providers(), []
    for round_ in range(rounds + 2):
        taken = {}
        for on in random.sample((False, True), 2):
            if on:
                seatrace.instrument(**given._asdict())
            run() if on else None  # what is patched anew is warm again
            clock, cpu = perf_counter_ns(), process_time_ns()
            run()
            given.flush()
            taken[on] = perf_counter_ns() - clock, process_time_ns() - cpu
            seatrace.uninstrument()
        if round_ > 1:
            rows.append((taken[False][0], taken[True][0], taken[False][1], taken[True][1]))
    given.shutdown()
    return rows


def ratio_of_time(sample: Sample) -> float:
    """With seatrace to without."""
    return statistics.median(row[1] for row in sample) / statistics.median(row[0] for row in sample)


def ratio_of_cpu(sample: Sample) -> float:
    """The same of the CPU time."""
    return statistics.median(row[3] for row in sample) / statistics.median(row[2] for row in sample)


@contextmanager
def _provider(latency: float) -> Iterator[None]:
    """The fake provider in a process of its own, and where it is in the environment."""
    command = [sys.executable, "-m", __spec__.name, "--serve", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        os.environ.update(OPENAI_API_KEY="none", OPENAI_BASE_URL=f"{process.stdout.readline().strip()}/v1")
        try:
            yield
        finally:
            process.stdin.close()


def _serve(latency: float) -> None:
    with FakeProvider(model=_model, latency=latency) as provider:
        print(provider.url, flush=True)
        sys.stdin.read()


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        _serve(chosen.serve)
        return 0
    rows, missed = [], False
    for latency in LATENCIES:
        for name, make in FRAMEWORKS.items():
            with _provider(latency):  # clients read where it is when they are made
                sample = measure(make, chosen.rounds)
            low, high = interval(sample, ratio_of_time)
            met = low <= REACH
            missed = missed or (latency > 0 and not met)
            bare = statistics.median(row[0] for row in sample) / 1e6
            rows.append(
                [
                    name,
                    "at once" if not latency else f"after {latency * 1e3:.0f} ms",
                    f"{bare:.0f}",
                    f"{ratio_of_time(sample):.3f}×",
                    f"{low:.3f} to {high:.3f}",
                    f"{ratio_of_cpu(sample):.3f}×",
                    f"≤ {REACH}× {'✓' if met else '✗'}{'' if latency else ', not checked'}",
                ]
            )
    head = [
        "10 model and 10 tool calls",
        "model answers",
        "ms without",
        "with seatrace",
        "95 %",
        "its CPU time",
        "reach",
    ]
    print(table(head, rows))
    return 1 if chosen.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
