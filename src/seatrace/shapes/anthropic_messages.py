"""Anthropic's Messages API (also through Bedrock and Vertex) and its older text completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seatrace.core.record import Call, Content, Kind, Usage
from seatrace.core.shape import (
    COMMON_PARAMETERS,
    Parameters,
    Wire,
    finish_reason,
    get,
    plain,
    read_parameters,
    text,
    whole,
)

from .openai_chat import parsed, sequence, strings

_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

_PARAMETERS: Parameters = {
    **COMMON_PARAMETERS,
    "max_tokens": ("max_tokens", whole),
    "top_k": ("top_k", whole),
    "stop_sequences": ("stop_sequences", strings),
}


class AnthropicMessages:
    """``POST /v1/messages`` (``operation="chat"``) and ``POST /v1/complete`` (``"text_completion"``)."""

    kind: Kind = "inference"

    def __init__(self, operation: str = "chat") -> None:
        self.operation = operation

    def request(self, call: Call, body: Mapping[str, Any]) -> None:
        """Reads the parameters that the conventions know."""
        read = body.get
        read_parameters(call, body, _PARAMETERS)
        if call.max_tokens is None:
            call.max_tokens = whole(read("max_tokens_to_sample"))
        config = read("output_config")
        if config is not None:
            call.reasoning_level = text(get(config, "effort"))
        if get(config, "format") is not None or get(read("output_format"), "type") is not None:
            call.output_type = "json"
        if read("speed") == "fast":
            call.service_tier = "fast"

    def response(self, call: Call, response: Any) -> None:
        """Reads a ``Message``, ``Completion`` or its JSON."""
        call.response_id = text(get(response, "id"))
        call.response_model = text(get(response, "model"))
        if reason := get(response, "stop_reason"):
            call.finish_reasons = [finish_reason(reason)]
        counts: dict[str, Any] = {}
        _gather(counts, get(response, "usage"))
        _settle(call, counts)

    def reader(self, call: Call, *, content: bool) -> MessagesReader:
        """Gathers a stream of ``RawMessageStreamEvent``."""
        return MessagesReader(call, content=content)

    def request_content(self, body: Mapping[str, Any]) -> Content:
        """Messages, system prompt and tools."""
        content = Content()
        if prompt := text(body.get("prompt")):
            content.input_messages = [{"role": "user", "parts": [{"type": "text", "content": prompt}]}]
            return content
        content.input_messages = [message(each) for each in sequence(body.get("messages"))]
        system = body.get("system")
        if isinstance(system, str):
            content.system_instructions = [{"type": "text", "content": system}]
        elif blocks := sequence(system):
            content.system_instructions = [part(each) for each in blocks]
        content.tool_definitions = [
            {"type": get(tool, "type") or "function", "name": get(tool, "name")} for tool in sequence(body.get("tools"))
        ] or None
        return content

    def response_content(self, call: Call, response: Any) -> list[dict[str, Any]]:
        """One assistant message."""
        if isinstance(response, dict):
            response = Wire(response)
        blocks = get(response, "content")
        if blocks is None and (words := text(get(response, "completion"))):
            return _said(call, [{"type": "text", "content": words}])
        return _said(call, [part(block) for block in sequence(blocks)])


class MessagesReader:
    """Follows the events. Counts in ``message_delta`` are cumulative and win over ``message_start``: never add."""

    def __init__(self, call: Call, *, content: bool) -> None:
        self._call = call
        self._content = content
        self._message: Any = None
        self._reason: Any = None
        self._counts: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._completion: Any = None

    def chunk(self, chunk: Any) -> None:
        """Of the many deltas only content is of interest, and only where somebody wants to see it."""
        kind = get(chunk, "type")
        if kind == "content_block_delta":
            if self._content:
                self._extend(get(chunk, "index") or 0, get(chunk, "delta"))
        elif kind == "content_block_start":
            if self._content:
                block = part(get(chunk, "content_block"))
                self._blocks[get(chunk, "index") or 0] = {"part": block, "pieces": []}
        elif kind == "message_start":
            self._message = get(chunk, "message")
            self._reason = get(self._message, "stop_reason")
            _gather(self._counts, get(self._message, "usage"))
        elif kind == "message_delta":
            self._reason = get(get(chunk, "delta"), "stop_reason") or self._reason
            _gather(self._counts, get(chunk, "usage"))
        elif kind == "completion":
            self._completion = chunk
            self._reason = get(chunk, "stop_reason") or self._reason

    def finish(self) -> None:
        """Writes what was noted into the call."""
        call = self._call
        source = self._completion if self._message is None else self._message
        call.response_id = text(get(source, "id"))
        call.response_model = text(get(source, "model"))
        if self._reason:
            call.finish_reasons = [finish_reason(self._reason)]
        _settle(call, self._counts)
        if self._content and call.content is not None:
            call.content.output_messages = _said(call, [_whole(self._blocks[at]) for at in sorted(self._blocks)])

    def _extend(self, index: int, delta: Any) -> None:
        block = self._blocks.get(index)
        if block is not None:
            words = get(delta, "text") or get(delta, "partial_json") or get(delta, "thinking") or get(delta, "content")
            if isinstance(words, str):
                block["pieces"].append(words)


def _gather(counts: dict[str, Any], usage: Any) -> None:
    """Adds what ``usage`` says to ``counts``; a count of ``None`` says nothing."""
    if usage is None:
        return
    counts.update(_tokens(usage))
    thought = whole(get(get(usage, "output_tokens_details"), "thinking_tokens"))
    if thought is not None:
        counts["thinking"] = thought
    searches = whole(get(get(usage, "server_tool_use"), "web_search_requests"))
    if searches is not None:
        counts["searches"] = searches
    for name in ("service_tier", "speed"):
        if word := text(get(usage, name)):
            counts[name] = word
    # A count of the whole answer leaves out what was used to compact the conversation, and by an advising model.
    iterations = sequence(get(usage, "iterations"))
    if iterations:
        counts["compactions"] = [_tokens(each) for each in iterations if get(each, "type") == "compaction"]
        counts["advice"] = [
            (model, _tokens(each))
            for each in iterations
            if get(each, "type") == "advisor_message" and (model := text(get(each, "model")))
        ]


def _tokens(usage: Any) -> dict[str, int]:
    tokens = {name: whole(get(usage, name)) for name in _COUNTS}
    tokens["1h"] = whole(get(get(usage, "cache_creation"), "ephemeral_1h_input_tokens"))
    return {name: count for name, count in tokens.items() if count is not None}


def _settle(call: Call, counts: dict[str, Any]) -> None:
    """Writes the counts into the call; the tokens of compactions are its own."""
    if not counts:
        return
    for compaction in counts.get("compactions", ()):
        call.compacted = True
        for name, count in compaction.items():
            counts[name] = counts.get(name, 0) + count
    fast = counts.get("speed") == "fast"  # priced like a tier, and said beside it
    call.response_service_tier = "fast" if fast else counts.get("service_tier") or counts.get("speed")
    call.advice = [(model, _usage(tokens)) for model, tokens in counts.get("advice", ())] or None
    call.usage = _usage(counts)


def _usage(counts: Mapping[str, Any]) -> Usage:
    """Anthropic's ``input_tokens`` leaves cached ones out; the conventions (and bills) want them in."""
    read, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
    sent = [count for count in (counts.get("input_tokens"), read, written) if count is not None]
    return Usage(
        input_tokens=sum(sent) if sent else None,
        output_tokens=counts.get("output_tokens"),
        cache_read=read,
        cache_write=written,
        cache_write_1h=counts.get("1h"),
        reasoning=counts.get("thinking"),
        web_searches=counts.get("searches"),
    )


