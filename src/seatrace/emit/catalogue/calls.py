"""The metrics of observed calls: models, agents, tools.

Bucket bounds are the conventions' advice; ``AGENT_SECONDS``, ``TOKENS`` and ``CALLS`` likewise.
"""

from __future__ import annotations

from typing import Final

from seatrace.emit import semconv as names

from .metric import (
    AGENT_SECONDS,
    CALLS,
    MCP_SECONDS,
    SECONDS,
    TOKENS,
    USD,
    WAIT_SECONDS,
    WORKFLOW_SECONDS_LEGACY,
    Metric,
    counter,
    gauge,
    histogram,
)

BASE: Final = (
    names.OPERATION_NAME,
    names.PROVIDER_NAME,
    names.REQUEST_MODEL,
    names.RESPONSE_MODEL,
    names.SERVER_ADDRESS,
    names.SERVER_PORT,
)
_COST: Final = (names.PROVIDER_NAME, names.REQUEST_MODEL, names.RESPONSE_MODEL, names.AGENT_NAME, names.TENANT)

_ERROR = (*BASE, names.ERROR_TYPE)
_MODALITY = (*BASE, names.TOKEN_MODALITY)
_C = "gen_ai.client."

INFERENCE_DURATION: Final = histogram(
    _C + "inference.duration",
    "s",
    SECONDS,
    _ERROR,
    "Time of a model call, retries and the whole stream included.",
    "latest",
)
TIME_TO_FIRST_CHUNK: Final = histogram(
    _C + "inference.time_to_first_chunk", "s", SECONDS, BASE, "Time from a streamed call to its first chunk.", "latest"
)
TIME_PER_OUTPUT_CHUNK: Final = histogram(
    _C + "inference.time_per_output_chunk", "s", SECONDS, BASE, "Time between two chunks of a stream.", "latest"
)
INPUT_TOKENS: Final = counter(
    _C + "inference.usage.input_tokens", "{token}", _MODALITY, "Input tokens billed, cached ones included.", "latest"
)
OUTPUT_TOKENS: Final = counter(
    _C + "inference.usage.output_tokens", "{token}", _MODALITY, "Output tokens billed, reasoning included.", "latest"
)
CACHE_READ_TOKENS: Final = counter(
    _C + "inference.usage.cache_read.input_tokens",
    "{token}",
    _MODALITY,
    "Input tokens that the provider read from its prompt cache.",
    "latest",
)
CACHE_WRITE_TOKENS: Final = counter(
    _C + "inference.usage.cache_write.input_tokens",
    "{token}",
    _MODALITY,
    "Input tokens that the provider wrote to its prompt cache.",
    "latest",
)
REASONING_TOKENS: Final = counter(
    _C + "inference.usage.reasoning.output_tokens",
    "{token}",
    _MODALITY,
    "Output tokens that the model spent on reasoning.",
    "latest",
)
CALL_INPUT_TOKENS: Final = histogram(
    _C + "inference.operation.input_tokens", "{token}", TOKENS, BASE, "Input tokens of one model call.", "latest"
)
CALL_OUTPUT_TOKENS: Final = histogram(
    _C + "inference.operation.output_tokens", "{token}", TOKENS, BASE, "Output tokens of one model call.", "latest"
)
EMBEDDINGS_DURATION: Final = histogram(
    _C + "embeddings.duration", "s", SECONDS, _ERROR, "Time of an embeddings call.", "latest"
)
EMBEDDINGS_INPUT_TOKENS: Final = histogram(
    _C + "embeddings.operation.input_tokens", "{token}", TOKENS, BASE, "Input tokens of one embeddings call.", "latest"
)
OPERATION_DURATION: Final = histogram(
    _C + "operation.duration",
    "s",
    SECONDS,
    _ERROR,
    "Time of a call that is no inference: moderation, token counting, retrieval. With the legacy conventions also "
    "that of inference and embeddings.",
    "seatrace",
)
AGENT_DURATION: Final = histogram(
    "gen_ai.invoke_agent.duration",
    "s",
    AGENT_SECONDS,
    (names.OPERATION_NAME, names.AGENT_NAME, names.ERROR_TYPE),
    "Time of an agent or workflow run.",
    "seatrace",
)
AGENT_INFERENCE_CALLS: Final = histogram(
    "gen_ai.invoke_agent.inference_calls",
    "{inference_call}",
    CALLS,
    (names.AGENT_NAME,),
    "Model calls that a run made itself, failed ones included, sub-agents' not.",
    "seatrace",
)
AGENT_TOOL_CALLS: Final = histogram(
    "gen_ai.invoke_agent.tool_calls",
    "{tool_call}",
    CALLS,
    (names.AGENT_NAME,),
    "Tool calls that a run made itself, failed ones included, sub-agents' not.",
    "seatrace",
)
TOOL_DURATION: Final = histogram(
    "gen_ai.execute_tool.duration",
    "s",
    SECONDS,
    (names.TOOL_NAME, names.TOOL_TYPE, names.AGENT_NAME, names.ERROR_TYPE),
    "Time of a tool execution.",
    "seatrace",
)

_MCP_SESSION = (names.MCP_PROTOCOL_VERSION, names.NETWORK_TRANSPORT, names.NETWORK_PROTOCOL_NAME, names.ERROR_TYPE)
_MCP = (
    names.MCP_METHOD,
    names.OPERATION_NAME,
    names.TOOL_NAME,
    names.PROMPT_NAME,
    names.RPC_STATUS_CODE,
    *_MCP_SESSION,
)
_SERVER = (names.SERVER_ADDRESS, names.SERVER_PORT)

