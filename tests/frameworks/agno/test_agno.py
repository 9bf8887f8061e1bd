"""agno's agents, teams and workflows on their voyage (``frameworks/crew.py``)."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import GeneratorType
from typing import Any

import pytest
from agno.agent import Agent
from agno.models.base import Model
from agno.models.openai import OpenAIChat
from agno.models.response import ModelResponse
from agno.team import Team
from agno.tools.function import FunctionCall
from agno.workflow import Step, Workflow
from inline_snapshot import snapshot

from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, captain, chart, radio, tide, totals, tree
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:agno")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGNO_TELEMETRY", "false")


_alive: list[Any] = []
"""The models: OpenAI's asynchronous client, when it is dropped, closes itself on whatever loop runs by then."""


def model(provider: FakeProvider) -> OpenAIChat:
    _alive.append(OpenAIChat(id=MODEL, base_url=f"{provider.url}/v1", api_key="sk-test"))
    return _alive[-1]


def crew(provider: FakeProvider) -> Agent:
    pilot = Agent(name="pilot", instructions=PILOT, model=model(provider), telemetry=False)

    def ask_pilot(task: str) -> str:
        """Asks the pilot."""
        return str(pilot.run(task, session_id="voyage").content)

    return Agent(
        name="captain",
        description="Commands the ship.",
        instructions=CAPTAIN,
        model=model(provider),
        tools=[tide, chart, radio, ask_pilot],
        telemetry=False,
    )


VOYAGE = snapshot("""\
invoke_agent captain agent.description='Commands the ship.' agent.name='captain' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool ask_pilot agent.name='captain' tool.description='Asks the pilot.' tool.name='ask_pilot' tool.type='function'
    invoke_agent pilot agent.name='pilot' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


def test_run(provider: FakeProvider, captured: Captured) -> None:
    answer = crew(provider).run(QUESTION, session_id="voyage")
    assert answer.content == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


def test_stream(provider: FakeProvider, captured: Captured) -> None:
    stream = crew(provider).run(QUESTION, session_id="voyage", stream=True)
    assert type(stream) is GeneratorType
    assert "".join(event.content or "" for event in stream if event.event == "RunContent") == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_async_run(provider: FakeProvider, captured: Captured) -> None:
    answer = await crew(provider).arun(QUESTION, session_id="voyage")
    assert answer.content == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_async_stream(provider: FakeProvider, captured: Captured) -> None:
    words = ""
    async for event in crew(provider).arun(QUESTION, session_id="voyage", stream=True):
        if event.event == "RunContent":
            words += event.content or ""
    assert words == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true
