"""mcp and fastmcp, client and server in one process."""

from __future__ import annotations

import asyncio
import inspect
import logging
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from inline_snapshot import snapshot
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import seatrace
from frameworks.crew import CAPTAIN, MODEL, QUESTION, totals
from frameworks.mcp.harbour import LIBRARIES, MODERN, aboard, build
from frameworks.mcp.memory import connect, outcome, serving, tree
from seatrace import libraries
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning" if MODERN else "ignore:Unclosed"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),  # streams that 1.x leaves open
]
every_library = pytest.mark.parametrize("library", LIBRARIES)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Their logs of failing tools are long."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def voyage(library: str, **options: Any) -> list[Any]:
    async with connect(library, **options) as session:
        with seatrace.agent("captain"):
            return [
                repr(await session.list_tools()),
                *await asyncio.gather(
                    outcome(session.call_tool("tide", {"port": "Oban"})),
                    outcome(session.call_tool("chart", {"port": "Oban"})),
                ),
                await outcome(session.call_tool("radio", {"channel": 3})),
                await outcome(session.get_prompt("log", {"day": "Monday"})),
                await outcome(session.read_resource("harbour://plan")),
            ]


@every_library
def test_a_voyage_is_one_tree(library: str, captured: Captured) -> None:
    asyncio.run(voyage(library))
    assert tree(captured.spans) == snapshot("""\
invoke_agent captain agent.name='captain' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=3
  tools/list mcp.method.name='tools/list'
    tools/list mcp.method.name='tools/list'
  tools/call chart tool.name='chart' mcp.method.name='tools/call'
    tools/call chart tool.name='chart' mcp.method.name='tools/call'
  tools/call tide tool.name='tide' mcp.method.name='tools/call'
    tools/call tide tool.name='tide' mcp.method.name='tools/call'
  tools/call radio ERROR error.type='tool_error' tool.name='radio' mcp.method.name='tools/call'
    tools/call radio ERROR error.type='tool_error' tool.name='radio' mcp.method.name='tools/call'
  prompts/get log prompt.name='log' mcp.method.name='prompts/get'
    prompts/get log prompt.name='log' mcp.method.name='prompts/get'
  resources/read mcp.method.name='resources/read' mcp.resource.uri='harbour://plan'
    resources/read mcp.method.name='resources/read' mcp.resource.uri='harbour://plan'\
""")
    kinds = {span.kind for span in captured.spans if span.name.startswith("tools/")}
    assert kinds == {SpanKind.CLIENT, SpanKind.SERVER}


@every_library
def test_each_request_is_counted_once_on_each_side(library: str, captured: Captured) -> None:
    asyncio.run(voyage(library))
    for side in ("client", "server"):
        points = captured.points(f"mcp.{side}.operation.duration")
        asked = sum(
            span.kind.name == side.upper() and "mcp.method.name" in (span.attributes or {}) for span in captured.spans
        )
        assert sum(point.count for point in points) == asked == 7
        [radio] = [point for point in points if point.attributes.get("gen_ai.tool.name") == "radio"]
        version = radio.attributes["mcp.protocol.version"]
        assert dict(radio.attributes) == {
            "mcp.method.name": "tools/call",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "radio",
            "mcp.protocol.version": version,
            "error.type": "tool_error",
        }
        [session] = captured.points(f"mcp.{side}.session.duration")
        assert session.count == 1
    ids = [(span.attributes or {}).get("jsonrpc.request.id") for span in captured.spans if span.kind is SpanKind.SERVER]
    assert len(set(ids)) == 7
    assert None not in ids


@every_library
def test_nothing_changes_for_the_program(library: str) -> None:
    bare = asyncio.run(voyage(library))
    with capture():
        assert asyncio.run(voyage(library)) == bare


def test_signatures_stay_and_uninstrument_restores_the_same_objects() -> None:
    from mcp import ClientSession

    signature = inspect.signature(ClientSession.send_request)
    build("fastmcp")
    with capture():
        assert inspect.signature(ClientSession.send_request) == signature
        replaced = [each for name in ("mcp", "fastmcp") for each in libraries._patches[name]._done]
        assert all(vars(owner)[name] is ours for owner, name, _, ours in replaced)
        assert {each.name: each.detail for each in seatrace.status() if each.state == "observed"} == {
            "openai": "",
            "anthropic": "",
            "mcp": "",
            "fastmcp": "",
        } or seatrace.status()
    assert len(replaced) > 5
    assert all(vars(owner)[name] is original for owner, name, original, _ in replaced)


