"""Spans that others make of the same call: enriched, with no second one beside them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

import seatrace
from seatrace.core.record import Call, Usage
from seatrace.libraries._models import model_call
from seatrace.testing import Captured, capture


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


def tracer(captured: Captured, scope: str = "strands.telemetry.tracer") -> Any:
    return captured.tracer_provider.get_tracer(scope)


def test_a_span_that_has_the_calls_name_is_its_span(captured: Captured) -> None:
    with tracer(captured).start_as_current_span("execute_tool tide"):  # its attributes come when the tool has ended
        with seatrace.tool("tide"):
            pass
    (span,) = captured.spans
    assert span.attributes["gen_ai.tool.name"] == "tide"


def test_a_span_of_another_tool_is_not(captured: Captured) -> None:
    with tracer(captured).start_as_current_span("execute_tool chart"):
        with seatrace.tool("tide"):
            pass
    assert [span.name for span in captured.spans] == ["execute_tool tide", "execute_tool chart"]


def test_a_workflow_may_be_an_agent_to_its_framework(captured: Captured) -> None:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "fleet"}
    with tracer(captured).start_as_current_span("invoke_agent fleet", attributes=attributes):
        with seatrace.workflow("fleet"):
            pass
    (span,) = captured.spans
    assert span.attributes["gen_ai.operation.name"] == "invoke_workflow"


def test_a_span_without_a_name_stands_for_its_frameworks_calls_alone(captured: Captured) -> None:
    with tracer(captured).start_as_current_span("invoke_graph"):
        with seatrace.workflow("fleet"):
            pass
    assert [span.name for span in captured.spans] == ["invoke_workflow fleet", "invoke_graph"]


async def test_a_model_call_ends_with_the_chunk_that_is_its_last(captured: Captured) -> None:
    def read(call: Call, chunk: str) -> bool:
        call.usage = Usage(3, 1)
        return chunk == "last"

    async def generate() -> AsyncGenerator[str, None]:
        yield "first"
        yield "last"

    model = model_call(lambda: Call("inference", "chat", "ours", request_model="oracle"), chunk=read)(generate)
    ended = []
    span = tracer(captured).start_span("chat", attributes={"gen_ai.operation.name": "chat"})
    chunks = model()
    async for _ in chunks:
        ended.append(len(captured.calls))
    span.end()
    assert ended == [0, 1]
    assert len(captured.calls) == 1
