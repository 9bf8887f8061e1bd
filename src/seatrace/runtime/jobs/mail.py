"""Calls into the event loop of another thread: it is woken once for all that come before it looks.

``call_soon_threadsafe`` wakes the loop for each call, which costs a write and a read, and each time the interpreter's
lock changes hands. Ten jobs that are settled at once need that once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Mail:
    """Calls for ``loop``, which run there in the order in which they were sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False

    def send(self, call: Callable[..., object], *args: Any) -> None:
        """Calls ``call(*args)`` in the loop, soon. Dropped where the loop is closed: nobody is there any more."""
        self._waiting.append((call, args))
        if not self._woken:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        try:
            self.loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # closed
            self._waiting.clear()
            self._woken = False

    def _deliver(self) -> None:
        self._woken = False  # first: what is sent from now on may come too late for this round
        waiting = self._waiting
        try:
            while waiting:
                call, args = waiting.popleft()
                call(*args)
        finally:
            if waiting:  # a call was interrupted, the others are not lost
                self._wake()


_here = threading.local()


def mail_here() -> Mail:
    """The mail of the loop that runs in this thread."""
    loop = asyncio.get_running_loop()
    mail: Mail | None = getattr(_here, "mail", None)
    if mail is None or mail.loop is not loop:
        mail = _here.mail = Mail(loop)
    return mail