# --- tools ------------------------------------------------------------------------------------------------------------


@every_library
def test_a_tool_around_a_call_of_the_same_tool_is_its_span(library: str, captured: Captured) -> None:
    async def sail() -> None:
        async with connect(library) as session:
            with seatrace.agent("captain"):
                for name, arguments in (("tide", {"port": "Oban"}), ("radio", {"channel": 3})):
                    with seatrace.tool(name):
                        await outcome(session.call_tool(name, arguments))
                with seatrace.tool("harbour_chart"):
                    await session.call_tool("chart", {"port": "Oban"})

    asyncio.run(sail())
    assert tree(captured.spans) == snapshot("""\
invoke_agent captain agent.name='captain' seatrace.run.model_calls=0 seatrace.run.steps=0 seatrace.run.tool_calls=3
  execute_tool tide agent.name='captain' tool.name='tide' mcp.method.name='tools/call'
    tools/call tide tool.name='tide' mcp.method.name='tools/call'
    tools/list mcp.method.name='tools/list'
      tools/list mcp.method.name='tools/list'
  execute_tool radio ERROR error.type='tool_error' agent.name='captain' tool.name='radio' mcp.method.name='tools/call'
    tools/call radio ERROR error.type='tool_error' tool.name='radio' mcp.method.name='tools/call'
  execute_tool harbour_chart agent.name='captain' tool.name='harbour_chart'
    tools/call chart tool.name='chart' mcp.method.name='tools/call'
      tools/call chart tool.name='chart' mcp.method.name='tools/call'\
""")
    assert captured.total("gen_ai.invoke_agent.tool_calls") == 3
    counted = captured.points("mcp.client.operation.duration")
    assert sum(point.count for point in counted if point.attributes["mcp.method.name"] == "tools/call") == 3


@every_library
def test_a_failing_tool_keeps_its_exception_at_the_server(library: str, captured: Captured) -> None:
    asyncio.run(voyage(library))
    [event] = [each for each in captured.events if each.attributes["exception.type"] == "ConnectionError"]
    assert event.event_name == "gen_ai.execute_tool.exception"
    [radio] = [each for each in captured.spans if each.name == "tools/call radio" and each.kind is SpanKind.SERVER]
    assert radio.status.description == "no signal"
    assert event.span_id == radio.get_span_context().span_id


@every_library
def test_a_model_called_by_a_tool_is_below_the_servers_span(
    library: str, captured: Captured, provider: FakeProvider
) -> None:
    async def sail() -> None:
        async with connect(library) as session:
            await session.call_tool("pilot", {"question": "Where?"})

    asyncio.run(sail())
    assert tree(captured.spans) == snapshot("""\
tools/call pilot tool.name='pilot' mcp.method.name='tools/call'
  tools/call pilot tool.name='pilot' mcp.method.name='tools/call'
    chat gpt-4o-mini
tools/list mcp.method.name='tools/list'
  tools/list mcp.method.name='tools/list'\
""")


def test_an_agent_over_mcp_is_rolled_up(captured: Captured, provider: FakeProvider) -> None:
    import openai

    async def sail() -> None:
        async with connect("mcp") as session, openai.AsyncOpenAI() as client:
            with seatrace.agent("captain"):
                offered = [
                    {"type": "function", "function": {"name": each.name, "parameters": _schema(each)}}
                    for each in (await session.list_tools()).tools
                    if each.name not in ("pilot", "wait")
                ]
                messages: list[Any] = [{"role": "system", "content": CAPTAIN}, {"role": "user", "content": QUESTION}]
                while True:
                    answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=offered)
                    said = answer.choices[0].message
                    messages.append(said)
                    if not said.tool_calls:
                        return
                    for call in said.tool_calls:
                        import json

                        result = await session.call_tool(call.function.name, json.loads(call.function.arguments))
                        messages.append({"role": "tool", "tool_call_id": call.id, "content": result.content[0].text})

    asyncio.run(sail())
    said, true = totals([span for span in captured.spans if span.name == "invoke_agent captain"], provider.served)
    assert said == true
    [run] = [span for span in captured.spans if span.name == "invoke_agent captain"]
    assert (run.attributes or {})["seatrace.run.tool_calls"] == 3
    assert captured.total("gen_ai.invoke_agent.tool_calls") == 3


def _schema(tool: Any) -> Any:
    return getattr(tool, "inputSchema", None) or tool.input_schema


