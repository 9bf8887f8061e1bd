# ruff: noqa: E501
"""OpenAI Agents SDK: runs, hand-offs, agents as tools, tools, streaming; both of its OpenAI models, and others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import agents.run
import agents.tool
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    UserError,
    function_tool,
    set_tracing_disabled,
)
from agents.mcp import MCPServerStdio
from agents.result import RunResult, RunResultStreaming
from agents.run_internal import run_loop, tool_execution
from inline_snapshot import snapshot
from openai import AsyncOpenAI

import seatrace
from frameworks.agents.scripted import Scripted, calls
from frameworks.crew import CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, chart, radio, tide, totals, tree
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

API: dict[str, Any] = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
TOOLS = (tide, chart, radio)

VOYAGE = snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('tool_call',) seatrace.run.model_calls=4 seatrace.run.steps=3 seatrace.run.tool_calls=3 seatrace.run.unpriced_calls=4
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")
ASKED = snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  execute_tool ask_pilot agent.name='captain' tool.description='Asks the pilot.' tool.name='ask_pilot' tool.type='function'
    invoke_agent pilot agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
      chat gpt-4o-mini
  chat gpt-4o-mini\
""")


@pytest.fixture(autouse=True)
def no_backend() -> None:
    set_tracing_disabled(True)


@pytest.fixture
def loop() -> Iterator[None]:
    """The one that ``run_sync`` takes; it would make one and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


def agent(name: str, instructions: str, api: str = "responses", **details: Any) -> Agent:
    client = AsyncOpenAI(default_headers={"Connection": "close"})
    settings = ModelSettings(include_usage=True)
    return Agent(
        name=name, instructions=instructions, model=API[api](MODEL, client), model_settings=settings, **details
    )


def captain(api: str = "responses", **details: Any) -> Agent:
    """Hands over to the pilot."""
    pilot = agent("pilot", PILOT, api, handoff_description="Knows the port.")
    tools = [function_tool(each) for each in TOOLS]
    return agent("captain", CAPTAIN, api, **{"tools": tools, "handoffs": [pilot], **details})


def asking_captain() -> Agent:
    """Asks the pilot."""
    pilot = agent("pilot", PILOT).as_tool("ask_pilot", "Asks the pilot.")
    return captain(tools=[*(function_tool(each) for each in TOOLS), pilot], handoffs=[])


def parrot(*answers: Any, name: str = "parrot", **details: Any) -> Agent:
    return Agent(name=name, model=Scripted(*answers), **details)


def whole(captured: Captured, provider: FakeProvider) -> str:
    """The tree, of which every call is counted once."""
    said, true = totals(captured.spans, provider.served)
    assert said == true
    return tree(captured.spans)


def attributes(captured: Captured, name: str) -> dict[str, Any]:
    return next(dict(span.attributes or {}) for span in captured.spans if span.name == name)


async def streamed(agent: Agent, question: Any = QUESTION, **options: Any) -> RunResultStreaming:
    result = Runner.run_streamed(agent, question, **options)
    async for _ in result.stream_events():
        pass
    return result


async def ran(agent: Agent, question: Any = QUESTION, **options: Any) -> RunResult:
    return await Runner.run(agent, question, **options)


both = pytest.mark.parametrize("run", [ran, streamed])
Run = Callable[..., Any]


# --- the voyage -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loop")
@pytest.mark.parametrize("api", API)
def test_run_in_a_loop_of_its_own(api: str, provider: FakeProvider, captured: Captured) -> None:
    assert Runner.run_sync(captain(api), QUESTION).final_output == PILOTED
    assert whole(captured, provider) == VOYAGE


@both
@pytest.mark.parametrize("api", API)
async def test_run(run: Run, api: str, provider: FakeProvider, captured: Captured) -> None:
    assert (await run(captain(api))).final_output == PILOTED
    assert whole(captured, provider) == VOYAGE


@both
async def test_an_agent_as_a_tool_runs_within_the_tool(run: Run, provider: FakeProvider, captured: Captured) -> None:
    await run(asking_captain())
    assert whole(captured, provider) == ASKED


async def test_runs_at_the_same_time_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    await asyncio.gather(ran(captain()), streamed(captain("chat")))
    by_trace: dict[int, list[Any]] = {}
    for span in captured.spans:
        by_trace.setdefault(span.context.trace_id, []).append(span)
    assert [tree(spans) for spans in by_trace.values()] == [VOYAGE, VOYAGE]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the loops that run_sync makes in threads
async def test_runs_in_threads_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    def run() -> None:
        asyncio.set_event_loop(loop := asyncio.new_event_loop())
        Runner.run_sync(captain(), QUESTION)
        loop.close()

    await asyncio.gather(asyncio.to_thread(run), asyncio.to_thread(run))
    by_trace: dict[int, list[Any]] = {}
    for span in captured.spans:
        by_trace.setdefault(span.context.trace_id, []).append(span)
    assert [tree(spans) for spans in by_trace.values()] == [VOYAGE, VOYAGE]


# --- turns ----------------------------------------------------------------------------------------------------------


@both
async def test_each_agent_that_takes_over_has_its_span(run: Run, captured: Captured) -> None:
    mate = parrot(calls("transfer_to_skipper"), name="mate")
    skipper = parrot(calls("transfer_to_mate"), calls("whistle"), "Ahoy.", name="skipper", handoffs=[mate])
    mate.handoffs = [skipper]
    skipper.tools = [function_tool(lambda: "tweet", name_override="whistle", description_override="Whistles.")]
    assert (await run(skipper)).final_output == "Ahoy."
    assert tree(captured.spans) == snapshot("""\
