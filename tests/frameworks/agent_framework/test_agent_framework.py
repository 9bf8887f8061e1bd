"""Microsoft's agent-framework: the crew's voyage as an agent and as a workflow, with its own tracing and without."""

# ruff: noqa: E501

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import openai
import pytest
from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    FunctionTool,
    Message,
    ResponseStream,
    Workflow,
    WorkflowBuilder,
    observability,
)
from agent_framework.observability import AgentTelemetryLayer, ChatTelemetryLayer
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient
from inline_snapshot import snapshot
from opentelemetry import trace

import seatrace
from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, chart, radio, tide, totals, tree
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:agent_framework"),
    pytest.mark.filterwarnings("ignore::FutureWarning:agent_framework"),
]


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """Its own tracing is on in some versions unless the program says otherwise."""
    settings = observability.OBSERVABILITY_SETTINGS
    before = settings.enable_instrumentation
    settings.enable_instrumentation = False
    yield
    settings.enable_instrumentation = before


@pytest.fixture
def native(untraced: None, captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    observability.OBSERVABILITY_SETTINGS.enable_instrumentation = True
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", captured.tracer_provider)


_clients: list[Any] = []


def go(coroutine: Any) -> Any:
    """Runs it, and closes the clients that were made for it."""

    async def main() -> Any:
        try:
            return await coroutine
        finally:
            while _clients:
                await _clients.pop().close()

    return asyncio.run(main())


def make_client(provider: FakeProvider, kind: str = "chat") -> Any:
    client = openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="sk-test")
    _clients.append(client)
    return (OpenAIChatClient if kind == "responses" else OpenAIChatCompletionClient)(model=MODEL, async_client=client)


def slowly(function: Any) -> Any:
    """Older versions run functions one after the other, and coroutines at once."""

    @functools.wraps(function)
    async def call(**given: Any) -> Any:
        await asyncio.sleep(0.02)
        return function(**given)

    return call


def make_captain(provider: FakeProvider, kind: str = "chat") -> Any:
    client = make_client(provider, kind)
    pilot = Agent(client=client, name="pilot", description="Knows the harbour.", instructions=PILOT)
    tools = [slowly(tide), slowly(chart), radio, pilot.as_tool()]
    options: Any = {"store": False} if kind == "responses" else None
    return Agent(client=client, name="captain", instructions=CAPTAIN, tools=tools, default_options=options)


def seen(captured: Captured) -> str:
    return re.sub(r" conversation\.id='[^']*'", "", tree(captured.spans))


async def run(agent: Any) -> str:
    return str((await agent.run(QUESTION)).text)


async def stream(agent: Any) -> str:
    return "".join([update.text async for update in agent.run(QUESTION, stream=True)])


async def stream_to_its_end(agent: Any) -> str:
    return str((await agent.run(QUESTION, stream=True).get_final_response()).text)


VOYAGE = snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool pilot agent.name='captain' tool.description='Knows the harbour.' tool.name='pilot' tool.type='function'
    invoke_agent pilot agent.description='Knows the harbour.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")

SAILED = snapshot("""\
invoke_workflow voyage agent.name='voyage' seatrace.run.model_calls=5 seatrace.run.steps=0 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
    chat gpt-4o-mini
    execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
    execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
    chat gpt-4o-mini
    execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
    chat gpt-4o-mini
    execute_tool pilot agent.name='captain' tool.description='Knows the harbour.' tool.name='pilot' tool.type='function'
      invoke_agent pilot agent.description='Knows the harbour.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
        chat gpt-4o-mini
    chat gpt-4o-mini\
""")


@pytest.mark.parametrize("way", [run, stream, stream_to_its_end])
def test_every_way_to_run_an_agent_is_the_same_voyage(way: Any, provider: FakeProvider, captured: Captured) -> None:
    assert go(way(make_captain(provider))) == ANSWER
    assert seen(captured) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert true["model_calls"] == 5


@pytest.mark.parametrize("way", [run, stream])
def test_responses_count_once(way: Any, provider: FakeProvider, captured: Captured) -> None:
    assert ANSWER in go(way(make_captain(provider, "responses")))  # its stream repeats what a provider sums up
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert true["model_calls"] == 5


def make_voyage(provider: FakeProvider, name: str | None = "voyage") -> Any:
    return WorkflowBuilder(name=name, start_executor=make_captain(provider)).build()


async def sail(workflow: Any) -> str:
    return str((await workflow.run(QUESTION)).get_outputs()[-1].text)


async def sail_streaming(workflow: Any) -> str:
    events = [event async for event in workflow.run(QUESTION, stream=True)]
    return "".join(event.data.text for event in events if event.type == "output")


@pytest.mark.parametrize("way", [sail, sail_streaming])
def test_a_workflow_stands_around_its_agents(way: Any, provider: FakeProvider, captured: Captured) -> None:
    assert go(way(make_voyage(provider))) == ANSWER
    assert seen(captured) == SAILED
    said, true = totals(captured.spans, provider.served)
    assert said == true


