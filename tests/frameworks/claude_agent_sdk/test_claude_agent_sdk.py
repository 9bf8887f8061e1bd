# ruff: noqa: E501
"""Claude Agent SDK: queries and clients on a program that plays Claude Code's; tools in this process, sub-agents."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLINotFoundError,
    ResultMessage,
    create_sdk_mcp_server,
    query,
    tool,
)
from claude_agent_sdk._internal.client import InternalClient
from claude_agent_sdk._internal.query import Query
from inline_snapshot import snapshot

import seatrace
from frameworks import crew
from frameworks.claude_agent_sdk.program import HAIKU, READ, SESSION, SONNET, WROTE
from frameworks.crew import QUESTION, tree
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = [
    # The package leaves it to the garbage collector to close a query that was left.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

VOYAGE = snapshot("""\
invoke_agent claude claude_agent_sdk.num_turns=5 claude_agent_sdk.total_cost_usd=0.25 agent.name='claude' conversation.id='11111111-2222-3333-4444-555555555555' provider.name='anthropic' response.finish_reasons=('stop',) seatrace.run.model_calls=6 seatrace.run.steps=4 seatrace.run.tool_calls=5
  chat claude-sonnet-4-5-20250929
  execute_tool mcp__ship__chart agent.name='claude' conversation.id='11111111-2222-3333-4444-555555555555' tool.name='mcp__ship__chart' tool.type='function'
  execute_tool mcp__ship__tide agent.name='claude' conversation.id='11111111-2222-3333-4444-555555555555' tool.name='mcp__ship__tide' tool.type='function'
  chat claude-sonnet-4-5-20250929
  execute_tool mcp__ship__radio ERROR error.type='tool_error' agent.name='claude' conversation.id='11111111-2222-3333-4444-555555555555' tool.name='mcp__ship__radio' tool.type='function'
  chat claude-sonnet-4-5-20250929
  execute_tool Task agent.name='claude' conversation.id='11111111-2222-3333-4444-555555555555' tool.name='Task' tool.type='function'
    invoke_agent pilot agent.name='pilot' conversation.id='11111111-2222-3333-4444-555555555555' response.finish_reasons=('stop',) seatrace.run.model_calls=2 seatrace.run.steps=2 seatrace.run.tool_calls=1
      chat claude-haiku-4-5-20251001
      execute_tool Read agent.name='pilot' conversation.id='11111111-2222-3333-4444-555555555555' tool.name='Read' tool.type='function'
      chat claude-haiku-4-5-20251001
  chat claude-sonnet-4-5-20250929\
""")

Options = Callable[..., ClaudeAgentOptions]


@tool("tide", "Says when high water is.", {"port": str})
async def tide(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": crew.tide(**given)}]}


@tool("chart", "Finds the chart of a port.", {"port": str})
async def chart(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": crew.chart(**given)}]}


@tool("radio", "Calls the harbour master.", {"channel": int})
async def radio(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": crew.radio(**given)}]}


@tool("tide", "Asks somebody.", {"port": str})
async def asking_tide(given: dict[str, Any]) -> dict[str, Any]:
    async with AsyncAnthropic() as client:
        await client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "tide?"}])
    return {"content": [{"type": "text", "text": "soon"}]}


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.setenv("CLAUDE_AGENT_SDK_SKIP_VERSION_CHECK", "1")
    path = tmp_path / "claude"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("program.py")}" "$@"\n')
    path.chmod(0o755)

    def make(*tools: Any, **details: Any) -> ClaudeAgentOptions:
        ship = create_sdk_mcp_server("ship", tools=list(tools or (tide, chart, radio)))
        return ClaudeAgentOptions(cli_path=path, mcp_servers={"ship": ship}, **details)

    return make


async def asked(options: ClaudeAgentOptions, question: str = QUESTION) -> list[Any]:
    return [message async for message in query(prompt=question, options=options)]


async def client_asked(options: ClaudeAgentOptions, question: str = QUESTION) -> list[Any]:
    async with ClaudeSDKClient(options) as client:
        await client.query(question)
        return [message async for message in client.receive_response()]


both = pytest.mark.parametrize("ask", [asked, client_asked])
Ask = Callable[..., Any]


def own(captured: Captured) -> list[Any]:
    """The spans without those of MCP's own requests, which depend on how a version talks to the servers in the process."""
    return [span for span in captured.spans if "mcp.method.name" not in (span.attributes or {})]


def attributes(captured: Captured, name: str) -> dict[str, Any]:
    return next(dict(span.attributes or {}) for span in captured.spans if span.name == name)


def used(captured: Captured) -> dict[str, int]:
    """By model, what the spans of its calls say that was written."""
    found: dict[str, int] = {}
    for span in captured.spans:
        if span.name.startswith("chat"):
            told = span.attributes or {}
            found[span.name] = found.get(span.name, 0) + told["gen_ai.usage.output_tokens"]  # type: ignore[operator]
    return found


TRUE = {f"chat {SONNET}": sum(WROTE[word] for word in ("ask", "call", "send", "close")), f"chat {HAIKU}": 40}


