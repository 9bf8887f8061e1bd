"""LlamaIndex's agents, workflows, query engines and models on their voyage (``frameworks/crew.py``)."""

# ruff: noqa: E501 (trees of spans are as wide as they are)

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from inline_snapshot import snapshot
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.embeddings import BaseEmbedding, MockEmbedding
from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.memory import Memory
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import FunctionTool, QueryEngineTool, ToolOutput
from llama_index.core.tools.types import AsyncBaseTool, ToolMetadata
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai import OpenAI
from workflows.errors import WorkflowCancelledByUser

from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, captain, chart, radio, tide, totals, tree
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20"),  # it looks through its agents' attributes
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:ServiceManager is deprecated:DeprecationWarning"),  # its own, in 0.13
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),  # so it does
]


def model(provider: FakeProvider) -> OpenAI:
    usage = {"stream_options": {"include_usage": True}}
    made = OpenAI(model=MODEL, api_base=f"{provider.url}/v1", api_key="sk-test", additional_kwargs=usage)
    _models.append(made)
    return made


_models: list[OpenAI] = []


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Clients are closed by nobody else."""
    yield
    while _models:
        await _models.pop()._get_aclient().close()


_meeting = threading.Barrier(2)


def together(function: Callable[..., Any]) -> Callable[..., Any]:
    """A tool that waits for the other one of its turn."""

    @functools.wraps(function)
    def meet(**given: Any) -> Any:
        _meeting.wait(10)
        return function(**given)

    return meet


def tools(*functions: Callable[..., Any]) -> list[FunctionTool]:
    """Its own descriptions say how the function is called, which the captain would take for a call of it."""
    return [FunctionTool.from_defaults(each, description=each.__doc__) for each in functions]


def crew(provider: FakeProvider, **settings: Any) -> FunctionAgent:
    helmsman = FunctionAgent(name="pilot", description="Steers.", system_prompt=PILOT, llm=model(provider))

    async def pilot(task: str) -> str:
        """Asks the pilot."""
        return str(await helmsman.run(user_msg=task))

    return FunctionAgent(
        name="captain",
        description="Commands the ship.",
        system_prompt=CAPTAIN,
        llm=model(provider),
        tools=tools(together(tide), together(chart), radio, pilot),
        **settings,
    )


_memories: list[Memory] = []
"""Their databases are never closed."""

VOYAGE = snapshot("""\
invoke_agent captain agent.description='Commands the ship.' agent.name='captain' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' conversation.id='voyage' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' conversation.id='voyage' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' conversation.id='voyage' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool pilot agent.name='captain' conversation.id='voyage' tool.description='Asks the pilot.' tool.name='pilot' tool.type='function'
    invoke_agent pilot agent.description='Steers.' agent.name='pilot' conversation.id='voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


@pytest.mark.parametrize("streaming", [True, False])
async def test_run(provider: FakeProvider, captured: Captured, streaming: bool) -> None:
    _memories.append(Memory.from_defaults(session_id="voyage", token_limit=10_000))
    answer = await crew(provider, streaming=streaming).run(user_msg=QUESTION, memory=_memories[-1])
    assert str(answer) == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert all(span.attributes["gen_ai.tool.call.id"] for span in captured.spans if "execute_tool" in span.name)


