"""AutoGen AgentChat: agents, teams, tools, and the models that no observed client calls.

AutoGen makes spans of agents and tools itself, where the program has set up OpenTelemetry. Ours of an agent begin
within, and enrich them; those of tools rest while we observe the same call.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import Any

from seatrace.core import pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import TOOL_ERROR, Call, Content, Usage
from seatrace.core.step import innermost_mark

from ._family import family, replace_each
from ._models import model_call
from ._steps import step, stepped

_LIBRARY = "autogen_agentchat"


def patch(module: Any, patches: Patches) -> None:
    """Taps one of AutoGen's modules."""
    if hasattr(module, "BaseChatAgent"):
        _agents(module.BaseChatAgent, patches)
    if hasattr(module, "BaseGroupChat"):
        patches.replace(module.BaseGroupChat, "run_stream", stepped(_begin_team(patches), content=_task, read=_answer))
    if hasattr(module, "ChatCompletionClient"):
        replace_each(family(module.ChatCompletionClient), _CALLS, _call, patches)
    for name, methods in _TOOLS.items():
        owner = vars(module).get(name)
        if owner is not None and owner.__module__ == module.__name__:
            for method in methods:
                patches.replace(owner, method, _tool(_begin_call if method == "call_tool" else _begin_tool))
            if hasattr(module, "trace_tool_span"):
                patches.replace(module, "trace_tool_span", _resting)


# --- agents and teams -------------------------------------------------------------------------------------------------

_TURNS = ("on_messages", "on_messages_stream")


def _agents(base: type, patches: Patches) -> None:
    """Each class of agents has methods of its own, with one of the two made of the other."""

    def begin(agent: Any, *args: Any, **kwargs: Any) -> Call:
        _model_of(agent, patches)
        return step("agent", _LIBRARY, agent.name, description=agent.description or None)

    turn = stepped(begin, content=_messages, read=_answer)
    replace_each(family(base), _TURNS, turn, patches)

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            if pipeline.current is not None:
                pipeline.kept("patch a class", lambda: replace_each(type(self).__mro__, _TURNS, turn, patches))
            original(self, *args, **kwargs)

        return __init__

    patches.replace(base, "__init__", make)


def _begin_team(patches: Patches) -> Any:
    def begin(team: Any, *args: Any, **kwargs: Any) -> Call:
        _model_of(team, patches)
        name = getattr(team, "name", type(team).__name__)  # older ones have none
        return step("workflow", _LIBRARY, name, description=getattr(team, "description", None))

    return begin


def _messages(agent: Any, messages: Any = (), *args: Any, **kwargs: Any) -> Content:
    return Content(input_messages=[_told("user", each) for each in messages])


def _task(team: Any, *args: Any, task: Any = None, **kwargs: Any) -> Content:
    given = task if isinstance(task, (list, tuple)) else [] if task is None else [task]
    return Content(input_messages=[_told("user", each) for each in given])


def _answer(call: Call, value: Any) -> None:
    last = value[-1] if isinstance(value, list) and value else value
    message = last.messages[-1] if getattr(last, "messages", None) else getattr(last, "chat_message", None)
    if call.content is not None and message is not None:
        call.content.output_messages = [_told("assistant", message)]


def _told(role: str, message: Any) -> dict[str, Any]:
    said = getattr(message, "content", message)
    return {"role": role, "parts": [{"type": "text", "content": said if isinstance(said, str) else str(said)}]}


# --- tools ------------------------------------------------------------------------------------------------------------

_TOOLS = {"BaseTool": ("run_json",), "BaseStreamTool": ("run_json_stream",), "McpWorkbench": ("call_tool",)}

_methods: set[int] = set()


def _tool(begin: Any) -> Any:
    make = stepped(begin, content=_arguments, read=_result, outcome=_outcome)

    def remember(original: Any) -> Any:
        _methods.add(id(original))
        return make(original)

    return remember


def _begin_tool(tool: Any, args: Any, cancellation_token: Any, call_id: Any = None) -> Call:
    return step("tool", _LIBRARY, tool.name, description=tool.description or None, tool_call_id=call_id)


def _begin_call(workbench: Any, name: Any, *args: Any, call_id: Any = None, **kwargs: Any) -> Call:
    return step("tool", _LIBRARY, name, tool_call_id=call_id)


def _arguments(owner: Any, *args: Any, **kwargs: Any) -> Content:
    given = kwargs.get("args") or kwargs.get("arguments") or next((each for each in args if isinstance(each, dict)), {})
    return Content(tool_arguments=dict(given))


def _result(call: Call, value: Any) -> None:
    if call.content is not None:
        value = value[-1] if isinstance(value, list) and value else value
        text = getattr(value, "to_text", None)
        call.content.tool_result = text() if callable(text) else value


def _outcome(call: Call, value: Any, *args: Any, **kwargs: Any) -> None:
    if getattr(value, "is_error", False):
        call.error_type = TOOL_ERROR


def _resting(original: Any) -> Any:
    @functools.wraps(original)
    def trace_tool_span(*args: Any, **kwargs: Any) -> Any:
        mark = innermost_mark()
        if pipeline.current is not None and mark is not None and mark[1] in _methods:
            return nullcontext()
        return original(*args, **kwargs)

    return trace_tool_span


# --- models -----------------------------------------------------------------------------------------------------------

_CALLS = ("create", "create_stream")

_PROVIDERS = {"Azure": "azure.ai.inference", "Ollama": "ollama", "LlamaCpp": "llama_cpp", "Replay": "replay"}


def _model_of(owner: Any, patches: Patches) -> None:
    """The model client of an agent or team may be one of the program's own, or came after this was set up."""
    client = getattr(owner, "_model_client", None)
    while client is not None:
        if type(client).__name__ != "ChatCompletionCache":  # its answers may be old ones
            replace_each(type(client).__mro__, _CALLS, _call, patches)
            return
        client = getattr(client, "client", None)


def _begin_model(client: Any, *args: Any, **kwargs: Any) -> Call:
    name = type(client).__name__
    provider = next((provider for start, provider in _PROVIDERS.items() if name.startswith(start)), None)
    model = (getattr(client, "_create_args", None) or {}).get("model") or client.model_info.get("family")
    return Call("inference", "chat", _LIBRARY, request_model=model, provider=provider)


def _asked(client: Any, messages: Any = (), *args: Any, **kwargs: Any) -> Content:
    roles = {"SystemMessage": "system", "UserMessage": "user", "AssistantMessage": "assistant"}
    return Content(input_messages=[_told(roles.get(type(each).__name__, "tool"), each) for each in messages])


def _read_chunk(call: Call, chunk: Any) -> None:
    told = getattr(chunk, "usage", None)
    if told is None:
        return
    call.finish_reasons = [{"function_calls": "tool_call"}.get(chunk.finish_reason, chunk.finish_reason)]
    if told.prompt_tokens or told.completion_tokens:  # 0 stands for what it was not told
        call.usage = Usage(told.prompt_tokens, told.completion_tokens)
    if call.content is not None:
        call.content.output_messages = [_told("assistant", chunk)]


_call = model_call(_begin_model, content=_asked, read=_read_chunk, chunk=_read_chunk)
