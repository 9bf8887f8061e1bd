"""Spans that others make of the call that we are about to observe: a framework's own tracing, another instrumentation.

Such a span is the current one when the call reaches us. It is enriched then, and no second one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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

_SPAN_NAMES: Final[Mapping[str, str]] = {
    "agent run": "agent",
    "running tool": "tool",
    "invoke_agent": "agent",
    "execute_tool": "tool",
}
"""The same by the span's name or its first word, where its attributes do not tell: pydantic-ai before 2.0."""

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "tool": (names.TOOL_NAME, "tool.name", "traceloop.entity.name"),
    "agent": (names.AGENT_NAME, "agent.name", "traceloop.entity.name", "agent_name"),
    "workflow": (names.AGENT_NAME, names.WORKFLOW_NAME_LEGACY, "traceloop.entity.name"),
}
"""Where a span of a kind has the name of what it is about. Model calls need none: one within another is that one."""


def stands_for(span: Any, call: Call) -> bool:
    """Whether ``span``, which is open around ``call``, is another's span of the same call."""
    if not span.is_recording():
        return False
    scope = getattr(span, "instrumentation_scope", None)
    attributes = getattr(span, "attributes", None)
    if not attributes or scope is None or scope.name == _OURS:
        return False
    if call.kind not in _told_kinds(span, attributes):
        return False
    wanted = _NAMES.get(call.kind)
    return wanted is None or call.name is None or any(attributes.get(each) == call.name for each in wanted)


def _told_kinds(span: Any, attributes: Mapping[str, Any]) -> set[str | None]:
    told = {kinds.get(attributes[key]) for key, kinds in _KINDS.items() if key in attributes}
    name = str(span.name)
    return told or {_SPAN_NAMES.get(name) or _SPAN_NAMES.get(name.partition(" ")[0])}
