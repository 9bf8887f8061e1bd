"""What an answer of a model says about itself, whatever made it: why it ended, what it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from seatrace.core.record import Call
from seatrace.core.shape import Shape, get
from seatrace.shapes.anthropic_messages import AnthropicMessages
from seatrace.shapes.openai_chat import OpenAIChat
from seatrace.shapes.openai_responses import OpenAIResponses

_CHAT, _MESSAGES, _RESPONSES = OpenAIChat(), AnthropicMessages(), OpenAIResponses()


def shape_of(answer: Any) -> Shape | None:
    """The shape that reads ``answer``, an answer or one chunk of a stream; ``None`` where it is of no known format."""
    if not isinstance(answer, Mapping):
        return None
    kind = answer.get("type")
    if isinstance(answer.get("choices"), list):
        return _CHAT
    if kind in ("message", "completion") or (isinstance(kind, str) and kind.startswith(("message_", "content_block_"))):
        return _MESSAGES
    if answer.get("object") == "response" or (isinstance(kind, str) and kind.startswith("response.")):
        return _RESPONSES
    return None


def read(answer: Any) -> Call | None:
    """The record of a complete answer, as JSON data."""
    shape = shape_of(answer)
    if shape is None:
        return None
    call = Call(shape.kind, shape.operation)
    shape.response(call, answer)
    return call


def read_chunks(chunks: Iterable[Any], shape: Shape | None = None) -> Call | None:
    """The record of a streamed answer, given its chunks as JSON data."""
    call, reader = None, None
    for chunk in chunks:
        if reader is None or call is None:
            shape = shape or shape_of(chunk)
            if shape is None:
                return None
            call = Call(shape.kind, shape.operation, stream=True)
            reader = shape.reader(call, content=False)
        reader.chunk(chunk)
    if reader is not None:
        reader.finish()
    return call


def refuses(answer: Any) -> bool:
    """Whether a model declined, somewhere in ``answer``: OpenAI says so in a field, and ends with ``stop`` all the
    same."""
    return _anywhere(answer, lambda node: bool(node.get("refusal")) or node.get("type") == "refusal")


_TOOL_CALLS = frozenset({"tool_use", "function_call", "custom_tool_call"})


def calls_tools(answer: Any) -> bool:
    """Whether a model calls a tool of the program's: where that was forced, OpenAI's answers end with ``stop``, too."""
    return _anywhere(
        answer,
        lambda node: bool(node.get("tool_calls") or node.get("function_call")) or node.get("type") in _TOOL_CALLS,
    )


def _anywhere(tree: Any, holds: Callable[[Mapping[str, Any]], bool]) -> bool:
    if isinstance(tree, Mapping):
        return holds(tree) or any(_anywhere(item, holds) for item in tree.values())
    return isinstance(tree, list) and any(_anywhere(item, holds) for item in tree)


def failed(answer: Any) -> bool:
    """Whether a tool says that it failed: ``{"error": …}``, or MCP's ``isError``."""
    return any(bool(get(answer, name)) for name in ("error", "isError", "is_error"))
