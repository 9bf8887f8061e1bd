"""measure(): every kind of function and block, every outcome, windows, bounds, metrics."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from seatrace.core import guard
from seatrace.runtime import perf
from seatrace.runtime.perf import PerformanceMonitor, measure
from seatrace.testing import Captured, capture


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitor(clock: Clock) -> PerformanceMonitor:
    return PerformanceMonitor(clock=clock, window=60, slices=6)


@measure("of the module")
def of_the_module(x: int = 1, *, y: int = 2) -> int:
    """Doc."""
    return x + y


# --- what can be measured -------------------------------------------------------------------------------------------


def test_a_function_is_as_before(monitor: PerformanceMonitor) -> None:
    assert of_the_module(2, y=3) == 5
    assert of_the_module.__doc__ == "Doc."
    assert str(inspect.signature(of_the_module)) == "(x: 'int' = 1, *, y: 'int' = 2) -> 'int'"
    assert pickle.loads(pickle.dumps(of_the_module)) is of_the_module
    assert inspect.isfunction(of_the_module)
    assert perf.monitor.stats("of the module") is not None


def test_functions_of_every_kind(monitor: PerformanceMonitor, clock: Clock) -> None:
    @monitor.measure()
    def plain() -> str:
        clock.sleep(1)
        return "plain"

    @monitor.measure()
    async def coroutine() -> str:
        await asyncio.sleep(0)
        clock.sleep(2)
        return "coroutine"

    @monitor.measure()
    def generator() -> Iterator[int]:
        got = yield 1
        assert got == "sent"
        clock.sleep(3)
        yield 2

    @monitor.measure()
    async def async_generator() -> AsyncIterator[int]:
        got = yield 1
        assert got == "sent"
        clock.sleep(4)
        yield 2

    @monitor.measure()
    def returns_future() -> Future[int]:
        return future

    future: Future[int] = Future()
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)

    async def main() -> None:
        assert await coroutine() == "coroutine"
        values = async_generator()
        assert await values.__anext__() == 1
        assert await values.asend("sent") == 2  # type: ignore[attr-defined]
        with pytest.raises(StopAsyncIteration):
            await values.__anext__()

    assert plain() == "plain"
    asyncio.run(main())
    values = generator()
    assert next(values) == 1
    assert values.send("sent") == 2  # type: ignore[attr-defined]
    assert list(values) == []
    assert returns_future() is future
    clock.sleep(5)
    future.set_result(1)
    assert {name: stats.mean for name in monitor.names if (stats := monitor.stats(name))} == {
        "plain": 1, "coroutine": 2, "async_generator": 4, "generator": 3, "returns_future": 5,
    }  # fmt: skip


def test_methods_of_every_kind(monitor: PerformanceMonitor) -> None:
    class Agent:
        @monitor.measure("run")
        def run(self, x: int) -> tuple[Any, int]:
            return self, x

        @monitor.measure("make")
        @classmethod
        def make(cls) -> type:
            return cls

        @staticmethod
        @monitor.measure("static")
        def static(x: int) -> int:
            return x

    agent = Agent()
    assert agent.run(1) == (agent, 1)
    assert Agent.make() is Agent
    assert agent.static(3) == 3
    assert monitor.names == ["run", "make", "static"]


def test_blocks_nest_and_may_be_used_again(monitor: PerformanceMonitor, clock: Clock) -> None:
    block = monitor.measure("block")
    with block:
        clock.sleep(1)
        with block:
            clock.sleep(2)

    async def task(seconds: float) -> None:
        async with block:
            await asyncio.sleep(0)
            clock.sleep(seconds)

    async def main() -> None:
        await asyncio.gather(task(0), task(0))

    asyncio.run(main())
    stats = monitor.stats("block")
    assert stats is not None
    assert (stats.count, stats.min, stats.max) == (4, 0, 3)


def test_it_works_bare() -> None:
    @measure
    def bare() -> int:
        return 1

    assert bare() == 1
    assert "bare" in perf.monitor.names


@pytest.mark.parametrize("thing", [3, int, PerformanceMonitor])
def test_what_is_no_function_cannot_be_measured(thing: Any) -> None:
    with pytest.raises(TypeError, match="expected a function"):
        measure(thing)


def test_a_block_needs_a_name() -> None:
    with pytest.raises(TypeError, match="expected the operation's name"):
        with measure():
            pass


# --- outcomes -------------------------------------------------------------------------------------------------------


def test_errors_are_of_the_same_name_and_their_times_apart(monitor: PerformanceMonitor, clock: Clock) -> None:
    @monitor.measure("call")
    def call(fails: bool) -> None:
        clock.sleep(10 if fails else 1)
        if fails:
            raise KeyError("mine")

    for _ in range(3):
        call(False)
    with pytest.raises(KeyError, match="mine"):
        call(True)
    good, bad, both = (monitor.stats("call", outcome=each) for each in ("ok", "error", "all"))  # type: ignore[arg-type]
    assert good is not None
    assert bad is not None
    assert both is not None
    assert (good.count, good.errors, good.error_rate, good.cancelled) == (4, 1, 0.25, 0)
    assert (good.max, bad.min, both.max) == (1, 10, 10)


async def test_a_cancelled_task_is_nobodys_error(monitor: PerformanceMonitor) -> None:
    @monitor.measure("slow")
    async def slow() -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(slow())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stats = monitor.stats("slow")
    assert stats is not None
    assert (stats.count, stats.errors, stats.cancelled, stats.error_rate, stats.p50) == (1, 0, 1, None, None)


@pytest.mark.parametrize("end", ["close", "drop", "cycle"])
def test_a_generator_that_is_left_is_cancelled(monitor: PerformanceMonitor, clock: Clock, end: str) -> None:
    @monitor.measure("values")
    def values() -> Iterator[int]:
        yield 1
        yield 2

    running: Any = values()
    next(running)
    clock.sleep(2)
    if end == "close":
        running.close()
    elif end == "cycle":
        ring: list[Any] = [running]
        ring.append(ring)
        del ring
    del running
    gc.collect()
    stats = monitor.stats("values", outcome="cancelled")
    assert stats is not None
    assert (stats.cancelled, stats.errors, stats.max) == (1, 0, 2)
    assert [value for _, value, _ in monitor.readings()] == [0]


def test_a_block_can_say_that_it_failed(monitor: PerformanceMonitor) -> None:
    with monitor.measure("parse") as timing:
        timing.fail(ValueError("handled"))
    stats = monitor.stats("parse")
    assert stats is not None
    assert stats.errors == 1


# --- figures --------------------------------------------------------------------------------------------------------


def test_percentiles_are_nearest_rank_and_exact_to_one_percent(monitor: PerformanceMonitor) -> None:
    for value in range(1, 101):
        monitor.record("n", float(value))
    stats = monitor.stats("n")
    assert stats is not None
    assert stats.p50 == pytest.approx(50, rel=0.01)
    assert stats.p90 == pytest.approx(90, rel=0.01)
    assert stats.p95 == pytest.approx(95, rel=0.01)
    assert stats.p99 == pytest.approx(99, rel=0.01)
    assert (stats.min, stats.max, stats.mean, stats.count) == (1, 100, 50.5, 100)


def test_the_window_moves_on_and_the_whole_stays(monitor: PerformanceMonitor, clock: Clock) -> None:
    monitor.record("n", 1.0)
    clock.sleep(30)
    monitor.record("n", 3.0)
    recent, whole = monitor.stats("n", window="recent"), monitor.stats("n")
    assert recent == whole
    clock.sleep(31)
    recent, whole = monitor.stats("n", window="recent"), monitor.stats("n")
    assert recent is not None
    assert whole is not None
    assert (recent.count, recent.min) == (1, 3)
    assert (whole.count, whole.min) == (2, 1)
    assert recent.rate == pytest.approx(1 / 60)
    clock.sleep(1e6)
    recent, whole = monitor.stats("n", window="recent"), monitor.stats("n")
    assert recent is not None
    assert whole is not None
    assert (recent.count, recent.error_rate, recent.p99, recent.rate) == (0, None, None, 0)
    assert whole.count == 2


def test_a_clock_that_goes_back_loses_nothing(monitor: PerformanceMonitor, clock: Clock) -> None:
    monitor.record("n", 1.0)
    clock.now -= 500
    monitor.record("n", 2.0)
    stats = monitor.stats("n", window="recent")
    assert stats is not None
    assert stats.count == 2


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1.0])
def test_a_time_that_is_none_still_counts(monitor: PerformanceMonitor, duration: float) -> None:
    monitor.record("n", duration)
    stats = monitor.stats("n")
    assert stats is not None
    assert (stats.count, stats.mean, stats.p50) == (1, None, None)


def test_names_beyond_the_limit_are_measured_together() -> None:
    monitor = PerformanceMonitor(max_names=3)
    for number in range(10):
        monitor.record(str(number), 1.0)
    assert monitor.names == ["0", "1", "2", "_OTHER"]
    stats = monitor.stats("_OTHER")
    assert stats is not None
    assert stats.count == 7


def test_the_report_is_a_table(monitor: PerformanceMonitor) -> None:
    for _ in range(1200):
        monitor.record("agent.run", 0.25)
    monitor.record("agent.run", 2.0, outcome="error")
    monitor.record("parse", 0.0000125)
    lines = monitor.report().splitlines()
    assert lines[0].split()[:5] == ["operation", "count", "errors", "rate/s", "min"]
    assert lines[2].split()[:3] == ["agent.run", "1,201", "0.1%"]
    assert lines[2].endswith("250 ms")
    assert "12.5 µs" in lines[3]
    assert len({line.index("max") + 3 for line in lines[:1]} | {len(line) for line in lines[1:]}) == 1


def test_rich_draws_it_where_rich_is_there(monitor: PerformanceMonitor) -> None:
    from io import StringIO

    from rich.console import Console

    monitor.record("[bold]agent.run", 0.25)
    out = StringIO()
    Console(file=out, width=140).print(monitor)
    assert "[bold]agent.run" in out.getvalue()
    assert "250 ms" in out.getvalue()


def test_snapshots_of_processes_add_up(monitor: PerformanceMonitor) -> None:
    other = PerformanceMonitor()
    for value in range(100):
        monitor.record("n", float(value))
        other.record("n", float(value + 100), outcome="ok" if value else "error")
    other.record("theirs", 1.0)
    monitor.merge(json.loads(json.dumps(other.snapshot())))
    stats = monitor.stats("n")
    assert stats is not None
    assert (stats.count, stats.errors, stats.max) == (200, 1, 199)
    assert stats.p50 == pytest.approx(99, rel=0.02)
    assert monitor.names == ["n", "theirs"]
    monitor.merge(monitor)
    doubled = monitor.stats("n")
    assert doubled is not None
    assert doubled.count == 400


def test_a_monitor_of_another_accuracy_is_refused_as_a_whole(monitor: PerformanceMonitor) -> None:
    other = PerformanceMonitor(accuracy=0.02)
    other.record("n", 1.0)
    with pytest.raises(ValueError, match="accuracy"):
        monitor.merge(other)
    assert monitor.names == []


def test_a_reset_forgets(monitor: PerformanceMonitor) -> None:
    with monitor.measure("n"):
        monitor.record("n", 1.0)
        monitor.reset()
    stats = monitor.stats("n")
    assert stats is not None
    assert stats.count == 1, "the one that was running"


@pytest.mark.parametrize(
    "options", [{"accuracy": 0}, {"window": 0}, {"window": float("nan")}, {"slices": 0}, {"max_names": 0}], ids=str
)
def test_numbers_out_of_range_are_refused(options: Any) -> None:
    with pytest.raises(ValueError):
        PerformanceMonitor(**options)


def test_unknown_windows_and_outcomes_are_refused(monitor: PerformanceMonitor) -> None:
    assert monitor.stats("never seen") is None
    with pytest.raises(ValueError, match="window"):
        monitor.stats("n", window="5m")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="outcome"):
        monitor.stats("n", outcome="bad")  # type: ignore[arg-type]


# --- threads and processes ------------------------------------------------------------------------------------------


def test_threads_lose_nothing(monitor: PerformanceMonitor) -> None:
    @monitor.measure("n")
    def work() -> None:
        pass

    def many() -> None:
        for _ in range(500):
            work()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(many) for _ in range(8)]:
            done.result()
    stats = monitor.stats("n")
    assert stats is not None
    assert stats.count == 4000
    assert [value for _, value, _ in monitor.readings()] == [0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_can_measure_though_a_thread_held_the_lock() -> None:
    monitor, held, done = PerformanceMonitor(), threading.Event(), threading.Event()

    def hold() -> None:
        with monitor._lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        monitor.record("n", 1.0)
        os._exit(0 if monitor.names == ["n"] else 1)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


# --- metrics --------------------------------------------------------------------------------------------------------


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


def test_times_are_recorded_as_a_metric(captured: Captured) -> None:
    monitor = PerformanceMonitor(max_names=2)
    with monitor.measure("one"):
        pass
    with pytest.raises(KeyError), monitor.measure("one"):
        raise KeyError
    with monitor.measure("two"), monitor.measure("three"):
        pass
    points = captured.points("seatrace.operation.duration")
    found = {
        (each.attributes["seatrace.operation.name"], each.attributes.get("error.type")): each.count for each in points
    }
    assert found == {("one", None): 1, ("one", "KeyError"): 1, ("two", None): 1, ("_OTHER", None): 1}


def test_what_runs_is_a_gauge(captured: Captured) -> None:
    monitor, faults = PerformanceMonitor(), guard.faults.get("measure")
    with monitor.measure("running now"), monitor.measure("running now"):
        assert captured.total("seatrace.operation.active", seatrace_operation_name="running now") == 2
    assert captured.total("seatrace.operation.active", seatrace_operation_name="running now") == 0
    assert guard.faults.get("measure") == faults


def test_the_gauge_is_there_from_the_first_operation_on() -> None:
    program = """
from seatrace.runtime.perf import PerformanceMonitor
from seatrace.testing import capture
monitor = PerformanceMonitor()
with capture() as captured, monitor.measure("first"):
    assert captured.total("seatrace.operation.active") == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
