"""DSPy: ``ReAct`` and its kin are agents, the outermost module of a program is a workflow, tools are tools.

``Predict`` and ``ChainOfThought`` are one model call, which is seen as that. What DSPy's cache answers is none. Models
answer through LiteLLM, and so mostly through clients that are observed, or, from 3.4 on, through an HTTP client of
DSPy's own.
"""

from __future__ import annotations

import functools
import sys
from typing import Any
from urllib.parse import urlsplit

from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.core.shape import get
from seatrace.shapes._openai_usage import read_usage

from . import _stainless
from ._models import model_call
from ._steps import step, stepped
from ._threads import carrying_executor
from .providers import provider_named, provider_of

_AGENTS = {"Avatar", "CodeAct", "RLM", "ReAct", "ReActV2"}
"""A model decides there what comes next."""

_ONE_CALL = {"ChainOfThought", "Predict"}

_OWN_TOOLS = {"finish", "submit"}
"""By which a model tells an agent of DSPy that it is done."""


# --- modules --------------------------------------------------------------------------------------------------------


def _modules(module: Any, patches: Patches) -> None:
    for method in ("__call__", "acall"):
        patches.replace(module.Module, method, stepped(_module, content=_inputs, read=_outputs))


def _module(self: Any, *args: Any, **kwargs: Any) -> Call | None:
    built_in = {each.__name__ for each in type(self).__mro__ if each.__module__.startswith("dspy.")}
    if built_in & _AGENTS:
        return step("agent", "dspy", type(self).__name__)
    if built_in & _ONE_CALL or sys.modules["dspy.primitives.module"].settings.caller_modules:
        return None
    return step("workflow", "dspy", type(self).__name__)


