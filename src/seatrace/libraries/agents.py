"""The ``agents`` package (OpenAI Agents SDK): runs, hand-offs, tools, and models that no observed client calls.

A run is named by the agent that it starts with; an agent that takes over by a hand-off is a step within that, for as
long as it is its turn. The package's own traces stay as they are.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import ModuleType
from typing import Any

from seatrace.core import pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content, Usage
from seatrace.core.step import Step, handled
from seatrace.shapes.openai_responses import OpenAIResponses

from ._models import model_call
from ._steps import step, stepped

_LIBRARY = "agents"
_INNER = ("run_loop", "tool_execution", "tool_actions")
_NATIVE_TOOLS = ("ComputerAction", "LocalShellAction", "ShellAction", "ApplyPatchAction", "CustomToolAction")
_ITEMS = OpenAIResponses()


def patch(module: ModuleType, patches: Patches) -> None:
    """Observes the loaded ``agents.run`` and what it has loaded."""
    loop, execution, actions = (sys.modules[f"agents.run_internal.{each}"] for each in _INNER)
    tool, errors = sys.modules["agents.tool"], sys.modules["agents.exceptions"]
    patches.replace(module.AgentRunner, "run", _run(_asked, lambda result, given: result))
    patches.replace(module, "start_streaming", _run(_streamed, lambda result, given: given["streamed_result"]))
    patches.replace(module, "run_single_turn", _turn)
    patches.replace(loop, "run_single_turn_streamed", _turn)
    patches.replace(loop, "get_model", _models(patches))
    invoke = "_invoke_function_tool_with_metadata"
    name = invoke if hasattr(execution, invoke) else "invoke_function_tool"
    patches.replace(execution, name, stepped(_tool, content=_arguments, read=_returned))
    patches.replace(tool, "maybe_invoke_function_tool_failure_error_function", _noting("error"))
    patches.replace(errors.ToolTimeoutError, "__init__", _noting(0))
    patches.replace(actions, "format_shell_error", _noting(0))
    for owner in _NATIVE_TOOLS:
        if hasattr(actions, owner):
            patches.replace(getattr(actions, owner), "execute", stepped(_native, content=_action, read=_returned))


# --- runs -----------------------------------------------------------------------------------------------------------


class _Turns:
    """Whose turn it is in a run."""

    def __init__(self, first: Any, conversation: str | None) -> None:
        self._agent = first
        self._conversation = conversation
        self._step: Step | None = None
        self._token: Token[_Turns | None] | None = None

    def call(self) -> Call:
        """A call of the agent whose turn it is."""
        agent = self._agent
        about = getattr(agent, "handoff_description", None)
        name = getattr(agent, "name", None)
        return step("agent", _LIBRARY, name, description=about, conversation_id=self._conversation)

    def of(self, agent: Any) -> Step | None:
        """The step in which ``agent`` takes its turn; ``None`` for the run's own."""
        if agent is not self._agent:
            self._end()
            self._agent = agent
            self._step = Step.begin(self.call)
        return self._step

    def _end(self, error: BaseException | None = None) -> None:
        taken, self._step = self._step, None
        if taken is not None:
            taken.end(error)

    def __enter__(self) -> None:
        self._token = _turns.set(self)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._end(error)
        try:
            _turns.reset(self._token)  # type: ignore[arg-type]
        except ValueError:  # a run that was dropped is closed in another context
            pass


_turns: ContextVar[_Turns | None] = ContextVar("seatrace_agents_turns", default=None)

_Ask = Callable[..., "tuple[Any, Any, Any, Any]"]
"""Of the arguments of a run: the agent, its input, the session and the id of a conversation kept by the provider."""


def _asked(runner: Any, starting_agent: Any, input: Any, **given: Any) -> tuple[Any, Any, Any, Any]:
    agent = getattr(input, "_current_agent", None) or starting_agent  # the state of a run that goes on
    return agent, getattr(input, "_original_input", input), given.get("session"), given.get("conversation_id")


