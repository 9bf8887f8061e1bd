"""LangGraph: every graph run is a workflow, or an agent where a factory of agents has made the graph."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.core.step import pauses
from seatrace.shapes.langchain_messages import add_chunk, message, messages

from ._steps import step, stepped

_FACTORIES = ("langchain.agents.factory", "langgraph.prebuilt.chat_agent_executor")
"""Where ``create_agent`` and ``create_react_agent`` define their graphs' nodes."""


def patch(module: ModuleType, patches: Patches) -> None:
    """Observes the loaded ``langgraph.pregel``."""
    pauses.add(sys.modules["langgraph.errors"].GraphBubbleUp)
    graph: Any = module.Pregel
    for name in ("invoke", "ainvoke", "stream", "astream"):
        patches.replace(graph, name, stepped(_begin, content=_asked, read=_answered))


def _begin(graph: Any, input: Any = None, config: Any = None, *args: Any, **kwargs: Any) -> Call:
    call = step("agent" if _is_agent(graph) else "workflow", "langgraph", _name(graph))
    thread = ((config or {}).get("configurable") or {}).get("thread_id")
    if thread is None:
        thread = ((graph.config or {}).get("configurable") or {}).get("thread_id")
    if thread is not None:
        call.conversation_id = str(thread)
    return call


def _name(graph: Any) -> Any:
    """Its own; a workflow of the functional API has none, and is one node with its function's."""
    return next(iter(graph.nodes)) if graph.name == "LangGraph" and len(graph.nodes) == 1 else graph.name


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
    said = list(_messages_in(value))
    last = next((each for each in reversed(said) if each.type in ("ai", "AIMessageChunk")), None)
    if call.content is None or last is None:
        return
    if last.type == "ai":
        call.content.output_messages = [message(last)]
        return
    for each in said:
        if each.type == last.type and each.id == last.id:
            add_chunk(call, each)


def _messages_in(value: Any) -> Iterator[Any]:
    """Those of a state, of updates, or of what a stream has yielded of these, in order."""
    if hasattr(value, "response_metadata"):
        yield value
    elif isinstance(value, dict):
        if "messages" in value:
            yield from _messages_in(value["messages"])
        else:
            for each in value.values():
                if isinstance(each, dict):
                    yield from _messages_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _messages_in(each)
