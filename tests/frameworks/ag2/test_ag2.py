# ruff: noqa: E501 (a span is a line)
"""AG2's agents on their voyage (``frameworks/crew.py``)."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from ag2 import Agent, MemoryStream
from ag2.config import OpenAIConfig
from ag2.events import BaseEvent, ModelResponse, ToolCallEvent
from ag2.events.types import Usage
from ag2.middleware.builtin import telemetry
from ag2.testing import TestConfig
from ag2.tools.final.function_tool import FunctionTool
from inline_snapshot import snapshot

import seatrace
from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, chart, radio, tide, totals, turns
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

_alive: list[Any] = []
"""The models: nobody closes the connections of one that is dropped."""


@pytest.fixture(autouse=True)
def _keep_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    made = OpenAIConfig.create

    def create(config: OpenAIConfig) -> Any:
        _alive.append(made(config))
        return _alive[-1]

    monkeypatch.setattr(OpenAIConfig, "create", create)


def config(provider: FakeProvider, *, streaming: bool = False) -> OpenAIConfig:
    return OpenAIConfig(MODEL, base_url=f"{provider.url}/v1", api_key="sk-test", streaming=streaming)


def crew(provider: FakeProvider, *, streaming: bool = False, **settings: Any) -> Agent:
    pilot = Agent("pilot", PILOT, config=config(provider, streaming=streaming))
    tools = [tide, chart, radio, pilot.as_tool(description="Asks the pilot.")]
    return Agent("captain", CAPTAIN, config=config(provider, streaming=streaming), tools=tools, tasks=False, **settings)


def voyage(captured: Captured) -> str:
    """Each stream has an id of its own."""
    return re.sub(r"conversation\.id='[-\w]{36}'", "conversation.id=…", turns(captured.spans))


VOYAGE = snapshot("""\
invoke_agent captain agent.name='captain' conversation.id=… response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool tide agent.name='captain' conversation.id=… tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  execute_tool chart agent.name='captain' conversation.id=… tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' conversation.id=… tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool task_pilot agent.name='captain' conversation.id=… tool.description='Asks the pilot.' tool.name='task_pilot' tool.type='function'
    invoke_agent pilot agent.name='pilot' conversation.id=… response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


@pytest.mark.parametrize("streaming", [False, True])
async def test_ask(provider: FakeProvider, captured: Captured, streaming: bool) -> None:
    reply = await crew(provider, streaming=streaming).ask(QUESTION)
    assert reply.body == ANSWER
    assert voyage(captured) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_run(provider: FakeProvider, captured: Captured) -> None:
    async with crew(provider).run(QUESTION) as run:
        reply = await run.result()
    assert reply.body == ANSWER
    assert voyage(captured) == VOYAGE


async def test_a_conversation_goes_on(provider: FakeProvider, captured: Captured) -> None:
    stream = MemoryStream()
    reply = await Agent("pilot", PILOT, config=config(provider)).ask(QUESTION, stream=stream)
    await reply.ask("And now?")
    found = [(span.attributes or {}).get("gen_ai.conversation.id") for span in captured.spans if "invoke" in span.name]
    assert found == [str(stream.id)] * 2


# --- models that no observed client calls -----------------------------------------------------------------------------


async def test_own_model(captured: Captured) -> None:
    answer = ModelResponse(
        usage=Usage(7, 3, cache_read_input_tokens=2),
        model="parrot-1",
        provider="cage",
        finish_reason="stop",
    )
    stream = MemoryStream()
    await Agent("parrot", config=TestConfig(answer)).ask(QUESTION, stream=stream)
    (chat,) = [span for span in captured.spans if span.name.startswith("chat")]
    assert (chat.attributes or {})["gen_ai.conversation.id"] == str(stream.id)
    assert {
        name: value
        for name, value in (chat.attributes or {}).items()
        if name.startswith("gen_ai") and "conversation" not in name
    } == snapshot(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "cage",
            "gen_ai.request.model": "parrot-1",
            "gen_ai.agent.name": "parrot",
            "gen_ai.response.model": "parrot-1",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.cache_read.input_tokens": 2,
        }
    )


