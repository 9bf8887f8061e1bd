# ruff: noqa: E501 (the trees)
"""Semantic Kernel: agents with a sub-agent as a plugin, streams, threads, group chats, its own diagnostics, connectors
of the program."""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import pytest
from inline_snapshot import snapshot
from opentelemetry import trace

import seatrace
from frameworks import crew
from seatrace.demo.fake_model import Ask, Reply
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

from .models import ITS_OWN_WARNINGS, OpenAIChatCompletion, model

with warnings.catch_warnings():  # Semantic Kernel's, about its own models
    warnings.simplefilter("ignore")
    from semantic_kernel import Kernel
    from semantic_kernel.agents import AgentGroupChat, ChatCompletionAgent, ChatHistoryAgentThread
    from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
    from semantic_kernel.connectors.ai.completion_usage import CompletionUsage
    from semantic_kernel.contents import ChatMessageContent, StreamingChatMessageContent
    from semantic_kernel.functions import KernelFunction, kernel_function
    from semantic_kernel.utils.telemetry.agent_diagnostics import decorators as agent_spans
    from semantic_kernel.utils.telemetry.model_diagnostics import decorators as model_spans

pytestmark = ITS_OWN_WARNINGS


class Harbour:
    """Tools that meet, so that the tree is always the same."""

    def __init__(self) -> None:
        self._met = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None

    async def _meet(self) -> None:
        if self._met is not None:
            await asyncio.wait_for(self._met.wait(), 10)

    @kernel_function(description="Says when high water is.")
    async def tide(self, port: Annotated[str, "The port."]) -> str:
        await self._meet()
        return crew.tide(port)

    @kernel_function(description="Finds the chart of a port.")
    async def chart(self, port: Annotated[str, "The port."]) -> str:
        await self._meet()
        return crew.chart(port)

    @kernel_function(description="Calls the harbour master.")
    def radio(self, channel: Annotated[int, "The channel."]) -> str:
        return crew.radio(channel)


def captain(ask: Ask) -> Reply:
    """The captain of ``crew``, with the names that Semantic Kernel gives to functions: ``plugin-function``."""
    names = {each.name.rpartition("-")[2]: each.name for each in ask.tools}
    reply = crew.captain(replace(ask, tools=[replace(each, name=each.name.rpartition("-")[2]) for each in ask.tools]))
    return replace(reply, tool_calls=[replace(each, name=names[each.name]) for each in reply.tool_calls])


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    with FakeProvider(model=captain) as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        yield provider


def ship() -> ChatCompletionAgent:
    service = model()
    pilot = ChatCompletionAgent(service=service, name="pilot", description="Knows the port.", instructions=crew.PILOT)
    return ChatCompletionAgent(service=service, name="captain", instructions=crew.CAPTAIN, plugins=[Harbour(), pilot])


TREE = """\
invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool Harbour-chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='Harbour-chart' tool.type='function'
  execute_tool Harbour-tide agent.name='captain' tool.description='Says when high water is.' tool.name='Harbour-tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool Harbour-radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='Harbour-radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool pilot-pilot agent.name='captain' tool.description='Knows the port.' tool.name='pilot-pilot' tool.type='function'
    invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini"""


@pytest.mark.asyncio
async def test_response(provider: FakeProvider, captured: Captured) -> None:
    assert str((await ship().get_response(crew.QUESTION)).message) == crew.ANSWER
    assert crew.tree(captured.spans) == TREE
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


@pytest.mark.asyncio
async def test_invoke(provider: FakeProvider, captured: Captured) -> None:
    assert [str(each.message) async for each in ship().invoke(crew.QUESTION)] == [crew.ANSWER]
    assert crew.tree(captured.spans) == TREE
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


