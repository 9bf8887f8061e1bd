"""crewai: crews, flows, agents, plans, tools, knowledge, and models whose client is not observed."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from seatrace.core import context, guard
from seatrace.core.patch import Patches
from seatrace.core.record import TOOL_ERROR, Call, Content
from seatrace.core.shape import get

from ._classes import replace_below
from ._failures import noting
from ._models import ModelCall, model_call
from ._steps import step, stepped
from ._usage import usage_in
from .providers import provider_named

_LIBRARY = "crewai"

_EXECUTORS = (
    ("agents.agent_executor", "AgentExecutor"),
    ("agents.crew_agent_executor", "CrewAgentExecutor"),
    ("experimental.agent_executor", "AgentExecutor"),
)
"""What runs an agent's loop; each version has some of them."""


def patch(module: Any, patches: Patches) -> None:
    """Taps the loaded package, or the module of agents that plan, which it loads when it needs that."""
    if module.__name__ != _LIBRARY:
        patches.replace(module.AgentReasoning, "handle_agent_reasoning", _plan)
        return
    agent = stepped(_agent, content=_task, read=_said)
    workflow = stepped(_workflow, content=_inputs, read=_said)
    for name in ("kickoff", "akickoff"):  # kickoff_async is kickoff in a thread
        patches.replace(module.Crew, name, workflow)
    patches.replace(_loaded("flow.runtime").Flow, "kickoff_async", workflow)  # kickoff is that in a loop of its own
    for name in ("execute_task", "aexecute_task", "kickoff", "kickoff_async"):
        patches.replace(module.Agent, name, agent)
    patches.replace(_loaded("utilities.planning_handler").CrewPlanner, "_handle_crew_planning", _plan)
    tools = _loaded("tools.base_tool").BaseTool
    replace_below([(tools, ("run", "arun"), _tool)], tools, patches)
    structured = _loaded("tools.structured_tool").CrewStructuredTool
    patches.replace(structured, "invoke", _tool)
    patches.replace(structured, "ainvoke", lambda original: _tool(_carrying(original)))
    for name, executor in _EXECUTORS:
        if (loaded := sys.modules.get(f"{_LIBRARY}.{name}")) is not None:
            patches.replace(getattr(loaded, executor), "_execute_single_native_tool_call", _asked_for)
    for name in ("query", "aquery"):
        patches.replace(module.Knowledge, name, stepped(_retrieval, content=_query, read=_found))
    replace_below([(module.BaseLLM, ("call", "acall"), _model)], module.BaseLLM, patches)
    patches.replace(module.BaseLLM, "_track_token_usage_internal", _counted)


def _loaded(name: str) -> Any:
    return sys.modules[f"{_LIBRARY}.{name}"]


# --- runs -------------------------------------------------------------------------------------------------------------


def _agent(agent: Any, *args: Any, **kwargs: Any) -> Call:
    goal = agent._original_goal or agent.goal
    return step("agent", _LIBRARY, _role(agent), description=goal or None)


def _role(agent: Any) -> str:
    """Before inputs were put into it: few values, and nobody's secret."""
    role: str = agent._original_role or agent.role
    return role.strip()


def _task(agent: Any, task: Any = None, *args: Any, **kwargs: Any) -> Content:
    asked = task if task is not None else kwargs.get("messages")
    return _heard(getattr(asked, "description", asked))


def _workflow(workflow: Any, *args: Any, **kwargs: Any) -> Call | None:
    """A crew or a flow that streams runs itself once more, in a thread; the framework's own work is flows, too."""
    home = type(workflow).__module__
    if workflow.stream or home.startswith(("crewai.agents.", "crewai.experimental.", "crewai.memory.")):
        return None
    return step("workflow", _LIBRARY, workflow.name or type(workflow).__name__)


def _planning(planner: Any, *args: Any, **kwargs: Any) -> Call:
    """An agent's plan for its task, or a planner's for the tasks of a whole crew."""
    agent = getattr(planner, "agent", None)
    return step("plan", _LIBRARY, None if agent is None else _role(agent))


def _planned(call: Call, value: Any) -> None:
    tasks = getattr(value, "list_of_plans_per_task", None)
    _said(call, value.plan.plan if tasks is None else "\n\n".join(each.plan for each in tasks))


_plan = stepped(_planning, read=_planned)


def _inputs(workflow: Any, inputs: Any = None, *args: Any, **kwargs: Any) -> Content:
    return _heard(str(inputs)) if inputs else Content()


