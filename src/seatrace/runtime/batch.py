"""Many single requests become few calls: :class:`Batcher` gathers what is submitted within a moment.

The deadline counts from the *first* item of a batch, so that no item waits longer than ``max_wait`` for company. Each
item gets its own result or its own error.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast
from weakref import WeakSet

from seatrace.core import context, guard, signals
from seatrace.core.context import Run
from seatrace.core.record import Call
from seatrace.core.step import Step
from seatrace.emit import semconv
from seatrace.emit.catalogue import patterns
from seatrace.errors import ConfigError, SeatraceError

from ._bill import BatchReport, Share, common_scope, split
from ._halves import BatchSizeMismatch, concerns_an_item, is_asynchronous, outcomes
from ._lane import Batch, Lane, Limits, Waiter
from ._options import check_choice, check_count, check_number
from ._threads import LoopEnded, background_loop, in_event_loop, run_on

__all__ = ["BatchOverflow", "BatchReport", "BatchSizeMismatch", "Batcher", "BatcherClosed", "Share"]

T = TypeVar("T")
R = TypeVar("R")

Function = Callable[[list[T]], "Awaitable[Sequence[R | Exception]] | Sequence[R | Exception]"]

_REASONS = ("size", "weight", "deadline", "manual", "close")


class BatchOverflow(SeatraceError):
    """More items wait than ``max_pending``, and ``overflow="raise"``."""


class BatcherClosed(SeatraceError):
    """The batcher, or the event loop that it worked on, was closed before the item had its result."""


_nesting: ContextVar[Mapping[Any, int]] = ContextVar("seatrace_batches", default=MappingProxyType({}))
"""The batchers whose function runs here, and how deep."""

_all: WeakSet[Batcher[Any, Any]] = WeakSet()


class Batcher(Generic[T, R]):
    """Calls ``function`` with lists of what is submitted one by one.

    ``await batcher.submit(item)`` in event loops, ``batcher.submit_sync(item)`` in threads; ``map`` and ``map_sync``
    for several. Items of a thread join the batches of the event loop that last used the batcher where that runs, and
    else those of a background thread's. Each event loop has batches of its own, and so have the items that
    ``function`` itself submits.

    Args:
        function: Takes a list of items, returns one result an item in their order; an exception in a result's place is
            that item's. A coroutine function, or a plain one, which runs in a thread.
        name: Stands on span and metrics. Give it one of few values.
        max_size: Items that close a batch.
        max_wait: Seconds from a batch's first item until it starts, if a slot is free; what waits for a slot joins one
            batch. 0 gathers what is submitted in the same turn of the event loop.
        max_weight: Weight that closes a batch; a heavier item goes alone.
        weight: Weight of an item, such as its tokens; also splits the batch's cost. Default 1.
        concurrency: Batches that run at a time.
        max_pending: Items that may wait (per event loop); then ``overflow`` says whether ``submit`` waits or raises
            :class:`BatchOverflow`.
        dedup: ``True``, or a function that makes a key: while an item waits or runs, others of its key get its result.
        on_error: When ``function`` raises for a whole batch: ``"split"`` calls it again with halves until the item that
            is at fault stands alone, unless the error concerns no item (rate limit, authentication, connection, server
            error); ``"fail"`` gives the error to all; a function decides by the error whether to split.
        on_batch: Called with the :class:`BatchReport` of each batch, in the event loop's thread.

    Raises:
        ConfigError: An option makes no sense.
    """

    def __init__(
        self,
        function: Function[T, R],
        *,
        name: str = "batch",
        max_size: int = 100,
        max_wait: float = 0.05,
        max_weight: float | None = None,
        weight: Callable[[T], float] | None = None,
        concurrency: int = 1,
        max_pending: int = 10_000,
        overflow: str = "wait",
        dedup: bool | Callable[[T], Hashable] = False,
        on_error: str | Callable[[Exception], bool] = "split",
        on_batch: Callable[[BatchReport], None] | None = None,
    ) -> None:
        check_choice("overflow", overflow, ("wait", "raise"))
        if not callable(on_error):
            check_choice("on_error", on_error, ("split", "fail"))
        if max_weight is not None:
            check_number("max_weight", max_weight, above=True)
            if weight is None:
                raise ConfigError("max_weight: expected a weight= function with it, got none")
        self.name = name
        self._limits = Limits(
            max_size=check_count("max_size", max_size),
            max_wait=check_number("max_wait", max_wait),
            max_weight=max_weight,
            concurrency=check_count("concurrency", concurrency),
            max_pending=check_count("max_pending", max_pending),
        )
        self._function = function
        self._weigh = weight
        self._raises = overflow == "raise"
        self._key: Callable[[T], Hashable] | None = _itself if dedup is True else dedup or None
        self._splits = on_error if callable(on_error) else concerns_an_item if on_error == "split" else _never
        self._on_batch = on_batch
        self._labels = {semconv.BATCH_NAME: name}
        self._lanes: dict[tuple[asyncio.AbstractEventLoop, int], Lane] = {}
        self._home: asyncio.AbstractEventLoop | None = None
        self._closed = False
        _all.add(self)
        signals.register(self)

    async def submit(self, item: T) -> R:
        """The result of ``item``.

        Raises:
            BatchOverflow: Too many wait.
            BatcherClosed: :meth:`aclose` came before.
            TypeError: The key for duplicates is not hashable.
            Exception: Whatever ``function`` raised for this item, unchanged.
        """
        lane = self._lane()
        waiter = await self._add(lane, item)
        try:
            return cast(R, await waiter.future)
        except asyncio.CancelledError:
            lane.withdraw(waiter)
            raise

    async def map(self, items: Iterable[T]) -> list[R]:
        """The results of ``items`` in their order. The first error is raised, and withdraws those that still wait."""
        lane = self._lane()
        waiters: list[Waiter] = []
        try:
            for item in items:
                waiters.append(await self._add(lane, item))
            return [await waiter.future for waiter in waiters]
        finally:
            for waiter in waiters:
                if not waiter.future.done():
                    lane.withdraw(waiter)
                elif not waiter.future.cancelled():
                    waiter.future.exception()  # is looked at: another one was raised

    def submit_sync(self, item: T) -> R:
        """:meth:`submit` for threads without an event loop."""
        return cast(R, self._wait("submit_sync", lambda: self.submit(item)))

    def map_sync(self, items: Iterable[T]) -> list[R]:
        """:meth:`map` for threads without an event loop."""
        return cast("list[R]", self._wait("map_sync", lambda: self.map(items)))

    def flush(self) -> None:
        """Starts what waits now, as soon as slots are free. May be called in any thread; does not wait."""
        for lane in self._open_lanes():
            lane.loop.call_soon_threadsafe(lane.flush, "manual")

    async def aclose(self, *, drain: bool = True) -> None:
        """Takes no more items and returns when all batches are over. What waits runs first; with ``drain=False`` it
        gets :class:`BatcherClosed`. May be called twice."""
        self._closed = True
        here = asyncio.get_running_loop()
        error = BatcherClosed(f"Batcher {self.name!r} was closed before the item's batch began. Submit it again.")
        for lane in self._open_lanes():
            closing = lane.close(drain=drain, error=error)
            if lane.loop is here:
                await closing
            elif lane.loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(closing, lane.loop))
            else:
                closing.close()  # its loop has stopped, and with it all who wait there

    def close(self, *, drain: bool = True) -> None:
        """:meth:`aclose` for threads without an event loop."""
        self._refuse_loop("close", "await aclose()")
        if self._open_lanes():
            run_on(background_loop(), self.aclose(drain=drain))
        self._closed = True

    async def __aenter__(self) -> Batcher[T, R]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Batcher[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Items that wait for a batch now."""
        return sum(len(lane.pending) for lane in self._open_lanes())

    def readings(self) -> Iterable[tuple[Any, float, signals.Attributes]]:
        """For :func:`seatrace.core.signals.register`."""
        return [(patterns.BATCH_PENDING, self.pending, self._labels)]

    def zeros(self) -> Iterable[tuple[Any, signals.Attributes]]:
        """For :func:`seatrace.core.signals.register`."""
        flushes = [(patterns.BATCH_FLUSHES, {**self._labels, semconv.FLUSH_REASON: each}) for each in _REASONS]
        return [(patterns.BATCH_REJECTIONS, self._labels), *flushes]

    # --- taking items -------------------------------------------------------------------------------------------------

    def _lane(self) -> Lane:
        self._refuse_closed()
        loop = self._home = asyncio.get_running_loop()
        place = (loop, _nesting.get().get(self, 0))
        lane = self._lanes.get(place)
        if lane is None:
            for each in [known for known in list(self._lanes) if known[0].is_closed()]:
                self._lanes.pop(each, None)
            lane = self._lanes[place] = Lane(loop, self._limits, self._run, may_cancel=is_asynchronous(self._function))
        return lane

    async def _add(self, lane: Lane, item: T) -> Waiter:
        key = None if self._key is None else _hashable(self._key(item))
        weight = 1.0 if self._weigh is None else check_number(f"weight of an item of {self.name!r}", self._weigh(item))
        if lane.full() and (key is None or key not in lane.known):
            await self._room(lane)
        return lane.add(item, key, weight, _nesting.get())

    async def _room(self, lane: Lane) -> None:
        if self._raises:
            signals.measure(patterns.BATCH_REJECTIONS, 1, self._labels)
            raise BatchOverflow(
                f"Batcher {self.name!r}: {self._limits.max_pending} items wait already. Submit more slowly, raise "
                f'max_pending or concurrency, or take overflow="wait".'
            )
        await lane.room()
        self._refuse_closed()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise BatcherClosed(f"Batcher {self.name!r} is closed and takes no more items. Make a new one.")

    def _open_lanes(self) -> list[Lane]:
        return [lane for (loop, _), lane in list(self._lanes.items()) if not loop.is_closed()]

    def _wait(self, method: str, work: Callable[[], Any]) -> Any:
        self._refuse_loop(method, f"await {method.removesuffix('_sync')}()")
        home = self._home
        loop = home if home is not None and home.is_running() else background_loop()
        try:
            return run_on(loop, work())
        except LoopEnded:
            raise BatcherClosed(
                f"Batcher {self.name!r}: the event loop that the item went to ended before its batch did. "
                f"Submit it again."
            ) from None

    def _refuse_loop(self, method: str, instead: str) -> None:
        if in_event_loop():
            raise RuntimeError(f"Batcher.{method}() would block the event loop of this thread. Use {instead} there.")

    # --- running batches ----------------------------------------------------------------------------------------------

    async def _run(self, lane: Lane, batch: Batch) -> None:
        """One batch from begin to end, in a context of its own."""
        waiters = [waiter for item in batch.items for waiter in item.waiters]
        run = Run(self.name)
        _nesting.set(self._deeper(waiters))
        context.enter_scope(common_scope([waiter.scope for waiter in waiters]))
        context.enter_scope(context.narrowed(run=run))
        self._measure_start(batch)
        try:
            with context.suppress() if all(waiter.suppressed for waiter in waiters) else nullcontext():
                results = await self._observed(lane, batch, waiters, run)
        except Exception as error:  # a gate's refusal
            results = [error] * len(batch.items)
        report = self._report(lane, batch, run, results)  # first of all: a submitter's run may end with its result
        for item, result in zip(batch.items, results, strict=True):
            lane.settle(item, result)
        if self._on_batch is not None and report is not None:
            try:
                self._on_batch(report)
            except Exception as error:
                guard.fault("notify a listener", error)

    async def _observed(self, lane: Lane, batch: Batch, waiters: list[Waiter], run: Run) -> list[R | Exception]:
        step = Step.begin(
            lambda: Call(
                "batch",
                "batch",
                "seatrace",
                name=self.name,
                links=[waiter.link for waiter in waiters if waiter.link is not None],
                attributes={
                    **self._labels,
                    semconv.FLUSH_REASON: batch.reason,
                    semconv.MESSAGING_BATCH_COUNT: len(batch.items),
                },
            )
        )
        step.enter()
        error: BaseException | None = None
        try:
            values = [item.value for item in batch.items]
            results: list[R | Exception] = await outcomes(self._function, values, splits=self._splits, name=self.name)
            errors = [each for each in results if isinstance(each, Exception)]
            if errors:
                step.call.attributes[semconv.BATCH_FAILED_ITEMS] = len(errors)
                error = errors[0] if len(errors) == len(results) else None
            return results
        except BaseException as cancelled:
            error = cancelled
            raise
        finally:
            step.leave()
            step.call.attributes[semconv.RUN_MODEL_CALLS] = run.model_calls
            if run.cost is not None:
                step.call.attributes[semconv.RUN_COST] = run.cost
            step.end(error)
            labels = self._labels if error is None else {**self._labels, semconv.ERROR_TYPE: type(error).__qualname__}
            signals.measure(patterns.BATCH_DURATION, lane.loop.time() - batch.started, labels)

    def _deeper(self, waiters: list[Waiter]) -> dict[Any, int]:
        """For this batch's own function: how deep it is, by whoever of its submitters is deepest."""
        depths: dict[Any, int] = {}
        for waiter in waiters:
            for batcher, depth in waiter.nesting.items():
                depths[batcher] = max(depth, depths.get(batcher, 0))
        depths[self] = depths.get(self, 0) + 1
        return depths

    def _measure_start(self, batch: Batch) -> None:
        signals.measure(patterns.BATCH_SIZE, len(batch.items), self._labels)
        signals.measure(patterns.BATCH_FLUSHES, 1, {**self._labels, semconv.FLUSH_REASON: batch.reason})
        for item in batch.items:
            signals.measure(patterns.BATCH_WAIT, batch.started - item.at, self._labels)

    def _report(self, lane: Lane, batch: Batch, run: Run, results: list[R | Exception]) -> BatchReport | None:
        if self._on_batch is None and run.cost is None and run.input_tokens is None:
            return None
        submitters = [
            (waiter.scope, item.weight / len(item.waiters)) for item in batch.items for waiter in item.waiters
        ]
        return BatchReport(
            name=self.name,
            size=len(batch.items),
            weight=batch.weight,
            reason=batch.reason,
            duration=lane.loop.time() - batch.started,
            failed=sum(isinstance(each, Exception) for each in results),
            cost=run.cost,
            shares=split(run, submitters),
        )


def _never(_: Exception) -> bool:
    return False


def _itself(item: Any) -> Hashable:
    return cast(Hashable, item)


def _hashable(key: Any) -> Hashable:
    try:
        hash(key)
    except TypeError:
        raise TypeError(
            f"dedup: expected a hashable key, got {type(key).__name__}. Give dedup= a function that makes one, such as "
            f"json.dumps(item, sort_keys=True)."
        ) from None
    return cast(Hashable, ("key", key))  # None is a key like any other


def _after_fork() -> None:
    for batcher in list(_all):  # the parent's loops and threads are not here
        batcher._lanes, batcher._home = {}, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
