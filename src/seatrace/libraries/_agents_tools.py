"""Tools of the OpenAI Agents SDK: functions, agents and MCP servers as such, and those that the package runs itself."""

from __future__ import annotations

import functools
import json
import sys
from types import ModuleType
from typing import Any

from seatrace.core.patch import Patches
from seatrace.core.record import TOOL_ERROR, Call, Content
from seatrace.core.step import handled

from ._steps import step, stepped

_NATIVE = ("ComputerAction", "LocalShellAction", "ShellAction", "ApplyPatchAction", "CustomToolAction")


def observe_tools(execution: ModuleType, actions: ModuleType, patches: Patches) -> None:
    """Observes the tools that the loaded ``tool_execution`` and ``tool_actions`` run."""
    invoke = "_invoke_function_tool_with_metadata"
    name = invoke if hasattr(execution, invoke) else "invoke_function_tool"
    patches.replace(execution, name, stepped(_tool, content=_arguments, read=_returned))
    for owner in _NATIVE:
        if hasattr(actions, owner):
            patches.replace(getattr(actions, owner), "execute", stepped(_native, content=_action, read=_returned))
    # What is given an exception of a tool, out of which words for the model are made.
    patches.replace(sys.modules["agents.tool"], "maybe_invoke_function_tool_failure_error_function", _noting)
    patches.replace(sys.modules["agents.exceptions"].ToolTimeoutError, "__init__", _noting)
    patches.replace(actions, "format_shell_error", _noting)
    servers = sys.modules.get("agents.mcp.server")
    if servers is not None:
        patches.replace(servers._MCPServerWithClientSession, "call_tool", _judging)


def _tool(*, function_tool: Any, context: Any, arguments: Any) -> Call:
    about, call_id = function_tool.description or None, getattr(context, "tool_call_id", None)
    return step("tool", "agents", function_tool.name, description=about, tool_call_id=call_id)


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
    return step("tool", "agents", name, tool_call_id=call_id)


def _action(owner: Any, **given: Any) -> Content:
    asked = vars(given.get("call") or given.get("action"))["tool_call"]
    found = (_part(asked, name) for name in ("action", "operation", "input"))
    action: Any = next((each for each in found if each is not None), None)
    return Content(tool_arguments=action.model_dump() if hasattr(action, "model_dump") else action)


def _part(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def _returned(call: Call, result: Any) -> None:
    if call.content is not None:
        call.content.tool_result = getattr(result, "output", result)


def _noting(original: Any) -> Any:
    @functools.wraps(original)
    def noting(*args: Any, **kwargs: Any) -> Any:
        error = kwargs["error"] if "error" in kwargs else args[0] if args else None
        if isinstance(error, Exception):
            handled(error, "tool")
        return original(*args, **kwargs)

    return noting


def _judging(original: Any) -> Any:
    """An MCP server says in its result that a tool failed."""

    @functools.wraps(original)
    async def call_tool(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if getattr(result, "isError", None) or getattr(result, "is_error", None):
            handled(TOOL_ERROR, "tool")
        return result

    return call_tool
