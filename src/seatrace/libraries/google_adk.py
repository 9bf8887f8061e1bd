"""google-adk: agents, workflows, tools and model calls, each inside the native span of the same thing.

ADK's own spans are open when what stands behind them runs, and then are the spans: ours tells into them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from functools import wraps
from types import AsyncGeneratorType
from typing import Any

from seatrace.core import pipeline
from seatrace.core.context import current_scope
from seatrace.core.drive import drive_body, run_async_generator
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content, Usage

from ._models import ModelCall
from ._steps import step, stepped

_LIBRARY = "google.adk"
_NATIVE = "gcp.vertex.agent"
_WORKFLOWS = frozenset({"SequentialAgent", "ParallelAgent", "LoopAgent"})
_TOOL_CALLS = ("_call_tool_async", "__call_tool_async", "_call_tool_in_thread_pool")
_CLASSES_LIMIT = 256


def patch(module: Any, patches: Patches) -> None:
    """Agents run through ``BaseAgent``, graphs through ``Workflow``, tools and models through the flows of an agent."""
    name = module.__name__.rpartition(".")[2]
    if name == "base_agent":
        observe = _observe_classes(patches)
        patches.replace(module.BaseAgent, "run_async", observe)
        patches.replace(module.BaseAgent, "run_live", observe)
    elif name == "_workflow":
        patches.replace(module.Workflow, "_run_impl", stepped(_graph))
    elif name == "context":
        if "telemetry_context" in vars(module.Context):  # since there are graphs
            patches.replace(module.Context, "telemetry_context", _current)
    elif name == "base_llm_flow":
        patches.replace(module.BaseLlmFlow, "_run_and_handle_error", _models_called)
    elif name == "runners":
        patches.replace(module, "create_thread", _with_context)
    else:
        for tool_call in _TOOL_CALLS:
            if tool_call in vars(module):
                patches.replace(module, tool_call, stepped(_tool, content=_arguments, read=_result))


# --- agents -----------------------------------------------------------------------------------------------------------


def _observe_classes(patches: Patches) -> Callable[[Any], Any]:
    """The native span opens in ``run_async``; what runs inside it is the method of an agent's own class, which is
    replaced when an agent of that class runs for the first time."""
    observed: set[tuple[type, str]] = set()
    make = stepped(_agent, content=_asked, read=_said)

    def observe(kind: type, name: str) -> None:
        owner = next(each for each in kind.__mro__ if name in vars(each))
        if (owner, name) not in observed and len(observed) < _CLASSES_LIMIT:
            observed.add((owner, name))
            patches.replace(owner, name, make)

    def replacement(original: Any) -> Any:
        @wraps(original)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            if pipeline.current is not None:
                pipeline.kept("patch a class", lambda: observe(type(self), f"_{original.__name__}_impl"))
            return original(self, *args, **kwargs)

        return run

    return replacement


def _agent(agent: Any, context: Any) -> Call:
    workflow = any(
        each.__name__ in _WORKFLOWS and each.__module__.startswith("google.adk.agents.") for each in type(agent).__mro__
    )
    call = step("workflow" if workflow else "agent", _LIBRARY, agent.name, description=agent.description or None)
    call.conversation_id = _conversation(context)
    model = getattr(agent, "model", None)
    call.request_model = (model if isinstance(model, str) else getattr(model, "model", None)) or None
    return call


def _graph(workflow: Any, *, ctx: Any, **_: Any) -> Call:
    return step("workflow", _LIBRARY, workflow.name, conversation_id=_conversation(ctx))


def _conversation(context: Any) -> str:
    """The session. An agent that is another's tool has one made for that alone, and belongs to the other's."""
    return current_scope().conversation or context.session.id


def _current(original: property) -> property:
    """A node runs in the context of the node around it, which ADK keeps by value. Where that has no span of ADK's, the
    current one is meant, which may have one of ours."""

    def telemetry_context(self: Any) -> Any:
        kept = original.fget(self)  # type: ignore[misc]
        native = sys.modules.get("google.adk.telemetry.node_tracing")
        if pipeline.current is None or native is None:
            return kept
        scope = getattr(native.trace.get_current_span(kept.otel_context), "instrumentation_scope", None)
        if scope is not None and scope.name == _NATIVE:
            return kept
        return replace(kept, otel_context=native.context_api.get_current())

    return property(telemetry_context, doc=original.__doc__)


def _asked(agent: Any, context: Any) -> Content:
    return Content(input_messages=_messages([context.user_content]))


def _said(call: Call, events: Any) -> None:
    contents = [each.content for each in events if not each.partial and each.author == call.name]
    if call.content is not None:
        call.content.output_messages = _messages(contents[-1:])


# --- tools ------------------------------------------------------------------------------------------------------------


def _tool(tool: Any, args: Any, tool_context: Any, **_: Any) -> Call:
    call = step("tool", _LIBRARY, tool.name, description=tool.description or None)
    call.tool_call_id = tool_context.function_call_id
    return call


def _arguments(tool: Any, args: Any, tool_context: Any, **_: Any) -> Content:
    return Content(tool_arguments=args)


def _result(call: Call, result: Any) -> None:
    if call.content is not None:
        call.content.tool_result = result


def _with_context(original: Any) -> Any:
    """``Runner.run`` works in a thread of its own: what is current where it is called is current there."""

    @wraps(original)
    def create_thread(target: Any, *args: Any, **kwargs: Any) -> Any:
        if pipeline.current is None:
            return original(target, *args, **kwargs)
        return original(copy_context().run, target, *args, **kwargs)

    return create_thread


# --- models -----------------------------------------------------------------------------------------------------------


def _models_called(original: Any) -> Any:
    """What a model's class yields passes here, whatever class that is."""

    @wraps(original)
    def run(self: Any, responses: Any, context: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if pipeline.current is not None and isinstance(responses, AsyncGeneratorType):
            mode = getattr(getattr(context, "run_config", None), "streaming_mode", None)
            streamed = getattr(mode, "value", None) == "sse"

            def read(call: Call, response: Any) -> bool:
                call.stream = streamed  # else the one answer is a generator's only value, too
                return _response(call, response)

            def start() -> ModelCall:
                return ModelCall.begin(lambda: _model(request), lambda: _request(request), read)

            responses = drive_body(run_async_generator, responses, start)
        return original(self, responses, context, request, *args, **kwargs)

    return run


def _model(request: Any) -> Call:
    call = Call(
        "inference", "generate_content", _LIBRARY, request_model=request.model, provider=_provider(request.model)
    )
    config = request.config
    if config is not None:
        call.temperature, call.top_p, call.seed = config.temperature, config.top_p, config.seed
        call.max_tokens, call.stop_sequences = config.max_output_tokens, config.stop_sequences
    return call


def _provider(model: str | None) -> str | None:
    """By the model's name: a prefix says whose it is, and Gemini, which is ADK's default, goes without one."""
    name = (model or "").rpartition("/models/")[2]
    if name.startswith("claude"):
        return "anthropic"
    if "/" in name:
        return name.partition("/")[0].lower()
    if name.startswith(("gemini", "gemma")):
        vertex = os.environ.get("GOOGLE_GENAI_USE_VERTEXAI", "").lower() in ("1", "true")
        return "gcp.vertex_ai" if vertex else "gcp.gemini"
    return None


def _request(request: Any) -> Content:
    instruction = request.config.system_instruction if request.config is not None else None
    return Content(
        input_messages=_messages(request.contents),
        system_instructions=[{"type": "text", "content": instruction}] if isinstance(instruction, str) else None,
    )


def _response(call: Call, response: Any) -> bool:
    """Usage counts up from response to response; the last one has the reason to stop."""
    if response.usage_metadata is not None:
        call.usage = _usage(response.usage_metadata)
    call.response_model = getattr(response, "model_version", None) or call.response_model
    if response.finish_reason is None or response.partial:
        return False
    call.finish_reasons = [str(getattr(response.finish_reason, "value", response.finish_reason)).lower()]
    if call.content is not None:
        call.content.output_messages = _messages([response.content])
    return True


def _usage(usage: Any) -> Usage:
    thoughts = usage.thoughts_token_count
    return Usage(
        input_tokens=_sum(usage.prompt_token_count, usage.tool_use_prompt_token_count),
        output_tokens=_sum(usage.candidates_token_count, thoughts),
        cache_read=usage.cached_content_token_count,
        cache_write=getattr(usage, "cache_creation_input_tokens", None),
        reasoning=thoughts,
    )


def _sum(*counts: int | None) -> int | None:
    known = [each for each in counts if each is not None]
    return sum(known) if known else None


# --- content ----------------------------------------------------------------------------------------------------------

_ROLES = {"model": "assistant"}


def _messages(contents: Any) -> list[dict[str, Any]]:
    return [
        {"role": _ROLES.get(each.role, each.role or "user"), "parts": [_part(part) for part in each.parts]}
        for each in contents
        if each is not None and each.parts
    ]


def _part(part: Any) -> dict[str, Any]:
    if part.text is not None:
        return {"type": "reasoning" if part.thought else "text", "content": part.text}
    if part.function_call is not None:
        asked = part.function_call
        return {"type": "tool_call", "id": asked.id, "name": asked.name, "arguments": asked.args}
    if part.function_response is not None:
        answer = part.function_response
        return {"type": "tool_call_response", "id": answer.id, "response": answer.response}
    return {"type": "generic"}
