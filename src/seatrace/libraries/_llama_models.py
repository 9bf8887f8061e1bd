"""LlamaIndex's models and embeddings, and its messages in the conventions' form."""

from __future__ import annotations

from typing import Any

from seatrace.core.record import Call, Content

from ._models import model_call
from ._usage import usage_in
from .providers import provider_named

LIBRARY = "llama_index.core"


def _model(model: Any, *args: Any, **kwargs: Any) -> Call:
    return _model_call(Call("inference", "chat", LIBRARY), model, "llama_index.llms.")


def _embedding(model: Any, *args: Any, **kwargs: Any) -> Call:
    return _model_call(Call("embeddings", "embeddings", LIBRARY), model, "llama_index.embeddings.")


def _model_call(call: Call, model: Any, packages: str) -> Call:
    name = getattr(model, "model", None) or getattr(model, "model_name", None)
    call.request_model = name if isinstance(name, str) and name != "unknown" else None
    package = type(model).__module__
    if package.startswith(packages):
        word = package.removeprefix(packages).split(".")[0]
        call.provider = provider_named(word)
    return call


def _asked_content(model: Any, asked: Any = None, *args: Any, **kwargs: Any) -> Content:
    given = next((each for each in (asked, kwargs.get("messages"), kwargs.get("prompt")) if each is not None), ())
    return Content(input_messages=[message(each) for each in ([given] if isinstance(given, str) else list(given))])


def _spoken(call: Call, value: Any) -> None:
    """An answer, or a chunk, whose words and counts are those until then."""
    usage = usage_in(value.raw, value.additional_kwargs)
    if usage is not None:
        call.usage = usage
    if call.content is not None:
        said = value.message if hasattr(value, "message") else value.text
        call.content.output_messages = [message(said, "assistant")]


def message(said: Any, role: str = "user") -> dict[str, Any]:
    if isinstance(said, str):
        return {"role": role, "parts": [{"type": "text", "content": said}]}
    return {"role": getattr(said.role, "value", said.role), "parts": [_part(block) for block in said.blocks]}


def _part(block: Any) -> dict[str, Any]:
    kind = getattr(block, "block_type", "generic")
    if kind == "text":
        return {"type": "text", "content": block.text}
    if kind == "thinking":
        return {"type": "reasoning", "content": block.content}
    if kind == "tool_call":
        return {
            "type": "tool_call",
            "id": block.tool_call_id,
            "name": block.tool_name,
            "arguments": block.tool_kwargs,
        }
    return {"type": kind}


chat = model_call(_model, content=_asked_content, read=_spoken, chunk=_spoken)
"""For what asks a model, for a chat or a completion."""

embed = model_call(_embedding)
"""For what asks for embeddings."""