def _streamed(**given: Any) -> tuple[Any, Any, Any, Any]:
    agent = getattr(given["streamed_result"], "current_agent", None) or given["starting_agent"]
    return agent, given["starting_input"], given.get("session"), given.get("conversation_id")


def _run(ask: _Ask, result_of: Callable[[Any, Any], Any]) -> Any:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def run(*args: Any, **kwargs: Any) -> Any:
            if pipeline.current is None:
                return await original(*args, **kwargs)
            agent, asked, session, conversation = ask(*args, **kwargs)
            turns = _Turns(agent, getattr(session, "session_id", None) or conversation)
            with Step.begin(turns.call, lambda: _ITEMS.request_content({"input": asked})) as step, turns:
                result = await original(*args, **kwargs)
                step.result(result_of(result, kwargs), _answered)
                return result

        return run

    return make


def _turn(original: Any) -> Any:
    @functools.wraps(original)
    async def turn(*args: Any, **kwargs: Any) -> Any:
        turns = _turns.get()
        if turns is None:
            return await original(*args, **kwargs)
        bindings = kwargs.get("bindings") or kwargs.get("agent") or args[1]
        taken = turns.of(getattr(bindings, "public_agent", bindings))
        if taken is None:
            return await original(*args, **kwargs)
        taken.enter()
        try:
            return await original(*args, **kwargs)
        finally:
            taken.leave()

    return turn


def _answered(call: Call, result: Any) -> None:
    answer = result.final_output
    if call.content is not None and answer is not None:
        parts = [{"type": "text", "content": answer if isinstance(answer, str) else str(answer)}]
        call.content.output_messages = [{"role": "assistant", "parts": parts}]


# --- tools ----------------------------------------------------------------------------------------------------------


def _tool(*, function_tool: Any, context: Any, arguments: Any) -> Call:
    about, call_id = function_tool.description or None, getattr(context, "tool_call_id", None)
    return step("tool", _LIBRARY, function_tool.name, description=about, tool_call_id=call_id)


def _arguments(*, function_tool: Any, context: Any, arguments: Any) -> Content:
    try:
        return Content(tool_arguments=json.loads(arguments))
    except ValueError:
        return Content(tool_arguments=arguments)


def _native(owner: Any, **given: Any) -> Call:
    """Shell, computer, patches, custom tools: the package runs them itself."""
    asked = vars(given.get("call") or given.get("action"))
    name = next((getattr(each, "name", None) for key, each in asked.items() if key.endswith("_tool")), None)
    call_id = _part(asked["tool_call"], "call_id")
    return step("tool", _LIBRARY, name, tool_call_id=call_id)


def _action(owner: Any, **given: Any) -> Content:
    asked = vars(given.get("call") or given.get("action"))["tool_call"]
    found = (_part(asked, name) for name in ("action", "operation", "input"))
    action = next((each for each in found if each is not None), None)
    return Content(tool_arguments=action.model_dump() if hasattr(action, "model_dump") else action)


def _part(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def _returned(call: Call, result: Any) -> None:
    if call.content is not None:
        call.content.tool_result = getattr(result, "output", result)


def _noting(which: int | str) -> Callable[[Any], Any]:
    """A function that is given an exception of a tool, out of which it makes words for the model."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def noting(*args: Any, **kwargs: Any) -> Any:
            error = kwargs.get("error") if isinstance(which, str) else args[0] if args else None
            if isinstance(error, Exception):
                handled(error, "tool")
            return original(*args, **kwargs)

        return noting

    return make


# --- models ---------------------------------------------------------------------------------------------------------


def _models(patches: Patches) -> Callable[[Any], Any]:
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
                observe(type(model))
            return model

        return get_model

    return make


def _model(model: Any, *args: Any, **kwargs: Any) -> Call:
    name = getattr(model, "model", None)
    call = Call("inference", "chat", _LIBRARY, request_model=name if isinstance(name, str) else None)
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
    """A ``ModelResponse``, or the response of which a stream's last event tells. Zeros are the package's for unknown."""
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
