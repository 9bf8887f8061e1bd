"""OpenAI's endpoints with one answer and at most a ``usage``: embeddings, images, audio, decisions, moderations …"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seatrace.core.record import Call, Content, Kind
from seatrace.core.shape import get, text, whole

from ._openai_usage import read_usage
from .openai_chat import choice_count, strings


class OpenAIPlain:
    """One answer: ``operation`` and, where the answer is no text, its ``output_type``."""

    def __init__(self, kind: Kind, operation: str, output_type: str | None = None) -> None:
        self.kind = kind
        self.operation = operation
        self.output_type = output_type

    def request(self, call: Call, body: Mapping[str, Any]) -> None:
        """Model and what shapes the answer."""
        call.request_model = text(body.get("model"))
        call.stream = body.get("stream") is True
        call.output_type = self.output_type
        if self.kind == "embeddings":
            if encoding := text(body.get("encoding_format")):
                call.encoding_formats = [encoding]
            call.dimension_count = whole(body.get("dimensions"))
        elif self.kind == "inference":
            call.choice_count = choice_count(body.get("n"))

    def response(self, call: Call, response: Any) -> None:
        """Model, id and usage where the answer has them; audio bytes have none."""
        if isinstance(response, (str, bytes)):
            return
        call.response_model = text(get(response, "model"))
        call.response_id = text(get(response, "id"))
        if self.kind == "operation":
            return
        read_usage(call, get(response, "usage"))
        if self.kind == "embeddings" and call.dimension_count is None:
            call.dimension_count = _dimensions(get(response, "data"))

    def reader(self, call: Call, *, content: bool) -> PlainReader:
        """Images and transcripts can be streamed; the last event carries the usage."""
        return PlainReader(call)

    def request_content(self, body: Mapping[str, Any]) -> Content:
        """The prompt or input text."""
        words = body.get("prompt") or body.get("input")
        texts = [words] if isinstance(words, str) else strings(words) or []
        return Content(
            input_messages=[{"role": "user", "parts": [{"type": "text", "content": each}]} for each in texts] or None
        )

    def response_content(self, call: Call, response: Any) -> list[dict[str, Any]]:
        """The transcript, where there is one: vectors and media are no messages."""
        words = text(get(response, "text")) if call.operation == "generate_content" else None
        return [{"role": "assistant", "parts": [{"type": "text", "content": words}]}] if words else []


class PlainReader:
    """Waits for the usage."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._usage: Any = None

    def chunk(self, chunk: Any) -> None:
        """Keeps the last ``usage``."""
        usage = get(chunk, "usage")
        if usage is not None:
            self._usage = usage

    def finish(self) -> None:
        """Writes it into the call."""
        read_usage(self._call, self._usage)


def _dimensions(data: Any) -> int | None:
    vector = get(data[0], "embedding") if isinstance(data, list) and data else None
    return len(vector) if isinstance(vector, list) else None
