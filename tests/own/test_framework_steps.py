"""What libraries of frameworks make of methods: ``libraries/_steps.py`` on a framework of the test's own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import time
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from time import perf_counter_ns
from typing import Any

import pytest

import seatrace
from model import ask, client, completion
from seatrace.core import guard, pipeline
from seatrace.core import step as steps
from seatrace.core.patch import Patches
from seatrace.core.record import Call
from seatrace.libraries._models import model_call
from seatrace.libraries._steps import step, stepped
from seatrace.testing import Captured, capture


class Pause(Exception):
    pass


class Crew:
    def run(self, work: Any) -> Any:
        return work()

    def model(self, work: Any = None) -> Any:
        return None if work is None else work()

    def tool(self, error: BaseException) -> str:
        try:
            raise error
        except ValueError as failed:
            steps.handled(failed, "tool")
            return "it failed"


@pytest.fixture
def captured() -> Iterator[Captured]:
    patches = Patches()
    patches.replace(Crew, "run", stepped(lambda self, work: step("agent", "test", "crew", conversation_id="c-1")))
    patches.replace(Crew, "model", model_call(lambda self, work=None: Call("inference", "chat", "test")))
    patches.replace(Crew, "tool", stepped(lambda self, error: step("tool", "test", "work")))
    steps.pauses.add(Pause)
    with capture() as got:
        yield got
    steps.pauses.discard(Pause)
    patches.undo()


def errors(captured: Captured) -> list[tuple[str, Any]]:
    return [(span.name, (span.attributes or {}).get("error.type")) for span in captured.spans]


def test_failure_that_the_framework_makes_words_of(captured: Captured) -> None:
    assert Crew().run(lambda: Crew().tool(ValueError("deep"))) == "it failed"
    assert errors(captured) == [("execute_tool work", "ValueError"), ("invoke_agent crew", None)]
    assert [each.event_name for each in captured.events] == ["gen_ai.execute_tool.exception"]


def test_pause_is_no_failure(captured: Captured) -> None:
    with pytest.raises(Pause):
        Crew().run(lambda: Crew().tool(Pause()))
    assert errors(captured) == [("execute_tool work", None), ("invoke_agent crew", None)]


def test_conversation_of_a_run_is_that_of_its_tools(captured: Captured) -> None:
    Crew().run(lambda: Crew().tool(ValueError()))
    Crew().tool(ValueError())
    found = [(span.attributes or {}).get("gen_ai.conversation.id") for span in captured.spans]
    assert found == ["c-1", "c-1", None]


async def test_task_that_outlives_its_step_is_not_a_part_of_it(captured: Captured) -> None:
    begun: list[Any] = []

    async def later() -> None:
        await asyncio.sleep(0)
        steps.handled(ValueError(), "agent")
        begun.append(steps.innermost_mark())

    Crew().run(lambda: begun.append(asyncio.ensure_future(later())))
    await begun[0]
    assert begun[1] is None
    assert errors(captured) == [("invoke_agent crew", None)]


async def test_task_that_outlives_a_model_call_makes_calls_of_its_own(captured: Captured) -> None:
    begun: list[Any] = []

    async def later() -> None:
        await asyncio.sleep(0)
        Crew().model()

    Crew().model(lambda: begun.append(asyncio.ensure_future(later())))
    await begun[0]
    assert [call.library for call in captured.calls] == ["test", "test"]


def test_model_call_within_another_is_that_one(captured: Captured) -> None:
    Crew().model(lambda: Crew().model())
    assert [call.library for call in captured.calls] == ["test"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The models of a crew whose calls were made, in a program without gates."""
    monkeypatch.setattr(pipeline, "gates", ())
    made: list[Any] = []

    def begin(self: Model, work: Any = None) -> Call:
        made.append(self)
        if self.broken:
            raise ValueError("broken")
        return Call("inference", "chat", "test")

    patches = Patches()
    patches.replace(Model, "ask", model_call(begin))
    yield made
    patches.undo()


class Model:
    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def ask(self, work: Any) -> Any:
        return work()


def test_a_model_call_that_an_observed_client_makes_is_not_made(captured: Captured, made: list[Any]) -> None:
    Crew().run(lambda: Model(broken=True).ask(lambda: ask(client(completion()))))
    assert made == []
    assert [call.library for call in captured.calls] == ["openai", "test"]


def test_a_gate_sees_a_model_call_before_it_is_made(captured: Captured, made: list[Any]) -> None:
    seen: list[tuple[str, int]] = []
    remove = pipeline.add_gate(lambda call: seen.append((call.library, len(made))))
    try:
        Model().ask(lambda: ask(client(completion())))
    finally:
        remove()
    assert seen == [("test", 1), ("openai", 1)]
    assert [call.library for call in captured.calls] == ["openai"]


@pytest.mark.parametrize("outcome", [nullcontext(), pytest.raises(OSError, match="away")], ids=["answers", "fails"])
def test_a_model_call_that_cannot_be_made_is_a_fault_and_no_call(made: list[Any], outcome: Any) -> None:
    def work() -> None:
        if not isinstance(outcome, nullcontext):
            raise OSError("away")

    before = guard.faults.get("begin a call", 0)
    with capture(strict=False) as captured, seatrace.agent("captain") as run:
        with outcome:
            Model(broken=True).ask(work)
        model_time = run.call.run.time(perf_counter_ns())["model"]
        time.sleep(0.01)
        assert run.call.run.time(perf_counter_ns())["model"] == model_time
    assert len(made) == 1
    assert [call.kind for call in captured.calls] == ["agent"]
    assert guard.faults["begin a call"] == before + 1


def test_what_was_asked_is_not_kept_by_tasks_that_go_on(captured: Captured, made: list[Any]) -> None:
    contexts: list[Any] = []
    for work in (lambda: ask(client(completion())), lambda: None):
        model = Model()
        asked = weakref.ref(model)

        def keep(work: Any = work) -> None:
            contexts.append(contextvars.copy_context())
            work()

        model.ask(keep)
        made.clear()
        del model
        gc.collect()
        assert asked() is None


def test_time_of_a_run_is_whole_though_its_model_call_could_not_be_told() -> None:
    patches = Patches()
    patches.replace(Crew, "model", model_call(lambda self, work=None: Call("inference", "chat", "test")))
    try:
        with capture(strict=False) as got, seatrace.agent("captain") as run:
            pipeline.current.emitter.begin = None  # type: ignore[method-assign,union-attr,assignment]
            Crew().model()
            del pipeline.current.emitter.begin  # type: ignore[union-attr]
            before = run.call.run.time(perf_counter_ns())["model"]
            time.sleep(0.01)
            assert run.call.run.time(perf_counter_ns())["model"] == before
        assert got.calls[-1].name == "captain"
    finally:
        patches.undo()
