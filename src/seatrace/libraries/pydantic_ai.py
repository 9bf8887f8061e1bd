"""pydantic-ai: runs of its agents, its tools, and models whose client is not observed.

Every way to run an agent goes through one context manager. The block in it is the run: inside of the framework's own
span, which is enriched where the program has switched that on. Tools are tapped below the framework's span, too.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from seatrace.core import context, pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.core.step import Step

from ._blocks import block
from ._models import ModelCall, model_call
from ._pydantic_messages import messages, read_response
from ._steps import step, stepped
from .providers import provider_named

_LIBRARY = "pydantic_ai"

_POSTPONED = ("CallDeferred", "ApprovalRequired")
"""What a tool raises that is to be run later or elsewhere: no failure."""


def patch(module: Any, patches: Patches) -> None:
    """Taps the loaded ``pydantic_ai.agent`` or the module of its tool manager."""
    manager = getattr(module, "ToolManager", None)
    if module.__name__ != "pydantic_ai.agent":
        name = "_raw_execute" if "_raw_execute" in vars(manager) else "_call_tool"
        patches.replace(manager, name, stepped(_tool, content=_tool_content, read=_returned, of=_ToolStep))
        return
    prepared = getattr(module, "_PreparedAgentRun", None)  # inside of `iter` there, past its look at who called it
    models: set[type] = set()

    def within(run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for model in _leaves(run.ctx.deps.model):
            _observe_model(type(model), models, patches)
        return _run(args[0], run)

    patches.replace(prepared or module.Agent, "open" if prepared else "iter", block(within))


# --- agents ---------------------------------------------------------------------------------------------------------


@contextmanager
def _run(self: Any, run: Any) -> Iterator[None]:
    made = Step.begin(lambda: _agent(self, run), lambda: Content(input_messages=_words("user", run.ctx.deps.prompt)))
    with made:
        yield
        made.result(run, _said)


def _agent(self: Any, run: Any) -> Call:
    deps = run.ctx.deps
    agent = getattr(deps, "agent", None) or self
    conversation = context.current_scope().conversation or getattr(run.ctx.state, "conversation_id", None)
    description = getattr(agent, "description", None)
    return step(
        "agent",
        _LIBRARY,
        agent.name or "agent",
        description=description if isinstance(description, str) else None,
        conversation_id=conversation,
        request_model=deps.model.model_name,
        provider=_provider(deps.model),
    )


def _said(call: Call, run: Any) -> None:
    if run.result is not None and call.content is not None:
        call.content.output_messages = _words("assistant", run.result.output)


def _words(role: str, said: Any) -> list[dict[str, Any]] | None:
    if said is None:
        return None
    pieces = [said] if isinstance(said, str) or not isinstance(said, (list, tuple)) else said
    parts = [{"type": "text", "content": each if isinstance(each, str) else repr(each)} for each in pieces]
    return [{"role": role, "parts": parts}]


# --- tools ----------------------------------------------------------------------------------------------------------


class _ToolStep(Step):
    def end(self, error: BaseException | None = None) -> None:
        kind = type(error).__name__
        if kind in _POSTPONED:
            error = None
        elif kind == "ToolRetryError" and error is not None:  # what the tool raised, on its way to the model
            error = error.__cause__ or error.__context__ or error
        super().end(error)


def _tool(manager: Any, asked: Any, *args: Any, **kwargs: Any) -> Call | None:
    call = getattr(asked, "call", asked)  # the model's call, or that with its arguments validated
    tool = getattr(asked, "tool", None) or (manager.tools or {}).get(call.tool_name)
    definition = getattr(tool, "tool_def", None)
    if getattr(definition, "kind", None) == "output":
        return None
    description = getattr(definition, "description", None)
    return step("tool", _LIBRARY, call.tool_name, description=description, tool_call_id=call.tool_call_id)


def _tool_content(manager: Any, asked: Any, *args: Any, **kwargs: Any) -> Content:
    found = getattr(asked, "validated_args", None)
    if found is None:
        call = getattr(asked, "call", asked)
        found = json.loads(call.args) if isinstance(call.args, str) and call.args else call.args
    return Content(tool_arguments=found)


def _returned(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = getattr(value, "return_value", value)


# --- models ---------------------------------------------------------------------------------------------------------


def _provider(model: Any) -> str | None:
    system: str = model.system
    return provider_named(system)


def _leaves(model: Any) -> Iterator[Any]:
    """The models that call one, out of those that wrap others."""
    inner = getattr(model, "models", None) or [getattr(model, "wrapped", None)]
    if inner == [None]:
        yield model
        return
    for each in inner:
        yield from _leaves(each)


def _observe_model(kind: type, seen: set[type], patches: Patches) -> None:
    """Taps the class of a model when an agent first runs with it: that may be one of the program's own."""
    if kind in seen:
        return
    seen.add(kind)
    for owner in kind.__mro__:
        if "request" in vars(owner) and owner.__module__ != "pydantic_ai.models" and owner not in seen - {kind}:
            seen.add(owner)
            patches.replace(owner, "request", model_call(_asked, content=_content, read=read_response))
            if "request_stream" in vars(owner):
                patches.replace(owner, "request_stream", _streamed)


def _asked(self: Any, *args: Any, **kwargs: Any) -> Call:
    return Call("inference", "chat", _LIBRARY, provider=_provider(self), request_model=self.model_name)


def _content(self: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(input_messages=messages(args[0] if args else kwargs["messages"]))


def _streamed(original: Any) -> Any:
    @functools.wraps(original)
    def request_stream(*args: Any, **kwargs: Any) -> Any:
        manager = original(*args, **kwargs)
        if pipeline.current is None:
            return manager
        return _opened(manager, lambda: ModelCall.begin(lambda: _asked(*args), lambda: _content(*args, **kwargs), None))

    return request_stream


@asynccontextmanager
async def _opened(manager: Any, start: Callable[[], ModelCall]) -> AsyncIterator[Any]:
    """What goes out while a stream is opened is a part of the call; it is read in the block, maybe by another task."""
    made = start()
    made.enter()
    try:
        stream = await manager.__aenter__()
    except BaseException as error:
        made.leave()
        made.end(error)
        raise
    made.leave()
    made.yielded(stream)
    try:
        yield stream
    except BaseException as error:
        made.end(error)
        if not await manager.__aexit__(type(error), error, error.__traceback__):
            raise
    else:
        made.result(stream, _read_stream)
        made.end()
        await manager.__aexit__(None, None, None)


def _read_stream(call: Call, stream: Any) -> None:
    read_response(call, stream.get())
