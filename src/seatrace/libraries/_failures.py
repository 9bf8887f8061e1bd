"""Tools that return their failure, as words for the model, instead of raising it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from seatrace.core import guard
from seatrace.core.step import handled


def noting(original: Any, failure: Callable[[Any], BaseException | str | None]) -> Any:
    """The method or function ``original`` of a tool, to run within its step: that notes the ``failure`` in what it
    returns, ``None`` where it did not fail."""

    def noted(output: Any) -> Any:
        try:
            error = failure(output)
            if error is not None:
                handled(error, "tool")
        except Exception as fault:
            guard.fault("read a response", fault)
        return output

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return noted(await original(*args, **kwargs))

        return call_async

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return noted(original(*args, **kwargs))

    return call
