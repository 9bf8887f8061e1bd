"""LlamaIndex: agents, workflows, query engines, tools, retrievers, models and embeddings whose client is not observed.

Its own dispatcher wraps the methods of its classes; ours stand beneath it, so that they stay of the same type. Its runs
are in ``_llama_runs``, its models in ``_llama_models``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from seatrace.core.patch import Patches
from seatrace.core.record import TOOL_ERROR, Call, Content
from seatrace.core.step import pauses

from ._classes import replace_below
from ._failures import noting
from ._llama_models import LIBRARY, chat, embed, message
from ._llama_runs import answer, asked_for, tap_run, tap_tool_call, tap_turn
from ._steps import step, stepped


def patch(module: Any, patches: Patches) -> None:
    """Taps the core, the agents, or the workflows, which are a package of their own."""
    if module.__name__ == LIBRARY:
        rules = [
            (getattr(sys.modules[f"{LIBRARY}.{home}"], name), methods, _beneath(make))
            for home, name, methods, make in _METHODS
        ]
        replace_below(rules, sys.modules[f"{LIBRARY}.instrumentation"].DispatcherSpanMixin, patches)
    elif module.__name__ == "workflows.workflow":
        if hasattr(module, "WorkflowMeta"):  # or else it is a module of the program's
            patches.replace(module.Workflow, "run", _beneath(tap_run))
    else:
        for name in ("setup_agent", "run_agent_step", "parse_agent_output", "call_tool", "aggregate_tool_results"):
            patches.replace(module.AgentWorkflow, name, tap_turn)
        patches.replace(module.BaseWorkflowAgent, "call_tool", tap_tool_call)
        results = sys.modules.get("workflows.runtime.types.results")
        if results is not None and hasattr(results, "WaitingForEvent"):
            pauses.add(results.WaitingForEvent)


def _beneath(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Makes the same replacement of a method that the dispatcher has wrapped: what it wraps is replaced."""

    def replacement(original: Any) -> Any:
        wrapper = getattr(original, "_self_wrapper", None)
        return make(original) if wrapper is None else type(original)(make(original.__wrapped__), wrapper)

    return replacement


def _failure(output: Any) -> BaseException | str | None:
    if getattr(output, "is_error", False) is not True:
        return None
    return getattr(output, "exception", None) or TOOL_ERROR


def _tool(tool: Any, *args: Any, **kwargs: Any) -> Call | None:
    if type(tool).__name__ == "BaseToolAsyncAdapter":  # calls the tool that it stands for
        return None
    metadata, asked = tool.metadata, asked_for.get()
    identifier = asked.tool_id if asked is not None and asked.tool_name == metadata.name else None
    return step("tool", LIBRARY, metadata.name, description=metadata.description or None, tool_call_id=identifier)


def _tool_content(tool: Any, *args: Any, **kwargs: Any) -> Content:
    given = {name: value for name, value in kwargs.items() if name != getattr(tool, "ctx_param_name", None)}
    return Content(tool_arguments={"args": list(args), **given} if args else given)


def _tool_result(call: Call, value: Any) -> None:
    if call.content is not None:
        result = getattr(value, "raw_output", value)
        call.content.tool_result = result if isinstance(result, (str, int, float, dict, list)) else str(value)


def _query(asked: Any) -> str | None:
    words = getattr(asked, "query_str", asked)
    return words if isinstance(words, str) else None


def _found(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.documents = [
            {"id": each.node.node_id, "score": each.score, "content": each.node.get_content()} for each in value
        ]


def _retrieval(retriever: Any, *args: Any, **kwargs: Any) -> Call:
    top_k = getattr(retriever, "similarity_top_k", None)
    return step("retrieval", LIBRARY, type(retriever).__name__, top_k=top_k if isinstance(top_k, int) else None)


def _retrieval_content(retriever: Any, str_or_query_bundle: Any) -> Content:
    return Content(query=_query(str_or_query_bundle))


def _engine(engine: Any, *args: Any, **kwargs: Any) -> Call:
    return step("workflow", LIBRARY, type(engine).__name__)


def _engine_content(engine: Any, str_or_query_bundle: Any) -> Content:
    words = _query(str_or_query_bundle)
    return Content(input_messages=[message(words)]) if words else Content()


_tool_step = stepped(_tool, content=_tool_content, read=_tool_result)
_CHATS = (
    "chat",
    "stream_chat",
    "achat",
    "astream_chat",
    "complete",
    "stream_complete",
    "acomplete",
    "astream_complete",
)
_TEXTS = ("_get_query_embedding", "_aget_query_embedding", "_get_text_embedding", "_aget_text_embedding")
_BATCHES = ("_get_text_embeddings", "_aget_text_embeddings")

_METHODS: tuple[tuple[str, str, tuple[str, ...], Callable[[Any], Any]], ...] = (
    ("base.llms.base", "BaseLLM", _CHATS, chat),
    (
        "base.embeddings.base",
        "BaseEmbedding",
        (*_TEXTS, *_BATCHES),
        # what the base does itself, it does by those of the classes below it, one call for each text
        lambda original: original if original.__qualname__.startswith("BaseEmbedding.") else embed(original),
    ),
    (
        "base.base_retriever",
        "BaseRetriever",
        ("retrieve", "aretrieve"),
        stepped(_retrieval, content=_retrieval_content, read=_found),
    ),
    (
        "base.base_query_engine",
        "BaseQueryEngine",
        ("query", "aquery"),
        stepped(_engine, content=_engine_content, read=answer),
    ),
    ("tools.types", "BaseTool", ("call", "acall"), lambda original: _tool_step(noting(original, _failure))),
)