def test_a_made_up_name_is_none(provider: FakeProvider, captured: Captured) -> None:
    go(sail(make_voyage(provider, name=None)))
    assert captured.spans[-1].name == "invoke_workflow"


def test_a_workflow_as_an_agent(provider: FakeProvider, captured: Captured) -> None:
    assert go(run(make_voyage(provider).as_agent("fleet"))) == ANSWER
    assert captured.spans[-1].name == "invoke_workflow voyage"


def test_a_session_is_the_conversation(provider: FakeProvider, captured: Captured) -> None:
    agent = make_captain(provider)

    async def main() -> None:
        await agent.run(QUESTION, session=agent.create_session(session_id="harbour"))
        with seatrace.session(conversation="bridge"):
            await agent.run(QUESTION, session=agent.create_session(session_id="harbour"))

    go(main())
    found = [call.conversation_id for call in captured.calls if call.kind == "agent" and call.name == "captain"]
    assert found == ["harbour", "bridge"]


# --- models of other clients ----------------------------------------------------------------------------------------


class Parrot(BaseChatClient[Any]):
    """A chat client of the program's own."""

    OTEL_PROVIDER_NAME = "aviary"
    model = "parrot-1"
    fails = False

    def _inner_get_response(self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **_: Any):
        asked = len(messages) < 3
        call = Content.from_function_call(call_id="1", name="tide", arguments='{"port": "Brest"}')
        contents = [call] if asked else [Content.from_text(ANSWER)]
        usage: Any = {"input_token_count": 7, "output_token_count": 3}

        async def whole() -> ChatResponse[Any]:
            if self.fails:
                raise ConnectionError("no signal")
            return ChatResponse(messages=[Message("assistant", contents)], usage_details=usage, finish_reason="stop")

        async def pieces() -> AsyncIterator[ChatResponseUpdate]:
            yield ChatResponseUpdate(contents=contents, role="assistant")
            yield ChatResponseUpdate(contents=[Content.from_usage(usage)], finish_reason="stop")

        return ResponseStream(pieces(), finalizer=ChatResponse.from_updates) if stream else whole()


class Trained(FunctionInvocationLayer[Any], ChatTelemetryLayer[Any], Parrot):
    """The same with the framework's layers."""


@pytest.mark.parametrize("way", [run, stream])
@pytest.mark.parametrize("traced", [False, True])
def test_a_model_without_an_observed_client_counts(
    way: Any, traced: bool, captured: Captured, request: pytest.FixtureRequest
) -> None:
    if traced:
        request.getfixturevalue("native")
    assert go(way(Agent(client=Trained(), name="captain", tools=[tide]))) == ANSWER
    spans = captured.spans
    assert sorted(span.name for span in spans) == [
        "chat parrot-1",
        "chat parrot-1",
        "execute_tool tide",
        "invoke_agent captain",
    ]
    root = next(span for span in spans if span.parent is None)
    assert root.attributes is not None
    assert root.attributes["seatrace.run.model_calls"] == 2
    assert root.attributes["gen_ai.usage.input_tokens"] == 14
    assert root.attributes["gen_ai.usage.output_tokens"] == 6
    chats = [call for call in captured.calls if call.kind == "inference"]
    assert [(call.provider, call.finish_reasons, call.stream) for call in chats] == [
        ("aviary", ["stop"], way is stream)
    ] * 2


def test_a_failing_model_is_an_error(captured: Captured) -> None:
    client = Trained()
    client.fails = True
    with pytest.raises(ConnectionError, match="no signal"):
        go(run(Agent(client=client, name="captain")))
    assert [(span.name, (span.attributes or {})["error.type"]) for span in captured.spans] == [
        ("chat parrot-1", "ConnectionError"),
        ("invoke_agent captain", "ConnectionError"),
    ]


# --- content --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [run, stream])
def test_content_only_where_it_is_captured(way: Any, provider: FakeProvider) -> None:
    with capture(capture_content=True) as captured:
        go(way(make_captain(provider)))
    found = {span.name: span.attributes or {} for span in captured.spans}
    assert re.fullmatch(r'\{"port": ?"[^"]+"\}', str(found["execute_tool tide"]["gen_ai.tool.call.arguments"]))
    assert "high at noon" in str(found["execute_tool tide"]["gen_ai.tool.call.result"])
    assert QUESTION in str(found["invoke_agent captain"]["gen_ai.input.messages"])
    assert ANSWER in str(found["invoke_agent captain"]["gen_ai.output.messages"])

    with capture() as captured:
        go(way(make_captain(provider)))
    told = " ".join(str(span.attributes) for span in captured.spans)
    assert not [words for words in ("high at noon", QUESTION, ANSWER, PILOTED) if words in told]


def test_content_of_a_workflow(provider: FakeProvider) -> None:
    with capture(capture_content=True) as captured:
        go(sail(make_voyage(provider)))
    assert ANSWER in str((captured.spans[-1].attributes or {})["gen_ai.output.messages"])


