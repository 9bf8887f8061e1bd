"""Threads that a framework starts without the context of whoever asked for the work: what they do there belongs to him
all the same."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any


def carrying(executor: Any) -> Any:
    """The class ``executor`` (a ``ThreadPoolExecutor``), whose work runs in a copy of the submitter's context. To stand
    in its place in a framework's module."""

    class Carrying(executor):  # type: ignore[misc]
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(copy_context().run, function, *args, **kwargs)

    Carrying.__name__, Carrying.__qualname__ = executor.__name__, executor.__qualname__
    Carrying.__module__ = executor.__module__
    return Carrying