def test_an_agent_that_repeats_a_call_over_mcp_is_seen() -> None:
    async def sail() -> None:
        async with connect("mcp") as session:
            with seatrace.agent("captain"):
                for _ in range(9):
                    await session.call_tool("tide", {"port": "Oban"})

    with capture() as captured:
        asyncio.run(sail())
        assert captured.total("seatrace.agent.loops", seatrace_loop_reason="repeat") == 1


# --- content ----------------------------------------------------------------------------------------------------------


@every_library
def test_content_is_recorded_only_where_it_is_asked_for(library: str, captured: Captured) -> None:
    asyncio.run(voyage(library))
    told = repr(
        [(span.name, span.attributes) for span in captured.spans] + [each.attributes for each in captured.events]
    )
    assert "Oban" not in told
    assert "noon" not in told
    with capture(capture_content=True) as told_all:
        asyncio.run(voyage(library))
    tides = [dict(span.attributes or {}) for span in told_all.spans if span.name == "tools/call tide"]
    assert len(tides) == 2
    for tide in tides:
        assert tide["gen_ai.tool.call.arguments"] == '{"port": "Oban"}'
        assert "high at noon in Oban" in str(tide["gen_ai.tool.call.result"])


# --- errors and ends --------------------------------------------------------------------------------------------------


@every_library
def test_for_who_asks_every_error_is_one_for_who_answers_only_its_own(library: str, captured: Captured) -> None:
    async def sail() -> None:
        async with connect(library) as session:
            await outcome(session.read_resource("harbour://nowhere"))

    asyncio.run(sail())
    asked, answered = sorted(
        (span for span in captured.spans if span.name == "resources/read"), key=lambda span: span.kind.name
    )
    code = "-32602" if MODERN else "0"
    for span in (asked, answered):
        assert (span.attributes or {})["rpc.response.status_code"] == code
        assert (span.attributes or {})["mcp.resource.uri"] == "harbour://nowhere"
    assert (asked.attributes or {})["error.type"] == code
    assert asked.status.status_code.name == "ERROR"
    assert answered.status.status_code.name == ("UNSET" if MODERN else "ERROR")  # 1.x tells every exception as 0
    for point in captured.points("mcp.client.operation.duration"):
        assert "mcp.resource.uri" not in point.attributes


def test_a_timeout_ends_each_span_once(captured: Captured) -> None:
    async def sail() -> None:
        async with connect("mcp") as session:
            limit: Any = 0.05 if MODERN else timedelta(seconds=0.05)
            failed = await outcome(session.call_tool("wait", {"seconds": 3}, read_timeout_seconds=limit))
            assert "imed out" in failed[1]

    asyncio.run(sail())
    _ended_once(captured, "-32001" if MODERN else "408")


@every_library
def test_a_cancelled_call_ends_each_span_once(library: str, captured: Captured) -> None:
    async def sail() -> None:
        async with connect(library) as session:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(session.call_tool("wait", {"seconds": 3}), 0.05)

    asyncio.run(sail())
    _ended_once(captured, "CancelledError")


def _ended_once(captured: Captured, error: str) -> None:
    waits = [span for span in captured.spans if span.name == "tools/call wait"]
    assert sorted(span.kind.name for span in waits) == ["CLIENT", "SERVER"]
    [asked] = [span for span in waits if span.kind is SpanKind.CLIENT]
    assert (asked.attributes or {})["error.type"] == error
    for side in ("client", "server"):
        counted = captured.points(f"mcp.{side}.operation.duration")
        assert sum(point.count for point in counted if point.attributes.get("gen_ai.tool.name") == "wait") == 1


@every_library
def test_runs_at_the_same_time_do_not_mix(library: str, captured: Captured) -> None:
    async def sail(name: str, session: Any) -> None:
        with seatrace.agent(name):
            for _ in range(3):
                await session.call_tool("wait", {"seconds": 0.01})

    async def fleet() -> None:
        async with connect(library) as session:
            await asyncio.gather(*(sail(f"captain {number}", session) for number in range(3)))

    asyncio.run(fleet())
    runs = {span.get_span_context().span_id: span for span in captured.spans if span.name.startswith("invoke_agent")}
    asked = {span.get_span_context().span_id: span for span in captured.spans if span.name == "tools/call wait"}
    assert [(run.attributes or {})["seatrace.run.tool_calls"] for run in runs.values()] == [3, 3, 3]
    for span in asked.values():
        assert span.parent is not None
        around = runs if span.kind is SpanKind.CLIENT else asked
        assert span.parent.span_id in around
        assert around[span.parent.span_id].context.trace_id == span.context.trace_id


