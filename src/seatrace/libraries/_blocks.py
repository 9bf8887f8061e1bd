"""Methods of frameworks that are asynchronous context managers: what happens in their block is the step."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from seatrace.core import pipeline

Within = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Returns a context manager to stand around the block, from the block's value and the method's arguments."""


def block(within: Within) -> Any:
    """Makes a replacement for a method under ``@asynccontextmanager``: ``within(value, args, kwargs)`` stands around
    its block, inside of what the method itself puts around it."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            manager = original(*args, **kwargs)  # wrong arguments fail here, as without us
            if pipeline.current is None:
                return manager
            return _around(manager, within, args, kwargs)

        return call

    return make


@asynccontextmanager
async def _around(manager: Any, within: Within, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
    async with manager as value:
        with within(value, args, kwargs):
            yield value