def _inputs(self: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(input_messages=[_message("user", kwargs)])


def _outputs(call: Call, prediction: Any) -> None:
    if call.content is not None and hasattr(prediction, "items"):
        fields = {name: value for name, value in prediction.items() if name not in ("history", "trajectory")}
        call.content.output_messages = [_message("assistant", fields)]


def _message(role: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": f"{name}: {fields[name]}"} for name in fields]}


# --- tools and retrievers -------------------------------------------------------------------------------------------


def _tools(module: Any, patches: Patches) -> None:
    for method in ("__call__", "acall"):
        patches.replace(module.Tool, method, stepped(_tool, content=_arguments, read=_result))


def _tool(self: Any, **kwargs: Any) -> Call | None:
    if self.name in _OWN_TOOLS and getattr(self.func, "__module__", "").startswith("dspy.predict."):
        return None
    return step("tool", "dspy", self.name, description=self.desc)


def _arguments(self: Any, **kwargs: Any) -> Content:
    return Content(tool_arguments=kwargs)


def _result(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = value


def _retrievers(module: Any, patches: Patches) -> None:
    for name in ("Retrieve", "Embeddings"):
        if hasattr(module, name):
            patches.replace(getattr(module, name), "__call__", stepped(_retrieval, content=_query, read=_passages))


def _retrieval(self: Any, *args: Any, **kwargs: Any) -> Call:
    name, k = type(self).__name__, kwargs.get("k") or self.k
    if name == "Retrieve":
        name = type(sys.modules["dspy.primitives.module"].settings.rm).__name__
    return step("retrieval", "dspy", name, top_k=k if isinstance(k, int) else None)


def _query(self: Any, query: Any = None, *args: Any, **kwargs: Any) -> Content:
    return Content(query=query if isinstance(query, str) else None)


def _passages(call: Call, prediction: Any) -> None:
    passages = getattr(prediction, "passages", None)
    if call.content is not None and isinstance(passages, list):
        call.content.documents = [{"content": each} for each in passages]


# --- models ---------------------------------------------------------------------------------------------------------


def _litellm(module: Any, patches: Patches) -> None:
    for name in ("completion", "text_completion", "responses_completion"):
        for door in (f"litellm_{name}", f"alitellm_{name}"):
            if hasattr(module, door):
                patches.replace(module, door, model_call(_request, content=_messages, read=_answer))


def _request(request: Any, *args: Any, **kwargs: Any) -> Call:
    return _named(request.get("model"), request.get("api_base") or request.get("base_url"))


def _messages(request: Any, *args: Any, **kwargs: Any) -> Content:
    return _said(request.get("messages"))


def _answer(call: Call, response: Any) -> None:
    call.response_id, call.response_model = get(response, "id"), get(response, "model")
    read_usage(call, get(response, "usage"))
    choices = get(response, "choices") or ()
    call.finish_reasons = [str(get(each, "finish_reason")) for each in choices] or None
    if call.content is not None:
        words = (get(get(each, "message"), "content") for each in choices)
        call.content.output_messages = [_message_of("assistant", each) for each in words]


def _execution(module: Any, patches: Patches) -> None:
    patches.replace(module, "_attempt", _attempt)
    patches.replace(module, "_aattempt", _aattempt)


def _attempt(original: Any) -> Any:
    """One request of DSPy's own: it returns nothing and leaves the answer in its ``state``."""

    def answered(lm: Any, call: Any, backend: Any, request: Any, provider: Any, state: Any, results: Any) -> Any:
        original(lm, call, backend, request, provider, state, results)
        return state

    observed = model_call(_asked, content=_prompt, read=_state)(answered)

    @functools.wraps(original)
    def attempt(*args: Any, **kwargs: Any) -> None:
        observed(*args, **kwargs)

    return attempt


def _aattempt(original: Any) -> Any:
    async def answered(lm: Any, call: Any, backend: Any, request: Any, provider: Any, state: Any, results: Any) -> Any:
        await original(lm, call, backend, request, provider, state, results)
        return state

    observed = model_call(_asked, content=_prompt, read=_state)(answered)

    @functools.wraps(original)
    async def attempt(*args: Any, **kwargs: Any) -> None:
        await observed(*args, **kwargs)

    return attempt


def _asked(lm: Any, call: Any, *args: Any, **kwargs: Any) -> Call:
    made = _named(lm.model, call.legacy.get("api_base") or call.legacy.get("base_url"))
    made.stream = sys.modules["dspy.primitives.module"].settings.send_stream is not None
    return made


def _prompt(lm: Any, call: Any, *args: Any, **kwargs: Any) -> Content:
    return _said(call.legacy.get("messages"))


def _state(call: Call, state: Any) -> None:
    result = state.result
    response = result.responses[0] if result.responses else result.raw
    call.response_id, call.response_model = get(response, "id"), result.response_model
    reason = get(response, "finish_reason")
    call.finish_reasons = [str(reason)] if reason else None
    if result.usage:
        read_usage(call, result.usage)
        written = get(get(result.usage, "prompt_tokens_details"), "cache_creation_tokens")
        if call.usage is not None and written:
            call.usage.cache_write = written
    if call.content is not None:
        words = (each if isinstance(each, str) else get(each, "text") for each in result.outputs)
        call.content.output_messages = [_message_of("assistant", each) for each in words]


def _named(model: Any, address: Any) -> Call:
    """``model`` as LiteLLM and DSPy name it, prefix first, at an ``address`` that the program chose."""
    prefix, _, rest = str(model).partition("/")
    provider, name = (provider_named(prefix), rest) if rest else (None, prefix)
    call = Call("inference", "chat", "dspy", request_model=name, provider=provider)
    url = urlsplit(address) if isinstance(address, str) else None
    if url is not None and url.hostname:
        call.server_address, call.server_port = url.hostname, url.port or (80 if url.scheme == "http" else 443)
        call.provider = provider_of(
            url.hostname, url.port, url.path, _stainless.custom_providers, cloud=None, default=provider or "openai"
        )
    return call


def _said(messages: Any) -> Content:
    return Content(input_messages=[_message_of(get(each, "role"), get(each, "content")) for each in messages or ()])


def _message_of(role: Any, words: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": words}] if isinstance(words, str) else []}


def _threads(module: Any, patches: Patches) -> None:
    patches.replace(module, "ThreadPoolExecutor", carrying_executor)


PARTS = {
    "dspy.primitives.module": _modules,
    "dspy.adapters.types.tool": _tools,
    "dspy.clients.lm": _litellm,
    "dspy.clients.execution": _execution,
    "dspy.retrievers.retrieve": _retrievers,
    "dspy.retrievers.embeddings": _retrievers,
    "dspy.utils.parallelizer": _threads,
}
