"""google-adk: runners, agents, hand-offs, workflow agents and graphs, tools, models, and ADK's own spans."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import threading
from collections.abc import Iterator
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import pytest
from google.adk.agents import BaseAgent, LlmAgent, LoopAgent, ParallelAgent, SequentialAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.models.base_llm import BaseLlm
from google.adk.runners import InMemoryRunner
from google.adk.telemetry import tracing
from google.adk.tools.agent_tool import AgentTool
from google.genai import types
from opentelemetry import trace

import seatrace
from frameworks import crew
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

from .models import Afar, AtHand

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*[Dd]eprecat"),
    pytest.mark.filterwarnings("ignore:.*EXPERIMENTAL"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]


def answered(tool: Any, args: Any, tool_context: Any, error: Exception) -> dict[str, Any]:
    return {"error": str(error)}


def pilot(model: type[BaseLlm] = Afar) -> LlmAgent:
    return LlmAgent(name="pilot", model=model(model=crew.MODEL), instruction=crew.PILOT, description="Knows the port.")


def captain(model: type[BaseLlm] = Afar, **details: Any) -> LlmAgent:
    details.setdefault("tools", [crew.tide, crew.chart, crew.radio, AgentTool(pilot(model))])
    details.setdefault("on_tool_error_callback", answered)
    return LlmAgent(name="captain", model=model(model=crew.MODEL), instruction=crew.CAPTAIN, **details)


async def prepared(agent: Any, session: str) -> InMemoryRunner:
    runner = InMemoryRunner(agent=agent, app_name="port")
    await runner.session_service.create_session(app_name="port", user_id="mate", session_id=session)
    return runner


def asked(session: str, **config: Any) -> dict[str, Any]:
    message = types.Content(role="user", parts=[types.Part(text=crew.QUESTION)])
    return {"user_id": "mate", "session_id": session, "new_message": message, "run_config": RunConfig(**config)}


async def voyage(agent: Any, session: str = "trip", **config: Any) -> list[Any]:
    runner = await prepared(agent, session)
    return [event async for event in runner.run_async(**asked(session, **config))]


def told(events: list[Any]) -> list[tuple[str, Any, Any]]:
    """What a program sees of the events, but ids and times."""
    return [
        (event.author, event.partial, re.sub(r"'id': '[^']*'", "", str(event.content and event.content.model_dump())))
        for event in events
    ]


RUN = """\
invoke_agent captain agent.name='captain' conversation.id='trip' request.model='gpt-4o-mini' \
response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 \
seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' conversation.id='trip' tool.description='Finds the chart of a port.' \
tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' conversation.id='trip' tool.description='Says when high water is.' \
tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' conversation.id='trip' \
tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool pilot agent.name='captain' conversation.id='trip' tool.description='Knows the port.' \
tool.name='pilot' tool.type='function'
    invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' conversation.id='trip' \
request.model='gpt-4o-mini' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 \
seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
"""


HERE = re.sub(r" ?seatrace.run.unpriced_calls=\d", "", RUN.replace("chat gpt", "generate_content gpt"))
"""The same with a model that has no server, whose price is known by its name therefore."""


def ordered(text: str) -> str:
    """``tide`` and ``chart`` are called at once; functions that do not wait then run one after the other."""
    lines = text.split("\n")
    if lines[2].startswith("  execute_tool tide"):
        lines[2], lines[3] = lines[3], lines[2]
    return "\n".join(lines)


async def test_a_run_is_one_tree(provider: FakeProvider, captured: Captured) -> None:
    events = await voyage(captain())
    assert events[-1].content.parts[0].text == crew.ANSWER
    assert ordered(crew.tree(captured.spans)) == RUN
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


def test_a_run_from_synchronous_code(provider: FakeProvider, captured: Captured) -> None:
    runner = asyncio.run(prepared(captain(), "trip"))
    with seatrace.agent("fleet"):
        events = list(runner.run(**asked("trip")))
    assert events[-1].content.parts[0].text == crew.ANSWER
    first, *lines = crew.tree(captured.spans).split("\n")
    assert first.startswith("invoke_agent fleet")
    assert ordered("\n".join(line[2:] for line in lines)) == RUN
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


async def test_a_streamed_run_is_the_same_tree(provider: FakeProvider, captured: Captured) -> None:
    events = await voyage(captain(), streaming_mode=StreamingMode.SSE)
    assert any(event.partial for event in events)
    assert ordered(crew.tree(captured.spans)) == RUN
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


async def test_the_conversation_is_that_of_all_calls(provider: FakeProvider, captured: Captured) -> None:
    await voyage(captain(), "trip")
    assert {span.attributes["gen_ai.conversation.id"] for span in captured.spans} == {"trip"}


@pytest.mark.parametrize("mode", [StreamingMode.NONE, StreamingMode.SSE])
async def test_a_model_without_an_observed_client_counts(captured: Captured, mode: StreamingMode) -> None:
    events = await voyage(captain(AtHand), streaming_mode=mode)
    assert ordered(crew.tree(captured.spans)) == HERE
    used = [event.usage_metadata for event in events if event.usage_metadata is not None]
    calls = [call for call in captured.calls if call.kind == "inference"]
    assert len(calls) == len(used) + 1  # the pilot's stays with the tool
    assert all(call.stream is (mode is StreamingMode.SSE and call.agent == "captain") for call in calls)
    (root,) = (call for call in captured.calls if call.name == "captain")
    assert root.run.own_input_tokens == sum(each.prompt_token_count for each in used)
    assert root.run.own_output_tokens == sum(each.candidates_token_count + 2 for each in used)
    last = calls[-1]
    assert last.usage is not None
    assert (last.usage.cache_read, last.usage.reasoning, last.response_model) == (1, 2, "almanac-2")
    assert (last.finish_reasons, last.first_chunk_clock > 0) == (["stop"], last.stream)


async def test_a_hand_off_gives_the_other_agent_its_own_run(
    monkeypatch: pytest.MonkeyPatch, captured: Captured
) -> None:
    def handing(ask: Ask) -> Reply:
        said = "\n".join(piece.text for piece in ask.pieces)
        if crew.CAPTAIN in said and crew.PILOT not in said and "transfer_to_agent(" not in said:
            return Reply("", [ToolCall("transfer_to_agent", json.dumps({"agent_name": "pilot"}))], "tools", 10, 0)
        return Reply(crew.PILOTED, (), "stop", 3, 0)

    with FakeProvider(model=handing) as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        events = await voyage(captain(tools=[], sub_agents=[pilot()]))
    assert events[-1].author == "pilot"
    spans = {span.name: span for span in captured.spans}
    assert set(spans) == {
        "chat gpt-4o-mini",
        "execute_tool transfer_to_agent",
        "invoke_agent captain",
        "invoke_agent pilot",
    }
    assert {span.attributes["gen_ai.conversation.id"] for span in captured.spans} == {"trip"}
    runs = {call.name: call.run for call in captured.calls if call.kind == "agent"}
    assert (runs["captain"].own_model_calls, runs["captain"].tool_calls, runs["pilot"].own_model_calls) == (1, 1, 1)
    said, true = crew.totals(captured.spans, provider.served)
    assert said == true


async def test_workflow_agents_are_workflows(captured: Captured) -> None:
    fleet = SequentialAgent(
        name="fleet",
        sub_agents=[
            ParallelAgent(name="watch", sub_agents=[pilot(AtHand), pilot(AtHand).clone(update={"name": "mate"})]),
            LoopAgent(name="rounds", sub_agents=[pilot(AtHand).clone(update={"name": "cook"})], max_iterations=2),
        ],
    )
    await voyage(fleet)
    names = re.findall(r"^ *\S+ \S+", crew.tree(captured.spans), re.M)
    assert names == [
        "invoke_workflow fleet",
        "  invoke_workflow watch",
        "    invoke_agent mate",
        "      generate_content gpt-4o-mini",
        "    invoke_agent pilot",
        "      generate_content gpt-4o-mini",
        "  invoke_workflow rounds",
        "    invoke_agent cook",
        "      generate_content gpt-4o-mini",
        "    invoke_agent cook",
        "      generate_content gpt-4o-mini",
    ]
    (root,) = (call for call in captured.calls if call.name == "fleet")
    assert (root.kind, root.run.model_calls, root.run.own_model_calls) == ("workflow", 4, 0)


async def test_the_programs_events_are_the_same(provider: FakeProvider) -> None:
    plain = told(await voyage(captain(), streaming_mode=StreamingMode.SSE))
    with capture():
        watched = told(await voyage(captain(), streaming_mode=StreamingMode.SSE))
    assert watched == plain


async def test_the_programs_exception_is_the_same(provider: FakeProvider, captured: Captured) -> None:
    with pytest.raises(ConnectionError, match="no signal"):
        await voyage(captain(on_tool_error_callback=None))
    failed = [span.name for span in captured.spans if not span.status.is_unset]
    assert failed == ["execute_tool radio", "invoke_agent captain"]


@pytest.mark.parametrize("close", [True, False])
async def test_an_abandoned_run_leaves_no_open_span(provider: FakeProvider, captured: Captured, close: bool) -> None:
    async def leave() -> None:
        runner = await prepared(captain(), "trip")
        events = runner.run_async(**asked("trip"))
        async for _ in events:
            break
        if close:
            await events.aclose()
        del events
        gc.collect()

    await asyncio.create_task(leave())
    await asyncio.sleep(0.05)
    gc.collect()
    assert [span.name for span in captured.spans] == ["chat gpt-4o-mini", "invoke_agent captain"]
    assert all(span.status.is_unset for span in captured.spans)
    assert not trace.get_current_span().get_span_context().is_valid


async def test_content_is_there_only_where_it_is_captured(provider: FakeProvider) -> None:
    with capture() as silent:
        await voyage(captain())
    with capture(capture_content=True) as captured:
        await voyage(captain())
    words = (crew.QUESTION, crew.ANSWER, "high at noon", "chart 7", crew.CAPTAIN)
    assert not [each for each in words if any(each in str(span.attributes) for span in silent.spans)]
    tide = next(span for span in captured.spans if span.name == "execute_tool tide").attributes
    assert "port" in json.loads(str(tide["gen_ai.tool.call.arguments"]))
    assert "high at noon" in str(tide["gen_ai.tool.call.result"])
    root = next(span for span in captured.spans if span.name == "invoke_agent captain").attributes
    assert crew.QUESTION in str(root["gen_ai.input.messages"])
    assert json.loads(str(root["gen_ai.output.messages"]))[0]["parts"] == [{"type": "text", "content": crew.ANSWER}]


async def test_content_of_a_model_without_an_observed_client(captured: Captured) -> None:
    with capture(capture_content=True) as captured:
        await voyage(captain(AtHand))
    last = [span for span in captured.spans if span.name.startswith("generate_content")][-1].attributes
    assert crew.ANSWER in str(last["gen_ai.output.messages"])
    assert crew.CAPTAIN in str(last["gen_ai.system_instructions"])
    roles = [part["type"] for each in json.loads(str(last["gen_ai.input.messages"])) for part in each["parts"]]
    assert {"text", "tool_call", "tool_call_response"} == set(roles)


class Own(BaseAgent):
    """A program's own kind of agent."""

    async def _run_async_impl(self, ctx: Any) -> Any:
        async with aclosing(self.sub_agents[0].run_async(ctx)) as events:
            async for event in events:
                yield event


