"""LangChain's tools, retrievers and models, and its classic agent."""

# ruff: noqa: E501
from __future__ import annotations

import asyncio
import copy
import importlib
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from inline_snapshot import snapshot
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool, ToolException, tool
from langchain_core.vectorstores import VectorStore

import seatrace
from frameworks.crew import CAPTAIN, QUESTION, chart, tide, totals, tree
from frameworks.langgraph.agents import model
from frozen import collect_little as collect_little
from seatrace.demo.provider import FakeProvider
from seatrace.libraries import installed
from seatrace.testing import Captured, capture

pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainPendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"),
]


class Parrot(BaseChatModel):
    """A model that no client of ours calls, with usage."""

    model: str = "parrot-1"
    temperature: float = 0.5

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        if messages[-1].content == "storm":
            raise TimeoutError("no answer")
        said = AIMessage(
            "Ahoy there",
            tool_calls=[{"name": "tide", "args": {"port": "Brest"}, "id": "call-1"}],
            usage_metadata={
                "input_tokens": 10,
                "output_tokens": 4,
                "total_tokens": 14,
                "input_token_details": {"cache_read": 6},
                "output_token_details": {"reasoning": 1},
            },
            response_metadata={"model_name": "parrot-1-green", "finish_reason": "stop", "id": "answer-1"},
        )
        return ChatResult(generations=[ChatGeneration(message=said)])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for word in ("Ahoy", " there"):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        counted: Any = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}
        about = {"finish_reason": "stop", "model_name": "parrot-1-green"}
        yield ChatGenerationChunk(
            message=AIMessageChunk(content="", usage_metadata=counted, response_metadata=about), generation_info=about
        )


def told(captured: Captured) -> list[Any]:
    return [
        (span.name, span.status.status_code.name, {**(span.attributes or {}), "gen_ai.response.time_to_first_chunk": 0})
        for span in captured.spans
    ]


# --- models ---------------------------------------------------------------------------------------------------------


def test_model_without_an_observed_client() -> None:
    with capture(capture_content=True) as captured:
        Parrot().invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert told(captured) == snapshot(
        [
            (
                "chat parrot-1",
                "UNSET",
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "parrot",
                    "gen_ai.request.model": "parrot-1",
                    "gen_ai.request.temperature": 0.5,
                    "gen_ai.response.id": "answer-1",
                    "gen_ai.response.model": "parrot-1-green",
                    "gen_ai.response.finish_reasons": ("stop",),
                    "gen_ai.usage.input_tokens": 10,
                    "gen_ai.usage.output_tokens": 4,
                    "gen_ai.usage.cache_read.input_tokens": 6,
                    "gen_ai.usage.reasoning.output_tokens": 1,
                    "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "Bring us into port."}]}]',
                    "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "Ahoy there"}, {"type": "tool_call", "id": "call-1", "name": "tide", "arguments": {"port": "Brest"}}]}]',
                    "gen_ai.system_instructions": '[{"type": "text", "content": "Be brief."}]',
                    "gen_ai.response.time_to_first_chunk": 0,
                },
            )
        ]
    )


def test_stream_of_a_model_without_an_observed_client() -> None:
    with capture(capture_content=True) as captured:
        assert [each.content for each in Parrot().stream(QUESTION)][:2] == ["Ahoy", " there"]
    assert told(captured) == snapshot(
        [
            (
                "chat parrot-1",
                "UNSET",
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "parrot",
                    "gen_ai.request.model": "parrot-1",
                    "gen_ai.request.stream": True,
                    "gen_ai.request.temperature": 0.5,
                    "gen_ai.response.model": "parrot-1-green",
                    "gen_ai.response.finish_reasons": ("stop",),
                    "gen_ai.response.time_to_first_chunk": 0,
                    "gen_ai.usage.input_tokens": 10,
                    "gen_ai.usage.output_tokens": 4,
                    "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "Bring us into port."}]}]',
                    "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "Ahoy there"}]}]',
                },
            )
        ]
    )


async def test_model_counts_once_however_it_is_called(captured: Captured) -> None:
    parrot = Parrot()
    parrot.invoke(QUESTION)
    await parrot.ainvoke(QUESTION)
    list(parrot.stream(QUESTION))
    [each async for each in parrot.astream(QUESTION)]
    [each async for each in parrot.astream_events(QUESTION, version="v2")]
    parrot.batch([QUESTION, QUESTION])
    await parrot.abatch([QUESTION])
    parrot.generate([[HumanMessage(QUESTION)]])
    assert [span.name for span in captured.spans] == ["chat parrot-1"] * 9
    assert captured.total("gen_ai.client.inference.usage.input_tokens") == 90


