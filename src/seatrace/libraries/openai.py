"""The ``openai`` package, and through it every host that speaks OpenAI's formats."""

from __future__ import annotations

from types import ModuleType

from seatrace.core.patch import Patches
from seatrace.core.shape import Shape
from seatrace.shapes.openai_chat import OpenAIChat
from seatrace.shapes.openai_plain import OpenAIPlain
from seatrace.shapes.openai_responses import OpenAIResponses

from ._stainless import Stainless

ENDPOINTS: dict[str, Shape] = {
    "/chat/completions": OpenAIChat(),
    "/responses": OpenAIResponses(),
    "/embeddings": OpenAIPlain("embeddings", "embeddings"),
    "/completions": OpenAIChat("text_completion"),
    "/images/generations": OpenAIPlain("inference", "generate_content", "image"),
    "/images/edits": OpenAIPlain("inference", "generate_content", "image"),
    "/images/variations": OpenAIPlain("inference", "generate_content", "image"),
    "/audio/speech": OpenAIPlain("inference", "generate_content", "speech"),
    "/audio/transcriptions": OpenAIPlain("inference", "generate_content", "text"),
    "/audio/translations": OpenAIPlain("inference", "generate_content", "text"),
    "/decisions": OpenAIPlain("inference", "generate_content", "json"),
    "/moderations": OpenAIPlain("operation", "moderation"),
    "/responses/compact": OpenAIResponses("compact"),
    "/responses/input_tokens": OpenAIPlain("operation", "count_tokens"),
}

CLOUDS = {"AzureOpenAI": "azure.ai.openai", "BedrockOpenAI": "aws.bedrock"}


def patch(module: ModuleType, patches: Patches) -> None:
    """Observes the loaded ``openai._base_client``."""
    Stainless("openai", "openai", ENDPOINTS, CLOUDS).patch(module, patches)
