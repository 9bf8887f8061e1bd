"""Putting our functions into other people's modules, and taking them out again.

wrapt's own post-import wrapping makes the *user's import* fail when a target vanished; here the hook is guarded and a
missing target is reported by ``seatrace.status()`` instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from . import guard

_MISSING = object()

_Replacement = tuple[Any, str, Any, Any]
"""Owner, name, original and what stands in its place."""

_buried: list[_Replacement] = []
"""Replacements that could not be taken out, since somebody had patched on top of them."""


class Patches:
    """What one library's patching replaced, in order, so that :meth:`undo` restores the very same objects."""

    def __init__(self) -> None:
        self._done: list[_Replacement] = []
        self.lost: list[str] = []
        """What could not be replaced and can be done without, and what therefore is not seen."""

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replaces ``owner.name`` with ``make(original)``.

        Raises:
            AttributeError: ``owner`` has no such attribute in its own namespace.
        """
        original = vars(owner).get(name, _MISSING)
        if original is _MISSING:
            raise AttributeError(f"{getattr(owner, '__qualname__', owner)}.{name}")
        for each in _buried:
            if each[3] is original and each[2] is not _MISSING:  # whoever had patched on top of it is gone
                original = each[2]
        replacement = make(original)
        setattr(owner, name, replacement)
        self._done.append((owner, name, original, replacement))

    def replace_below(self, owner: type[Any], name: str, make: Callable[[Any], Any]) -> None:
        """:meth:`replace`, also where another instrumentation came first and put a wrapper of the method (or, when it
        took that out again, the method itself) on a class that inherits it."""
        original = vars(owner).get(name, _MISSING)
        self.replace(owner, name, make)
        for below in _below(owner):
            found = vars(below).get(name)
            if found is original:
                self.replace(below, name, make)
                continue
            while found is not None:
                inner: Any = getattr(found, "__wrapped__", None)
                if inner is original:
                    found.__wrapped__ = replacement = make(original)
                    self._done.append((found, "__wrapped__", original, replacement))
                found = inner

    def add(self, owner: Any, name: str, value: Any) -> None:
        """Gives ``owner`` an attribute of its own that it has not, or inherits."""
        setattr(owner, name, value)
        self._done.append((owner, name, _MISSING, value))

    def undo(self) -> None:
        """Puts the original objects back. Where somebody patched on top of us, their wrapper stays and ours goes
        silent: the pipeline is off by then."""
        for owner, name, original, replacement in reversed(self._done):
            held = owner.__wrapped__ if name == "__wrapped__" else vars(owner).get(name)
            if held is not replacement:
                _buried.append((owner, name, original, replacement))
            elif original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._done.clear()

    def __bool__(self) -> bool:
        return bool(self._done)


def _below(owner: type[Any]) -> Iterator[type[Any]]:
    for each in owner.__subclasses__():
        yield each
        yield from _below(each)


_hooked: dict[str, Callable[[ModuleType], None]] = {}

_waited_for: set[str] = set()
"""Those of the hooked modules that nobody has looked for yet."""


class _Finder:
    """Finds nothing itself: calls wrapt in when the program looks for a module that we wait for. Loading wrapt at once
    would load asyncio with it, a tenth of what a program's start costs."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _waited_for:
            return None
        _waited_for.discard(name)
        try:
            from wrapt import register_post_import_hook

            register_post_import_hook(partial(_run, name), name)
        except Exception as error:
            guard.fault(f"patch {name}", error)
        return find_spec(name)  # asks all finders again, and wrapt's is now among them


_finder: Any = _Finder()


def after_import(module: str, hook: Callable[[ModuleType], None]) -> None:
    """Calls ``hook(module)`` now if ``module`` is imported, else when the program imports it. Never imports it.

    One hook a module: a later call replaces the hook of an earlier one.
    """
    known = module in _hooked
    _hooked[module] = hook
    if module in sys.modules:
        _run(module, sys.modules[module])
    elif not known:
        _waited_for.add(module)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)


def forget(module: str) -> None:
    """Makes a later import of ``module`` do nothing (import hooks themselves cannot be taken out)."""
    if module in _hooked:
        _hooked[module] = _nothing


def _nothing(module: ModuleType) -> None:
    return


def _run(module: str, loaded: ModuleType) -> None:
    try:
        _hooked[module](loaded)
    except Exception as error:
        guard.fault(f"patch {module}", error)
