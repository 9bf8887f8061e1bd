"""A call as attributes, in the conventions' names."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Any

from seatrace.core.context import Scope
from seatrace.core.record import Call, Content, Exchange, Usage

from . import semconv as names

PATTERN_KINDS = frozenset({"batch", "internal", "send", "process"})
"""Calls that are no GenAI operation: their attributes are all in ``call.attributes``."""


_RUN_TIMES = {
    "model": names.RUN_TIME_MODEL,
    "tool": names.RUN_TIME_TOOL,
    "waiting": names.RUN_TIME_WAITING,
    "own": names.RUN_TIME_OWN,
}


def start_attributes(call: Call) -> dict[str, Any]:
    """What a sampler may decide on: known before the call is made."""
    if call.kind in PATTERN_KINDS:
        return {}
    attributes: dict[str, Any] = {names.OPERATION_NAME: call.operation} if call.operation else {}
    if call.provider is not None:
        attributes[names.PROVIDER_NAME] = call.provider
    if call.request_model is not None:
        attributes[names.REQUEST_MODEL] = call.request_model
    if call.server_address is not None:
        attributes[names.SERVER_ADDRESS] = call.server_address
        if call.server_port is not None:
            attributes[names.SERVER_PORT] = call.server_port
    kind = call.kind
    if call.exchange is not None:
        attributes[names.MCP_METHOD] = call.exchange.method
        _put(attributes, names.TOOL_NAME, call.name)
        _put(attributes, names.PROMPT_NAME, call.prompt_name)
        return attributes
    if kind == "tool":
        attributes[names.TOOL_NAME] = call.name
        if call.tool_type is not None:
            attributes[names.TOOL_TYPE] = call.tool_type
    elif kind == "retrieval" and call.name is not None:
        attributes[names.DATA_SOURCE_ID] = call.name
    agent = call.name if kind in ("agent", "workflow", "plan") else call.agent
    if agent is not None:
        attributes[names.AGENT_NAME] = agent
    return attributes


def end_attributes(call: Call, *, latest: bool, legacy: bool) -> dict[str, Any]:
    """Everything else, known when the call has ended; no content."""
    out: dict[str, Any] = {}
    if call.kind == "inference":
        _request(call, out)
        _response(call, out)
    elif call.kind == "embeddings":
        _put_words(out, names.REQUEST_ENCODING_FORMATS, call.encoding_formats)
        _put(out, names.EMBEDDINGS_DIMENSION_COUNT, call.dimension_count)
        _put(out, names.RESPONSE_MODEL, call.response_model)
    elif call.kind == "tool":
        _put(out, names.TOOL_CALL_ID, call.tool_call_id)
        _put(out, names.TOOL_DESCRIPTION, call.description)
    elif call.kind in ("agent", "workflow"):
        _run(call, out, legacy=legacy)
    elif call.kind == "retrieval":
        _put(out, names.RETRIEVAL_TOP_K, call.top_k)
    elif call.exchange is not None:
        _exchange(call.exchange, out)
    elif call.kind not in PATTERN_KINDS:
        _put(out, names.RESPONSE_ID, call.response_id)
        _put(out, names.RESPONSE_MODEL, call.response_model)
    if call.usage is not None:
        _usage(call.usage, out, latest=latest, legacy=legacy)
    cost = call.cost
    if cost is not None:
        out[names.USAGE_COST_AMOUNT] = cost.total
        out[names.USAGE_COST_CURRENCY] = cost.currency
        out[names.USAGE_COST_SOURCE] = cost.source
    if call.error_type is not None:
        out[names.ERROR_TYPE] = call.error_type
        _put(out, names.STATUS_CODE, call.status_code)
    if call.retries:
        out[names.RETRY_COUNT] = call.retries
    if call.conversation_id is not None:
        out[names.CONVERSATION_ID] = call.conversation_id
    if call.scope is not None:
        _scope(call.scope, out)
    if call.attributes:
        out.update(call.attributes)
    return out


def content_attributes(content: Content, *, structured: bool) -> dict[str, Any]:
    """Messages as the conventions want them: objects on events, JSON text on spans."""
    found = {
        names.INPUT_MESSAGES: content.input_messages,
        names.OUTPUT_MESSAGES: content.output_messages,
        names.SYSTEM_INSTRUCTIONS: content.system_instructions,
        names.TOOL_DEFINITIONS: content.tool_definitions,
        names.TOOL_CALL_ARGUMENTS: content.tool_arguments,
        names.TOOL_CALL_RESULT: content.tool_result,
        names.RETRIEVAL_QUERY_TEXT: content.query,
        names.RETRIEVAL_DOCUMENTS: content.documents,
    }
    return {
        name: value if structured or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for name, value in found.items()
        if value is not None and value != []
    }


def _put(out: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        out[name] = value


def _put_words(out: dict[str, Any], name: str, words: list[str] | None) -> None:
    if words is not None:
        out[name] = tuple(words)  # as the SDK keeps them


_REQUEST = {
    names.REQUEST_MAX_TOKENS: "max_tokens",
    names.REQUEST_TEMPERATURE: "temperature",
    names.REQUEST_TOP_P: "top_p",
    names.REQUEST_TOP_K: "top_k",
    names.REQUEST_FREQUENCY_PENALTY: "frequency_penalty",
    names.REQUEST_PRESENCE_PENALTY: "presence_penalty",
    names.REQUEST_SEED: "seed",
    names.REQUEST_CHOICE_COUNT: "choice_count",
    names.REQUEST_REASONING_LEVEL: "reasoning_level",
    names.REQUEST_PREVIOUS_RESPONSE_ID: "previous_response_id",
    names.OUTPUT_TYPE: "output_type",
    names.PROMPT_NAME: "prompt_name",
    names.PROMPT_VERSION: "prompt_version",
}
_requested = attrgetter(*_REQUEST.values())


def _request(call: Call, out: dict[str, Any]) -> None:
    if call.stream:
        out[names.REQUEST_STREAM] = True
    for name, value in zip(_REQUEST, _requested(call), strict=True):
        if value is not None:
            out[name] = value
    _put_words(out, names.REQUEST_STOP_SEQUENCES, call.stop_sequences)
    if call.library == "openai" and call.service_tier not in (None, "auto"):
        out[names.OPENAI_REQUEST_SERVICE_TIER] = call.service_tier


def _response(call: Call, out: dict[str, Any]) -> None:
    _put(out, names.RESPONSE_ID, call.response_id)
    _put(out, names.RESPONSE_MODEL, call.response_model)
    _put_words(out, names.RESPONSE_FINISH_REASONS, call.finish_reasons)
    _put(out, names.RESPONSE_TIME_TO_FIRST_CHUNK, call.time_to_first_chunk)
    if call.compacted:
        out[names.CONVERSATION_COMPACTED] = True
    if call.library == "openai":
        _put(out, names.OPENAI_API_TYPE, call.api_type)
        _put(out, names.OPENAI_RESPONSE_SERVICE_TIER, call.response_service_tier)
        _put(out, names.OPENAI_SYSTEM_FINGERPRINT, call.system_fingerprint)


def _usage(usage: Usage, out: dict[str, Any], *, latest: bool, legacy: bool) -> None:
    _put(out, names.USAGE_INPUT_TOKENS, usage.input_tokens)
    _put(out, names.USAGE_OUTPUT_TOKENS, usage.output_tokens)
    _put(out, names.USAGE_CACHE_READ, usage.cache_read)
    if usage.cache_write is not None:
        if latest:
            out[names.USAGE_CACHE_WRITE] = usage.cache_write
        if legacy:
            out[names.USAGE_CACHE_WRITE_LEGACY] = usage.cache_write
    _put(out, names.USAGE_REASONING, usage.reasoning)
    # Modalities are worth an attribute only where there is more than one.
    if usage.audio_input or usage.audio_output or usage.image_input or usage.image_output:
        _put(out, names.USAGE_AUDIO_INPUT, usage.audio_input)
        _put(out, names.USAGE_AUDIO_OUTPUT, usage.audio_output)
        _put(out, names.USAGE_AUDIO_CACHE_READ, usage.audio_cache_read)
        _put(out, names.USAGE_IMAGE_INPUT, usage.image_input)
        _put(out, names.USAGE_IMAGE_OUTPUT, usage.image_output)
        _put(out, names.USAGE_TEXT_INPUT, usage.text_input)
        _put(out, names.USAGE_TEXT_OUTPUT, usage.text_output)


def _exchange(exchange: Exchange, out: dict[str, Any]) -> None:
    _put(out, names.JSONRPC_REQUEST_ID, exchange.request_id)
    _put(out, names.MCP_PROTOCOL_VERSION, exchange.protocol_version)
    _put(out, names.MCP_SESSION_ID, exchange.session_id)
    _put(out, names.MCP_RESOURCE_URI, exchange.resource_uri)
    _put(out, names.CLIENT_ADDRESS, exchange.client_address)
    _put(out, names.CLIENT_PORT, exchange.client_port)
    out.update(network_attributes(exchange))
    if exchange.status is not None:
        out[names.RPC_STATUS_CODE] = str(exchange.status)


def network_attributes(exchange: Exchange) -> dict[str, Any]:
    """What carried an exchange."""
    if exchange.transport is None:
        return {}
    found = {names.NETWORK_TRANSPORT: exchange.transport}
    if exchange.transport == "tcp":
        found[names.NETWORK_PROTOCOL_NAME] = "http"
    return found


def _run(call: Call, out: dict[str, Any], *, legacy: bool) -> None:
    _put(out, names.AGENT_DESCRIPTION, call.description)
    if legacy and call.kind == "workflow":
        _put(out, names.WORKFLOW_NAME_LEGACY, call.name)
    run = call.run
    if run is None:
        return
    # Of the whole run, sub-agents included; no cache tokens here (conventions, change 469).
    _put(out, names.USAGE_INPUT_TOKENS, run.input_tokens)
    _put(out, names.USAGE_OUTPUT_TOKENS, run.output_tokens)
    _put_words(out, names.RESPONSE_FINISH_REASONS, run.finish_reasons)
    out[names.RUN_MODEL_CALLS] = run.model_calls
    out[names.RUN_TOOL_CALLS] = run.tool_calls
    out[names.RUN_STEPS] = run.steps
    _put(out, names.RUN_COST, run.cost)
    if run.unpriced:  # calls that are missing in the cost
        out[names.RUN_UNPRICED] = run.unpriced
    _put(out, names.RUN_SAVED_COST, run.saved_cost)
    _put(out, names.RUN_SAVED_TOKENS, run.saved_tokens)
    for spent_on, seconds in run.time(call.ended_clock).items():
        out[_RUN_TIMES[spent_on]] = seconds


def _scope(scope: Scope, out: dict[str, Any]) -> None:
    _put(out, names.USER_ID, scope.user)
    _put(out, names.SESSION_ID, scope.session)
    _put(out, names.TENANT, scope.tenant)
    if scope.attributes:
        for name, value in scope.attributes.items():
            out.setdefault(name, value)
