"""For tests, yours and ours: what a block of code would have sent, as plain objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as log_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from . import setup
from .core import guard, pipeline
from .core.record import Call

_LogExporter: Any = getattr(log_export, "InMemoryLogRecordExporter", None) or log_export.InMemoryLogExporter
_LogProcessor: Any = log_export.SimpleLogRecordProcessor


@dataclass
class Captured:
    """What the block has sent so far."""

    calls: list[Call] = field(default_factory=list)
    """The records, in the order in which they ended."""
    tracer_provider: Any = None
    meter_provider: Any = None
    _spans: Any = None
    _logs: Any = None
    _reader: Any = None

    @property
    def spans(self) -> list[ReadableSpan]:
        """The ended spans, those of streams that were dropped included."""
        gc.collect()
        pipeline.drain()
        return list(self._spans.get_finished_spans())

    @property
    def events(self) -> list[Any]:
        """The log records: ``event_name``, ``attributes``, ``severity_number`` …"""
        gc.collect()
        pipeline.drain()
        return [each.log_record for each in self._logs.get_finished_logs()]

    def points(self, name: str) -> list[Any]:
        """The data points of the metric ``name``, cumulative."""
        pipeline.drain()
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def total(self, name: str, **attributes: Any) -> float:
        """The sum of the metric ``name`` over all points whose attributes include ``attributes`` (``_`` stands for
        ``.``): the value of a counter, the sum of a histogram."""
        wanted = {key.replace("_", "."): value for key, value in attributes.items()}
        return float(
            sum(
                point.value if hasattr(point, "value") else point.sum
                for point in self.points(name)
                if wanted.items() <= {key.replace("_", "."): value for key, value in point.attributes.items()}.items()
            )
        )

    @property
    def metric_names(self) -> set[str]:
        """The names of all metrics that have data."""
        data = self._reader.get_metrics_data()
        return {
            metric.name
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextmanager
def capture(*, strict: bool = True, sampler: Sampler | None = None, **settings: Any) -> Iterator[Captured]:
    """Runs the block with seatrace on and keeps its telemetry in memory, apart from any other.

    Args:
        strict: Faults of seatrace itself raise instead of being counted.
        sampler: For the tracer provider.
        **settings: As of :func:`seatrace.instrument`.
    """
    captured = Captured(_spans=InMemorySpanExporter(), _logs=_LogExporter(), _reader=InMemoryMetricReader())
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(captured._spans))
    meters = MeterProvider([captured._reader], shutdown_on_exit=False)
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(_LogProcessor(captured._logs))
    captured.tracer_provider, captured.meter_provider = tracers, meters
    before, guard.strict = guard.strict, strict
    setup.uninstrument()
    setup.instrument(tracer_provider=tracers, meter_provider=meters, logger_provider=loggers, **settings)
    remove = pipeline.on_call(captured.calls.append)
    try:
        yield captured
    finally:
        gc.collect()
        pipeline.drain()
        remove()
        setup.uninstrument()
        guard.strict = before
        tracers.shutdown()
        meters.shutdown()
        loggers.shutdown()
