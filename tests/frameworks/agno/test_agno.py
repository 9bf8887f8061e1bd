# ruff: noqa: E501 (a span is a line)
"""agno's agents, teams and workflows on their voyage (``frameworks/crew.py``)."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import GeneratorType
from typing import Any

import pytest
from agno.agent import Agent
from agno.metrics import MessageMetrics
from agno.models.base import Model
from agno.models.openai import OpenAIChat
from agno.models.response import ModelResponse
from agno.team import Team
from agno.tools.function import Function, FunctionCall
from agno.workflow import Step, Workflow
from inline_snapshot import snapshot

from frameworks.crew import (
    ANSWER,
    CAPTAIN,
    MODEL,
    PILOT,
    PILOTED,
    QUESTION,
    captain,
    chart,
    radio,
    tide,
    totals,
    tree,
    turns,
)
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:agno")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGNO_TELEMETRY", "false")


one_loop = pytest.mark.asyncio(loop_scope="module")
"""agno keeps an asynchronous client for the life of the process."""

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
  execute_tool tide agent.name='captain' conversation.id='voyage' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  execute_tool chart agent.name='captain' conversation.id='voyage' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' conversation.id='voyage' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool ask_pilot agent.name='captain' conversation.id='voyage' tool.description='Asks the pilot.' tool.name='ask_pilot' tool.type='function'
    invoke_agent pilot agent.name='pilot' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


def test_run(provider: FakeProvider, captured: Captured) -> None:
    answer = crew(provider).run(QUESTION, session_id="voyage")
    assert answer.content == ANSWER
    assert turns(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


def test_stream(provider: FakeProvider, captured: Captured) -> None:
    stream = crew(provider).run(QUESTION, session_id="voyage", stream=True)
    assert type(stream) is GeneratorType
    assert "".join(event.content or "" for event in stream if event.event == "RunContent") == ANSWER
    assert turns(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


@one_loop
async def test_async_run(provider: FakeProvider, captured: Captured) -> None:
    answer = await crew(provider).arun(QUESTION, session_id="voyage")
    assert answer.content == ANSWER
    assert turns(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


@one_loop
async def test_async_stream(provider: FakeProvider, captured: Captured) -> None:
    words = ""
    async for event in crew(provider).arun(QUESTION, session_id="voyage", stream=True):
        if event.event == "RunContent":
            words += event.content or ""
    assert words == ANSWER
    assert turns(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


# --- teams and workflows ----------------------------------------------------------------------------------------------


def leader(ask: Ask) -> Reply:
    """The captain, as the leader of a team: sends the pilot, then closes."""
    said = "\n".join(piece.text for piece in ask.pieces)
    offered = [tool.name for tool in ask.tools]
    if CAPTAIN in said and "delegate_task_to_member" in offered and PILOTED not in said:
        call = ToolCall("delegate_task_to_member", json.dumps({"member_id": "pilot", "task": "Find the way."}))
        return Reply("", (call,), "tools", 10, 0)
    return captain(ask)


@pytest.fixture
def led() -> Iterator[FakeProvider]:
    with FakeProvider(model=leader) as provider:
        yield provider


def team(provider: FakeProvider) -> Team:
    pilot = Agent(name="pilot", instructions=PILOT, model=model(provider), telemetry=False)
    return Team(name="crew", members=[pilot], instructions=CAPTAIN, model=model(provider), telemetry=False)


def team_tree(captured: Captured) -> str:
    """Without the description of agno's own tool, which changes with its versions."""
    return re.sub(r" tool\.description='Use this[^']*'", "", tree(captured.spans))


