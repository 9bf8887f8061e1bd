"""LlamaIndex's runs: workflows and agents, and whose turn it is among several agents."""

from __future__ import annotations

import functools
import sys
from contextvars import ContextVar
from typing import Any

from seatrace.core import pipeline
from seatrace.core.drive import follow_result
from seatrace.core.record import Call, Content
from seatrace.core.step import Step

from ._llama_models import LIBRARY, message
from ._steps import step


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
asked_for: ContextVar[Any] = ContextVar("seatrace_llama_index_asked", default=None)
"""The event by which a model asked for the tool that runs here."""


def tap_run(original: Any) -> Any:
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
        follow_result(future, running, start, answer)
        return handler

    return run


def _run_call(workflow: Any, asked: Any) -> Call:
    session = getattr(asked.get("memory"), "session_id", None)
    agents = sys.modules.get(f"{LIBRARY}.agent.workflow.base_agent")
    is_agent = agents is not None and isinstance(workflow, agents.BaseWorkflowAgent)
    call = _agent(workflow) if is_agent else step("workflow", LIBRARY, type(workflow).__name__)
    call.conversation_id = session if isinstance(session, str) else None
    return call


def _agent(agent: Any) -> Call:
    return step("agent", LIBRARY, agent.name, description=agent.description or None)


def _run_content(asked: Any) -> Content:
    messages = [*(asked.get("chat_history") or ()), asked.get("user_msg")]
    return Content(input_messages=[message(each) for each in messages if each is not None] or None)


def answer(call: Call, value: Any) -> None:
    value = getattr(value, "result", value)
    said = getattr(value, "response", value)
    if call.content is not None and (isinstance(said, str) or hasattr(said, "blocks")):
        call.content.output_messages = [message(said, "assistant")]


def tap_turn(original: Any) -> Any:
    """A step of an ``AgentWorkflow``, a task of its own, runs within the turn of its agent."""
    body = tap_tool_call(original) if original.__name__ == "call_tool" else original

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        turns = _turns.get()
        if turns is None or turns.workflow is not self:
            return await body(self, *args, **kwargs)
        if original.__name__ == "setup_agent":
            pipeline.kept("begin a call", lambda: turns.take(_event(args, kwargs).current_agent_name))
        if turns.step is None:
            return await body(self, *args, **kwargs)
        with turns.step.around():
            return await body(self, *args, **kwargs)

    return run


def tap_tool_call(original: Any) -> Any:
    @functools.wraps(original)
    async def call_tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = asked_for.set(_event(args, kwargs))
        try:
            return await original(self, *args, **kwargs)
        finally:
            asked_for.reset(token)

    return call_tool


def _event(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("ev") or (args[-1] if args else None)