# --- the voyage -----------------------------------------------------------------------------------------------------


@both
async def test_voyage(ask: Ask, options: Options, captured: Captured) -> None:
    messages = await ask(options())
    assert messages[-1].result == "We are moored."
    assert tree(own(captured)) == VOYAGE


@both
@pytest.mark.parametrize("partial", [False, True])
async def test_each_message_counts_once_and_as_its_result_tells(
    ask: Ask, partial: bool, options: Options, captured: Captured
) -> None:
    await ask(options(include_partial_messages=partial))
    assert used(captured) == TRUE
    run = attributes(captured, "invoke_agent claude")
    assert run["gen_ai.usage.input_tokens"] == 6 * sum(READ.values())
    assert run["gen_ai.usage.output_tokens"] == sum(WROTE.values())
    assert run["seatrace.run.model_calls"] == 6


async def test_partial_messages_tell_when_the_first_chunk_came(options: Options, captured: Captured) -> None:
    await asked(options(include_partial_messages=True))
    seen = attributes(captured, f"chat {HAIKU}")
    assert seen["gen_ai.request.stream"] is True
    assert seen["gen_ai.usage.output_tokens"] == WROTE["look"]
    assert "gen_ai.response.time_to_first_chunk" in seen


@both
async def test_cost_is_that_of_the_tokens(ask: Ask, options: Options, captured: Captured) -> None:
    await ask(options())
    costs = [call.cost for call in captured.calls if call.kind == "inference"]
    assert all(cost is not None and cost.source == "local" for cost in costs)
    run = attributes(captured, "invoke_agent claude")
    assert run["seatrace.run.cost"] == pytest.approx(sum(cost.total for cost in costs if cost))
    assert run["claude_agent_sdk.total_cost_usd"] == 0.25


@both
async def test_the_session_is_the_conversation(ask: Ask, options: Options, captured: Captured) -> None:
    await ask(options())
    assert {(span.attributes or {}).get("gen_ai.conversation.id") for span in own(captured)} == {SESSION}


async def test_each_question_of_a_client_is_a_run(options: Options, captured: Captured) -> None:
    async with ClaudeSDKClient(options()) as client:
        for _ in range(2):
            await client.query(QUESTION)
            async for _ in client.receive_response():
                pass
    first, second = [span for span in captured.spans if span.name == "invoke_agent claude"]
    trees = [
        tree(span for span in own(captured) if span.context.trace_id == root.context.trace_id)
        for root in (first, second)
    ]
    assert [each.replace("total_cost_usd=0.5", "total_cost_usd=0.25") for each in trees] == [VOYAGE, VOYAGE]
    assert used(captured) == {name: 2 * count for name, count in TRUE.items()}


async def test_a_turn_that_nobody_asked_for_is_a_run(options: Options, captured: Captured) -> None:
    async with ClaudeSDKClient(options()) as client:
        await client.query("Bring us into port, and back.")
        for _ in range(2):
            async for _ in client.receive_response():
                pass
    assert [span.name for span in captured.spans if span.parent is None] == ["invoke_agent claude"] * 2
    assert used(captured) == {name: 2 * count for name, count in TRUE.items()}


async def test_totals_of_a_whole_session_are_not_those_of_a_run(options: Options, captured: Captured) -> None:
    await asked(options(resume=SESSION))
    assert used(captured) == {**TRUE, f"chat {HAIKU}": 2}  # as its messages say


async def test_a_question_with_which_a_client_connects(options: Options, captured: Captured) -> None:
    async def prompt() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "user", "message": {"role": "user", "content": QUESTION}, "parent_tool_use_id": None}

    client = ClaudeSDKClient(options())
    await client.connect(prompt())
    async for _ in client.receive_response():
        pass
    await client.disconnect()
    assert tree(own(captured)) == VOYAGE


async def test_runs_at_the_same_time_do_not_mix(options: Options, captured: Captured) -> None:
    await asyncio.gather(asked(options()), client_asked(options()))
    by_trace: dict[int, list[Any]] = {}
    for span in own(captured):
        by_trace.setdefault(span.context.trace_id, []).append(span)
    assert [tree(spans) for spans in by_trace.values()] == [VOYAGE, VOYAGE]


# --- tools ----------------------------------------------------------------------------------------------------------


@both
async def test_what_a_tool_of_this_process_does_is_within_the_tool(
    ask: Ask, options: Options, provider: FakeProvider, captured: Captured
) -> None:
    await ask(options(asking_tide, chart, radio))
    spans = {span.context.span_id: span for span in captured.spans}
    span = next(span for span in spans.values() if span.name == "chat m")
    while span.parent is not None and not span.name.startswith("execute_tool"):
        span = spans[span.parent.span_id]
    assert span.name == "execute_tool mcp__ship__tide"
    assert attributes(captured, "invoke_agent claude")["seatrace.run.tool_calls"] == 5