# --- servers that ask -------------------------------------------------------------------------------------------------


def test_a_server_that_asks_its_client_is_a_client_there(captured: Captured) -> None:
    types = import_module("mcp.types")
    server = build("mcp")

    async def ask(ctx: Any) -> str:
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="?"))
        answer = await ctx.session.create_message(messages=[message], max_tokens=5)
        return answer.content.text  # type: ignore[no-any-return]

    ask.__annotations__["ctx"] = import_module("mcp.server.mcpserver" if MODERN else "mcp.server.fastmcp").Context
    server.tool()(ask)

    async def sample(*_: Any) -> Any:
        content = types.TextContent(type="text", text="north")
        return types.CreateMessageResult(role="assistant", content=content, model="a man")

    async def sail() -> None:
        options: dict[str, Any] = {"mode": "legacy"} if MODERN else {}
        async with connect("mcp", server, sampling_callback=sample, **options) as session:
            assert "north" in repr(await session.call_tool("ask", {}))

    asyncio.run(sail())
    assert tree(captured.spans) == snapshot("""\
tools/call ask tool.name='ask' mcp.method.name='tools/call'
  tools/call ask tool.name='ask' mcp.method.name='tools/call'
    sampling/createMessage mcp.method.name='sampling/createMessage'
      sampling/createMessage mcp.method.name='sampling/createMessage'
tools/list mcp.method.name='tools/list'
  tools/list mcp.method.name='tools/list'\
""")


# --- over HTTP --------------------------------------------------------------------------------------------------------


@every_library
def test_http_says_with_whom_one_speaks(library: str, captured: Captured) -> None:
    with serving(library) as port:

        async def sail() -> None:
            async with aboard(port, library) as session:
                await session.call_tool("tide", {"port": "Oban"})

        asyncio.run(sail())
    asked, answered = sorted(
        (span for span in captured.spans if span.name == "tools/call tide"), key=lambda span: span.kind.name
    )
    assert answered.parent is not None
    assert answered.parent.span_id == asked.get_span_context().span_id
    told, heard = dict(asked.attributes or {}), dict(answered.attributes or {})
    assert (told["server.address"], told["server.port"]) == ("127.0.0.1", int(port))
    assert heard["client.address"] == "127.0.0.1"
    assert told["mcp.session.id"] == heard["mcp.session.id"]
    for each in (told, heard):
        assert (each["network.transport"], each["network.protocol.name"]) == ("tcp", "http")
    [session] = captured.points("mcp.client.session.duration")
    assert dict(session.attributes) == {
        "mcp.protocol.version": told["mcp.protocol.version"],
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "server.address": "127.0.0.1",
        "server.port": int(port),
    }


# --- native spans -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not MODERN, reason="this mcp has no native spans")
@every_library
def test_native_spans_rest_while_ours_are_made(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, native = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(native))
    monkeypatch.setattr(import_module("mcp.shared._otel"), "_tracer", provider.get_tracer("mcp-python-sdk"))
    monkeypatch.setattr(import_module("fastmcp.telemetry"), "otel_get_tracer", provider.get_tracer)
    asyncio.run(voyage(library))
    bare = len(native.get_finished_spans())
    assert bare >= 7  # servers; in one process mcp itself has none for clients
    native.clear()
    with capture() as captured:
        asyncio.run(voyage(library))
        assert [span.name for span in native.get_finished_spans() if not span.name.startswith("notifications/")] == []
        assert len(captured.spans) == 15
        native.clear()
        with seatrace.suppress():
            asyncio.run(voyage(library))
        assert len(native.get_finished_spans()) == bare


def test_the_programs_own_request_is_not_changed(captured: Captured) -> None:
    types = import_module("mcp.types")
    params = types.CallToolRequestParams(name="tide", arguments={"port": "Oban"})
    request = (
        types.CallToolRequest(params=params) if MODERN else types.CallToolRequest(method="tools/call", params=params)
    )
    asked = request if MODERN else types.ClientRequest(request)
    before = asked.model_dump()

    async def sail() -> None:
        async with connect("mcp") as client:
            session = client.session if MODERN else client
            await session.send_request(asked, types.CallToolResult)

    asyncio.run(sail())
    assert asked.model_dump() == before
