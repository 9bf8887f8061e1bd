"""The fast way into the SDK's aggregations leaves what the public way leaves, for every reader, view and filter."""

from __future__ import annotations

import random
from typing import Any

import pytest
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Counter,
    ExemplarFilter,
    Histogram,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from seatrace.core import guard
from seatrace.emit import _recorder
from seatrace.emit._recorder import Batch, Moment, PublicRecorder, recorder

ATTRIBUTES = {"gen_ai.operation.name": "chat", "server.port": 443}
BUCKETS = (0.01, 0.02, 0.04, 0.08)
EDGES = [0, 1, 10_000_000, 10_000_001, 20_000_000, 40_000_000, 79_999_999, 80_000_000, 80_000_001]
SPAN = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("call")
CONTEXT = set_span_in_context(SPAN)


DIRECT = not isinstance(
    recorder(MeterProvider(shutdown_on_exit=False).get_meter("probe").create_counter("probe"), {}), PublicRecorder
)
"""Whether this SDK is one that the fast way knows; the public call takes the time from the clock."""


class LargeOnly(ExemplarFilter):
    """A filter of one's own that looks at the value."""

    def should_sample(self, value: float, time_unix_nano: int, attributes: Any, context: Any) -> bool:
        return value > 0.02


SETUPS: dict[str, dict[str, Any]] = {
    "cumulative": {},
    "delta": {"temporality": AggregationTemporality.DELTA},
    "exponential view": {"view": ExponentialBucketHistogramAggregation()},
    "view with other buckets": {"view": ExplicitBucketHistogramAggregation((0.03, 0.1), record_min_max=False)},
    "view that drops": {"view": DropAggregation()},
    "view with fewer attributes": {"attribute_keys": {"server.port"}},
    "always on": {"filter": AlwaysOnExemplarFilter()},
    "always off": {"filter": AlwaysOffExemplarFilter()},
    "own filter": {"filter": LargeOnly()},
}


class Meters:
    """A provider with one reader, a histogram and a counter."""

    def __init__(
        self,
        temporality: AggregationTemporality = AggregationTemporality.CUMULATIVE,
        view: Any = None,
        attribute_keys: set[str] | None = None,
        filter: Any = None,
    ) -> None:
        self.reader = InMemoryMetricReader({Histogram: temporality, Counter: temporality})
        views = (
            [View(instrument_name="duration", aggregation=view, attribute_keys=attribute_keys)]
            if view is not None or attribute_keys is not None
            else []
        )
        self.provider = MeterProvider(
            [self.reader],
            shutdown_on_exit=False,
            views=views,
            exemplar_filter=filter or TraceBasedExemplarFilter(),
        )
        meter = self.provider.get_meter("test")
        self.duration = meter.create_histogram("duration", "s", explicit_bucket_boundaries_advisory=BUCKETS)
        self.tokens = meter.create_counter("tokens")

    def points(self) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            (metric.name, *facts(point))
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        ]