invoke_agent skipper agent.name='skipper' seatrace.run.model_calls=4 seatrace.run.steps=1 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=4
  chat parrot
  invoke_agent mate agent.name='mate' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat parrot
  invoke_agent skipper agent.name='skipper' seatrace.run.model_calls=2 seatrace.run.steps=2 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=2
    chat parrot
    execute_tool whistle agent.name='skipper' tool.description='Whistles.' tool.name='whistle' tool.type='function'
    chat parrot\
""")


@both
async def test_a_failure_ends_the_run_and_the_turn(run: Run, captured: Captured) -> None:
    mate = parrot(OSError("overboard"), name="mate")
    with pytest.raises(OSError, match="overboard"):
        await run(parrot(calls("transfer_to_mate"), name="skipper", handoffs=[mate]))
    assert tree(captured.spans) == snapshot("""\
invoke_agent skipper ERROR error.type='OSError' agent.name='skipper' seatrace.run.model_calls=2 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  chat parrot
  invoke_agent mate ERROR error.type='OSError' agent.name='mate' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
    chat parrot ERROR\
""")


@both
async def test_a_run_that_waited_for_an_approval_goes_on(run: Run, captured: Captured) -> None:
    fire = function_tool(lambda: "bang", name_override="fire", description_override="Fires.", needs_approval=True)
    mate = parrot(calls("fire"), "Aye.", name="mate", tools=[fire])
    skipper = parrot(calls("transfer_to_mate"), name="skipper", handoffs=[mate])
    first = await run(skipper)
    state = first.to_state()
    state.approve(first.interruptions[0])
    assert (await run(skipper, state)).final_output == "Aye."
    assert tree(captured.spans) == snapshot("""\
invoke_agent skipper agent.name='skipper' seatrace.run.model_calls=2 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=2
  chat parrot
  invoke_agent mate agent.name='mate' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat parrot
invoke_agent mate agent.name='mate' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=1
  execute_tool fire agent.name='mate' tool.description='Fires.' tool.name='fire' tool.type='function'
  chat parrot\
