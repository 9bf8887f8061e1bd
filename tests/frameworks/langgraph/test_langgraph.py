"""LangGraph's graphs, and the agents that stand on them."""

# ruff: noqa: E501
from __future__ import annotations

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Annotated, Any

import pytest
from inline_snapshot import snapshot
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.pregel import Pregel
from langgraph.types import Command, interrupt
from opentelemetry.trace import get_current_span
from typing_extensions import TypedDict

from frameworks.crew import ANSWER, CAPTAIN, QUESTION, totals, tree
from frameworks.langgraph.agents import ASKED, NEW, agent, captain
from frozen import collect_little as collect_little
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainPendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"),
]

VOYAGE = snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool pilot agent.name='captain' tool.description='Asks the pilot.' tool.name='pilot' tool.type='function'
    invoke_agent pilot agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


def whole(captured: Captured, provider: FakeProvider) -> str:
    """The tree, of which every call is counted once."""
    said, true = totals(captured.spans, provider.served)
    assert said == true
    return tree(captured.spans)


def test_run_of_an_agent(provider: FakeProvider, captured: Captured) -> None:
    assert captain().invoke(ASKED)["messages"][-1].content == ANSWER
    assert whole(captured, provider) == VOYAGE


async def test_run_of_an_agent_async(provider: FakeProvider, captured: Captured) -> None:
    assert (await captain().ainvoke(ASKED))["messages"][-1].content == ANSWER
    assert whole(captured, provider) == VOYAGE


@pytest.mark.parametrize("mode", ["values", ["updates", "messages"]])
def test_stream_of_an_agent(provider: FakeProvider, captured: Captured, mode: Any) -> None:
    assert list(captain().stream(ASKED, stream_mode=mode))
    assert whole(captured, provider) == VOYAGE


@pytest.mark.parametrize("mode", ["values", ["updates", "messages"]])
async def test_stream_of_an_agent_async(provider: FakeProvider, captured: Captured, mode: Any) -> None:
    assert [each async for each in captain().astream(ASKED, stream_mode=mode)]
    assert whole(captured, provider) == VOYAGE


async def test_events_of_an_agent(provider: FakeProvider, captured: Captured) -> None:
    names = Counter([each["event"] async for each in captain().astream_events(ASKED, version="v2")])
    assert names["on_tool_start"] == 4
    assert names["on_chat_model_end"] == 5
    assert whole(captured, provider) == VOYAGE


if NEW:

    def test_events_of_an_agent_in_the_newest_protocol(provider: FakeProvider, captured: Captured) -> None:
        run = captain().stream_events(ASKED, version="v3")
        assert ANSWER in str(run.output["messages"][-1].content)
        assert whole(captured, provider) == VOYAGE

    async def test_events_of_an_agent_in_the_newest_protocol_async(provider: FakeProvider, captured: Captured) -> None:
        run = await captain().astream_events(ASKED, version="v3")
        assert ANSWER in str((await run.output())["messages"][-1].content)
        assert whole(captured, provider) == VOYAGE


def test_batch_of_runs(provider: FakeProvider, captured: Captured) -> None:
    captain().batch([ASKED], [thread("a")])
    assert whole(captured, provider).replace(" conversation.id='a'", "") == VOYAGE


# --- the program's own behaviour --------------------------------------------------------------------------------------


def essence(value: Any) -> Any:
    """Types and words of what was returned or yielded, without what differs in each run."""
    if isinstance(value, dict):
        return {key: essence(each) for key, each in value.items() if "langgraph" not in key and "id" not in key}
    if isinstance(value, (list, tuple)):
        return type(value), [essence(each) for each in value]
    if hasattr(value, "content"):
        return type(value), value.content, value.name, [each["name"] for each in getattr(value, "tool_calls", ())]
    return type(value)


def test_outputs_are_the_same(provider: FakeProvider) -> None:
    def outputs() -> Any:
        ran = captain()
        stream = ran.stream(ASKED, stream_mode="updates")
        return (
            essence(ran.invoke(ASKED)),
            type(stream),
            sorted(map(str, map(essence, stream))),
            essence(asyncio.run(ran.ainvoke(ASKED))),
            [key for key, _ in groupby(type(each) for each, _ in ran.stream(ASKED, stream_mode="messages"))],
        )

    without = outputs()
    with capture():
        observed = outputs()
    assert observed == without


def test_exception_is_the_same(captured: Captured) -> None:
    trouble = KeyError("reef")

    def ground(state: Any) -> Any:
        raise trouble

    graph = StateGraph(MessagesState).add_node("sail", ground).add_edge(START, "sail").compile(name="voyage")
    with pytest.raises(KeyError) as raised:
        graph.invoke(ASKED)
    assert raised.value is trouble
    assert tree(captured.spans) == snapshot(
        "invoke_workflow voyage ERROR error.type='KeyError' agent.name='voyage' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0"
    )


