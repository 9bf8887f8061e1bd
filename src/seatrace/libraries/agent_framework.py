"""Microsoft's agent-framework: runs of agents and workflows, tools, and chat clients whose own client is not observed.

Its own tracing has a span for the same things where it is enabled. Those of agents and models are enriched, since we
begin inside of them; tools and workflows are tapped around theirs, and lend it our span instead.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from seatrace.core import context, pipeline
from seatrace.core.drive import drive_body, run_coroutine
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content, Usage
from seatrace.core.step import Step

from ._models import ModelCall
from ._pulls import Pulls
from ._spans_lent import lend
from ._steps import step, stepped

_LIBRARY = "agent_framework"

_POSTPONED = ("UserInputRequiredException", "MiddlewareTermination")
"""What ends a tool that has not failed: it waits for somebody, or the run is to end."""

_MADE_UP = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""The end of a name that the framework gave a workflow: another one in each process."""


def _observability(module: Any, patches: Patches) -> None:
    patches.replace(module.AgentTelemetryLayer, "_trace_agent_invocation", _agents)
    patches.replace(module.ChatTelemetryLayer, "get_response", _chats(streams=True))


def _clients(module: Any, patches: Patches) -> None:
    patches.replace(module.BaseChatClient, "get_response", _chats(streams=False))


def _tools(module: Any, patches: Patches) -> None:
    original = vars(module.FunctionTool).get("invoke")
    patches.replace(module.FunctionTool, "invoke", stepped(_tool, content=_tool_content, read=_returned, of=_ToolStep))
    patches.replace(module, "get_function_span", lend(_observability_module, original))


def _workflows(module: Any, patches: Patches) -> None:
    owner, name = getattr(module, "Workflow", None), "_run_workflow_with_tracing"
    if owner is None or name not in vars(owner):
        owner, name = module.FunctionalWorkflow, "_run_core"
    original = vars(owner).get(name)
    patches.replace(owner, name, stepped(_workflow, read=_put_out))
    span = "start_workflow_span" if hasattr(module, "start_workflow_span") else "create_workflow_span"
    patches.replace(module, span, lend(_observability_module, original))


PARTS: dict[str, Callable[[Any, Patches], None]] = {
    "agent_framework.observability": _observability,
    "agent_framework._clients": _clients,
    "agent_framework._tools": _tools,
    "agent_framework._workflows._workflow": _workflows,
    "agent_framework._workflows._functional": _workflows,
}


def _observability_module() -> Any:
    return sys.modules["agent_framework.observability"]


# --- agents ---------------------------------------------------------------------------------------------------------


def _agents(original: Any) -> Any:
    @functools.wraps(original)
    def trace(self: Any, **kwargs: Any) -> Any:
        if pipeline.current is None or not kwargs.keys() >= {"stream", "execute"}:
            return original(self, **kwargs)

        def start() -> Step:
            return Step.begin(
                lambda: _agent(self, **kwargs), lambda: Content(input_messages=_said("user", kwargs["messages"]))
            )

        if kwargs["stream"]:
            return Pulls.of(original(self, **kwargs), start, _answered)
        execute = kwargs["execute"]
        return original(self, **{**kwargs, "execute": lambda: _driven(execute(), start, _answered)})

    return trace


def _driven(result: Any, start: Callable[[], Any], read: Any) -> Any:
    return drive_body(run_coroutine, result, start, read) if type(result) is CoroutineType else result


def _agent(self: Any, *, session: Any = None, **others: Any) -> Call:
    service = getattr(session, "service_session_id", None)
    own = service if isinstance(service, str) else getattr(session, "session_id", None)
    name, description = getattr(self, "name", None), getattr(self, "description", None)
    conversation = context.current_scope().conversation or own
    return step("agent", _LIBRARY, name, description=description, conversation_id=conversation)


