"""Telling whether two values are the same without keeping them: a number for each, good for this process only."""

from __future__ import annotations

import weakref
from itertools import count
from typing import Any

_NODES = 10_000
"""Values within one value that are looked at; one with more is like no other."""

_PLAIN = frozenset((int, float, bool, type(None), complex))

_unlike = count()


class _TooMuch(Exception):
    pass


def digest(value: Any) -> int:
    """A number that is the same for equal plain values, and for lists, mappings, sets, data classes and pydantic models
    of such; other objects are only like themselves. Runs no code of the value's classes."""
    try:
        return _of(value, [_NODES])
    except (_TooMuch, RecursionError):
        return hash(("too much", next(_unlike)))


def _of(value: Any, left: list[int]) -> int:
    kind = type(value)
    if kind is str or kind is bytes:
        return hash((kind, value))
    if kind in _PLAIN:
        return hash((kind, repr(value)))  # -1 and -2 themselves have the same hash
    if kind is dict:
        _count(value, left)
        return hash((kind, frozenset([(_of(key, left), _of(item, left)) for key, item in value.items()])))
    if kind is list or kind is tuple:
        _count(value, left)
        return hash((kind, *[_of(each, left) for each in value]))
    if kind is set or kind is frozenset:
        _count(value, left)
        return hash((kind, frozenset([_of(each, left) for each in value])))
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "model_fields"):
        fields = getattr(value, "__dict__", None)
        if type(fields) is dict:
            return hash((kind, _of(fields, left)))
    return hash(("object", _serial(value)))


def _count(value: Any, left: list[int]) -> None:
    left[0] -= len(value)
    if left[0] < 0:
        raise _TooMuch


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
