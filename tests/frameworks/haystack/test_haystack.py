"""Haystack: pipelines, agents with a sub-agent as a tool, streaming, retrievers, models without a client of ours."""

from __future__ import annotations

import asyncio
import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import pytest
from haystack import Document, Pipeline, component
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import Tool, create_tool_from_function
from inline_snapshot import snapshot

from frameworks import crew
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Haystack's clients are nobody's to close

NEW = int(version("haystack-ai").split(".")[0]) >= 3
ASKED = [ChatMessage.from_user(crew.QUESTION)]

if NEW:
    AsyncPipeline = Pipeline
else:
    from haystack import AsyncPipeline


def tools() -> list[Tool]:
    return [create_tool_from_function(each) for each in (crew.tide, crew.chart, crew.radio)]


def ship(**details: Any) -> Agent:
    mate = Agent(chat_generator=OpenAIChatGenerator(model=crew.MODEL), system_prompt=crew.PILOT, tools=tools()[:1])

    def pilot(request: str) -> str:
        """Knows the port."""
        return str(mate.run(messages=[ChatMessage.from_user(request)])["last_message"].text)

    return Agent(
        chat_generator=OpenAIChatGenerator(model=crew.MODEL),
        system_prompt=crew.CAPTAIN,
        tools=[*tools(), create_tool_from_function(pilot)],
        **({"raise_on_tool_invocation_failure": False} if not NEW else {}),
        **details,
    )


def voyage(kind: Any = Pipeline) -> Pipeline:
    pipeline = kind(metadata={"name": "voyage"})
    pipeline.add_component("captain", ship())
    return pipeline


def test_pipeline(provider: FakeProvider, captured: Captured) -> None:
    result = voyage().run({"captain": {"messages": ASKED}})
    assert result["captain"]["last_message"].text == crew.ANSWER
    assert crew.tree(captured.spans) == snapshot("""\
invoke_workflow voyage agent.name='voyage' seatrace.run.model_calls=5 seatrace.run.steps=0 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
    chat gpt-4o-mini
    execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
    execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
    chat gpt-4o-mini
    execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
    chat gpt-4o-mini
    execute_tool pilot agent.name='captain' tool.description='Knows the port.' tool.name='pilot' tool.type='function'
      invoke_agent response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
        chat gpt-4o-mini
    chat gpt-4o-mini\
""")
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


@pytest.mark.asyncio
async def test_pipeline_async(provider: FakeProvider, captured: Captured) -> None:
    result = await voyage(AsyncPipeline).run_async({"captain": {"messages": ASKED}})
    assert result["captain"]["last_message"].text == crew.ANSWER
    assert crew.tree(captured.spans) == snapshot()
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true
