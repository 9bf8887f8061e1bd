"""Home-made agent objects: :func:`watch` observes their methods and their tools."""

from __future__ import annotations

import functools
import inspect
import weakref
from typing import Any

from .decorate import Observed, ObservedFunction, ObservedMethod, agent, name_of_function, observed, tool

_AGENT_METHODS = ("run", "arun", "invoke", "ainvoke", "stream", "astream")
_TOOL_METHODS = ("execute", "aexecute", "run", "arun", "invoke", "ainvoke", "call", "acall")
_TOOL_FUNCTIONS = ("fn", "func", "function", "handler", "callback", "coroutine")

_known: dict[int, tuple[Any, Observed]] = {}
"""The watched objects by identity: a weak reference (or the object, where it allows none) and how it is observed."""


def watch(obj: Any, *, name: str | None = None) -> Any:
    """Observes a home-made agent object, and returns that same object.

    Its methods ``run``, ``arun``, ``invoke``, ``ainvoke``, ``stream`` and ``astream``, or else ``__call__``, become
    agent runs; where one calls another, that is one run. Its ``tools``, a list, a tuple or a mapping, become tools:
    functions are replaced in there, of objects the methods ``execute``, ``run``, ``invoke`` or ``call`` are observed,
    or else their function (``fn``, ``func``, ``function``, ``handler``) or ``__call__``. The object itself is left as
    it is: the methods are observed on its class, for the objects that are watched. Watching twice does nothing.

    Args:
        obj: The agent.
        name: The agent's name; default ``obj.name``, else its class name.

    Raises:
        TypeError: ``obj`` is a class, has none of these methods, or they cannot be replaced.
    """
    if isinstance(obj, type):
        raise TypeError(f"watch(): expected an agent object, got the class {obj.__name__}. Watch what it makes.")
    label = name or _name_of(obj)
    if not _watch_methods(obj, _AGENT_METHODS, agent(label)):
        raise TypeError(
            f"watch(): expected an object with one of {', '.join(_AGENT_METHODS)}, got {type(obj).__name__}. "
            f"Decorate its own method with @seatrace.agent instead."
        )
    tools = getattr(obj, "tools", None)
    if isinstance(tools, dict):
        for key, each in tools.items():
            tools[key] = _watched_tool(each, str(key))
    elif isinstance(tools, list):
        tools[:] = [_watched_tool(each) for each in tools]
    elif type(tools) is tuple:
        made = tuple(_watched_tool(each) for each in tools)
        if any(new is not old for new, old in zip(made, tools, strict=True)):
            _set(obj, "tools", made)
    return obj


def _watched_tool(candidate: Any, name: str | None = None) -> Any:
    if isinstance(candidate, (ObservedFunction, ObservedMethod, type, str)):
        return candidate
    if inspect.isroutine(candidate) or isinstance(candidate, functools.partial):
        return tool(name or name_of_function(candidate))(candidate)
    if isinstance(candidate, dict):
        label = name or candidate.get("name")
        for key in _TOOL_FUNCTIONS:
            if inspect.isroutine(candidate.get(key)):
                candidate[key] = _watched_tool(candidate[key], label)
        return candidate
    label = name or _name_of(candidate)
    description = getattr(candidate, "description", None)
    observe = tool(label, description=description if isinstance(description, str) else None)
    if _watch_methods(candidate, _TOOL_METHODS, observe, calls=False):
        return candidate
    for key in _TOOL_FUNCTIONS:
        function = getattr(candidate, key, None)
        if inspect.isroutine(function) and not isinstance(function, (ObservedFunction, ObservedMethod)):
            _set(candidate, key, observe(function))
        if inspect.isroutine(function):
            return candidate
    _watch_methods(candidate, (), observe)
    return candidate


def _watch_methods(obj: Any, methods: tuple[str, ...], observe: Observed, *, calls: bool = True) -> bool:
    """Observes those of ``methods`` that ``obj`` has, or else its ``__call__``; says whether there was any."""
    here = getattr(obj, "__dict__", {})
    there = type(obj)
    found = [each for each in methods if callable(here.get(each, getattr(there, each, None)))]
    if not found and calls and callable(obj):
        found = ["__call__"]
    for method in found:
        _watch_method(obj, method, observe)
    if found:
        _remember(obj, observe)
    return bool(found)


def _watch_method(obj: Any, method: str, observe: Observed) -> None:
    if method != "__call__" and method in getattr(obj, "__dict__", {}):
        original = obj.__dict__[method]
        if not isinstance(original, (ObservedFunction, ObservedMethod)):
            _set(obj, method, observe(original))
        return
    owner = next(each for each in type(obj).__mro__ if method in vars(each))
    original = vars(owner)[method]
    if isinstance(original, (staticmethod, classmethod, property)):
        bound = getattr(obj, method)
        if not isinstance(bound, (ObservedFunction, ObservedMethod)):
            _set(obj, method, observe(bound))
    elif not isinstance(original, ObservedFunction):
        kind = Observed(observe._kind, observe._operation, None)
        _set(owner, method, observed(original, kind, _observation))


def _set(owner: Any, name: str, value: Any) -> None:
    try:
        setattr(owner, name, value)
    except (AttributeError, TypeError, ValueError) as error:  # slots, built-in classes, pydantic
        kind = owner.__name__ if isinstance(owner, type) else type(owner).__name__
        raise TypeError(
            f"watch(): expected to be able to replace {name!r} of {kind}: {error}. "
            f"Decorate its functions with @seatrace.agent and @seatrace.tool instead."
        ) from None


def _remember(obj: Any, observe: Observed) -> None:
    key = id(obj)
    try:
        reference: Any = weakref.ref(obj, lambda _: _known.pop(key, None))
    except TypeError:  # slots without __weakref__: kept, so that its identity is not given to another object

        def reference() -> Any:
            return obj

    _known[key] = reference, observe


def _observation(instance: Any) -> Observed | None:
    known = _known.get(id(instance))
    return known[1] if known is not None and known[0]() is instance else None


def _name_of(obj: Any) -> str:
    for attribute in ("name", "__name__"):
        value = getattr(obj, attribute, None)
        if isinstance(value, str) and value:
            return value
    return type(obj).__name__
