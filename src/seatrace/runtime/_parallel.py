"""Several tasks at a time: with a limit, a time for each, results in order, and a span a task.

``await parallel([...])`` in an event loop, ``parallel_sync([...])`` with threads. Both return :class:`Outcomes`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Generic, Literal, TypeVar, cast

from seatrace.core import signals
from seatrace.core.record import Call
from seatrace.core.step import Step
from seatrace.emit import semconv
from seatrace.emit.catalogue import patterns
from seatrace.errors import ConfigError, SeatraceError

from ._options import check_choice, check_count, check_number
from ._threads import Ended, start_thread

__all__ = ["Outcome", "Outcomes", "ParallelError", "TaskTimeout", "parallel", "parallel_sync"]

R = TypeVar("R")

Mode = Literal["all", "settle", "first", "quorum"]
Status = Literal["ok", "error", "timeout", "cancelled"]


class ParallelError(SeatraceError):
    """Fewer tasks succeeded than ``mode`` needs. ``outcomes`` says what became of each."""

    def __init__(self, message: str, outcomes: Outcomes[Any]) -> None:
        super().__init__(message)
        self.outcomes = outcomes


class TaskTimeout(SeatraceError, TimeoutError):
    """A task took longer than it may."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What became of one task."""

    index: int
    """Its place among the tasks."""
    status: Status
    value: R | None = None
    """What it returned, where ``status`` is ``"ok"``."""
    error: BaseException | None = None
    """What it raised, or :class:`TaskTimeout`."""
    duration: float = 0.0
    """Seconds it ran."""

    @property
    def ok(self) -> bool:
        """Whether it returned."""
        return self.status == "ok"

    def result(self) -> R:
        """What it returned; raises what it raised."""
        if self.status == "ok":
            return cast(R, self.value)
        raise self.error or asyncio.CancelledError()


class Outcomes(list[Outcome[R]]):
    """One :class:`Outcome` a task, in the order of the tasks."""

    @property
    def values(self) -> list[R]:
        """What the tasks returned that did, in order."""
        return [cast(R, each.value) for each in self if each.ok]

    @property
    def errors(self) -> list[BaseException]:
        """What the others raised, in order."""
        return [each.error for each in self if each.error is not None]


async def parallel(
    tasks: Iterable[Callable[[], Awaitable[R] | R] | Awaitable[R]],
    *,
    limit: int | None = 8,
    timeout: float | None = None,
    total_timeout: float | None = None,
    mode: Mode = "all",
    quorum: int = 1,
    name: str = "parallel",
) -> Outcomes[R]:
    """Runs ``tasks``, functions without arguments or awaitables, and returns what became of each, in their order.

    Each task has a copy of the caller's context. A plain function runs in the event loop: give blocking ones to
    :func:`parallel_sync`, or wrap them in ``asyncio.to_thread``. When this returns or raises, no task runs any more.

    Args:
        tasks: All are taken at once, and at most ``limit`` run at a time (``None``: all).
        timeout: Seconds for each task from its own start. It is cancelled then.
        total_timeout: Seconds for all together; who has not begun by then does not.
        mode: ``"all"``: the first error cancels the others and is raised as it is. ``"settle"``: errors and timeouts
            are outcomes. ``"first"``: the first that succeeds cancels the others. ``"quorum"``: so do the first
            ``quorum`` that succeed.
        name: Stands on the metrics. Give it one of few values.

    Raises:
        ParallelError: ``"first"`` or ``"quorum"`` is out of reach; its cause is the first error.
        TaskTimeout: In mode ``"all"``.
        ConfigError: An option makes no sense.
    """
    given = list(tasks)
    clock = asyncio.get_running_loop().time
    watch = _Watch[R](len(given), mode, quorum, limit, timeout, total_timeout, name, clock)
    context = copy_context()

    async def one(index: int, task: Any) -> R:
        with watch.step(task, index):
            made = task() if callable(task) else task
            return cast(R, await made if inspect.isawaitable(made) else made)

    async def work() -> None:
        while (index := watch.next()) is not None:
            running = context.copy().run(asyncio.ensure_future, one(index, given[index]))
            started = clock()
            try:
                done, _ = await asyncio.wait([running], timeout=watch.time_left(started))
                if not done:
                    await _cancelled(running)
                watch.settle(_outcome(running, index, clock() - started, timed_out=not done))
            except asyncio.CancelledError:
                await _cancelled(running)
                watch.settle(_outcome(running, index, clock() - started))
                raise

    workers = [asyncio.ensure_future(work()) for _ in range(watch.width)]
    busy = set(workers)
    try:
        while busy and not watch.decided:
            _, busy = await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for each in given:
            if inspect.iscoroutine(each):
                each.close()  # those that did not begin; does nothing to the others
        watch.measure()
    return watch.finish()


