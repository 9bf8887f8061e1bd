"""Spans that others make of the call that we are about to observe: a framework's own tracing, another instrumentation.

Such a span is the current one when the call reaches us. It is enriched then, and no second one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import SpanKind

from seatrace.core.record import Call

from . import semconv as names

_OURS: Final = "seatrace"

_KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    names.OPERATION_NAME: {
        "chat": "inference",
        "generate_content": "inference",
        "text_completion": "inference",
        "embeddings": "embeddings",
        "retrieval": "retrieval",
        "execute_tool": "tool",
        "invoke_agent": "agent",
        "invoke_workflow": "workflow",
    },
    "openinference.span.kind": {
        "LLM": "inference",
        "EMBEDDING": "embeddings",
        "RETRIEVER": "retrieval",
        "TOOL": "tool",
        "AGENT": "agent",
    },
    "llm.request.type": {
        "chat": "inference",
        "completion": "inference",
        "embedding": "embeddings",
    },
    "traceloop.span.kind": {"tool": "tool", "agent": "agent", "workflow": "workflow"},
}
"""Which kind of call a span is, by the attributes of OpenTelemetry, OpenInference and OpenLLMetry."""

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "tool": (names.TOOL_NAME, "tool.name", "traceloop.entity.name"),
    "agent": (names.AGENT_NAME, "agent.name", "traceloop.entity.name"),
    "workflow": (names.AGENT_NAME, names.WORKFLOW_NAME_LEGACY, "traceloop.entity.name"),
}
"""Where a span of a kind has the name of what it is about. Model calls need none: one within another is that one."""


def stands_for(span: Any, call: Call) -> bool:
    """Whether ``span``, which is open around ``call``, is another's span of the same call; or the span of the tool,
    ours or another's, that an MCP client's call carries out."""
    if not span.is_recording():
        return False
    if call.kind == "mcp_client":
        return _executes(span, call.name)
    scope = getattr(span, "instrumentation_scope", None)
    attributes = getattr(span, "attributes", None)
    if not attributes or scope is None or scope.name == _OURS:
        return False
    for key, kinds in _KINDS.items():
        word = attributes.get(key)
        if word is not None and kinds.get(word) == call.kind:
            wanted = _NAMES.get(call.kind)
            return wanted is None or any(attributes.get(each) == call.name for each in wanted)
    return False


def _executes(span: Any, tool: str | None) -> bool:
    attributes = getattr(span, "attributes", None) or {}
    return (
        tool is not None
        and getattr(span, "kind", None) is SpanKind.INTERNAL
        and attributes.get(names.OPERATION_NAME) == "execute_tool"
        and attributes.get(names.TOOL_NAME) == tool
    )
