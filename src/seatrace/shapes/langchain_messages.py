"""LangChain's own form of messages, usage and results, which is the same for every provider's model."""

from __future__ import annotations

from typing import Any

from seatrace.core.record import Call, Usage
from seatrace.core.shape import get, text

from .anthropic_messages import part as anthropic_part
from .openai_chat import chat_part, parsed, sequence

_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "function": "tool"}
_CALLS = ("tool_use", "tool_call", "tool_call_chunk", "function_call")
"""Content blocks that ``tool_calls`` repeats."""

_REASONS = ("finish_reason", "stop_reason", "stopReason", "done_reason")


def message(given: Any) -> dict[str, Any]:
    """A message, or what LangChain takes for one: a text, ``(role, text)``, a dict."""
    if isinstance(given, str):
        return {"role": "user", "parts": [{"type": "text", "content": given}]}
    if isinstance(given, (tuple, list)) and len(given) == 2:
        given = {"role": given[0], "content": given[1]}
    word = text(get(given, "role")) or text(get(given, "type")) or "user"
    role = _ROLES.get(word, word)
    parts = _parts(get(given, "content"))
    if role == "tool":
        said = parts[0]["content"] if len(parts) == 1 and parts[0]["type"] == "text" else parts
        return {"role": role, "parts": [response(get(given, "tool_call_id"), said)]}
    for call in sequence(get(given, "tool_calls")):
        function = get(call, "function") or call
        arguments = get(function, "args")
        arguments = get(function, "arguments") if arguments is None else arguments
        name = get(function, "name")
        parts.append({"type": "tool_call", "id": get(call, "id"), "name": name, "arguments": arguments})
    return {"role": role, "parts": parts}


def response(identifier: Any, said: Any) -> dict[str, Any]:
    """A ``tool_call_response`` part."""
    return {"type": "tool_call_response", "id": identifier, "response": said}


def messages(given: Any) -> list[dict[str, Any]]:
    """A list of messages, or one."""
    if hasattr(given, "to_messages"):
        given = given.to_messages()
    return [message(each) for each in (given if isinstance(given, list) else [given])]


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    return [_part(each) for each in sequence(content) if get(each, "type") not in _CALLS]


def _part(block: Any) -> dict[str, Any]:
    if get(block, "type") == "reasoning":
        return {"type": "reasoning", "content": get(block, "reasoning")}
    part = chat_part(block)
    return anthropic_part(block) if part["type"] == "generic" else part


def read_message(call: Call, said: Any) -> None:
    """Usage, model, id and finish reason of a model's message; of a stream's chunk, what it adds."""
    usage = getattr(said, "usage_metadata", None)
    if usage:
        add_usage(call, usage)
    read_metadata(call, getattr(said, "response_metadata", None))


def read_metadata(call: Call, about: Any) -> None:
    """What a provider told of its answer."""
    if not about or not isinstance(about, dict):
        return
    call.response_id = text(about.get("id")) or call.response_id
    call.response_model = text(about.get("model_name")) or text(about.get("model")) or call.response_model
    for key in _REASONS:
        if reason := text(about.get(key)):
            call.finish_reasons = [reason]


def add_usage(call: Call, given: dict[str, Any]) -> None:
    """LangChain's ``UsageMetadata``, its totals with all that is in its details. The chunks of a stream carry shares of
    it."""
    usage = call.usage = call.usage or Usage()
    usage.input_tokens = _plus(usage.input_tokens, given.get("input_tokens"))
    usage.output_tokens = _plus(usage.output_tokens, given.get("output_tokens"))
    if inputs := given.get("input_token_details"):
        usage.cache_read = _plus(usage.cache_read, inputs.get("cache_read"))
        usage.cache_write = _plus(usage.cache_write, inputs.get("cache_creation"))
        usage.cache_write_1h = _plus(usage.cache_write_1h, inputs.get("ephemeral_1h_input_tokens"))
        usage.audio_input = _plus(usage.audio_input, inputs.get("audio"))
    if outputs := given.get("output_token_details"):
        usage.reasoning = _plus(usage.reasoning, outputs.get("reasoning"))
        usage.audio_output = _plus(usage.audio_output, outputs.get("audio"))


def _plus(known: int | None, more: Any) -> int | None:
    return known if not isinstance(more, int) else more if known is None else known + more


def read_result(call: Call, result: Any) -> None:
    """A complete ``ChatResult`` or ``LLMResult``."""
    answers = [each for group in sequence(get(result, "generations")) for each in sequence(group) or [group]]
    told = get(result, "llm_output")
    if counted := get(told, "token_usage"):
        call.usage = Usage(_plus(None, get(counted, "prompt_tokens")), _plus(None, get(counted, "completion_tokens")))
    read_metadata(call, told)
    reasons: list[str] = []
    for number, answer in enumerate(answers):
        call.finish_reasons = None
        said = getattr(answer, "message", None)
        read_metadata(call, getattr(answer, "generation_info", None))
        read_metadata(call, getattr(said, "response_metadata", None))
        if number == 0 and (usage := getattr(said, "usage_metadata", None)):
            call.usage = None  # the same in LangChain's own words, and complete
            add_usage(call, usage)
        reasons.extend(call.finish_reasons or ())
    call.finish_reasons = reasons or None
    if call.content is not None:
        call.content.output_messages = [message(get(each, "message") or _spoken(get(each, "text"))) for each in answers]


def read_chunk(call: Call, chunk: Any) -> None:
    """One value of a model's stream: a message chunk, or a text."""
    if not isinstance(chunk, str):
        read_message(call, chunk)
    if call.content is not None:
        add_chunk(call, chunk)


def add_chunk(call: Call, chunk: Any) -> None:
    """Its words go on with the answer."""
    parts = _answer(call)
    content = chunk if isinstance(chunk, str) else get(chunk, "content")
    for part in _parts(content):
        last = parts[-1] if parts else None
        if last is not None and last["type"] == part["type"] and isinstance(part.get("content"), str):
            last["content"] += part["content"]
        else:
            parts.append(part)
    for piece in sequence(get(chunk, "tool_call_chunks")):
        if get(piece, "name") or not parts or parts[-1]["type"] != "tool_call":
            parts.append({"type": "tool_call", "id": get(piece, "id"), "name": get(piece, "name"), "arguments": ""})
        parts[-1]["arguments"] += get(piece, "args") or ""


def read_event(call: Call, event: Any) -> None:
    """One event of a model's stream in the protocol of ``stream_events(version="v3")``."""
    kind = get(event, "event")
    read_metadata(call, get(event, "metadata"))
    if kind == "message-finish" and (usage := get(event, "usage")):
        add_usage(call, usage)
    elif kind == "content-block-finish" and call.content is not None:
        block = get(event, "content")
        if get(block, "type") == "tool_call":
            called = {"type": "tool_call", "id": get(block, "id"), "name": get(block, "name")}
            _answer(call).append({**called, "arguments": parsed(get(block, "args"))})
        else:
            _answer(call).extend(_parts([block]))


def _spoken(words: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": words}


def _answer(call: Call) -> list[dict[str, Any]]:
    """The parts of the one answer that a stream builds."""
    assert call.content is not None
    if call.content.output_messages is None:
        call.content.output_messages = [{"role": "assistant", "parts": []}]
    parts: list[dict[str, Any]] = call.content.output_messages[0]["parts"]
    return parts
