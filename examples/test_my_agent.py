"""Testing what a program sends: no collector, no network, no keys.

pip install pytest 'seatrace[demo]'
pytest examples/test_my_agent.py
"""

from collections.abc import Iterator

import openai
import pytest

import seatrace
from seatrace.demo.provider import FakeProvider, Fault
from seatrace.testing import Captured, capture


@seatrace.tool
def high_water(place: str) -> str:
    return f"{place}: 14:20"


@seatrace.agent("pilot")
def pilot(client: openai.OpenAI, question: str) -> str:
    facts = high_water("inner harbour")
    reply = client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": f"{question}\n{facts}"}]
    )
    return reply.choices[0].message.content or ""


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(schedule={1: Fault(429, retry_after=0.01)}) as provider:
        yield provider


@pytest.fixture
def captured(provider: FakeProvider) -> Iterator[Captured]:
    with capture(providers={provider.url.removeprefix("http://"): "openai"}) as captured:
        yield captured


def test_a_run_is_one_trace_with_its_tools(provider: FakeProvider, captured: Captured) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
        pilot(client, "May I enter?")

    tool, chat, run = captured.spans
    assert [span.name for span in (tool, chat, run)] == [
        "execute_tool high_water",
        "chat gpt-5-mini",
        "invoke_agent pilot",
    ]
    assert tool.parent.span_id == chat.parent.span_id == run.context.span_id


def test_a_retried_call_is_counted_and_priced_once(provider: FakeProvider, captured: Captured) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
        pilot(client, "May I enter?")

    assert len(provider.served) == 2
    assert captured.total("gen_ai.invoke_agent.inference_calls") == 1
    assert captured.total("seatrace.cost", gen_ai_agent_name="pilot") > 0
