"""A request taken apart: the text that may be said in other words, and all else, which must be the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seatrace.core.shape import get

_INSTRUCTIONS = frozenset({"system", "developer"})
_TEXTS = frozenset({"text", "input_text"})


@dataclass(frozen=True)
class Question:
    """What a request asks."""

    text: str
    """The last user message."""
    context: Mapping[str, Any]
    """The request without it."""
    turns: int
    """Messages before it that are no instructions."""


def question_of(request: Mapping[str, Any]) -> Question | None:
    """The question in a request: a list of ``messages`` (or ``input`` of the Responses API) that ends with a user's
    text, or a ``prompt`` or ``input`` that is one. ``None`` where there is none: images, tool results, no text."""
    for name in ("messages", "input", "prompt"):
        given = request.get(name)
        if isinstance(given, str) and given.strip():
            return Question(given, {**request, name: None}, 0)
        if isinstance(given, (list, tuple)) and given:
            *before, last = given
            text = _text_of(last)
            if text is None:
                return None
            turns = sum(get(message, "role") not in _INSTRUCTIONS for message in before)
            return Question(text, {**request, name: [*before, None]}, turns)
    return None


def _text_of(message: Any) -> str | None:
    if get(message, "role") != "user":
        return None
    content = get(message, "content")
    if isinstance(content, (list, tuple)):
        if not all(get(part, "type") in _TEXTS and isinstance(get(part, "text"), str) for part in content):
            return None
        content = "\n".join(get(part, "text") for part in content)
    return content if isinstance(content, str) and content.strip() else None


def answer_text(answer: Any) -> str | None:
    """What an answer says, as JSON data of a chat completion, a message or a response, or as text itself; ``None``
    where that is not to be seen."""
    if isinstance(answer, str):
        return answer
    if not isinstance(answer, Mapping):
        return None
    choices = answer.get("choices")
    if isinstance(choices, list) and choices:
        content = get(get(choices[0], "message"), "content")
        return content if isinstance(content, str) else None
    blocks = [
        part
        for block in (answer.get("content"), *(get(item, "content") for item in answer.get("output") or ()))
        if isinstance(block, list)
        for part in block
    ]
    texts = [get(part, "text") for part in blocks if isinstance(get(part, "text"), str)]
    return "\n".join(texts) if texts else None
