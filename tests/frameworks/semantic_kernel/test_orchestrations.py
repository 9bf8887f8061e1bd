# ruff: noqa: E501 (the trees)
"""Semantic Kernel's orchestrations: the agents that they hand messages to are parts of their run."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from inline_snapshot import snapshot

import seatrace
from frameworks import crew
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider, Fault
from seatrace.testing import Captured, capture

from .models import ITS_OWN_WARNINGS, model

with warnings.catch_warnings():  # Semantic Kernel's, about its own models
    warnings.simplefilter("ignore")
    from semantic_kernel.agents import (
        ChatCompletionAgent,
        ConcurrentOrchestration,
        GroupChatOrchestration,
        HandoffOrchestration,
        MagenticOrchestration,
        OrchestrationHandoffs,
        RoundRobinGroupChatManager,
        SequentialOrchestration,
        StandardMagenticManager,
    )
    from semantic_kernel.agents.orchestration.orchestration_base import OrchestrationBase, OrchestrationResult
    from semantic_kernel.agents.runtime import InProcessRuntime
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatPromptExecutionSettings
    from semantic_kernel.exceptions import ServiceResponseException

pytestmark = [pytest.mark.asyncio, *ITS_OWN_WARNINGS]


def talk(ask: Ask) -> Reply:
    """Hands over to the pilot, who says that the task is complete; plans for a magentic manager; else speaks."""
    said = "\n".join(piece.text for piece in ask.pieces)
    tools = {tool.name: tool for tool in ask.tools}
    if ask.schema is not None:
        done = {"answer": crew.PILOTED in said, "reason": "heard"}
        words = {"answer": "pilot", "reason": "knows the port"}
        names = (
            "is_request_satisfied",
            "is_in_loop",
            "is_progress_being_made",
            "next_speaker",
            "instruction_or_question",
        )
        ledger = {name: words if name in names[3:] else done for name in names} | {
            "is_in_loop": {"answer": False, "reason": ""}
        }
        return Reply(json.dumps(ledger), (), "stop", 9, 0)
    if "Handoff-transfer_to_pilot" in tools:
        return Reply("", [ToolCall("Handoff-transfer_to_pilot", "{}")], "tools", 9, 0)
    if "Handoff-complete_task" in tools:
        return Reply("", [ToolCall("Handoff-complete_task", '{"task_summary": "moored"}')], "tools", 9, 0)
    return Reply(crew.PILOTED if crew.PILOT in said else crew.ANSWER, (), "stop", 9, 0)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    with FakeProvider(model=talk) as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        yield provider


def agents() -> list[Any]:
    service = model()
    pilot = ChatCompletionAgent(service=service, name="pilot", description="Knows the port.", instructions=crew.PILOT)
    captain = ChatCompletionAgent(service=service, name="captain", description="Commands.", instructions=crew.CAPTAIN)
    return [captain, pilot]


async def voyage(orchestration: OrchestrationBase[Any, Any], task: Any = crew.QUESTION) -> Any:
    runtime = InProcessRuntime()
    runtime.start()  # its tasks know nothing of the run
    try:
        result = await orchestration.invoke(task, runtime=runtime)
        assert isinstance(result, OrchestrationResult)
        return await result.get(timeout=60)
    finally:
        await runtime.stop_when_idle()


def tree(captured: Captured) -> str:
    """Conversations are a new thread for each agent."""
    spans = captured.spans
    lines = crew.tree(spans)
    for span in spans:
        lines = lines.replace(f" conversation.id={span.attributes.get('gen_ai.conversation.id')!r}", "")
    return lines


async def test_sequential(provider: FakeProvider, captured: Captured) -> None:
    said = await voyage(SequentialOrchestration(members=agents()))
    assert str(said) == crew.PILOTED
    assert tree(captured) == snapshot("""\
invoke_workflow SequentialOrchestration agent.name='SequentialOrchestration' seatrace.run.model_calls=2 seatrace.run.steps=0 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=2
  invoke_agent captain agent.description='Commands.' agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
  invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")
    told, true = crew.totals(captured.spans, provider.served)
    assert told == true


