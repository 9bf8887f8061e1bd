"""Every metric that seatrace emits: name, unit, attributes, buckets. Docs, dashboards and alerts are generated from it.

Bucket bounds are the conventions' advice; ``AGENT_SECONDS``, ``TOKENS`` and ``CALLS`` likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from . import semconv as names

SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
AGENT_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
WORKFLOW_SECONDS_LEGACY: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
TOKENS: Final = tuple(4.0**exponent for exponent in range(14))
CALLS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
USD: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

BASE: Final = (
    names.OPERATION_NAME,
    names.PROVIDER_NAME,
    names.REQUEST_MODEL,
    names.RESPONSE_MODEL,
    names.SERVER_ADDRESS,
    names.SERVER_PORT,
)
_COST: Final = (names.PROVIDER_NAME, names.REQUEST_MODEL, names.RESPONSE_MODEL, names.AGENT_NAME, names.TENANT)

Generation = Literal["latest", "legacy", "seatrace"]
"""Which setting of ``SEATRACE_SEMCONV`` emits a metric; ``seatrace`` ones are always emitted."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the catalogue."""

    name: str
    kind: Literal["histogram", "counter"]
    unit: str
    description: str
    attributes: tuple[str, ...]
    generation: Generation
    buckets: tuple[float, ...] | None = None


def _histogram(
    name: str,
    unit: str,
    buckets: tuple[float, ...],
    attributes: tuple[str, ...],
    description: str,
    generation: Generation,
) -> Metric:
    return Metric(name, "histogram", unit, description, attributes, generation, buckets)


def _counter(
    name: str, unit: str, attributes: tuple[str, ...], description: str, generation: Generation = "seatrace"
) -> Metric:
    return Metric(name, "counter", unit, description, attributes, generation)


_ERROR = (*BASE, names.ERROR_TYPE)
_MODALITY = (*BASE, names.TOKEN_MODALITY)
_C = "gen_ai.client."

INFERENCE_DURATION: Final = _histogram(
    _C + "inference.duration",
    "s",
    SECONDS,
    _ERROR,
    "Time of a model call, retries and the whole stream included.",
    "latest",
)
TIME_TO_FIRST_CHUNK: Final = _histogram(
    _C + "inference.time_to_first_chunk", "s", SECONDS, BASE, "Time from a streamed call to its first chunk.", "latest"
)
TIME_PER_OUTPUT_CHUNK: Final = _histogram(
    _C + "inference.time_per_output_chunk", "s", SECONDS, BASE, "Time between two chunks of a stream.", "latest"
)
INPUT_TOKENS: Final = _counter(
    _C + "inference.usage.input_tokens", "{token}", _MODALITY, "Input tokens billed, cached ones included.", "latest"
)
OUTPUT_TOKENS: Final = _counter(
    _C + "inference.usage.output_tokens", "{token}", _MODALITY, "Output tokens billed, reasoning included.", "latest"
)
CACHE_READ_TOKENS: Final = _counter(
    _C + "inference.usage.cache_read.input_tokens",
    "{token}",
    _MODALITY,
    "Input tokens that the provider read from its prompt cache.",
    "latest",
)
CACHE_WRITE_TOKENS: Final = _counter(
    _C + "inference.usage.cache_write.input_tokens",
    "{token}",
    _MODALITY,
    "Input tokens that the provider wrote to its prompt cache.",
    "latest",
)
REASONING_TOKENS: Final = _counter(
    _C + "inference.usage.reasoning.output_tokens",
    "{token}",
    _MODALITY,
    "Output tokens that the model spent on reasoning.",
    "latest",
)
CALL_INPUT_TOKENS: Final = _histogram(
    _C + "inference.operation.input_tokens", "{token}", TOKENS, BASE, "Input tokens of one model call.", "latest"
)
CALL_OUTPUT_TOKENS: Final = _histogram(
    _C + "inference.operation.output_tokens", "{token}", TOKENS, BASE, "Output tokens of one model call.", "latest"
)
EMBEDDINGS_DURATION: Final = _histogram(
    _C + "embeddings.duration", "s", SECONDS, _ERROR, "Time of an embeddings call.", "latest"
)
EMBEDDINGS_INPUT_TOKENS: Final = _histogram(
    _C + "embeddings.operation.input_tokens", "{token}", TOKENS, BASE, "Input tokens of one embeddings call.", "latest"
)
OPERATION_DURATION: Final = _histogram(
    _C + "operation.duration",
    "s",
    SECONDS,
    _ERROR,
    "Time of a call that is no inference: moderation, token counting, retrieval. With the legacy conventions also "
    "that of inference and embeddings.",
    "seatrace",
)
AGENT_DURATION: Final = _histogram(
    "gen_ai.invoke_agent.duration",
    "s",
    AGENT_SECONDS,
    (names.OPERATION_NAME, names.AGENT_NAME, names.ERROR_TYPE),
    "Time of an agent or workflow run.",
    "seatrace",
)
AGENT_INFERENCE_CALLS: Final = _histogram(
    "gen_ai.invoke_agent.inference_calls",
    "{inference_call}",
    CALLS,
    (names.AGENT_NAME,),
    "Model calls that a run made itself, failed ones included, sub-agents' not.",
    "seatrace",
)
AGENT_TOOL_CALLS: Final = _histogram(
    "gen_ai.invoke_agent.tool_calls",
    "{tool_call}",
    CALLS,
    (names.AGENT_NAME,),
    "Tool calls that a run made itself, failed ones included, sub-agents' not.",
    "seatrace",
)
TOOL_DURATION: Final = _histogram(
    "gen_ai.execute_tool.duration",
    "s",
    SECONDS,
    (names.TOOL_NAME, names.TOOL_TYPE, names.AGENT_NAME, names.ERROR_TYPE),
    "Time of a tool execution.",
    "seatrace",
)