async def test_events_of_a_run_stream_as_before(provider: FakeProvider) -> None:
    async def events() -> list[str]:
        handler = crew(provider).run(user_msg=QUESTION)
        seen = [type(event).__name__ async for event in handler.stream_events()]
        assert str(await handler) == ANSWER
        return [*(name for name, _ in itertools.groupby(seen)), type(handler).__name__]

    bare = await events()
    with capture() as captured:
        assert await events() == bare
    said, true = totals(captured.spans, provider.served[len(provider.served) // 2 :])
    assert said == true


# --- hand-offs --------------------------------------------------------------------------------------------------------


def handing_over(ask: Ask) -> Reply:
    """The captain does what he does, and hands over then."""
    said = "\n".join(piece.text for piece in ask.pieces)
    if CAPTAIN in said and "radio(" in said:
        call = ToolCall("handoff", json.dumps({"to_agent": "pilot", "reason": "He knows the way."}))
        return Reply("", (call,), "tools", 10, 0)
    return captain(ask)


@pytest.fixture
def handed() -> Iterator[FakeProvider]:
    with FakeProvider(model=handing_over) as provider:
        yield provider


def fleet(provider: FakeProvider) -> AgentWorkflow:
    return AgentWorkflow(
        agents=[
            FunctionAgent(
                name="captain",
                description="Commands the ship.",
                system_prompt=CAPTAIN,
                llm=model(provider),
                tools=tools(together(tide), together(chart), radio),
                can_handoff_to=["pilot"],
            ),
            FunctionAgent(
                name="pilot", description="Steers.", system_prompt=PILOT, llm=model(provider), can_handoff_to=[]
            ),
        ],
        root_agent="captain",
    )


async def test_hand_off(handed: FakeProvider, captured: Captured) -> None:
    answer = await fleet(handed).run(user_msg=QUESTION)
    assert str(answer) == PILOTED
    assert tree(captured.spans) == snapshot("""\
invoke_workflow AgentWorkflow agent.name='AgentWorkflow' seatrace.run.model_calls=4 seatrace.run.steps=0 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=4
  invoke_agent captain agent.description='Commands the ship.' agent.name='captain' response.finish_reasons=('tool_call',) seatrace.run.model_calls=3 seatrace.run.steps=3 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=3
    chat gpt-4o-mini
    execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
    execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
    chat gpt-4o-mini
    execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
    chat gpt-4o-mini
    execute_tool handoff agent.name='captain' tool.description="Useful for handing off to another agent.\\nIf you are currently not equipped to handle the user's request, or another agent is better suited to handle the request, please hand off to the appropriate agent.\\n\\nCurrently available agents:\\n{'pilot': 'Steers.'}\\n" tool.name='handoff' tool.type='function'
  invoke_agent pilot agent.description='Steers.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")
    said, true = totals(captured.spans, handed.served)
    assert said == true


async def test_two_runs_at_once_do_not_mix(handed: FakeProvider, captured: Captured) -> None:
    workflow = fleet(handed)
    await asyncio.gather(workflow.run(user_msg=QUESTION), workflow.run(user_msg=QUESTION))
    one, two = (each for each in captured.spans if each.name == "invoke_workflow AgentWorkflow")
    traces = [
        [each.name for each in captured.spans if each.context.trace_id == root.context.trace_id] for root in (one, two)
    ]
    assert sorted(traces[0]) == sorted(traces[1])
    assert one.attributes["seatrace.run.model_calls"] == two.attributes["seatrace.run.model_calls"] == 4


async def test_cancelled_run_ends_its_spans(provider: FakeProvider, captured: Captured) -> None:
    waiting = asyncio.Event()

    async def wait() -> str:
        """Waits."""
        waiting.set()
        await asyncio.sleep(60)
        return "never"

    agents = [FunctionAgent(name="captain", description="x", system_prompt=CAPTAIN, llm=model(provider))]

    class Slow(AgentWorkflow):
        async def get_tools(self, *args: Any, **kwargs: Any) -> Any:
            await wait()

    handler = Slow(agents=agents).run(user_msg=QUESTION)
    await waiting.wait()
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    await asyncio.sleep(0)
    assert sorted(span.name for span in captured.spans) == ["invoke_agent captain", "invoke_workflow Slow"]


async def test_failed_run(provider: FakeProvider, captured: Captured) -> None:
    with pytest.raises(Exception, match="Max iterations"):
        await crew(provider).run(user_msg=QUESTION, max_iterations=2)
    (run,) = (span for span in captured.spans if span.name == "invoke_agent captain")
    assert run.attributes["error.type"] == "WorkflowRuntimeError"


async def test_own_workflow(captured: Captured) -> None:
    class Greeting(Workflow):
        @step
        async def greet(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await MockLLM().acomplete(ev.get("name"))))

    assert await Greeting().run(name="Ahab") == "Ahab"
    assert tree(captured.spans) == snapshot("""\
invoke_workflow Greeting agent.name='Greeting' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
  chat\
""")


async def test_react(captured: Captured) -> None:
    sailor = Sailor(said=f"Thought: I know.\nAnswer: {ANSWER}")
    agent = ReActAgent(name="captain", description="x", llm=sailor, tools=tools(tide))
    assert str(await agent.run(user_msg=QUESTION)) == ANSWER
    assert [span.name for span in captured.spans] == ["chat sailor-1", "invoke_agent captain"]


# --- tools ------------------------------------------------------------------------------------------------------------


class Log(AsyncBaseTool):
    """A tool that says of itself that it failed."""

    @property
    def metadata(self) -> ToolMetadata:
        return ToolMetadata(name="log", description="Reads the log.")

    def call(self, input: Any) -> ToolOutput:
        return ToolOutput(content="wet", tool_name="log", raw_input={}, raw_output=None, is_error=True)

    async def acall(self, input: Any) -> ToolOutput:
        return self.call(input)


async def test_tool_that_returns_its_failure(captured: Captured) -> None:
    Log()("page 1")
    await Log().acall("page 1")
    assert [(span.name, span.attributes["error.type"]) for span in captured.spans] == [
        ("execute_tool log", "tool_error")
    ] * 2


def test_tools_called_by_hand(captured: Captured) -> None:
    (tool,) = tools(tide)
    assert tool("Oslo").content == tool.call(port="Oslo").content == asyncio.run(tool.acall(port="Oslo")).content
    with pytest.raises(TypeError, match="harbour"):
        tool(harbour="Oslo")
    assert [span.name for span in captured.spans] == ["execute_tool tide"] * 4


async def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as captured:
        await crew(provider).run(user_msg=QUESTION)
        Shelf().retrieve("ports")
    spans = {span.name: span.attributes for span in captured.spans}
    assert spans["execute_tool tide"]["gen_ai.tool.call.result"].startswith("high at noon")
    assert "port" in json.loads(spans["execute_tool tide"]["gen_ai.tool.call.arguments"])
    assert QUESTION in spans["invoke_agent captain"]["gen_ai.input.messages"]
    assert ANSWER in spans["invoke_agent captain"]["gen_ai.output.messages"]
    assert spans["retrieval Shelf"]["gen_ai.retrieval.query.text"] == "ports"
    assert json.loads(spans["retrieval Shelf"]["gen_ai.retrieval.documents"]) == [
        {"id": "7", "score": 0.5, "content": "Oslo is a port."}
    ]


async def test_no_content(provider: FakeProvider, captured: Captured) -> None:
    await crew(provider).run(user_msg=QUESTION)
    Shelf().retrieve("ports")
    told = " ".join(str(value) for span in captured.spans for value in span.attributes.values())
    assert not any(word in told for word in ("noon", "chart 7", QUESTION, ANSWER, PILOTED, "Oslo", "ports"))


# --- retrieval --------------------------------------------------------------------------------------------------------


class Shelf(BaseRetriever):
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(id_="7", text="Oslo is a port."), score=0.5)]


async def test_query_engine(provider: FakeProvider, captured: Captured) -> None:
    engine = RetrieverQueryEngine.from_args(Shelf(), llm=model(provider))
    assert str(engine.query(QUESTION)) == ANSWER
    assert str(await engine.aquery(QUESTION)) == ANSWER
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert str(QueryEngineTool.from_defaults(engine, name="library", description="Books.")(QUESTION)) == ANSWER
    assert tree(captured.spans) == snapshot("""\
invoke_workflow RetrieverQueryEngine agent.name='RetrieverQueryEngine' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  retrieval Shelf agent.name='RetrieverQueryEngine' data_source.id='Shelf'
  chat gpt-4o-mini
invoke_workflow RetrieverQueryEngine agent.name='RetrieverQueryEngine' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  retrieval Shelf agent.name='RetrieverQueryEngine' data_source.id='Shelf'
  chat gpt-4o-mini
execute_tool library tool.description='Books.' tool.name='library' tool.type='function'
  invoke_workflow RetrieverQueryEngine agent.name='RetrieverQueryEngine' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    retrieval Shelf agent.name='RetrieverQueryEngine' data_source.id='Shelf'
    chat gpt-4o-mini\
""")


# --- models -----------------------------------------------------------------------------------------------------------


class Sailor(CustomLLM):
    """A model that no client serves."""

    model: str = "sailor-1"
    said: str = ANSWER

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(
            text=self.said, raw={"usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 4}}
        )

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        for end in range(1, 4):
            text = self.said if end == 3 else self.said[: 5 * end]
            raw = {"usage": {"prompt_tokens": 5, "completion_tokens": 4}} if end == 3 else None
            yield CompletionResponse(text=text, delta=text[5 * end - 5 :], raw=raw)


ASK = [ChatMessage(role="user", content=QUESTION)]


async def test_models_without_a_client(captured: Captured) -> None:
    sailor = Sailor()
    assert sailor.chat(ASK).message.content == (await sailor.achat(ASK)).message.content == ANSWER
    assert sailor.complete(QUESTION).text == (await sailor.acomplete(QUESTION)).text == ANSWER
    streams = [sailor.stream_chat(ASK), sailor.stream_complete(QUESTION)]
    assert [inspect.isgenerator(each) for each in streams] == [True, True]
    assert [len(list(each)) for each in streams] == [3, 3]
    later = [await sailor.astream_chat(ASK), await sailor.astream_complete(QUESTION)]
    assert [inspect.isasyncgen(each) for each in later] == [True, True]
    for each in later:
        assert len([chunk async for chunk in each]) == 3
    assert [span.name for span in captured.spans] == ["chat sailor-1"] * 8
    counts = {
        (call.usage.input_tokens, call.usage.output_tokens, call.usage.cache_read, call.stream)
        for call in captured.calls
    }
    assert counts == {(5, 4, 2, False), (5, 4, None, True)}


async def test_abandoned_streams_end(captured: Captured) -> None:
    first = Sailor().stream_chat(ASK)
    next(first)
    first.close()
    second = await Sailor().astream_chat(ASK)
    async for _ in second:
        break
    await second.aclose()
    never = Sailor().stream_chat(ASK)
    del never
    gc.collect()
    assert [span.name for span in captured.spans] == ["chat sailor-1"] * 2
    assert not any("error.type" in span.attributes for span in captured.spans)


def test_model_that_fails(captured: Captured) -> None:
    class Overboard(Sailor):  # made while its base is observed
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            raise ConnectionError("no signal")

    with pytest.raises(ConnectionError, match="no signal"):
        Overboard().chat(ASK)
    (span,) = captured.spans
    assert (span.name, span.attributes["error.type"]) == ("chat sailor-1", "ConnectionError")


async def test_embeddings(captured: Captured) -> None:
    class Compass(BaseEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            return [1.0]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

        def _get_text_embedding(self, text: str) -> list[float]:
            return [1.0]

    compass = Compass(model_name="compass-1")
    assert compass.get_query_embedding("north") == await compass.aget_query_embedding("north") == [1.0]
    assert compass.get_text_embedding_batch(["north", "south"]) == [[1.0], [1.0]]
    assert [span.name for span in captured.spans] == ["embeddings compass-1"] * 4


# --- manners ----------------------------------------------------------------------------------------------------------


def test_uninstrument_restores() -> None:
    owners = [
        BaseRetriever,
        RetrieverQueryEngine,
        FunctionTool,
        MockLLM,
        OpenAI,
        CustomLLM,
        MockEmbedding,
        Workflow,
        AgentWorkflow,
        FunctionAgent,
    ]
    owners += [base for owner in owners for base in owner.__mro__[1:-1]]
    before = [dict(vars(owner)) for owner in owners]
    kinds = [{name: type(value) for name, value in each.items()} for each in before]
    with capture():
        now = [{name: type(value) for name, value in vars(owner).items()} for owner in owners]
        assert [
            {name: each[name] for name in kind if name[:2] != "__"} for each, kind in zip(now, kinds, strict=True)
        ] == [{name: kind[name] for name in kind if name[:2] != "__"} for kind in kinds]
        assert vars(BaseRetriever)["retrieve"] is not before[0]["retrieve"]
        assert inspect.signature(MockLLM.chat) == inspect.signature(before[3].get("chat", CustomLLM.chat))
    for owner, attributes in zip(owners, before, strict=True):
        for name in (
            "retrieve",
            "aretrieve",
            "query",
            "call",
            "acall",
            "chat",
            "complete",
            "run",
            "call_tool",
            "setup_agent",
            "__init_subclass__",
        ):
            assert vars(owner).get(name) is attributes.get(name), (owner, name)


def test_native_handlers_see_what_they_saw() -> None:
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.span_handlers import NullSpanHandler

    class Noted(NullSpanHandler):
        def span_enter(self, id_: str, bound_args: Any, instance: Any = None, **kwargs: Any) -> None:
            seen.append((id_.split("-")[0], type(instance).__name__, sorted(bound_args.arguments)))

    seen: list[Any] = []
    root = get_dispatcher()
    handlers = list(root.span_handlers)
    root.span_handlers = [Noted()]
    try:
        Shelf().retrieve("ports")
        Sailor().chat(ASK)
        bare, seen[:] = list(seen), []
        with capture():
            Shelf().retrieve("ports")
            Sailor().chat(ASK)
    finally:
        root.span_handlers = handlers
    assert seen == bare


def test_objects_copy(captured: Captured) -> None:
    assert copy.deepcopy(Sailor()).complete(QUESTION).text == ANSWER
    assert Sailor().model_dump() == copy.copy(Sailor()).model_dump()
