"""smolagents: agents, their plans and those they manage, tools (called by a model or by its code), and the models that
no observed client calls."""

from __future__ import annotations

from typing import Any

from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content, Usage

from ._family import family, replace_each
from ._models import model_call
from ._steps import step, stepped
from ._threads import carrying_executor

_PROVIDERS = {
    "AmazonBedrockModel": "aws.bedrock",
    "InferenceClientModel": "huggingface",
    "MLXModel": "mlx",
    "TransformersModel": "transformers",
    "VLLMModel": "vllm",
}


def patch(module: Any, patches: Patches) -> None:
    """Taps one of smolagents' modules."""
    name = module.__name__.rpartition(".")[2]
    if name == "agents":
        _agents(module, patches)
    elif name == "tools":
        make = stepped(_begin_tool, content=_arguments, read=_result)
        for each in ("Tool", "PipelineTool"):
            patches.replace(getattr(module, each), "__call__", make)
    elif name == "models":
        replace_each(family(module.Model), _CALLS, _call, patches)
    else:  # a time limit for an agent's code makes it run in a thread
        if hasattr(module, "ThreadPoolExecutor"):
            patches.replace(module, "ThreadPoolExecutor", carrying_executor)


# --- agents -----------------------------------------------------------------------------------------------------------


def _agents(module: Any, patches: Patches) -> None:
    def begin(agent: Any, *args: Any, **kwargs: Any) -> Call:
        replace_each(type(agent.model).__mro__, _CALLS, _call, patches)  # one of the program's own
        return step("agent", "smolagents", agent.name, description=agent.description or None)

    patches.replace(module.MultiStepAgent, "run", stepped(begin, content=_task, read=_answer))
    plan = stepped(_begin_plan, content=_task, read=_plan, own=True)
    patches.replace(module.MultiStepAgent, "_generate_planning_step", plan)


def _begin_plan(agent: Any, *args: Any, **kwargs: Any) -> Call:
    return step("plan", "smolagents", agent.name)


def _plan(call: Call, value: Any) -> None:
    _answer(call, getattr(_last(value), "plan", None))


def _task(agent: Any, task: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(input_messages=[_message("user", task)])


def _answer(call: Call, value: Any) -> None:
    last = _last(value)
    said = getattr(last, "output", last)
    if call.content is not None and said is not None:
        call.content.output_messages = [_message("assistant", said)]


def _last(value: Any) -> Any:
    """What a run returned, or of a generator the last value."""
    return value[-1] if isinstance(value, list) and value else value


def _message(role: str, said: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": said if isinstance(said, str) else str(said)}]}


# --- tools ------------------------------------------------------------------------------------------------------------


def _begin_tool(tool: Any, *args: Any, **kwargs: Any) -> Call:
    return step("tool", "smolagents", tool.name, description=tool.description or None)


def _arguments(tool: Any, *args: Any, sanitize_inputs_outputs: bool = False, **kwargs: Any) -> Content:
    return Content(tool_arguments={**dict(zip(tool.inputs, args, strict=False)), **kwargs})


def _result(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = value


# --- models -----------------------------------------------------------------------------------------------------------


def _begin_model(model: Any, *args: Any, **kwargs: Any) -> Call:
    name = getattr(model, "model_id", None)
    provider = next((_PROVIDERS[each.__name__] for each in type(model).__mro__ if each.__name__ in _PROVIDERS), None)
    if provider is None and isinstance(name, str) and "/" in name:
        provider = name.partition("/")[0]  # LiteLLM's way
    return Call("inference", "chat", "smolagents", request_model=name, provider=provider)


def _messages(model: Any, messages: Any = (), *args: Any, **kwargs: Any) -> Content:
    return Content(input_messages=[_told(each) for each in messages])


def _told(message: Any) -> dict[str, Any]:
    fields = message if isinstance(message, dict) else vars(message)
    role, said = fields.get("role"), fields.get("content")
    if isinstance(said, list):
        said = "".join(each.get("text") or "" for each in said if isinstance(each, dict))
    return _message(str(getattr(role, "value", role)), said or "")


def _read_answer(call: Call, answer: Any) -> None:
    _read_chunk(call, answer)
    if call.content is not None and isinstance(answer.content, str):
        call.content.output_messages = [_message("assistant", answer.content)]


def _read_chunk(call: Call, chunk: Any) -> None:
    """The chunks' usage adds up."""
    told = getattr(chunk, "token_usage", None)
    if told is not None:
        so_far = call.usage or Usage(0, 0)
        call.usage = Usage(
            (so_far.input_tokens or 0) + told.input_tokens, (so_far.output_tokens or 0) + told.output_tokens
        )


_CALLS = ("generate", "generate_stream")

_call = model_call(_begin_model, content=_messages, read=_read_answer, chunk=_read_chunk)
