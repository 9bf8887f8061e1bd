"""Telling whether two values are the same without keeping them: a number for each, good for this process only."""

from __future__ import annotations

import weakref
from itertools import count
from typing import Any

_NODES = 10_000
"""Values within one value that are looked at; one with more is like no other."""

_PLAIN = (str, bytes, int, float, bool, type(None), complex)

_unlike = count()


class _TooMuch(Exception):
    pass


def digest(value: Any) -> int:
    """A number that is the same for equal plain values, and for lists, mappings, sets, data classes and pydantic models
    of such; other objects are only like themselves. Runs no code of the value's classes."""
    try:
        return _Walk().of(value)
    except (_TooMuch, RecursionError):
        return hash(("too much", next(_unlike)))


class _Walk:
    def __init__(self) -> None:
        self._left = _NODES

    def of(self, value: Any) -> int:
        self._left -= 1
        if self._left < 0:
            raise _TooMuch
        kind = type(value)
        if kind in _PLAIN:
            # As text, since -1 and -2 have the same hash; strings and bytes have a good one of their own.
            return hash((kind.__name__, value if kind in (str, bytes) else repr(value)))
        if kind in (list, tuple):
            return hash((kind.__name__, *map(self.of, value)))
        if kind is dict:
            return hash(("dict", frozenset((self.of(key), self.of(item)) for key, item in value.items())))
        if kind in (set, frozenset):
            return hash(("set", frozenset(map(self.of, value))))
        if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "model_fields"):
            fields = getattr(value, "__dict__", None)
            if type(fields) is dict:
                return hash((kind.__qualname__, self.of(fields)))
        return hash(("object", _serial(value)))


_known: dict[int, tuple[weakref.ref[Any], int]] = {}


def _serial(value: Any) -> int:
    """One number for an object as long as it lives. Its address would be another's after it."""
    key = id(value)
    known = _known.get(key)
    if known is not None and known[0]() is value:
        return known[1]
    try:
        reference = weakref.ref(value, lambda gone: _forget(key, gone))
    except TypeError:
        return next(_unlike)
    _known[key] = reference, next(_unlike)
    return _known[key][1]


def _forget(key: int, gone: Any) -> None:
    known = _known.get(key)
    if known is not None and known[0] is gone:
        _known.pop(key, None)
