"""The benchmark compares like with like: seatrace and the hand-written instrumentation emit equal telemetry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from benchmarks.handwritten import Handwritten, instrumented
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as log_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

import seatrace
from benchmarks import _wire

REQUEST: dict[str, Any] = {"model": _wire.MODEL, "messages": _wire.HISTORY, "temperature": 0.2, "max_tokens": 256}
STREAM: dict[str, Any] = {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}
TIMES = {"gen_ai.response.time_to_first_chunk"}
LogExporter: Any = getattr(log_export, "InMemoryLogRecordExporter", None) or log_export.InMemoryLogExporter

pytestmark = pytest.mark.usefixtures("no_sources")


def plain() -> None:
    _wire.client().chat.completions.create(**REQUEST)


def stream() -> None:
    assert sum(1 for _ in _wire.client().chat.completions.create(**STREAM)) == _wire.CHUNKS


def closed_stream() -> None:
    chunks = _wire.client().chat.completions.create(**STREAM)
    for _ in range(5):
        next(chunks)
    chunks.close()


def plain_async() -> None:
    async def work() -> None:
        await _wire.async_client().chat.completions.create(**REQUEST)

    asyncio.run(work())


def stream_async() -> None:
    async def work() -> None:
        async for _ in await _wire.async_client().chat.completions.create(**STREAM):
            pass

    asyncio.run(work())


class Telemetry:
    """What two calls of one kind emitted, times left out."""

    def __init__(self, work: Callable[[], None], switch_on: Callable[..., Any], *, sampled: bool) -> None:
        spans, logs, reader = InMemorySpanExporter(), LogExporter(), InMemoryMetricReader()
        tracers = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(spans))
        meters, loggers = MeterProvider([reader], shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(log_export.SimpleLogRecordProcessor(logs))
        switch_off = switch_on(tracers, meters, loggers)
        try:
            work()
            work()
            data = reader.get_metrics_data()
        finally:
            switch_off()
        self.spans = [
            (span.name, span.kind, span.status.status_code, timeless(span.attributes))
            for span in spans.get_finished_spans()
        ]
        self.events = [
            (each.event_name, each.severity_number, each.severity_text, timeless(each.attributes), bool(each.span_id))
            for each in (log.log_record for log in logs.get_finished_logs())
        ]
        self.metrics = {
            metric.name: sorted(
                (sorted(point.attributes.items()), amount(metric.unit, point), traced(point))
                for point in metric.data.data_points
            )
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name != "seatrace.faults"  # of seatrace itself
        }


def timeless(attributes: Any) -> dict[str, Any]:
    return {name: None if name in TIMES else value for name, value in attributes.items()}


def amount(unit: str, point: Any) -> tuple[float, ...]:
    if hasattr(point, "value"):
        return (point.value,)
    return (point.count,) if unit == "s" else (point.count, point.sum, *point.bucket_counts)


def traced(point: Any) -> bool:
    return bool(point.exemplars) and all(each.trace_id and each.span_id for each in point.exemplars)


def by_seatrace(tracers: Any, meters: Any, loggers: Any) -> Callable[[], None]:
    seatrace.instrument(tracer_provider=tracers, meter_provider=meters, logger_provider=loggers)
    return seatrace.uninstrument


def by_hand(tracers: Any, meters: Any, loggers: Any) -> Callable[[], None]:
    block = instrumented(Handwritten(tracers, meters, loggers))
    block.__enter__()
    return lambda: block.__exit__(None, None, None)


@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "unsampled"])
@pytest.mark.parametrize("work", [plain, stream, closed_stream, plain_async, stream_async])
def test_handwritten_instrumentation_emits_the_same(work: Callable[[], None], sampled: bool) -> None:
    ours = Telemetry(work, by_seatrace, sampled=sampled)
    hand = Telemetry(work, by_hand, sampled=sampled)

    assert ours.spans == hand.spans
    assert ours.events == hand.events
    assert ours.metrics == hand.metrics
    assert len(ours.spans) == (2 if sampled else 0)
    assert len(ours.events) == 2
