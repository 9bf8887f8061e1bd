"""A framework's worker threads: what a run does in them belongs to it, where the framework carries no context there."""

from __future__ import annotations

import contextvars
import functools
from typing import Any

from seatrace.core import pipeline


def carrying(submit: Any) -> Any:
    """``submit`` of an executor, bound or not, whose functions run in a copy of the caller's context."""
    bound = hasattr(submit, "__self__")

    @functools.wraps(submit)
    def submit_in_context(*args: Any, **kwargs: Any) -> Any:
        if pipeline.current is not None:
            at = 0 if bound else 1
            args = (*args[:at], contextvars.copy_context().run, *args[at:])
        return submit(*args, **kwargs)

    return submit_in_context


def carrying_executor(kind: Any) -> Any:
    """A class to stand in the place of the executor class ``kind`` where a framework's module makes one."""
    return type(kind.__name__, (kind,), {"submit": carrying(kind.submit), "__module__": kind.__module__})
