"""Ended calls that wait to be measured: until somebody collects the metrics, or until so many have come.

Many at once cost a third of one by one. Nobody can tell, since they are measured before anything is read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from seatrace.core import guard
from seatrace.core.record import Call

from ._recorder import Moment

LIMIT = 64
"""Calls that wait, at most."""


class Waiting:
    """Those of one ``Metrics``, which ``record(call, moment, beside)`` measures."""

    def __init__(self, record: Callable[[Call, Moment, bool], None]) -> None:
        self._record = record
        self._calls: deque[tuple[Call, Moment, bool]] = deque()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call, moment: Moment, beside: bool) -> None:
        """One more."""
        self._calls.append((call, moment, beside))
        _behind.add(self)
        if len(self._calls) >= LIMIT:
            self.catch_up()

    def catch_up(self) -> None:
        """Measures them. One that fails takes no other along."""
        _behind.discard(self)
        while self._calls:
            try:
                waited = self._calls.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                self._record(*waited)
            except Exception as error:
                guard.fault("emit a call", error)

    def forget(self) -> None:
        """After a fork, in the child: they are the parent's."""
        self._calls.clear()


_behind: set[Waiting] = set()
"""Those with calls."""


def catch_up() -> None:
    """Measures all calls that wait, whosever metrics they are."""
    for waiting in list(_behind):
        waiting.catch_up()


def _after_fork() -> None:
    for waiting in list(_behind):
        waiting.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
