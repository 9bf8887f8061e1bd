"""One call at a time for one key, whoever asks: threads, tasks, several event loops.

A flight lands with what became of the call, a value or an error, which all who wait for it share. It is *forsaken*
where the one who made the call was stopped (cancelled, interrupted): then one of those who wait makes it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

_leading: ContextVar[tuple[Any, ...]] = ContextVar("seatrace_leading", default=())
"""The flights that the code here is a part of: it must not wait for them."""


class Flight(Generic[_T]):
    """A call under way."""

    __slots__ = ("_future", "_lock", "_loop", "_mark", "_task", "_waiting", "detached", "key", "void")

    def __init__(self, key: str) -> None:
        self.key = key
        self.void = False
        """The key was invalidated meanwhile: what comes is handed out, and not kept."""
        self.detached = False
        """It goes on even if nobody waits: a refresh in the background."""
        self._mark = object()  # what contexts keep, which may live longer than the value
        self._future: Future[_T | None] = Future()
        self._future.set_running_or_notify_cancel()  # nobody who stops to wait cancels it for the others
        self._lock = Lock()
        self._waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Inside, this flight's call is made; :meth:`blocked` is true there."""
        token = _leading.set((*_leading.get(), self._mark))
        try:
            yield
        finally:
            _leading.reset(token)

    def blocked(self, *, synchronous: bool) -> bool:
        """Whether waiting for it here would be waiting for oneself: inside its own call, or in a synchronous function
        that keeps the flight's event loop from running."""
        if self._mark in _leading.get():
            return True
        if not synchronous:
            return False
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return False
        return running is self._loop

    def land(self, value: _T | None) -> None:
        """Ends it; ``None`` forsakes it. Only the first end counts."""
        with self._lock:
            if not self._future.done():
                self._future.set_result(value)

    def wait(self) -> _T | None:
        """Its value, ``None`` where it was forsaken."""
        with self._lock:
            self._waiting += 1
        try:
            return self._future.result()
        finally:
            self._leave()

    async def arrive(self) -> _T | None:
        """:meth:`wait` without blocking."""
        with self._lock:
            self._waiting += 1
        try:
            return await asyncio.wrap_future(self._future)
        finally:
            self._leave()

    def start(self, work: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        """Runs ``work``, which lands it, in a task of its own: it outlives the task that it was started for, as long as
        anybody waits. ``ended()`` is called in any case, also where ``work`` was cancelled before it began."""
        self._loop = asyncio.get_running_loop()
        with self.leading():
            self._task = self._loop.create_task(work)
        self._task.add_done_callback(lambda task: ended())

    def _leave(self) -> None:
        with self._lock:
            self._waiting -= 1
            deserted = self._waiting == 0 and not self.detached and not self._future.done()
        if not deserted or self._task is None or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._task.cancel)
        except RuntimeError:  # the loop is closed: nothing runs there any more
            pass


class Flights(Generic[_T]):
    """The calls of one cache that are under way."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[_T]] = {}
        self._lock = Lock()

    def join(self, key: str) -> tuple[Flight[_T], bool]:
        """The flight for ``key``, and whether it is a new one, to be made by the caller."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight(key)
            return flight, True

    def under_way(self, key: str) -> bool:
        """Whether there is one."""
        return key in self._flights

    def land(self, flight: Flight[_T], value: _T | None) -> None:
        """Takes it out, so that nobody joins it any more, and lands it."""
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
        flight.land(value)

    def void(self, concerns: Callable[[str], bool]) -> None:
        """What the flights that ``concerns`` say is not to be kept, and not to be shared with those who ask later."""
        with self._lock:
            for key in [key for key in self._flights if concerns(key)]:
                self._flights.pop(key).void = True

    def after_fork(self) -> None:
        """In the child, where the threads that made the calls do not exist."""
        self._flights.clear()
        self._lock = Lock()
