"""Tasks of a backend's own in its engine's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextvars import Context
from typing import Any

_tasks: set[asyncio.Task[None]] = set()

_AGAIN = 0.2
"""Seconds after which a task is cancelled once more: libraries lose a cancellation that comes in the wrong moment, as
``asyncio.wait_for`` did before Python 3.12."""


def background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Runs ``work`` in nobody's trace."""
    task: asyncio.Task[None] = Context().run(asyncio.ensure_future, work)
    _tasks.add(task)  # the loop holds tasks weakly
    task.add_done_callback(_tasks.discard)
    return task


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels ``tasks`` until they are done."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN)
