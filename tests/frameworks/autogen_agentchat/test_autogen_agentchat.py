# ruff: noqa: E501 (a span is a line)
"""AutoGen's agents on their voyage (``frameworks/crew.py``)."""

from __future__ import annotations

import asyncio
import pickle
import re
from collections.abc import AsyncIterator, Sequence
from types import AsyncGeneratorType
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
from autogen_agentchat.base import Response, TaskResult
from autogen_agentchat.conditions import TextMentionTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat, Swarm
from autogen_agentchat.teams._group_chat._base_group_chat import BaseGroupChat
from autogen_agentchat.tools import AgentTool
from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, FunctionTool
from autogen_core.tools import _base as tools_module
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient
from inline_snapshot import snapshot
from opentelemetry import trace

import seatrace
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

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:autogen_core"),
    pytest.mark.filterwarnings("ignore::UserWarning:autogen_ext"),
]

_alive: list[Any] = []
"""The models: nobody closes the connections of one that is dropped."""


def model(provider: FakeProvider) -> OpenAIChatCompletionClient:
    _alive.append(OpenAIChatCompletionClient(model=MODEL, base_url=f"{provider.url}/v1", api_key="sk-test"))
    return _alive[-1]


def crew(provider: FakeProvider, *, stream: bool = False) -> AssistantAgent:
    pilot = AssistantAgent("pilot", model(provider), description="Knows the way.", system_message=PILOT)
    return AssistantAgent(
        "captain",
        model(provider),
        description="Commands the ship.",
        tools=[tide, chart, radio, AgentTool(pilot)],
        system_message=CAPTAIN,
        max_tool_iterations=5,
        model_client_stream=stream,
    )


