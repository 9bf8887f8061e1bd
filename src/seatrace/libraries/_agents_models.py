"""Models of the OpenAI Agents SDK that no observed client calls: LiteLLM's, the websocket's, the program's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from seatrace.core import pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content, Usage
from seatrace.shapes.openai_responses import OpenAIResponses

from ._models import model_call

_ITEMS = OpenAIResponses()


def observe_models(patches: Patches) -> Callable[[Any], Any]:
    """Any class may be a model: each is patched when a run first asks for one of its kind."""
    seen: set[type] = set()
    patched: set[tuple[type, str]] = set()

    def observe(kind: type) -> None:
        seen.add(kind)
        for name, fits in (
            ("get_response", inspect.iscoroutinefunction),
            ("stream_response", inspect.isasyncgenfunction),
        ):
            owner = next((each for each in kind.__mro__ if name in vars(each)), kind)
            if (owner, name) not in patched and fits(vars(owner).get(name)):
                patched.add((owner, name))
                patches.replace(owner, name, model_call(_model, content=_request, read=_response, chunk=_event))

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def get_model(*args: Any, **kwargs: Any) -> Any:
            model = original(*args, **kwargs)
            if type(model) not in seen:
                pipeline.kept("patch a class", lambda: observe(type(model)))
            return model

        return get_model

    return make


def _model(model: Any, *args: Any, **kwargs: Any) -> Call:
    name = getattr(model, "model", None)
    call = Call("inference", "chat", "agents", request_model=name if isinstance(name, str) else None)
    if call.request_model and "/" in call.request_model and type(model).__module__.startswith("agents.extensions."):
        call.provider, _, call.request_model = call.request_model.partition("/")  # as LiteLLM writes it
    return call


def _request(model: Any, *args: Any, **kwargs: Any) -> Content:
    asked = {**dict(zip(("instructions", "input"), args, strict=False)), **kwargs}
    return _ITEMS.request_content({"instructions": asked.get("system_instructions"), **asked, "tools": None})


def _event(call: Call, event: Any) -> None:
    if getattr(event, "type", None) == "response.completed":
        _response(call, event.response)


def _response(call: Call, response: Any) -> None:
    """A ``ModelResponse``, or the response in a stream's last event. Zeros are the package's for unknown."""
    call.response_id = getattr(response, "response_id", None) or getattr(response, "id", None)
    usage = response.usage
    if usage is not None and usage.total_tokens:
        call.usage = Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read=getattr(usage.input_tokens_details, "cached_tokens", None) or None,
            cache_write=getattr(usage.input_tokens_details, "cache_write_tokens", None) or None,
            reasoning=getattr(usage.output_tokens_details, "reasoning_tokens", None) or None,
        )
    if call.content is not None:
        call.content.output_messages = _ITEMS.response_content(call, response)
