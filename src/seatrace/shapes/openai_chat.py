"""OpenAI chat completions and the older text completions: the format that most hosts of models speak."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from seatrace.core.record import Call, Content, Kind
from seatrace.core.shape import (
    COMMON_PARAMETERS,
    Parameters,
    Wire,
    finish_reason,
    get,
    number,
    read_parameters,
    text,
    whole,
)

from ._openai_usage import read_usage


def _stop(given: Any) -> list[str] | None:
    return strings([given] if isinstance(given, str) else given)


def _output_type(form: Any) -> str | None:
    return text_or_json(get(form, "type"))


def choice_count(given: Any) -> int | None:
    """How many answers are asked for, where that is not one."""
    count = whole(given)
    return None if count == 1 else count


def text_or_json(form: Any) -> str | None:
    """``gen_ai.output.type`` by the type of the form that an answer is to have."""
    return None if form is None else "text" if form == "text" else "json"


_PARAMETERS: Parameters = {
    **COMMON_PARAMETERS,
    "max_completion_tokens": ("max_tokens", whole),
    "frequency_penalty": ("frequency_penalty", number),
    "presence_penalty": ("presence_penalty", number),
    "seed": ("seed", whole),
    "top_k": ("top_k", whole),
    "stop": ("stop_sequences", _stop),
    "n": ("choice_count", choice_count),
    "reasoning_effort": ("reasoning_level", text),
    "response_format": ("output_type", _output_type),
}


class OpenAIChat:
    """``POST /chat/completions`` (``operation="chat"``) and ``POST /completions`` (``"text_completion"``)."""

    kind: Kind = "inference"

    def __init__(self, operation: str = "chat") -> None:
        self.operation = operation
        self.api_type = "chat_completions" if operation == "chat" else None

    def request(self, call: Call, body: Mapping[str, Any]) -> None:
        """Reads the parameters that the conventions know."""
        call.api_type = self.api_type
        read_parameters(call, body, _PARAMETERS)
        if call.max_tokens is None:
            call.max_tokens = whole(body.get("max_tokens"))
        if call.reasoning_level is None:
            call.reasoning_level = text(get(body.get("reasoning"), "effort"))

    def response(self, call: Call, response: Any) -> None:
        """Reads a ``ChatCompletion``, ``Completion`` or its JSON."""
        call.response_id = text(get(response, "id"))
        call.response_model = text(get(response, "model"))
        call.response_service_tier = text(get(response, "service_tier"))
        call.system_fingerprint = text(get(response, "system_fingerprint"))
        choices = get(response, "choices")
        reasons = [reason for each in choices or () if (reason := get(each, "finish_reason"))]
        if reasons:
            call.finish_reasons = [finish_reason(reason) for reason in reasons]
        elif not choices and get(response, "error"):  # under status 200: to the client library that is an answer
            call.finish_reasons = ["error"]
        read_usage(call, get(response, "usage"))

    def reader(self, call: Call, *, content: bool) -> ChatReader:
        """Gathers a stream of ``ChatCompletionChunk`` or ``Completion``."""
        return ChatReader(call, content=content)

    def request_content(self, body: Mapping[str, Any]) -> Content:
        """Messages, or the prompt of a text completion, and tools."""
        content = Content()
        if self.operation == "chat":
            content.input_messages = [chat_message(each) for each in sequence(body.get("messages"))]
            content.tool_definitions = [tool_definition(each) for each in sequence(body.get("tools"))] or None
        elif isinstance(prompt := body.get("prompt"), (str, list)):
            prompts = [prompt] if isinstance(prompt, str) else prompt
            content.input_messages = [
                {"role": "user", "parts": [{"type": "text", "content": each}]}
                for each in prompts
                if isinstance(each, str)
            ]
        return content

    def response_content(self, call: Call, response: Any) -> list[dict[str, Any]]:
        """One message a choice."""
        if isinstance(response, dict):
            response = Wire(response)
        messages = []
        for choice in get(response, "choices") or ():
            message = get(choice, "message")
            if message is not None:
                said = chat_message(message)
            elif isinstance(words := get(choice, "text"), str):
                said = {"role": "assistant", "parts": [{"type": "text", "content": words}]}
            else:
                continue
            if reason := get(choice, "finish_reason"):
                said["finish_reason"] = finish_reason(reason)
            messages.append(said)
        return messages


class ChatReader:
    """Notes id, model, finish reasons and usage of a chat stream; the last ``usage`` wins (Perplexity repeats it)."""

    def __init__(self, call: Call, *, content: bool) -> None:
        self._call = call
        self._content = content
        self._groq = call.provider == "groq"
        self._id: Any = None
        self._model: Any = None
        self._last: Any = None
        self._usage: Any = None
        self._finish: dict[int, str] = {}
        self._said: dict[int, dict[str, Any]] = {}

    def chunk(self, chunk: Any) -> None:
        """Reads by attribute: dumping a chunk costs twenty times as much."""
        if type(chunk) is dict:
            chunk = Wire(chunk)
        self._last = chunk
        if not self._id:  # required fields may be missing all the same: client libraries do not validate
            self._id = getattr(chunk, "id", None)
            self._model = getattr(chunk, "model", None)
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self._usage = usage
        if self._groq and (groq := getattr(chunk, "x_groq", None)) and (usage := get(groq, "usage")):
            self._usage = usage
        for choice in getattr(chunk, "choices", None) or ():
            reason = choice.finish_reason
            if reason:
                self._finish[getattr(choice, "index", None) or 0] = reason
            if self._content:
                self._say(choice)

    def finish(self) -> None:
        """Writes what was noted into the call."""
        call, last = self._call, self._last
        if last is None:
            return
        call.response_id = text(get(last, "id")) or text(self._id)
        call.response_model = text(get(last, "model")) or text(self._model)
        call.response_service_tier = text(get(last, "service_tier"))
        call.system_fingerprint = text(get(last, "system_fingerprint"))
        if self._finish:
            call.finish_reasons = [finish_reason(self._finish[index]) for index in sorted(self._finish)]
        read_usage(call, self._usage)
        if self._content and call.content is not None:
            call.content.output_messages = self._messages()

    def _say(self, choice: Any) -> None:
        index = get(choice, "index") or 0
        said = self._said.setdefault(index, {"text": [], "reasoning": [], "refusal": [], "tools": {}})
        delta = get(choice, "delta")
        if delta is None:
            said["text"].append(get(choice, "text") or "")
            return
        said["text"].append(get(delta, "content") or get(get(delta, "audio"), "transcript") or "")
        said["reasoning"].append(text(get(delta, "reasoning_content")) or text(get(delta, "reasoning")) or "")
        said["refusal"].append(get(delta, "refusal") or "")
        for position, part in enumerate(get(delta, "tool_calls") or ()):
            at = get(part, "index")
            tool = said["tools"].setdefault(position if at is None else at, {"id": None, "name": "", "arguments": []})
            called = get(part, "function") or get(part, "custom")
            tool["id"] = tool["id"] or get(part, "id")
            tool["name"] = tool["name"] or get(called, "name") or ""
            tool["arguments"].append(get(called, "arguments") or get(called, "input") or "")

    def _messages(self) -> list[dict[str, Any]]:
        messages = []
        for index in sorted(self._said):
            said, parts = self._said[index], []
            if reasoning := "".join(said["reasoning"]):
                parts.append({"type": "reasoning", "content": reasoning})
            if words := "".join(said["text"]) or "".join(said["refusal"]):
                parts.append({"type": "text", "content": words})
            for at in sorted(said["tools"]):
                tool = said["tools"][at]
                parts.append(tool_call(tool["id"], tool["name"], "".join(tool["arguments"])))
            message: dict[str, Any] = {"role": "assistant", "parts": parts}
            if index in self._finish:
                message["finish_reason"] = finish_reason(self._finish[index])
            messages.append(message)
        return messages


# --- messages in the conventions' form ----------------------------------------------------------------------------


def sequence(value: Any) -> list[Any]:
    """``value`` where it is a list or tuple; iterators are left alone, they are not ours to consume."""
    return list(value) if isinstance(value, (list, tuple)) else []


def strings(value: Any) -> list[str] | None:
    """The strings in a list, ``None`` for anything else."""
    return [each for each in map(text, sequence(value)) if each is not None] or None


def parsed(arguments: Any) -> Any:
    """Tool arguments as the object they encode, or as they came."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def tool_call(identifier: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A ``tool_call`` part."""
    return {"type": "tool_call", "id": identifier, "name": name, "arguments": parsed(arguments)}


