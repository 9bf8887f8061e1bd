"""Spans that others make of the call that we are about to observe: a framework's own tracing, another instrumentation.

Such a span is the current one when the call reaches us, as a rule. It is enriched then, and no second one is made. Some
instrumentations start their span and never make it current (OpenLLMetry's of Anthropic, OpenInference's of stream
helpers): where the program imports one of those, a span processor tells which span was started last here.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry.trace import SpanKind

from seatrace.core.record import Call

from . import semconv as names
from ._starter import span_in

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

_ALSO: Final[Mapping[str, str]] = {"workflow": "agent"}
"""What a framework may call it: google-adk's workflows are agents of its."""

_UNNAMED: Final[Mapping[str, str]] = {"invoke_graph": "workflow", "invoke_swarm": "workflow"}
"""Operations of a framework's own that do not say what they are about; they stand for calls of that framework alone."""

_MODELS: Final = (names.REQUEST_MODEL, "llm.model_name", "llm.request.model")


def span_of(call: Call, context: Any) -> Any:
    """Another's open span of the same call, ``None`` where there is none."""
    around = span_in(context)
    if _stands_for(around, call):
        return around
    started = _started.get()
    span = started() if started is not None else None
    if span is None or span.parent != (around.get_span_context() if around.get_span_context().is_valid else None):
        return None
    _started.set(None)  # each is one call
    models = {span.attributes.get(each) for each in _MODELS} - {None} if span.is_recording() else set()
    return span if _stands_for(span, call) and models <= {call.request_model} else None


def _stands_for(span: Any, call: Call) -> bool:
    """Whether ``span``, which is open around ``call``, is another's span of the same call; or the span of the tool,
    ours or another's, that an MCP client's call carries out."""
    if not span.is_recording():
        return False
    if call.exchange is not None:
        return call.kind == "mcp_client" and _executes(span, call.name)
    scope = getattr(span, "instrumentation_scope", None)
    if scope is None or scope.name == _OURS:
        return False
    attributes = getattr(span, "attributes", None)
    if attributes is None:
        return False
    if call.name is not None and span.name == f"{call.operation} {call.name}":
        return True
    if _UNNAMED.get(span.name) == call.kind:
        return bool(scope.name.partition(".")[0] == call.library)
    told = _told_kinds(span, attributes)
    if call.kind not in told and _ALSO.get(call.kind, call.kind) not in told:
        return False
    wanted = _NAMES.get(call.kind)
    return wanted is None or call.name is None or any(attributes.get(each) == call.name for each in wanted)


def _told_kinds(span: Any, attributes: Mapping[str, Any]) -> set[str | None]:
    told = {kinds.get(attributes[key]) for key, kinds in _KINDS.items() if key in attributes}
    name = str(span.name)
    return told or {_SPAN_NAMES.get(name) or _SPAN_NAMES.get(name.partition(" ")[0])}


def _executes(span: Any, tool: str | None) -> bool:
    attributes = getattr(span, "attributes", None) or {}
    return (
        tool is not None
        and getattr(span, "kind", None) is SpanKind.INTERNAL
        and attributes.get(names.OPERATION_NAME) == "execute_tool"
        and attributes.get(names.TOOL_NAME) == tool
    )


# --- spans that are never current -----------------------------------------------------------------------------------

QUIET: Final = ("openinference.instrumentation", "opentelemetry.instrumentation.anthropic")
"""The modules whose import says that such spans may come."""

_started: ContextVar[Any] = ContextVar("seatrace_foreign_span", default=None)
"""The span that another instrumentation started last in this context: a weak reference."""

_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def watch_starts(tracer_provider: Any) -> None:
    """Notices spans that others start with this provider, if it is one of the SDK."""
    if tracer_provider in _watched or not hasattr(tracer_provider, "add_span_processor"):
        return
    from opentelemetry.sdk.trace import SpanProcessor

    class Starts(SpanProcessor):
        """Remembers what was started."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            """A span begins."""
            if getattr(getattr(span, "instrumentation_scope", None), "name", None) != _OURS:
                _started.set(weakref.ref(span))

    _watched.add(tracer_provider)
    tracer_provider.add_span_processor(Starts())