async def test_concurrent(provider: FakeProvider, captured: Captured) -> None:
    said = await voyage(ConcurrentOrchestration(members=agents(), name="both"))
    assert sorted(map(str, said)) == [crew.PILOTED, crew.ANSWER]
    assert tree(captured) == snapshot("""\
invoke_workflow both agent.name='both' seatrace.run.model_calls=2 seatrace.run.steps=0 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=2
  invoke_agent captain agent.description='Commands.' agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
  invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")
    told, true = crew.totals(captured.spans, provider.served)
    assert told == true


async def test_handoff(provider: FakeProvider, captured: Captured) -> None:
    captain, pilot = agents()
    handoffs = OrchestrationHandoffs().add(captain, pilot, "Knows the port.")
    said = await voyage(HandoffOrchestration(members=[captain, pilot], handoffs=handoffs))
    assert str(said) == "Task is completed with summary: moored"
    assert tree(captured) == snapshot("""\
invoke_workflow HandoffOrchestration agent.name='HandoffOrchestration' seatrace.run.model_calls=2 seatrace.run.steps=0 seatrace.run.tool_calls=2 seatrace.run.unpriced_calls=2
  invoke_agent captain agent.description='Commands.' agent.name='captain' response.finish_reasons=('tool_call',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
    execute_tool Handoff-transfer_to_pilot agent.name='captain' tool.description='Knows the port.' tool.name='Handoff-transfer_to_pilot' tool.type='function'
  invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('tool_call',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
    execute_tool Handoff-complete_task agent.name='pilot' tool.description='Complete the task with a summary when no further requests are given.' tool.name='Handoff-complete_task' tool.type='function'\
""")
    told, true = crew.totals(captured.spans, provider.served)
    assert told == true


async def test_group_chat(provider: FakeProvider, captured: Captured) -> None:
    manager = RoundRobinGroupChatManager(max_rounds=2)
    said = await voyage(GroupChatOrchestration(members=agents(), manager=manager))
    assert str(said) == crew.PILOTED
    assert tree(captured) == snapshot("""\
invoke_workflow GroupChatOrchestration agent.name='GroupChatOrchestration' seatrace.run.model_calls=2 seatrace.run.steps=0 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=2
  invoke_agent captain agent.description='Commands.' agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
  invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")


async def test_magentic_manager_is_a_part_of_the_run(provider: FakeProvider, captured: Captured) -> None:
    manager = StandardMagenticManager(
        chat_completion_service=model(), prompt_execution_settings=OpenAIChatPromptExecutionSettings()
    )
    await voyage(MagenticOrchestration(members=agents(), manager=manager))
    assert tree(captured) == snapshot("""\
invoke_workflow MagenticOrchestration agent.name='MagenticOrchestration' response.finish_reasons=('stop',) seatrace.run.model_calls=6 seatrace.run.steps=5 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=6
  chat gpt-4o-mini
  chat gpt-4o-mini
  chat gpt-4o-mini
  invoke_agent pilot agent.description='Knows the port.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
  chat gpt-4o-mini
  chat gpt-4o-mini\
""")
    told, true = crew.totals(captured.spans, provider.served)
    assert told == true


async def test_a_failed_run_says_why(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeProvider(schedule=lambda arrival: Fault(400)) as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        with pytest.raises(ServiceResponseException) as caught:
            await voyage(SequentialOrchestration(members=agents()))
    told = {span.name: span.attributes.get("error.type") for span in captured.spans}
    assert told == {
        "chat gpt-4o-mini": "missing_required_parameter",
        "invoke_agent captain": type(caught.value).__qualname__,
        "invoke_workflow SequentialOrchestration": type(caught.value).__qualname__,
    }


async def test_a_failure_before_it_began(provider: FakeProvider, captured: Captured) -> None:
    async def transform(task: Any) -> Any:
        raise LookupError("no such port")

    with pytest.raises(LookupError, match="no such port"):
        await voyage(SequentialOrchestration(members=agents(), input_transform=transform), object())
    (root,) = captured.spans
    assert (root.name, root.attributes["error.type"]) == ("invoke_workflow SequentialOrchestration", "LookupError")


async def test_a_cancelled_run(provider: FakeProvider, captured: Captured) -> None:
    runtime = InProcessRuntime()  # not started: no message is handed on
    result = await SequentialOrchestration(members=agents()).invoke(crew.QUESTION, runtime=runtime)
    await asyncio.sleep(0)
    assert captured.spans == []
    result.cancel()
    (root,) = captured.spans
    assert root.attributes["error.type"] == "CancelledError"
    assert result.background_task is not None
    result.background_task.cancel()
    with pytest.raises(RuntimeError, match="canceled before"):
        await result.get()


async def test_a_run_that_is_dropped_ends(provider: FakeProvider, captured: Captured) -> None:
    runtime = InProcessRuntime()  # not started: its message waits for ever
    result = await ConcurrentOrchestration(members=agents()).invoke(crew.QUESTION, runtime=runtime)
    await asyncio.sleep(0.05)
    assert captured.spans == []
    del result, runtime
    gc.collect()
    (root,) = captured.spans
    assert (root.name, root.attributes.get("error.type")) == ("invoke_workflow ConcurrentOrchestration", None)


@dataclass
class Order:
    port: str


async def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as got:
        await voyage(SequentialOrchestration[Order, str](members=agents(), output_transform=str), Order("Ostend"))
    root = next(span for span in got.spans if span.name.startswith("invoke_workflow"))
    assert (root.attributes["gen_ai.input.messages"], root.attributes["gen_ai.output.messages"]) == snapshot(
        (
            '[{"role": "user", "parts": [{"type": "text", "content": "Order(port=\'Ostend\')"}]}]',
            '[{"role": "assistant", "parts": [{"type": "text", "content": "Steer north."}]}]',
        )
    )


async def test_runs_beside_each_other_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    runtime = InProcessRuntime()
    runtime.start()
    results = [await SequentialOrchestration(members=agents()).invoke(crew.QUESTION, runtime=runtime) for _ in range(3)]
    for each in results:
        await each.get(timeout=60)
    await runtime.stop_when_idle()
    traces = {span.context.trace_id for span in captured.spans}
    assert len(traces) == 3
    for each in traces:
        names = sorted(span.name for span in captured.spans if span.context.trace_id == each)
        assert names == ["chat gpt-4o-mini"] * 2 + [
            "invoke_agent captain",
            "invoke_agent pilot",
            "invoke_workflow SequentialOrchestration",
        ]


async def test_suppressed(provider: FakeProvider, captured: Captured) -> None:
    with seatrace.suppress():
        await voyage(SequentialOrchestration(members=agents()))
    assert [span for span in captured.spans if span.name.startswith("invoke_workflow")] == []