def tool_definition(tool: Any) -> dict[str, Any]:
    """Type and name alone: descriptions and schemas are opt-in in the conventions."""
    return {"type": get(tool, "type") or "function", "name": get(tool, "name") or get(get(tool, "function"), "name")}


def data_part(kind: str, url: str) -> dict[str, Any]:
    """A ``uri`` part, or a ``blob`` part where the url is a data url."""
    if not url.startswith("data:"):
        return {"type": "uri", "modality": kind, "uri": url}
    head, _, content = url.partition(",")
    return {"type": "blob", "modality": kind, "mime_type": head[5:].split(";")[0], "content": content}


def chat_part(part: Any) -> dict[str, Any]:
    """One content part of a chat message."""
    if isinstance(part, str):
        return {"type": "text", "content": part}
    kind = get(part, "type")
    if kind == "text":
        return {"type": "text", "content": get(part, "text")}
    if kind == "refusal":
        return {"type": "text", "content": get(part, "refusal")}
    if kind == "image_url" and isinstance(url := get(get(part, "image_url"), "url"), str):
        return data_part("image", url)
    if kind == "input_audio":
        audio = get(part, "input_audio")
        mime = f"audio/{get(audio, 'format')}"
        return {"type": "blob", "modality": "audio", "mime_type": mime, "content": get(audio, "data")}
    if kind == "file":
        return file_part("document", get(part, "file"))
    return {"type": "generic", "generic_type": str(kind)}