""")


@both
async def test_the_session_is_the_conversation(run: Run, captured: Captured) -> None:
    whistle = function_tool(lambda: "tweet", name_override="whistle", description_override="Whistles.")
    session = SQLiteSession("voyage 7")
    await run(parrot(calls("whistle"), "Ahoy.", tools=[whistle]), session=session)
    session.close()
    assert {(span.attributes or {}).get("gen_ai.conversation.id") for span in captured.spans} == {"voyage 7"}


async def test_guardrails_are_not_disturbed(captured: Captured) -> None:
    async def check(context: Any, of: Any, asked: Any) -> GuardrailFunctionOutput:
        verdict = await Runner.run(parrot("pirates", name="watch"), asked)
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=verdict.final_output == "pirates")

    with pytest.raises(InputGuardrailTripwireTriggered):
        await ran(parrot("Ahoy.", input_guardrails=[InputGuardrail(check)]))
    assert "  invoke_agent watch agent.name='watch'" in tree(captured.spans)
    assert attributes(captured, "invoke_agent parrot")["error.type"] == "InputGuardrailTripwireTriggered"


async def test_a_stream_that_is_left_ends_its_spans(provider: FakeProvider, captured: Captured) -> None:
    result = Runner.run_streamed(captain(), QUESTION)
    async for _ in result.stream_events():
        break
    result.cancel()
    await asyncio.gather(result.run_loop_task, return_exceptions=True)
    assert attributes(captured, "invoke_agent captain")["error.type"] == "CancelledError"


def test_a_stream_whose_loop_ends_ends_its_spans(provider: FakeProvider, captured: Captured) -> None:
    async def main() -> None:
        async for _ in Runner.run_streamed(captain(), QUESTION).stream_events():
            break

    asyncio.run(main())
    assert "invoke_agent captain" in {span.name for span in captured.spans}


# --- tools ----------------------------------------------------------------------------------------------------------


async def test_arguments_and_results_are_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as captured:
        await ran(asking_captain())
    seen = attributes(captured, "execute_tool tide")
    assert seen["gen_ai.tool.call.arguments"] == snapshot(
        '{"port": "Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."}'
    )
    assert seen["gen_ai.tool.call.result"] == snapshot(
        "high at noon in Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher."
    )
    assert seen["gen_ai.tool.call.id"].startswith("call_")
    seen = attributes(captured, "invoke_agent captain")
    assert seen["gen_ai.input.messages"] == snapshot(
        '[{"role": "user", "parts": [{"type": "text", "content": "Bring us into port."}]}]'
    )
    assert seen["gen_ai.output.messages"] == snapshot(
        '[{"role": "assistant", "parts": [{"type": "text", "content": "We are moored."}]}]'
    )


async def test_content_is_told_of_streams_too(provider: FakeProvider) -> None:
    with capture(capture_content=True) as captured:
        await streamed(captain())
    seen = attributes(captured, "invoke_agent captain")
    assert seen["gen_ai.output.messages"] == snapshot(
        '[{"role": "assistant", "parts": [{"type": "text", "content": "Steer north."}]}]'
    )


async def test_content_stays_out_unless_it_is_wanted(provider: FakeProvider, captured: Captured) -> None:
    await ran(asking_captain())
    told = "".join(str(span.attributes) + str(span.events) for span in captured.spans)
    assert "high at noon" not in told
    assert QUESTION not in told
    assert PILOTED not in told
    assert "no signal" not in told


@both
async def test_a_tool_that_fails_for_good(run: Run, provider: FakeProvider, captured: Captured) -> None:
    with pytest.raises(UserError, match="no signal"):
        await run(captain(tools=[function_tool(radio, failure_error_function=None)]))
    assert attributes(captured, "execute_tool radio")["error.type"] == "ConnectionError"
    assert attributes(captured, "invoke_agent captain")["error.type"] == "UserError"


async def test_a_tool_that_takes_too_long(captured: Captured) -> None:
    async def doze() -> None:
        await asyncio.sleep(5)

    dozing = function_tool(doze, timeout=0.01)
    assert (await ran(parrot(calls("doze"), "Ahoy.", tools=[dozing]))).final_output == "Ahoy."
    assert attributes(captured, "execute_tool doze")["error.type"] == "ToolTimeoutError"


async def test_a_tool_of_an_mcp_server_that_fails(captured: Captured) -> None:
    script = str(Path(__file__).with_name("mcp_server.py"))
    async with MCPServerStdio({"command": sys.executable, "args": [script]}) as server:
        await ran(parrot(calls("sonar"), "Ahoy.", mcp_servers=[server]))
    seen = attributes(captured, "execute_tool sonar")
    assert seen["error.type"] == "tool_error"
    assert seen["gen_ai.tool.description"] == "Listens."


# --- models without a client that we observe ------------------------------------------------------------------------


@both
async def test_any_model_is_counted(run: Run, captured: Captured) -> None:
    await run(parrot("Ahoy."))
    seen = attributes(captured, "chat parrot")
    assert seen["gen_ai.usage.input_tokens"] == 7
    assert seen["gen_ai.usage.output_tokens"] == 3
    assert "gen_ai.usage.cache_read.input_tokens" not in seen
    assert seen["gen_ai.response.id"] == "r1"


@both
async def test_unknown_usage_stays_unknown(run: Run, captured: Captured) -> None:
    await run(Agent(name="parrot", model=Scripted("Ahoy.", unknown=True)))
    assert "gen_ai.usage.input_tokens" not in attributes(captured, "chat parrot")


# --- guests ---------------------------------------------------------------------------------------------------------


async def told(agent: Agent) -> Any:
    result = Runner.run_streamed(agent, QUESTION)
    events = [(type(event), getattr(event, "name", None)) async for event in result.stream_events()]
    events = [kind for kind, _ in groupby(events)]  # the provider does not cut its words twice alike
    plain = await Runner.run(agent, QUESTION)
    return type(result), events, type(plain), plain.final_output, [type(item) for item in plain.new_items]


async def test_results_and_events_stay_as_they_are(provider: FakeProvider) -> None:
    bare = await told(captain())
    with capture():
        assert await told(captain()) == bare


async def test_errors_stay_as_they_are(provider: FakeProvider) -> None:
    async def fails() -> str:
        with pytest.raises(MaxTurnsExceeded) as caught:
            await ran(captain(), max_turns=1)
        assert caught.value.run_data is not None
        return str(caught.value)

    bare = await fails()
    with capture():
        assert await fails() == bare


async def test_everything_is_put_back(provider: FakeProvider) -> None:
    places = [
        (agents.run.AgentRunner, "run"),
        (agents.run, "start_streaming"),
        (agents.run, "run_single_turn"),
        (run_loop, "run_single_turn_streamed"),
        (run_loop, "get_model"),
        (tool_execution, "invoke_function_tool"),
        (tool_execution, "_invoke_function_tool_with_metadata"),
        (agents.tool, "maybe_invoke_function_tool_failure_error_function"),
        (Scripted, "get_response"),
        (Scripted, "stream_response"),
        (OpenAIResponsesModel, "get_response"),
    ]
    before = [vars(owner).get(name) for owner, name in places]
    with capture():
        await ran(parrot("Ahoy."))
        await ran(captain())
        assert [vars(owner).get(name) for owner, name in places] != before
    assert [vars(owner).get(name) for owner, name in places] == before
    await ran(captain())


def test_status_says_that_it_is_observed(captured: Captured) -> None:
    row = next(each for each in seatrace.status() if each.name == "agents")
    assert str(row).startswith("agents: observed (")
    assert row.detail == ""
