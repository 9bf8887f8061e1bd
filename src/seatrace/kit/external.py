"""Metrics that boards and rules read and seatrace does not record: of Prometheus, of the SDK, of the collector.

Everything else that a query names stands in the catalogue; tests hold both.
"""

from __future__ import annotations

from typing import Final

from seatrace.emit.catalogue import Metric
from seatrace.emit.catalogue.metric import SECONDS, counter, gauge, histogram, updowncounter
from seatrace.emit.semconv import ERROR_TYPE

# --- Prometheus -------------------------------------------------------------------------------------------------------

ALERTS: Final = gauge("ALERTS", "", ("alertname", "alertstate", "severity"), "Alerts that are pending or firing.")
UP: Final = gauge("up", "", (), "1 where the last scrape of a target succeeded, else 0.")
TARGET_INFO: Final = gauge(
    "target_info",
    "",
    ("service_version", "telemetry_sdk_language", "telemetry_sdk_name", "telemetry_sdk_version"),
    "1 for each process that sends telemetry; its resource as labels.",
)

# --- the SDK about itself: otel.sdk.*, on with OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true --------------------------

COMPONENT_NAME: Final = "otel.component.name"
COMPONENT_TYPE: Final = "otel.component.type"
OVERFLOW: Final = "otel.metric.overflow"

_COMPONENT = (COMPONENT_NAME, COMPONENT_TYPE)

SPANS_STARTED: Final = counter("otel.sdk.span.started", "{span}", (), "Spans that were started.")
SPANS_LIVE: Final = updowncounter("otel.sdk.span.live", "{span}", (), "Spans that are not ended yet.")
SPANS_PROCESSED: Final = counter(
    "otel.sdk.processor.span.processed",
    "{span}",
    (*_COMPONENT, ERROR_TYPE),
    "Spans that a processor is done with; with an error.type, those that it dropped.",
)
SPAN_QUEUE_SIZE: Final = updowncounter(
    "otel.sdk.processor.span.queue.size", "{span}", _COMPONENT, "Spans that wait for their export."
)
SPAN_QUEUE_CAPACITY: Final = updowncounter(
    "otel.sdk.processor.span.queue.capacity", "{span}", _COMPONENT, "Spans that may wait for their export."
)
SPANS_EXPORTED: Final = counter(
    "otel.sdk.exporter.span.exported",
    "{span}",
    (*_COMPONENT, ERROR_TYPE),
    "Spans that an exporter is done with; with an error.type, those that it did not deliver.",
)
EXPORT_DURATION: Final = histogram(
    "otel.sdk.exporter.operation.duration", "s", SECONDS, (*_COMPONENT, ERROR_TYPE), "Time of an export."
)

# --- the collector about itself ---------------------------------------------------------------------------------------

_RECEIVER = ("receiver", "transport")

COLLECTOR_ACCEPTED: Final = counter(
    "otelcol_receiver_accepted_spans", "", _RECEIVER, "Spans that the collector took in."
)
COLLECTOR_REFUSED: Final = counter("otelcol_receiver_refused_spans", "", _RECEIVER, "Spans that it refused.")
COLLECTOR_SENT: Final = counter("otelcol_exporter_sent_spans", "", ("exporter",), "Spans that it passed on.")
COLLECTOR_FAILED: Final = counter(
    "otelcol_exporter_send_failed_spans", "", ("exporter",), "Spans that it could not pass on."
)
COLLECTOR_QUEUE_SIZE: Final = gauge(
    "otelcol_exporter_queue_size", "", ("exporter", "data_type"), "Batches that wait in an exporter's queue."
)
COLLECTOR_QUEUE_CAPACITY: Final = gauge(
    "otelcol_exporter_queue_capacity", "", ("exporter", "data_type"), "Batches that may wait in it."
)

EXTERNAL: Final[tuple[Metric, ...]] = tuple(value for value in list(vars().values()) if isinstance(value, Metric))
"""All of them."""
