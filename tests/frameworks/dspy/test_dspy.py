# ruff: noqa: E501 (the trees)
"""DSPy: ReAct with a sub-agent as a tool, programs, threads, the cache; through LiteLLM and through its own client."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import gettempdir
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["DSPY_CACHEDIR"] = str(Path(gettempdir(), "dspy-tests"))

import pytest
from inline_snapshot import snapshot

import seatrace
from frameworks import crew
from seatrace.demo.fake_model import Ask, Reply, count_tokens
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

with warnings.catch_warnings():  # LiteLLM's, about its own models
    warnings.simplefilter("ignore")
    import dspy
    import litellm  # noqa: F401

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # clients of DSPy and LiteLLM are nobody's to close
    pytest.mark.filterwarnings("ignore::DeprecationWarning:dspy|litellm|pydantic|asyncio"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
]

NEW = tuple(map(int, version("dspy").split(".")[:2])) >= (3, 4)
CLIENTS = ["litellm", "lm15"] if NEW else ["litellm"]
"""DSPy's own HTTP client is ``lm15``."""

_TURNS = (
    ("tide", {"port": "Antwerp"}),
    ("chart", {"port": "Antwerp"}),
    ("radio", {"channel": 7}),
    ("pilot", {"request": "Help."}),
)


def captain(ask: Ask) -> Reply:
    """The captain of ``crew``, in the words of DSPy: it asks for fields and offers no tools."""
    said = "\n".join(piece.text for piece in ask.pieces)
    wanted = ask.pieces[-1].text
    if "[[ ## next_thought ## ]]" not in wanted:
        return _fields(reasoning="All is done.", answer=crew.PILOTED if crew.PILOT in said else crew.ANSWER)
    done = sum(f"[[ ## tool_name_{at} ## ]]" in said for at in range(9))
    name, arguments = _TURNS[done] if done < len(_TURNS) and crew.PILOT not in said else ("finish", {})
    return _fields(next_thought="On.", next_tool_name=name, next_tool_args=json.dumps(arguments))


def _fields(**fields: str) -> Reply:
    text = "\n\n".join(f"[[ ## {name} ## ]]\n{words}" for name, words in {**fields, "completed": ""}.items())
    return Reply(text, (), "stop", count_tokens(text), 0)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    with FakeProvider(model=captain) as provider:
        yield provider


@pytest.fixture(params=CLIENTS)
def lm(request: pytest.FixtureRequest, provider: FakeProvider) -> dspy.LM:
    return model(provider, request.param)


def model(provider: FakeProvider, client: str = "litellm", *, cache: bool = False) -> dspy.LM:
    details = {"engine": client} if NEW else {}
    return dspy.LM(f"openai/{crew.MODEL}", api_base=f"{provider.url}/v1", api_key="sk-test", cache=cache, **details)


def ship() -> dspy.ReAct:
    mate = dspy.ReAct(dspy.Signature("question -> answer", crew.PILOT), tools=[crew.tide])

    def pilot(request: str) -> str:
        """Knows the port."""
        return str(mate(question=request).answer)

    tools: list[Callable[..., Any]] = [crew.tide, crew.chart, crew.radio, pilot]
    return dspy.ReAct(dspy.Signature("question -> answer", crew.CAPTAIN), tools=tools)


