"""AG2 (from 1.0, where its import name is ``ag2``): agents and those they call as tools, function tools, and the models
that no observed client calls.

AG2's ``TelemetryMiddleware`` makes spans where a program adds it to an agent: that of a turn rests while we observe it,
those of model calls and tools are enriched.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from seatrace.core import pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content, Usage
from seatrace.core.step import innermost_mark

from ._family import replace_each
from ._models import model_call
from ._native import QuietTracer
from ._steps import step, stepped
from .providers import provider_named


def patch(module: Any, patches: Patches) -> None:
    """Taps one of AG2's modules."""
    if module.__name__ == "ag2.agent":
        name = "_drive_scope" if "_drive_scope" in vars(module.Agent) else "_turn_scope"
        patches.replace(module.Agent, name, _scopes(patches))
    elif hasattr(module, "FunctionTool"):
        tool = stepped(_begin_tool, content=_arguments, read=_result, outcome=_outcome)
        patches.replace(module.FunctionTool, "__call__", tool)
    else:
        patches.replace(module._TelemetryMiddlewareInstance, "__init__", _quiet)


# --- turns ------------------------------------------------------------------------------------------------------------


async def _drive(agent: Any, event: Any, context: Any, drive: Any) -> Any:
    return await drive()


def _begin_turn(agent: Any, event: Any, context: Any, drive: Any) -> Call:
    call = step("agent", "ag2", agent.name, conversation_id=_text(getattr(context.stream, "id", None)))
    sent = (context.dependencies or {}).get("ag2.otel.traceparent")
    if isinstance(sent, str):
        call.parent = {"traceparent": sent}
    return call


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _asked(agent: Any, event: Any, context: Any, drive: Any) -> Content:
    return Content(input_messages=[_message("user", _words(event))])


def _said(call: Call, reply: Any) -> None:
    if call.content is not None:
        call.content.output_messages = [_message("assistant", reply.body or "")]


def _words(event: Any) -> str:
    parts = getattr(event, "parts", None) or [event]
    return "\n".join(str(getattr(part, "content", part)) for part in parts)


def _message(role: str, said: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": said}]}


_turn = stepped(_begin_turn, content=_asked, read=_said)(_drive)


class _Scope:
    """The scope of a turn, whose ``drive()`` is the agent's run."""

    def __init__(self, scope: Any, *run: Any) -> None:
        self._scope = scope
        self._run = run

    async def __aenter__(self) -> Any:
        return functools.partial(_turn, *self._run, await self._scope.__aenter__())

    async def __aexit__(self, *error: Any) -> Any:
        return await self._scope.__aexit__(*error)


def _scopes(patches: Patches) -> Any:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        def scope_of_turn(self: Any, event: Any, *, context: Any, client: Any, **kwargs: Any) -> Any:
            scope = original(self, event, context=context, client=client, **kwargs)
            if pipeline.current is None:
                return scope
            kinds = [kind for kind in type(client).__mro__ if kind.__module__ != "unittest.mock"]
            pipeline.kept("patch a class", lambda: replace_each(kinds, ("__call__",), _call, patches))
            return _Scope(scope, self, event, context)

        return scope_of_turn

    return make


# --- tools ------------------------------------------------------------------------------------------------------------


def _begin_tool(tool: Any, event: Any, *args: Any, **kwargs: Any) -> Call:
    described = tool.schema.function.description
    return step("tool", "ag2", event.name, description=described or None, tool_call_id=event.id)


def _arguments(tool: Any, event: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(tool_arguments=event.serialized_arguments)


def _result(call: Call, event: Any) -> None:
    if call.content is not None:
        call.content.tool_result = _words(event.result)


def _outcome(call: Call, value: Any, *args: Any, **kwargs: Any) -> None:
    """AG2 makes an event of the tool's exception."""
    error = getattr(value, "error", None)
    if isinstance(error, BaseException):
        call.error, call.error_type = error, type(error).__qualname__


# --- AG2's own spans --------------------------------------------------------------------------------------------------


def _quiet(original: Any) -> Any:
    """The middleware's span of a turn rests in ours of the same turn."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._tracer = QuietTracer(self._tracer, _rests)

    return __init__


def _rests(name: str, given: Mapping[str, Any]) -> bool:
    mark = innermost_mark()
    ours = pipeline.current is not None and mark is not None and mark[1] == id(_drive)
    return ours and name.startswith("invoke_agent")


# --- models -----------------------------------------------------------------------------------------------------------


def _begin_model(client: Any, *args: Any, **kwargs: Any) -> Call:
    options = getattr(client, "_create_options", None) or {}
    model = getattr(client, "_model", None) or getattr(client, "_model_name", None) or options.get("model")
    return Call("inference", "chat", "ag2", request_model=_text(model))


def _told(client: Any, messages: Any = (), *args: Any, **kwargs: Any) -> Content:
    return Content(input_messages=[_message("user", _words(each)) for each in messages])


def _read_answer(call: Call, answer: Any) -> None:
    call.response_model, call.response_id = answer.model, getattr(answer, "response_id", None)
    call.request_model = call.request_model or answer.model
    if answer.provider:
        call.provider = provider_named(answer.provider)
    if answer.finish_reason:
        call.finish_reasons = [answer.finish_reason]
    used = answer.usage
    if used:
        call.usage = told = Usage(
            _whole(used.prompt_tokens),
            _whole(used.completion_tokens),
            _whole(used.cache_read_input_tokens),
            _whole(used.cache_creation_input_tokens),
            reasoning=_whole(used.thinking_tokens),
        )
        if told.input_tokens is not None and call.provider == "aws.bedrock":  # says what was cached beside the input
            told.input_tokens += (told.cache_read or 0) + (told.cache_write or 0)
        if told.output_tokens is not None and call.provider == "gcp.gemini":  # and what was thought beside the output
            told.output_tokens += told.reasoning or 0
    if call.content is not None:
        call.content.output_messages = [_message("assistant", answer.content or "")]


def _whole(tokens: Any) -> int | None:
    return None if tokens is None else int(tokens)


_call = model_call(_begin_model, content=_told, read=_read_answer)
