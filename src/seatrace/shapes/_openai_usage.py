"""The ``usage`` object of OpenAI's APIs and of those who speak them, with everybody's dialect.

Where each rule comes from: counted over recorded traffic. xAI bills reasoning on top of ``completion_tokens`` (the
total tells), DeepSeek names cache reads ``prompt_cache_hit_tokens``, OpenRouter and Perplexity report the cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seatrace.core.record import Call, Usage
from seatrace.core.shape import get, number, plain, whole


def read_usage(call: Call, usage: Any) -> None:
    """Fills ``call.usage`` from a ``usage`` object of chat, completions, responses, embeddings, images or audio."""
    if usage is None or isinstance(usage, (str, int, float)):
        return
    counts = _fields(usage)
    prompt = _first(counts, "prompt_tokens", "input_tokens")
    completion = _first(counts, "completion_tokens", "output_tokens")
    total = _first(counts, "total_tokens")
    inputs = _details(counts, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    outputs = _details(counts, "completion_tokens_details", "output_tokens_details")
    reasoning = _first(outputs, "reasoning_tokens")
    if reasoning is None:
        reasoning = _first(counts, "reasoning_tokens")
    if reasoning and None not in (prompt, completion, total) and total == prompt + completion + reasoning:  # type: ignore[operator]
        completion += reasoning  # type: ignore[operator]
    cached = _first(inputs, "cached_tokens")
    if cached is None:
        cached = _first(
            counts, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens", "cache_read_input_tokens"
        )
    written = _first(inputs, "cache_write_tokens")
    if written is None:
        written = _first(counts, "cache_creation_input_tokens")
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
        web_searches=_first(counts, "num_search_queries"),
    )
    if call.provider in ("openrouter", "perplexity"):
        cost = counts.get("cost")
        call.reported_cost = number(cost if isinstance(cost, (int, float)) else get(cost, "total_cost"))


def _details(counts: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        details = counts.get(name)
        if details:
            return _fields(details)
    return {}


def _first(counts: Mapping[str, Any], *names: str) -> int | None:
    """The first of ``names`` that holds a count."""
    for name in names:
        found = counts.get(name)
        if found is not None and (count := whole(found)) is not None:
            return count
    return None


def _fields(value: Any) -> Mapping[str, Any]:
    """What an object of a client library or of JSON holds. Pydantic keeps what its model does not declare apart; asking
    the object for it costs an exception where it is not there."""
    value = plain(value)
    if isinstance(value, Mapping):
        return value
    declared = getattr(value, "__dict__", {})
    extra = getattr(value, "__pydantic_extra__", None)
    return {**extra, **declared} if extra else declared
