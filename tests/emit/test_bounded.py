"""Attributes set the fast way are those that the SDK's public call would have left."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from seatrace.emit import _bounded

from .attributes import ATTRIBUTES, LIMITS, span_limits


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_a_span_has_the_same_attributes(attributes: dict[Any, Any], limits: dict[str, int]) -> None:
    tracer = TracerProvider(span_limits=span_limits(limits), shutdown_on_exit=False).get_tracer("test")
    ours, public = (tracer.start_span("call", attributes={"kept": "old", "first": 1}) for _ in range(2))
    _bounded.set_attributes(ours, attributes)
    public.set_attributes(attributes)
    ours.end()

    assert dict(ours.attributes) == dict(public.attributes)
    assert [type(each) for each in ours.attributes.values()] == [
        type(ours.attributes[name] and public.attributes[name]) for name in ours.attributes
    ]
    assert ours.dropped_attributes == public.dropped_attributes


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
