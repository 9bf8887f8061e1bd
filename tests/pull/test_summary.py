"""``/metrics.json``: the metrics in a few numbers, of which none is not a number."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

import seatrace
from contract.wire import as_json
from model import ask as call_model
from model import client, failure
from seatrace.core import signals
from seatrace.emit import catalogue
from seatrace.pull.source import ScrapeReader
from seatrace.pull.summary import summary
from seatrace.testing import capture

from .scrape import ask

_CALLS: dict[str, Any] = {
    "requests": 0,
    "errors": 0,
    "error_rate": None,
    "latency": {"mean": None, "p50": None, "p95": None, "p99": None},
    "input_tokens": None,
    "output_tokens": None,
    "cost": None,
}

pytestmark = pytest.mark.usefixtures("no_sources")


def test_of_nothing_nothing_is_said(server: Any) -> None:
    with capture():
        found = json.loads(ask(server, "/metrics.json").body)
    assert found.pop("uptime") > 0
    assert found.pop("memory")["resident_bytes"] > 1e6
    assert found == {
        "agent": {**_CALLS, "steps": None},
        "model": {**_CALLS, "mean_cost": None, "unpriced": 0},
        "cache": {"requests": 0, "hits": 0, "misses": 0, "hit_rate": None, "entries": None},
        "saved": {"cost": None, "tokens": None, "seconds": None},
    }


class _Cache:
    def readings(self) -> Any:
        yield catalogue.CACHE_ENTRIES, 3, {"seatrace.cache.name": "answers"}

    def zeros(self) -> Any:
        return ()


@pytest.mark.parametrize("semconv", ["latest", "legacy", "both"])
def test_calls_runs_and_caches(server: Any, semconv: str) -> None:
    @seatrace.agent("pilot")
    def pilot(*answers: Any) -> None:
        call_model(client(*answers))

    vectors = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    with capture(semconv=semconv) as captured:
        cache = _Cache()
        signals.register(cache)
        for _ in range(3):
            pilot()
        with pytest.raises(Exception, match="no"):
            pilot(failure(500))
        client(as_json(vectors)).embeddings.create(model="text-embedding-3-small", input="x")
        client(as_json({"id": "m", "model": "omni", "results": []})).moderations.create(input="x")
        for result, count in (("hit", 5), ("stale", 1), ("coalesced", 2), ("miss", 8), ("bypass", 4)):
            signals.measure(catalogue.CACHE_REQUESTS, count, {"seatrace.cache.result": result})
        signals.measure(catalogue.SAVED_COST, 0.5, {"seatrace.saving.source": "cache"})
        found = json.loads(ask(server, "/metrics.json").body)
        durations = sorted(call.duration for call in captured.calls if call.kind in ("inference", "embeddings"))
    model = found["model"]
    assert (model["requests"], model["errors"], model["error_rate"]) == (5, 1, 0.2)
    assert (model["input_tokens"], model["output_tokens"]) == (34, 15)
    assert model["cost"] == pytest.approx(3 * 4.5e-06 + 4 * 0.02e-6)
    assert model["mean_cost"] == pytest.approx(model["cost"] / 5)
    assert model["latency"]["mean"] == pytest.approx(sum(durations) / 5)
    assert (
        durations[0] <= model["latency"]["p50"] <= model["latency"]["p95"] <= model["latency"]["p99"] <= durations[-1]
    )
    agent = found["agent"]
    assert (agent["requests"], agent["errors"], agent["steps"]) == (4, 1, 4)
    assert (agent["input_tokens"], agent["output_tokens"]) == (30, 15)
    assert agent["cost"] == pytest.approx(3 * 4.5e-06)
    assert found["cache"] == {"requests": 20, "hits": 8, "misses": 8, "hit_rate": 0.5, "entries": 3}
    assert found["saved"]["cost"] == 0.5


def test_calls_without_a_price_have_no_cost(server: Any) -> None:
    with capture():
        call_model(
            client(
                as_json(
                    {
                        "id": "c",
                        "object": "chat.completion",
                        "created": 1,
                        "model": "unheard-of",
                        "choices": [],
                        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                    }
                )
            ),
            model="unheard-of",
        )
        model = json.loads(ask(server, "/metrics.json").body)["model"]
    assert (model["cost"], model["mean_cost"], model["unpriced"]) == (None, None, 1)


_AGGREGATIONS: dict[str, Aggregation] = {
    "explicit": ExplicitBucketHistogramAggregation(catalogue.SECONDS),
    "exponential": ExponentialBucketHistogramAggregation(),
    "no extremes": ExplicitBucketHistogramAggregation(catalogue.SECONDS, record_min_max=False),
}


@pytest.mark.parametrize("aggregation", _AGGREGATIONS.values(), ids=_AGGREGATIONS.keys())
@given(st.lists(st.floats(0.02, 80), min_size=1, max_size=40))
def test_a_quantile_is_in_the_bucket_of_the_true_one(aggregation: Aggregation, durations: list[float]) -> None:
    reader = ScrapeReader()
    name = catalogue.INFERENCE_DURATION.name
    provider = MeterProvider(
        [reader], views=[View(instrument_name=name, aggregation=aggregation)], shutdown_on_exit=False
    )
    histogram = provider.get_meter("seatrace").create_histogram(name, "s")
    for duration in durations:
        histogram.record(duration)
    found = summary(reader.read())["model"]
    assert found["requests"] == len(durations)
    assert found["latency"]["mean"] == pytest.approx(sum(durations) / len(durations))
    durations.sort()
    for share in (0.5, 0.95, 0.99):
        rank = max(0, -(-int(share * 100) * len(durations) // 100) - 1)
        true, said = durations[rank], found["latency"][f"p{int(share * 100)}"]
        assert true / 2.0001 <= said <= true * 2.0001  # neighbouring bounds are a factor of two apart
