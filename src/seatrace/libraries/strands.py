"""strands-agents: agents, graphs, swarms, tools and model calls, each inside the native span of the same thing."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from functools import wraps
from typing import Any

from seatrace.core import pipeline
from seatrace.core.drive import driven
from seatrace.core.patch import Patches
from seatrace.core.record import TOOL_ERROR, Call, Content, Usage
from seatrace.core.step import Step, handled

from ._models import model_call
from ._steps import step, stepped

_PROVIDERS = {
    "anthropic": "anthropic",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "ollama": "ollama",
    "openai": "openai",
    "openai_responses": "openai",
    "sagemaker": "aws.sagemaker",
    "writer": "writer",
}
"""By the module of strands.models that a model's class, or one that it comes from, stands in."""


def patch(module: Any, patches: Patches) -> None:
    """Each target is the method or function that runs inside a native span, or the event that tells of a failure."""
    name = module.__name__.rpartition(".")[2]
    if name == "agent":
        patches.replace(module.Agent, "_run_loop", stepped(_agent, content=_asked, read=_said))
    elif name == "graph":
        patches.replace(module.Graph, "_execute_graph", stepped(_workflow))
    elif name == "swarm":
        patches.replace(module.Swarm, "_execute_swarm", stepped(_workflow))
    elif name == "_events":
        patches.replace(module.ToolResultEvent, "__init__", _telling)
    elif name == "event_loop":
        patches.replace(module, "stream_messages", model_call(_model, content=_request, chunk=_response))
    elif "_run_tool" in vars(module):
        patches.replace(module, "_run_tool", stepped(_tool, content=_arguments, read=_result))
    else:  # before there was middleware around tools
        patches.replace(module.ToolExecutor, "_stream", _tools_of)


# --- agents -----------------------------------------------------------------------------------------------------------


def _agent(agent: Any, *_: Any, **__: Any) -> Call:
    return step(
        "agent",
        "strands",
        agent.name,
        description=getattr(agent, "description", None),
        request_model=_config(agent.model).get("model_id"),
        conversation_id=getattr(getattr(agent, "_session_manager", None), "session_id", None),
    )


def _asked(agent: Any, messages: Any, *_: Any, **__: Any) -> Content:
    return Content(input_messages=_messages(messages), system_instructions=_instructions(agent.system_prompt))


def _said(call: Call, events: Any) -> None:
    stops = [each["stop"] for each in events if "stop" in each]
    if call.content is not None:
        call.content.output_messages = _messages([stop[1] for stop in stops[-1:]])


def _workflow(workflow: Any, *_: Any, **__: Any) -> Call:
    manager = getattr(workflow, "session_manager", None)
    return step("workflow", "strands", workflow.id, conversation_id=getattr(manager, "session_id", None))


# --- tools ------------------------------------------------------------------------------------------------------------


def _tool(context: Any, *_: Any, **__: Any) -> Call:
    return _call_of(context.tool_use, context.tool)


def _tools_of(original: Any) -> Any:
    """A static method that is given the agent, and is no part of the agent's own step."""

    def starter(args: Any, kwargs: Any) -> Any:
        def begin(agent: Any, tool_use: Any, *_: Any, **__: Any) -> Step:
            name, registry = tool_use["name"], agent.tool_registry
            tool = registry.dynamic_tools.get(name) or registry.registry.get(name)
            return Step.begin(lambda: _call_of(tool_use, tool), lambda: Content(tool_arguments=tool_use["input"]))

        return None if pipeline.current is None else lambda: begin(*args, **kwargs)

    return staticmethod(driven(original.__func__, starter, _result))


def _call_of(tool_use: Any, tool: Any) -> Call:
    description = None if tool is None else tool.tool_spec.get("description")
    return step("tool", "strands", tool_use["name"], description=description, tool_call_id=tool_use.get("toolUseId"))


def _arguments(context: Any, *_: Any, **__: Any) -> Content:
    return Content(tool_arguments=context.tool_use["input"])


def _result(call: Call, events: Any) -> None:
    results = [each["tool_result"] for each in events if "tool_result" in each]
    if call.content is not None and results:
        call.content.tool_result = results[-1]["content"]


_told: ContextVar[str | None] = ContextVar("seatrace_strands_failure", default=None)
"""The id of the tool call whose exception was told last: its result passes through several such events."""


def _telling(original: Any) -> Any:
    """A tool's failure becomes a message to the model; here the exception still is one."""

    @wraps(original)
    def __init__(self: Any, tool_result: Any, *args: Any, **kwargs: Any) -> None:
        original(self, tool_result, *args, **kwargs)
        if pipeline.current is None or not isinstance(tool_result, dict) or tool_result.get("status") != "error":
            return
        error = getattr(self, "exception", None) or sys.exc_info()[1]
        if error is not None:
            _told.set(tool_result.get("toolUseId"))
            handled(error, "tool")
        elif tool_result.get("toolUseId") != _told.get():
            handled(TOOL_ERROR, "tool")

    return __init__


# --- models -----------------------------------------------------------------------------------------------------------


def _model(model: Any, *_: Any, **__: Any) -> Call:
    config = _config(model)
    modules = [kind.__module__.rpartition(".")[2] for kind in type(model).__mro__ if "strands" in kind.__module__]
    provider = next((_PROVIDERS[module] for module in modules if module in _PROVIDERS), None)
    call = Call("inference", "chat", "strands", request_model=config.get("model_id"), provider=provider)
    call.max_tokens, call.temperature, call.top_p = (
        config.get(each) for each in ("max_tokens", "temperature", "top_p")
    )
    return call


def _config(model: Any) -> dict[str, Any]:
    config = getattr(model, "config", None)
    return config if isinstance(config, dict) else {}


def _request(model: Any, system_prompt: Any, messages: Any, *_: Any, **__: Any) -> Content:
    return Content(input_messages=_messages(messages), system_instructions=_instructions(system_prompt))


def _response(call: Call, event: Any) -> bool:
    if "stop" not in event:
        return False
    reason, message, usage, _ = event["stop"]
    call.finish_reasons = [reason]
    call.usage = _usage(usage)
    if call.content is not None:
        call.content.output_messages = _messages([message])
    return True


def _usage(usage: Any) -> Usage | None:
    """Bedrock's arithmetic leaves cached tokens out of the input, and has them in the total."""
    total = usage.get("totalTokens")
    if not total:
        return None  # what strands begins with: nothing was said
    given, made = usage["inputTokens"], usage["outputTokens"]
    read, write = usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")
    cached = (read or 0) + (write or 0)
    return Usage(given + cached if total == given + made + cached else given, made, read, write)


# --- content ----------------------------------------------------------------------------------------------------------


def _instructions(prompt: Any) -> list[dict[str, Any]] | None:
    return [{"type": "text", "content": prompt}] if isinstance(prompt, str) and prompt else None


def _messages(messages: Any) -> list[dict[str, Any]]:
    return [{"role": each["role"], "parts": [_part(block) for block in each["content"]]} for each in messages]


def _part(block: Any) -> dict[str, Any]:
    if "text" in block:
        return {"type": "text", "content": block["text"]}
    if "toolUse" in block:
        use = block["toolUse"]
        return {"type": "tool_call", "id": use["toolUseId"], "name": use["name"], "arguments": use["input"]}
    if "toolResult" in block:
        result = block["toolResult"]
        return {"type": "tool_call_response", "id": result["toolUseId"], "response": result["content"]}
    return {"type": next(iter(block), "generic")}
