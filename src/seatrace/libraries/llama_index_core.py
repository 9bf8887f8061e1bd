"""LlamaIndex: agents, workflows, query engines, tools, retrievers, models and embeddings whose client is not observed.

Its own dispatcher wraps the methods of its classes; ours stand beneath it, so that they stay of the same type.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from seatrace.core import pipeline
from seatrace.core.drive import follow_result
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.core.step import Step, pauses

from ._classes import replace_below
from ._failures import TOOL_ERROR, noting
from ._models import model_call
from ._steps import step, stepped
from ._usage import usage_in

_LIBRARY = "llama_index.core"


def patch(module: Any, patches: Patches) -> None:
    """Taps the core, the agents, or the workflows, which are a package of their own."""
    if module.__name__ == _LIBRARY:
        rules = [
            (getattr(sys.modules[f"{_LIBRARY}.{home}"], name), methods, _beneath(make))
            for home, name, methods, make in _METHODS
        ]
        replace_below(rules, sys.modules[f"{_LIBRARY}.instrumentation"].DispatcherSpanMixin, patches)
    elif module.__name__ == "workflows.workflow":
        if hasattr(module, "WorkflowMeta"):  # or else it is a module of the program's
            patches.replace(module.Workflow, "run", _beneath(_run))
    else:
        for name in ("setup_agent", "run_agent_step", "parse_agent_output", "call_tool", "aggregate_tool_results"):
            patches.replace(module.AgentWorkflow, name, _turn)
        patches.replace(module.BaseWorkflowAgent, "call_tool", _asked_for)
        results = sys.modules.get("workflows.runtime.types.results")
        if results is not None and hasattr(results, "WaitingForEvent"):
            pauses.add(results.WaitingForEvent)


def _beneath(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Makes the same replacement of a method that the dispatcher has wrapped: what it wraps is replaced."""

    def replacement(original: Any) -> Any:
        wrapper = getattr(original, "_self_wrapper", None)
        return make(original) if wrapper is None else type(original)(make(original.__wrapped__), wrapper)

    return replacement


# --- runs -------------------------------------------------------------------------------------------------------------


class _Turns:
    """Whose turn it is within one run of an ``AgentWorkflow``: an agent's lasts until another takes over."""

    def __init__(self, workflow: Any) -> None:
        self.workflow = workflow
        self.step: Step | None = None
        self._name: str | None = None

    def take(self, name: str) -> None:
        if name != self._name:
            self.end()
            self._name = name
            self.step = Step.begin(lambda: _agent(self.workflow.agents[name]))

    def end(self, error: BaseException | None = None) -> None:
        ended, self.step, self._name = self.step, None, None
        if ended is not None:
            ended.end(error)

    def done(self, future: Any) -> None:
        try:
            error = future.exception()
        except BaseException as cancelled:
            error = cancelled
        self.end(error)


_turns: ContextVar[_Turns | None] = ContextVar("seatrace_llama_index_turns", default=None)
_asked: ContextVar[Any] = ContextVar("seatrace_llama_index_asked", default=None)
"""The event by which a model asked for the tool that runs here."""


def _run(original: Any) -> Any:
    """``Workflow.run`` returns a handler at once; the tasks that it starts go on in the context of the step."""

    @functools.wraps(original)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if pipeline.current is None:
            return original(self, *args, **kwargs)
        asked = kwargs.get("start_event") or next(
            (each for each in args if hasattr(type(each), "model_fields")), kwargs
        )

        def start() -> Step:
            return Step.begin(lambda: _run_call(self, asked), lambda: _run_content(asked))

        running, turns = start(), _Turns(self)
        running.enter()
        token = _turns.set(turns)
        try:
            handler = original(self, *args, **kwargs)
        except BaseException as error:
            running.leave()
            running.end(error)
            raise
        finally:
            _turns.reset(token)
        running.leave()
        future = getattr(handler, "_result_task", handler)
        if hasattr(future, "add_done_callback"):
            future.add_done_callback(turns.done)
        follow_result(future, running, start, _run_answer)
        return handler

    return run


def _run_call(workflow: Any, asked: Any) -> Call:
    session = getattr(asked.get("memory"), "session_id", None)
    agents = sys.modules.get(f"{_LIBRARY}.agent.workflow.base_agent")
    is_agent = agents is not None and isinstance(workflow, agents.BaseWorkflowAgent)
    call = _agent(workflow) if is_agent else step("workflow", _LIBRARY, type(workflow).__name__)
    call.conversation_id = session if isinstance(session, str) else None
    return call


def _agent(agent: Any) -> Call:
    return step("agent", _LIBRARY, agent.name, description=agent.description or None)


def _run_content(asked: Any) -> Content:
    messages = [*(asked.get("chat_history") or ()), asked.get("user_msg")]
    return Content(input_messages=[_message(each) for each in messages if each is not None] or None)


