"""Decorators over the program's own functions: nothing changes but that there is a span."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import itertools
import pickle
import sys
import threading
import typing
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any
from unittest.mock import ANY

import anthropic
import pydantic
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace

import seatrace
from seatrace.core import context as seatrace_context
from seatrace.testing import Captured, capture


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    assert otel_context.get_current() == {}
    assert seatrace_context.current_scope() is seatrace_context.EMPTY


def whole(captured: Captured) -> list[tuple[str, dict[str, Any], str]]:
    """Name, attributes and status of each span, in the order in which they ended."""
    return [(span.name, dict(span.attributes or {}), span.status.status_code.name) for span in captured.spans]


def tool_span(name: str, status: str = "UNSET", **more: Any) -> tuple[str, dict[str, Any], str]:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "gen_ai.tool.type": "function"}
    return f"execute_tool {name}", {**attributes, **more}, status


# --- what is decorated stays what it is -----------------------------------------------------------------------------


@seatrace.tool
def double(number: int, *, times: int = 1) -> int:
    """Doubles.

    At length.
    """
    return number * 2 * times


@seatrace.tool("tripler")
async def triple(number: int) -> int:
    return number * 3


@seatrace.agent
def count(to: int) -> Generator[int, Any, str]:
    yield from range(to)
    return "done"


@seatrace.agent()
async def count_async(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


class Boat:
    """With methods of every kind."""

    def __init__(self, name: str = "boat") -> None:
        self.name = name

    @seatrace.tool
    def sail(self, to: str) -> tuple[Boat, str]:
        return self, to

    @seatrace.tool
    @classmethod
    def build(cls, name: str) -> Boat:
        return cls(name)

    @classmethod
    @seatrace.tool
    def rebuild(cls, name: str) -> Boat:
        return cls(name)

    @seatrace.tool
    @staticmethod
    def horn(times: int) -> str:
        return "t" * times

    @staticmethod
    @seatrace.tool
    def bell(times: int) -> str:
        return "d" * times

    @seatrace.tool
    async def row(self) -> Boat:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Boat) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]


class Ferry(Boat):
    def sail(self, to: str) -> tuple[Boat, str]:
        return super().sail(to + "!")


def test_what_introspection_sees_is_unchanged() -> None:
    assert str(inspect.signature(double)) == "(number: 'int', *, times: 'int' = 1) -> 'int'"
    assert double.__name__ == "double"
    assert double.__module__ == __name__
    assert double.__doc__ is not None
    assert double.__doc__.startswith("Doubles.")
    assert inspect.getsource(double).startswith("@seatrace.tool")
    assert inspect.isfunction(double)
    assert inspect.iscoroutinefunction(triple)
    assert asyncio.iscoroutinefunction(triple) if sys.version_info < (3, 12) else True
    assert inspect.isgeneratorfunction(count)
    assert inspect.isasyncgenfunction(count_async)
    assert inspect.ismethod(Boat().sail)
    assert str(inspect.signature(Boat().sail)) == "(to: 'str') -> 'tuple[Boat, str]'"
    assert inspect.iscoroutinefunction(Boat().row)
    for observed, bare in ((double, double.__wrapped__), (Boat().sail, Boat().sail.__wrapped__)):  # type: ignore[attr-defined]
        assert observed.__annotations__ == bare.__annotations__
        assert typing.get_type_hints(observed) == typing.get_type_hints(bare) != {}


def test_libraries_that_read_the_types_of_a_tool_find_them(captured: Captured) -> None:
    checked = pydantic.validate_call(double)
    assert checked("4") == 8
    with pytest.raises(pydantic.ValidationError):
        checked("four")
    offered = anthropic.beta_tool(double)
    assert offered.input_schema["properties"]["number"]["type"] == "integer"
    assert captured.total("gen_ai.execute_tool.duration") > 0


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
def test_functions_and_methods_pickle_and_copy_as_before(again: Callable[[Any], Any]) -> None:
    assert again(double) is double
    assert again(triple) is triple
    assert again(count) is count
    boat = Boat("seven")
    assert again(boat.sail)("north") == (boat, "north")
    assert again(Boat.build)("x") == Boat("x")
    assert again(Boat.horn)(2) == "tt"
    assert again(boat) == boat


def test_a_local_function_does_not_pickle_as_before() -> None:
    @seatrace.tool
    def local() -> None: ...

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(local)


def test_results_are_the_very_objects(captured: Captured) -> None:
    result = object()

    @seatrace.tool
    def give() -> object:
        return result

    boat = Boat()
    assert give() is result
    assert boat.sail("south")[0] is boat
    assert Boat.sail(boat, to="south") == (boat, "south")
    assert Boat.build("b") == Boat.rebuild("b") == Boat("b")
    assert boat.horn(2) == Boat.horn(2) == "tt"
    assert boat.bell(2) == Boat.bell(2) == "dd"
    assert asyncio.run(boat.row()) is boat
    assert Ferry().sail("east")[1] == "east!"
    assert [name for name, _, _ in whole(captured)] == [
        "execute_tool give",
        *["execute_tool sail"] * 2,
        "execute_tool build",
        "execute_tool rebuild",
        *["execute_tool horn"] * 2,
        *["execute_tool bell"] * 2,
        "execute_tool row",
        "execute_tool sail",
    ]


def test_attributes_of_what_is_wrapped_are_reached(captured: Captured) -> None:
    @seatrace.tool
    @functools.lru_cache
    def look_up(key: str) -> str:
        return key.upper()

    assert look_up("a") == "A"
    assert look_up("a") == "A"
    assert look_up.cache_info().hits == 1  # type: ignore[attr-defined]
    look_up.cache_clear()  # type: ignore[attr-defined]
    assert len(captured.spans) == 2


def test_partials_and_callable_objects_can_be_tools(captured: Captured) -> None:
    class Call:
        async def __call__(self) -> str:
            return "called"

    assert seatrace.tool(functools.partial(double, 4))() == 8
    assert asyncio.run(seatrace.tool("caller")(Call())()) == "called"
    assert sorted(name for name, _, _ in whole(captured)) == [
        "execute_tool caller",
        "execute_tool double",
        "execute_tool double",
    ]


def test_one_decorator_for_many_functions_keeps_them_apart(captured: Captured) -> None:
    as_tool = seatrace.tool()

    @as_tool
    def first() -> None:
        """One."""

    @as_tool
    def second() -> None:
        """Two."""

    first()
    second()
    assert whole(captured) == [
        tool_span("first", **{"gen_ai.tool.description": "One."}),
        tool_span("second", **{"gen_ai.tool.description": "Two."}),
    ]


def test_wrong_arguments_fail_at_the_call_as_before(captured: Captured) -> None:
    for function in (double, triple, count, count_async):
        with pytest.raises(TypeError) as wrapped:
            function(1, 2, 3)  # type: ignore[call-arg,arg-type]
        with pytest.raises(TypeError) as plain:
            function.__wrapped__(1, 2, 3)  # type: ignore[union-attr]
        assert str(wrapped.value) == str(plain.value)
    assert [name for name, _, _ in whole(captured)] == ["execute_tool double"]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: seatrace.tool(42), "@seatrace.tool: expected a function, got 42"),
        (lambda: seatrace.retriever(42), "@seatrace.retriever: expected a function, got 42"),
        (
            lambda: seatrace.agent(Boat),
            "@seatrace.agent: expected a function, got the class Boat. Decorate the methods",
        ),
        (lambda: seatrace.agent("x")(None), "@seatrace.agent: expected a function, got None"),
        (lambda: seatrace.tool().__enter__(), "with seatrace.tool(...): expected the tool's name"),
        (lambda: seatrace.watch(Boat), "watch(): expected an agent object, got the class Boat"),
        (lambda: seatrace.watch(Boat()), "watch(): expected an object with one of run, arun"),
        (lambda: seatrace.watch(42), "watch(): expected an object with one of run, arun"),
    ],
)
def test_misuse_is_told_clearly(use: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError) as told:
        use()
    assert message in str(told.value)


# --- spans ----------------------------------------------------------------------------------------------------------


def test_spans_are_whole(captured: Captured) -> None:
    @seatrace.retriever("library", top_k=3)
    def find(query: str) -> list[str]:
        return [query]

    @seatrace.workflow(description="Finds")
    def flow() -> None:
        find("x")
        with seatrace.tool("block", description="In place", tool_type="datastore", call_id="call_1"):
            pass

    flow()
    [retrieval, block, run] = captured.spans
    assert whole(captured) == [
        (
            "retrieval library",
            {
                "gen_ai.operation.name": "retrieval",
                "gen_ai.data_source.id": "library",
                "gen_ai.agent.name": "flow",
                "gen_ai.retrieval.top_k": 3,
            },
            "UNSET",
        ),
        (
            "execute_tool block",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "block",
                "gen_ai.tool.type": "datastore",
                "gen_ai.tool.call.id": "call_1",
                "gen_ai.tool.description": "In place",
                "gen_ai.agent.name": "flow",
            },
            "UNSET",
        ),
        (
            "invoke_workflow flow",
            {
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.agent.name": "flow",
                "gen_ai.agent.description": "Finds",
                "seatrace.run.model_calls": 0,
                "seatrace.run.tool_calls": 1,
                "seatrace.run.steps": 0,
                **{f"seatrace.run.time.{each}": ANY for each in ("model", "tool", "waiting", "own")},
            },
            "UNSET",
        ),
    ]
    assert [span.kind.name for span in (retrieval, block, run)] == ["CLIENT", "INTERNAL", "INTERNAL"]
    assert run.context is not None
    assert {span.parent and span.parent.span_id for span in (retrieval, block)} == {run.context.span_id}


def test_an_unnamed_agent_does_not_take_the_name_of_the_one_around_it(captured: Captured) -> None:
    with seatrace.agent("outer"):
        with seatrace.agent():
            pass
    inner, outer = captured.spans
    assert inner.name == "invoke_agent"
    assert "gen_ai.agent.name" not in (inner.attributes or {})
    assert (outer.attributes or {})["gen_ai.agent.name"] == "outer"


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), StopIteration("x"), asyncio.CancelledError()]
)
def test_an_error_is_the_same_object_and_on_the_span(captured: Captured, error: BaseException) -> None:
    @seatrace.tool
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        fail()
    with pytest.raises(type(error)) as in_block:
        with seatrace.tool("fail"):
            raise error
    assert raised.value is error
    assert in_block.value is error
    assert whole(captured) == [tool_span("fail", "ERROR", **{"error.type": type(error).__name__})] * 2
    assert [event.event_name for event in captured.events] == ["gen_ai.execute_tool.exception"] * 2


def test_errors_of_coroutines_and_cancellation(captured: Captured) -> None:
    error = ValueError("no")

    @seatrace.tool
    async def fail() -> None:
        raise error

    @seatrace.tool
    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(ValueError) as raised:
            await fail()
        assert raised.value is error
        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(hang(), 0.01)

    asyncio.run(main())
    assert [(name, attributes["error.type"]) for name, attributes, _ in whole(captured)] == [
        ("execute_tool fail", "ValueError"),
        ("execute_tool hang", "CancelledError"),
        ("execute_tool hang", "CancelledError"),
    ]


def test_recursion_and_depth(captured: Captured) -> None:
    @seatrace.agent
    def down(depth: int) -> int:
        return depth if depth == 3 else down(depth + 1)

    assert down(0) == 3
    spans = captured.spans
    assert [span.name for span in spans] == ["invoke_agent down"] * 4
    for inner, outer in itertools.pairwise(spans):
        assert inner.parent is not None
        assert outer.context is not None
        assert inner.parent.span_id == outer.context.span_id


def test_recursion_may_go_a_quarter_as_deep_as_before(captured: Captured) -> None:
    @seatrace.tool
    def down(depth: int) -> int:
        return depth and down(depth - 1)

    assert down((sys.getrecursionlimit() - len(inspect.stack())) // 4) == 0
    assert len(captured.spans) > 100


def test_runs_in_threads_and_tasks_stay_apart(captured: Captured) -> None:
    together = threading.Barrier(4)

    @seatrace.tool
    def work(number: int) -> int:
        together.wait(10)
        return number

    @seatrace.agent
    def run(number: int) -> int:
        return work(number)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [0, 1, 2, 3]

    @seatrace.tool
    async def work_async() -> None:
        await asyncio.sleep(0)

    @seatrace.agent
    async def run_async() -> None:
        await asyncio.gather(work_async(), work_async())

    async def main() -> None:
        await asyncio.gather(run_async(), run_async(), run_async())

    asyncio.run(main())
    runs = {span.context.span_id: span for span in captured.spans if span.name.startswith("invoke") and span.context}
    tools = [span for span in captured.spans if span.name.startswith("execute")]
    assert len(runs) == 7
    assert len(tools) == 10
    assert all(span.parent is not None and span.parent.span_id in runs for span in tools)
    assert sorted((span.attributes or {})["seatrace.run.tool_calls"] for span in runs.values()) == [1] * 4 + [2] * 3


# --- blocks ---------------------------------------------------------------------------------------------------------


def test_blocks_nest_and_a_block_object_can_be_used_again(captured: Captured) -> None:
    shared = seatrace.agent("shared")

    async def use() -> None:
        async with shared:
            await asyncio.sleep(0)
            with seatrace.tool("inner"):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(use(), use())

    with shared, shared:
        pass
    asyncio.run(main())
    ends = {span.context.span_id: span for span in captured.spans if span.context}
    parents = [(span.name, ends[span.parent.span_id].name if span.parent else None) for span in captured.spans]
    assert sorted(parents, key=str) == [
        ("execute_tool inner", "invoke_agent shared"),
        ("execute_tool inner", "invoke_agent shared"),
        ("invoke_agent shared", "invoke_agent shared"),
        ("invoke_agent shared", None),
        ("invoke_agent shared", None),
        ("invoke_agent shared", None),
    ]
    assert all(
        (span.attributes or {})["seatrace.run.tool_calls"] in (0, 1) for span in captured.spans if span.parent is None
    )
    assert sum(span.end_time is None for span in captured.spans) == 0


def test_a_block_left_in_another_context_ends_quietly(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    import contextvars

    block = seatrace.agent("here")
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert [span.name for span in captured.spans] == ["invoke_agent here"]
    assert caplog.records == []


def test_an_asynchronous_block_ends_with_its_error(captured: Captured) -> None:
    async def main() -> None:
        async with seatrace.tool("block"):
            raise ValueError

    with pytest.raises(ValueError):
        asyncio.run(main())
    assert whole(captured) == [tool_span("block", "ERROR", **{"error.type": "ValueError"})]


# --- generators -----------------------------------------------------------------------------------------------------


def current_name() -> str | None:
    return getattr(trace.get_current_span(), "name", None)


def test_a_generator_sees_its_span_and_its_consumer_does_not(captured: Captured) -> None:
    tracer = captured.tracer_provider.get_tracer("mine")
    seen: list[str | None] = []

    @seatrace.agent
    def run() -> Iterator[int]:
        seen.append(current_name())
        with tracer.start_as_current_span("part"):
            yield 1
            seen.append(current_name())
            double(1)
        yield 2
        seen.append(current_name())
        with seatrace.session(user="u"):
            yield 3
            double(3)

    for _ in run():
        assert current_name() is None
        assert seatrace_context.current_scope() is seatrace_context.EMPTY
        with tracer.start_as_current_span("consumer"):
            double(2)
    assert seen == ["invoke_agent run", "part", "invoke_agent run"]
    spans = captured.spans
    by_id = {span.context.span_id: span.name for span in spans if span.context}
    tools = [span for span in spans if span.name == "execute_tool double"]
    parents = [by_id[span.parent.span_id] for span in tools if span.parent]
    assert parents == ["consumer", "part", "consumer", "consumer", "invoke_agent run"]
    assert [(span.attributes or {}).get("user.id") for span in tools] == [None] * 4 + ["u"]
    [run_span] = [span for span in spans if span.name == "invoke_agent run"]
    assert (run_span.attributes or {})["seatrace.run.tool_calls"] == 2


def test_an_asynchronous_generator_sees_its_span_and_its_consumer_does_not(captured: Captured) -> None:
    tracer = captured.tracer_provider.get_tracer("mine")
    seen: list[str | None] = []

    @seatrace.agent
    async def run() -> AsyncIterator[int]:
        with tracer.start_as_current_span("part"):
            yield 1
            await asyncio.sleep(0)
            seen.append(current_name())
        yield 2
        seen.append(current_name())

    async def main() -> None:
        async for _ in run():
            assert current_name() is None
            await triple(1)

    asyncio.run(main())
    assert seen == ["part", "invoke_agent run"]
    assert [span.name for span in captured.spans] == [
        "execute_tool tripler",
        "part",
        "execute_tool tripler",
        "invoke_agent run",
    ]


def test_two_generators_in_turns_stay_apart(captured: Captured) -> None:
    @seatrace.agent
    def run(name: str) -> Iterator[str | None]:
        for _ in range(2):
            with seatrace.session(user=name):
                yield name
                double(1)

    assert list(zip(run("a"), run("b"), strict=True)) == [("a", "b"), ("a", "b")]
    users = [(span.attributes or {})["user.id"] for span in captured.spans if span.name.startswith("execute")]
    assert users == ["a", "b", "a", "b"]


def test_a_generator_may_be_driven_from_many_threads(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    @seatrace.agent
    def run() -> Iterator[int]:
        for number in range(4):
            double(number)
            yield number

    running = run()
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        got = [pool.submit(next, running, None).result() for pool in (first, second, first, second, first)]
    assert got == [0, 1, 2, 3, None]
    assert caplog.records == []
    assert [span.name for span in captured.spans] == ["execute_tool double"] * 4 + ["invoke_agent run"]


def test_generators_keep_their_protocol(captured: Captured) -> None:
    def talk() -> Generator[Any, Any, str]:
        heard: list[Any] = []
        while len(heard) < 4:
            try:
                heard.append((yield list(heard)))
            except ValueError as error:
                heard.append(error)
        return "bye"

    def drive(make: Callable[[], Generator[Any, Any, str]]) -> list[Any]:
        error = ValueError("in")
        body = make()
        said = [next(body), body.send("a"), body.throw(error), next(body)]
        assert said[2][1] is error
        try:
            body.send("b")
        except StopIteration as stop:
            said.append(stop.value)
        return [[str(each) for each in words] if isinstance(words, list) else words for words in said]

    observed = seatrace.agent(talk)
    assert drive(observed) == drive(talk)
    body = observed()
    assert (type(body), body.__name__, body.__qualname__) == (type(talk()), talk.__name__, talk.__qualname__)
    assert list(said_by(observed())) == [[], [None], [None] * 2, [None] * 3, "bye"]
    with pytest.raises(TypeError, match="just-started"):
        observed().send("too early")
    assert [span.status.status_code.name for span in captured.spans] == ["UNSET", "UNSET"]


def said_by(body: Generator[Any, Any, Any]) -> Iterator[Any]:
    said = yield from body
    yield said


def test_close_reaches_the_body_and_is_no_error(captured: Captured) -> None:
    cleaned: list[str | None] = []

    @seatrace.agent
    def run() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(current_name())
            double(1)

    for _ in run():
        break
    started = run()
    next(started)
    started.close()  # type: ignore[attr-defined]
    run().close()  # type: ignore[attr-defined]
    gc.collect()
    assert cleaned == ["invoke_agent run"] * 2
    assert [(name, status) for name, _, status in whole(captured)] == [
        ("execute_tool double", "UNSET"),
        ("invoke_agent run", "UNSET"),
    ] * 2


def test_a_body_that_does_not_stop_is_told_as_before(captured: Captured) -> None:
    def stubborn() -> Iterator[int]:
        while True:
            try:
                yield 1
            except GeneratorExit:
                pass

    for make in (stubborn, seatrace.agent(stubborn)):
        body: Any = make()
        next(body)
        with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
            body.close()
        with pytest.raises(ValueError):
            body.throw(ValueError())


def test_an_error_thrown_in_and_not_caught_is_on_the_span(captured: Captured) -> None:
    @seatrace.agent
    def run() -> Generator[int, None, None]:
        yield 1

    error = ValueError("in")
    body = run()
    next(body)
    with pytest.raises(ValueError) as raised:
        body.throw(error)
    assert raised.value is error
    assert [(name, status) for name, _, status in whole(captured)] == [("invoke_agent run", "ERROR")]


def test_a_dropped_generator_in_a_cycle_is_ended_by_the_collector(captured: Captured) -> None:
    @seatrace.agent
    def run() -> Iterator[int]:
        try:
            yield 1
        finally:
            double(1)

    gc.disable()
    try:
        holder: dict[str, Any] = {"body": run()}
        next(holder["body"])
        holder["self"] = holder
        del holder
        gc.collect()
    finally:
        gc.enable()
    assert sorted(span.name for span in captured.spans) == ["execute_tool double", "invoke_agent run"]


def test_emitting_waits_while_the_collector_runs() -> None:
    """The collection may have begun inside the SDK, under a lock that emitting needs."""
    with capture() as captured:

        @seatrace.agent
        def run() -> Iterator[int]:
            yield 1

        @seatrace.agent
        async def run_async() -> None:
            await asyncio.sleep(0)

        ended: list[str] = []

        remove = seatrace.on_call(lambda call: ended.append(call.name or ""))
        during: list[list[str]] = []

        def phase(phase: str, info: dict[str, int]) -> None:
            if phase == "stop":
                during.append(list(ended))

        gc.collect()
        gc.disable()
        gc.callbacks.append(phase)
        try:
            holder: dict[str, Any] = {"body": run(), "coroutine": run_async()}
            next(holder["body"])
            holder["coroutine"].send(None)
            holder["self"] = holder
            del holder
            gc.collect()
        finally:
            gc.callbacks.remove(phase)
            gc.enable()
            remove()
        assert during[-1] == []
        assert sorted(span.name for span in captured.spans) == ["invoke_agent run", "invoke_agent run_async"]


def test_asynchronous_generators_keep_their_protocol(captured: Captured) -> None:
    async def talk() -> Any:
        heard: list[Any] = []
        while len(heard) < 3:
            await asyncio.sleep(0)
            try:
                heard.append((yield list(heard)))
            except ValueError as error:
                heard.append(str(error))

    async def drive(make: Callable[[], Any]) -> list[Any]:
        body = make()
        said = [await body.__anext__(), await body.asend("a"), await body.athrow(ValueError("in"))]
        with pytest.raises(StopAsyncIteration):
            await body.asend("b")
        return said

    async def main() -> None:
        observed = seatrace.agent(talk)
        assert await drive(observed) == await drive(talk)
        early = observed()
        async for _ in early:
            break
        await early.aclose()
        with pytest.raises(StopAsyncIteration):
            await early.__anext__()
        dropped = observed()
        await dropped.__anext__()
        del dropped
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [(name, status) for name, _, status in whole(captured)] == [("invoke_agent talk", "UNSET")] * 3


def test_a_cancelled_asynchronous_generator_is_an_error(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    @seatrace.agent
    async def run() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in run():
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    [(name, attributes, status)] = whole(captured)
    assert (name, attributes["error.type"], status) == ("invoke_agent run", "CancelledError", "ERROR")
    assert caplog.records == []


def test_a_loop_that_ends_early_leaves_no_noise(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    @seatrace.agent
    async def run() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)

    async def leave() -> Any:
        body = run()
        await body.__anext__()  # type: ignore[attr-defined]
        return body

    asyncio.run(leave())
    gc.collect()
    assert [(name, status) for name, _, status in whole(captured)] == [("invoke_agent run", "UNSET")]
    assert caplog.records == []


@pytest.mark.filterwarnings("ignore:coroutine.*never awaited:RuntimeWarning")
def test_what_is_never_started_is_no_call_and_warns_once(captured: Captured) -> None:
    import warnings

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        triple(1)
        count(1)
        count_async(1)
        gc.collect()
    assert ["coroutine 'triple' was never awaited" in str(each.message) for each in told] == [True]
    assert captured.spans == []


# --- plain functions that return something which goes on ------------------------------------------------------------


def test_a_plain_function_that_returns_a_generator_or_coroutine_is_followed(captured: Captured) -> None:
    def numbers() -> Iterator[int]:
        double(1)
        yield 1

    async def later() -> int:
        await asyncio.sleep(0)
        return await triple(1)

    @seatrace.agent
    def run() -> Iterator[int]:
        return numbers()

    @seatrace.agent
    def run_later() -> Any:
        return later()

    @seatrace.agent
    def run_task() -> Any:
        return asyncio.ensure_future(later())

    assert list(run()) == [1]

    async def main() -> None:
        assert await run_later() == 3
        task = run_task()
        assert isinstance(task, asyncio.Task)
        assert await task == 3
        await asyncio.sleep(0)

    asyncio.run(main())
    names = [span.name for span in captured.spans]
    assert names == [
        "execute_tool double",
        "invoke_agent run",
        "execute_tool tripler",
        "invoke_agent run_later",
        "execute_tool tripler",
        "invoke_agent run_task",
    ]
    assert all(span.parent is not None for span in captured.spans if span.name.startswith("execute"))


def test_a_returned_generator_that_nobody_starts_still_ends_its_call(captured: Captured) -> None:
    @seatrace.agent
    def run() -> Iterator[int]:
        return (number for number in range(3))

    run()
    assert [span.name for span in captured.spans] == ["invoke_agent run"]


# --- switched off ---------------------------------------------------------------------------------------------------


def test_switched_off_the_decorators_hand_everything_through() -> None:
    body = count(3)
    assert inspect.getgeneratorstate(body) == "GEN_CREATED"
    assert body.gi_code.co_name == "count"
    coroutine = triple(1)
    assert coroutine.cr_code.co_name == "triple"  # type: ignore[attr-defined]
    coroutine.close()  # type: ignore[attr-defined]
    with seatrace.agent("x") as step:
        assert current_name() is None
    assert step.call.span is None


def test_switched_off_a_decorated_call_is_one_call_more() -> None:
    def plain(number: int) -> int:
        return number

    observed, called = seatrace.tool(plain), list[str]()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_call"):
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        observed(1)
    finally:
        sys.setprofile(None)
    assert called[:-1] == ["wrapper", "plain"]  # the last is what ends the profile


def test_switching_off_in_the_middle_lets_the_run_end() -> None:
    with capture() as captured:

        @seatrace.agent
        def run() -> Iterator[int]:
            yield 1
            seatrace.uninstrument()
            yield 2

        assert list(run()) == [1, 2]
        assert [span.name for span in captured._spans.get_finished_spans()] == ["invoke_agent run"]