def test_same_objects_after_uninstrument() -> None:
    names = ("invoke", "ainvoke", "stream", "astream")
    before = [vars(Pregel)[name] for name in names]
    with capture():
        assert [vars(Pregel)[name] for name in names] != before
    assert [vars(Pregel)[name] for name in names] == before


# --- streams that are left ----------------------------------------------------------------------------------------------


def test_abandoned_stream(provider: FakeProvider, captured: Captured) -> None:
    for _ in captain().stream(ASKED):
        break
    assert tree(captured.spans) == snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('tool_call',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  chat gpt-4o-mini\
""")
    assert not get_current_span().get_span_context().is_valid


async def test_abandoned_stream_async(provider: FakeProvider, captured: Captured) -> None:
    stream = captain().astream(ASKED, stream_mode="messages")
    async for _ in stream:
        break
    await stream.aclose()
    spans = captured.spans
    assert [span.name for span in spans if span.parent is None] == ["invoke_agent captain"]
    assert {span.parent.span_id for span in spans if span.parent} <= {span.context.span_id for span in spans}
    assert not get_current_span().get_span_context().is_valid


def test_stream_that_nobody_starts(captured: Captured) -> None:
    graph = StateGraph(MessagesState).add_node("sail", lambda state: {}).add_edge(START, "sail").compile()
    graph.stream(ASKED)
    assert captured.spans == []


# --- content ----------------------------------------------------------------------------------------------------------------


def test_content_is_captured_on_request(provider: FakeProvider) -> None:
    with capture(capture_content=True) as captured:
        captain().invoke(ASKED)
    spans = {span.name: dict(span.attributes or {}) for span in captured.spans}
    assert {
        name: {key: value for key, value in told.items() if key.endswith(("arguments", "result", "messages"))}
        for name, told in spans.items()
        if "chat" not in name and name != "execute_tool radio"
    } == snapshot(
        {
            "execute_tool chart": {
                "gen_ai.tool.call.arguments": '{"port": "The harbour gauge shows a slow rise since the new breakwater was finished."}',
                "gen_ai.tool.call.result": "chart 7 shows The harbour gauge shows a slow rise since the new breakwater was finished.",
            },
            "execute_tool tide": {
                "gen_ai.tool.call.arguments": '{"port": "Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."}',
                "gen_ai.tool.call.result": "high at noon in Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher.",
            },
            "invoke_agent pilot": {
                "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."}]}]',
                "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "Steer north."}]}]',
            },
            "execute_tool pilot": {
                "gen_ai.tool.call.arguments": '{"question": "Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."}',
                "gen_ai.tool.call.result": "Steer north.",
            },
            "invoke_agent captain": {
                "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "Bring us into port."}]}]',
                "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "We are moored."}]}]',
            },
        }
    )


@pytest.mark.parametrize("mode", ["updates", "messages"])
def test_content_of_a_stream(provider: FakeProvider, mode: Any) -> None:
    with capture(capture_content=True) as captured:
        list(captain().stream(ASKED, stream_mode=mode))
    (root,) = [span for span in captured.spans if span.parent is None]
    assert json.loads(str((root.attributes or {})["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}]}
    ]


def test_no_content_without_request(provider: FakeProvider, captured: Captured) -> None:
    captain().invoke(ASKED)
    told = str([dict(span.attributes or {}) for span in captured.spans])
    assert QUESTION not in told
    assert ANSWER not in told
    assert "high at noon" not in told


@tool
def look(port: str, state: Annotated[Any, InjectedState]) -> str:
    """Looks out."""
    return f"{port} in sight"


def test_what_the_framework_puts_in_is_no_argument() -> None:
    called = AIMessage("", tool_calls=[{"name": "look", "args": {"port": "Brest"}, "id": "call-1"}])
    graph = StateGraph(MessagesState).add_node("tools", ToolNode([look])).add_edge(START, "tools").compile()
    with capture(capture_content=True) as captured:
        graph.invoke({"messages": [called]})
    (told,) = [dict(span.attributes or {}) for span in captured.spans if span.name == "execute_tool look"]
    assert told["gen_ai.tool.call.arguments"] == '{"port": "Brest"}'
    assert told["gen_ai.tool.call.result"] == "Brest in sight"


# --- whose run ----------------------------------------------------------------------------------------------------------


def test_conversation_is_the_thread(provider: FakeProvider, captured: Captured) -> None:
    captain(checkpointer=InMemorySaver()).invoke(ASKED, thread("atlantic"))
    assert {(span.attributes or {})["gen_ai.conversation.id"] for span in captured.spans} == {"atlantic"}


def test_two_runs_in_threads_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    crews = captain(), captain()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda crew, name: crew.invoke(ASKED, thread(name)), crews, ("a", "b")))
    apart(captured)


async def test_two_runs_in_tasks_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    await asyncio.gather(*(captain().ainvoke(ASKED, thread(name)) for name in ("a", "b")))
    apart(captured)


def apart(captured: Captured) -> None:
    for name in ("a", "b"):
        own = [span for span in captured.spans if (span.attributes or {})["gen_ai.conversation.id"] == name]
        assert tree(own).replace(f" conversation.id='{name}'", "") == VOYAGE
        assert len({span.context.trace_id for span in own}) == 1


# --- graphs -------------------------------------------------------------------------------------------------------------


class Voyage(TypedDict, total=False):
    log: str


def test_workflow_with_agents(provider: FakeProvider, captured: Captured) -> None:
    graph = (
        StateGraph(MessagesState)
        .add_node("first", agent("mate", CAPTAIN, []))
        .add_node("second", agent("captain", CAPTAIN, []))
        .add_edge(START, "first")
        .add_edge("first", "second")
        .compile(name="relay")
    )
    graph.invoke(ASKED)
    assert whole(captured, provider) == snapshot("""\
invoke_workflow relay agent.name='relay' seatrace.run.model_calls=2 seatrace.run.steps=0 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=2
  invoke_agent mate agent.name='mate' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
  invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")


def test_current_span_of_a_node(captured: Captured) -> None:
    seen = []

    def sail(state: Voyage) -> Voyage:
        seen.append(get_current_span().get_span_context().span_id)
        return {}

    graph = StateGraph(Voyage).add_node("sail", sail).add_edge(START, "sail").compile()
    graph.invoke({"log": ""})
    list(graph.stream({"log": ""}))
    assert seen == [span.context.span_id for span in captured.spans]
    assert tree(captured.spans) == snapshot("""\
invoke_workflow LangGraph agent.name='LangGraph' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0
invoke_workflow LangGraph agent.name='LangGraph' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0\
""")


def test_hand_over_to_the_graph_around(captured: Captured) -> None:
    def over(state: Voyage) -> Any:
        return Command(goto="port", graph=Command.PARENT)

    inner = StateGraph(Voyage).add_node("over", over).add_edge(START, "over").compile(name="inner")
    outer = (
        StateGraph(Voyage)
        .add_node("sea", inner, destinations=("port",))
        .add_node("port", lambda state: {"log": "moored"})
        .add_edge(START, "sea")
        .compile(name="outer")
    )
    assert outer.invoke({"log": ""}) == {"log": "moored"}
    assert tree(captured.spans) == snapshot("""\
invoke_workflow outer agent.name='outer' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0
  invoke_workflow inner agent.name='inner' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=0\
""")


def test_interrupt_is_no_failure(captured: Captured) -> None:
    @tool
    def permit(port: str) -> str:
        """Asks the harbour master."""
        return str(interrupt(port))

    def ask(state: Voyage) -> Voyage:
        return {"log": permit.invoke({"port": "Brest"})}

    inner = StateGraph(Voyage).add_node("ask", ask).add_edge(START, "ask").compile(name="inner")
    outer = StateGraph(Voyage).add_node("sea", inner).add_edge(START, "sea")
    graph = outer.compile(name="outer", checkpointer=InMemorySaver())
    stopped = graph.invoke({"log": ""}, thread("a"))
    assert [each.value for each in stopped["__interrupt__"]] == ["Brest"]
    assert graph.invoke(Command(resume="granted"), thread("a"))["log"] == "granted"
    assert tree(captured.spans) == snapshot("""\
invoke_workflow outer agent.name='outer' conversation.id='a' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=1
  invoke_workflow inner agent.name='inner' conversation.id='a' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=1
    execute_tool permit agent.name='inner' conversation.id='a' tool.description='Asks the harbour master.' tool.name='permit' tool.type='function'
invoke_workflow outer agent.name='outer' conversation.id='a' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=1
  invoke_workflow inner agent.name='inner' conversation.id='a' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=1
    execute_tool permit agent.name='inner' conversation.id='a' tool.description='Asks the harbour master.' tool.name='permit' tool.type='function'\
""")


def test_functional_workflow(captured: Captured) -> None:
    @entrypoint()
    def crossing(port: str) -> str:
        return str(FakeListChatModel(responses=["moored"]).invoke(port).content)

    assert crossing.invoke("Brest") == "moored"
    assert tree(captured.spans) == snapshot("""\
invoke_workflow crossing agent.name='crossing' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
  chat\
""")
