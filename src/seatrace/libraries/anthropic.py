"""The ``anthropic`` package, its Bedrock, Vertex and Foundry clients included."""

from __future__ import annotations

from types import ModuleType

from seatrace.core.patch import Patches
from seatrace.core.shape import Shape
from seatrace.shapes.anthropic_messages import AnthropicCount, AnthropicMessages

from ._stainless import Stainless, quiet_native

ENDPOINTS: dict[str, Shape] = {
    "/v1/messages": AnthropicMessages(),
    "/v1/messages/count_tokens": AnthropicCount(),
    "/v1/complete": AnthropicMessages("text_completion"),
}

CLOUDS = {
    "AnthropicAWS": "aws.bedrock",
    "AnthropicBedrock": "aws.bedrock",
    "AnthropicBedrockMantle": "aws.bedrock",
    "AnthropicFoundry": "azure.ai.inference",
    "AnthropicGoogleCloud": "gcp.vertex_ai",
    "AnthropicVertex": "gcp.vertex_ai",
}


def patch(module: ModuleType, patches: Patches) -> None:
    """Observes the loaded ``anthropic._base_client`` and lets its native tracing rest meanwhile."""
    Stainless("anthropic", "anthropic", ENDPOINTS, CLOUDS).patch(module, patches)
    quiet_native(module, patches)
