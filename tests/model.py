"""A model to talk to in tests: the real OpenAI client over a transport that plays a script."""

from __future__ import annotations

from typing import Any

from contract.wire import Provider, as_events, as_json, data

MODEL = "gpt-4o-mini"
COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ahoy"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
CHUNKS: list[dict[str, Any]] = [
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": choices,
        **more,
    }
    for choices, more in (
        ([{"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}], {}),
        ([{"index": 0, "delta": {"content": "hoy"}, "finish_reason": None}], {}),
        ([{"index": 0, "delta": {}, "finish_reason": "stop"}], {}),
        ([], {"usage": COMPLETION["usage"]}),
    )
]


def completion(**changes: Any) -> Any:
    """An answer of the provider."""
    return as_json({**COMPLETION, **changes})


def stream() -> Any:
    """The same, streamed."""
    return as_events([*(data(chunk) for chunk in CHUNKS), b"data: [DONE]\n\n"])


def failure(status: int = 400, **error: Any) -> Any:
    """A refusal."""
    return as_json({"error": {"message": "no", "type": "invalid_request_error", **error}}, status)


def client(*answers: Any, kind: str = "OpenAI", **options: Any) -> Any:
    """An OpenAI client that gets ``answers`` in turn, the last one again and again."""
    options = {"api_key": "sk-test", "max_retries": 0, **options}
    return Provider(*(answers or (completion(),))).client("openai", kind, **options)


def ask(of: Any, content: Any = "hello", **options: Any) -> Any:
    """One model call."""
    messages = [{"role": "user", "content": content}]
    return of.chat.completions.create(**{"model": MODEL, "messages": messages, **options})
