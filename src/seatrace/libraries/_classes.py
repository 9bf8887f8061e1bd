"""Methods that a framework leaves to the classes below one of its own: those that exist, and those to come.

There is no one method then through which every model or tool of a framework goes: each class brings its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from seatrace.core import guard
from seatrace.core.patch import Patches

Rule = tuple[type, tuple[str, ...], Callable[[Any], Any]]
"""A class, names of methods, and what makes a replacement for each of them, wherever below that class it is defined."""


def replace_below(rules: Iterable[Rule], maker: type, patches: Patches) -> None:
    """Replaces the methods of all classes that exist, and of those made below ``maker`` later, when that has done its
    own work on them."""
    rules = list(rules)
    own: classmethod[Any, Any, Any] | None = vars(maker).get("__init_subclass__")

    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        inherited: Any = super(maker, cls)
        (inherited.__init_subclass__ if own is None else own.__get__(None, cls))(**kwargs)
        try:
            for rule in rules:
                if issubclass(cls, rule[0]):
                    _tap(cls, rule, patches)
        except Exception as error:
            guard.fault("patch a class", error)

    noticing: Any = classmethod(init_subclass if own is None else functools.wraps(own.__func__)(init_subclass))
    if own is None:
        patches.add(maker, "__init_subclass__", noticing)
    else:
        patches.replace(maker, "__init_subclass__", lambda original: noticing)
    for rule in rules:
        for cls in dict.fromkeys(_below(rule[0])):
            _tap(cls, rule, patches)


def _below(cls: type) -> Iterator[type]:
    yield cls
    each: type
    for each in type.__subclasses__(cls):
        yield from _below(each)


def _tap(cls: type, rule: Rule, patches: Patches) -> None:
    _, names, make = rule
    for name in names:
        original = vars(cls).get(name)
        if callable(original) and not getattr(original, "__isabstractmethod__", False):
            patches.replace(cls, name, make)