class Voyage(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> answer")
        self.ship = ship()

    def forward(self, question: str) -> dspy.Prediction:
        self.plan(question=question)
        return self.ship(question=question)

    async def aforward(self, question: str) -> dspy.Prediction:
        await self.plan.acall(question=question)
        return await self.ship.acall(question=question)


TREE = """\
invoke_workflow Voyage agent.name='Voyage' response.finish_reasons=('stop',) seatrace.run.model_calls=9 seatrace.run.steps=1 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=9
  chat gpt-4o-mini
  invoke_agent ReAct agent.name='ReAct' response.finish_reasons=('stop',) seatrace.run.model_calls=8 seatrace.run.steps=6 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=8
    chat gpt-4o-mini
    execute_tool tide agent.name='ReAct' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
    chat gpt-4o-mini
    execute_tool chart agent.name='ReAct' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
    chat gpt-4o-mini
    execute_tool radio ERROR error.type='ConnectionError' agent.name='ReAct' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
    chat gpt-4o-mini
    execute_tool pilot agent.name='ReAct' tool.description='Knows the port.' tool.name='pilot' tool.type='function'
      invoke_agent ReAct agent.name='ReAct' response.finish_reasons=('stop',) seatrace.run.model_calls=2 seatrace.run.steps=2 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=2
        chat gpt-4o-mini
        chat gpt-4o-mini
    chat gpt-4o-mini
    chat gpt-4o-mini"""


def test_program(lm: dspy.LM, provider: FakeProvider, captured: Captured) -> None:
    with dspy.context(lm=lm):
        assert Voyage()(question=crew.QUESTION).answer == crew.ANSWER
    assert crew.tree(captured.spans) == TREE
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


@pytest.mark.asyncio
async def test_program_async(lm: dspy.LM, provider: FakeProvider, captured: Captured) -> None:
    with dspy.context(lm=lm):
        assert (await Voyage().acall(question=crew.QUESTION)).answer == crew.ANSWER
    assert crew.tree(captured.spans) == TREE
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


def test_one_prediction_is_its_model_call(lm: dspy.LM, captured: Captured) -> None:
    with dspy.context(lm=lm):
        dspy.Predict("question -> answer")(question=crew.QUESTION)
        dspy.ChainOfThought("question -> answer")(question=crew.QUESTION)
    assert crew.tree(captured.spans) == "chat gpt-4o-mini\nchat gpt-4o-mini"


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_out_of_the_cache_is_no_model_call(client: str, provider: FakeProvider, captured: Captured) -> None:
    with dspy.context(lm=model(provider, client, cache=True)):
        ask = dspy.Predict("question -> answer")
        assert ask(question=crew.QUESTION).answer == ask(question=crew.QUESTION).answer
    assert len(provider.served) == 1
    assert crew.tree(captured.spans) == "chat gpt-4o-mini"


@pytest.mark.skipif(not NEW, reason="this dspy has no client of its own")
def test_a_call_of_dspys_own_client(provider: FakeProvider, captured: Captured) -> None:
    with dspy.context(lm=model(provider, "lm15")):
        dspy.Predict("question -> answer")(question=crew.QUESTION)
    (span,) = captured.spans
    attributes = {**span.attributes, "gen_ai.response.id": "id", "server.port": 0}
    assert attributes == snapshot(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "local",
            "gen_ai.request.model": "gpt-4o-mini",
            "server.address": "127.0.0.1",
            "server.port": 0,
            "gen_ai.response.id": "id",
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 155,
            "gen_ai.usage.output_tokens": 24,
            "gen_ai.usage.cache_read.input_tokens": 0,
            "gen_ai.usage.reasoning.output_tokens": 0,
        }
    )


@pytest.mark.asyncio
async def test_streaming(lm: dspy.LM, provider: FakeProvider, captured: Captured) -> None:
    async def said() -> list[tuple[type, str]]:
        stream = dspy.streamify(ship(), stream_listeners=[])
        with dspy.context(lm=lm):
            return [(type(each), getattr(each, "answer", "")) async for each in stream(question=crew.QUESTION)][-1:]

    observed = await said()
    spans = captured.spans
    assert observed == [(dspy.Prediction, crew.ANSWER)]
    with seatrace.suppress():
        assert await said() == observed
    assert captured.spans == spans
    names = [span.name for span in spans]
    assert (names.count("chat gpt-4o-mini"), names.count("invoke_agent ReAct")) == (8, 2)
    assert all(span.attributes["gen_ai.request.stream"] for span in spans if span.name.startswith("chat"))
    ids = {span.context.span_id for span in spans}
    assert sum(span.parent is None or span.parent.span_id not in ids for span in spans) == 1


@pytest.mark.asyncio
async def test_abandoned_stream_leaves_no_open_span(lm: dspy.LM, captured: Captured) -> None:
    stream = dspy.streamify(ship(), stream_listeners=[])
    with dspy.context(lm=lm):
        answers = stream(question=crew.QUESTION)
        async for _ in answers:
            break
        with suppress(BaseException):  # 3.0 makes a group of the GeneratorExit
            await answers.aclose()
    spans = captured.spans
    ids = {span.context.span_id for span in spans}
    assert all(span.parent is None or span.parent.span_id in ids for span in spans)


def test_output_and_exceptions_are_the_same(lm: dspy.LM) -> None:
    def run() -> Any:
        with dspy.context(lm=lm):
            result = ship()(question=crew.QUESTION)
            with pytest.raises(Exception) as failed:
                dspy.Tool(crew.radio)(channel="none")
            with pytest.raises(ConnectionError) as lost:
                dspy.Tool(crew.radio)(channel=7)
        return type(result), result.toDict().keys(), result.answer, repr(failed.value), repr(lost.value)

    with capture():
        observed = run()
    assert run() == observed


