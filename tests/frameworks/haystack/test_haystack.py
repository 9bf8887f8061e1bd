# ruff: noqa: E501 (the trees)
"""Haystack: pipelines, agents with a sub-agent as a tool, streaming, retrievers, models without a client of ours."""

from __future__ import annotations

import asyncio
import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from threading import Barrier
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
from opentelemetry import trace

import seatrace
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


_meet = Barrier(2, timeout=10)


def tide(port: str) -> str:
    """Says when high water is."""
    _meet.wait()  # at the same time as the chart, so that the tree is always the same
    return crew.tide(port)


def chart(port: str) -> str:
    """Finds the chart of a port."""
    _meet.wait()
    return crew.chart(port)


def tools() -> list[Tool]:
    return [create_tool_from_function(each) for each in (tide, chart, crew.radio)]


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


TREE = """\
invoke_workflow voyage agent.name='voyage' seatrace.run.model_calls=5 seatrace.run.steps=0 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
    chat gpt-4o-mini
    execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
    execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
    chat gpt-4o-mini
    execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
    chat gpt-4o-mini
    execute_tool pilot agent.name='captain' tool.description='Knows the port.' tool.name='pilot' tool.type='function'
      invoke_agent response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
        chat gpt-4o-mini
    chat gpt-4o-mini\
"""
"""A run without and one within an event loop look the same."""


def test_pipeline(provider: FakeProvider, captured: Captured) -> None:
    result = voyage().run({"captain": {"messages": ASKED}})
    assert result["captain"]["last_message"].text == crew.ANSWER
    assert crew.tree(captured.spans) == TREE
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


@pytest.mark.asyncio
async def test_pipeline_async(provider: FakeProvider, captured: Captured) -> None:
    result = await voyage(AsyncPipeline).run_async({"captain": {"messages": ASKED}})
    assert result["captain"]["last_message"].text == crew.ANSWER
    assert crew.tree(captured.spans) == TREE
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


@pytest.mark.skipif(not NEW, reason="this haystack has no ids for tools")
def test_tool_calls_have_the_models_ids(provider: FakeProvider, captured: Captured) -> None:
    result = ship().run(messages=ASKED)
    asyncio.run(ship().run_async(messages=ASKED))
    asked = [call.id for message in result["messages"] for call in message.tool_calls]
    told = [span.attributes["gen_ai.tool.call.id"] for span in captured.spans if span.name.startswith("execute_tool")]
    assert len(asked) == 4
    assert sorted(told) == sorted(asked * 2) or len(set(told)) == 8


@pytest.mark.asyncio
async def test_streaming(provider: FakeProvider, captured: Captured) -> None:
    async def said(of: Agent) -> tuple[list[type], str, str]:
        chunks: list[StreamingChunk] = []

        async def hear(chunk: StreamingChunk) -> None:
            chunks.append(chunk)

        result = await of.run_async(messages=ASKED, streaming_callback=hear)
        kinds = [type(each) for each in chunks if each.content]
        return kinds, "".join(each.content for each in chunks), result["last_message"].text

    observed = await said(ship())
    spans = list(captured.spans)
    with seatrace.suppress():
        assert await said(ship()) == observed
    assert captured.spans == spans
    assert observed[1] == observed[2] == crew.ANSWER
    assert [span.name for span in spans].count("chat gpt-4o-mini") == 5
    streamed = [span for span in spans if span.attributes.get("gen_ai.request.stream")]
    assert len(streamed) == 4


@pytest.mark.skipif(not NEW, reason="this haystack has no streams of pipelines")
@pytest.mark.asyncio
async def test_abandoned_stream_leaves_no_open_span(provider: FakeProvider, captured: Captured) -> None:
    handle = voyage().stream({"captain": {"messages": ASKED}})
    async for _ in handle:
        break
    await handle.aclose()
    names = {span.name for span in captured.spans}
    assert {"invoke_workflow voyage", "invoke_agent captain"} <= names
    ids = {span.context.span_id for span in captured.spans}
    assert all(span.parent is None or span.parent.span_id in ids for span in captured.spans)


def test_output_and_exceptions_are_the_same(provider: FakeProvider) -> None:
    def run() -> Any:
        result = voyage().run({"captain": {"messages": ASKED}})["captain"]
        with pytest.raises(Exception) as failed:
            broken().run({"breaks": {"value": 1}})
        return [(m.role, m.text) for m in result["messages"]], type(failed.value), str(failed.value)

    with capture():
        observed = run()
    assert run() == observed


@component
class Breaks:
    @component.output_types(value=int)
    def run(self, value: int) -> dict[str, int]:
        raise LookupError("lost at sea")


def broken() -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("breaks", Breaks())
    return pipeline


def test_a_failed_pipeline_says_so(captured: Captured) -> None:
    with pytest.raises(Exception, match="lost at sea"):
        broken().run({"breaks": {"value": 1}})
    assert crew.tree(captured.spans) == snapshot(
        "invoke_workflow ERROR error.type='PipelineRuntimeError' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0"
    )


def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as got:
        ship().run(messages=ASKED)
    tides = next(dict(span.attributes) for span in got.spans if span.name == "execute_tool tide")
    assert tides["gen_ai.tool.call.arguments"] == snapshot(
        '{"port": "Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."}'
    )
    assert tides["gen_ai.tool.call.result"] == snapshot(
        "high at noon in Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."
    )
    agent = next(dict(span.attributes) for span in got.spans if span.name == "invoke_agent")
    assert agent["gen_ai.input.messages"] == snapshot(
        '[{"role": "user", "parts": [{"type": "text", "content": "Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."}]}]'
    )
    assert agent["gen_ai.output.messages"] == snapshot(
        '[{"role": "assistant", "parts": [{"type": "text", "content": "Steer north."}]}]'
    )