class AnthropicCount:
    """``POST /v1/messages/count_tokens``: an operation of its own, no inference and no usage."""

    kind: Kind = "operation"
    operation = "count_tokens"

    def request(self, call: Call, body: Mapping[str, Any]) -> None:
        """The model."""
        call.request_model = text(body.get("model"))

    def response(self, call: Call, response: Any) -> None:
        """The count is an answer, not a use of tokens: nothing of it belongs to the call."""

    def reader(self, call: Call, *, content: bool) -> MessagesReader:
        """Never streamed."""
        return MessagesReader(call, content=False)

    def request_content(self, body: Mapping[str, Any]) -> Content:
        """As of a message."""
        return AnthropicMessages().request_content(body)

    def response_content(self, call: Call, response: Any) -> list[dict[str, Any]]:
        """Nothing is said."""
        return []


# --- messages in the conventions' form ----------------------------------------------------------------------------


def _said(call: Call, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not parts:
        return []
    said: dict[str, Any] = {"role": "assistant", "parts": parts}
    if call.finish_reasons:
        said["finish_reason"] = call.finish_reasons[0]
    return [said]


def _whole(block: dict[str, Any]) -> dict[str, Any]:
    whole_part: dict[str, Any] = block["part"]
    words = "".join(block["pieces"])
    if words:
        key = "arguments" if whole_part["type"] in ("tool_call", "server_tool_call") else "content"
        whole_part[key] = parsed(words) if key == "arguments" else words
    return whole_part


def message(given: Any) -> dict[str, Any]:
    """A message of a request."""
    content = get(given, "content")
    if isinstance(content, str):
        parts = [{"type": "text", "content": content}]
    else:
        parts = [part(block) for block in sequence(content)]
    return {"role": get(given, "role") or "user", "parts": parts}


def part(block: Any) -> dict[str, Any]:
    """One content block."""
    kind = get(block, "type")
    if kind == "text":
        return {"type": "text", "content": get(block, "text")}
    if kind == "thinking":
        return {"type": "reasoning", "content": get(block, "thinking")}
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        name = "tool_call" if kind == "tool_use" else "server_tool_call"
        return {
            "type": name,
            "id": get(block, "id"),
            "name": get(block, "name"),
            "arguments": plain(get(block, "input")),
        }
    if isinstance(kind, str) and kind.endswith("tool_result"):
        name = "tool_call_response" if kind == "tool_result" else "server_tool_call_response"
        result = get(block, "content")
        if isinstance(result, (list, tuple)):
            result = [part(each) for each in result]
        elif not isinstance(result, str):
            result = None
        return {"type": name, "id": get(block, "tool_use_id"), "response": result}
    if kind == "compaction":
        return {"type": "compaction", "content": get(block, "content")}
    if kind in ("image", "document"):
        return _media(kind, get(block, "source"))
    return {"type": "generic", "generic_type": str(kind)}


def _media(kind: str, source: Any) -> dict[str, Any]:
    origin = get(source, "type")
    if origin == "base64":
        mime = get(source, "media_type")
        return {"type": "blob", "modality": kind, "mime_type": mime, "content": get(source, "data")}
    if origin == "text":
        return {"type": "text", "content": get(source, "data")}
    if origin == "url":
        return {"type": "uri", "modality": kind, "uri": get(source, "url")}
    if origin == "file":
        return {"type": "file", "modality": kind, "file_id": get(source, "file_id")}
    return {"type": "generic", "generic_type": str(kind)}
