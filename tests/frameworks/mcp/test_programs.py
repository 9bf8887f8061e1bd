"""Two programs, both observed: each request is one span at its sender, one at its receiver, and one trace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from inline_snapshot import snapshot

from seatrace.demo.provider import FakeProvider
from setup.receiver import Item, Receiver, environment, http_receiver, points

TESTS = Path(__file__).resolve().parents[2]


def tree(spans: list[Item]) -> str:
    """Which program made which span, in the order of their start."""
    ids = {item.data.span_id for item in spans}
    lines: list[str] = []

    def write(parent: bytes | None, depth: int) -> None:
        at = [
            item for item in spans if (item.data.parent_span_id if item.data.parent_span_id in ids else None) == parent
        ]
        for item in sorted(at, key=lambda item: (item.name.split()[:2] != ["tools/call", "tide"], item.name)):
            error = f" {item.attributes['error.type']}" if "error.type" in item.attributes else ""
            scope = "" if item.scope == "seatrace" else f" by {item.scope}"
            lines.append(f"{'  ' * depth}{item.resource['service.name']}: {item.name}{error}{scope}")
            write(item.data.span_id, depth + 1)

    write(None, 0)
    return "\n".join(lines)


@contextmanager
def port(library: str, variables: dict[str, str]) -> Iterator[str]:
    """The harbour on a port of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "frameworks.mcp.harbour", "serve", library, str(number)], env=variables
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", number)) == 0:
                    break
            time.sleep(0.1)
        yield str(number)
    finally:
        server.terminate()
        assert server.wait(30) is not None


def voyage(client: str, library: str, transport: str, provider: FakeProvider) -> Receiver:
    """What arrived of a voyage."""
    with http_receiver() as receiver:
        variables = environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            PYTHONPATH=os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)]),
            PYTHONWARNINGS="ignore",
        )

        def sail(place: str) -> None:
            arguments = ["-m", "frameworks.mcp.harbour", "sail", client, place, library]
            ran = subprocess.run(
                [sys.executable, *arguments], env=variables, capture_output=True, text=True, timeout=60
            )
            assert ran.returncode == 0, ran.stderr

        if transport == "stdio":
            sail("stdio")
        else:
            with port(library, variables) as place:
                sail(place)
        receiver.wait_for(lambda: [item for item in receiver.spans if item.name.startswith("chat")])
        return receiver


@pytest.mark.parametrize(("library", "transport"), [("mcp", "stdio"), ("fastmcp", "http")])
def test_each_request_is_one_span_on_each_side_of_one_trace(
    library: str, transport: str, provider: FakeProvider
) -> None:
    received = voyage(library, library, transport, provider)
    traced = [item for item in received.spans if item.attributes.get("gen_ai.conversation.id") == "c1"]
    assert tree(traced) == snapshot("""\
sail: invoke_agent captain
  sail: tools/call tide
    serve: tools/call tide
  sail: execute_tool pilot
    serve: tools/call pilot
      serve: chat gpt-4o-mini
  sail: prompts/get log
    serve: prompts/get log
  sail: resources/read
    serve: resources/read
  sail: tools/call chart
    serve: tools/call chart
  sail: tools/call radio tool_error
    serve: tools/call radio tool_error
  sail: tools/list
    serve: tools/list\
""")
    assert len({item.data.trace_id for item in traced}) == 1
    assert {item.attributes["seatrace.tenant"] for item in traced} == {"acme"}
    asked = [item for item in received.spans if "mcp.method.name" in item.attributes]
    assert {item.scope for item in asked if item.data.kind == 3} == {"seatrace"}
    assert {item.name for item in asked if item.scope != "seatrace"} <= {"notifications/initialized"}
    names = {item.name for item in asked}
    for metric in ("mcp.client.operation.duration", "mcp.server.operation.duration"):
        counted = sum(point.count for item in received.metrics(metric) for point in points(item))
        spans = [
            item for item in asked if item.scope == "seatrace" and item.data.kind == (3 if "client" in metric else 2)
        ]
        enriched = 1 if "client" in metric else 0  # the tool around a call of the same name
        assert counted == len(spans) + enriched
    for metric in ("mcp.client.session.duration", "mcp.server.session.duration"):
        sessions = [point for item in received.metrics(metric) for point in points(item)]
        assert sum(point.count for point in sessions) == (1 if "client" in metric or "initialize" in names else 0)
