"""Listening to calls for as long as somebody keeps what listens."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakMethod

from seatrace.core import pipeline
from seatrace.core.record import Call


def follow_calls(method: Callable[[Call], None]) -> Callable[[], None]:
    """Calls the bound ``method`` with every ended call, until its object is gone or the returned function is called."""
    alive = WeakMethod(method, lambda _: stop())

    def listener(call: Call) -> None:
        found = alive()
        if found is not None:
            found(call)

    stop = pipeline.on_call(listener)
    return stop
