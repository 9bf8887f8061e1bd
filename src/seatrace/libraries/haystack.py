"""Haystack: pipelines are workflows, its ``Agent`` is an agent, tools and retrievers are what they are called.

Retrievers and generators have no base class: every component passes the decorator ``@component``, where the classes
that are named so are told from the others, also those of integrations and of the program.
"""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from typing import Any

from seatrace.core import pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content, Usage
from seatrace.core.step import handled

from ._models import model_call
from ._steps import step, stepped
from ._threads import carrying_executor
from .providers import provider_named

_asked: ContextVar[Any] = ContextVar("seatrace_haystack_tool_call", default=None)
"""The model's tool call that is being carried out."""


# --- components -----------------------------------------------------------------------------------------------------


def _components(module: Any, patches: Patches) -> None:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        def component(decorator: Any, cls: Any) -> Any:
            made = original(decorator, cls)
            pipeline.kept("patch a class", lambda: _component(made, patches))
            return made

        return component

    patches.replace(module._Component, "_component", make)
    for cls in list(module.component.registry.values()):
        _component(cls, patches)


def _component(cls: Any, patches: Patches) -> None:
    tap = None
    if cls.__name__.endswith("Retriever"):
        tap = stepped(_retrieval, content=_query, read=_found)
    elif cls.__name__.endswith("Generator") and not cls.__name__.startswith("Fallback"):
        tap = model_call(_model, content=_messages, read=_replies)
    for method in ("run", "run_async"):
        if tap is not None and method in vars(cls):
            patches.replace(cls, method, tap)


def _retrieval(self: Any, *args: Any, **kwargs: Any) -> Call:
    top_k = kwargs.get("top_k") or getattr(self, "top_k", None)
    return step("retrieval", "haystack", type(self).__name__, top_k=top_k if isinstance(top_k, int) else None)


def _query(self: Any, *args: Any, **kwargs: Any) -> Content:
    words = kwargs.get("query", args[0] if args else None)
    return Content(query=words if isinstance(words, str) else None)


def _found(call: Call, result: Any) -> None:
    documents = result.get("documents")
    if call.content is not None and isinstance(documents, list):
        call.content.documents = [
            {"id": each.id, "content": each.content, "score": each.score}
            for each in documents
            if hasattr(each, "score")
        ]


# --- models ---------------------------------------------------------------------------------------------------------


def _model(self: Any, *args: Any, **kwargs: Any) -> Call:
    call = Call("inference", "chat", "haystack")
    model = getattr(self, "model", None) or getattr(self, "_model", None)
    call.request_model = model if isinstance(model, str) else None
    path = type(self).__module__.split(".")
    if path[0] == "haystack_integrations" and len(path) > 3:
        call.provider = provider_named(path[3])
    call.stream = bool(kwargs.get("streaming_callback") or getattr(self, "streaming_callback", None))
    return call


def _messages(self: Any, messages: Any = None, *args: Any, **kwargs: Any) -> Content:
    asked = messages if messages is not None else kwargs.get("prompt")
    if isinstance(asked, str):
        return Content(input_messages=[_message("user", asked)])
    return Content(input_messages=[_message(each.role.value, each.text) for each in asked or ()])


def _replies(call: Call, result: Any) -> None:
    replies = result.get("replies") or ()
    metas = [getattr(each, "meta", None) for each in replies] if not result.get("meta") else result["meta"]
    meta = metas[0] if isinstance(metas, list) and metas and isinstance(metas[0], dict) else {}
    call.response_model = meta.get("model")
    if meta.get("finish_reason"):
        call.finish_reasons = [str(meta["finish_reason"])]
    usage = meta.get("usage")
    if usage:
        call.usage = Usage(
            _tokens(usage, "prompt_tokens", "input_tokens"), _tokens(usage, "completion_tokens", "output_tokens")
        )
    if call.content is not None:
        words = (each if isinstance(each, str) else each.text for each in replies)
        call.content.output_messages = [_message("assistant", each) for each in words]


def _tokens(usage: Any, *names: str) -> int | None:
    return next((usage[name] for name in names if isinstance(usage.get(name), int)), None)