def facts(point: Any) -> list[Any]:
    exemplars = [
        (each.value, each.time_unix_nano if DIRECT else 0, each.trace_id, each.span_id) for each in point.exemplars
    ]
    if hasattr(point, "value"):
        return [point.attributes, point.value, len(exemplars), {each[2:] for each in exemplars}]
    counts = getattr(point, "bucket_counts", None) or (point.scale, point.zero_count, point.positive.bucket_counts)
    if not hasattr(point, "bucket_counts"):  # of an exponential histogram the reservoir picks at random, up to SDK
        # 1.39 even how many
        exemplars = sorted({each[2:] for each in exemplars})
    return [point.attributes, point.count, pytest.approx(point.sum), point.min, point.max, counts, exemplars]


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS.keys())
def test_leaves_what_the_public_way_leaves(setup: dict[str, Any]) -> None:
    ours, public = Meters(**setup), Meters(**setup)
    draw = random.Random(7)
    fast = recorder(ours.duration, ATTRIBUTES)
    count = recorder(ours.tokens, ATTRIBUTES)
    for turn in range(4):
        moment = Moment(1_000 + turn, CONTEXT)
        durations = [*EDGES, *(int(draw.expovariate(1 / 3e7)) for _ in range(100))]
        fast.record(0.015, moment)
        fast.record_durations(durations, moment)
        count.record(12, moment)
        for value in (0.015, *(duration / 1e9 for duration in sorted(durations))):
            measure(public.duration, value, moment)
        measure(public.tokens, 12, moment)
        if turn % 2:
            assert ours.points() == public.points()


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS.keys())
def test_many_at_one_go_leave_what_they_leave_one_by_one(setup: dict[str, Any]) -> None:
    ours, public = Meters(**setup), Meters(**setup)
    draw = random.Random(7)
    fast, count = recorder(ours.duration, ATTRIBUTES), recorder(ours.tokens, ATTRIBUTES)
    unsampled = set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=False)))
    for turn in range(4):
        moments = [Moment(1_000 * turn + at, unsampled if at % 3 else CONTEXT) for at in range(60)]
        values = [*(each / 1e9 for each in EDGES), *(draw.expovariate(30) for _ in moments[len(EDGES) :])]
        measured = list(zip(values, moments, strict=True))
        batch = Batch()
        batch.measured[fast] += measured
        counted = [Moment(at, CONTEXT) for at in range(60)]  # of these one is picked at random
        batch.measured[count] += enumerate(counted)
        batch.record()
        assert not batch.measured
        for value, moment in measured:
            measure(public.duration, value, moment)
        for at, moment in enumerate(counted):
            measure(public.tokens, at, moment)
        if turn % 2:
            assert ours.points() == public.points()


def test_of_many_counted_at_one_go_each_may_become_the_exemplar() -> None:
    meters = Meters()
    count = recorder(meters.tokens, ATTRIBUTES)
    kept, numbers = set(), random.getstate()
    for _ in range(200):
        for values in ((1, 2), (3,)):
            count.record_all([(value, Moment(value, CONTEXT)) for value in values])
        (point,) = meters.reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        kept.update(each.value for each in point.exemplars)
    assert kept == {1, 2, 3}
    assert (
        random.getstate() == numbers or not DIRECT
    )  # a program's own numbers are left alone; older SDKs draw from them


def test_one_recorder_that_fails_takes_no_other_of_its_batch_along() -> None:
    class Broken(PublicRecorder):
        def record_all(self, measured: Any) -> None:
            raise OSError("gone")

    meters = Meters()
    good, bad, batch, before = recorder(meters.tokens, {}), Broken(meters.duration, {}), Batch(), guard.faults.copy()
    for each in (bad, good, bad):
        batch.measured[each].append((1, Moment(1, CONTEXT)))
    batch.record()
    assert [name for name, *_ in meters.points()] == ["tokens"]
    assert guard.faults["emit a call"] == before["emit a call"] + 1


def measure(instrument: Any, value: float, moment: Moment) -> None:
    """What ``instrument.record`` does, at the time of ``moment``."""
    measured = Moment(moment.time_unix_nano, moment.context)
    measured.value, measured.attributes, measured.instrument = value, ATTRIBUTES, instrument
    instrument._measurement_consumer.consume_measurement(measured)


def test_a_reader_that_comes_later_gets_everything_from_then_on() -> None:
    meters = Meters()
    if not hasattr(meters.provider, "add_metric_reader"):
        return  # an SDK whose readers are fixed
    fast = recorder(meters.duration, ATTRIBUTES)
    fast.record(0.1, Moment(1, CONTEXT))
    later = InMemoryMetricReader()
    meters.provider.add_metric_reader(later)
    fast.record(0.2, Moment(2, CONTEXT))
    fast.record_durations([300_000_000], Moment(3, CONTEXT))

    (point,) = later.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert (point.count, point.sum) == (2, pytest.approx(0.5))


def test_another_sdk_gets_the_public_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Any:
        raise ImportError("moved")

    meters = Meters()
    monkeypatch.setattr(_recorder, "_internals", gone)
    public = recorder(meters.duration, ATTRIBUTES)
    assert isinstance(public, PublicRecorder)
    public.record_durations([10_000_000, 20_000_000], Moment(1, CONTEXT))

    ((_, attributes, count, total, *_),) = meters.points()
    assert (attributes, count, total) == (ATTRIBUTES, 2, pytest.approx(0.03))
