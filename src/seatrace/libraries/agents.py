"""The ``agents`` package (OpenAI Agents SDK): runs, hand-offs, tools, and models that no observed client calls.

A run is named by the agent that it starts with; an agent that takes over by a hand-off is a step within that, for as
long as it is its turn. The package's own traces stay as they are.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import ModuleType
from typing import Any

from seatrace.core import pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import Call
from seatrace.core.step import Step
from seatrace.shapes.openai_responses import OpenAIResponses

from ._agents_models import observe_models
from ._agents_tools import observe_tools
from ._steps import step

_INNER = ("run_loop", "tool_execution", "tool_actions")
_ITEMS = OpenAIResponses()


def patch(module: ModuleType, patches: Patches) -> None:
    """Observes the loaded ``agents.run`` and what it has loaded."""
    loop, execution, actions = (sys.modules[f"agents.run_internal.{each}"] for each in _INNER)
    patches.replace(module.AgentRunner, "run", _run(_asked, lambda result, given: result))
    patches.replace(module, "start_streaming", _run(_streamed, lambda result, given: given["streamed_result"]))
    patches.replace(module, "run_single_turn", _turn)
    patches.replace(loop, "run_single_turn_streamed", _turn)
    patches.replace(loop, "get_model", observe_models(patches))
    observe_tools(execution, actions, patches)


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
        return step("agent", "agents", name, description=about, conversation_id=self._conversation)

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
            begun = pipeline.kept("begin a call", lambda: _begun(*ask(*args, **kwargs)))
            if begun is None:
                return await original(*args, **kwargs)
            turns, asked = begun
            with Step.begin(turns.call, lambda: _ITEMS.request_content({"input": asked})) as step, turns:
                result = await original(*args, **kwargs)
                step.result(result_of(result, kwargs), _answered)
                return result

        return run

    return make


def _begun(agent: Any, asked: Any, session: Any, conversation: Any) -> tuple[_Turns, Any]:
    return _Turns(agent, getattr(session, "session_id", None) or conversation), asked


def _turn(original: Any) -> Any:
    @functools.wraps(original)
    async def turn(*args: Any, **kwargs: Any) -> Any:
        turns = _turns.get()
        if turns is None:
            return await original(*args, **kwargs)
        taken = pipeline.kept("begin a call", lambda: turns.of(_agent_of(*args, **kwargs)))
        if taken is None:
            return await original(*args, **kwargs)
        taken.enter()
        try:
            return await original(*args, **kwargs)
        finally:
            taken.leave()

    return turn


def _agent_of(*args: Any, **kwargs: Any) -> Any:
    bindings = kwargs.get("bindings") or kwargs.get("agent") or args[1]
    return getattr(bindings, "public_agent", bindings)


def _answered(call: Call, result: Any) -> None:
    answer = result.final_output
    if call.content is not None and answer is not None:
        parts = [{"type": "text", "content": answer if isinstance(answer, str) else str(answer)}]
        call.content.output_messages = [{"role": "assistant", "parts": parts}]