def _said(role: str, said: Any) -> list[dict[str, Any]] | None:
    each = said if isinstance(said, (list, tuple)) else [said]
    texts = [one if isinstance(one, str) else getattr(one, "text", None) for one in each]
    parts = [{"type": "text", "content": text} for text in texts if text]
    return [{"role": role, "parts": parts}] if parts else None


def _answered(call: Call, answer: Any) -> None:
    if call.content is not None:
        text = "".join(each.text for each in answer) if isinstance(answer, list) else answer.text
        call.content.output_messages = _said("assistant", text)


# --- tools ----------------------------------------------------------------------------------------------------------


class _ToolStep(Step):
    def end(self, error: BaseException | None = None) -> None:
        super().end(None if type(error).__name__ in _POSTPONED else error)


def _tool(self: Any, *, tool_call_id: str | None = None, **others: Any) -> Call:
    return step("tool", _LIBRARY, self.name, description=self.description or None, tool_call_id=tool_call_id)


def _tool_content(self: Any, *, arguments: Any = None, context: Any = None, **others: Any) -> Content:
    given: Any = arguments if arguments is not None else getattr(context, "arguments", None)
    return Content(tool_arguments=given.model_dump() if hasattr(given, "model_dump") else given)


def _returned(call: Call, value: Any) -> None:
    if call.content is not None:
        texts = [getattr(each, "text", None) for each in value] if isinstance(value, list) else [None]
        call.content.tool_result = value if None in texts else "\n".join(map(str, texts))


# --- workflows ------------------------------------------------------------------------------------------------------


def _workflow(self: Any, *args: Any, **others: Any) -> Call:
    name = None if self.name is None or _MADE_UP.search(self.name) else self.name
    return step("workflow", _LIBRARY, name, description=self.description)


def _put_out(call: Call, events: list[Any]) -> None:
    if call.content is not None:
        found = [event.data for event in events if event.type == "output"]
        call.content.output_messages = _said("assistant", found)


# --- models ---------------------------------------------------------------------------------------------------------


def _chats(*, streams: bool) -> Any:
    """Streams are watched where the framework's own span is around their pulls, answers where it is around us."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def get_response(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            if pipeline.current is None or streams is not bool(kwargs.get("stream")):
                return result

            def start() -> ModelCall:
                asked = args[0] if args else kwargs.get("messages")
                return ModelCall.begin(
                    lambda: _chat(self, **kwargs), lambda: Content(input_messages=_messages(asked)), None
                )

            return Pulls.of(result, start, _read) if streams else _driven(result, start, _read)

        return get_response

    return make


def _chat(self: Any, *, options: Any = None, **others: Any) -> Call:
    model = (options or {}).get("model") or getattr(self, "model", None)
    provider = getattr(self, "otel_provider_name", None)
    call = Call("inference", "chat", _LIBRARY, provider=None if provider == "unknown" else provider)
    call.request_model = model if isinstance(model, str) and model else None
    return call


def _messages(asked: Any) -> list[dict[str, Any]]:
    return [message for each in asked or () for message in _said(str(getattr(each, "role", "user")), each) or ()]


def _read(call: Call, answer: Any) -> None:
    updates = answer if isinstance(answer, list) else [answer]
    for each in updates:
        call.response_id = getattr(each, "response_id", None) or call.response_id
        call.response_model = getattr(each, "model", None) or call.response_model
        reason = getattr(each, "finish_reason", None)
        call.finish_reasons = [str(reason)] if reason else call.finish_reasons
        parts = getattr(each, "contents", None) or ()
        told = [part.usage_details for part in parts if part.type == "usage"] + [getattr(each, "usage_details", None)]
        for usage in filter(None, told):
            call.usage = Usage(
                input_tokens=usage.get("input_token_count"),
                output_tokens=usage.get("output_token_count"),
                cache_read=usage.get("cache_read_input_token_count"),
                cache_write=usage.get("cache_creation_input_token_count"),
                reasoning=usage.get("reasoning_output_token_count"),
            )
    _answered(call, answer)
