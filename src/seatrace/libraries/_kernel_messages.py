"""Semantic Kernel's messages, as the conventions have them."""

from __future__ import annotations

from typing import Any

from seatrace.core.record import Call, Content
from seatrace.core.shape import get


def asked(self: Any, given: Any = None, *args: Any, **kwargs: Any) -> Content:
    """What an agent or an orchestration is given: words, messages, or something of the program's own."""
    given = kwargs.get("messages", kwargs.get("task", given))
    return Content(input_messages=messages(given if isinstance(given, list) else [given] if given else []))


def said(call: Call, answer: Any) -> None:
    """What came of it: messages, each alone or in an item of an agent's answer; or something of the program's own."""
    if call.content is None:
        return
    items = [get(each, "message") or each for each in (answer if isinstance(answer, list) else [answer])]
    if items and hasattr(items[0], "choice_index"):  # chunks of one message
        items = ["".join(each.content or "" for each in items)]
    call.content.output_messages = messages(items, "assistant")


def messages(given: Any, role: str = "user") -> list[dict[str, Any]]:
    """``given`` with the roles that they have; ``role`` for what is no message of Semantic Kernel."""
    return [_message(each, role) for each in given]


def _message(each: Any, role: str) -> dict[str, Any]:
    words = each.content if hasattr(each, "role") else str(each)
    role = getattr(each, "role", role)
    return {"role": str(getattr(role, "value", role)), "parts": [{"type": "text", "content": words}] if words else []}
