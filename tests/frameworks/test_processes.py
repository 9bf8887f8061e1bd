"""Agents in worker processes: each run arrives whole, once, and from its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from frameworks.crew import ANSWER
from frameworks.processes import FRAMEWORKS, VOYAGES
from seatrace.demo.provider import FakeProvider
from seatrace.libraries import installed
from setup.receiver import environment, http_receiver, points

WHOLE = [
    ("invoke_agent captain", None),
    ("chat gpt-4o-mini", "invoke_agent captain"),
    ("chat gpt-4o-mini", "invoke_agent captain"),
    ("execute_tool chart", "invoke_agent captain"),
    ("execute_tool tide", "invoke_agent captain"),
]


def run_of(spans: list[Any]) -> list[tuple[str, str | None]]:
    """Names with their parents', of one trace."""
    names = {span.span_id: span.name for span in spans}
    assert all(not span.parent_span_id or span.parent_span_id in names for span in spans)
    return sorted(((span.name, names.get(span.parent_span_id)) for span in spans), key=str)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_runs_in_worker_processes_arrive_whole(framework: str, method: str, provider: FakeProvider) -> None:
    if not installed(framework):
        pytest.skip(f"{framework} is not installed")
    with http_receiver() as receiver:
        variables = environment(
            SEATRACE_ENDPOINT=receiver.endpoint,
            OTEL_METRIC_EXPORT_INTERVAL="inf",
            OPENAI_API_KEY="sk-test",
            OPENAI_BASE_URL=f"{provider.url}/v1",
        )
        ran = subprocess.run(
            [sys.executable, "-m", "frameworks.processes", framework, method],
            cwd=Path(__file__).parents[1],
            env=variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (ran.stdout.split("\n")[:-1], ran.returncode) == ([ANSWER] * (VOYAGES + 1), 0), ran.stderr
    assert "Failed to detach" not in ran.stderr
    traces: dict[bytes, list[Any]] = {}
    for item in receiver.spans:
        traces.setdefault(item.data.trace_id, []).append(item)
    assert len(traces) == VOYAGES + 1
    for items in traces.values():
        assert run_of([item.data for item in items]) == sorted(WHOLE, key=str)
        assert len({item.resource["service.instance.id"] for item in items}) == 1
    last = {each.resource["service.instance.id"]: each for each in receiver.metrics("gen_ai.client.inference.duration")}
    assert sum(point.count for each in last.values() for point in points(each)) == len(provider.served)
    assert len(provider.served) == 2 * (VOYAGES + 1)
