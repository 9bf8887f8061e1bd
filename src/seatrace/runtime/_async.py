"""Whether a function is a coroutine function, objects with an asynchronous ``__call__`` included."""

from __future__ import annotations

import inspect


def is_async(function: object) -> bool:
    """Whether calling ``function`` gives a coroutine, as far as can be told without calling it."""
    called = type(function).__call__ if callable(function) else None
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