@both
async def test_content(ask: Ask, options: Options) -> None:
    with capture(capture_content=True) as captured:
        await ask(options())
    run = attributes(captured, "invoke_agent claude")
    assert run["gen_ai.input.messages"] == snapshot(
        '[{"role": "user", "parts": [{"type": "text", "content": "Bring us into port."}]}]'
    )
    assert run["gen_ai.output.messages"] == snapshot(
        '[{"role": "assistant", "parts": [{"type": "text", "content": "We are moored."}]}]'
    )
    seen = attributes(captured, "execute_tool mcp__ship__tide")
    assert seen["gen_ai.tool.call.arguments"] == '{"port": "Whitby"}'
    assert seen["gen_ai.tool.call.result"] == snapshot('[{"type": "text", "text": "high at noon in Whitby"}]')
    assert seen["gen_ai.tool.call.id"] == "tide 1"
    assert attributes(captured, f"chat {HAIKU}")["gen_ai.output.messages"] == snapshot(
        '[{"role": "assistant", "parts": [{"type": "tool_call", "id": "read 1", "name": "Read", "arguments": {"file_path": "pilot.txt"}}], "finish_reason": "tool_call"}]'
    )


@both
async def test_content_stays_out_unless_it_is_wanted(ask: Ask, options: Options, captured: Captured) -> None:
    await ask(options())
    told = "".join(str(span.attributes) + str(span.events) for span in captured.spans)
    for words in ("Whitby", "shoals", "harbour", "moored", "port.", "Steer"):
        assert words not in told


# --- ends -----------------------------------------------------------------------------------------------------------


@both
async def test_a_result_that_is_an_error(ask: Ask, options: Options, captured: Captured) -> None:
    messages = await ask(options(), "Fail.")
    assert messages[-1].is_error
    assert attributes(captured, "invoke_agent claude")["error.type"] == "error_during_execution"


async def test_a_query_that_is_left_ends_its_spans(options: Options, captured: Captured) -> None:
    messages = query(prompt="Wait.", options=options())
    async for message in messages:
        if isinstance(message, AssistantMessage):
            break
    await messages.aclose()  # type: ignore[attr-defined]
    for _ in range(100):
        if not captured.spans:
            await asyncio.sleep(0.05)
    assert tree(own(captured)) == snapshot("""\
invoke_agent claude agent.name='claude' conversation.id='11111111-2222-3333-4444-555555555555' provider.name='anthropic' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
  chat claude-sonnet-4-5-20250929\
""")


async def test_a_client_that_goes_ends_its_spans(options: Options, captured: Captured) -> None:
    async with ClaudeSDKClient(options()) as client:
        await client.query("Wait.")
        async for message in client.receive_messages():
            if isinstance(message, AssistantMessage):
                break
    assert tree(own(captured)) == snapshot("""\
invoke_agent claude agent.name='claude' conversation.id='11111111-2222-3333-4444-555555555555' provider.name='anthropic' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
  chat claude-sonnet-4-5-20250929\
""")


@both
async def test_a_program_that_breaks_off(ask: Ask, options: Options, captured: Captured) -> None:
    with pytest.raises(Exception, match="exit code 3"):  # older versions raise no class of their own
        await ask(options(), "Sink.")
    assert attributes(captured, "invoke_agent claude")["error.type"] in ("ProcessError", "Exception", "process_error")


async def test_no_span_is_left_current(options: Options, captured: Captured) -> None:
    from opentelemetry.trace import get_current_span

    async for _ in query(prompt=QUESTION, options=options()):
        assert not get_current_span().get_span_context().is_valid
    async with ClaudeSDKClient(options()) as client:
        await client.query(QUESTION)
        async for _ in client.receive_response():
            assert not get_current_span().get_span_context().is_valid


# --- guests ---------------------------------------------------------------------------------------------------------


@both
async def test_messages_stay_as_they_are(ask: Ask, options: Options) -> None:
    bare = await ask(options())
    with capture():
        seen = await ask(options())
    assert [type(message) for message in seen] == [type(message) for message in bare]
    assert [getattr(message, "content", None) for message in seen] == [getattr(each, "content", None) for each in bare]
    assert isinstance(seen[-1], ResultMessage)


async def test_errors_stay_as_they_are(captured: Captured, tmp_path: Path) -> None:
    with pytest.raises(CLINotFoundError):
        await asked(ClaudeAgentOptions(cli_path=tmp_path / "nowhere"))
    assert attributes(captured, "invoke_agent claude")["error.type"] == "CLINotFoundError"


async def test_everything_is_put_back(options: Options) -> None:
    places = [
        (Query, "start"),
        (Query, "close"),
        (Query, "_handle_control_request"),
        (InternalClient, "process_query"),
        (ClaudeSDKClient, "connect"),
        (ClaudeSDKClient, "query"),
    ]
    before = [vars(owner)[name] for owner, name in places]
    with capture():
        await asked(options())
        assert all(now is not then for now, then in zip([vars(o)[n] for o, n in places], before, strict=True))
    assert [vars(owner)[name] for owner, name in places] == before
    await asked(options())


def test_status_says_that_it_is_observed(captured: Captured) -> None:
    row = next(each for each in seatrace.status() if each.name == "claude_agent_sdk")
    assert str(row).startswith("claude_agent_sdk: observed (")
    assert row.detail == ""
