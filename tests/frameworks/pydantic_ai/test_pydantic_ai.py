"""pydantic-ai: the crew's voyage in every way that an agent runs, and what seatrace leaves as it was."""

# ruff: noqa: E501

from __future__ import annotations

import asyncio
import gc
import inspect
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from inline_snapshot import snapshot
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

import seatrace
from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, chart, radio, tide, totals, tree
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pydantic_ai"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:opentelemetry"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # its cached clients outlive their loops
]

HAS_CONVERSATIONS = "conversation_id" in inspect.signature(Agent.run).parameters


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydantic_ai.BANNER_ENABLED", False, raising=False)


def make_captain(provider: FakeProvider, kind: str = "chat") -> Agent[None, str]:
    model = make_model(provider, kind)
    pilot: Agent[None, str] = Agent(model, name="pilot", system_prompt=PILOT)
    agent: Agent[None, str] = Agent(model, name="captain", system_prompt=CAPTAIN)
    agent.tool_plain(tide)
    agent.tool_plain(chart)

    @agent.tool_plain(name="radio")
    def call_harbour(channel: int) -> str:
        """Calls the harbour master."""
        try:
            return radio(channel)
        except ConnectionError as error:
            raise ModelRetry(str(error)) from error

    @agent.tool_plain(name="pilot")
    async def ask_pilot(question: str) -> str:
        """Asks the pilot."""
        return (await pilot.run(question)).output

    return agent


def make_model(provider: FakeProvider, kind: str) -> Any:
    """With a client of its own: the framework's is shared between event loops."""
    if kind == "anthropic":
        import anthropic

        client = anthropic.AsyncAnthropic(base_url=provider.url, api_key="sk-test")
        return AnthropicModel("claude-haiku-4-5", provider=AnthropicProvider(anthropic_client=client))
    import openai

    openai_client = openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="sk-test")
    model = OpenAIResponsesModel if kind == "responses" else OpenAIChatModel
    return model(MODEL, provider=OpenAIProvider(openai_client=openai_client))


def seen(captured: Captured) -> str:
    return re.sub(r" conversation\.id='[^']*'", "", tree(captured.spans))


