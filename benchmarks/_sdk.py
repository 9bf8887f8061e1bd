"""Real OpenTelemetry SDK providers whose exporters read what they are given, as all do, and send it nowhere."""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as logs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON


def _read(attributes: Any, *others: Any) -> None:
    for _ in attributes.items():
        pass


class _Spans(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        for span in spans:
            _read(span.attributes, span.events, span.links, span.dropped_attributes)
        return SpanExportResult.SUCCESS


class _Metrics(MetricExporter):
    def export(self, metrics_data: Any, timeout_millis: float = 0, **kwargs: Any) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **kwargs: Any) -> None:
        pass


_LogExporter: Any = getattr(logs, "LogRecordExporter", None) or logs.LogExporter  # name before 1.40
_LogSuccess: Any = getattr(logs, "LogRecordExportResult", None) or logs.LogExportResult


class _Logs(_LogExporter):  # type: ignore[misc]
    def export(self, batch: Any) -> Any:
        for each in batch:
            _read(each.log_record.attributes, each.dropped_attributes)
        return _LogSuccess.SUCCESS

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True

    def shutdown(self) -> None:
        pass


class Providers(NamedTuple):
    """As keywords of ``seatrace.instrument``."""

    tracer_provider: Any
    meter_provider: Any
    logger_provider: Any

    def flush(self) -> None:
        """Exports spans and events now, in this thread: what is done for them later is counted, too."""
        self.tracer_provider.force_flush()
        self.logger_provider.force_flush()

    def shutdown(self) -> None:
        """Stops the threads."""
        for provider in self:
            provider.shutdown()


def providers(*, sampled: bool = True) -> Providers:
    """Batching processors with their defaults, metrics collected once an hour."""
    resource = Resource.create({"service.name": "benchmark"})
    tracers = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(_Spans()))
    reader = PeriodicExportingMetricReader(_Metrics(), export_interval_millis=3_600_000)
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
    loggers.add_log_record_processor(logs.BatchLogRecordProcessor(_Logs()))
    return Providers(tracers, meters, loggers)