VOYAGE = snapshot("""\
invoke_agent captain agent.description='Commands the ship.' agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool pilot agent.name='captain' tool.description='Knows the way.' tool.name='pilot' tool.type='function'
    invoke_agent pilot agent.description='Knows the way.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


async def test_run(provider: FakeProvider, captured: Captured) -> None:
    result = await crew(provider).run(task=QUESTION)
    assert result.messages[-1].content == ANSWER
    assert turns(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_run_as_a_stream(provider: FakeProvider, captured: Captured) -> None:
    events = crew(provider).run_stream(task=QUESTION)
    assert type(events) is AsyncGeneratorType
    last = [event async for event in events][-1]
    assert isinstance(last, TaskResult)
    assert last.messages[-1].content == ANSWER
    assert turns(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_streamed_model(provider: FakeProvider, captured: Captured) -> None:
    async for _ in crew(provider, stream=True).run_stream(task=QUESTION):
        pass
    calls = [call for call in captured.calls if call.kind == "inference" and call.stream]
    assert [call.library for call in calls] == ["openai"] * 4
    assert (
        turns(captured.spans).replace("unpriced_calls=1", "unpriced_calls=5", 1) == VOYAGE
    )  # AutoGen asks for no usage
    said, true = totals(captured.spans, provider.served)
    assert said["model_calls"] == true["model_calls"]


# --- teams ------------------------------------------------------------------------------------------------------------


def team_tree(captured: Captured) -> str:
    """Without the description that newer teams have of themselves."""
    return turns(captured.spans).replace(" agent.description='A team of agents.'", "")


ROUND = snapshot("""\
invoke_workflow RoundRobinGroupChat agent.name='RoundRobinGroupChat' seatrace.run.model_calls=5 seatrace.run.steps=0 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  invoke_agent captain agent.description='Commands the ship.' agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
    chat gpt-4o-mini
    execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
    execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
    chat gpt-4o-mini
    execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
    chat gpt-4o-mini
    execute_tool pilot agent.name='captain' tool.description='Knows the way.' tool.name='pilot' tool.type='function'
      invoke_agent pilot agent.description='Knows the way.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
        chat gpt-4o-mini
    chat gpt-4o-mini\
""")


@pytest.mark.parametrize("stream", [False, True])
async def test_round_robin(provider: FakeProvider, captured: Captured, stream: bool) -> None:
    pilot = AssistantAgent("pilot", model(provider), system_message=PILOT)
    team = RoundRobinGroupChat(
        [crew(provider), pilot], termination_condition=TextMentionTermination(PILOTED, sources=["pilot"])
    )
    if stream:
        async for _ in team.run_stream(task=QUESTION):
            pass
    else:
        await team.run(task=QUESTION)
    assert team_tree(captured) == ROUND
    said, true = totals(captured.spans, provider.served)
    assert said == true


def leader(ask: Ask) -> Reply:
    """The captain who hands over."""
    said = "\n".join(piece.text for piece in ask.pieces)
    if CAPTAIN in said:
        return Reply("", (ToolCall("transfer_to_pilot", "{}"),), "tools", 10, 0)
    return captain(ask)


async def test_hand_off(captured: Captured) -> None:
    with FakeProvider(model=leader) as provider:
        chief = AssistantAgent("captain", model(provider), handoffs=["pilot"], system_message=CAPTAIN)
        pilot = AssistantAgent("pilot", model(provider), system_message=PILOT)
        team = Swarm([chief, pilot], termination_condition=TextMentionTermination(PILOTED, sources=["pilot"]))
        await team.run(task=QUESTION)
    assert team_tree(captured) == snapshot("""\
invoke_workflow Swarm agent.name='Swarm' seatrace.run.model_calls=2 seatrace.run.steps=0 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=2
  invoke_agent captain agent.description='An agent that provides assistance with ability to use tools.' agent.name='captain' response.finish_reasons=('tool_call',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
    execute_tool transfer_to_pilot agent.name='captain' tool.description='Handoff to pilot.' tool.name='transfer_to_pilot' tool.type='function'
  invoke_agent pilot agent.description='An agent that provides assistance with ability to use tools.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")


# --- agents and models of the program's own ---------------------------------------------------------------------------


class Deckhand(BaseChatAgent):
    @property
    def produced_message_types(self) -> Sequence[type[TextMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
        if "fail" in messages[-1].content:
            raise ZeroDivisionError("mute")
        return Response(chat_message=TextMessage(content="Aye", source=self.name))

    async def on_reset(self, cancellation_token: Any) -> None:
        pass


async def test_own_agent(captured: Captured) -> None:
    hand = Deckhand("hand", "Does as told.")
    await hand.run(task=QUESTION)
    async for _ in hand.run_stream(task=QUESTION):
        pass
    with pytest.raises(ZeroDivisionError):
        await hand.run(task="fail")
    assert tree(captured.spans) == snapshot("""\
invoke_agent hand agent.description='Does as told.' agent.name='hand' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0
invoke_agent hand agent.description='Does as told.' agent.name='hand' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0
invoke_agent hand ERROR error.type='ZeroDivisionError' agent.description='Does as told.' agent.name='hand' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0\
""")


async def test_own_model(captured: Captured) -> None:
    agent = AssistantAgent("parrot", ReplayChatCompletionClient(["Aye aye", "Aye aye"]))
    await agent.run(task=QUESTION)
    agent._model_client_stream = True
    await agent.run(task=QUESTION)
    assert [
        (call.usage and call.usage.output_tokens, call.stream) for call in captured.calls if call.kind == "inference"
    ] == snapshot([(2, False), (2, True)])
    assert tree(captured.spans) == snapshot("""\
invoke_agent parrot agent.description='An agent that provides assistance with ability to use tools.' agent.name='parrot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  chat unknown
invoke_agent parrot agent.description='An agent that provides assistance with ability to use tools.' agent.name='parrot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  chat unknown\
""")


# --- AutoGen's own spans ----------------------------------------------------------------------------------------------


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, captured: Captured) -> Captured:
    """The program has set up OpenTelemetry for AutoGen, too."""
    monkeypatch.setattr(trace, "get_tracer", captured.tracer_provider.get_tracer)
    return captured


async def test_native_spans_are_not_doubled(provider: FakeProvider, native: Captured) -> None:
    await crew(provider).run(task=QUESTION)
    names = [span.name for span in native.spans if not span.name.startswith(("create_agent", "chat"))]
    assert sorted(names) == snapshot(
        [
            "execute_tool chart",
            "execute_tool pilot",
            "execute_tool radio",
            "execute_tool tide",
            "invoke_agent captain",
            "invoke_agent pilot",
        ]
    )
    (outer,) = [span for span in native.spans if span.name == "invoke_agent captain"]
    assert outer.instrumentation_scope.name == "autogen-core"
    assert outer.attributes["seatrace.run.tool_calls"] == 4


async def test_native_spans_of_teams_are_not_doubled(provider: FakeProvider, native: Captured) -> None:
    pilot = AssistantAgent("pilot", model(provider), system_message=PILOT)
    await RoundRobinGroupChat([pilot], max_turns=1).run(task=QUESTION)
    names = [span.name for span in native.spans if span.name.startswith("invoke")]
    assert sorted(names) == ["invoke_agent pilot", "invoke_workflow RoundRobinGroupChat"]


async def test_native_tool_spans_stay_where_nothing_is_observed(native: Captured) -> None:
    with seatrace.suppress():
        await FunctionTool(tide, "Tells.").run_json({"port": "Kiel"}, CancellationToken())
    assert [span.name for span in native.spans] == ["execute_tool tide"]


# --- a guest ----------------------------------------------------------------------------------------------------------


async def story(events: AsyncIterator[Any]) -> list[tuple[type, str]]:
    return [
        (type(each), re.sub(r"call_\w+|id='[^']*'", "", str(getattr(each, "content", "")))) async for each in events
    ]


async def test_nothing_changes(provider: FakeProvider) -> None:
    plain = await story(crew(provider, stream=True).run_stream(task=QUESTION))
    with capture():
        agent = crew(provider, stream=True)
        assert await story(agent.run_stream(task=QUESTION)) == plain
        with pytest.raises(TypeError):
            await agent.on_messages()
        assert pickle.loads(pickle.dumps(AssistantAgent.on_messages)) is AssistantAgent.on_messages


def test_uninstrument_restores() -> None:
    owners = (
        BaseChatAgent,
        AssistantAgent,
        Deckhand,
        BaseTool,
        BaseGroupChat,
        OpenAIChatCompletionClient,
        tools_module,
    )

    def standing() -> list[dict[str, Any]]:
        return [dict(vars(owner)) for owner in owners]

    before = standing()
    with capture():
        assert standing() != before
    after = standing()
    for a, b in zip(before, after, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name] is b[name] for name in a)


async def test_abandoned_stream_ends_its_spans(provider: FakeProvider, captured: Captured) -> None:
    stream = crew(provider).run_stream(task=QUESTION)
    async for event in stream:
        if type(event).__name__ == "ToolCallRequestEvent":
            break
    await stream.aclose()
    await asyncio.sleep(0.05)
    assert [span.name for span in captured.spans].count("invoke_agent captain") == 1


async def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as got:
        await crew(provider).run(task=QUESTION)
    spans = {span.name: dict(span.attributes or {}) for span in got.spans}
    assert spans["execute_tool radio"]["gen_ai.tool.call.arguments"] == snapshot('{"channel": 42}')
    assert spans["execute_tool tide"]["gen_ai.tool.call.result"] == snapshot(
        "high at noon in Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."
    )
    assert spans["execute_tool tide"]["gen_ai.tool.call.id"].startswith("call_")
    assert QUESTION in spans["invoke_agent captain"]["gen_ai.input.messages"]
    assert ANSWER in spans["invoke_agent captain"]["gen_ai.output.messages"]


async def test_no_content_without_asking(provider: FakeProvider, captured: Captured) -> None:
    await crew(provider).run(task=QUESTION)
    told = repr([dict(span.attributes or {}) for span in captured.spans])
    assert not any(words in told for words in (QUESTION, ANSWER, PILOTED, "high at noon", "no signal"))


async def test_runs_in_tasks_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    await asyncio.gather(*(crew(provider).run(task=QUESTION) for _ in range(2)))
    runs = re.split(r"\n(?=\S)", turns(captured.spans))
    assert len(runs) == 2
    for run in runs:
        assert run == VOYAGE
