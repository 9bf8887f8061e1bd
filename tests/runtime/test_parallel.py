"""Tasks side by side: order, limits, times, modes, what is cancelled and what is told."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seatrace
from seatrace import testing
from seatrace.errors import ConfigError
from seatrace.runtime import Outcome, Outcomes, ParallelError, TaskTimeout, parallel, parallel_sync

from .virtual import run


async def after(seconds: float, value: Any) -> Any:
    await asyncio.sleep(seconds)
    if isinstance(value, BaseException):
        raise value
    return value


def statuses(outcomes: Outcomes[Any]) -> list[str]:
    return [each.status for each in outcomes]


@settings(max_examples=100, deadline=None)
@given(times=st.lists(st.floats(0, 5), max_size=20), limit=st.one_of(st.none(), st.integers(1, 6)))
def test_results_come_in_the_order_of_the_tasks_and_no_more_run_than_may(times: list[float], limit: int | None) -> None:
    now = most = 0

    async def task(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(times[number])
        now -= 1
        return number

    outcomes = run(parallel((partial(task, number) for number in range(len(times))), limit=limit))
    assert outcomes.values == list(range(len(times)))
    assert most <= (limit or len(times))


def test_the_first_error_is_raised_as_it_is_and_stops_the_others() -> None:
    error = ValueError("mine")
    ended: list[str] = []

    async def patient() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ValueError) as raised:
            await parallel([patient, after(1, error), after(60, 1), after(60, 2)], limit=2)
        assert raised.value is error
        assert loop.time() == 1_001
        assert ended == ["cancelled"]

    run(main())


def test_settle_keeps_every_outcome() -> None:
    error = KeyError("x")
    outcomes = run(parallel([after(1, "a"), after(2, error), after(9, "c"), lambda: "d"], mode="settle", timeout=5))
    assert statuses(outcomes) == ["ok", "error", "timeout", "ok"]
    assert outcomes.values == ["a", "d"]
    assert outcomes[1] == Outcome(1, "error", error=error, duration=outcomes[1].duration)
    with pytest.raises(KeyError):
        outcomes[1].result()
    with pytest.raises(TimeoutError, match="task 2"):
        outcomes[2].result()


def test_the_first_success_cancels_the_others() -> None:
    async def main() -> float:
        outcomes = await parallel([after(9, "slow"), after(1, OSError()), after(2, "fast")], mode="first")
        assert statuses(outcomes) == ["cancelled", "error", "ok"]
        assert outcomes.values == ["fast"]
        return asyncio.get_running_loop().time()

    assert run(main()) == 1_002


def test_a_quorum_is_enough_and_one_out_of_reach_fails_at_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        outcomes = await parallel([after(1, 1), after(9, 9), after(2, 2)], mode="quorum", quorum=2)
        assert (outcomes.values, loop.time()) == ([1, 2], 1_002)
        error = OSError("down")
        with pytest.raises(ParallelError, match="expected 2 of 3 tasks") as raised:
            await parallel([after(1, error), after(2, OSError()), after(60, 1)], mode="quorum", quorum=2)
        assert raised.value.__cause__ is error
        assert statuses(raised.value.outcomes) == ["error", "error", "cancelled"]
        assert loop.time() == 1_004

    run(main())


def test_time_for_all_together_ends_who_runs_and_who_has_not_begun() -> None:
    outcomes = run(parallel([after(1, 1), after(60, 2), after(1, 3)], limit=1, total_timeout=5, mode="settle"))
    assert statuses(outcomes) == ["ok", "timeout", "timeout"]


def test_a_cancelled_caller_takes_its_tasks_along() -> None:
    alive: list[int] = []

    async def patient(number: int) -> None:
        alive.append(number)
        try:
            await asyncio.sleep(60)
        finally:
            alive.remove(number)

    async def main() -> None:
        running = asyncio.ensure_future(parallel([partial(patient, number) for number in range(5)], limit=3))
        await asyncio.sleep(1)
        assert len(alive) == 3
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert alive == []

    run(main())


def test_no_tasks_have_no_outcomes() -> None:
    assert run(parallel([])) == []
    assert parallel_sync([]) == []
    with pytest.raises(ParallelError):
        parallel_sync([], mode="first")


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_work_side_by_side_and_in_order() -> None:
    met = threading.Barrier(4)

    def task(number: int) -> int:
        met.wait(30)  # breaks unless four run at once
        return number

    assert parallel_sync([partial(task, number) for number in range(8)], limit=4).values == list(range(8))


def test_a_thread_that_takes_too_long_is_left_behind() -> None:
    release = threading.Event()
    try:
        outcomes = parallel_sync([release.wait, lambda: 1, lambda: 2], limit=1, timeout=1, mode="settle")
        assert statuses(outcomes) == ["timeout", "ok", "ok"]
        outcomes = parallel_sync([release.wait, lambda: 1], mode="first")
        assert statuses(outcomes) == ["cancelled", "ok"]
    finally:
        release.set()


@pytest.mark.parametrize("error", [ValueError("mine"), StopIteration(), TaskTimeout("own"), TimeoutError()], ids=repr)
def test_errors_of_threads_pass_unchanged(error: Exception) -> None:
    def failing() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        parallel_sync([failing])
    assert raised.value is error


def test_a_coroutine_function_among_threads_is_named() -> None:
    with pytest.raises(TypeError, match="await parallel"):
        parallel_sync([partial(after, 0, 1)])


# --- both -------------------------------------------------------------------------------------------------------------

_request: ContextVar[str] = ContextVar("request", default="none")


@pytest.mark.parametrize("go", [lambda tasks: asyncio.run(parallel(tasks)), parallel_sync], ids=["async", "sync"])
def test_tasks_see_the_callers_context_and_not_each_others(go: Callable[[Any], Outcomes[str]]) -> None:
    def task(number: int) -> str:
        seen = _request.get()
        _request.set(f"task {number}")
        return seen

    token = _request.set("r-7")
    try:
        assert go([partial(task, number) for number in range(3)]).values == ["r-7"] * 3
        assert _request.get() == "r-7"
    finally:
        _request.reset(token)


def _run_async(*tasks: Any, **options: Any) -> Any:
    return asyncio.run(parallel(*tasks, **options))


@pytest.mark.parametrize("go", [_run_async, parallel_sync], ids=["async", "sync"])
def test_each_task_is_a_span_below_its_caller(go: Callable[..., Any]) -> None:
    def look_up() -> int:
        return 1

    def fail() -> int:
        raise OSError

    with testing.capture() as captured:
        with seatrace.tool("search"):
            go([look_up, fail], mode="settle", name="shelves")
        spans = {span.name: span for span in captured.spans}
        outer = spans["execute_tool search"].context.span_id
        assert {name: span.parent and span.parent.span_id for name, span in spans.items()} == {
            "execute_tool search": None,
            "task look_up": outer,
            "task fail": outer,
        }
        assert spans["task fail"].attributes == {
            "seatrace.parallel.name": "shelves",
            "seatrace.parallel.index": 1,
            "error.type": "OSError",
        }
        assert captured.total("seatrace.parallel.width") == 2
        assert captured.total("seatrace.parallel.tasks", seatrace_parallel_outcome="ok") == 1
        assert captured.total("seatrace.parallel.tasks", seatrace_parallel_outcome="error") == 1
        assert captured.points("seatrace.parallel.duration")[0].count == 1
        assert captured.points("seatrace.parallel.speedup")[0].count == 1


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": 1.5},
        {"timeout": 0},
        {"timeout": math.nan},
        {"total_timeout": -1},
        {"mode": "any"},
        {"mode": "quorum", "quorum": 0},
        {"mode": "quorum", "quorum": 3},
    ],
    ids=repr,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=list(options)[-1]):
        parallel_sync([lambda: 1, lambda: 2], **options)
