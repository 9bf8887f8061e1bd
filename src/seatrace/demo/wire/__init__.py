"""The providers' wire formats, one file each, as recorded traffic shows them.

A wire reads a request body into an :class:`~seatrace.demo.fake_model.Ask` and writes a :class:`Turn` as one JSON
body or as the events of a stream. It does no I/O.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from seatrace.demo.fake_model import Ask, Reply
from seatrace.demo.prompt_cache import Hit, PromptCache

Body = Mapping[str, Any]


class RequestError(Exception):
    """The request is one that the provider refuses; the text is for the error body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Turn:
    """One answered request with everything that a wire writes."""

    body: Body
    ask: Ask
    reply: Reply
    hit: Hit
    model: str
    """The model that answers, by its dated name where it has one."""
    created: int
    """Seconds since the epoch."""
    numbers: Random
    """For ids and the sizes of stream parts."""


class Wire(Protocol):
    """One endpoint's format. Modules of this package satisfy it."""

    def ask(self, body: Body) -> Ask:
        """Reads a request.

        Raises:
            RequestError: if a required field is missing.
        """

    def hit(self, cache: PromptCache, ask: Ask) -> Hit:
        """What of the prompt is cached by this provider's rule."""

    def input_tokens(self, turn: Turn) -> int:
        """All input tokens of the turn, cached ones included."""

    def whole(self, turn: Turn) -> Body:
        """The JSON body of an answer in one piece."""

    def events(self, turn: Turn) -> Iterator[bytes]:
        """The server-sent events of a streamed answer."""

    def stream_error(self, status: int) -> bytes:
        """The event that tells of a failure in mid-stream."""

    def error(self, status: int, message: str | None, model: str) -> Body:
        """The JSON body of a failed request."""

    def headers(self, number: int, numbers: Random) -> dict[str, str]:
        """Response headers for the ``number``-th request."""


def identifier(numbers: Random, length: int) -> str:
    return "".join(numbers.choices(string.ascii_letters + string.digits, k=length))


def event(data: Body, name: str | None = None) -> bytes:
    """One server-sent event; ``name`` is left out where the provider sends none."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def text_of(content: Any) -> str:
    """The text of a message's content, given as a string or as parts; ids and marks are left out."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    return "\n".join(part if isinstance(part, str) else _text_of_part(part) for part in content)


def _text_of_part(part: Body) -> str:
    for key in ("text", "thinking", "output", "arguments"):
        if isinstance(part.get(key), str):
            return str(part[key])
    if part.get("type") == "tool_use":
        return json.dumps([part.get("name"), part.get("input")])
    if "content" in part:
        return text_of(part["content"])
    return str(part.get("type", ""))
