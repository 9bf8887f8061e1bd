"""Where the time of a run goes: model, tool, waiting, own; together they are its duration."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seatrace
from model import ask, client, completion, failure, stream
from seatrace.core import signals
from seatrace.core.timeline import SPENDINGS, Timeline
from seatrace.runtime import ResponseCache
from seatrace.testing import Captured, capture

SPENT_ON = ("model", "tool", "waiting", "own")


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


def time_of(captured: Captured, name: str) -> dict[str, float]:
    [span] = [span for span in captured.spans if span.name == f"invoke_agent {name}"]
    split = {each: span.attributes[f"seatrace.run.time.{each}"] for each in SPENT_ON}
    assert sum(split.values()) == pytest.approx((span.end_time - span.start_time) / 1e9, abs=1e-4)
    return split


def test_the_most_telling_counts_at_each_instant() -> None:
    line = Timeline(0)
    line.begin("tool", 10)
    line.begin("model", 20)  # within the tool: a sub-agent
    line.end("model", 50)
    line.end("tool", 60)
    line.begin("waiting", 70)
    line.end("waiting", 100)
    assert line.split(100) == {"model": 30e-9, "tool": 20e-9, "waiting": 30e-9, "own": 20e-9}


def test_a_pause_between_two_attempts_is_waiting_unless_another_model_works() -> None:
    line = Timeline(0)
    line.begin("model", 0)
    line.pause(10, 50)
    line.begin("model", 20)
    line.end("model", 30)
    line.end("model", 60)
    assert line.split(60) == {"model": 30e-9, "tool": 0, "waiting": 30e-9, "own": 0}


@given(
    st.lists(
        st.tuples(st.sampled_from(SPENDINGS), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000)),
        max_size=20,
    )
)
def test_the_parts_are_the_whole(intervals: list[Any]) -> None:
    line = Timeline(0)
    events: list[tuple[int, int, Any]] = []
    for number, (spending, start, length, rest) in enumerate(intervals):
        events.append((start, number, lambda at, what=spending: line.begin(what, at)))
        if spending == "model" and rest < length:
            events.append((start + rest, number, lambda at, until=start + length: line.pause(at, until)))
        events.append((start + length, 1000 + number, lambda at, what=spending: line.end(what, at)))
    for at, _, happen in sorted(events, key=lambda event: event[:2]):
        happen(at)
    split = line.split(5000)
    assert sum(split.values()) == pytest.approx(5000e-9)
    assert all(seconds >= 0 for seconds in split.values())


def test_model_tool_and_own_time_of_a_run(captured: Captured) -> None:
    @seatrace.tool
    def look() -> None:
        time.sleep(0.02)

    @seatrace.agent
    def runner() -> None:
        ask(client())
        look()
        time.sleep(0.01)

    runner()
    split = time_of(captured, "runner")
    assert split["tool"] >= 0.02
    assert split["own"] >= 0.01
    assert split["model"] > 0
    assert split["waiting"] == 0
    for each in SPENT_ON:
        assert captured.total(
            "seatrace.agent.run.time", seatrace_time_spent_on=each, gen_ai_agent_name="runner"
        ) == pytest.approx(split[each])


def test_a_sub_agents_model_is_model_time_of_the_root_and_not_its_tools(captured: Captured) -> None:
    @seatrace.agent
    def sub() -> None:
        time.sleep(0.01)
        ask(client())

    @seatrace.tool
    def delegate() -> None:
        sub()

    @seatrace.agent
    def root() -> None:
        delegate()

    root()
    whole, part = time_of(captured, "root"), time_of(captured, "sub")
    assert whole["model"] == pytest.approx(part["model"], abs=1e-3)
    assert whole["tool"] >= 0.01
    assert part["tool"] == 0
    assert part["own"] >= 0.01


def test_waits_before_another_attempt_are_waiting(captured: Captured) -> None:
    @seatrace.agent
    def patient() -> None:
        ask(client(failure(429), completion(), max_retries=1))

    patient()
    split = time_of(captured, "patient")
    assert split["waiting"] > 0.3  # the client's shortest pause is three eighths of a second
    assert split["model"] < split["waiting"]


def test_a_block_may_say_that_it_waits(captured: Captured) -> None:
    @seatrace.agent
    def waiter() -> None:
        with signals.waiting():
            time.sleep(0.01)

    waiter()
    assert time_of(captured, "waiter")["waiting"] >= 0.01


def test_streams_and_tasks_leave_nothing_open(captured: Captured) -> None:
    @seatrace.tool
    async def look() -> None:
        await asyncio.sleep(0.01)

    @seatrace.agent
    async def runner() -> None:
        chunks = ask(client(stream()), stream=True)
        next(iter(chunks))
        chunks.close()
        await asyncio.gather(look(), look())
        await asyncio.sleep(0.01)

    asyncio.run(runner())
    split = time_of(captured, "runner")
    assert split["tool"] >= 0.01
    assert split["own"] >= 0.01


def test_what_a_cache_saves_is_summed_up(captured: Captured) -> None:
    of = ResponseCache(name="answers").instrument_client(client())

    @seatrace.agent
    def sub() -> None:
        ask(of, temperature=0)

    @seatrace.agent
    def root() -> None:
        ask(of, temperature=0)
        ask(of, temperature=0)
        sub()

    root()
    spans = {span.name: dict(span.attributes or {}) for span in captured.spans}
    cost = 10 * 0.15e-6 + 5 * 0.60e-6
    assert spans["invoke_agent root"]["seatrace.run.saved.cost"] == pytest.approx(2 * cost)
    assert spans["invoke_agent root"]["seatrace.run.saved.tokens"] == 30
    assert spans["invoke_agent root"]["seatrace.run.model_calls"] == 1
    assert spans["invoke_agent sub"]["seatrace.run.saved.cost"] == pytest.approx(cost)
    assert captured.total("seatrace.agent.run.saved.cost") == pytest.approx(2 * cost)
