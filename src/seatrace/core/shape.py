"""How one wire format is read. A shape never touches telemetry: it fills a :class:`~seatrace.core.record.Call`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .record import Call, Content, Kind


class StreamReader(Protocol):
    """Reads the chunks of one stream. One instance a stream."""

    def chunk(self, chunk: Any) -> None:
        """Notes what ``chunk`` says: an object of the client library, or a ``dict`` parsed from the wire."""

    def finish(self) -> None:
        """Writes what was noted into the call; called once, also when the stream was left early."""


class Shape(Protocol):
    """Reads requests, responses and streams of one endpoint."""

    @property
    def kind(self) -> Kind:
        """What is called there."""

    @property
    def operation(self) -> str:
        """``gen_ai.operation.name``."""

    def request(self, call: Call, body: Mapping[str, Any]) -> None:
        """Reads the request body, as the client library is about to serialise it. Must not consume iterators."""

    def response(self, call: Call, response: Any) -> None:
        """Reads a complete response."""

    def reader(self, call: Call, *, content: bool) -> StreamReader:
        """A reader for a streamed response; gathers messages only where ``content`` is true."""

    def request_content(self, body: Mapping[str, Any]) -> Content:
        """The request's messages in the conventions' form."""

    def response_content(self, call: Call, response: Any) -> list[dict[str, Any]]:
        """The response's messages in the conventions' form."""


def get(value: Any, name: str) -> Any:
    """Field ``name`` of a client library's object or of a parsed JSON object; ``None`` where it has none."""
    if type(value) is dict or isinstance(value, Mapping):  # the second takes its time
        return value.get(name)
    return getattr(value, name, None)


def text(value: Any) -> str | None:
    """``value`` where it is a non-empty string: sentinels, numbers and objects of the client library are no text.

    A plain string, whatever the caller derived from it: an enum's member would format as its name.
    """
    if type(value) is str:
        return value or None
    return str.__str__(value) if isinstance(value, str) and value else None


def whole(value: Any) -> int | None:
    """``value`` where it is a whole number of at least 0."""
    if type(value) is int:
        return value if value >= 0 else None
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if value >= 0 else None
    return int(value) if isinstance(value, float) and value >= 0 and value.is_integer() else None


def number(value: Any) -> float | None:
    """``value`` where it is a number; numpy's scalars count, booleans do not."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return None


def _is_true(value: Any) -> bool:
    return value is True


Parameters = Mapping[str, tuple[str, Callable[[Any], Any]]]
"""Of parameters by their names on the wire: the field of a call, and what makes its value of the one given."""


COMMON_PARAMETERS: Parameters = {
    "model": ("request_model", text),
    "stream": ("stream", _is_true),
    "temperature": ("temperature", number),
    "top_p": ("top_p", number),
    "service_tier": ("service_tier", text),
}
"""Those that every format of a model's has by the same name."""


def read_parameters(call: Call, body: Mapping[str, Any], known: Parameters) -> None:
    """Reads those of ``known`` that ``body`` has: a few of many, as a rule."""
    for name in known.keys() & body.keys():
        field, read = known[name]
        setattr(call, field, read(body[name]))


class Wire:
    """A parsed JSON object with the client library's face: fields as attributes, absent ones ``None``."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        return wire(self._fields.get(name))


def wire(value: Any) -> Any:
    """``value`` with every JSON object in it seen through :class:`Wire`."""
    if isinstance(value, dict):
        return Wire(value)
    if isinstance(value, list):
        return [wire(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """The JSON that :func:`wire` was given."""
    return value._fields if isinstance(value, Wire) else value


_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{2,63}")


def error_word(body: Any) -> str | None:
    """The provider's code or type in an error body: ``{"error": {"code", "type"}}`` or the same without the envelope.

    Only words that look like an identifier count: messages and numbers are no ``error.type``.
    """
    inner = get(body, "error")
    for word in (get(inner, "code"), get(inner, "type"), get(body, "code"), get(body, "type")):
        if isinstance(word, str) and word != "error" and _WORD.fullmatch(word):
            return word
    return None


FINISH_REASONS: dict[str, str] = {
    "tool_calls": "tool_call",
    "tool_use": "tool_call",
    "function_call": "tool_call",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Providers' words for the conventions' ``gen_ai.response.finish_reasons``; any other word stays as it came."""


def finish_reason(word: Any) -> str:
    """The conventions' word for a provider's ``word``."""
    raw = str(word)
    return FINISH_REASONS.get(raw, raw)