class Mute(TestConfig):
    """A model of the program's own that fails."""

    def create(self) -> Any:
        return self

    def copy(self, **overrides: Any) -> Mute:
        return self

    async def __call__(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise ZeroDivisionError("mute")


async def test_failed_run_is_an_error(captured: Captured) -> None:
    with pytest.raises(ZeroDivisionError):
        await Agent("parrot", config=Mute()).ask(QUESTION)
    assert voyage(captured) == snapshot("""\
invoke_agent parrot ERROR error.type='ZeroDivisionError' agent.name='parrot' conversation.id=… seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
  chat ERROR\
""")


# --- AG2's own spans --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["captain", None])
async def test_native_spans_are_not_doubled(provider: FakeProvider, captured: Captured, name: str | None) -> None:
    native = telemetry.TelemetryMiddleware(tracer_provider=captured.tracer_provider, agent_name=name)
    await crew(provider, middleware=[native]).ask(QUESTION)
    spans = [re.sub(r"^(chat).*", r"\1", span.name) for span in captured.spans if "usage" not in span.name]
    assert sorted(spans) == snapshot(
        [
            "chat",
            "chat",
            "chat",
            "chat",
            "chat",
            "execute_tool chart",
            "execute_tool radio",
            "execute_tool task_pilot",
            "execute_tool tide",
            "invoke_agent captain",
            "invoke_agent pilot",
        ]
    )
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_native_spans_stay_where_nothing_is_observed(provider: FakeProvider, captured: Captured) -> None:
    native = telemetry.TelemetryMiddleware(tracer_provider=captured.tracer_provider, agent_name="pilot")
    with seatrace.suppress():
        await Agent("pilot", PILOT, config=config(provider), middleware=[native]).ask(QUESTION)
    assert [span.name for span in captured.spans if "usage" not in span.name] == snapshot(
        ["chat gpt-4o-mini-2024-07-18", "invoke_agent pilot"]
    )


# --- a guest ----------------------------------------------------------------------------------------------------------


async def story(agent: Agent) -> list[tuple[type, str]]:
    stream = MemoryStream()
    seen: list[Any] = []

    def see(event: BaseEvent) -> None:
        seen.append(event)

    stream.subscribe(see)
    await agent.ask(QUESTION, stream=stream)
    return [(type(each), str(getattr(each, "content", ""))) for each in seen if "Tool" not in type(each).__name__]


async def test_nothing_changes(provider: FakeProvider) -> None:
    plain = await story(crew(provider, streaming=True))
    with capture():
        assert await story(crew(provider, streaming=True)) == plain
        with pytest.raises(TypeError):
            await crew(provider).ask(nonsense=1)


def test_uninstrument_restores() -> None:
    owners = (Agent, FunctionTool, telemetry._TelemetryMiddlewareInstance)

    def standing() -> list[dict[str, Any]]:
        return [dict(vars(owner)) for owner in owners]

    before = standing()
    with capture():
        assert standing() != before
    after = standing()
    for a, b in zip(before, after, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name] is b[name] for name in a)


async def test_cancelled_run_ends_its_spans(provider: FakeProvider, captured: Captured) -> None:
    begun = asyncio.Event()

    async def wait() -> str:
        """Waits for the tide."""
        begun.set()
        await asyncio.sleep(60)
        return ""

    task = asyncio.create_task(
        Agent("captain", CAPTAIN, config=TestConfig(ToolCallEvent("wait")), tools=[wait]).ask(QUESTION)
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert voyage(captured) == snapshot("""\
invoke_agent captain ERROR error.type='CancelledError' agent.name='captain' conversation.id=… seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=1
  chat
  execute_tool wait ERROR error.type='CancelledError' agent.name='captain' conversation.id=… tool.description='Waits for the tide.' tool.name='wait' tool.type='function'\
""")


async def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as got:
        await crew(provider).ask(QUESTION)
    spans = {span.name: dict(span.attributes or {}) for span in got.spans}
    assert spans["execute_tool radio"]["gen_ai.tool.call.arguments"] == snapshot('{"channel": 42}')
    assert spans["execute_tool tide"]["gen_ai.tool.call.result"] == snapshot(
        "high at noon in Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."
    )
    assert spans["execute_tool tide"]["gen_ai.tool.call.id"].startswith("call_")
    assert QUESTION in spans["invoke_agent captain"]["gen_ai.input.messages"]
    assert ANSWER in spans["invoke_agent captain"]["gen_ai.output.messages"]


async def test_no_content_without_asking(provider: FakeProvider, captured: Captured) -> None:
    await crew(provider).ask(QUESTION)
    told = repr([dict(span.attributes or {}) for span in captured.spans])
    assert not any(words in told for words in (QUESTION, ANSWER, PILOTED, "high at noon", "no signal"))


async def test_runs_in_tasks_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    await asyncio.gather(*(crew(provider).ask(QUESTION) for _ in range(2)))
    runs = re.split(r"\n(?=\S)", voyage(captured))
    assert len(runs) == 2
    for run in runs:
        assert run == VOYAGE
