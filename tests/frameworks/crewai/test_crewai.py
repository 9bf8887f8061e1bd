"""crewai's crews, flows and agents on their voyage (``frameworks/crew.py``)."""

# ruff: noqa: E501 (trees of spans are as wide as they are)

from __future__ import annotations

import asyncio
import functools
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

os.environ.update(
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_DISABLE_TRACKING="true",
    CREWAI_TRACING_ENABLED="false",
    CREWAI_TESTING="true",
)

from crewai import LLM, Agent, BaseLLM, Crew, Flow, Process, Task
from crewai.flow.flow import listen, start
from crewai.tools import BaseTool, tool

from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, captain, chart, radio, tide, totals, tree
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

_meeting = threading.Barrier(2)


def together(function: Callable[..., Any]) -> Callable[..., Any]:
    """A tool that waits for the other one of its turn."""

    @functools.wraps(function)
    def meet(**given: Any) -> Any:
        _meeting.wait(10)
        return function(**given)

    return meet


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it stores, it stores here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))


def model(provider: FakeProvider, **settings: Any) -> Any:
    return LLM(model=f"openai/{MODEL}", base_url=f"{provider.url}/v1", api_key="sk-test", **settings)


def agent(provider: FakeProvider, **settings: Any) -> Agent:
    helmsman = Agent(role="pilot", goal="Steer.", backstory=PILOT, llm=model(provider))

    def pilot(task: str) -> str:
        """Asks the pilot."""
        return str(helmsman.kickoff(task))

    tools = [tool(each.__name__)(each) for each in (together(tide), together(chart), radio, pilot)]
    settings = {"llm": model(provider), "tools": tools, **settings}
    return Agent(role="captain", goal="Command the ship.", backstory=CAPTAIN, **settings)


def crew(provider: FakeProvider, **settings: Any) -> Crew:
    commander = agent(provider)
    task = Task(description=QUESTION, expected_output="The state of the ship.", agent=commander)
    return Crew(name="voyage", agents=[commander], tasks=[task], **settings)


VOYAGE = snapshot()


def test_kickoff(provider: FakeProvider, captured: Captured) -> None:
    assert str(crew(provider).kickoff()) == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert all(span.attributes["gen_ai.tool.call.id"] for span in captured.spans if "execute_tool" in span.name)
