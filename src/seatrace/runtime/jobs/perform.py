"""Running a handler: a coroutine in this loop, a plain function in a thread, until it is done, out of time or ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import Any

from seatrace.runtime._async import is_async

from .attempt import Attempt

Handler = Callable[[Attempt], Any]
"""Works on a job. A coroutine function runs in the worker's loop, a plain function in a thread."""

GRACE = 10.0
"""Seconds that a cancelled coroutine may take to clean up."""


class StillRunning(Exception):
    """The handler's thread goes on: there is nothing to say of its job yet, and nobody to say it later."""


async def perform(handler: Handler, attempt: Attempt, timeout: float | None, threads: Callable[[], Executor]) -> Any:
    """What ``handler`` returns. Its exceptions pass; that of one that was ended is a ``CancelledError``.

    Raises:
        StillRunning: The worker stops and the handler's thread does not.
    """
    loop = asyncio.get_running_loop()
    in_thread = not is_async(handler)
    work: asyncio.Future[Any]
    if in_thread:
        work = loop.run_in_executor(threads(), copy_context().run, handler, attempt)
    else:
        work = asyncio.ensure_future(handler(attempt))
    ended: asyncio.Future[None] = loop.create_future()  # cancelled when the attempt ends before its work

    def stop() -> None:
        try:
            loop.call_soon_threadsafe(ended.cancel)
        except RuntimeError:  # the loop is closed: so is the attempt
            pass

    attempt.on_end(stop)
    try:
        await asyncio.wait({work, ended}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            attempt.end("timeout")
            if not in_thread:
                work.cancel()
                await asyncio.wait({work}, timeout=GRACE)
            elif attempt.ended != "released":
                await asyncio.wait({work})
    except asyncio.CancelledError:  # the worker's loop ends
        attempt.end("released")
        work.cancel()
        if in_thread:
            raise StillRunning from None
        raise
    finally:
        ended.cancel()
    if not work.done():
        work.add_done_callback(_look)
        raise StillRunning if in_thread else asyncio.CancelledError
    result = work.result()
    return await result if isinstance(result, Awaitable) else result


def _look(future: asyncio.Future[Any]) -> None:
    """An exception that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
