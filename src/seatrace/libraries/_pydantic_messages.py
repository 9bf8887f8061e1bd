"""The messages of pydantic-ai in the conventions' form, and what its responses say of usage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from seatrace.core.record import Call, Usage


def messages(history: Iterable[Any]) -> list[dict[str, Any]]:
    """A conversation, request by request and response by response."""
    found: list[dict[str, Any]] = []
    for each in history:
        for part in each.parts:
            role = _ROLES.get(part.part_kind, "user" if each.kind == "request" else "assistant")
            if found and found[-1]["role"] == role:
                found[-1]["parts"].append(_part(part))
            else:
                found.append({"role": role, "parts": [_part(part)]})
    return found


_ROLES = {"system-prompt": "system", "tool-return": "tool", "retry-prompt": "tool"}


def _part(part: Any) -> dict[str, Any]:
    kind = part.part_kind
    if kind == "tool-call":
        return {"type": "tool_call", "id": part.tool_call_id, "name": part.tool_name, "arguments": part.args}
    content = getattr(part, "content", None)
    if kind in ("tool-return", "retry-prompt"):
        return {"type": "tool_call_response", "id": part.tool_call_id, "response": content}
    words = content if isinstance(content, str) else repr(content)
    return {"type": "reasoning" if kind == "thinking" else "text", "content": words}


def read_response(call: Call, response: Any) -> None:
    """Usage, model, id and reason of a response; where content is captured, its words."""
    call.response_model = response.model_name
    call.response_id = getattr(response, "provider_response_id", None)
    reason = getattr(response, "finish_reason", None)
    call.finish_reasons = [reason] if reason else None
    usage = response.usage
    if usage is not None and (usage.input_tokens or usage.output_tokens):  # zeros are what it has where nothing is said
        call.usage = Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read=usage.cache_read_tokens or None,
            cache_write=usage.cache_write_tokens or None,
            audio_input=usage.input_audio_tokens or None,
            audio_output=getattr(usage, "output_audio_tokens", None) or None,
            audio_cache_read=usage.cache_audio_read_tokens or None,
            reasoning=(usage.details or {}).get("reasoning_tokens"),
        )
    if call.content is not None:
        call.content.output_messages = messages([response])