if hasattr(BaseChatModel, "_iter_v2_events"):

    async def test_model_in_the_newest_protocol() -> None:
        with capture(capture_content=True) as captured:
            assert Parrot().stream_events(QUESTION, version="v3").output.text == "Ahoy there"
            await (await Parrot().astream_events(QUESTION, version="v3")).output
        first, second = told(captured)
        assert (
            first
            == second
            == snapshot(
                (
                    "chat parrot-1",
                    "UNSET",
                    {
                        "gen_ai.operation.name": "chat",
                        "gen_ai.provider.name": "parrot",
                        "gen_ai.request.model": "parrot-1",
                        "gen_ai.request.stream": True,
                        "gen_ai.request.temperature": 0.5,
                        "gen_ai.response.model": "parrot-1-green",
                        "gen_ai.response.finish_reasons": ("stop",),
                        "gen_ai.response.time_to_first_chunk": 0,
                        "gen_ai.usage.input_tokens": 10,
                        "gen_ai.usage.output_tokens": 4,
                        "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "Bring us into port."}]}]',
                        "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "Ahoy there"}]}]',
                    },
                )
            )
        )


def test_failure_of_a_model(captured: Captured) -> None:
    with pytest.raises(TimeoutError):
        Parrot().invoke("storm")
    assert told(captured) == snapshot(
        [
            (
                "chat parrot-1",
                "ERROR",
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "parrot",
                    "gen_ai.request.model": "parrot-1",
                    "gen_ai.request.temperature": 0.5,
                    "error.type": "TimeoutError",
                    "gen_ai.response.time_to_first_chunk": 0,
                },
            )
        ]
    )


def test_answer_out_of_the_cache_is_no_call(provider: FakeProvider, captured: Captured) -> None:
    for chat in (Parrot(cache=InMemoryCache()), model(cache=InMemoryCache())):
        assert chat.invoke(QUESTION).content == chat.invoke(QUESTION).content
    completions = FakeListLLM(responses=["a", "b"], cache=InMemoryCache())
    assert completions.invoke(QUESTION) == completions.invoke(QUESTION)
    assert tree(captured.spans) == snapshot("""\
chat parrot-1
chat gpt-4o-mini
text_completion\
""")


def test_left_stream_of_a_model(captured: Captured) -> None:
    for _ in FakeListChatModel(responses=["Ahoy"]).stream(QUESTION):
        break
    assert tree(captured.spans) == snapshot("chat")


async def test_observed_client_counts_alone(provider: FakeProvider, captured: Captured) -> None:
    chat = model()
    with seatrace.agent("talk"):
        chat.invoke(QUESTION)
        await chat.ainvoke(QUESTION)
        list(chat.stream(QUESTION))
        [each async for each in chat.astream(QUESTION)]
        chat.with_structured_output(
            {"title": "answer", "type": "object", "properties": {"word": {"type": "string"}}}
        ).invoke(QUESTION)
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert said["model_calls"] == 5
    assert {each.library for each in captured.calls} == {"openai", "seatrace"}


# --- tools ------------------------------------------------------------------------------------------------------------


def test_tool(captured: Captured) -> None:
    assert tool(tide).invoke({"port": "Brest"}) == "high at noon in Brest"
    answer = tool(chart).invoke({"type": "tool_call", "id": "call-1", "name": "chart", "args": {"port": "Brest"}})
    assert answer.content == "chart 7 shows Brest"
    assert asyncio.run(tool(tide).ainvoke({"port": "Brest"})) == "high at noon in Brest"
    assert tree(captured.spans) == snapshot("""\
execute_tool tide tool.description='Says when high water is.' tool.name='tide' tool.type='function'
execute_tool chart tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
execute_tool tide tool.description='Says when high water is.' tool.name='tide' tool.type='function'\
""")
    assert [(span.attributes or {}).get("gen_ai.tool.call.id") for span in captured.spans] == [None, "call-1", None]


@tool
def radio(channel: int) -> str:
    """Calls the harbour master."""
    raise ToolException("no signal")