# --- the framework's own tracing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [run, stream])
def test_native_spans_of_agents_are_enriched_and_not_doubled(
    way: Any, provider: FakeProvider, captured: Captured, native: None
) -> None:
    assert go(way(make_captain(provider))) == ANSWER
    spans = captured.spans
    count(spans, {"chat": 5, "execute_tool": 4, "invoke_agent": 2})
    tool = next(span for span in spans if span.name == "execute_tool tide")
    assert tool.attributes is not None
    assert "agent_framework.function.invocation.duration" in tool.attributes
    failed = next(span for span in spans if span.name == "execute_tool radio")
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ConnectionError"
    root = next(span for span in spans if span.parent is None)
    assert root.attributes is not None
    assert "gen_ai.agent.id" in root.attributes
    assert root.attributes["seatrace.run.model_calls"] == 5
    assert captured.total("gen_ai.invoke_agent.inference_calls") == 5


@pytest.mark.parametrize("way", [sail, sail_streaming])
def test_native_span_of_a_workflow_is_ours(way: Any, provider: FakeProvider, captured: Captured, native: None) -> None:
    assert go(way(make_voyage(provider))) == ANSWER
    spans = captured.spans
    count(spans, {"chat": 5, "execute_tool": 4, "invoke_agent": 2, "invoke_workflow": 1})
    assert "workflow.run" not in {span.name for span in spans}
    root = next(span for span in spans if span.name == "invoke_workflow voyage")
    assert root.attributes is not None
    assert root.attributes["workflow.name"] == "voyage"
    assert [event.name for event in root.events] == ["workflow.started", "workflow.completed"]


def count(spans: Sequence[Any], expected: dict[str, int]) -> None:
    kinds = [str((span.attributes or {}).get("gen_ai.operation.name")) for span in spans]
    assert {each: kinds.count(each) for each in expected} == expected


# --- what stays as it was -------------------------------------------------------------------------------------------


def test_outputs_and_events_are_the_same_with_and_without(provider: FakeProvider) -> None:
    async def plain() -> Any:
        response = await make_captain(provider).run(QUESTION)
        return type(response), [(each.role, [part.type for part in each.contents]) for each in response.messages]

    async def pieces() -> Any:
        made = make_captain(provider).run(QUESTION, stream=True)
        found = [each async for each in made]  # the provider cuts differently each time
        return type(made), {type(each) for each in found}, "".join(each.text for each in found)

    async def events() -> Any:
        found = [event.type async for event in make_voyage(provider).run(QUESTION, stream=True)]
        return [one for one, before in zip(found, [None, *found], strict=False) if one != before]

    async def unstarted() -> Any:
        made = make_captain(provider).run(QUESTION)
        kind = type(made)
        made.close()
        return kind

    def all_of_it() -> Any:
        signatures = [inspect.signature(each) for each in (FunctionTool.invoke, BaseChatClient.get_response)]
        return [go(each()) for each in (plain, pieces, events, unstarted)], signatures

    seatrace.uninstrument()
    before = all_of_it()
    with capture() as captured:
        assert all_of_it() == before
    assert all(call.ended for call in captured.calls)


@pytest.mark.filterwarnings("ignore:coroutine 'RawAgent.run:RuntimeWarning")
def test_an_abandoned_stream_leaves_nothing_open(provider: FakeProvider, captured: Captured) -> None:
    async def left(made: Any) -> None:
        async for update in made:
            if update is not None:
                break

    async def main() -> None:
        await left(make_captain(provider).run(QUESTION, stream=True))
        await left(make_voyage(provider).run(QUESTION, stream=True))
        make_captain(provider).run(QUESTION, stream=True)  # nobody reads it: no run
        gc.collect()
        await asyncio.sleep(0)

    go(main())
    roots = [span.name for span in captured.spans if span.parent is None]
    assert sorted(roots) == ["invoke_agent captain", "invoke_workflow voyage"]
    assert all(call.ended for call in captured.calls)
    assert seatrace.core.context.current_scope().agent is None
    assert not trace.get_current_span().get_span_context().is_valid


def test_two_runs_at_once_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    async def main() -> None:
        agent = make_captain(provider)
        await asyncio.gather(run(agent), stream(agent))

    go(main())
    roots = [span for span in captured.spans if span.parent is None]
    assert [(span.attributes or {})["seatrace.run.model_calls"] for span in roots] == [5, 5]
    assert len({span.context.trace_id for span in captured.spans if span.context}) == 2


def test_uninstrument_restores_the_same_objects(provider: FakeProvider) -> None:
    from agent_framework import _tools as tools

    owners = [AgentTelemetryLayer, ChatTelemetryLayer, BaseChatClient, FunctionTool, Workflow, tools]
    before = [dict(vars(owner)) for owner in owners]
    with capture():
        go(run(make_captain(provider)))
        assert [now == then for now, then in zip(map(vars, owners), before, strict=True)] == [False] * len(owners)
    assert [dict(vars(owner)) for owner in owners] == before
