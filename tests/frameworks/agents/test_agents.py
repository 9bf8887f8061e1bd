"""OpenAI Agents SDK: runs, hand-offs, agents as tools, tools, streaming; both of its OpenAI models, and others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from inline_snapshot import snapshot
from openai import AsyncOpenAI

from frameworks import crew
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

API = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
USAGE = ModelSettings(include_usage=True)


@pytest.fixture(autouse=True)
def no_backend() -> None:
    set_tracing_disabled(True)


@pytest.fixture
def loop() -> Iterator[None]:
    """The one that ``run_sync`` takes; it would make one and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture(params=API)
def captain(request: pytest.FixtureRequest, provider: FakeProvider) -> Agent:
    return ship(provider, request.param)


def model(provider: FakeProvider, api: str = "responses") -> Any:
    return API[api](crew.MODEL, openai_client=AsyncOpenAI(default_headers={"Connection": "close"}))


def ship(provider: FakeProvider, api: str = "responses") -> Agent:
    tools = [function_tool(each) for each in (crew.tide, crew.chart, crew.radio)]
    pilot = Agent(name="pilot", instructions=crew.PILOT, model=model(provider, api), model_settings=USAGE, handoff_description="Knows the port.")
    return Agent(
        name="captain",
        instructions=crew.CAPTAIN,
        model=model(provider, api),
        model_settings=USAGE,
        tools=tools,
        handoffs=[pilot],
    )

@pytest.mark.usefixtures("loop")
def test_run(captain: Agent, provider: FakeProvider, captured: Captured) -> None:
    result = Runner.run_sync(captain, crew.QUESTION)
    assert result.final_output == crew.PILOTED
    assert crew.tree(captured.spans) == snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('tool_call',) seatrace.run.model_calls=4 seatrace.run.steps=3 seatrace.run.tool_calls=3 seatrace.run.unpriced_calls=4
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true

async def test_stream(captain: Agent, provider: FakeProvider, captured: Captured) -> None:
    result = Runner.run_streamed(captain, crew.QUESTION)
    async for _ in result.stream_events():
        pass
    assert result.final_output == crew.PILOTED
    assert crew.tree(captured.spans) == snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('tool_call',) seatrace.run.model_calls=4 seatrace.run.steps=3 seatrace.run.tool_calls=3 seatrace.run.unpriced_calls=4
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true
