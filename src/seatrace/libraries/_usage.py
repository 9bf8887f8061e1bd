"""Tokens out of whatever a framework kept of its provider's answer."""

from __future__ import annotations

from typing import Any

from seatrace.core.record import Usage
from seatrace.core.shape import get, whole

_PLACES = ("usage", "usage_metadata", "usageMetadata", "token_usage", "tokenUsage")

_INPUT = ("prompt_tokens", "input_tokens", "inputTokens", "prompt_token_count", "promptTokenCount", "prompt_eval_count")
_OUTPUT = (
    "completion_tokens",
    "output_tokens",
    "outputTokens",
    "candidates_token_count",
    "candidatesTokenCount",
    "eval_count",
)
_THOUGHT = ("thoughts_token_count", "thoughtsTokenCount")
_APART = ("cache_read_input_tokens", "cacheReadInputTokens"), ("cache_creation_input_tokens", "cacheWriteInputTokens")
"""Anthropic and Bedrock leave these out of their input."""
_PARTS = ("prompt_tokens_details", "input_tokens_details"), ("completion_tokens_details", "output_tokens_details")


def usage_in(*answers: Any) -> Usage | None:
    """The usage in the first of ``answers`` (objects or parsed JSON, themselves usages or holding one) that has any."""
    for answer in answers:
        for usage in (answer, *(get(answer, place) for place in _PLACES)):
            given, made = _first(usage, _INPUT), _first(usage, _OUTPUT)
            if given is not None or made is not None:
                return _usage(usage, given, made)
    return None


def _usage(usage: Any, given: int | None, made: int | None) -> Usage:
    read, written = (_first(usage, names) for names in _APART)
    if given is not None and get(usage, "prompt_tokens") is None:
        given += (read or 0) + (written or 0)
    thought = _first(usage, _THOUGHT)
    if thought is not None:
        made = (made or 0) + thought
    inputs, outputs = (next(filter(None, (get(usage, name) for name in names)), None) for names in _PARTS)
    if read is None:
        read = _first(inputs, ("cached_tokens",))
    if read is None:
        read = _first(usage, ("cached_content_token_count", "cachedContentTokenCount"))
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cache_read=read,
        cache_write=written,
        reasoning=thought if thought is not None else _first(outputs, ("reasoning_tokens",)),
    )


def _first(value: Any, names: tuple[str, ...]) -> int | None:
    counts = (whole(get(value, name)) for name in names) if value is not None else ()
    return next((count for count in counts if count is not None), None)