_AGENT_RUN = (names.AGENT_NAME, names.TENANT)
RUN_COST: Final = _histogram(
    "seatrace.agent.run.cost", "USD", USD, _AGENT_RUN, "What a run's own model calls cost, sub-agents' not.", "seatrace"
)
RUN_INPUT_TOKENS: Final = _histogram(
    "seatrace.agent.run.input_tokens", "{token}", TOKENS, _AGENT_RUN, "Input tokens of a run's own calls.", "seatrace"
)
RUN_OUTPUT_TOKENS: Final = _histogram(
    "seatrace.agent.run.output_tokens", "{token}", TOKENS, _AGENT_RUN, "Output tokens of a run's own calls.", "seatrace"
)
RUN_STEPS: Final = _histogram(
    "seatrace.agent.run.steps", "{step}", CALLS, _AGENT_RUN, "Turns of a run's loop.", "seatrace"
)

COST: Final = _counter("seatrace.cost", "USD", _COST, "What model calls cost, by the price book or the provider.")
UNPRICED: Final = _counter(
    "seatrace.cost.unpriced",
    "{call}",
    _COST,
    "Calls that used tokens but whose price is not known. Their cost is missing in seatrace.cost.",
)
FAULTS: Final = _counter(
    "seatrace.faults", "{fault}", (names.STAGE,), "Faults in seatrace itself, which were kept from the program."
)

TOKEN_USAGE_LEGACY: Final = _histogram(
    _C + "token.usage", "{token}", TOKENS, (*BASE, names.TOKEN_TYPE_LEGACY), "Tokens of one call by type.", "legacy"
)
TIME_TO_FIRST_CHUNK_LEGACY: Final = _histogram(
    _C + "operation.time_to_first_chunk", "s", SECONDS, BASE, TIME_TO_FIRST_CHUNK.description, "legacy"
)
TIME_PER_OUTPUT_CHUNK_LEGACY: Final = _histogram(
    _C + "operation.time_per_output_chunk", "s", SECONDS, BASE, TIME_PER_OUTPUT_CHUNK.description, "legacy"
)
WORKFLOW_DURATION_LEGACY: Final = _histogram(
    "gen_ai.invoke_workflow.duration",
    "s",
    WORKFLOW_SECONDS_LEGACY,
    (names.WORKFLOW_NAME_LEGACY, names.ERROR_TYPE),
    "Time of a workflow run.",
    "legacy",
)

CATALOGUE: Final[tuple[Metric, ...]] = tuple(value for value in list(vars().values()) if isinstance(value, Metric))
"""All of them, in the order of this file."""
