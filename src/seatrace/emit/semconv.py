"""Every attribute and event name of the conventions that seatrace writes, in one place.

Source: OpenTelemetry GenAI semantic conventions v0.1.0 (with semantic-conventions 1.45.0), the cost attributes of their
open pull request 443. ``*_LEGACY`` are the names before v0.1.0 (semantic-conventions 1.37 to 1.41).
"""

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai/0.1.0"
SCHEMA_URL_LEGACY: Final = "https://opentelemetry.io/schemas/1.37.0"

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"

REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
OUTPUT_TYPE: Final = "gen_ai.output.type"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
CONVERSATION_COMPACTED: Final = "gen_ai.conversation.compacted"

RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"

USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_CACHE_WRITE_LEGACY: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_TEXT_INPUT: Final = "gen_ai.usage.text.input_tokens"
USAGE_TEXT_OUTPUT: Final = "gen_ai.usage.text.output_tokens"
USAGE_AUDIO_INPUT: Final = "gen_ai.usage.audio.input_tokens"
USAGE_AUDIO_OUTPUT: Final = "gen_ai.usage.audio.output_tokens"
USAGE_AUDIO_CACHE_READ: Final = "gen_ai.usage.audio.cache_read.input_tokens"
USAGE_IMAGE_INPUT: Final = "gen_ai.usage.image.input_tokens"
USAGE_IMAGE_OUTPUT: Final = "gen_ai.usage.image.output_tokens"
USAGE_COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
USAGE_COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
USAGE_COST_SOURCE: Final = "gen_ai.usage.cost.source"

OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"

AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
WORKFLOW_NAME_LEGACY: Final = "gen_ai.workflow.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
RETRIEVAL_QUERY_TEXT: Final = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"

TOKEN_MODALITY: Final = "gen_ai.token.modality"
TOKEN_TYPE_LEGACY: Final = "gen_ai.token.type"

USER_ID: Final = "user.id"
SESSION_ID: Final = "session.id"

# Not in the conventions: ours.
TENANT: Final = "seatrace.tenant"
RUN_MODEL_CALLS: Final = "seatrace.run.model_calls"
RUN_TOOL_CALLS: Final = "seatrace.run.tool_calls"
RUN_STEPS: Final = "seatrace.run.steps"
RUN_COST: Final = "seatrace.run.cost"
RUN_UNPRICED: Final = "seatrace.run.unpriced_calls"
STAGE: Final = "seatrace.stage"

EVENT_DETAILS: Final = "gen_ai.client.inference.operation.details"
EVENT_EXCEPTION: Final = "gen_ai.client.operation.exception"
EVENT_TOOL_EXCEPTION: Final = "gen_ai.execute_tool.exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

OFFICIAL_CONTEXT_KEYS: Final = {
    "inference": "opentelemetry.genai.client.inference.context",
    "embeddings": "opentelemetry.genai.client.embedding.context",
    "retrieval": "opentelemetry.genai.client.retrieval.context",
}
"""Keys in the OpenTelemetry context by which the official packages mark a call that they observe."""
