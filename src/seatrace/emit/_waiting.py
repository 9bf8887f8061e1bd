"""Ended calls that wait to be measured: until somebody collects the metrics, or until so many have come.

Many at once cost a third of one by one. Nobody can tell, since they are measured before anything is read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import RLock

from seatrace.core import guard
from seatrace.core.record import Call

from ._recorder import Batch, Moment

LIMIT = 64
"""Calls that wait, at most."""


class Waiting:
    """Those of one ``Metrics``, which ``record(call, moment, beside)`` measures."""

    def __init__(self, record: Callable[[Call, Moment, bool], None]) -> None:
        self._record = record
        self._calls: deque[tuple[Call, Moment, bool]] = deque()
        self._batch = Batch()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call, moment: Moment, beside: bool) -> None:
        """One more."""
        self._calls.append((call, moment, beside))
        _behind.add(self)
        if len(self._calls) >= LIMIT and _measuring.acquire(blocking=False):  # else another thread does it
            try:
                self.catch_up()
            finally:
                _measuring.release()

    def catch_up(self) -> None:
        """Measures them. One that fails takes no other along.

        Who reads the metrics meanwhile waits until all are measured; a signal's handler that interrupts this measures
        the rest itself.
        """
        with _measuring:
            while self._calls:
                try:
                    call, moment, beside = self._calls.popleft()
                except IndexError:  # such a handler was faster
                    break
                try:
                    moment.batch = self._batch
                    self._record(call, moment, beside)
                except Exception as error:
                    guard.fault("emit a call", error)
            self._batch.record()
            _behind.discard(self)
            if self._calls:  # one has come meanwhile
                _behind.add(self)

    def forget(self) -> None:
        """After a fork, in the child: they are the parent's."""
        self._calls.clear()
        self._batch = Batch()


_measuring = RLock()
"""Held while calls are measured."""

_behind: set[Waiting] = set()
"""Those with calls that wait or are being measured."""


def catch_up() -> None:
    """Measures all calls that wait, whosever metrics they are."""
    with _measuring:  # also where another thread has begun with them
        for waiting in list(_behind):
            waiting.catch_up()


def _after_fork() -> None:
    global _measuring
    _measuring = RLock()
    for waiting in list(_behind):
        waiting.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
