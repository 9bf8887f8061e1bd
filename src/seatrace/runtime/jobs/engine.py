"""A thread with an event loop in it, where a backend lives.

All that a queue does happens there, whoever asks: coroutines of any loop, threads without one. So a handler that
blocks its own loop blocks nothing of the queue: leases are renewed, results stored, jobs taken meanwhile. And a backend
needs no locks, and its connections never meet a second loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from selectors import BaseSelector, DefaultSelector
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from .background import end
from .mail import Mail, mail_here

R = TypeVar("R")


class Engine:
    """The loop of one backend. Its thread starts with the first call, is a daemon, and ends with :meth:`close`."""

    def __init__(self, name: str, forget: Callable[[], None]) -> None:
        """``forget`` is called in a forked child: the backend forgets what it has open, and closes nothing of it."""
        self._name = name
        self._forget = forget
        self._lock = threading.Lock()
        self._mail: Mail | None = None
        self._selector: BaseSelector | None = None
        self._thread: threading.Thread | None = None
        _engines.add(self)

    def start(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Runs ``work`` in the engine's loop."""
        with self._lock:
            return asyncio.run_coroutine_threadsafe(work, self._opened().loop)

    async def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Awaits ``work``, which runs in the engine's loop and is cancelled with the caller."""
        with self._lock:
            errand = _Errand(work, self._opened())
        return await errand.answer

    def call_sync(self, work: Coroutine[Any, Any, R]) -> R:
        """Waits for ``work``, which runs in the engine's loop; blocks this thread."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _opened(self) -> Mail:
        if self._mail is None:
            self._selector = DefaultSelector()
            loop = asyncio.SelectorEventLoop(self._selector)
            self._mail = Mail(loop)
            self._thread = threading.Thread(target=_run, args=(loop,), name=f"seatrace-{self._name}", daemon=True)
            self._thread.start()
        return self._mail

    @property
    def running(self) -> bool:
        return self._mail is not None

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Awaits ``last()`` in the loop, cancels what else runs there, and ends the thread. It starts anew when it is
        needed again."""
        with self._lock:
            mail, thread = self._mail, self._thread
            self._mail = self._thread = None
        if mail is None or thread is None:
            return
        loop = mail.loop
        try:
            asyncio.run_coroutine_threadsafe(last(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def after_fork(self) -> None:
        """In the child there is no such thread, and what the backend has open is the parent's."""
        self._lock = threading.Lock()
        if self._selector is not None:
            self._selector.close()  # parent and child share it: what is taken out of it here is missing there
        inherit(self._mail)
        self._mail = self._selector = self._thread = None
        self._forget()


class _Errand(Generic[R]):
    """Work in a loop of another thread, in the caller's context, and its answer in the caller's loop."""

    def __init__(self, work: Coroutine[Any, Any, R], there: Mail) -> None:
        self._work = work
        self._there, self._back = there, mail_here()
        self.answer: asyncio.Future[R] = self._back.loop.create_future()
        self.answer.add_done_callback(self._answered)
        there.send(copy_context().run, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._work)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[R]) -> None:
        self._back.send(self._bring, task)

    def _bring(self, task: asyncio.Future[R]) -> None:
        answer, error = self.answer, None if task.cancelled() else task.exception()
        if answer.done():
            pass
        elif task.cancelled():
            answer.cancel()
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(task.result())

    def _answered(self, answer: asyncio.Future[R]) -> None:
        if answer.cancelled():
            self._there.send(self._end)

    def _end(self) -> None:
        self._task.cancel()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(end(asyncio.all_tasks(loop)))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


_inherited: list[Any] = []


def inherit(*objects: Any) -> None:
    """Keeps what a forked child has from its parent, so that nothing of it is closed when it goes out of use."""
    _inherited.extend(objects)


_engines: WeakSet[Engine] = WeakSet()


def _after_fork() -> None:
    for engine in list(_engines):
        engine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
