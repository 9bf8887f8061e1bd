"""fastmcp's own client over HTTP; what it has in common with mcp is tested in ``tests/frameworks/mcp``."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import SpanKind

import seatrace
from frameworks.mcp.harbour import fastmcp_aboard
from frameworks.mcp.memory import serving
from seatrace.testing import Captured

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]


def test_its_client_over_http_makes_one_span_a_request(captured: Captured) -> None:
    async def sail(port: str) -> None:
        async with fastmcp_aboard(port, "fastmcp") as session:
            with seatrace.agent("captain"):
                assert (await session.call_tool("tide", {"port": "Oban"})).data == "high at noon in Oban"

    with serving("fastmcp") as port:
        asyncio.run(sail(port))
    spans = {span.kind: span for span in captured.spans if span.name == "tools/call tide"}
    assert set(spans) == {SpanKind.CLIENT, SpanKind.SERVER}
    asked, answered = spans[SpanKind.CLIENT], spans[SpanKind.SERVER]
    assert answered.parent is not None
    assert answered.parent.span_id == asked.get_span_context().span_id
    assert (asked.attributes or {})["server.port"] == int(port)
    assert {each.name: each.state for each in seatrace.status()}["fastmcp"] == "observed"
    [run] = [span for span in captured.spans if span.name == "invoke_agent captain"]
    assert (run.attributes or {})["seatrace.run.tool_calls"] == 1
