"""LangGraph: every graph run is a workflow, or an agent where a factory of agents has made the graph."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.core.step import pauses
from seatrace.shapes.langchain_messages import message, messages

from ._steps import step, stepped

_FACTORIES = ("langchain.agents.factory", "langgraph.prebuilt.chat_agent_executor")
"""Where ``create_agent`` and ``create_react_agent`` define their graphs' nodes."""


def patch(module: ModuleType, patches: Patches) -> None:
    """Observes the loaded ``langgraph.pregel``."""
    pauses.add(sys.modules["langgraph.errors"].GraphBubbleUp)
    graph: Any = module.Pregel  # type: ignore[attr-defined]
    for name in ("invoke", "ainvoke", "stream", "astream"):
        patches.replace(graph, name, stepped(_begin, content=_asked, read=_answered))


def _begin(graph: Any, input: Any = None, config: Any = None, *args: Any, **kwargs: Any) -> Call:
    call = step("agent" if _is_agent(graph) else "workflow", "langgraph", graph.name)
    thread = ((config or {}).get("configurable") or {}).get("thread_id")
    if thread is None:
        thread = ((graph.config or {}).get("configurable") or {}).get("thread_id")
    if thread is not None:
        call.conversation_id = str(thread)
    return call


def _is_agent(graph: Any) -> bool:
    for node in graph.nodes.values():
        bound = getattr(node, "bound", None)
        function = getattr(bound, "func", None) or getattr(bound, "afunc", None)
        if getattr(function, "__module__", None) in _FACTORIES:
            return True
    return False


def _asked(graph: Any, input: Any = None, *args: Any, **kwargs: Any) -> Content:
    said = input.get("messages") if isinstance(input, dict) else getattr(input, "messages", None)
    return Content(input_messages=None if said is None else messages(said))


def _answered(call: Call, value: Any) -> None:
    if call.content is not None and (found := _last_message(value)) is not None:
        call.content.output_messages = [message(found)]


def _last_message(value: Any, depth: int = 0) -> Any:
    """The last message in a state, in updates, or in what a stream has yielded of these."""
    if hasattr(value, "tool_call_id") or depth > 4:
        return None
    if getattr(value, "type", None) in ("ai", "AIMessageChunk"):
        return value
    if isinstance(value, dict):
        found = _last_message(value.get("messages"), depth + 1)
        return found if found is not None else _last_message(list(value.values()), depth + 1)
    if isinstance(value, (list, tuple)):
        return next((found for each in reversed(value) if (found := _last_message(each, depth + 1)) is not None), None)
    return None