def test_no_content_by_default(provider: FakeProvider, captured: Captured) -> None:
    ship().run(messages=ASKED)
    told = repr([(span.name, dict(span.attributes), span.status.description) for span in captured.spans])
    assert "no signal" in told  # what an exception says, without the arguments that Haystack puts into its own
    for words in (crew.QUESTION, crew.ANSWER, "high at noon", "'channel'"):
        assert words not in told


# --- retrievers -----------------------------------------------------------------------------------------------------


def store() -> InMemoryDocumentStore:
    documents = InMemoryDocumentStore()
    documents.write_documents([Document(id="7", content="chart of Antwerp"), Document(id="8", content="tides")])
    return documents


def test_retriever(captured: Captured) -> None:
    retriever = InMemoryBM25Retriever(store(), top_k=1)
    assert [each.id for each in retriever.run(query="chart")["documents"]] == ["7"]
    asyncio.run(retriever.run_async(query="chart", top_k=2))
    assert crew.tree(captured.spans) == snapshot("""\
retrieval InMemoryBM25Retriever data_source.id='InMemoryBM25Retriever' retrieval.top_k=1
retrieval InMemoryBM25Retriever data_source.id='InMemoryBM25Retriever' retrieval.top_k=2\
""")


def test_what_a_retriever_found_is_content() -> None:
    with capture(capture_content=True) as got:
        InMemoryBM25Retriever(store(), top_k=1).run(query="chart")
    (span,) = got.spans
    assert span.attributes["gen_ai.retrieval.query.text"] == "chart"
    assert '"id": "7"' in span.attributes["gen_ai.retrieval.documents"].replace('":"', '": "')


@pytest.mark.skipif(not NEW, reason="this haystack has no retrievers in threads")
def test_retrievers_that_work_in_threads(captured: Captured) -> None:
    from haystack.components.retrievers import MultiQueryTextRetriever

    MultiQueryTextRetriever(retriever=InMemoryBM25Retriever(store(), top_k=1)).run(queries=["chart", "tides"])
    assert crew.tree(captured.spans) == snapshot("""\
retrieval MultiQueryTextRetriever data_source.id='MultiQueryTextRetriever'
  retrieval InMemoryBM25Retriever data_source.id='InMemoryBM25Retriever' retrieval.top_k=1
  retrieval InMemoryBM25Retriever data_source.id='InMemoryBM25Retriever' retrieval.top_k=1\
""")


# --- models without a client of ours --------------------------------------------------------------------------------


@component
class OwnChatGenerator:
    model = "parrot"

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage]) -> dict[str, list[ChatMessage]]:
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        return {
            "replies": [
                ChatMessage.from_assistant("aye", meta={"model": "parrot-2", "finish_reason": "stop", "usage": usage})
            ]
        }


def test_a_model_of_the_program_counts(captured: Captured) -> None:
    OwnChatGenerator().run(messages=ASKED)
    (span,) = captured.spans
    assert (span.name, dict(span.attributes)) == snapshot(
        (
            "chat parrot",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "parrot",
                "gen_ai.response.model": "parrot-2",
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.usage.input_tokens": 5,
                "gen_ai.usage.output_tokens": 2,
            },
        )
    )


def test_content_of_a_model_of_the_program() -> None:
    with capture(capture_content=True) as got:
        OwnChatGenerator().run(messages=ASKED)
    assert crew.QUESTION in got.spans[0].attributes["gen_ai.input.messages"]
    assert "aye" in got.spans[0].attributes["gen_ai.output.messages"]


# --- beside others --------------------------------------------------------------------------------------------------


def test_runs_at_once_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(voyage().run, {"captain": {"messages": ASKED}}) for _ in range(2)]:
            done.result()
    traces = {span.context.trace_id for span in captured.spans}
    assert len(traces) == 2
    for each in traces:
        lines = crew.tree(span for span in captured.spans if span.context.trace_id == each).splitlines()
        assert sorted(lines) == sorted(TREE.splitlines())


def test_uninstrumenting_restores_the_methods() -> None:
    owners = [Agent, Pipeline, AsyncPipeline, Tool, InMemoryBM25Retriever, OpenAIChatGenerator, type(component)]
    before = [dict(vars(each)) for each in owners]
    with capture():
        for each, was in zip(owners, before, strict=True):
            assert any(vars(each)[name] is not value for name, value in was.items())
        assert inspect.signature(Agent.run) == inspect.signature(inspect.unwrap(Agent.run))
    assert [dict(vars(each)) for each in owners] == before


@pytest.mark.skipif(NEW, reason="this haystack has no spans of its own")
def test_spans_of_haystacks_own_tracing_are_of_other_things(provider: FakeProvider) -> None:
    from haystack.tracing import disable_tracing, enable_tracing
    from haystack.tracing.opentelemetry import OpenTelemetryTracer

    with capture() as got:
        enable_tracing(OpenTelemetryTracer(trace.get_tracer("haystack")))
        try:
            voyage().run({"captain": {"messages": ASKED}})
        finally:
            disable_tracing()
    named = [
        span.attributes["gen_ai.operation.name"] for span in got.spans if "gen_ai.operation.name" in span.attributes
    ]
    assert sorted(named) == ["chat"] * 5 + ["execute_tool"] * 4 + ["invoke_agent"] * 2 + ["invoke_workflow"]
