"""Beside other instrumentations of the same clients a call is one span and one cost, whoever was set up first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MADE_AFTERWARDS = ("OpenLLMetry", "responses")
"""Its span begins when the call is over: there is nothing to enrich while ours goes on. Cost and metrics count once."""

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["they", "we"])
def first(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["OpenTelemetry", "OpenInference", "OpenLLMetry"])
def seen(request: pytest.FixtureRequest, first: str) -> dict[str, Any]:
    """What each call sent."""
    command = [sys.executable, "-m", "frameworks.beside.calls", request.param, first]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"other": request.param, **found}


@pytest.mark.parametrize(
    "call",
    [
        "chat",
        "chat_stream",
        "responses",
        "embeddings",
        "chat_async",
        "messages",
        "messages_stream",
        "messages_async",
    ],
)
def test_a_call_is_one_span_and_one_cost(seen: dict[str, Any], call: str) -> None:
    found = seen[call]
    spans = found["spans"]
    if (seen["other"], call) == MADE_AFTERWARDS:
        spans = [span for span in spans if span["scope"] == "seatrace"]
    assert [span["scope"] for span in spans] == [span["scope"] for span in spans][:1]
    [span] = spans
    assert span["gen_ai.usage.input_tokens"] == found["input_tokens"]
    assert span["gen_ai.request.model"] == found["model"]
    assert span["gen_ai.agent.name"] == "captain"
    assert span["gen_ai.usage.cost.amount"] == pytest.approx(found["cost"])
    assert found["cost"] > 0
    assert found["run"]["gen_ai.usage.input_tokens"] == found["input_tokens"]
    assert found["run"]["seatrace.run.model_calls"] == (call != "embeddings")
