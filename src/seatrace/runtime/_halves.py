"""Calling a function with a whole batch: one outcome an item, and halves where it fails for an item in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from seatrace.errors import SeatraceError

from ._threads import in_thread

BatchFunction = Callable[[list[Any]], "Awaitable[Sequence[Any]] | Sequence[Any]"]


class BatchSizeMismatch(SeatraceError):
    """The function returned something else than one result an item, in their order."""


def is_asynchronous(function: Any) -> bool:
    """Whether it is a coroutine function, or an object with an ``async def __call__``."""
    return asyncio.iscoroutinefunction(function) or asyncio.iscoroutinefunction(type(function).__call__)


async def outcomes(
    function: BatchFunction, values: list[Any], *, splits: Callable[[Exception], bool], name: str
) -> list[Any]:
    """One result or ``Exception`` a value. A plain function runs in a thread, in the present context."""
    try:
        returned: Any
        if is_asynchronous(function):
            returned = await cast("Awaitable[Any]", function(values))
        else:
            returned = await in_thread(partial(function, values), name=f"seatrace-{name}")
            if hasattr(returned, "__await__"):  # a plain function around a coroutine function
                returned = await returned
        return _checked(returned, len(values), name)
    except BatchSizeMismatch as error:
        return [error] * len(values)
    except Exception as error:
        if len(values) == 1 or not splits(error):
            return [error] * len(values)
    half = len(values) // 2
    first = await outcomes(function, values[:half], splits=splits, name=name)
    return [*first, *await outcomes(function, values[half:], splits=splits, name=name)]


def concerns_an_item(error: Exception) -> bool:
    """Whether a part of the batch may fare better than the whole: not where the provider is down, limits us, or does
    not know us (an HTTP status other than 400, 413 and 422), nor where the connection or the time ran out."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in (400, 413, 422)
    if isinstance(error, (OSError, asyncio.TimeoutError)):
        return False
    return not any(word in type(error).__name__ for word in ("Connection", "Timeout", "RateLimit"))


def _checked(returned: Any, expected: int, name: str) -> list[Any]:
    if isinstance(returned, (str, bytes, Mapping)) or not hasattr(returned, "__iter__"):
        raise BatchSizeMismatch(
            f"Batcher {name!r}: expected a sequence of {expected} results from its function, got "
            f"{type(returned).__name__}."
        )
    results = list(returned)
    if len(results) != expected:
        raise BatchSizeMismatch(
            f"Batcher {name!r}: expected {expected} results from its function, one an item in their order, got "
            f"{len(results)}."
        )
    return results
