"""An ``openai`` client whose transport answers from memory: what is measured is the client, not a network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai

try:  # openai 3.x
    import httpx2 as http
except ImportError:
    import httpx as http  # type: ignore[no-redef]

MODEL = "gpt-4o"
CHUNKS = 200
QUESTION = {"role": "user", "content": "What is the capital of France?"}
HISTORY = [
    {"role": ("user", "assistant")[turn % 2], "content": f"Turn {turn}: " + "some words of a conversation. " * 12}
    for turn in range(30)
]
_USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 198,
    "total_tokens": 1398,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_COMMON = {
    "id": "chatcmpl-BenchmarkBenchmark",
    "created": 1_700_000_000,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}


def _completion() -> bytes:
    message = {"role": "assistant", "content": "Paris.", "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return json.dumps({**_COMMON, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()


def _events() -> list[bytes]:
    """``CHUNKS`` chunks: text, one with the finish reason, a last one with the usage."""

    def event(choices: list[Any], usage: Any = None) -> bytes:
        chunk = {**_COMMON, "object": "chat.completion.chunk", "choices": choices, "usage": usage}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    def choice(delta: dict[str, Any], reason: str | None = None) -> list[Any]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]

    text = [event(choice({"content": f" word{index}"})) for index in range(CHUNKS - 2)]
    return [*text, event(choice({}, "stop")), event([], _USAGE), b"data: [DONE]\n\n"]


COMPLETION = _completion()
EVENTS = _events()


class _Body(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc]
    """The bytes of a response as a network would hand them over."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class Transport(http.BaseTransport, http.AsyncBaseTransport):  # type: ignore[misc]
    """Answers a completion, a stream of :data:`CHUNKS` chunks where the request asks for one, and a refusal (429)
    where the question's model is ``fail``."""

    def handle_request(self, request: Any) -> Any:
        """Answers from memory."""
        body = request.content
        if b'"model":"fail"' in body:
            return http.Response(429, json={"error": {"message": "slow down", "code": "rate_limit_exceeded"}})
        if b'"stream":true' in body:
            return http.Response(200, headers={"content-type": "text/event-stream"}, stream=_Body(EVENTS))
        return http.Response(200, headers={"content-type": "application/json"}, stream=_Body([COMPLETION]))

    async def handle_async_request(self, request: Any) -> Any:
        """Answers from memory."""
        return self.handle_request(request)


def client() -> openai.OpenAI:
    """A client of api.openai.com that never gets there."""
    return openai.OpenAI(api_key="sk-none", http_client=http.Client(transport=Transport()), max_retries=0)


def parsed_client() -> openai.OpenAI:
    """:func:`client` whose streams hand out chunks that were parsed before. Parsing is nine tenths of what a stream
    costs and never costs the same twice: beside it nothing small can be counted."""
    made = client()
    parse, parsed = made._process_response_data, {}

    def look_up(*, data: Any, **how: Any) -> Any:
        if data["object"] != "chat.completion.chunk":
            return parse(data=data, **how)
        text = data["choices"][0]["delta"].get("content") if data["choices"] else None
        key = (text, bool(data["choices"]))
        if key not in parsed:
            parsed[key] = parse(data=data, **how)
        return parsed[key]

    made._process_response_data = look_up  # type: ignore[method-assign, assignment]
    return made


def async_client() -> openai.AsyncOpenAI:
    """:func:`client`, asynchronous."""
    return openai.AsyncOpenAI(api_key="sk-none", http_client=http.AsyncClient(transport=Transport()), max_retries=0)
