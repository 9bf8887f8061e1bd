"""The door by which patterns tell what they measure, and the gates by which they refuse a call."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from time import perf_counter_ns
from typing import Any
from weakref import WeakSet

import openai
import pytest

import seatrace
from model import ask, client, failure
from seatrace.core import guard, pipeline, signals
from seatrace.emit import catalogue, semconv
from seatrace.testing import capture

HIT = {semconv.CACHE_NAME: "answers", semconv.CACHE_KIND: "exact", semconv.CACHE_RESULT: "hit"}


class Pool:
    """A source with two readings of one metric."""

    def __init__(self, busy: int) -> None:
        self.busy = busy

    def readings(self) -> Iterable[tuple[Any, float, signals.Attributes]]:
        yield catalogue.POOL_MEMBERS, self.busy, {semconv.POOL_NAME: "writers", semconv.POOL_STATE: "busy"}
        yield catalogue.QUEUE_OLDEST_AGE, self.busy, {semconv.MESSAGING_DESTINATION: "jobs"}

    def zeros(self) -> Iterable[tuple[Any, signals.Attributes]]:
        yield catalogue.POOL_EJECTIONS, {semconv.POOL_NAME: "writers"}


@pytest.fixture(autouse=True)
def _no_other_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the process (rate limits, the monitor) register once, and must be there again afterwards."""
    monkeypatch.setattr(signals, "sources", WeakSet())


# --- measurements -------------------------------------------------------------------------------------------------


def test_a_measurement_is_a_point_of_its_metric() -> None:
    with capture() as captured:
        signals.measure(catalogue.CACHE_REQUESTS, 1, HIT)
        signals.measure(catalogue.CACHE_REQUESTS, 2, HIT)
        signals.measure(catalogue.BATCH_SIZE, 3, {semconv.BATCH_NAME: "rows"})
        [point] = captured.points("seatrace.cache.requests")
        assert (point.value, dict(point.attributes)) == (3, HIT)
        [size] = captured.points("seatrace.batch.size")
        assert (size.sum, tuple(size.explicit_bounds)) == (3, catalogue.BATCH_SIZE.buckets)


def test_nothing_is_measured_and_nothing_fails_while_seatrace_is_off() -> None:
    signals.measure(catalogue.CACHE_REQUESTS, 1, HIT)
    signals.event("seatrace.budget.threshold", {})
    signals.annotate(HIT)
    signals.record("batch", "batch", started_clock=perf_counter_ns())
    assert (signals.here(), signals.carrier(), signals.arrived({})) == (None, {}, None)


def test_values_of_labels_are_capped() -> None:
    with capture() as captured:
        for index in range(600):
            signals.measure(catalogue.BATCH_SIZE, 1, {semconv.BATCH_NAME: f"batch-{index}"})
        names = {point.attributes[semconv.BATCH_NAME] for point in captured.points("seatrace.batch.size")}
        assert len(names) == 501
        assert "_OTHER" in names


def test_a_measurement_that_cannot_be_taken_is_counted_as_a_fault() -> None:
    before = guard.faults["measure"]
    with capture(strict=False):
        signals.measure(object(), 1, HIT)
    assert guard.faults["measure"] == before + 1


# --- readings -----------------------------------------------------------------------------------------------------


def test_readings_of_all_sources_are_added_up_and_gauges_are_the_largest() -> None:
    pools = [Pool(2), Pool(3)]
    with capture() as captured:
        for pool in pools:
            signals.register(pool)
        assert [point.value for point in captured.points("seatrace.pool.members")] == [5]
        assert [point.value for point in captured.points("seatrace.queue.oldest.age")] == [3]
        pools[0].busy = 4
        assert [point.value for point in captured.points("seatrace.pool.members")] == [7]


def test_a_source_that_is_older_than_instrument_is_read_too() -> None:
    pool = Pool(1)
    signals.register(pool)
    with capture() as captured:
        assert [point.value for point in captured.points("seatrace.pool.members")] == [1]


def test_a_source_that_is_gone_is_not_read() -> None:
    with capture() as captured:
        pool = Pool(1)
        signals.register(pool)
        del pool
        assert captured.points("seatrace.pool.members") == []


def test_counters_of_a_source_start_at_zero() -> None:
    with capture() as captured:
        pool = Pool(1)
        signals.register(pool)
        [point] = captured.points("seatrace.pool.ejections")
        assert (point.value, dict(point.attributes)) == (0, {"seatrace.pool.name": "writers"})


# --- spans, events, contexts --------------------------------------------------------------------------------------


