"""Attributes set the fast way are those that the SDK's public call would have left."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as log_export
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from seatrace.emit import _bounded

LogExporter: Any = getattr(log_export, "InMemoryLogRecordExporter", None) or log_export.InMemoryLogExporter


class Name(str):
    __slots__ = ()


ATTRIBUTES: dict[str, dict[Any, Any]] = {
    "plain": {"a": "text", "b": 1, "c": 2.5, "d": True, "e": ("stop", "length"), "f": ()},
    "again": {"kept": "new", "a": "text"},
    "a list": {"a": ["stop", "length"]},
    "numbers": {"a": (1, 2), "b": [0.5]},
    "mixed": {"a": ("x", 1, None), "b": ["x", True]},
    "objects": {"a": {"x": [1, {"y": "z"}]}, "b": [{"role": "user"}]},
    "nothing": {"a": None, "b": "x"},
    "a text of its own class": {"a": Name("x"), "b": (Name("y"),)},
    "bytes": {"a": b"abc"},
    "odd values": {"a": object, "b": {1, 2}},
    "odd names": {"": "x", "b": "y"},
    "names that are no text": {3: "x", "b": "y"},
    "many": {f"name{index}": index for index in range(12)},
    "long": {"a": "x" * 50, "b": ("y" * 50, "z")},
    "none": {},
}
LIMITS: dict[str, dict[str, int]] = {"default": {}, "few": {"OTEL_COUNT": 5}, "short": {"OTEL_LENGTH": 10}}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_a_span_has_the_same_attributes(attributes: dict[Any, Any], limits: dict[str, int]) -> None:
    of = SpanLimits(
        max_span_attributes=limits.get("OTEL_COUNT", 128), max_span_attribute_length=limits.get("OTEL_LENGTH")
    )
    tracer = TracerProvider(span_limits=of, shutdown_on_exit=False).get_tracer("test")
    ours, public = (tracer.start_span("call", attributes={"kept": "old", "first": 1}) for _ in range(2))
    _bounded.set_attributes(ours, attributes)
    public.set_attributes(attributes)
    ours.end()

    assert dict(ours.attributes) == dict(public.attributes)
    assert [type(each) for each in ours.attributes.values()] == [
        type(ours.attributes[name] and public.attributes[name]) for name in ours.attributes
    ]
    assert ours.dropped_attributes == public.dropped_attributes


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
def test_an_event_has_the_same_attributes(
    attributes: dict[Any, Any], limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setenv({"OTEL_COUNT": "OTEL_ATTRIBUTE_COUNT_LIMIT"}.get(name, _LENGTH), str(value))
    logs = LogExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(log_export.SimpleLogRecordProcessor(logs))
    logger = provider.get_logger("test", "1", "https://example.org/schema")
    _bounded.emit(logger, LogRecord(timestamp=1, event_name="event", attributes=dict(attributes)))
    logger.emit(LogRecord(timestamp=1, event_name="event", attributes=dict(attributes)))

    ours, public = logs.get_finished_logs()
    assert dict(ours.log_record.attributes) == dict(public.log_record.attributes)
    assert (ours.log_record.timestamp, ours.log_record.event_name) == (1, "event")
    assert ours.resource == public.resource
    assert ours.instrumentation_scope == public.instrumentation_scope
    assert ours.dropped_attributes == public.dropped_attributes


_LENGTH = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"


def test_a_span_of_another_kind_gets_the_public_call() -> None:
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("test")
    _bounded.set_attributes(tracer.start_span("not recorded"), {"a": 1})

    seen = []

    class Other:
        def set_attributes(self, attributes: Any) -> None:
            seen.append(attributes)

    _bounded.set_attributes(Other(), {"a": 1})
    assert seen == [{"a": 1}]


def test_another_sdk_gets_the_public_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bounded, "_traces", lambda: None)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("call")
    _bounded.set_attributes(span, {"a": ["x"]})
    assert dict(span.attributes) == {"a": ("x",)}
