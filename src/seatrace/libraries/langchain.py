"""LangChain: tools, retrievers, the classic ``AgentExecutor``, and models whose own client is not observed.

Methods are patched, not callbacks added: handlers are visible to the program, and change what it sees.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from seatrace.core import context
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content
from seatrace.core.step import handled
from seatrace.shapes.langchain_messages import messages, read_chunk, read_event, read_result

from ._models import model_call
from ._steps import step, stepped

LIBRARY = "langchain"


def patch(module: ModuleType, patches: Patches) -> None:
    """Observes one of LangChain's modules, as it has been loaded."""
    _PATCHES[module.__name__](module, patches)


# --- models ---------------------------------------------------------------------------------------------------------

_PROVIDERS = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""The conventions' names for those of LangChain."""

_OURS = ("run_manager", "run_managers", "new_arg_supported", "stop", "stream", "config")


def _model(operation: str) -> Callable[..., Call]:
    def begin(model: Any, given: Any, *args: Any, **kwargs: Any) -> Call:
        asked = {name: value for name, value in kwargs.items() if name not in _OURS}
        about = model._get_ls_params(stop=kwargs.get("stop"), **asked)
        provider = about.get("ls_provider")
        return Call(
            "inference",
            operation,
            LIBRARY,
            provider=_PROVIDERS.get(provider, provider),
            request_model=about.get("ls_model_name"),
            temperature=about.get("ls_temperature"),
            max_tokens=about.get("ls_max_tokens"),
            stop_sequences=about.get("ls_stop"),
        )

    return begin


def _prompt(model: Any, given: Any, *args: Any, **kwargs: Any) -> Content:
    said = messages(given)
    system = [part for each in said if each["role"] == "system" for part in each["parts"]]
    return Content(
        input_messages=[each for each in said if each["role"] != "system"], system_instructions=system or None
    )


def _patch_chat_models(module: Any, patches: Patches) -> None:
    model, begin = module.BaseChatModel, _model("chat")
    for name in ("_generate_with_cache", "_agenerate_with_cache"):
        patches.replace(model, name, model_call(begin, content=_prompt, read=read_result))
    for name in ("stream", "astream"):
        patches.replace(model, name, model_call(begin, content=_prompt, chunk=read_chunk))
    for name in ("_iter_v2_events", "_aiter_v2_events"):
        if hasattr(model, name):  # since 1.4
            patches.replace(model, name, model_call(begin, content=_prompt, chunk=read_event))
    patches.replace(model, "_convert_cached_generations", _remembered)


def _patch_completion_models(module: Any, patches: Patches) -> None:
    model, begin = module.BaseLLM, _model("text_completion")
    for name in ("_generate_helper", "_agenerate_helper"):
        patches.replace(model, name, model_call(begin, content=_prompt, read=read_result))
    for name in ("stream", "astream"):
        patches.replace(model, name, model_call(begin, content=_prompt, chunk=read_chunk))


def _remembered(original: Any) -> Any:
    """An answer out of LangChain's cache: no model is called for it."""

    def convert(self: Any, cache_val: Any) -> Any:
        call = context.outer_call()
        if call is not None:
            call.taken()
        return original(self, cache_val)

    return convert


# --- tools ----------------------------------------------------------------------------------------------------------


def _tool(tool: Any, *args: Any, tool_call_id: Any = None, **kwargs: Any) -> Call:
    description = tool.description if isinstance(tool.description, str) and tool.description else None
    return step("tool", LIBRARY, tool.name, tool_call_id=tool_call_id, description=description)


def _arguments(injected: type) -> Callable[..., Content]:
    """Those that the model gives; state, stores and the like are put in by the framework, ``injected`` marks them."""
    known: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()

    def marked(schema: Any) -> frozenset[str]:
        found = known.get(schema)
        if found is None:
            fields = getattr(schema, "model_fields", {}).items()
            found = known[schema] = frozenset(name for name, field in fields if any(map(marks, field.metadata)))
        return found

    def marks(note: Any) -> bool:
        return issubclass(note if isinstance(note, type) else type(note), injected)

    def arguments(tool: Any, tool_input: Any, *args: Any, **kwargs: Any) -> Content:
        if isinstance(tool_input, dict):
            left_out = {*getattr(tool, "_injected_args_keys", ())}
            if isinstance(tool.args_schema, type):
                left_out |= marked(tool.args_schema)
            tool_input = {name: value for name, value in tool_input.items() if name not in left_out}
        return Content(tool_arguments=tool_input)

    return arguments


def _tool_result(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = getattr(value, "content", value)


def _patch_tools(module: Any, patches: Patches) -> None:
    arguments = _arguments(module.InjectedToolArg)
    for name in ("run", "arun"):
        patches.replace(module.BaseTool, name, stepped(_tool, content=arguments, read=_tool_result))
    for name in ("_handle_tool_error", "_handle_validation_error"):
        patches.replace(module, name, _told)


def _told(original: Any) -> Any:
    """The tool makes a message for the model of an exception: it failed all the same."""

    def handle(e: BaseException, *, flag: Any) -> Any:
        handled(e, "tool")
        return original(e, flag=flag)

    return handle


# --- retrievers -----------------------------------------------------------------------------------------------------


def _retrieval(retriever: Any, *args: Any, **kwargs: Any) -> Call:
    store = getattr(retriever, "vectorstore", None)
    source = retriever.name or type(retriever if store is None else store).__name__
    wanted = getattr(retriever, "search_kwargs", None) or {}
    top_k = kwargs.get("k", wanted.get("k"))
    return step("retrieval", LIBRARY, source, top_k=top_k if isinstance(top_k, int) else None)


def _query(retriever: Any, input: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(query=input if isinstance(input, str) else None)


def _documents(call: Call, value: Any) -> None:
    if call.content is not None and isinstance(value, list):
        call.content.documents = [
            {"id": getattr(each, "id", None), "content": each.page_content, "metadata": each.metadata} for each in value
        ]


def _patch_retrievers(module: Any, patches: Patches) -> None:
    for name in ("invoke", "ainvoke"):
        patches.replace(module.BaseRetriever, name, stepped(_retrieval, content=_query, read=_documents))


# --- the classic agent ----------------------------------------------------------------------------------------------


def _executor(executor: Any, *args: Any, **kwargs: Any) -> Call:
    return step("agent", LIBRARY, executor.get_name())


def _asked(executor: Any, inputs: Any, *args: Any, **kwargs: Any) -> Content:
    words = inputs.get("input") if isinstance(inputs, dict) else inputs
    return Content(input_messages=messages(words) if isinstance(words, (str, list)) else None)


def _answered(call: Call, value: Any) -> None:
    if isinstance(value, list):  # of a stream
        value = value[-1] if value else None
    words = value.get("output") if isinstance(value, dict) else None
    if call.content is not None and isinstance(words, str):
        call.content.output_messages = [{"role": "assistant", "parts": [{"type": "text", "content": words}]}]


def _patch_executor(module: Any, patches: Patches) -> None:
    for name in ("_call", "_acall", "stream", "astream"):
        patches.replace(module.AgentExecutor, name, stepped(_executor, content=_asked, read=_answered))


_PATCHES: dict[str, Callable[[Any, Patches], None]] = {
    "langchain_core.language_models.chat_models": _patch_chat_models,
    "langchain_core.language_models.llms": _patch_completion_models,
    "langchain_core.tools.base": _patch_tools,
    "langchain_core.retrievers": _patch_retrievers,
    "langchain.agents.agent": _patch_executor,
    "langchain_classic.agents.agent": _patch_executor,
}
