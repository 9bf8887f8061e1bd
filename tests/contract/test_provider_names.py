"""``gen_ai.provider.name``: by the host, else by the cloud that the client's class is made for."""

from __future__ import annotations

from typing import Any

import pytest

from .rows import AZURE, BEDROCK, VERTEX
from .watch import watched
from .wire import Provider, as_json

OPENAI = {"api_key": "test"}
PROXY = "https://proxy.corp.example/v1"


@pytest.mark.parametrize(
    ("library", "client", "options", "name"),
    [
        ("openai", "OpenAI", OPENAI, "openai"),
        ("openai", "OpenAI", {**OPENAI, "base_url": PROXY}, "openai"),
        ("openai", "OpenAI", {**OPENAI, "base_url": "http://localhost:8000/v1"}, "local"),
        ("openai", "OpenAI", {**OPENAI, "base_url": "http://localhost:11434/v1"}, "ollama"),
        (
            "openai",
            "OpenAI",
            {**OPENAI, "base_url": "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"},
            "aws.bedrock",
        ),
        ("openai", "AzureOpenAI", {**AZURE, "azure_endpoint": "https://brook.openai.azure.us"}, "azure.ai.openai"),
        ("openai", "AzureOpenAI", {**AZURE, "azure_endpoint": "https://proxy.corp.example"}, "azure.ai.openai"),
        ("openai", "AzureOpenAI", {**AZURE, "azure_endpoint": "http://localhost:8080"}, "azure.ai.openai"),
        ("openai", "OpenAI", {**OPENAI, "base_url": "https://brook.openai.azure.us/openai/v1"}, "azure.ai.openai"),
        ("anthropic", "Anthropic", {**OPENAI, "base_url": PROXY}, "anthropic"),
        ("anthropic", "AnthropicBedrock", {**BEDROCK, "base_url": PROXY}, "aws.bedrock"),
        ("anthropic", "AnthropicVertex", {**VERTEX, "base_url": PROXY}, "gcp.vertex_ai"),
        (
            "anthropic",
            "AnthropicVertex",
            {**VERTEX, "base_url": "https://aiplatform.us.rep.googleapis.com/v1"},
            "gcp.vertex_ai",
        ),
        ("anthropic", "Anthropic", {**OPENAI, "base_url": "https://aiplatform.eu.rep.googleapis.com"}, "gcp.vertex_ai"),
    ],
)
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_provider_of_a_client(library: str, client: str, options: dict[str, Any], name: str, mode: str) -> None:
    with watched() as captured:
        made = Provider(as_json({})).client(library, client if mode == "sync" else f"Async{client}", **options)
        if library == "openai":
            called = made.chat.completions.create(model="brook-1", messages=[])
        else:
            called = made.messages.create(model="brook-1", messages=[], max_tokens=1)
        if mode == "async":
            await called
        (span,) = captured.spans
        assert span.attributes["gen_ai.provider.name"] == name


async def test_class_of_ones_own_keeps_the_cloud_of_its_base() -> None:
    import openai

    class Ours(openai.AzureOpenAI):
        pass

    class AzureLike(openai.OpenAI):
        pass

    for kind, options, name in ((Ours, AZURE, "azure.ai.openai"), (AzureLike, OPENAI, "openai")):
        with watched() as captured:
            host = "azure_endpoint" if kind is Ours else "base_url"
            provider = Provider(as_json({}))
            like = provider.client("openai", "OpenAI", api_key="test")
            client = kind(**{**options, host: "https://proxy.corp.example"}, http_client=like._client)
            client.chat.completions.create(model="brook-1", messages=[])
            (span,) = captured.spans
            assert span.attributes["gen_ai.provider.name"] == name


async def test_setting_wins_over_host_and_class() -> None:
    with watched(providers={"proxy.corp.example": "acme"}) as captured:
        options = {**AZURE, "azure_endpoint": "https://proxy.corp.example"}
        client = Provider(as_json({})).client("openai", "AzureOpenAI", **options)
        client.chat.completions.create(model="brook-1", messages=[])
        (span,) = captured.spans
        assert span.attributes["gen_ai.provider.name"] == "acme"
