"""Daemon threads for the patterns: a function in a thread, and one event loop for callers that have none.

Nothing starts before its first use. Everything is a daemon, so that no program waits for it, and a forked child starts
anew.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, wait
from contextvars import copy_context
from typing import Any, Generic, TypeVar, cast

R = TypeVar("R")

_LOOK_AGAIN = 1.0
"""Seconds after which a waiting thread looks whether its event loop is still there."""

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


class LoopEnded(Exception):
    """The event loop was closed before the coroutine was done."""


async def in_thread(function: Callable[[], R], *, name: str) -> R:
    """Runs ``function`` in a daemon thread of its own, in a copy of the caller's context.

    Cancelling does not reach the thread: what it returns later is dropped.
    """
    done: Future[Ended[R]] = Future()
    start_thread(function, done.set_result, name=name)
    return (await asyncio.shield(asyncio.wrap_future(done))).result()


def start_thread(function: Callable[[], R], ended: Callable[[Ended[R]], object], *, name: str) -> None:
    """Runs ``function`` in a daemon thread, in a copy of the caller's context, and tells ``ended`` there."""
    context = copy_context()

    def work() -> None:
        try:
            outcome = Ended(context.run(function), None)
        except BaseException as error:
            outcome = Ended(None, error)
        ended(outcome)

    threading.Thread(target=work, name=name, daemon=True).start()


class Ended(Generic[R]):
    """What became of a function. Futures would turn some exceptions (timeouts, ``StopIteration``) into others."""

    __slots__ = ("error", "value")

    def __init__(self, value: R | None, error: BaseException | None) -> None:
        self.value = value
        self.error = error

    def result(self) -> R:
        """What the function returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        return cast(R, self.value)


def run_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, R]) -> R:
    """Waits in this thread for ``coroutine``, which runs on ``loop`` in a copy of this thread's context.

    Raises:
        LoopEnded: The loop is closed, or was meanwhile.
    """

    async def work() -> Ended[R]:
        try:
            return Ended(await coroutine, None)
        except Exception as error:
            return Ended(None, error)

    working = work()
    try:
        future = asyncio.run_coroutine_threadsafe(working, loop)
    except RuntimeError as error:
        working.close()
        coroutine.close()
        raise LoopEnded from error
    try:
        while not future.done():
            wait([future], timeout=_LOOK_AGAIN)
            if loop.is_closed() and not future.done():
                working.close()
                coroutine.close()
                raise LoopEnded
    except BaseException:
        future.cancel()
        raise
    try:
        return future.result().result()
    except CancelledError:
        raise LoopEnded from None


def background_loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process for callers in threads without one; runs in a daemon thread."""
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_serve, args=(_loop,), name="seatrace-loop", daemon=True)
            thread.start()
            atexit.register(_stop, _loop, thread, os.getpid())
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            return loop.run_forever()
        except (KeyboardInterrupt, SystemExit):  # a task's: its own end, and no reason to leave the others
            continue


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
    if process != os.getpid() or loop.is_closed():
        return

    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.call_soon(loop.stop)

    loop.call_soon_threadsafe(cancel)
    thread.join(_LOOK_AGAIN)
    if not thread.is_alive():
        loop.close()


def in_event_loop() -> bool:
    """Whether this thread runs an event loop now: to block would stop it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _after_fork() -> None:
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