def parallel_sync(
    tasks: Iterable[Callable[[], R]],
    *,
    limit: int | None = 8,
    timeout: float | None = None,
    total_timeout: float | None = None,
    mode: Mode = "all",
    quorum: int = 1,
    name: str = "parallel",
) -> Outcomes[R]:
    """:func:`parallel` with a daemon thread a task.

    A thread cannot be cancelled: this returns when the outcome is decided, and what tasks do after their time, or
    after the others are no longer needed, is dropped. They do not count against ``limit`` any more.
    """
    given = list(tasks)
    watch = _Watch[R](len(given), mode, quorum, limit, timeout, total_timeout, name, monotonic)
    ended: SimpleQueue[tuple[int, Ended[R]]] = SimpleQueue()
    running: dict[int, float] = {}

    def one(index: int) -> R:
        with watch.step(given[index], index):
            value = given[index]()
            if inspect.iscoroutine(value):
                value.close()
                raise TypeError("parallel_sync: expected a plain function, got a coroutine's. Use `await parallel()`.")
            return value

    try:
        while not watch.decided:
            while len(running) < watch.width and (index := watch.next()) is not None:
                running[index] = monotonic()
                start_thread(partial(one, index), partial(_put, ended, index), name=f"seatrace-{name}")
            if not running:
                break
            ends = [watch.time_left(started) for started in running.values()]
            waits = [each for each in ends if each is not None]
            try:
                index, end = ended.get(timeout=min(waits) if waits else None)
            except Empty:
                for index in [each for each, started in running.items() if watch.time_left(started) == 0]:
                    watch.settle(_timeout(index, monotonic() - running.pop(index)))
                continue
            if index in running:
                watch.settle(_of_thread(index, end, monotonic() - running.pop(index)))
    finally:
        for index, started in running.items():
            watch.settle(Outcome(index, "cancelled", duration=monotonic() - started))
        watch.measure()
    return watch.finish()


