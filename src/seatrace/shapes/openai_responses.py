"""OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seatrace.core.record import Call, Content, Kind
from seatrace.core.shape import (
    COMMON_PARAMETERS,
    Parameters,
    Wire,
    finish_reason,
    get,
    read_parameters,
    text,
    whole,
)

from ._openai_usage import read_usage
from .openai_chat import data_part, file_part, sequence, text_or_json, tool_call, tool_definition

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.done"})
_STARTS = frozenset({"response.created", "response.in_progress", "response.queued"})


def _effort(reasoning: Any) -> str | None:
    return text(get(reasoning, "effort"))


def _output_type(config: Any) -> str | None:
    return text_or_json(get(get(config, "format"), "type"))


_PARAMETERS: Parameters = {
    **COMMON_PARAMETERS,
    "max_output_tokens": ("max_tokens", whole),
    "reasoning": ("reasoning_level", _effort),
    "previous_response_id": ("previous_response_id", text),
    "text": ("output_type", _output_type),
}


class OpenAIResponses:
    """``POST /responses`` (``operation="chat"``) and ``POST /responses/compact`` (``"compact"``)."""

    kind: Kind = "inference"

    def __init__(self, operation: str = "chat") -> None:
        self.operation = operation

    def request(self, call: Call, body: Mapping[str, Any]) -> None:
        """Reads the parameters that the conventions know."""
        read = body.get
        call.api_type = "responses"
        read_parameters(call, body, _PARAMETERS)
        conversation = read("conversation")
        call.conversation_id = text(conversation) or text(get(conversation, "id"))
        prompt = read("prompt")
        if prompt is not None:
            call.prompt_name = text(get(prompt, "id"))
            call.prompt_version = text(get(prompt, "version"))

    def response(self, call: Call, response: Any) -> None:
        """Reads a ``Response`` or its JSON."""
        call.response_id = text(get(response, "id"))
        call.response_model = text(get(response, "model"))
        call.response_service_tier = text(get(response, "service_tier"))
        if call.conversation_id is None:
            call.conversation_id = text(get(get(response, "conversation"), "id"))
        if call.request_model is None:
            call.request_model = call.response_model
        output = get(response, "output") or ()
        status = get(response, "status")
        kinds = [get(item, "type") for item in output]
        if status == "completed":
            called = "function_call" in kinds or "custom_tool_call" in kinds
            call.finish_reasons = ["tool_call" if called else "stop"]
        elif status == "incomplete":
            reason = get(get(response, "incomplete_details"), "reason") or "incomplete"
            call.finish_reasons = [finish_reason(reason)]
        elif status in ("failed", "cancelled"):
            call.finish_reasons = ["error"]
            call.error_type = text(get(get(response, "error"), "code")) or str(status)
        if "compaction" in kinds:
            call.compacted = True
        read_usage(call, get(response, "usage"))
        searches = sum(kind == "web_search_call" and _searched(item) for kind, item in zip(kinds, output, strict=True))
        if searches and call.usage is not None:
            call.usage.web_searches = searches

    def reader(self, call: Call, *, content: bool) -> ResponsesReader:
        """Gathers a stream of ``ResponseStreamEvent``."""
        return ResponsesReader(self, call, content=content)

    def request_content(self, body: Mapping[str, Any]) -> Content:
        """Input items, instructions and tools."""
        content = Content()
        given = body.get("input")
        if isinstance(given, str):
            content.input_messages = [{"role": "user", "parts": [{"type": "text", "content": given}]}]
        else:
            content.input_messages = [item_message(each) for each in sequence(given)]
        if instructions := text(body.get("instructions")):
            content.system_instructions = [{"type": "text", "content": instructions}]
        content.tool_definitions = [tool_definition(each) for each in sequence(body.get("tools"))] or None
        return content

    def response_content(self, call: Call, response: Any) -> list[dict[str, Any]]:
        """One assistant message out of all output items."""
        if isinstance(response, dict):
            response = Wire(response)
        parts = [part for item in get(response, "output") or () for part in item_message(item)["parts"]]
        if not parts:
            return []
        message: dict[str, Any] = {"role": "assistant", "parts": parts}
        if call.finish_reasons:
            message["finish_reason"] = call.finish_reasons[0]
        return [message]


def _searched(item: Any) -> bool:
    """Of what a web search does, searching is billed; opening a page or looking in it is not."""
    return get(get(item, "action"), "type") in (None, "search")


class ResponsesReader:
    """Keeps the final response that the stream carries; of a stream left early, what its first event told."""

    def __init__(self, shape: OpenAIResponses, call: Call, *, content: bool) -> None:
        self._shape = shape
        self._call = call
        self._content = content
        self._first: Any = None
        self._final: Any = None

    def chunk(self, chunk: Any) -> None:
        """Only the first and the last events carry the response."""
        kind = get(chunk, "type")
        if kind in _ENDS:
            self._final = get(chunk, "response")
        elif kind in _STARTS and self._first is None:
            self._first = get(chunk, "response")

    def finish(self) -> None:
        """Writes what was noted into the call."""
        call = self._call
        if self._final is not None:
            self._shape.response(call, self._final)
            if self._content and call.content is not None:
                call.content.output_messages = self._shape.response_content(call, self._final)
        elif self._first is not None:
            call.response_id = text(get(self._first, "id"))
            call.response_model = text(get(self._first, "model"))


def item_message(item: Any) -> dict[str, Any]:
    """An input or output item as a message."""
    if isinstance(item, str):
        return {"role": "user", "parts": [{"type": "text", "content": item}]}
    kind = get(item, "type")
    if kind in ("function_call", "custom_tool_call"):
        arguments = get(item, "arguments")
        call = tool_call(
            get(item, "call_id"), get(item, "name"), get(item, "input") if arguments is None else arguments
        )
        return {"role": "assistant", "parts": [call]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        part = {"type": "tool_call_response", "id": get(item, "call_id"), "response": get(item, "output")}
        return {"role": "tool", "parts": [part]}
    if kind == "reasoning":
        summary = [get(each, "text") or "" for each in get(item, "summary") or ()]
        parts = [{"type": "reasoning", "content": each} for each in summary]
        return {"role": "assistant", "parts": parts}
    if kind == "compaction":
        return {"role": "assistant", "parts": [{"type": "compaction", "id": get(item, "id")}]}
    if kind is not None and kind.endswith("_call"):
        part = {"type": "server_tool_call", "id": get(item, "id"), "name": kind.removesuffix("_call")}
        return {"role": "assistant", "parts": [part]}
    content = get(item, "content")
    parts = (
        [{"type": "text", "content": content}]
        if isinstance(content, str)
        else [item_part(each) for each in sequence(content)]
    )
    return {"role": get(item, "role") or "assistant", "parts": parts}


def item_part(part: Any) -> dict[str, Any]:
    """One content part of an item."""
    kind = get(part, "type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "content": get(part, "text")}
    if kind == "refusal":
        return {"type": "text", "content": get(part, "refusal")}
    if kind == "input_image" and isinstance(url := get(part, "image_url"), str):
        return data_part("image", url)
    if kind in ("input_image", "input_file"):
        return file_part("image" if kind == "input_image" else "document", part)
    return {"type": "generic", "generic_type": str(kind)}
