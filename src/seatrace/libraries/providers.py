"""Whose model answers at a host: ``gen_ai.provider.name`` of clients that can talk to anybody.

The names are the conventions' where they have one (``azure.ai.openai``, ``x_ai``, ``mistral_ai`` …) and the host's own
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

_HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "openai.azure.com": "azure.ai.openai",
    "openai.azure.us": "azure.ai.openai",
    "openai.azure.cn": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "models.inference.ai.azure.com": "azure.ai.inference",
    "models.github.ai": "azure.ai.inference",
    "amazonaws.com": "aws.bedrock",
    "amazonaws.com.cn": "aws.bedrock",
    "api.aws": "aws.bedrock",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "openrouter.ai": "openrouter",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zai",
    "api.inference.crusoecloud.com": "crusoe",
    "inference.heroku.com": "heroku",
    "router.huggingface.co": "huggingface",
    "endpoints.huggingface.cloud": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "api.portkey.ai": "portkey",
    "snowflakecomputing.com": "snowflake",
    "api.writer.com": "writer",
    "ollama.com": "ollama",
    "api.ai21.com": "ai21",
    "api.sambanova.ai": "sambanova",
    "api.deepinfra.com": "deepinfra",
    "integrate.api.nvidia.com": "nvidia",
    "api.studio.nebius.com": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.novita.ai": "novita",
    "api.minimax.io": "minimax",
    "dashscope.aliyuncs.com": "alibaba",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "ark.cn-beijing.volces.com": "bytedance",
    "ai-gateway.vercel.sh": "vercel",
    "gateway.ai.cloudflare.com": "cloudflare",
    "api.cloudflare.com": "cloudflare",
    "api.replicate.com": "replicate",
    "api.aleph-alpha.com": "aleph_alpha",
    "api.voyageai.com": "voyage",
}

_WORDS = {
    "amazon_bedrock": "aws.bedrock",
    "awsbedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_inference": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_ai": "gcp.gemini",
    "google_cloud": "gcp.vertex_ai",
    "google_genai": "gcp.gemini",
    "google_gla": "gcp.gemini",
    "google_vertex": "gcp.vertex_ai",
    "google_vertexai": "gcp.vertex_ai",
    "googleai": "gcp.gemini",
    "grok": "x_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}

_SERVERS = ("vllm", "ollama", "litellm", "sglang", "lmstudio")
"""Model servers people run themselves, recognised by a label of the host name (``vllm.models.svc``)."""

_OLLAMA_PORT = 11434
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "host.docker.internal"})


def provider_named(word: str) -> str:
    """The provider that a framework calls ``word``: a prefix of its models, a package or a class of its."""
    word = word.lower()
    return _WORDS.get(word.replace("-", "_"), word)


def provider_of(
    host: str, port: int | None, path: str, custom: Mapping[str, str], *, cloud: str | None, default: str
) -> str:
    """The provider behind ``host``.

    ``custom`` (setting ``providers``) maps ``host`` or ``host:port`` to a name and wins. Behind a host that nothing is
    known about, a proxy as a rule, stands the ``cloud`` that the client is made for. Without one a loopback host is
    ``local``; any other is ``default``, whose protocol it speaks.
    """
    host = host.lower()
    if custom:
        named = custom.get(f"{host}:{port}") or custom.get(host)
        if named:
            return named
    if host.endswith("services.ai.azure.com") and path.startswith("/openai"):
        return "azure.ai.openai"
    labels = host.split(".")
    for start in range(len(labels) - 1):
        suffix = ".".join(labels[start:])
        named = _HOSTS.get(suffix)
        if named:
            return named
    if host.endswith(("-aiplatform.googleapis.com", ".rep.googleapis.com")):
        return "gcp.vertex_ai"
    if port == _OLLAMA_PORT:
        return "ollama"
    for label in labels:
        for server in _SERVERS:
            if label == server or label.startswith(server + "-") or label.endswith("-" + server):
                return server
    return cloud or ("local" if host in _LOOPBACK else default)