@pytest.mark.asyncio
async def test_stream(provider: FakeProvider, captured: Captured) -> None:
    async def said() -> tuple[set[type], str]:
        items = [each async for each in ship().invoke_stream(crew.QUESTION)]
        return {type(each) for each in items}, "".join(str(each.message) for each in items)

    observed = await said()
    spans = captured.spans
    with seatrace.suppress():
        assert await said() == observed
    assert observed[1] == crew.ANSWER
    assert captured.spans == spans
    assert crew.tree(spans) == TREE
    told, true = crew.totals(spans, provider.served[: len(provider.served) // 2])
    assert told == true


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["get_response", "invoke", "invoke_stream"])
async def test_diagnostics_of_semantic_kernel_tell_nothing_twice(
    way: str, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_spans.MODEL_DIAGNOSTICS_SETTINGS, "enable_otel_diagnostics", True)
    monkeypatch.setattr(agent_spans.MODEL_DIAGNOSTICS_SETTINGS, "enable_otel_diagnostics", True)
    with capture() as got:
        _trace_with(got, monkeypatch)
        result = getattr(ship(), way)(crew.QUESTION)
        if inspect.isawaitable(result):
            await result
        else:
            async for _ in result:
                pass
    names = sorted(span.name for span in got.spans)
    assert "AutoFunctionInvocationLoop" in names
    lines = crew.tree(span for span in got.spans if span.name != "AutoFunctionInvocationLoop")
    assert sorted(each.strip() for each in lines.splitlines()) == sorted(each.strip() for each in TREE.splitlines())
    said, true = crew.totals(got.spans, provider.served)
    assert said == true


@pytest.mark.asyncio
async def test_diagnostics_stay_where_nothing_is_observed(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_spans.MODEL_DIAGNOSTICS_SETTINGS, "enable_otel_diagnostics", True)
    monkeypatch.setattr(agent_spans.MODEL_DIAGNOSTICS_SETTINGS, "enable_otel_diagnostics", True)
    with capture() as got:
        _trace_with(got, monkeypatch)
        with seatrace.suppress():
            await ship().get_response(crew.QUESTION)
    names = [span.name for span in got.spans]
    assert (names.count("invoke_agent captain"), names.count("execute_tool Harbour-tide")) == (1, 1)
    assert sum(name.startswith("chat") for name in names) == 5


def _trace_with(got: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracers that Semantic Kernel made when it was imported."""
    clients = sys.modules[ChatCompletionClientBase.__module__]
    for each in (agent_spans, model_spans, sys.modules[KernelFunction.__module__], clients):
        monkeypatch.setattr(each, "tracer", got.tracer_provider.get_tracer(each.__name__))


@pytest.mark.asyncio
async def test_functions_that_the_program_calls_are_no_tools(captured: Captured) -> None:
    kernel = Kernel()
    radio = kernel.add_plugin(Harbour(), "harbour")["radio"]
    with pytest.raises(Exception, match="invoking function"):
        await kernel.invoke(radio, channel=7)
    assert captured.spans == []


@pytest.mark.asyncio
async def test_conversation(provider: FakeProvider, captured: Captured) -> None:
    agent, thread = ship(), ChatHistoryAgentThread(thread_id="trip-1")
    await agent.get_response(crew.QUESTION, thread=thread)
    assert {span.attributes.get("gen_ai.conversation.id") for span in captured.spans if "pilot" not in span.name} == {
        "trip-1"
    }


@pytest.mark.asyncio
async def test_tool_calls_have_the_models_ids(provider: FakeProvider, captured: Captured) -> None:
    asked: list[str] = []

    async def hear(message: ChatMessageContent) -> None:
        asked.extend(each.id for each in message.items if type(each).__name__ == "FunctionCallContent")

    async for _ in ship().invoke(crew.QUESTION, on_intermediate_message=hear):
        pass
    told = [span.attributes["gen_ai.tool.call.id"] for span in captured.spans if span.name.startswith("execute_tool")]
    assert len(told) == 4
    assert sorted(told) == sorted(asked)


@pytest.mark.asyncio
async def test_abandoned_stream_leaves_no_open_span(provider: FakeProvider, captured: Captured) -> None:
    answers: AsyncIterator[Any] = ship().invoke_stream(crew.QUESTION)
    async for _ in answers:
        break
    await answers.aclose()  # type: ignore[attr-defined]
    assert trace.get_current_span() is trace.INVALID_SPAN
    spans = captured.spans
    ids = {span.context.span_id for span in spans}
    assert "invoke_agent captain" in {span.name for span in spans}
    assert all(span.parent is None or span.parent.span_id in ids for span in spans)


@pytest.mark.asyncio
async def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as got:
        await ship().get_response(crew.QUESTION)
    tide = next(dict(span.attributes) for span in got.spans if span.name == "execute_tool Harbour-tide")
    assert '"port"' in tide["gen_ai.tool.call.arguments"]
    assert "high at noon in" in tide["gen_ai.tool.call.result"]
    agent = dict(got.spans[-1].attributes)
    assert (agent["gen_ai.input.messages"], agent["gen_ai.output.messages"]) == snapshot(
        (
            '[{"role": "user", "parts": [{"type": "text", "content": "Bring us into port."}]}]',
            '[{"role": "assistant", "parts": [{"type": "text", "content": "We are moored."}]}]',
        )
    )


@pytest.mark.asyncio
async def test_no_content_by_default(provider: FakeProvider, captured: Captured) -> None:
    await ship().get_response(crew.QUESTION)
    told = repr([(span.name, dict(span.attributes)) for span in captured.spans])
    for words in (crew.QUESTION, crew.ANSWER, crew.CAPTAIN, "high at noon", "'port'"):
        assert words not in told


@pytest.mark.asyncio
async def test_group_chat(provider: FakeProvider, captured: Captured) -> None:
    service = model()
    agents = [ChatCompletionAgent(service=service, name=name, instructions=crew.PILOT) for name in ("mate", "pilot")]
    chat = AgentGroupChat(agents=agents)
    chat.termination_strategy.maximum_iterations = 2
    await chat.add_chat_message(crew.QUESTION)
    assert [each.name async for each in chat.invoke()] == ["mate", "pilot"]
    (thread,) = {each for span in captured.spans if (each := span.attributes.get("gen_ai.conversation.id"))}
    assert crew.tree(captured.spans).replace(thread, "t") == snapshot("""\
invoke_workflow AgentGroupChat agent.name='AgentGroupChat' seatrace.run.model_calls=2 seatrace.run.steps=0 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=2
  invoke_agent mate agent.name='mate' conversation.id='t' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
  invoke_agent pilot agent.name='pilot' conversation.id='t' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")


@pytest.mark.asyncio
async def test_tasks_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    await asyncio.gather(*(ship().get_response(crew.QUESTION) for _ in range(2)))
    traces = {span.context.trace_id for span in captured.spans}
    assert len(traces) == 2
    for each in traces:
        lines = crew.tree(span for span in captured.spans if span.context.trace_id == each).splitlines()
        assert sorted(lines) == sorted(TREE.splitlines())


# --- a connector without a client of ours ---------------------------------------------------------------------------


class Parrot(ChatCompletionClientBase):
    MODEL_PROVIDER_NAME: ClassVar[str] = "parrots"

    @model_spans.trace_chat_completion("parrots")
    async def _inner_get_chat_message_contents(self, chat_history: Any, settings: Any) -> list[ChatMessageContent]:
        usage = CompletionUsage(prompt_tokens=5, completion_tokens=2)
        message = {
            "role": "assistant",
            "content": "aye",
            "finish_reason": "stop",
            "metadata": {"id": "p1", "usage": usage},
        }
        return [ChatMessageContent(**message)]

    @model_spans.trace_streaming_chat_completion("parrots")
    async def _inner_get_streaming_chat_message_contents(
        self, chat_history: Any, settings: Any, function_invoke_attempt: int = 0
    ) -> AsyncIterator[list[StreamingChatMessageContent]]:
        for words, usage in (("a", None), ("ye", CompletionUsage(prompt_tokens=5, completion_tokens=2))):
            yield [
                StreamingChatMessageContent(
                    role="assistant", choice_index=0, content=words, metadata={"id": "p1", "usage": usage}
                )
            ]


@pytest.mark.asyncio
@pytest.mark.parametrize("diagnostics", [False, True])
async def test_a_model_of_the_program_counts_once(diagnostics: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_spans.MODEL_DIAGNOSTICS_SETTINGS, "enable_otel_diagnostics", diagnostics)
    parrot = ChatCompletionAgent(service=Parrot(ai_model_id="parrot"), name="polly")
    with capture() as got:
        _trace_with(got, monkeypatch)
        assert str((await parrot.get_response("Ahoy!")).message) == "aye"
        assert "".join([str(each.message) async for each in parrot.invoke_stream("Ahoy!")]) == "aye"
    assert crew.tree(got.spans) == snapshot("""\
invoke_agent polly agent.name='polly' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  chat parrot
invoke_agent polly agent.name='polly' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  chat parrot\
""")
    calls = [dict(span.attributes) for span in got.spans if span.name == "chat parrot"]
    assert calls[1].pop("gen_ai.response.time_to_first_chunk") > 0
    assert calls == snapshot(
        [
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "parrots",
                "gen_ai.request.model": "parrot",
                "gen_ai.agent.name": "polly",
                "gen_ai.response.id": "p1",
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.usage.input_tokens": 5,
                "gen_ai.usage.output_tokens": 2,
            },
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "parrots",
                "gen_ai.request.model": "parrot",
                "gen_ai.agent.name": "polly",
                "gen_ai.request.stream": True,
                "gen_ai.response.id": "p1",
                "gen_ai.usage.input_tokens": 5,
                "gen_ai.usage.output_tokens": 2,
            },
        ]
    )


def test_uninstrumenting_restores_the_methods(provider: FakeProvider) -> None:
    owners: list[Any] = [
        ChatCompletionAgent,
        KernelFunction,
        ChatCompletionClientBase,
        agent_spans,
        model_spans,
        *OpenAIChatCompletion.__mro__,
    ]
    before = [dict(vars(each)) for each in owners]
    agent = ship()
    with capture():
        asyncio.run(agent.get_response(crew.QUESTION))
        for each, was in list(zip(owners, before, strict=True))[:5]:
            assert any(vars(each).get(name) is not value for name, value in was.items())
        method = ChatCompletionAgent.get_response
        assert inspect.iscoroutinefunction(method)
        assert inspect.signature(method) == inspect.signature(inspect.unwrap(method))
    for each, was in zip(owners, before, strict=True):
        assert all(vars(each)[name] is value for name, value in was.items() if callable(value))
