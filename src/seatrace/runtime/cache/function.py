"""Functions whose answers are kept: arguments as one mapping, and wrappers of the kind of what they wrap."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from .ask import Ask
from .engine import Engine
from .replay import replay, replay_sync

_F = TypeVar("_F", bound=Callable[..., Any])

Asking = Callable[[Mapping[str, Any], "functools.partial[Any]"], "Ask | None"]
"""Given the arguments by name and the call, makes the request to the cache; ``None`` where the call goes by it."""


def cached(function: _F, engine: Engine, asking: Asking) -> _F:
    """``function``, answered out of ``engine``'s cache where that can be. Generators, also asynchronous ones, are
    replayed value by value."""
    named = _naming(function)

    def ask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ask | None:
        given = named(args, kwargs)
        return None if given is None else asking(given, functools.partial(function, *args, **kwargs))

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def stream(*args: Any, **kwargs: Any) -> Any:
            asked = ask(args, kwargs)
            source = function(*args, **kwargs) if asked is None else replay(engine, asked)
            async for chunk in source:
                yield chunk

        return cast(_F, stream)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            asked = ask(args, kwargs)
            return await (function(*args, **kwargs) if asked is None else engine.answer(asked))

        return cast(_F, call)

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream_sync(*args: Any, **kwargs: Any) -> Any:
            asked = ask(args, kwargs)
            yield from function(*args, **kwargs) if asked is None else replay_sync(engine, asked)

        return cast(_F, stream_sync)

    @functools.wraps(function)
    def call_sync(*args: Any, **kwargs: Any) -> Any:
        asked = ask(args, kwargs)
        return function(*args, **kwargs) if asked is None else engine.answer_sync(asked)

    return cast(_F, call_sync)


def _naming(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Mapping[str, Any] | None]:
    """Arguments by their names, defaults included, so that ``f(1)`` and ``f(a=1)`` are one request."""
    signature = inspect.signature(function)
    rest = [each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]

    def named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any] | None:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return None  # the call itself will say so, in its own words
        bound.apply_defaults()
        given: dict[str, Any] = bound.arguments
        for name in rest:
            given = {**{key: value for key, value in given.items() if key != name}, **given[name]}
        return given

    return named