async def test_uninstrument_restores_the_same_objects() -> None:
    owners = [(BaseAgent, "run_async"), (BaseAgent, "run_live"), (BaseLlmFlow, "_run_and_handle_error")]
    owners += [(LlmAgent, "_run_async_impl"), (Own, "_run_async_impl")]
    before = [vars(owner)[name] for owner, name in owners]
    with capture() as captured:
        await voyage(Own(name="own", sub_agents=[pilot(AtHand)]))
        assert not [name for (owner, name), one in zip(owners, before, strict=True) if vars(owner)[name] is one]
    assert [vars(owner)[name] for owner, name in owners] == before
    names = re.findall(r"\S+ \S+", crew.tree(captured.spans))
    assert names[0] == "invoke_agent own"


async def test_runs_at_once_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    await asyncio.gather(voyage(captain(), "east"), voyage(captain(), "west"))
    for trip in ("east", "west"):
        spans = [span for span in captured.spans if span.attributes["gen_ai.conversation.id"] == trip]
        assert ordered(crew.tree(spans)) == RUN.replace("'trip'", f"'{trip}'")


def test_runs_in_threads_do_not_mix(captured: Captured) -> None:
    def sail(trip: str) -> None:
        asyncio.run(voyage(captain(AtHand), trip))

    threads = [threading.Thread(target=sail, args=(trip,)) for trip in ("east", "west")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for trip in ("east", "west"):
        spans = [span for span in captured.spans if span.attributes["gen_ai.conversation.id"] == trip]
        assert ordered(crew.tree(spans)) == HERE.replace("'trip'", f"'{trip}'")


# --- ADK's own spans --------------------------------------------------------------------------------------------------


@pytest.fixture
def native(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is the global one, as in a program: ADK's spans go there, too."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", captured.tracer_provider)
    monkeypatch.setattr(tracing.tracer, "_real_tracer", captured.tracer_provider.get_tracer("gcp.vertex.agent"))


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("model", [Afar, AtHand])
async def test_adks_own_spans_are_the_spans(provider: FakeProvider, captured: Captured, model: type[BaseLlm]) -> None:
    await voyage(captain(model))
    scopes = {span.instrumentation_scope.name for span in captured.spans}
    assert scopes == {"gcp.vertex.agent"}
    names = [span.name for span in captured.spans]
    assert {name: names.count(name) for name in sorted(set(names)) if not name.startswith(("invo", "call_llm"))} == {
        "execute_tool (merged)": 1,
        "execute_tool chart": 1,
        "execute_tool pilot": 1,
        "execute_tool radio": 1,
        "execute_tool tide": 1,
        "generate_content gpt-4o-mini": 5,
    }
    assert (names.count("invoke_agent captain"), names.count("invoke_agent pilot")) == (1, 1)
    (root,) = (span.attributes for span in captured.spans if span.name == "invoke_agent captain")
    assert (root["seatrace.run.model_calls"], root["seatrace.run.tool_calls"]) == (5, 4)
    calls = [call for call in captured.calls if call.kind == "inference"]
    assert root["gen_ai.usage.input_tokens"] == sum(call.usage.input_tokens for call in calls if call.usage)
    models = [span.attributes for span in captured.spans if span.name.startswith("generate_content")]
    assert all(each["gen_ai.usage.input_tokens"] > 0 and "gen_ai.response.finish_reasons" in each for each in models)
    assert captured.total("gen_ai.client.inference.usage.input_tokens") == root["gen_ai.usage.input_tokens"]
    radio = next(span.attributes for span in captured.spans if span.name == "execute_tool radio")
    assert radio["error.type"]


@pytest.mark.usefixtures("native")
async def test_workflow_agents_own_spans_are_the_spans(captured: Captured) -> None:
    await voyage(SequentialAgent(name="fleet", sub_agents=[pilot(AtHand)]))
    found = [span for span in captured.spans if span.name == "invoke_agent fleet"]
    assert [span.attributes["gen_ai.operation.name"] for span in found] == ["invoke_workflow"]
    assert found[0].attributes["seatrace.run.model_calls"] == 1
    assert {span.instrumentation_scope.name for span in captured.spans} == {"gcp.vertex.agent"}


if find_spec("google.adk.workflow"):  # since 2.0
    from google.adk import workflow

    async def test_a_graph_is_a_workflow(captured: Captured) -> None:
        await voyage(workflow.Workflow(name="passage", edges=[("START", pilot(AtHand))]))
        names = re.findall(r"^ *\S+ \S+", crew.tree(captured.spans), re.M)
        assert names == ["invoke_workflow passage", "  invoke_agent pilot", "    generate_content gpt-4o-mini"]
        assert captured.calls[-1].conversation_id == "trip"

    @pytest.mark.usefixtures("native")
    async def test_a_graphs_own_span_is_the_span(captured: Captured) -> None:
        await voyage(workflow.Workflow(name="passage", edges=[("START", pilot(AtHand))]))
        (graph,) = (span for span in captured.spans if span.name == "invoke_workflow passage")
        assert graph.attributes["seatrace.run.model_calls"] == 1
        assert {span.instrumentation_scope.name for span in captured.spans} == {"gcp.vertex.agent"}


# --- Gemini -----------------------------------------------------------------------------------------------------------

_USAGE = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 5,
    "candidatesTokenCount": 7,
    "thoughtsTokenCount": 3,
    "totalTokenCount": 30,
}


class _Gemini(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        stream = "streamGenerateContent" in self.path
        content = {"role": "model", "parts": [{"text": crew.PILOTED}]}
        answer = {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": _USAGE}
        answer["modelVersion"] = "gemini-2.5-flash-001"
        body = json.dumps(answer)
        body = f"data: {body}\n\n" if stream else body
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def gemini(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gemini)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("GOOGLE_API_KEY", "test")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("gemini")
@pytest.mark.parametrize("mode", [StreamingMode.NONE, StreamingMode.SSE])
async def test_gemini_counts(captured: Captured, mode: StreamingMode) -> None:
    agent = LlmAgent(name="pilot", model="gemini-2.5-flash", instruction=crew.PILOT)
    events = await voyage(agent, streaming_mode=mode)
    assert events[-1].content.parts[0].text == crew.PILOTED
    (call,) = (call for call in captured.calls if call.kind == "inference")
    assert (call.provider, call.request_model, call.response_model) == (
        "gcp.gemini",
        "gemini-2.5-flash",
        "gemini-2.5-flash-001",
    )
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (20, 10)
    assert (call.usage.cache_read, call.usage.reasoning, call.stream) == (5, 3, mode is StreamingMode.SSE)
    assert call.cost is not None
