"""The figures for /metrics.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from model import ask, client, completion, failure, stream
from seatrace.core import pipeline
from seatrace.core.record import Call
from seatrace.runtime.budget import Budget, BudgetExceeded
from seatrace.runtime.collector import CollectedMetrics, MetricsCollector
from seatrace.testing import Captured, capture

COST = 10 * 0.15e-6 + 5 * 0.60e-6


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


@pytest.fixture
def collector(captured: Captured) -> Iterator[MetricsCollector]:
    made = MetricsCollector()
    yield made
    made.close()


def test_before_the_first_call_nothing_is_a_number_that_is_none(collector: MetricsCollector) -> None:
    document = json.loads(json.dumps(collector.as_json(), allow_nan=False))
    assert document["agent"] == {
        "requests": 0,
        "errors": 0,
        "active": 0,
        "inputTokens": 0,
        "outputTokens": 0,
        "totalCost": 0.0,
        "unpriced": 0,
        "totalLatency": 0.0,
        "p50Latency": None,
        "p95Latency": None,
        "p99Latency": None,
        "errorRate": None,
        "avgLatency": None,
        "avgCost": None,
    }
    assert document["uptime"] >= 0
    assert "memory" not in document


def test_calls_are_counted(collector: MetricsCollector, captured: Captured) -> None:
    ask(client())
    ask(client())
    ask(client(completion(model="nobody-knows")), model="nobody-knows")
    with pytest.raises(openai.BadRequestError):
        ask(client(failure()))
    found = collector.metrics()
    assert (found.requests, found.errors, found.error_rate, found.active) == (4, 1, 0.25, 0)
    assert (found.input_tokens, found.output_tokens, found.unpriced) == (30, 15, 1)
    assert found.cost == pytest.approx(2 * COST)
    assert found.average_cost == pytest.approx(2 * COST / 3)
    assert found.latency == pytest.approx(sum(call.duration for call in captured.calls))
    good = sorted(call.duration for call in captured.calls if call.error_type is None)
    assert found.latency_p50 == pytest.approx(good[1], rel=0.01)


def test_calls_that_are_being_made_are_active(collector: MetricsCollector) -> None:
    seen = []

    def answer(sent: Any) -> Any:
        seen.append(collector.metrics().active)
        return completion()

    ask(client(answer))
    assert seen == [1]
    answer_stream = ask(client(stream()), stream=True)
    assert collector.metrics().active == 1
    answer_stream.close()
    assert collector.metrics().active == 0


def test_a_refused_call_is_none(collector: MetricsCollector) -> None:
    stop = Budget(0, unit="calls").watch()
    with pytest.raises(BudgetExceeded):
        ask(client())
    stop()
    assert collector.metrics() == CollectedMetrics()


def test_readers_of_intervals_do_not_disturb_each_other(collector: MetricsCollector) -> None:
    ask(client())
    mine = collector.metrics()
    ask(client())
    theirs = collector.metrics()
    ask(client())
    now = collector.metrics()
    assert (now.since(mine).requests, now.since(theirs).requests) == (2, 1)
    assert now.since(mine).cost == pytest.approx(2 * COST)
    assert now.since(now).error_rate is None
    assert now.since(now).average_latency is None


def test_percentiles_are_of_the_recent_window(captured: Captured) -> None:
    now = 0.0
    collector = MetricsCollector(window=60, slices=6, clock=lambda: now)
    call = Call("inference", "chat", started_clock=1, ended_clock=2_000_000_001)
    collector._ended(call)
    assert collector.metrics().latency_p99 == pytest.approx(2.0, rel=0.01)
    now = 61.0
    assert collector.metrics().latency_p99 is None
    assert collector.metrics().latency == 2.0
    assert collector.as_json()["uptime"] == 61
    collector.close()


def test_other_figures_can_stand_beside(collector: MetricsCollector) -> None:
    assert collector.as_json(cache={"hits": 3})["cache"] == {"hits": 3}


def test_a_closed_collector_leaves_no_trace(captured: Captured) -> None:
    before = pipeline.listeners, pipeline.gates
    collector = MetricsCollector()
    collector.close()
    assert (pipeline.listeners, pipeline.gates) == before


@pytest.mark.parametrize("options", [{"window": 0}, {"window": math.nan}, {"slices": 0}], ids=str)
def test_numbers_out_of_range_are_refused(options: Any) -> None:
    with pytest.raises(ValueError):
        MetricsCollector(**options)
