"""Attributes that the SDK takes, cleans or drops, and limits of it."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import SpanLimits


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


def span_limits(limits: dict[str, int]) -> SpanLimits:
    """One of :data:`LIMITS`, for spans."""
    return SpanLimits(
        max_span_attributes=limits.get("OTEL_COUNT", 128), max_span_attribute_length=limits.get("OTEL_LENGTH")
    )