def test_a_call_that_is_over_becomes_a_span_with_links_and_no_other_metric() -> None:
    with capture() as captured:
        with seatrace.tool("outer"):
            origin = signals.here()
        started = perf_counter_ns()
        signals.record("batch", "batch", name="rows", started_clock=started, links=[origin, None], attributes={"n": 2})
        outer, batch = captured.spans
        assert (batch.name, batch.kind.name, dict(batch.attributes)) == ("batch rows", "INTERNAL", {"n": 2})
        assert [link.context.span_id for link in batch.links] == [outer.context.span_id]
        assert batch.end_time - batch.start_time >= 0
        assert not any("operation.duration" in name for name in captured.metric_names)


def test_a_failed_one_has_its_error() -> None:
    with capture() as captured:
        signals.record("batch", "batch", started_clock=perf_counter_ns(), error=ValueError("no"))
        assert captured.spans[0].status.status_code.name == "ERROR"
        assert captured.spans[0].attributes["error.type"] == "ValueError"


def test_a_carried_context_arrives_as_link_or_as_parent() -> None:
    with capture() as captured:
        with seatrace.tool("sender"):
            carried = signals.carrier()
        signals.record("process", "process", started_clock=perf_counter_ns(), links=[signals.arrived(carried)])
        signals.record("process", "process", started_clock=perf_counter_ns(), parent=carried)
        sender, linked, child = captured.spans
        assert linked.kind.name == "CONSUMER"
        assert linked.links[0].context.span_id == sender.context.span_id
        assert linked.parent is None
        assert child.parent.span_id == sender.context.span_id


def test_events_and_annotations_belong_to_the_current_span() -> None:
    with capture() as captured:
        with seatrace.tool("outer"):
            signals.annotate({"seatrace.cache.name": "answers"})
            signals.event("seatrace.budget.threshold", {"seatrace.budget.name": "daily"}, warning=True)
        [span] = captured.spans
        [event] = captured.events
        assert span.attributes["seatrace.cache.name"] == "answers"
        assert (event.event_name, event.severity_text) == ("seatrace.budget.threshold", "WARN")
        assert event.span_id == span.context.span_id


# --- gates --------------------------------------------------------------------------------------------------------


class Enough(seatrace.SeatraceError, pipeline.Refused):
    """A budget is used up."""


def refuse(call: seatrace.Call) -> None:
    raise Enough(f"no {call.request_model or call.name}")


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Any:
    removed = []
    yield lambda of: removed.append(pipeline.add_gate(of))
    for remove in removed:
        remove()


def test_a_gate_refuses_a_call_before_it_is_made(gate: Any) -> None:
    of = client()
    with capture() as captured:
        gate(refuse)
        with pytest.raises(Enough, match="no gpt-4o-mini"):
            ask(of)
        assert captured.spans == []


async def test_a_gate_refuses_an_asynchronous_call_and_leaves_no_coroutine_behind(gate: Any) -> None:
    with capture() as captured:
        gate(refuse)
        with pytest.raises(Enough):
            await ask(client(kind="AsyncOpenAI"))
        assert captured.spans == []


def test_a_gate_refuses_a_tool_of_the_program(gate: Any) -> None:
    @seatrace.tool
    def look() -> None:
        raise AssertionError("was called")

    with capture():
        gate(refuse)
        with pytest.raises(Enough, match="no look"):
            look()


def test_a_gate_that_fails_lets_the_call_pass(gate: Any) -> None:
    def broken(call: seatrace.Call) -> None:
        raise RuntimeError("a bug of ours")

    before = guard.faults["pass a gate"]
    with capture(strict=False):
        gate(broken)
        assert ask(client()).choices[0].message.content == "ahoy"
    assert guard.faults["pass a gate"] == before + 1


@pytest.mark.parametrize("answer", [None, failure()], ids=["answered", "failed"])
def test_a_gate_learns_once_what_became_of_the_call(gate: Any, answer: Any) -> None:
    told: list[seatrace.Call] = []

    def reserve(call: seatrace.Call) -> None:
        call.on_end = [*(call.on_end or []), told.append]

    with capture():
        gate(reserve)
        with suppress(openai.BadRequestError):
            ask(client() if answer is None else client(answer))
    [call] = told
    assert (call.cost is not None, call.error_type) == (answer is None, answer and "invalid_request_error")


def test_a_gate_learns_that_a_later_one_refused(gate: Any) -> None:
    told: list[seatrace.Call] = []

    def reserve(call: seatrace.Call) -> None:
        call.on_end = [told.append]

    with capture():
        gate(reserve)
        gate(refuse)
        with pytest.raises(Enough):
            ask(client())
    assert len(told) == 1
    assert told[0].cost is None


def test_a_gate_learns_of_a_stream_that_was_dropped(gate: Any) -> None:
    from model import stream

    told: list[seatrace.Call] = []

    def reserve(call: seatrace.Call) -> None:
        call.on_end = [told.append]

    with capture() as captured:
        gate(reserve)
        next(iter(ask(client(stream()), stream=True)))
        assert len(captured.spans) == 1
    assert len(told) == 1