def file_part(kind: str, file: Any) -> dict[str, Any]:
    """A file that is named, linked or sent along."""
    if identifier := text(get(file, "file_id")):
        return {"type": "file", "modality": kind, "file_id": identifier}
    if url := text(get(file, "file_data")) or text(get(file, "file_url")):
        return data_part(kind, url)
    return {"type": "generic", "generic_type": "file"}


def chat_message(message: Any) -> dict[str, Any]:
    """A chat message of a request or a response."""
    role = get(message, "role") or "assistant"
    content = get(message, "content")
    if role == "tool":
        result = content if isinstance(content, str) else [chat_part(each) for each in sequence(content)]
        part = {"type": "tool_call_response", "id": get(message, "tool_call_id"), "response": result}
        return {"role": "tool", "parts": [part]}
    parts: list[dict[str, Any]] = []
    if reasoning := text(get(message, "reasoning_content")) or text(get(message, "reasoning")):
        parts.append({"type": "reasoning", "content": reasoning})
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    else:
        parts.extend(chat_part(each) for each in sequence(content))
    if refusal := text(get(message, "refusal")):
        parts.append({"type": "text", "content": refusal})
    if audio := get(message, "audio"):
        parts.append(_spoken(audio))
    for call in sequence(get(message, "tool_calls")):
        function = get(call, "function") or get(call, "custom")
        arguments = get(function, "arguments")
        parts.append(
            tool_call(
                get(call, "id"), get(function, "name"), get(function, "input") if arguments is None else arguments
            )
        )
    said: dict[str, Any] = {"role": role, "parts": parts}
    if name := text(get(message, "name")):
        said["name"] = name
    return said


def _spoken(audio: Any) -> dict[str, Any]:
    """What was said in an audio answer; a message that is sent back only names it."""
    if words := text(get(audio, "transcript")):
        return {"type": "text", "content": words}
    return {"type": "file", "modality": "audio", "file_id": get(audio, "id")}
