"""What calls cost, added up without a call by hand."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import seatrace
from model import ask, client, completion, failure, stream
from seatrace.core import pipeline
from seatrace.core.context import Scope
from seatrace.core.record import Call, Cost, Usage
from seatrace.runtime.cost import CostTotal, CostTracker
from seatrace.testing import Captured, capture

COST = 10 * 0.15e-6 + 5 * 0.60e-6
"""Of one answer of the model: gpt-4o-mini, 10 tokens in, 5 out."""
MODEL = "gpt-4o-mini-2024-07-18"


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


@pytest.fixture
def tracker(captured: Captured) -> Iterator[CostTracker]:
    made = CostTracker()
    yield made
    made.close()


def test_calls_are_added_up_by_any_dimension(tracker: CostTracker) -> None:
    @seatrace.agent("planner")
    def plan() -> None:
        ask(client())

    with seatrace.session("s1", tenant="acme", user="ann"):
        ask(client())
        plan()
    with seatrace.session(tenant="umbrella"):
        for _ in ask(client(stream()), stream=True):
            pass
    assert {name: total.calls for name, total in tracker.totals("tenant").items()} == {"acme": 2, "umbrella": 1}
    assert {name: total.calls for name, total in tracker.totals("agent").items()} == {"": 2, "planner": 1}
    assert {name: total.calls for name, total in tracker.totals("user").items()} == {"ann": 2, "": 1}
    assert {name: total.calls for name, total in tracker.totals("session").items()} == {"s1": 2, "": 1}
    assert tracker.totals("model").keys() == {MODEL}
    assert tracker.totals(("tenant", "agent"))[("acme", "planner")].cost == pytest.approx(COST)
    whole = tracker.total()
    assert (whole.calls, whole.input_tokens, whole.output_tokens, whole.tokens) == (3, 30, 15, 45)
    assert whole.cost == pytest.approx(3 * COST)
    assert tracker.total(tenant="acme").cost == pytest.approx(2 * COST)


def test_an_agent_is_not_counted_beside_its_calls(tracker: CostTracker, captured: Captured) -> None:
    @seatrace.agent
    def inner() -> None:
        ask(client())

    @seatrace.agent
    def outer() -> None:
        ask(client())
        inner()

    outer()
    assert len(captured.calls) == 4
    assert tracker.total().calls == 2
    assert tracker.total().cost == pytest.approx(2 * COST)
    assert tracker.total().cost == pytest.approx(captured.total("seatrace.cost"))


class Form(BaseModel):
    """What a model is to fill in."""

    name: str


def test_failed_calls_and_what_they_used_count(tracker: CostTracker) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(client(failure()))
    truncated = [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "{"}}]
    parse = client(completion(choices=truncated)).chat.completions.parse
    with pytest.raises(openai.LengthFinishReasonError):
        parse(model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}], response_format=Form)
    whole = tracker.total()
    assert (whole.calls, whole.errors, whole.without_usage, whole.input_tokens) == (2, 2, 1, 10)
    assert whole.cost == pytest.approx(COST)


def test_retries_within_a_call_are_one_call(tracker: CostTracker) -> None:
    ask(client(failure(500), completion(), max_retries=1))
    assert tracker.total().calls == 1


def test_an_unknown_price_is_told_and_not_zero(tracker: CostTracker) -> None:
    ask(client(completion(model="nobody-knows")), model="nobody-knows")
    ask(client())
    assert tracker.totals("model")["nobody-knows"].unpriced == 1
    assert tracker.total().unpriced == 1
    assert tracker.report().splitlines()[3].split() == ["nobody-knows", "1", "0", "10", "5", "0", "0.000000", "1"]


def test_the_report_is_a_table_with_its_sum(tracker: CostTracker) -> None:
    seatrace.prices().multiply("openai", 1e6)
    with seatrace.session(tenant="acme"):
        ask(client())
    ask(client())
    ask(client())
    assert [line.split() for line in tracker.report("tenant").splitlines()] == [
        ["tenant", "calls", "errors", "input", "output", "cached", "cost", "USD", "unpriced"],
        ["──────", "─────", "──────", "─────", "──────", "──────", "─────────", "────────"],
        ["–", "2", "0", "20", "10", "0", "9.000000"],
        ["acme", "1", "0", "10", "5", "0", "4.500000"],
        ["total", "3", "0", "30", "15", "0", "13.500000"],
    ]


def test_rich_draws_it_where_rich_is_there(tracker: CostTracker) -> None:
    from io import StringIO

    from rich.console import Console

    ask(client())
    out = StringIO()
    Console(file=out, width=120).print(tracker)
    assert MODEL in out.getvalue()


def test_the_window_moves_on_and_the_whole_stays(captured: Captured) -> None:
    now = 0.0
    tracker = CostTracker(window=60, slices=6, monotonic=lambda: now)
    ask(client())
    now = 59.0
    ask(client())
    assert tracker.total(window="recent").calls == 2
    now = 61.0
    assert tracker.total(window="recent").calls == 1
    now = 1000.0
    assert tracker.total(window="recent").calls == 0
    assert tracker.total().calls == 2
    tracker.close()


def test_days_are_those_of_the_zone(captured: Captured) -> None:
    zone = "Asia/Tokyo"
    now = datetime(2026, 11, 22, 23, 59, tzinfo=ZoneInfo(zone)).timestamp()
    tracker = CostTracker(zone=zone, clock=lambda: now)
    ask(client())
    now += 120
    ask(client())
    now -= 86400 * 40
    ask(client())
    assert sorted(tracker.totals("day")) == ["2026-10-14", "2026-11-22", "2026-11-23"]
    tracker.close()


# --- bounds ---------------------------------------------------------------------------------------------------------


def a_call(number: int, tenant: str, session: str, model: str) -> Call:
    call = Call("inference", "chat", "test", provider="p", request_model=model)
    call.scope = Scope(tenant=tenant, session=session, user=f"u{number % 7}")
    call.usage, call.cost = Usage(input_tokens=1, output_tokens=number), Cost(0.25)
    return call


CALLS = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from("abc"), st.integers(0, 40).map(str), st.sampled_from("xyz")),
    max_size=120,
)


@given(CALLS, st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_too_many_rows_are_joined_and_totals_stay_right(calls: list[Any], max_rows: int) -> None:
    now = 0.0
    tracker = CostTracker(max_rows=max_rows, window=10, slices=2, monotonic=lambda: now)
    for each in calls:
        now += 1
        tracker._listen(a_call(*each))
    whole = tracker.total()
    tracker.close()
    assert (whole.calls, whole.output_tokens) == (len(calls), sum(each[0] for each in calls))
    assert whole.cost == len(calls) * 0.25
    assert sum(each.calls for each in tracker.totals(("tenant", "model")).values()) == len(calls)
    assert len(tracker._past) <= max_rows


def test_sessions_are_given_up_before_tenants() -> None:
    tracker = CostTracker(max_rows=100)
    for number in range(2000):
        tracker._listen(a_call(number, f"tenant-{number % 5}", f"session-{number}", "m"))
    tracker.close()
    assert {name: total.calls for name, total in tracker.totals("tenant").items()} == {
        f"tenant-{number}": 400 for number in range(5)
    }
    assert tracker.totals("session")["_OTHER"].calls > 1800
    assert len(tracker.totals("session")) <= 101


def test_threads_and_tasks_lose_nothing(tracker: CostTracker) -> None:
    def work(number: int) -> None:
        for index in range(200):
            tracker._listen(a_call(1, f"t{number}", str(index), "m"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    async def main() -> None:
        of = client(kind="AsyncOpenAI")
        await asyncio.gather(*(ask(of) for _ in range(20)))

    asyncio.run(main())
    assert tracker.total().calls == 820


def test_a_tracker_that_nobody_keeps_stops_listening(captured: Captured) -> None:
    before = len(pipeline.listeners)
    tracker = CostTracker()
    assert len(pipeline.listeners) == before + 1
    del tracker
    gc.collect()
    assert len(pipeline.listeners) == before


def test_a_closed_tracker_keeps_its_figures(captured: Captured) -> None:
    tracker = CostTracker()
    ask(client())
    tracker.close()
    ask(client())
    assert tracker.total().calls == 1


def test_wrong_questions_are_refused(tracker: CostTracker) -> None:
    for by in ("planet", ("tenant", "planet"), ()):
        with pytest.raises(ValueError, match="expected some of provider, model"):
            tracker.totals(by)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got planet"):
        tracker.total(planet="mars")
    with pytest.raises(ValueError, match="window"):
        tracker.total(window="5m")  # type: ignore[arg-type]
    for options in ({"max_rows": 0}, {"window": 0}, {"slices": 0}):
        with pytest.raises(ValueError):
            CostTracker(**options)  # type: ignore[arg-type]
    assert CostTotal().tokens == 0