TEAM = snapshot("""\
invoke_agent crew agent.name='crew' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=3 seatrace.run.steps=2 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=3
  chat gpt-4o-mini
  execute_tool delegate_task_to_member agent.name='crew' conversation.id='voyage' tool.name='delegate_task_to_member' tool.type='function'
    invoke_agent pilot agent.name='pilot' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


def test_team(led: FakeProvider, captured: Captured) -> None:
    assert team(led).run(QUESTION, session_id="voyage").content == ANSWER
    assert team_tree(captured) == TEAM
    said, true = totals(captured.spans, led.served)
    assert said == true


def test_team_streams(led: FakeProvider, captured: Captured) -> None:
    for _ in team(led).run(QUESTION, session_id="voyage", stream=True, stream_events=True):
        pass
    assert team_tree(captured) == TEAM
    said, true = totals(captured.spans, led.served)
    assert said == true


@one_loop
async def test_team_async(led: FakeProvider, captured: Captured) -> None:
    assert (await team(led).arun(QUESTION, session_id="voyage")).content == ANSWER
    assert team_tree(captured) == TEAM


@one_loop
async def test_team_async_streams(led: FakeProvider, captured: Captured) -> None:
    async for _ in team(led).arun(QUESTION, session_id="voyage", stream=True, stream_events=True):
        pass
    assert team_tree(captured) == TEAM
    said, true = totals(captured.spans, led.served)
    assert said == true


def workflow(provider: FakeProvider) -> Workflow:
    pilot = Agent(name="pilot", instructions=PILOT, model=model(provider), telemetry=False)
    steps = [Step(name="steer", agent=pilot), Step(name="steer again", agent=pilot)]
    return Workflow(name="landing", steps=steps, telemetry=False)


WORKFLOW = snapshot("""\
invoke_workflow landing agent.name='landing' conversation.id='voyage' seatrace.run.model_calls=2 seatrace.run.steps=0 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=2
  invoke_agent pilot agent.name='pilot' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
  invoke_agent pilot agent.name='pilot' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")


def test_workflow(provider: FakeProvider, captured: Captured) -> None:
    assert workflow(provider).run(QUESTION, session_id="voyage").content == PILOTED
    assert tree(captured.spans) == WORKFLOW


@one_loop
async def test_workflow_async_streams(provider: FakeProvider, captured: Captured) -> None:
    async for _ in workflow(provider).arun(QUESTION, session_id="voyage", stream=True):
        pass
    await asyncio.sleep(0.01)  # agno leaves the agents' streams before their end: the loop closes them
    assert tree(captured.spans) == WORKFLOW


# --- models that no observed client calls -----------------------------------------------------------------------------


class Parrot(Model):
    """A model of the program's own."""

    def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return self._answer()

    async def ainvoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return self._answer()

    def invoke_stream(self, *args: Any, **kwargs: Any) -> Iterator[ModelResponse]:
        for word in ("Aye", " aye"):
            yield ModelResponse(content=word)
        yield ModelResponse(response_usage=self._usage())

    async def ainvoke_stream(self, *args: Any, **kwargs: Any) -> Any:
        for answer in self.invoke_stream():
            yield answer

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        return self._answer()

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        return self._answer()

    def _answer(self) -> ModelResponse:
        return ModelResponse(role="assistant", content="Aye aye", response_usage=self._usage())

    def _usage(self) -> Any:
        return MessageMetrics(input_tokens=7, output_tokens=3, total_tokens=10, cache_read_tokens=2)


def parrot() -> Agent:
    return Agent(name="parrot", model=Parrot(id="parrot-1", provider="Cage"), telemetry=False)


def only_model_call(captured: Captured) -> dict[str, Any]:
    (chat,) = [span for span in captured.spans if span.name == "chat parrot-1"]
    return {name: value for name, value in (chat.attributes or {}).items() if name.startswith("gen_ai")}


def test_own_model(captured: Captured) -> None:
    parrot().run(QUESTION, session_id="voyage")
    assert only_model_call(captured) == snapshot(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "cage",
            "gen_ai.request.model": "parrot-1",
            "gen_ai.agent.name": "parrot",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.cache_read.input_tokens": 2,
            "gen_ai.conversation.id": "voyage",
        }
    )


def test_own_model_streams(captured: Captured) -> None:
    for _ in parrot().run(QUESTION, session_id="voyage", stream=True):
        pass
    assert only_model_call(captured)["gen_ai.usage.input_tokens"] == 7


@one_loop
async def test_own_model_async(captured: Captured) -> None:
    await parrot().arun(QUESTION)
    async for _ in parrot().arun(QUESTION, stream=True):
        pass
    assert [call.usage.input_tokens for call in captured.calls if call.kind == "inference"] == [7, 7]


# --- failures ---------------------------------------------------------------------------------------------------------


class Mute(Parrot):
    def _answer(self) -> ModelResponse:
        raise ZeroDivisionError("mute")

    _usage = _answer


def test_failed_run_is_an_error(captured: Captured) -> None:
    agent = Agent(name="parrot", model=Mute(id="parrot-1"), telemetry=False)
    assert agent.run(QUESTION, session_id="voyage").content == "mute"
    for _ in agent.run(QUESTION, session_id="voyage", stream=True):
        pass
    assert tree(captured.spans) == snapshot("""\
invoke_agent parrot ERROR error.type='_OTHER' agent.name='parrot' conversation.id='voyage' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
  chat parrot-1 ERROR
invoke_agent parrot ERROR error.type='_OTHER' agent.name='parrot' conversation.id='voyage' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
  chat parrot-1 ERROR\
""")


