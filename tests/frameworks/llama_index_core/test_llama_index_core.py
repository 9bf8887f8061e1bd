"""LlamaIndex's agents, workflows, query engines and models on their voyage (``frameworks/crew.py``)."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import pytest
from inline_snapshot import snapshot
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.embeddings import BaseEmbedding, MockEmbedding
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.memory import Memory
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever as SameRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import FunctionTool, QueryEngineTool, ToolOutput
from llama_index.core.tools.types import AsyncBaseTool, ToolMetadata
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai import OpenAI

import seatrace
from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, captain, chart, radio, tide, totals, tree
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture


def model(provider: FakeProvider) -> OpenAI:
    return OpenAI(model=MODEL, api_base=f"{provider.url}/v1", api_key="sk-test", reuse_client=False)


def crew(provider: FakeProvider, **settings: Any) -> FunctionAgent:
    helmsman = FunctionAgent(name="pilot", description="Steers.", system_prompt=PILOT, llm=model(provider))

    async def pilot(task: str) -> str:
        """Asks the pilot."""
        return str(await helmsman.run(user_msg=task))

    return FunctionAgent(
        name="captain",
        description="Commands the ship.",
        system_prompt=CAPTAIN,
        llm=model(provider),
        tools=[tide, chart, radio, pilot],
        **settings,
    )


VOYAGE = snapshot()


@pytest.mark.parametrize("streaming", [True, False])
async def test_run(provider: FakeProvider, captured: Captured, streaming: bool) -> None:
    answer = await crew(provider, streaming=streaming).run(
        user_msg=QUESTION, memory=Memory.from_defaults(session_id="voyage", token_limit=10_000)
    )
    assert str(answer) == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert all(span.attributes["gen_ai.tool.call.id"] for span in captured.spans if "execute_tool" in span.name)


async def test_events_of_a_run_stream_as_before(provider: FakeProvider) -> None:
    async def events() -> list[str]:
        handler = crew(provider).run(user_msg=QUESTION)
        seen = [type(event).__name__ async for event in handler.stream_events()]
        assert str(await handler) == ANSWER
        return [*seen, type(handler).__name__]

    bare = await events()
    with capture() as captured:
        assert await events() == bare
    said, true = totals(captured.spans, provider.served[len(provider.served) // 2 :])
    assert said == true


# --- hand-offs --------------------------------------------------------------------------------------------------------


def handing_over(ask: Ask) -> Reply:
    """The captain does what he does, and hands over then."""
    said = "\n".join(piece.text for piece in ask.pieces)
    if CAPTAIN in said and "radio(" in said:
        call = ToolCall("handoff", json.dumps({"to_agent": "pilot", "reason": "He knows the way."}))
        return Reply("", (call,), "tools", 10, 0)
    return captain(ask)


@pytest.fixture
def handed() -> Iterator[FakeProvider]:
    with FakeProvider(model=handing_over) as provider:
        yield provider


def fleet(provider: FakeProvider) -> AgentWorkflow:
    return AgentWorkflow(
        agents=[
            FunctionAgent(
                name="captain",
                description="Commands the ship.",
                system_prompt=CAPTAIN,
                llm=model(provider),
                tools=[tide, chart, radio],
                can_handoff_to=["pilot"],
            ),
            FunctionAgent(name="pilot", description="Steers.", system_prompt=PILOT, llm=model(provider), can_handoff_to=[]),
        ],
        root_agent="captain",
    )


async def test_hand_off(handed: FakeProvider, captured: Captured) -> None:
    answer = await fleet(handed).run(user_msg=QUESTION)
    assert str(answer) == PILOTED
    assert tree(captured.spans) == snapshot()
    said, true = totals(captured.spans, handed.served)
    assert said == true


async def test_two_runs_at_once_do_not_mix(handed: FakeProvider, captured: Captured) -> None:
    workflow = fleet(handed)
    await asyncio.gather(workflow.run(user_msg=QUESTION), workflow.run(user_msg=QUESTION))
    one, two = (each for each in captured.spans if each.name == "invoke_workflow AgentWorkflow")
    traces = [[each.name for each in captured.spans if each.context.trace_id == root.context.trace_id] for root in (one, two)]
    assert sorted(traces[0]) == sorted(traces[1])
    assert one.attributes["seatrace.run.model_calls"] == two.attributes["seatrace.run.model_calls"] == 4
