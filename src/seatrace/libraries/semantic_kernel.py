"""Semantic Kernel: agents, group chats and orchestrations of all kinds, functions that a model calls, vector searches.

Its own spans (``SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS``; those of functions are always on) rest
where ours tell the same. Functions that the program calls itself are no tools, and keep Semantic Kernel's span.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from seatrace.core import context, pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.core.shape import get
from seatrace.core.step import innermost_mark
from seatrace.shapes._openai_usage import read_usage

from ._kernel_messages import asked, messages, said
from ._kernel_orchestrations import actors, orchestrations, registration
from ._models import model_call
from ._native import silent
from ._steps import step, stepped
from .providers import provider_named

# --- agents ---------------------------------------------------------------------------------------------------------


def patch(module: Any, patches: Patches) -> None:
    """Observes one of the modules of agents."""
    for each in list(vars(module).values()):
        if isinstance(each, type) and each.__module__ == module.__name__ and hasattr(each, "get_response"):
            for method in ("get_response", "invoke", "invoke_stream"):
                if method in vars(each):
                    patches.replace(each, method, stepped(_agent, content=asked, read=said))


def _agent(self: Any, messages: Any = None, *args: Any, thread: Any = None, **kwargs: Any) -> Call:
    conversation = getattr(thread, "_id", None)  # ``id`` raises where the thread was deleted
    return step("agent", "semantic_kernel", self.name, description=self.description, conversation_id=conversation)


def _group_chat(module: Any, patches: Patches) -> None:
    for method in ("invoke", "invoke_stream"):
        patches.replace(module.AgentGroupChat, method, stepped(_workflow))


def _workflow(self: Any, *args: Any, **kwargs: Any) -> Call:
    return step("workflow", "semantic_kernel", type(self).__name__)


# --- functions and searches -----------------------------------------------------------------------------------------


def _functions(module: Any, patches: Patches) -> None:
    patches.replace(module.KernelFunction, "invoke", stepped(_tool, content=_arguments, read=_result))


def _tool(self: Any, kernel: Any = None, arguments: Any = None, metadata: Any = None, **kwargs: Any) -> Call | None:
    if not metadata or metadata.get("type") != "function":
        return None  # the program calls it, not a model
    return step(
        "tool",
        "semantic_kernel",
        self.fully_qualified_name,
        description=self.description,
        tool_call_id=metadata.get("id"),
    )


def _arguments(self: Any, kernel: Any = None, arguments: Any = None, *args: Any, **kwargs: Any) -> Content:
    return Content(tool_arguments=dict(arguments or kwargs))


def _result(call: Call, result: Any) -> None:
    if call.content is not None:
        value = get(result, "value")
        call.content.tool_result = value if isinstance(value, (str, int, float, bool, list, dict)) else str(value)


def _searches(module: Any, patches: Patches) -> None:
    for method in ("search", "hybrid_search"):
        patches.replace(module.VectorSearch, method, stepped(_search, content=_query))


def _search(self: Any, values: Any = None, *args: Any, top: Any = 3, **kwargs: Any) -> Call:
    return step("retrieval", "semantic_kernel", getattr(self, "collection_name", None), top_k=top)


def _query(self: Any, values: Any = None, *args: Any, **kwargs: Any) -> Content:
    return Content(query=values if isinstance(values, str) else None)


# --- models ---------------------------------------------------------------------------------------------------------


def _models(module: Any, patches: Patches) -> None:
    base = module.ChatCompletionClientBase
    for method in ("get_chat_message_contents", "get_streaming_chat_message_contents"):
        patches.replace(base, method, _tapping(base, f"_inner_{method}", patches))


def _tapping(base: type, inner: str, patches: Patches) -> Callable[[Any], Any]:
    """Connectors, the program's own among them, say in ``inner`` how their model is called, once a turn. Each is tapped
    there when it is first used."""
    tapped: set[type] = set()
    lock = threading.Lock()
    observed = model_call(_model, content=_history, read=_answer, chunk=_chunk)

    def tap(kind: type) -> None:
        owner = next((each for each in kind.__mro__ if inner in vars(each)), base)
        with lock:
            if owner is not base and owner not in tapped:
                tapped.add(owner)
                patches.replace(owner, inner, observed)

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if type(self) not in tapped:
                pipeline.kept("patch a class", lambda: tap(type(self)))
                tapped.add(type(self))
            return original(self, *args, **kwargs)

        return call

    return make


def _model(self: Any, chat_history: Any = None, settings: Any = None, *args: Any, **kwargs: Any) -> Call:
    provider: Any = getattr(self, "MODEL_PROVIDER_NAME", None)
    model = getattr(settings, "ai_model_id", None) or self.ai_model_id
    return Call(
        "inference", "chat", "semantic_kernel", request_model=model, provider=provider and provider_named(provider)
    )


def _history(self: Any, chat_history: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(input_messages=messages(chat_history.messages))


def _answer(call: Call, answer: Any) -> None:
    if isinstance(answer, list) and answer:
        _chunk(call, answer)
        if call.content is not None:
            call.content.output_messages = messages(answer)


def _chunk(call: Call, chunks: Any) -> None:
    for each in chunks:
        call.response_id = each.metadata.get("id") or call.response_id
        usage = each.metadata.get("usage")
        if usage is not None:
            read_usage(call, usage)
        if each.finish_reason is not None:
            call.finish_reasons = [str(getattr(each.finish_reason, "value", each.finish_reason))]


# --- Semantic Kernel's own spans ------------------------------------------------------------------------------------


def _native_steps(subject: int, name: str) -> Callable[[Any, Patches], None]:
    """``name`` makes a span for its argument ``subject``: not while that very object's step is ours."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def start(*args: Any, **kwargs: Any) -> Any:
            mark = innermost_mark()
            if mark is not None and len(args) > subject and mark[0] == id(args[subject]):
                return nullcontext(silent())
            return original(*args, **kwargs)

        return start

    return lambda module, patches: patches.replace(module, name, make)


def _native_models(module: Any, patches: Patches) -> None:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        def start(*args: Any, **kwargs: Any) -> Any:
            return silent() if context.outer_call() is not None else original(*args, **kwargs)

        return start

    patches.replace(module, "_get_completion_span", make)


PARTS = {
    "semantic_kernel.agents.group_chat.agent_group_chat": _group_chat,
    "semantic_kernel.agents.orchestration.agent_actor_base": actors,
    "semantic_kernel.agents.orchestration.orchestration_base": orchestrations,
    "semantic_kernel.agents.runtime.core.base_agent": registration,
    "semantic_kernel.connectors.ai.chat_completion_client_base": _models,
    "semantic_kernel.data.vector": _searches,
    "semantic_kernel.functions.kernel_function": _functions,
    "semantic_kernel.utils.telemetry.agent_diagnostics.decorators": _native_steps(0, "_start_as_current_span"),
    "semantic_kernel.utils.telemetry.model_diagnostics.decorators": _native_models,
    "semantic_kernel.utils.telemetry.model_diagnostics.function_tracer": _native_steps(1, "start_as_current_span"),
}