def _heard(asked: Any) -> Content:
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return Content(input_messages=[_message(each) for each in messages]) if isinstance(messages, list) else Content()


def _message(given: Any) -> dict[str, Any]:
    words = get(given, "content")
    parts = [{"type": "text", "content": words}] if isinstance(words, str) else words or []
    return {"role": get(given, "role") or "user", "parts": parts}


def _said(call: Call, value: Any) -> None:
    words = getattr(value, "raw", value)
    if call.content is not None and isinstance(words, str):
        call.content.output_messages = [_message({"role": "assistant", "content": words})]


# --- tools and knowledge ----------------------------------------------------------------------------------------------

_asked: ContextVar[list[str] | None] = ContextVar("seatrace_crewai_asked", default=None)
"""The model's id of the tool call that is carried out here; the first tool that runs takes it."""


def _asked_for(original: Any) -> Any:
    @functools.wraps(original)
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked = kwargs.get("call_id") or next((get(each, "id") for each in args), None)
        token = _asked.set([asked] if isinstance(asked, str) else None)
        try:
            return original(self, *args, **kwargs)
        finally:
            _asked.reset(token)

    return execute


def _tool_call(tool: Any, *args: Any, **kwargs: Any) -> Call:
    asked = _asked.get()
    identifier = asked.pop() if asked else None
    # A composed description tells the name and arguments, too.
    description = tool.description.partition("Tool Description: ")[2] or tool.description
    return step("tool", _LIBRARY, tool.name, description=description or None, tool_call_id=identifier)


def _arguments(tool: Any, *args: Any, **kwargs: Any) -> Content:
    given = kwargs.get("input", args[0] if len(args) == 1 else None)
    return Content(tool_arguments=kwargs if given is None else given)


def _result(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = value if isinstance(value, (str, int, float, dict, list)) else str(value)


def _failure(value: Any) -> str | None:
    return TOOL_ERROR if type(value).__name__ == "ToolFailure" else None


_step_of_tool = stepped(_tool_call, content=_arguments, read=_result)


def _tool(original: Any) -> Any:
    return _step_of_tool(noting(original, _failure))


class _Carried:
    """A tool whose function, run in an executor's thread, finds the context of its caller there."""

    def __init__(self, tool: Any) -> None:
        self._tool = tool
        self.func = functools.partial(copy_context().run, tool.func)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tool, name)


def _carrying(original: Any) -> Any:
    @functools.wraps(original)
    async def ainvoke(self: Any, *args: Any, **kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(self.func):
            return await original(self, *args, **kwargs)
        return await original(_Carried(self), *args, **kwargs)

    return ainvoke


def _retrieval(knowledge: Any, query: Any, results_limit: Any = None, *args: Any, **kwargs: Any) -> Call:
    name = knowledge.collection_name or type(knowledge).__name__
    return step("retrieval", _LIBRARY, name, top_k=results_limit if isinstance(results_limit, int) else None)


def _query(knowledge: Any, query: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(query=query if isinstance(query, str) else " ".join(query))


def _found(call: Call, value: Any) -> None:
    if call.content is not None and isinstance(value, list):
        call.content.documents = [{name: get(each, name) for name in ("id", "score", "content")} for each in value]


# --- models -----------------------------------------------------------------------------------------------------------


def _model_call(model: Any, *args: Any, **kwargs: Any) -> Call:
    name = model.model.removeprefix(f"{model.provider}/") if isinstance(model.provider, str) else model.model
    call = Call("inference", "chat", _LIBRARY, request_model=name, provider=_provider(model))
    call.stream = bool(getattr(model, "stream", False))
    return call


def _provider(model: Any) -> str | None:
    said = model.provider
    return "azure.ai.inference" if said == "azure" else said and provider_named(said)


def _asked_model(model: Any, messages: Any = None, *args: Any, **kwargs: Any) -> Content:
    return _heard(messages)


_model = model_call(_model_call, content=_asked_model, read=_said)


def _counted(original: Callable[..., Any]) -> Any:
    """A model adds up its tokens over its calls; here they are those of one."""

    @functools.wraps(original)
    def track(self: Any, usage_data: Any, *args: Any, **kwargs: Any) -> Any:
        outer = context.outer_call()
        if isinstance(outer, ModelCall):
            try:
                outer.call.usage = usage_in(usage_data)
            except Exception as error:
                guard.fault("read a response", error)
        return original(self, usage_data, *args, **kwargs)

    return track
