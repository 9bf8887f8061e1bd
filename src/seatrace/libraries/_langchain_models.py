"""LangChain's models whose own client is not observed: a model of the program's, Bedrock's, Google's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from seatrace.core import context
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.shapes.langchain_messages import messages, read_chunk, read_event, read_result

from ._models import model_call
from .providers import provider_named

_OURS = ("run_manager", "run_managers", "new_arg_supported", "stop", "stream", "config")


def _model(operation: str) -> Callable[..., Call]:
    def begin(model: Any, given: Any, *args: Any, **kwargs: Any) -> Call:
        asked = {name: value for name, value in kwargs.items() if name not in _OURS}
        about = model._get_ls_params(stop=kwargs.get("stop"), **asked)
        provider = about.get("ls_provider")
        return Call(
            "inference",
            operation,
            "langchain",
            provider=provider and provider_named(provider),
            request_model=about.get("ls_model_name"),
            temperature=about.get("ls_temperature"),
            max_tokens=about.get("ls_max_tokens"),
            stop_sequences=about.get("ls_stop"),
        )

    return begin


def _prompt(model: Any, given: Any, *args: Any, **kwargs: Any) -> Content:
    said = messages(given)
    system = [part for each in said if each["role"] == "system" for part in each["parts"]]
    return Content(
        input_messages=[each for each in said if each["role"] != "system"], system_instructions=system or None
    )


def patch_chat_models(module: Any, patches: Patches) -> None:
    """Observes the loaded ``langchain_core.language_models.chat_models``."""
    model, begin = module.BaseChatModel, _model("chat")
    for name in ("_generate_with_cache", "_agenerate_with_cache"):
        patches.replace(model, name, model_call(begin, content=_prompt, read=read_result))
    for name in ("stream", "astream"):
        patches.replace(model, name, model_call(begin, content=_prompt, chunk=read_chunk))
    for name in ("_iter_v2_events", "_aiter_v2_events"):
        if hasattr(model, name):  # since 1.4
            patches.replace(model, name, model_call(begin, content=_prompt, chunk=read_event))
    patches.replace(model, "_convert_cached_generations", _remembered)


def patch_completion_models(module: Any, patches: Patches) -> None:
    """Observes the loaded ``langchain_core.language_models.llms``."""
    model, begin = module.BaseLLM, _model("text_completion")
    for name in ("_generate_helper", "_agenerate_helper"):
        patches.replace(model, name, model_call(begin, content=_prompt, read=read_result))
    for name in ("stream", "astream"):
        patches.replace(model, name, model_call(begin, content=_prompt, chunk=read_chunk))


def _remembered(original: Any) -> Any:
    """An answer out of LangChain's cache: no model is called for it."""

    @functools.wraps(original)
    def convert(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = context.outer_call()
        if call is not None:
            call.taken()
        return original(self, *args, **kwargs)

    return convert