MCP_CLIENT_DURATION: Final = histogram(
    "mcp.client.operation.duration",
    "s",
    MCP_SECONDS,
    (*_MCP, *_SERVER),
    "Time of an MCP request, from its sending to its answer.",
)
MCP_SERVER_DURATION: Final = histogram(
    "mcp.server.operation.duration",
    "s",
    MCP_SECONDS,
    _MCP,
    "Time of an MCP request, from its arrival to its answer.",
)
MCP_CLIENT_SESSION_DURATION: Final = histogram(
    "mcp.client.session.duration",
    "s",
    MCP_SECONDS,
    (*_MCP_SESSION, *_SERVER),
    "Time of an MCP session, as the client sees it.",
)
MCP_SERVER_SESSION_DURATION: Final = histogram(
    "mcp.server.session.duration",
    "s",
    MCP_SECONDS,
    _MCP_SESSION,
    "Time of an MCP session, as the server sees it.",
)

_AGENT_RUN = (names.AGENT_NAME, names.TENANT, names.ERROR_TYPE)
RUN_COST: Final = histogram(
    "seatrace.agent.run.cost", "USD", USD, _AGENT_RUN, "What a run's own model calls cost, sub-agents' not.", "seatrace"
)
RUN_INPUT_TOKENS: Final = histogram(
    "seatrace.agent.run.input_tokens", "{token}", TOKENS, _AGENT_RUN, "Input tokens of a run's own calls.", "seatrace"
)
RUN_OUTPUT_TOKENS: Final = histogram(
    "seatrace.agent.run.output_tokens", "{token}", TOKENS, _AGENT_RUN, "Output tokens of a run's own calls.", "seatrace"
)
RUN_STEPS: Final = histogram(
    "seatrace.agent.run.steps", "{step}", CALLS, _AGENT_RUN, "Turns of a run's loop.", "seatrace"
)
RUN_TIME: Final = histogram(
    "seatrace.agent.run.time",
    "s",
    AGENT_SECONDS,
    (names.AGENT_NAME, names.TIME_SPENT_ON),
    "Time of a run by what it was spent on: model, tool, waiting, own. Together they are its duration.",
    "seatrace",
)
RUN_SAVED_COST: Final = histogram(
    "seatrace.agent.run.saved.cost",
    "USD",
    USD,
    (names.AGENT_NAME, names.TENANT),
    "What a run's own calls would have cost whose answers came out of a cache, sub-agents' not.",
    "seatrace",
)

COST: Final = counter("seatrace.cost", "USD", _COST, "What model calls cost, by the price book or the provider.")
UNPRICED: Final = counter(
    "seatrace.cost.unpriced",
    "{call}",
    _COST,
    "Calls that used tokens but whose price is not known. Their cost is missing in seatrace.cost.",
)
FAULTS: Final = counter(
    "seatrace.faults", "{fault}", (names.STAGE,), "Faults in seatrace itself, which were kept from the program."
)

TOKEN_USAGE_LEGACY: Final = histogram(
    _C + "token.usage", "{token}", TOKENS, (*BASE, names.TOKEN_TYPE_LEGACY), "Tokens of one call by type.", "legacy"
)
TIME_TO_FIRST_CHUNK_LEGACY: Final = histogram(
    _C + "operation.time_to_first_chunk", "s", SECONDS, BASE, TIME_TO_FIRST_CHUNK.description, "legacy"
)
TIME_PER_OUTPUT_CHUNK_LEGACY: Final = histogram(
    _C + "operation.time_per_output_chunk", "s", SECONDS, BASE, TIME_PER_OUTPUT_CHUNK.description, "legacy"
)
WORKFLOW_DURATION_LEGACY: Final = histogram(
    "gen_ai.invoke_workflow.duration",
    "s",
    WORKFLOW_SECONDS_LEGACY,
    (names.WORKFLOW_NAME_LEGACY, names.ERROR_TYPE),
    "Time of a workflow run.",
    "legacy",
)

RETRIES: Final = counter(
    "seatrace.retries",
    "{retry}",
    (names.PROVIDER_NAME, names.REQUEST_MODEL, names.ERROR_TYPE),
    "Attempts within model calls after the first one, by what made the attempt before them fail.",
)
RETRY_WAIT: Final = histogram(
    "seatrace.retry.wait.duration",
    "s",
    WAIT_SECONDS,
    (names.PROVIDER_NAME, names.REQUEST_MODEL, names.ERROR_TYPE),
    "Time that a model call waited before it tried again, as Retry-After asked or the client chose.",
)
RATE_LIMIT_LIMIT: Final = gauge(
    "seatrace.rate_limit.limit",
    "{unit}",
    (names.PROVIDER_NAME, names.REQUEST_MODEL, names.RATE_LIMIT_RESOURCE),
    "Requests or tokens that the provider allows in its window, by its response headers.",
)
RATE_LIMIT_REMAINING: Final = gauge(
    "seatrace.rate_limit.remaining",
    "{unit}",
    (names.PROVIDER_NAME, names.REQUEST_MODEL, names.RATE_LIMIT_RESOURCE),
    "Requests or tokens that are left in the provider's window, by its latest response headers.",
)
LOOPS: Final = counter(
    "seatrace.agent.loops",
    "{loop}",
    (names.AGENT_NAME, names.LOOP_REASON),
    "Runs of an agent that were seen looping, by how.",
)

CALL_METRICS: Final[tuple[Metric, ...]] = tuple(value for value in list(vars().values()) if isinstance(value, Metric))
