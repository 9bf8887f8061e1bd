"""The registry: which libraries are observed, and where each of them is tapped. No row imports its library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Library:
    """A row of the registry."""

    name: str
    """The import name, which is also the name in settings."""
    distribution: str
    target: str
    """The module that gets patched once the program has imported it."""
    oldest: str
    """The oldest version that the tests run."""
    observes: str
    """What of it is observed, for the docs."""
    kind: Literal["client", "framework"] = "client"
    """A ``client`` calls models; a ``framework`` stands on clients, and has runs, tools and the like."""
    further: tuple[str, ...] = ()
    """More modules that are patched when the program imports them. What is missing there is reported, and the rest is
    observed all the same."""


REGISTRY: tuple[Library, ...] = (
    Library(
        "openai",
        "openai",
        "openai._base_client",
        "1.66.0",
        "chat, responses, completions, embeddings, images, audio, decisions, moderations, token counts",
    ),
    Library(
        "anthropic",
        "anthropic",
        "anthropic._base_client",
        "0.50.0",
        "messages, beta messages, stream helpers, tool runner, completions, token counts",
    ),
    Library(
        "langchain",
        "langchain-core",
        "langchain_core.language_models.chat_models",
        "0.3.74",
        "tools, retrievers, AgentExecutor, models whose client is not observed",
        "framework",
        (
            "langchain_core.language_models.llms",
            "langchain_core.tools.base",
            "langchain_core.retrievers",
            "langchain.agents.agent",
            "langchain_classic.agents.agent",
        ),
    ),
    Library(
        "langgraph",
        "langgraph",
        "langgraph.pregel",
        "0.6.4",
        "graphs, agents, subgraphs, workflows of the functional API",
        "framework",
    ),
    Library(
        "google.adk",
        "google-adk",
        "google.adk.agents.base_agent",
        "1.32.0",
        "agents, workflow agents, graphs, tools, hand-offs, model calls of any model class",
        kind="framework",
        further=(
            "google.adk.agents.context",
            "google.adk.flows.llm_flows.base_llm_flow",
            "google.adk.flows.llm_flows.functions",
            "google.adk.flows.llm_flows.tools._caller",
            "google.adk.flows.llm_flows.tools._live_caller",
            "google.adk.runners",
            "google.adk.workflow._workflow",
        ),
    ),
    Library(
        "strands",
        "strands-agents",
        "strands.agent.agent",
        "1.17.0",
        "agents, graphs, swarms, tools, model calls of any model class",
        kind="framework",
        further=(
            "strands.event_loop.event_loop",
            "strands.multiagent.graph",
            "strands.multiagent.swarm",
            "strands.tools.executors._executor",
            "strands.types._events",
        ),
    ),
    Library(
        "mcp",
        "mcp",
        "mcp",
        "1.12.4",
        "requests and sessions, client and server, over stdio, HTTP and in memory; the trace goes on at the server",
        kind="framework",
        further=(
            "mcp.shared.jsonrpc_dispatcher",
            "mcp.shared.direct_dispatcher",
            "mcp.shared._otel",
            "mcp.server.runner",
            "mcp.client.session",
            "mcp.shared.session",
            "mcp.client.streamable_http",
            "mcp.client.stdio",
            "mcp.server.stdio",
            "mcp.server.fastmcp.tools.base",
            "mcp.server.mcpserver.tools.base",
        ),
    ),
    Library(
        "fastmcp",
        "fastmcp",
        "fastmcp.tools",
        "2.12.5",
        "requests and sessions of its clients and servers, through mcp",
        kind="framework",
        further=(
            "fastmcp.tools.tool",
            "fastmcp.tools.function_tool",
            "fastmcp.client.telemetry",
            "fastmcp.server.telemetry",
        ),
    ),
    Library(
        "pydantic_ai",
        "pydantic-ai-slim",
        "pydantic_ai.agent",
        "1.0.0",
        "agent runs (also streamed and iterated), delegation, tools, models of any client",
        kind="framework",
        further=("pydantic_ai.tool_manager", "pydantic_ai._tool_manager"),
    ),
    Library(
        "agent_framework",
        "agent-framework-core",
        "agent_framework.observability",
        "1.4.0",
        "agent runs, sub-agents as tools, function tools, workflows, chat clients of any kind",
        kind="framework",
        further=(
            "agent_framework._tools",
            "agent_framework._clients",
            "agent_framework._workflows._workflow",
            "agent_framework._workflows._functional",
        ),
    ),
    Library(
        "crewai",
        "crewai",
        "crewai",
        "1.15.0",
        "crews, flows, agents, plans, tools, models whose client is not observed",
        "framework",
        further=("crewai.utilities.reasoning_handler",),
    ),
    Library(
        "llama_index.core",
        "llama-index-core",
        "llama_index.core",
        "0.13.0",
        "agents, workflows, query engines, tools, retrievers, models and embeddings whose client is not observed",
        "framework",
        ("llama_index.core.agent.workflow.multi_agent_workflow", "workflows.workflow"),
    ),
    Library(
        "agents",
        "openai-agents",
        "agents.run",
        "0.11.0",
        "runs (also streamed and resumed), hand-offs, agents as tools, function tools, MCP tools, shell and computer",
        kind="framework",
    ),
    Library(
        "claude_agent_sdk",
        "claude-agent-sdk",
        "claude_agent_sdk",
        "0.2.82",
        "queries and clients' questions, their model calls, tools (also those in the process) and sub-agents",
        kind="framework",
    ),
    Library(
        "agno",
        "agno",
        "agno.agent._run",
        "2.5.5",
        "agents, teams and their members, workflows, tools, knowledge, models without an observed client",
        kind="framework",
        further=(
            "agno.agent.agent",
            "agno.team._run",
            "agno.team.team",
            "agno.workflow.workflow",
            "agno.tools.function",
            "agno.models.base",
            "agno.knowledge.knowledge",
        ),
    ),
    Library(
        "smolagents",
        "smolagents",
        "smolagents.agents",
        "1.23.0",
        "agents, their plans and those they manage, tools, models without an observed client",
        kind="framework",
        further=("smolagents.tools", "smolagents.models", "smolagents.local_python_executor"),
    ),
    Library(
        "autogen_agentchat",
        "autogen-agentchat",
        "autogen_agentchat.agents._base_chat_agent",
        "0.6.4",
        "agents, teams, tools, models without an observed client",
        kind="framework",
        further=(
            "autogen_agentchat.teams._group_chat._base_group_chat",
            "autogen_core.models._model_client",
            "autogen_core.tools._base",
            "autogen_ext.tools.mcp._workbench",
        ),
    ),
    Library(
        "ag2",
        "ag2",
        "ag2.agent",
        "1.0.0",
        "agents and those they call as tools, function tools, models without an observed client",
        kind="framework",
        further=("ag2.tools.final.function_tool", "ag2.middleware.builtin.telemetry"),
    ),
    Library(
        "haystack",
        "haystack-ai",
        "haystack.core.component.component",
        "2.19.0",
        "pipelines, agents, tools, retrievers, generators whose client is not observed",
        "framework",
        (
            "haystack.core.pipeline.pipeline",
            "haystack.core.pipeline.async_pipeline",
            "haystack.components.agents.agent",
            "haystack.components.agents.tool_calling",
            "haystack.tools.tool",
            "haystack.components.extractors.llm_metadata_extractor",
            "haystack.components.extractors.image.llm_document_content_extractor",
            "haystack.components.retrievers.multi_query_embedding_retriever",
            "haystack.components.retrievers.multi_query_text_retriever",
            "haystack.components.retrievers.multi_retriever",
        ),
    ),
    Library(
        "dspy",
        "dspy",
        "dspy.primitives.module",
        "3.0.0",
        "ReAct and other agents, programs, tools, retrievers, models whose client is not observed",
        "framework",
        (
            "dspy.adapters.types.tool",
            "dspy.clients.lm",
            "dspy.clients.execution",
            "dspy.retrievers.retrieve",
            "dspy.retrievers.embeddings",
            "dspy.utils.parallelizer",
        ),
    ),
    Library(
        "semantic_kernel",
        "semantic-kernel",
        "semantic_kernel.functions.kernel_function",
        "1.36.0",
        "agents, orchestrations, functions that a model calls, vector searches, models whose client is not observed",
        "framework",
        (
            "semantic_kernel.agents.autogen.autogen_conversable_agent",
            "semantic_kernel.agents.azure_ai.azure_ai_agent",
            "semantic_kernel.agents.bedrock.bedrock_agent",
            "semantic_kernel.agents.chat_completion.chat_completion_agent",
            "semantic_kernel.agents.copilot_studio.copilot_studio_agent",
            "semantic_kernel.agents.group_chat.agent_group_chat",
            "semantic_kernel.agents.open_ai.openai_assistant_agent",
            "semantic_kernel.agents.open_ai.openai_responses_agent",
            "semantic_kernel.agents.orchestration.agent_actor_base",
            "semantic_kernel.agents.orchestration.orchestration_base",
            "semantic_kernel.agents.runtime.core.base_agent",
            "semantic_kernel.connectors.ai.chat_completion_client_base",
            "semantic_kernel.data.vector",
            "semantic_kernel.utils.telemetry.agent_diagnostics.decorators",
            "semantic_kernel.utils.telemetry.model_diagnostics.decorators",
            "semantic_kernel.utils.telemetry.model_diagnostics.function_tracer",
        ),
    ),
)