VOYAGE = snapshot("""\
invoke_agent captain agent.name='captain' provider.name='openai' request.model='gpt-4o-mini' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ModelRetry' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool pilot agent.name='captain' tool.description='Asks the pilot.' tool.name='pilot' tool.type='function'
    invoke_agent pilot agent.name='pilot' provider.name='openai' request.model='gpt-4o-mini' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


def run_sync(agent: Agent[None, str]) -> str:
    return agent.run_sync(QUESTION).output


def run(agent: Agent[None, str]) -> str:
    async def main() -> str:
        return (await agent.run(QUESTION)).output

    return asyncio.run(main())


def run_stream(agent: Agent[None, str]) -> str:
    async def main() -> str:
        async with agent.run_stream(QUESTION) as result:
            return "".join([each async for each in result.stream_text(delta=True)])

    return asyncio.run(main())


def run_iter(agent: Agent[None, str]) -> str:
    async def main() -> str:
        async with agent.iter(QUESTION) as steps:
            async for _ in steps:
                pass
            assert steps.result is not None
            return steps.result.output

    return asyncio.run(main())


def run_events(agent: Agent[None, str]) -> str:
    async def main() -> str:
        events = agent.run_stream_events(QUESTION)
        if hasattr(events, "__aenter__"):
            async with events as stream:
                found = [each async for each in stream]
        else:
            found = [each async for each in events]
        return found[-1].result.output

    return asyncio.run(main())


def run_handled(agent: Agent[None, str]) -> str:
    async def handler(context: Any, events: AsyncIterator[Any]) -> None:
        async for _ in events:
            pass

    async def main() -> str:
        return (await agent.run(QUESTION, event_stream_handler=handler)).output

    return asyncio.run(main())


def run_stream_sync(agent: Agent[None, str]) -> str:
    result = agent.run_stream_sync(QUESTION)
    if hasattr(result, "__enter__"):
        with result as entered:
            return "".join(entered.stream_text(delta=True))
    return "".join(result.stream_text(delta=True))


WAYS = [run_sync, run, run_stream, run_iter, run_handled]
WAYS += [run_events] if hasattr(Agent, "run_stream_events") else []
WAYS += [run_stream_sync] if hasattr(Agent, "run_stream_sync") else []


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_run_an_agent_is_the_same_voyage(way: Any, provider: FakeProvider, captured: Captured) -> None:
    assert way(make_captain(provider)) == ANSWER
    assert seen(captured) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert true["model_calls"] == 5


@pytest.mark.parametrize("kind", ["responses", "anthropic"])
@pytest.mark.parametrize("way", [run, run_stream])
def test_other_clients_count_once(kind: str, way: Any, provider: FakeProvider, captured: Captured) -> None:
    agent = make_captain(provider, kind) if kind == "responses" else Agent(make_model(provider, kind), name="captain")
    assert way(agent) == ANSWER
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert true["model_calls"] == (5 if kind == "responses" else 1)


def test_a_conversation_is_the_frameworks_unless_the_program_says_another(
    provider: FakeProvider, captured: Captured
) -> None:
    options: dict[str, Any] = {"conversation_id": "harbour"} if HAS_CONVERSATIONS else {}
    make_captain(provider).run_sync(QUESTION, **options)
    with seatrace.session(conversation="bridge"):
        make_captain(provider).run_sync(QUESTION, **options)
    found = [call.conversation_id for call in captured.calls if call.kind == "agent" and call.name == "captain"]
    assert found == [options.get("conversation_id"), "bridge"]


# --- models of other clients ----------------------------------------------------------------------------------------


def answer(messages: list[Any], info: AgentInfo) -> ModelResponse:
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("tide", {"port": "Brest"}), ToolCallPart("chart", {"port": "Brest"})])
    return ModelResponse(parts=[TextPart(ANSWER)])


async def streamed(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
    if len(messages) == 1:
        yield {0: DeltaToolCall(name="tide", json_args='{"port": "Brest"}', tool_call_id="1")}
        yield {1: DeltaToolCall(name="chart", json_args='{"port": "Brest"}', tool_call_id="2")}
    else:
        yield "We are "
        yield "moored."


@pytest.mark.parametrize("way", [run, run_stream])
@pytest.mark.parametrize("make", [lambda: FunctionModel(answer, stream_function=streamed), TestModel])
def test_a_model_without_an_observed_client_counts(make: Any, way: Any, captured: Captured) -> None:
    agent: Agent[None, str] = Agent(make(), name="captain", tools=[tide, chart])
    way(agent)
    root = next(span for span in captured.spans if span.parent is None)
    models = [span for span in captured.spans if span.name.startswith("chat ")]
    assert len(models) == 2
    assert {span.parent.span_id for span in models if span.parent} == {root.context.span_id}
    assert root.attributes is not None
    assert root.attributes["seatrace.run.model_calls"] == 2
    for each in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
        assert root.attributes[each] == sum(span.attributes[each] for span in models if span.attributes)
        assert root.attributes[each] > 0


def test_a_failing_model_is_an_error(captured: Captured) -> None:
    def fail(messages: list[Any], info: AgentInfo) -> ModelResponse:
        raise ConnectionError("no signal")

    with pytest.raises(ConnectionError, match="no signal"):
        Agent(FunctionModel(fail), name="captain").run_sync(QUESTION)
    assert {span.name.split()[0]: span.attributes["error.type"] for span in captured.spans if span.attributes} == {
        "chat": "ConnectionError",
        "invoke_agent": "ConnectionError",
    }


def test_a_model_within_another_counts_once(captured: Captured) -> None:
    from pydantic_ai.models.fallback import FallbackModel

    def fail(messages: list[Any], info: AgentInfo) -> ModelResponse:
        raise ConnectionError("no signal")

    model = FallbackModel(FunctionModel(fail), TestModel(), fallback_on=(ConnectionError,))
    Agent(model, name="captain").run_sync(QUESTION)
    chats = [span for span in captured.spans if span.name.startswith("chat ")]
    assert [span.status.is_ok or span.status.is_unset for span in chats] == [False, True]


# --- tools ----------------------------------------------------------------------------------------------------------


def test_a_tools_exception_is_the_programs(provider: FakeProvider, captured: Captured) -> None:
    agent: Agent[None, str] = Agent(make_model(provider, "chat"), name="captain", system_prompt=CAPTAIN, tools=[radio])
    with pytest.raises(ConnectionError, match="no signal"):
        agent.run_sync(QUESTION)
    assert seen(captured) == snapshot("""\
invoke_agent captain ERROR error.type='ConnectionError' agent.name='captain' provider.name='openai' request.model='gpt-4o-mini' response.finish_reasons=('tool_call',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=1
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'\
""")


def test_a_tool_that_waits_for_somebody_has_not_failed(provider: FakeProvider, captured: Captured) -> None:
    from pydantic_ai import DeferredToolRequests
    from pydantic_ai.exceptions import CallDeferred

    agent: Any = Agent(TestModel(), name="captain", output_type=[str, DeferredToolRequests])

    @agent.tool_plain
    def wait() -> str:
        raise CallDeferred

    assert isinstance(agent.run_sync(QUESTION).output, DeferredToolRequests)
    assert [span.status.is_unset for span in captured.spans] == [True] * len(captured.spans)


def test_structured_output_is_no_tool(provider: FakeProvider, captured: Captured) -> None:
    from pydantic import BaseModel

    class Berth(BaseModel):
        number: int

    Agent(TestModel(), name="captain", output_type=Berth).run_sync(QUESTION)
    assert [span.name for span in captured.spans] == ["chat test", "invoke_agent captain"]


# --- content --------------------------------------------------------------------------------------------------------


def test_content_only_where_it_is_captured(provider: FakeProvider) -> None:
    with capture(capture_content=True) as captured:
        run(make_captain(provider))
    tool = next(span for span in captured.spans if span.name == "execute_tool tide")
    assert tool.attributes is not None
    assert re.fullmatch(r'\{"port": ?"[^"]+"\}', str(tool.attributes["gen_ai.tool.call.arguments"]))
    assert "high at noon" in str(tool.attributes["gen_ai.tool.call.result"])
    agent = next(span for span in captured.spans if span.name == "invoke_agent captain")
    assert agent.attributes is not None
    assert QUESTION in str(agent.attributes["gen_ai.input.messages"])
    assert ANSWER in str(agent.attributes["gen_ai.output.messages"])

    with capture() as captured:
        run(make_captain(provider))
    told = " ".join(str(span.attributes) for span in captured.spans)
    assert not [words for words in ("high at noon", QUESTION, ANSWER, PILOTED) if words in told]


def test_content_of_a_model_without_an_observed_client() -> None:
    with capture(capture_content=True) as captured:
        run(Agent(FunctionModel(answer), name="captain", system_prompt=CAPTAIN, tools=[tide, chart]))
    chat = [span for span in captured.spans if span.name.startswith("chat ")][-1]
    assert chat.attributes is not None
    told = str(chat.attributes["gen_ai.input.messages"])
    assert all(words in told for words in (CAPTAIN, QUESTION, "high at noon", '"tool_call"'))
    assert ANSWER in str(chat.attributes["gen_ai.output.messages"])


# --- the framework's own tracing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [run, run_stream])
@pytest.mark.parametrize("kind", ["chat", "function"])
def test_native_spans_are_enriched_and_not_doubled(
    kind: str, way: Any, provider: FakeProvider, captured: Captured
) -> None:
    if kind == "chat":
        agent = make_captain(provider)
    else:
        agent = Agent(FunctionModel(answer, stream_function=streamed), name="captain", tools=[tide, chart])
    native = InstrumentationSettings(tracer_provider=captured.tracer_provider, include_content=False)
    Agent.instrument_all(native)
    try:
        assert way(agent) == ANSWER
    finally:
        Agent.instrument_all(False)
    spans = captured.spans
    assert {span.instrumentation_scope.name for span in spans if span.instrumentation_scope} == {"pydantic-ai"}
    kinds = [str((span.attributes or {}).get("gen_ai.operation.name")) for span in spans]
    expected = (
        {"chat": 5, "execute_tool": 4, "invoke_agent": 2}
        if kind == "chat"
        else {
            "chat": 2,
            "execute_tool": 2,
            "invoke_agent": 1,
        }
    )
    assert {each: kinds.count(each) for each in expected} == expected
    root = next(span for span in spans if span.parent is None)
    assert root.attributes is not None
    assert root.attributes["seatrace.run.model_calls"] == expected["chat"]
    assert root.attributes["seatrace.run.tool_calls"] == expected["execute_tool"]
    assert captured.total("gen_ai.invoke_agent.inference_calls") == expected["chat"]
    assert captured.total("seatrace.agent.run.input_tokens") > 0


# --- what stays as it was -------------------------------------------------------------------------------------------


def test_outputs_and_messages_are_the_same_with_and_without(provider: FakeProvider) -> None:
    def plain() -> Any:
        result = make_captain(provider).run_sync(QUESTION)
        return result.output, [[type(part) for part in each.parts] for each in result.all_messages()], type(result)

    def text() -> Any:
        async def main() -> Any:
            async with make_captain(provider).run_stream(QUESTION) as result:
                return type(result), [each async for each in result.stream_text(delta=True)]

        return asyncio.run(main())

    def manager() -> Any:
        made = Agent(TestModel()).iter(QUESTION)
        return type(made), type(Agent(TestModel()).run_stream(QUESTION))

    seatrace.uninstrument()
    before = plain(), text(), manager(), inspect.signature(Agent.iter)
    with capture():
        assert (plain(), text(), manager(), inspect.signature(Agent.iter)) == before
        with pytest.raises(TypeError):
            Agent(TestModel()).iter(QUESTION, nonsense=1)  # type: ignore[call-overload]


def test_an_abandoned_stream_leaves_nothing_open(provider: FakeProvider, captured: Captured) -> None:
    async def left() -> None:
        async with make_captain(provider).run_stream(QUESTION) as result:
            async for _ in result.stream_text(delta=True):
                break

    async def dropped() -> None:
        manager = make_captain(provider).run_stream(QUESTION)
        result = await manager.__aenter__()
        async for _ in result.stream_text(delta=True):
            break
        del result, manager
        gc.collect()
        await asyncio.sleep(0)

    for way in (left, dropped):
        asyncio.run(way())
    roots = [span for span in captured.spans if span.parent is None]
    assert [span.name for span in roots] == ["invoke_agent captain"] * 2
    assert all(call.ended for call in captured.calls)
    assert seatrace.core.context.current_scope().agent is None


def test_two_runs_at_once_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    async def main() -> None:
        agent = make_captain(provider)
        await asyncio.gather(agent.run(QUESTION), agent.run(QUESTION))

    asyncio.run(main())
    trees = seen(captured)
    assert len([line for line in trees.splitlines() if line.startswith("invoke_agent captain")]) == 2
    roots = [span for span in captured.spans if span.parent is None]
    assert [span.attributes["seatrace.run.model_calls"] for span in roots if span.attributes] == [5, 5]
    assert len({span.context.trace_id for span in captured.spans if span.context}) == 2


def test_uninstrument_restores_the_same_objects(provider: FakeProvider) -> None:
    from pydantic_ai import agent as agents

    manager: Any
    try:
        from pydantic_ai.tool_manager import ToolManager as manager
    except ImportError:
        from pydantic_ai._tool_manager import ToolManager as manager

    owners = [Agent, manager, TestModel, getattr(agents, "_PreparedAgentRun", Agent)]
    before = [dict(vars(owner)) for owner in owners]
    with capture():
        Agent(TestModel(), tools=[tide]).run_sync(QUESTION)
        assert [dict(vars(owner)) for owner in owners] != before
    assert [dict(vars(owner)) for owner in owners] == before


def test_a_programs_own_name_for_its_agent_is_found(captured: Captured) -> None:
    helmsman = Agent(TestModel())
    helmsman.run_sync(QUESTION)
    assert captured.spans[-1].name == "invoke_agent helmsman"
