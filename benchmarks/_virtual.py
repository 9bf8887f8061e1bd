"""An event loop whose time passes at once: what would sleep goes on immediately, and the clock says that it slept."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class VirtualLoop(asyncio.SelectorEventLoop):
    """For code without threads: while a thread works, the loop must wait for it in real time."""

    def __init__(self) -> None:
        super().__init__(_NoSleep(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _NoSleep(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("the loop waits for something that never comes")
        ready = super().select(0)
        if not ready:
            self._loop.now += timeout
        return ready


def run(main: Coroutine[Any, Any, R]) -> R:
    """As ``asyncio.run``, in virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