def test_content(lm: dspy.LM) -> None:
    with capture(capture_content=True) as got, dspy.context(lm=lm):
        ship()(question=crew.QUESTION)
    tide = next(dict(span.attributes) for span in got.spans if span.name == "execute_tool tide")
    assert (tide["gen_ai.tool.call.arguments"], tide["gen_ai.tool.call.result"]) == snapshot(
        ('{"port": "Antwerp"}', "high at noon in Antwerp")
    )
    agent = dict(got.spans[-1].attributes)
    assert (agent["gen_ai.input.messages"], agent["gen_ai.output.messages"]) == snapshot(
        (
            '[{"role": "user", "parts": [{"type": "text", "content": "question: Bring us into port."}]}]',
            '[{"role": "assistant", "parts": [{"type": "text", "content": "reasoning: All is done."}, {"type": "text", "content": "answer: We are moored."}]}]',
        )
    )
    chat = next(dict(span.attributes) for span in got.spans if span.name.startswith("chat"))
    assert crew.QUESTION in chat["gen_ai.input.messages"]
    assert "next_thought" in chat["gen_ai.output.messages"]


def test_no_content_by_default(lm: dspy.LM, captured: Captured) -> None:
    with dspy.context(lm=lm):
        ship()(question=crew.QUESTION)
    told = repr([(span.name, dict(span.attributes)) for span in captured.spans])
    for words in (crew.QUESTION, crew.ANSWER, "Antwerp", "high at noon"):
        assert words not in told


def test_threads_belong_to_who_started_them(lm: dspy.LM, captured: Captured) -> None:
    @seatrace.workflow
    def both() -> Any:
        with dspy.context(lm=lm):
            examples = [dspy.Example(question=crew.QUESTION).with_inputs("question")] * 2
            return Voyage().batch(examples, num_threads=2, disable_progress_bar=True)

    both()
    spans = captured.spans
    (root,) = [span for span in spans if span.name == "invoke_workflow both"]
    voyages = [span for span in spans if span.name == "invoke_workflow Voyage"]
    assert [span.parent.span_id for span in voyages] == [root.context.span_id] * 2
    assert root.attributes["seatrace.run.model_calls"] == 18
    assert [span.attributes["seatrace.run.model_calls"] for span in voyages] == [9, 9]


@pytest.mark.asyncio
async def test_tasks_do_not_mix(lm: dspy.LM, captured: Captured) -> None:
    with dspy.context(lm=lm):
        await asyncio.gather(*(Voyage().acall(question=crew.QUESTION) for _ in range(2)))
    traces = {span.context.trace_id for span in captured.spans}
    assert len(traces) == 2
    for each in traces:
        lines = crew.tree(span for span in captured.spans if span.context.trace_id == each).splitlines()
        assert sorted(lines) == sorted(TREE.splitlines())


def test_retriever(captured: Captured) -> None:
    class Library(dspy.Retrieve):
        def forward(self, query: str, k: int | None = None) -> dspy.Prediction:
            return dspy.Prediction(passages=["chart 7"])

    def shelf(query: str, k: int) -> list[Any]:
        return [dspy.Example(long_text="chart 7")] * k

    assert Library(k=2)("chart").passages == ["chart 7"]
    with dspy.context(rm=shelf):
        assert dspy.Retrieve()("chart", k=1).passages == ["chart 7"]
    assert crew.tree(captured.spans) == snapshot("""\
retrieval Library data_source.id='Library' retrieval.top_k=2
retrieval function data_source.id='function' retrieval.top_k=1\
""")


def test_a_failed_program_says_so(captured: Captured) -> None:
    class Wreck(dspy.Module):
        def forward(self) -> None:
            raise LookupError("lost at sea")

    with pytest.raises(LookupError):
        Wreck()()
    assert crew.tree(captured.spans) == snapshot(
        "invoke_workflow Wreck ERROR error.type='LookupError' agent.name='Wreck' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0"
    )


@pytest.mark.skipif(not NEW, reason="this dspy has no engines")
def test_a_failed_model_call_says_so(provider: FakeProvider, captured: Captured) -> None:
    class Silent:
        def complete(self, request: Any) -> Any:
            raise RuntimeError("nothing heard")

    with (
        dspy.context(lm=dspy.LM("own/parrot", engine=Silent(), num_retries=0)),
        pytest.raises(Exception, match="nothing heard"),
    ):
        dspy.Predict("question -> answer")(question=crew.QUESTION)
    assert {(span.name, span.attributes["error.type"]) for span in captured.spans} == snapshot(
        {("chat parrot", "RuntimeError")}
    )


def test_uninstrumenting_restores_the_methods() -> None:
    import dspy.clients.lm as models

    owners: list[Any] = [dspy.Module, dspy.Tool, dspy.Retrieve, models]
    before = [dict(vars(each)) for each in owners]
    with capture():
        for each, was in zip(owners, before, strict=True):
            assert any(vars(each).get(name) is not value for name, value in was.items())
        assert inspect.signature(dspy.Module.__call__) == inspect.signature(inspect.unwrap(dspy.Module.__call__))
    for each, was in zip(owners, before, strict=True):
        assert all(vars(each)[name] is value for name, value in was.items())
