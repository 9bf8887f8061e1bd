"""LangChain: tools, retrievers, the classic ``AgentExecutor``, and models whose own client is not observed.

Methods are patched, not callbacks added: handlers are visible to the program, and change what it sees.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.core.step import handled
from seatrace.shapes.langchain_messages import messages

from ._langchain_models import patch_chat_models, patch_completion_models
from ._steps import step, stepped

# --- tools ----------------------------------------------------------------------------------------------------------


def _tool(tool: Any, *args: Any, tool_call_id: Any = None, **kwargs: Any) -> Call:
    description = tool.description if isinstance(tool.description, str) and tool.description else None
    return step("tool", "langchain", tool.name, tool_call_id=tool_call_id, description=description)


def _arguments(injected: type) -> Callable[..., Content]:
    """Those that the model gives; state, stores and the like are put in by the framework, ``injected`` marks them."""
    known: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()

    def marked(schema: Any) -> frozenset[str]:
        found = known.get(schema)
        if found is None:
            fields = getattr(schema, "model_fields", {}).items()
            found = known[schema] = frozenset(name for name, field in fields if any(map(marks, field.metadata)))
        return found

    def marks(note: Any) -> bool:
        return issubclass(note if isinstance(note, type) else type(note), injected)

    def arguments(tool: Any, tool_input: Any, *args: Any, **kwargs: Any) -> Content:
        if isinstance(tool_input, dict):
            left_out = {*getattr(tool, "_injected_args_keys", ())}
            if isinstance(tool.args_schema, type):
                left_out |= marked(tool.args_schema)
            tool_input = {name: value for name, value in tool_input.items() if name not in left_out}
        return Content(tool_arguments=tool_input)

    return arguments


def _tool_result(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = getattr(value, "content", value)


def _patch_tools(module: Any, patches: Patches) -> None:
    arguments = _arguments(module.InjectedToolArg)
    for name in ("run", "arun"):
        patches.replace(module.BaseTool, name, stepped(_tool, content=arguments, read=_tool_result))
    for name in ("_handle_tool_error", "_handle_validation_error"):
        patches.replace(module, name, _told)


def _told(original: Any) -> Any:
    """The tool makes a message for the model of an exception: it failed all the same."""

    @functools.wraps(original)
    def handle(e: BaseException, *args: Any, **kwargs: Any) -> Any:
        handled(e, "tool")
        return original(e, *args, **kwargs)

    return handle


# --- retrievers -----------------------------------------------------------------------------------------------------


def _retrieval(retriever: Any, *args: Any, **kwargs: Any) -> Call:
    store = getattr(retriever, "vectorstore", None)
    source = retriever.name or type(retriever if store is None else store).__name__
    wanted = getattr(retriever, "search_kwargs", None) or {}
    top_k = kwargs.get("k", wanted.get("k"))
    return step("retrieval", "langchain", source, top_k=top_k if isinstance(top_k, int) else None)


def _query(retriever: Any, input: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(query=input if isinstance(input, str) else None)


def _documents(call: Call, value: Any) -> None:
    if call.content is not None and isinstance(value, list):
        call.content.documents = [
            {"id": getattr(each, "id", None), "content": each.page_content, "metadata": each.metadata} for each in value
        ]


def _patch_retrievers(module: Any, patches: Patches) -> None:
    for name in ("invoke", "ainvoke"):
        patches.replace(module.BaseRetriever, name, stepped(_retrieval, content=_query, read=_documents))


# --- the classic agent ----------------------------------------------------------------------------------------------


def _executor(executor: Any, *args: Any, **kwargs: Any) -> Call:
    return step("agent", "langchain", executor.get_name())


def _asked(executor: Any, inputs: Any, *args: Any, **kwargs: Any) -> Content:
    words = inputs.get("input") if isinstance(inputs, dict) else inputs
    return Content(input_messages=messages(words) if isinstance(words, (str, list)) else None)


def _answered(call: Call, value: Any) -> None:
    if isinstance(value, list):  # of a stream
        value = value[-1] if value else None
    words = value.get("output") if isinstance(value, dict) else None
    if call.content is not None and isinstance(words, str):
        call.content.output_messages = [{"role": "assistant", "parts": [{"type": "text", "content": words}]}]


def _patch_executor(module: Any, patches: Patches) -> None:
    for name in ("_call", "_acall", "stream", "astream"):
        patches.replace(module.AgentExecutor, name, stepped(_executor, content=_asked, read=_answered))


PARTS: dict[str, Callable[[Any, Patches], None]] = {
    "langchain_core.language_models.chat_models": patch_chat_models,
    "langchain_core.language_models.llms": patch_completion_models,
    "langchain_core.tools.base": _patch_tools,
    "langchain_core.retrievers": _patch_retrievers,
    "langchain.agents.agent": _patch_executor,
    "langchain_classic.agents.agent": _patch_executor,
}