def test_generator_tool_works_until_it_ends(captured: Captured) -> None:
    def soundings() -> Iterator[str]:
        yield "3 fathoms"
        parrot().run(QUESTION, session_id="voyage")
        raise OSError("lead lost")

    call = FunctionCall(function=Function.from_callable(soundings), arguments={}, call_id="call-1")
    done = call.execute()
    assert done.result is call.result
    assert type(done.result) is GeneratorType
    with pytest.raises(OSError):
        list(done.result)
    assert tree(captured.spans) == snapshot("""\
execute_tool soundings ERROR error.type='OSError' tool.name='soundings' tool.type='function'
  invoke_agent parrot agent.name='parrot' conversation.id='voyage' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat parrot-1\
""")


# --- a guest ----------------------------------------------------------------------------------------------------------


def story(events: Any) -> list[tuple[type, Any]]:
    said = ((type(event), getattr(event, "content", None)) for event in events)
    return [(kind, re.sub(r"[\d.]+s", "", str(words))) for kind, words in said]


def test_nothing_changes(provider: FakeProvider) -> None:
    plain = story(crew(provider).run(QUESTION, session_id="voyage", stream=True, stream_events=True))
    with capture():
        seen = story(crew(provider).run(QUESTION, session_id="voyage", stream=True, stream_events=True))
        agent = crew(provider)
        assert copy.copy(agent).name == agent.deep_copy().name == "captain"
        with pytest.raises(TypeError):
            agent.run()
    assert seen == plain


def test_uninstrument_restores() -> None:
    from agno.agent import _run as agents
    from agno.team import _run as teams
    from agno.tools import function

    def standing() -> list[Any]:
        return [
            *(vars(owner).copy() for owner in (agents, teams, function)),
            *(dict(vars(owner)) for owner in (Agent, Team, Workflow, FunctionCall, Model)),
        ]

    before = standing()
    with capture():
        assert standing() != before
    after = standing()
    assert all(a.keys() == b.keys() and all(a[k] is b[k] for k in a) for a, b in zip(before, after, strict=True))
    assert pickle.loads(pickle.dumps(Agent.run)) is Agent.run


def test_abandoned_stream_ends_its_spans(provider: FakeProvider, captured: Captured) -> None:
    stream = crew(provider).run(QUESTION, session_id="voyage", stream=True, stream_events=True)
    for event in stream:
        if event.event == "ToolCallStarted":
            break
    stream.close()
    names = {span.name for span in captured.spans}
    assert "invoke_agent captain" in names
    assert all(span.end_time for span in captured.spans)


def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as got:
        crew(provider).run(QUESTION, session_id="voyage")
    spans = {span.name: dict(span.attributes or {}) for span in got.spans}
    assert spans["execute_tool tide"]["gen_ai.tool.call.result"] == snapshot(
        "high at noon in Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."
    )
    assert spans["execute_tool tide"]["gen_ai.tool.call.arguments"] == snapshot(
        '{"port": "Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."}'
    )
    assert QUESTION in spans["invoke_agent captain"]["gen_ai.input.messages"]
    assert ANSWER in spans["invoke_agent captain"]["gen_ai.output.messages"]


def test_no_content_without_asking(provider: FakeProvider, captured: Captured) -> None:
    crew(provider).run(QUESTION, session_id="voyage")
    told = repr([dict(span.attributes or {}) for span in captured.spans])
    assert not any(words in told for words in (QUESTION, ANSWER, PILOTED, "high at noon", "no signal"))


def each_run(captured: Captured) -> list[str]:
    runs = re.split(r"\n(?=\S)", turns(captured.spans))
    assert len(runs) == 2
    return runs


def test_runs_in_threads_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: crew(provider).run(QUESTION, session_id="voyage"), range(2)))
    for run in each_run(captured):
        assert run == VOYAGE


@one_loop
async def test_runs_in_tasks_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    await asyncio.gather(*(crew(provider).arun(QUESTION, session_id="voyage") for _ in range(2)))
    for run in each_run(captured):
        assert run == VOYAGE


def test_work_in_the_background_belongs_to_its_run(provider: FakeProvider, captured: Captured) -> None:
    agent = Agent(name="pilot", model=model(provider), telemetry=False)

    def look() -> None:
        parrot().run(QUESTION, session_id="voyage")

    from seatrace import agent as observed

    with observed("watch"):
        agent.background_executor.submit(look).result()
    assert tree(captured.spans).splitlines()[1].startswith("  invoke_agent parrot")
