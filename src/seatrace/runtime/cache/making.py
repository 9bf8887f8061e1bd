"""What is noticed while an answer is made: which model calls it took, and in which span."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from seatrace.core import pipeline, signals
from seatrace.core.record import Call

_TRACE_HEADERS = ("traceparent", "tracestate")  # baggage may name people, and is not to be kept
_CALLS_LIMIT = 1000

_making: ContextVar[Making | None] = ContextVar("seatrace_making", default=None)

current = _making.get
"""The :class:`Making` that the code here is a part of."""


class Making:
    """One answer being made."""

    def __init__(self) -> None:
        self.link = trace_headers()
        self.owner: Any = None
        """The client whose response is wanted (``client.py``)."""
        self.response: Any = None
        """That response."""
        self.tap: Any = None
        """What is to be told of its body, where that is streamed."""
        self._outer: Making | None = None
        self._calls: list[Call] = []

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Notices the model calls that end inside, in this thread or task and those that it starts."""
        self._outer = _making.get()
        token = _making.set(self)
        try:
            yield
        finally:
            try:
                _making.reset(token)
            except ValueError:  # a task that was dropped half way ends wherever that is noticed
                pass

    def note(self, call: Call) -> None:
        """A model call has ended in here."""
        if self._outer is not None:
            self._outer.note(call)
        if call.kind in ("inference", "embeddings") and len(self._calls) < _CALLS_LIMIT:
            self._calls.append(call)

    @property
    def observed(self) -> bool:
        """Whether a model call was noticed."""
        return bool(self._calls)

    @property
    def cost(self) -> float | None:
        """USD; ``None`` where a call has no price, or there was none."""
        total = 0.0
        for call in self._calls:
            if call.cost is None or call.cost.currency != "USD":
                return None
            total += call.cost.total
        return total if self._calls else None

    @property
    def tokens(self) -> int | None:
        """Input and output tokens; ``None`` where a provider did not say, or there was no call."""
        total = 0
        for call in self._calls:
            count = tokens_of(call)
            if count is None:
                return None
            total += count
        return total if self._calls else None

    @property
    def model(self) -> str | None:
        """What the first call asked for."""
        return self._calls[0].request_model if self._calls else None


def tokens_of(call: Call) -> int | None:
    """Input and output tokens of a call."""
    if call.usage is None or call.usage.input_tokens is None:
        return None
    return call.usage.input_tokens + (call.usage.output_tokens or 0)


def trace_headers() -> dict[str, str]:
    """The current span as headers, without baggage."""
    return {name: value for name, value in signals.carrier().items() if name in _TRACE_HEADERS}


def _note(call: Call) -> None:
    made = _making.get()
    if made is not None:
        made.note(call)


pipeline.on_call(_note)