def _message(role: str, words: str | None) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": words}] if words else []}


# --- pipelines and agents -------------------------------------------------------------------------------------------


def _pipelines(module: Any, patches: Patches) -> None:
    for name, method in (
        ("Pipeline", "run"),
        ("Pipeline", "run_async_generator"),
        ("AsyncPipeline", "run_async_generator"),
    ):
        if method in vars(getattr(module, name, object)):
            patches.replace(getattr(module, name), method, stepped(_workflow))


def _workflow(self: Any, *args: Any, **kwargs: Any) -> Call:
    return step("workflow", "haystack", self.metadata.get("name"))


def _agents(module: Any, patches: Patches) -> None:
    for method in ("run", "run_async"):
        patches.replace(module.Agent, method, stepped(_agent, content=_messages, read=_said))


def _agent(self: Any, *args: Any, **kwargs: Any) -> Call | None:
    if not (getattr(self, "tools", None) or kwargs.get("tools")):
        return None  # one model call, which the program asked for: ``LLM`` is an agent by inheritance
    return step("agent", "haystack", getattr(self, "__component_name__", None))


def _said(call: Call, result: Any) -> None:
    last = result.get("last_message")
    if call.content is not None and last is not None:
        call.content.output_messages = [_message("assistant", last.text)]


# --- tools ----------------------------------------------------------------------------------------------------------


def _tools(module: Any, patches: Patches) -> None:
    for method in ("invoke", "invoke_async"):
        if method in vars(module.Tool):
            patches.replace(module.Tool, method, lambda original: _observed_tool(_with_cause(original)))


def _execution(self: Any, **kwargs: Any) -> Call:
    asked = _asked.get()
    known = asked is not None and asked.tool_name == self.name
    return step("tool", "haystack", self.name, description=self.description, tool_call_id=asked.id if known else None)


def _arguments(self: Any, **kwargs: Any) -> Content:
    return Content(tool_arguments=kwargs)


def _result(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = value


_observed_tool = stepped(_execution, content=_arguments, read=_result)


def _with_cause(original: Any) -> Any:
    """Whatever a tool raises, Haystack makes a ``ToolInvocationError`` of it, whose text repeats the arguments."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def invoke_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await original(*args, **kwargs)
            except Exception as error:
                handled(error.__cause__ or error, "tool")
                raise

        return invoke_async

    @functools.wraps(original)
    def invoke(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Exception as error:
            handled(error.__cause__ or error, "tool")
            raise

    return invoke


def _tool_calls(module: Any, patches: Patches) -> None:
    patches.replace(module, "_make_context_bound_invoke", _in_thread)
    patches.replace(module, "_make_bounded_invoke_async", _in_task)


def _in_thread(original: Any) -> Any:
    @functools.wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        token = _asked.set(kwargs.get("tool_call"))
        try:
            return original(*args, **kwargs)  # it copies the context
        finally:
            _asked.reset(token)

    return make


def _in_task(original: Any) -> Any:
    @functools.wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        run = original(*args, **kwargs)

        async def runner() -> Any:
            _asked.set(kwargs.get("tool_call"))  # each runs as a task of its own
            return await run()

        return runner

    return make


def _threads(module: Any, patches: Patches) -> None:
    patches.replace(module, "ThreadPoolExecutor", carrying_executor)


PARTS = {
    "haystack.core.component.component": _components,
    "haystack.core.pipeline.pipeline": _pipelines,
    "haystack.core.pipeline.async_pipeline": _pipelines,
    "haystack.components.agents.agent": _agents,
    "haystack.components.agents.tool_calling": _tool_calls,
    "haystack.tools.tool": _tools,
    "haystack.components.extractors.llm_metadata_extractor": _threads,
    "haystack.components.extractors.image.llm_document_content_extractor": _threads,
    "haystack.components.retrievers.multi_query_embedding_retriever": _threads,
    "haystack.components.retrievers.multi_query_text_retriever": _threads,
    "haystack.components.retrievers.multi_retriever": _threads,
}
