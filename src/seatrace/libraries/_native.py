"""A library's own spans while we observe the same call: they rest, so that one call is one span."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any


def silent() -> Any:
    """The current span, as one that records nothing: a library that sends trace headers still sends those of ours."""
    trace = sys.modules["opentelemetry.trace"]
    return trace.NonRecordingSpan(trace.get_current_span().get_span_context())


class QuietTracer:
    """Stands in the place of a library's tracer.

    Args:
        tracer: The library's own.
        rests: Of a span's name and the keywords that it is started with: whether it rests.
    """

    def __init__(self, tracer: Any, rests: Callable[[str, Mapping[str, Any]], bool]) -> None:
        self._tracer = tracer
        self._rests = rests

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The library's span, or a silent one."""
        return silent() if self._rests(name, kwargs) else self._tracer.start_span(name, *args, **kwargs)

    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The library's span, or a silent one, while a ``with`` block runs."""
        if self._rests(name, kwargs):
            return nullcontext(silent())
        return self._tracer.start_as_current_span(name, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracer, name)
