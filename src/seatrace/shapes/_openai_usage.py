"""The ``usage`` object of OpenAI's APIs and of those who speak them, with everybody's dialect.

Where each rule comes from: counted over recorded traffic. xAI bills reasoning on top of ``completion_tokens`` (the
total tells), DeepSeek names cache reads ``prompt_cache_hit_tokens``, OpenRouter and Perplexity report the cost.
"""

from __future__ import annotations

from typing import Any

from seatrace.core.record import Call, Usage
from seatrace.core.shape import get, number, whole


def read_usage(call: Call, usage: Any) -> None:
    """Fills ``call.usage`` from a ``usage`` object of chat, completions, responses, embeddings, images or audio."""
    if usage is None or isinstance(usage, (str, int, float)):
        return
    prompt = _first(usage, "prompt_tokens", "input_tokens")
    completion = _first(usage, "completion_tokens", "output_tokens")
    total = whole(get(usage, "total_tokens"))
    inputs = _details(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    outputs = _details(usage, "completion_tokens_details", "output_tokens_details")
    reasoning = _first(outputs, "reasoning_tokens")
    if reasoning is None:
        reasoning = _first(usage, "reasoning_tokens")
    if reasoning and None not in (prompt, completion, total) and total == prompt + completion + reasoning:  # type: ignore[operator]
        completion += reasoning  # type: ignore[operator]
    cached = _first(inputs, "cached_tokens")
    if cached is None:
        cached = _first(
            usage, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens", "cache_read_input_tokens"
        )
    written = _first(inputs, "cache_write_tokens")
    if written is None:
        written = _first(usage, "cache_creation_input_tokens")
    if call.kind == "embeddings":
        if prompt is None:
            prompt = total
        completion = None
    call.usage = Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read=cached,
        cache_write=written,
        reasoning=reasoning,
        audio_input=_first(inputs, "audio_tokens"),
        audio_output=_first(outputs, "audio_tokens"),
        image_input=_first(inputs, "image_tokens"),
        image_output=_first(outputs, "image_tokens"),
        text_input=_first(inputs, "text_tokens"),
        text_output=_first(outputs, "text_tokens"),
        web_searches=_first(usage, "num_search_queries"),
    )
    if call.provider in ("openrouter", "perplexity"):
        cost = get(usage, "cost")
        call.reported_cost = number(cost if isinstance(cost, (int, float)) else get(cost, "total_cost"))


def _details(usage: Any, *names: str) -> Any:
    for name in names:
        details = _value(usage, name)
        if details:
            return details
    return None


def _first(value: Any, *names: str) -> int | None:
    """The first of ``names`` that holds a count; for fields that the client libraries declare."""
    if value is None:
        return None
    for name in names:
        count = whole(_value(value, name))
        if count is not None:
            return count
    return None


def _value(value: Any, name: str) -> Any:
    # A field that a pydantic model does not declare costs an exception inside pydantic: look before asking.
    fields = getattr(value, "__dict__", None)
    if fields is not None:
        if name in fields:
            return fields[name]
        extra = getattr(value, "__pydantic_extra__", None)
        return extra.get(name) if extra else None
    return get(value, name)
