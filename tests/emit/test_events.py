"""Log records whose attributes are put together later are those that the SDK's public call would have emitted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as log_export

from seatrace.emit import _events

from .attributes import ATTRIBUTES, LIMITS

LogExporter: Any = getattr(log_export, "InMemoryLogRecordExporter", None) or log_export.InMemoryLogExporter

_VARIABLES = {"OTEL_COUNT": "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_LENGTH": "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"}


def exported(logs: Any, processor: Any) -> Any:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor(logs))
    return provider, provider.get_logger("test", "1", "https://example.org/schema")


@pytest.mark.parametrize("processor", [log_export.SimpleLogRecordProcessor, log_export.BatchLogRecordProcessor])
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
def test_an_event_has_the_same_attributes(
    attributes: dict[Any, Any], limits: dict[str, int], processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setenv(_VARIABLES[name], str(value))
    logs = LogExporter()
    provider, logger = exported(logs, processor)
    _events.emit(logger, _events.Record(timestamp=1, event_name="event"), lambda: dict(attributes))
    logger.emit(LogRecord(timestamp=1, event_name="event", attributes=dict(attributes)))
    provider.force_flush()

    ours, public = logs.get_finished_logs()
    assert dict(ours.log_record.attributes) == dict(public.log_record.attributes)
    assert (ours.log_record.timestamp, ours.log_record.event_name) == (1, "event")
    assert ours.resource == public.resource
    assert ours.instrumentation_scope == public.instrumentation_scope
    assert ours.dropped_attributes == public.dropped_attributes
    assert (
        ours.to_json()
        == public.to_json().replace(str(public.log_record.observed_timestamp), str(ours.log_record.observed_timestamp))
        or ours.log_record.observed_timestamp != public.log_record.observed_timestamp
    )
    provider.shutdown()


def test_a_record_is_copied_as_others_are() -> None:
    record = _events.Record(timestamp=1, event_name="event", attributes={"a": ["x"]})
    copied = copy.copy(record)
    assert type(copied) is _events.Record
    assert vars(copied) == vars(record)
    copied.context = None
    assert record.context is not None  # what the SDK copies it for
    assert copied.attributes is record.attributes


def test_another_logger_gets_the_public_call() -> None:
    seen: list[Any] = []

    class Other:
        def emit(self, record: LogRecord) -> None:
            seen.append(record.attributes)

    _events.emit(Other(), _events.Record(event_name="event"), lambda: {"a": 1})
    assert seen == [{"a": 1}]


def test_another_sdk_gets_the_public_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_events, "_logs", lambda: None)
    logs = LogExporter()
    _, logger = exported(logs, log_export.SimpleLogRecordProcessor)
    _events.emit(logger, _events.Record(event_name="event"), lambda: {"a": ["x"]})
    assert dict(logs.get_finished_logs()[0].log_record.attributes) == {"a": ("x",)}
