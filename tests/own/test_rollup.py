"""What a run sums up: its calls, tokens, steps and cost; each call once in the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import seatrace
from model import ask, client, completion, failure, stream
from seatrace.testing import Captured, capture

COST = 10 * 0.15e-6 + 5 * 0.60e-6
"""Of one answer: gpt-4o-mini, 10 tokens in, 5 out."""


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


def run_of(captured: Captured, name: str) -> dict[str, Any]:
    [span] = [span for span in captured.spans if span.name == f"invoke_agent {name}"]
    attributes = dict(span.attributes or {})
    told = {key.removeprefix("seatrace.run.").removeprefix("gen_ai."): value for key, value in attributes.items()}
    return {key: value for key, value in told.items() if not key.startswith("time.")}  # tests/own/test_time.py


def test_a_run_sums_up_its_calls(captured: Captured) -> None:
    @seatrace.tool
    def look() -> None: ...

    @seatrace.agent("lone", description="Alone")
    def run() -> None:
        of = client(completion(), stream())
        ask(of)
        look()
        for _ in ask(of, stream=True):
            pass
        look()

    run()
    assert run_of(captured, "lone") == {
        "operation.name": "invoke_agent",
        "agent.name": "lone",
        "agent.description": "Alone",
        "usage.input_tokens": 20,
        "usage.output_tokens": 10,
        "response.finish_reasons": ("stop",),
        "model_calls": 2,
        "tool_calls": 2,
        "steps": 2,
        "cost": pytest.approx(2 * COST),
    }
    assert captured.total("gen_ai.invoke_agent.inference_calls", gen_ai_agent_name="lone") == 2
    assert captured.total("gen_ai.invoke_agent.tool_calls", gen_ai_agent_name="lone") == 2
    assert captured.total("seatrace.agent.run.input_tokens") == 20
    assert captured.total("seatrace.agent.run.output_tokens") == 10
    assert captured.total("seatrace.agent.run.steps") == 2
    assert captured.total("seatrace.agent.run.cost") == pytest.approx(2 * COST)
    assert captured.total("seatrace.cost") == pytest.approx(2 * COST)
    assert [span.name for span in captured.spans if span.parent is None] == ["invoke_agent lone"]


def test_sub_agents_roll_up_to_the_root_and_count_once(captured: Captured) -> None:
    @seatrace.tool
    def look() -> None: ...

    @seatrace.agent
    def sub() -> None:
        ask(client())
        look()

    @seatrace.tool
    def delegate() -> None:
        sub()

    @seatrace.agent
    def root() -> None:
        ask(client())
        delegate()
        sub()

    with seatrace.session(tenant="acme"):
        root()
    whole = run_of(captured, "root")
    assert (whole["model_calls"], whole["tool_calls"], whole["steps"]) == (3, 3, 1)
    assert (whole["usage.input_tokens"], whole["usage.output_tokens"]) == (30, 15)
    assert whole["cost"] == pytest.approx(3 * COST)
    for name, total in (
        ("gen_ai.invoke_agent.inference_calls", 3),
        ("gen_ai.invoke_agent.tool_calls", 3),
        ("seatrace.agent.run.input_tokens", 30),
        ("seatrace.agent.run.steps", 3),
        ("gen_ai.client.inference.usage.input_tokens", 30),
        ("seatrace.agent.run.cost", pytest.approx(3 * COST)),
        ("seatrace.cost", pytest.approx(3 * COST)),
    ):
        assert captured.total(name) == total, name
    assert captured.total("seatrace.cost", gen_ai_agent_name="sub", seatrace_tenant="acme") == pytest.approx(2 * COST)
    assert captured.total("seatrace.agent.run.cost", gen_ai_agent_name="root") == pytest.approx(COST)


def test_unpriced_calls_are_said_and_not_counted_as_free(captured: Captured) -> None:
    @seatrace.agent
    def run() -> None:
        ask(client())
        ask(client(completion(model="nobody-knows")), model="nobody-knows")

    run()
    whole = run_of(captured, "run")
    assert whole["cost"] == pytest.approx(COST)
    assert whole["unpriced_calls"] == 1
    assert captured.total("seatrace.cost.unpriced") == 1


def test_nothing_priced_is_no_cost(captured: Captured) -> None:
    @seatrace.agent
    def run() -> None:
        ask(client(completion(model="nobody-knows")), model="nobody-knows")

    run()
    assert "cost" not in run_of(captured, "run")
    assert "seatrace.agent.run.cost" not in captured.metric_names
    assert "seatrace.cost" not in captured.metric_names


def test_what_a_failed_run_cost_is_told_from_what_others_cost(captured: Captured) -> None:
    @seatrace.agent("unlucky")
    def run(*, fails: bool) -> None:
        ask(client(completion()))
        if fails:
            raise LookupError

    run(fails=False)
    with pytest.raises(LookupError):
        run(fails=True)
    assert captured.total("seatrace.agent.run.cost") == pytest.approx(2 * COST)
    assert captured.total("seatrace.agent.run.cost", error_type="LookupError") == pytest.approx(COST)


def test_failed_calls_count_as_calls(captured: Captured) -> None:
    @seatrace.agent
    def run() -> None:
        with pytest.raises(Exception, match="no"):
            ask(client(failure()))

    run()
    whole = run_of(captured, "run")
    assert (whole["model_calls"], whole["steps"]) == (1, 1)
    assert "usage.input_tokens" not in whole
    assert captured.total("gen_ai.invoke_agent.inference_calls") == 1
    assert "seatrace.agent.run.input_tokens" not in captured.metric_names


def test_tools_in_threads_and_tasks_count_into_their_run(captured: Captured) -> None:
    import contextvars

    @seatrace.tool
    def work() -> None:
        ask(client())

    @seatrace.agent
    def threads() -> None:
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(contextvars.copy_context().run, work) for _ in range(8)]:
                each.result()

    @seatrace.agent
    async def tasks() -> None:
        of = client(kind="AsyncOpenAI")
        await asyncio.gather(*(ask(of) for _ in range(5)))

    threads()
    asyncio.run(tasks())
    assert (run_of(captured, "threads")["model_calls"], run_of(captured, "threads")["tool_calls"]) == (8, 8)
    assert run_of(captured, "tasks")["model_calls"] == 5
    assert captured.total("gen_ai.client.inference.usage.input_tokens") == 130


def test_a_streaming_agent_counts_the_stream_it_passes_on(captured: Captured) -> None:
    @seatrace.agent
    def run() -> Iterator[str]:
        for chunk in ask(client(stream()), stream=True, stream_options={"include_usage": True}):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    assert "".join(run()) == "ahoy"
    whole = run_of(captured, "run")
    assert (whole["model_calls"], whole["usage.input_tokens"], whole["cost"]) == (1, 10, pytest.approx(COST))
    assert [span.parent is not None for span in captured.spans if span.name.startswith("chat")] == [True]


def test_a_run_that_is_closed_counts_what_it_had_open(captured: Captured) -> None:
    @seatrace.tool
    def numbers() -> Iterator[int]:
        yield from range(9)

    @seatrace.agent
    def run() -> Iterator[int]:
        for number in numbers():
            yield number + 1

    for _ in run():
        break
    assert run_of(captured, "run")["tool_calls"] == 1


def test_content_of_steps_is_recorded_where_it_is_wanted() -> None:
    with capture(capture_content="SPAN_ONLY") as captured:

        @seatrace.tool
        def add(left: int, right: int) -> dict[str, int]:
            return {"sum": left + right}

        @seatrace.retriever
        def find(query: str) -> list[Any]:
            return [{"id": "1", "score": 0.5}]

        @seatrace.agent
        def run(question: str) -> Iterator[str]:
            add(1, right=2)
            find("where")
            yield "an"
            yield "swer"

        class Kind:
            @seatrace.tool
            def method(self, x: int) -> int:
                return x

            @classmethod
            @seatrace.tool
            def of_class(cls, x: int) -> int:
                return x

        list(run("why?"))
        Kind().method(1)
        Kind.of_class(2)
    content = {span.name: dict(span.attributes or {}) for span in captured.spans}
    assert content["execute_tool add"]["gen_ai.tool.call.arguments"] == '{"left": 1, "right": 2}'
    assert content["execute_tool add"]["gen_ai.tool.call.result"] == '{"sum": 3}'
    assert content["execute_tool method"]["gen_ai.tool.call.arguments"] == '{"x": 1}'
    assert content["execute_tool of_class"]["gen_ai.tool.call.arguments"] == '{"x": 2}'
    assert content["retrieval find"]["gen_ai.retrieval.query.text"] == "where"
    assert content["retrieval find"]["gen_ai.retrieval.documents"] == '[{"id": "1", "score": 0.5}]'
    said = '[{"role": "assistant", "parts": [{"type": "text", "content": "answer"}]}]'
    assert content["invoke_agent run"]["gen_ai.output.messages"] == said
    assert '"why?"' in content["invoke_agent run"]["gen_ai.input.messages"]