def _run_answer(call: Call, value: Any) -> None:
    value = getattr(value, "result", value)
    said = getattr(value, "response", value)
    if call.content is not None and (isinstance(said, str) or hasattr(said, "blocks")):
        call.content.output_messages = [_message(said, "assistant")]


def _turn(original: Any) -> Any:
    """A step of an ``AgentWorkflow``, a task of its own, runs within the turn of its agent."""
    body = _asked_for(original) if original.__name__ == "call_tool" else original

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        turns = _turns.get()
        if turns is None or turns.workflow is not self:
            return await body(self, *args, **kwargs)
        if original.__name__ == "setup_agent":
            turns.take(_event(args, kwargs).current_agent_name)
        if turns.step is None:
            return await body(self, *args, **kwargs)
        with turns.step.around():
            return await body(self, *args, **kwargs)

    return run


def _asked_for(original: Any) -> Any:
    @functools.wraps(original)
    async def call_tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _asked.set(_event(args, kwargs))
        try:
            return await original(self, *args, **kwargs)
        finally:
            _asked.reset(token)

    return call_tool


def _event(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("ev") or args[-1]


# --- tools, retrievals, query engines ---------------------------------------------------------------------------------


def _failure(output: Any) -> BaseException | str | None:
    if getattr(output, "is_error", False) is not True:
        return None
    return getattr(output, "exception", None) or TOOL_ERROR


def _tool(tool: Any, *args: Any, **kwargs: Any) -> Call | None:
    if type(tool).__name__ == "BaseToolAsyncAdapter":  # calls the tool that it stands for
        return None
    metadata, asked = tool.metadata, _asked.get()
    identifier = asked.tool_id if asked is not None and asked.tool_name == metadata.name else None
    return step("tool", _LIBRARY, metadata.name, description=metadata.description or None, tool_call_id=identifier)


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
    return step("retrieval", _LIBRARY, type(retriever).__name__, top_k=top_k if isinstance(top_k, int) else None)


def _retrieval_content(retriever: Any, str_or_query_bundle: Any) -> Content:
    return Content(query=_query(str_or_query_bundle))


def _engine(engine: Any, *args: Any, **kwargs: Any) -> Call:
    return step("workflow", _LIBRARY, type(engine).__name__)


def _engine_content(engine: Any, str_or_query_bundle: Any) -> Content:
    words = _query(str_or_query_bundle)
    return Content(input_messages=[_message(words)]) if words else Content()


# --- models -----------------------------------------------------------------------------------------------------------


def _model(model: Any, *args: Any, **kwargs: Any) -> Call:
    return _model_call(Call("inference", "chat", _LIBRARY), model, "llama_index.llms.")


def _embedding(model: Any, *args: Any, **kwargs: Any) -> Call:
    return _model_call(Call("embeddings", "embeddings", _LIBRARY), model, "llama_index.embeddings.")


def _model_call(call: Call, model: Any, packages: str) -> Call:
    name = getattr(model, "model", None) or getattr(model, "model_name", None)
    call.request_model = name if isinstance(name, str) and name != "unknown" else None
    package = type(model).__module__
    if package.startswith(packages):
        word = package.removeprefix(packages).split(".")[0]
        call.provider = _PROVIDERS.get(word, word)
    return call


_PROVIDERS = {
    "azure_openai": "azure.ai.openai",
    "azure_inference": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google_genai": "gcp.gen_ai",
    "ibm": "ibm.watsonx.ai",
    "mistralai": "mistral_ai",
    "vertex": "gcp.vertex_ai",
}
"""The conventions' names for providers whose package has another."""


def _asked_content(model: Any, asked: Any = None, *args: Any, **kwargs: Any) -> Content:
    given = next((each for each in (asked, kwargs.get("messages"), kwargs.get("prompt")) if each is not None), ())
    return Content(input_messages=[_message(each) for each in ([given] if isinstance(given, str) else list(given))])


def _spoken(call: Call, value: Any) -> None:
    """An answer, or a chunk, whose words and counts are those until then."""
    usage = usage_in(value.raw, value.additional_kwargs)
    if usage is not None:
        call.usage = usage
    if call.content is not None:
        said = value.message if hasattr(value, "message") else value.text
        call.content.output_messages = [_message(said, "assistant")]


def _message(said: Any, role: str = "user") -> dict[str, Any]:
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


_chat = model_call(_model, content=_asked_content, read=_spoken, chunk=_spoken)
_embed = model_call(_embedding)
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
    ("base.llms.base", "BaseLLM", _CHATS, _chat),
    (
        "base.embeddings.base",
        "BaseEmbedding",
        (*_TEXTS, *_BATCHES),
        # what the base does itself, it does by those of the classes below it, one call for each text
        lambda original: original if original.__qualname__.startswith("BaseEmbedding.") else _embed(original),
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
        stepped(_engine, content=_engine_content, read=_run_answer),
    ),
    ("tools.types", "BaseTool", ("call", "acall"), lambda original: _tool_step(noting(original, _failure))),
)
