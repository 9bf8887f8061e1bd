"""Where a batcher gathers: the items of one event loop that wait together, and the batches that run there.

All of a lane happens in its loop's thread, so that it needs no lock.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from seatrace.core import context, signals
from seatrace.core.context import Scope


class Item:
    """One value that is to go into a batch, and all who wait for its result."""

    __slots__ = ("at", "batch", "key", "number", "value", "waiters", "weight")

    def __init__(self, value: Any, key: Hashable, weight: float, number: int, at: float) -> None:
        self.value = value
        self.key = key
        self.weight = weight
        self.number = number
        self.at = at
        self.waiters: list[Waiter] = []
        self.batch: Batch | None = None


class Waiter:
    """One ``submit``: its future, and where it came from."""

    __slots__ = ("future", "item", "link", "nesting", "scope", "suppressed")

    def __init__(self, item: Item, future: asyncio.Future[Any], nesting: Any) -> None:
        self.item = item
        self.future = future
        self.nesting = nesting
        self.link = signals.here()
        self.scope: Scope = context.current_scope()
        self.suppressed = context.suppressed()


@dataclass(slots=True, eq=False)
class Batch:
    """Items that run together."""

    items: list[Item]
    weight: float
    reason: str
    started: float
    task: asyncio.Task[None] | None = None
    wanted: int = 0
    """Items that somebody still waits for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is closed, and how much may wait and run."""

    max_size: int
    max_wait: float
    max_weight: float | None
    concurrency: int
    max_pending: int


Run = Callable[["Lane", Batch], Coroutine[Any, Any, None]]
"""Runs one batch to its end. Must not raise, except that it was cancelled."""


@dataclass(slots=True, eq=False)
class Lane:
    """The items of one loop, at one depth of nesting: what a batch's own function submits waits in the next lane, or
    it would wait for itself."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    run: Run
    may_cancel: bool
    closed: bool = False
    pending: OrderedDict[Item, None] = field(default_factory=OrderedDict)
    known: dict[Hashable, Item] = field(default_factory=dict)
    """Items that wait or run, by their key for duplicates."""
    running: set[Batch] = field(default_factory=set)
    _weight: float = 0.0
    _count: int = 0
    _flush: tuple[int, str] = (0, "")
    """The number of the last item that is to go at once, and why."""
    _timer: asyncio.TimerHandle | None = None
    _blocked: deque[asyncio.Future[None]] = field(default_factory=deque)

    def full(self) -> bool:
        """Whether as much waits as may."""
        return len(self.pending) >= self.limits.max_pending

    async def room(self) -> None:
        """Waits until there is room, first come first served."""
        while self.full() and not self.closed:
            gate: asyncio.Future[None] = self.loop.create_future()
            self._blocked.append(gate)
            try:
                await gate
            except asyncio.CancelledError:
                if gate.done() and not gate.cancelled():
                    self._let_in(1)  # the room that was given to this one
                else:
                    self._blocked.remove(gate)
                raise

    def add(self, value: Any, key: Hashable, weight: float, nesting: Any) -> Waiter:
        """Lets ``value`` wait for its batch; starts that where it is complete."""
        future = self.loop.create_future()
        item = self.known.get(key) if key is not None else None
        if item is not None:
            waiter = Waiter(item, future, nesting)
            item.waiters.append(waiter)
            return waiter
        self._count += 1
        item = Item(value, key, weight, self._count, self.loop.time())
        waiter = Waiter(item, future, nesting)
        item.waiters.append(waiter)
        self.pending[item] = None
        self._weight += weight
        if key is not None:
            self.known[key] = item
        limits = self.limits
        if len(self.pending) >= limits.max_size or (
            limits.max_weight is not None and self._weight >= limits.max_weight
        ):
            self.pump()
        elif self._timer is None:
            self._set_timer()
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """``waiter`` waits no more. An item that nobody waits for does not run; a batch of such ones is cancelled."""
        waiter.future.cancel()
        item = waiter.item
        if waiter not in item.waiters:
            return
        if item.batch is None:
            item.waiters.remove(waiter)
            if not item.waiters:
                self._remove(item)
                self._let_in(1)
            return
        if all(each.future.done() for each in item.waiters):
            self._forget(item)
            item.batch.wanted -= 1
            if item.batch.wanted == 0 and self.may_cancel and item.batch.task is not None:
                item.batch.task.cancel()

    def settle(self, item: Item, result: Any) -> None:
        """Gives ``item``'s result, or the exception that it is, to all who wait for it. Who submits its like from now
        on starts anew."""
        self._forget(item)
        for waiter in item.waiters:
            if waiter.future.done():
                continue
            if isinstance(result, Exception):
                waiter.future.set_exception(result)
            else:
                waiter.future.set_result(result)

    def flush(self, reason: str) -> None:
        """Starts what waits now, as slots allow."""
        self._flush = (self._count, reason)
        self.pump()

    def pump(self) -> None:
        """Starts every batch that is due and has a slot."""
        while len(self.running) < self.limits.concurrency:
            reason = self._due()
            if reason is None:
                break
            self._start(reason)
        if self._timer is None:
            self._set_timer()

    async def close(self, *, drain: bool, error: Exception) -> None:
        """Takes no more; runs what waits, or fails it with ``error``; returns when all is over."""
        self.closed = True
        self._let_in(len(self._blocked))
        if not drain:
            for item in list(self.pending):
                self._remove(item)
                self.settle(item, error)
        self.flush("close")
        while self.running:
            await asyncio.wait([batch.task for batch in self.running if batch.task is not None])

    def _complete(self) -> str | None:
        if len(self.pending) >= self.limits.max_size:
            return "size"
        most = self.limits.max_weight
        return "weight" if most is not None and self._weight >= most else None

    def _due(self) -> str | None:
        if not self.pending:
            return None
        if (reason := self._complete()) is not None:
            return reason
        first = next(iter(self.pending))
        if first.number <= self._flush[0]:
            return self._flush[1]
        return "deadline" if self.loop.time() + _RESOLUTION >= first.at + self.limits.max_wait else None

    def _start(self, reason: str) -> None:
        items: list[Item] = []
        weight, most = 0.0, self.limits.max_weight
        while self.pending and len(items) < self.limits.max_size:
            item = next(iter(self.pending))
            if items and most is not None and weight + item.weight > most:
                break
            self._take(item)
            items.append(item)
            weight += item.weight
        batch = Batch(items, weight, reason, self.loop.time(), wanted=len(items))
        for item in items:
            item.batch = batch
        self.running.add(batch)
        # In a context of its own: the batch belongs to none of those who submitted, and least of all to the first one.
        batch.task = Context().run(self.loop.create_task, self.run(self, batch))
        batch.task.add_done_callback(lambda _: self._ended(batch))
        self._let_in(len(items))

    def _ended(self, batch: Batch) -> None:
        self.running.discard(batch)
        for item in batch.items:
            self._forget(item)
            for waiter in item.waiters:
                waiter.future.cancel()  # who has no result yet: the batch was cancelled
        self.pump()

    def _take(self, item: Item) -> None:
        del self.pending[item]
        self._weight = self._weight - item.weight if self.pending else 0.0  # sums of floats drift

    def _remove(self, item: Item) -> None:
        if item in self.pending:
            self._take(item)
        self._forget(item)

    def _forget(self, item: Item) -> None:
        if item.key is not None and self.known.get(item.key) is item:
            del self.known[item.key]

    def _let_in(self, count: int) -> None:
        while count > 0 and self._blocked:
            gate = self._blocked.popleft()
            if not gate.done():
                gate.set_result(None)
                count -= 1

    def _set_timer(self) -> None:
        if self.pending and len(self.running) < self.limits.concurrency:
            self._timer = self.loop.call_at(next(iter(self.pending)).at + self.limits.max_wait, self._rang)

    def _rang(self) -> None:
        self._timer = None
        self.pump()


_RESOLUTION = 1e-6
"""Seconds by which a loop's clock may be behind its own timer."""