class _Watch(Generic[R]):
    """What both ways share: which task is next, when it is decided, and what comes out."""

    def __init__(
        self,
        count: int,
        mode: str,
        quorum: int,
        limit: int | None,
        timeout: float | None,
        total_timeout: float | None,
        name: str,
        clock: Callable[[], float],
    ) -> None:
        check_choice("mode", mode, ("all", "settle", "first", "quorum"))
        self.width = count if limit is None else min(count, check_count("limit", limit))
        self._timeout = None if timeout is None else check_number("timeout", timeout, above=True)
        total = None if total_timeout is None else check_number("total_timeout", total_timeout, above=True)
        self._needed = {"first": 1, "quorum": check_count("quorum", quorum)}.get(mode)
        if mode == "quorum" and quorum > count:
            raise ConfigError(f"quorum: expected at most {count}, the number of tasks, got {quorum}")
        self._all = mode == "all"
        self._clock = clock
        self._labels = {semconv.PARALLEL_NAME: name}
        self._started = self._clock()
        self._ends = None if total is None else self._started + total
        self._waiting = deque(range(count))
        self._outcomes: list[Outcome[R] | None] = [None] * count
        self._succeeded = 0
        self._left = count
        self._first_error: Outcome[R] | None = None

    def next(self) -> int | None:
        """The task to run next."""
        if self.decided or not self._waiting:
            return None
        if self._ends is not None and self._clock() >= self._ends:
            while self._waiting:
                self.settle(_timeout(self._waiting.popleft(), 0.0))
            return None
        return self._waiting.popleft()

    def time_left(self, started: float) -> float | None:
        """Seconds until a task that began at ``started`` has had its time."""
        ends = [started + self._timeout] if self._timeout is not None else []
        if self._ends is not None:
            ends.append(self._ends)
        return max(0.0, min(ends) - self._clock()) if ends else None

    def step(self, task: Any, index: int) -> Step:
        """The span of a task."""
        name = getattr(task, "__name__", None) or getattr(task, "__qualname__", None) or type(task).__name__
        attributes = {**self._labels, semconv.PARALLEL_INDEX: index}
        return Step.begin(lambda: Call("internal", "task", "seatrace", name=name, attributes=attributes))

    def settle(self, outcome: Outcome[R]) -> None:
        """Notes what became of a task."""
        if self._outcomes[outcome.index] is not None:
            return
        self._outcomes[outcome.index] = outcome
        self._left -= 1
        self._succeeded += outcome.ok
        if not outcome.ok and self._first_error is None:
            self._first_error = outcome

    @property
    def decided(self) -> bool:
        """Whether nothing that is still to come matters."""
        if self._left == 0:
            return True
        if self._all:
            return self._first_error is not None
        return self._needed is not None and (
            self._succeeded >= self._needed or self._succeeded + self._left < self._needed
        )

    def measure(self) -> None:
        """Tells the metrics."""
        elapsed = self._clock() - self._started
        outcomes = self._all_outcomes()
        signals.measure(patterns.PARALLEL_WIDTH, len(outcomes), self._labels)
        for each in outcomes:
            signals.measure(patterns.PARALLEL_TASKS, 1, {**self._labels, semconv.PARALLEL_OUTCOME: each.status})
        if outcomes:
            signals.measure(patterns.PARALLEL_DURATION, elapsed, self._labels)
        if elapsed > 0 and outcomes:
            worked = sum(each.duration for each in outcomes)
            signals.measure(patterns.PARALLEL_SPEEDUP, worked / elapsed, self._labels)

    def finish(self) -> Outcomes[R]:
        """The outcomes, or what is raised in their place."""
        outcomes, failed = self._all_outcomes(), self._first_error
        if self._all and failed is not None:
            failed.result()
        if self._needed is not None and self._succeeded < self._needed:
            error = ParallelError(
                f"parallel: expected {self._needed} of {len(outcomes)} tasks to succeed, {self._succeeded} did. "
                f"See .outcomes of this error for what became of each.",
                outcomes,
            )
            raise error from (failed.error if failed is not None else None)
        return outcomes

    def _all_outcomes(self) -> Outcomes[R]:
        return Outcomes(each or Outcome(index, "cancelled") for index, each in enumerate(self._outcomes))


async def _cancelled(task: asyncio.Future[Any]) -> None:
    """Cancels ``task`` and waits until it has let go."""
    task.cancel()
    await asyncio.wait([task])


def _outcome(task: asyncio.Future[R], index: int, duration: float, *, timed_out: bool = False) -> Outcome[R]:
    if task.cancelled():
        return _timeout(index, duration) if timed_out else Outcome(index, "cancelled", duration=duration)
    error = task.exception()
    if error is not None:
        return Outcome(index, "error", error=error, duration=duration)
    return Outcome(index, "ok", task.result(), duration=duration)


def _of_thread(index: int, end: Ended[R], duration: float) -> Outcome[R]:
    if end.error is not None:
        return Outcome(index, "error", error=end.error, duration=duration)
    return Outcome(index, "ok", end.value, duration=duration)


def _timeout(index: int, duration: float) -> Outcome[Any]:
    error = TaskTimeout(f"parallel: task {index} had not ended after {duration:.3g} s.")
    return Outcome(index, "timeout", error=error, duration=duration)


def _put(ended: SimpleQueue[tuple[int, Ended[Any]]], index: int, end: Ended[Any]) -> None:
    ended.put((index, end))