@pytest.mark.parametrize("wrong", [False, True])
async def test_failure_that_the_tool_makes_a_message_of(captured: Captured, wrong: bool) -> None:
    handling = copy.copy(radio)
    handling.handle_tool_error = handling.handle_validation_error = True
    given: Any = {"channel": "x" if wrong else 16}
    assert handling.invoke(given) == await handling.ainvoke(given)
    failures = [(span.status.status_code.name, (span.attributes or {})["error.type"]) for span in captured.spans]
    assert failures == [("ERROR", "ValidationError" if wrong else "ToolException")] * 2
    assert [each.event_name for each in captured.events] == ["gen_ai.execute_tool.exception"] * 2


def test_exception_of_a_tool_is_the_same(captured: Captured) -> None:
    with pytest.raises(ToolException, match="no signal"):
        radio.invoke({"channel": 16})
    assert [(span.attributes or {})["error.type"] for span in captured.spans] == ["ToolException"]


def test_tool_copies_and_pickles(captured: Captured) -> None:
    for each in (copy.copy(radio), copy.deepcopy(radio)):
        assert each.name == "radio"
    assert pickle.loads(pickle.dumps(Parrot())) == Parrot()


def test_same_objects_after_uninstrument() -> None:
    places = [
        (BaseTool, ("run", "arun")),
        (BaseRetriever, ("invoke", "ainvoke")),
        (BaseChatModel, ("_generate_with_cache", "_agenerate_with_cache", "stream", "astream")),
    ]
    before = [vars(owner)[name] for owner, names in places for name in names]
    with capture():
        assert not any(vars(owner)[name] in before for owner, names in places for name in names)
    assert [vars(owner)[name] for owner, names in places for name in names] == before


# --- retrievers -------------------------------------------------------------------------------------------------------


class Shelf(VectorStore):
    """A vector store of one document."""

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [Document("Mind the reef.", metadata={"page": 7}, id="note-1")]

    @classmethod
    def from_texts(cls, *args: Any, **kwargs: Any) -> Any:
        return cls()


def test_retriever() -> None:
    retriever = Shelf().as_retriever(search_kwargs={"k": 2})
    with capture(capture_content=True) as captured:
        assert [each.page_content for each in retriever.invoke("reef")] == ["Mind the reef."]
        asyncio.run(retriever.ainvoke("reef"))
    first, second = told(captured)
    assert (
        first
        == second
        == snapshot(
            (
                "retrieval Shelf",
                "UNSET",
                {
                    "gen_ai.operation.name": "retrieval",
                    "gen_ai.data_source.id": "Shelf",
                    "gen_ai.retrieval.top_k": 2,
                    "gen_ai.retrieval.query.text": "reef",
                    "gen_ai.retrieval.documents": '[{"id": "note-1", "content": "Mind the reef.", "metadata": {"page": 7}}]',
                    "gen_ai.response.time_to_first_chunk": 0,
                },
            )
        )
    )


# --- the classic agent ------------------------------------------------------------------------------------------------

_CLASSIC = next((each for each in ("langchain_classic", "langchain") if installed(f"{each}.agents.agent")), None)

if _CLASSIC:

    @pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")
    async def test_agent_executor(provider: FakeProvider, captured: Captured) -> None:
        agents = importlib.import_module(f"{_CLASSIC}.agents")
        from langchain_core.prompts import ChatPromptTemplate

        prompt = ChatPromptTemplate.from_messages(
            [("system", CAPTAIN), ("user", "{input}"), ("placeholder", "{agent_scratchpad}")]
        )
        tools = [tool(tide), tool(chart)]
        executor = agents.AgentExecutor(agent=agents.create_tool_calling_agent(model(), tools, prompt), tools=tools)
        executor.invoke({"input": QUESTION})
        await executor.ainvoke({"input": QUESTION})
        list(executor.stream({"input": QUESTION}))
        [each async for each in executor.astream({"input": QUESTION})]
        said, true = totals(captured.spans, provider.served)
        assert said == true
        runs = tree(captured.spans).split("invoke_agent ")[1:]
        assert len(runs) == 4
        assert all(len(run.splitlines()) == 5 for run in runs)
        assert runs[0] == snapshot("""\
AgentExecutor agent.name='AgentExecutor' response.finish_reasons=('stop',) seatrace.run.model_calls=2 seatrace.run.steps=2 seatrace.run.tool_calls=2 seatrace.run.unpriced_calls=2
  chat gpt-4o-mini
  execute_tool tide agent.name='AgentExecutor' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  execute_tool chart agent.name='AgentExecutor' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  chat gpt-4o-mini
""")
