"""One text for every way to write the same value: what the keys of caches are made of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import sha256
from pathlib import PurePath
from typing import Any
from unicodedata import normalize
from uuid import UUID

from seatrace.errors import SeatraceError

_DEPTH_LIMIT = 100
_LEFT_OUT = frozenset({"NotGiven", "Omit"})
_WHOLE_LIMIT = 2**53


class UnkeyableError(SeatraceError, TypeError):
    """A value has no canonical form, so that no key can be made of it. The message says where it stands."""


def digest(value: object) -> str:
    """SHA-256 of the canonical text of ``value``, as hex.

    Raises:
        UnkeyableError: Something in it is no data: an iterator (which would be consumed), an open file, a client.
    """
    return digest_plain(plain(value))


def digest_plain(tree: object) -> str:
    """:func:`digest` of what :func:`plain` has made already."""
    return sha256(_write(tree).encode("utf-8", "surrogatepass")).hexdigest()


_write = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class CallIds:
    """Numbers the ids of tool calls in the order in which they come up. A provider makes up new ones with each answer,
    so that one conversation held twice differs in them and in nothing else."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def number(self, identifier: str) -> dict[str, int]:
        """What stands for ``identifier``."""
        return {"~call": self._known.setdefault(identifier, len(self._known))}


_REFERENCES = frozenset({"tool_call_id", "tool_use_id", "call_id"})
_CALLS = frozenset(
    {"function", "custom", "tool_use", "server_tool_use", "mcp_tool_use", "function_call", "custom_tool_call"}
)
# What a model or a tool said in its own words: a `call_id` in there is a value like any other.
_OPAQUE = frozenset({"input", "arguments", "args", "output", "response", "parameters", "schema", "json"})


def plain(value: object, ids: CallIds | None = None, at: str = "", depth: int = 0) -> Any:
    """``value`` as JSON data in which equal things are equal: mappings by content, not by order; ``1.0`` as ``1``; text
    in NFC; bytes by their digest; tuples as lists; models and dataclasses by their fields.

    Args:
        ids: Numbers the ids of tool calls; ``None`` leaves ids as they are.
        at: Where ``value`` stands, for the error.
        depth: How deep.
    """
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is str:
        text: str = value  # type: ignore[assignment]
        return text if text.isascii() else normalize("NFC", text)
    if kind is float:
        return _number(value)  # type: ignore[arg-type]
    if depth > _DEPTH_LIMIT:
        raise UnkeyableError(f"expected data to make a cache key of, got more than {_DEPTH_LIMIT} levels at {at!r}")
    if kind is dict or isinstance(value, Mapping):
        return _mapping(value, ids, at, depth)  # type: ignore[arg-type]
    if isinstance(value, (list, tuple)):
        return [plain(item, ids, f"{at}[{index}]", depth + 1) for index, item in enumerate(value)]
    return _other(value, ids, at, depth)


def _mapping(value: Mapping[Any, object], ids: CallIds | None, at: str, depth: int) -> dict[str, Any]:
    calls = ids is not None and (value.get("type") in _CALLS or "function" in value)
    tree: dict[str, Any] = {}
    # With ids in sorted order, so that they are numbered alike however the mapping was written.
    for name in value if ids is None else sorted(value, key=str):
        item = value[name]
        if is_left_out(item):
            continue
        key = name if type(name) is str and name[:1] != "~" else _name(name, at)
        if type(item) is str and item.isascii() and ids is None:
            tree[key] = item
        elif ids is not None and isinstance(item, str) and (name in _REFERENCES or (calls and name == "id")):
            tree[key] = ids.number(item)
        else:
            inner = None if name in _OPAQUE else ids
            tree[key] = plain(item, inner, f"{at}.{name}" if at else str(name), depth + 1)
    return tree


def is_left_out(value: object) -> bool:
    """Whether it is the client libraries' word for an argument left out."""
    return type(value).__name__ in _LEFT_OUT


def _name(name: object, at: str) -> str:
    if isinstance(name, str):
        name = str.__str__(name)
        return f"~{name}" if name.startswith("~") else name
    if name is None or isinstance(name, (bool, int, float)):
        return f"~{type(name).__name__} {name}"
    raise UnkeyableError(f"expected text as the keys of {at or 'a mapping'!r}, got {type(name).__qualname__}")


def _number(value: float) -> object:
    if not math.isfinite(value):
        return {"~float": str(value)}
    return int(value) if value.is_integer() and abs(value) < _WHOLE_LIMIT else value


_TEXTS = (date, time, timedelta, Decimal, Fraction, UUID, PurePath, complex)


def _other(value: object, ids: CallIds | None, at: str, depth: int) -> Any:
    kind = type(value)
    if isinstance(value, Enum):
        return plain(value.value, ids, at, depth + 1)
    if isinstance(value, str):
        return plain(str.__str__(value), ids, at, depth + 1)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _number(float(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"~bytes": sha256(value).hexdigest()}
    if isinstance(value, (set, frozenset)):
        return {"~set": sorted(digest_plain(plain(item, None, at, depth + 1)) for item in value)}
    if isinstance(value, _TEXTS):
        return {f"~{kind.__qualname__}": str(value)}
    if isinstance(value, type):
        schema = getattr(value, "model_json_schema", None)
        named = f"{value.__module__}.{value.__qualname__}"
        return {"~class": named, "schema": None if schema is None else plain(schema(), None, at, depth + 1)}
    dump = getattr(value, "model_dump", None)
    if callable(dump):  # a pydantic model says what the same mapping says
        return plain(dump(mode="json", by_alias=True, exclude_unset=True), ids, at, depth + 1)
    if is_dataclass(value):
        named = f"~{kind.__module__}.{kind.__qualname__}"
        items = {each.name: getattr(value, each.name) for each in fields(value)}
        return {named: plain(items, ids, at, depth + 1)}
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):  # numpy: scalars as numbers, arrays by digest
        if getattr(value, "shape", None) == ():
            return plain(value.item(), ids, at, depth + 1)  # type: ignore[attr-defined]
        described = [str(value.dtype), list(value.shape)]  # type: ignore[attr-defined]
        return {"~array": [*described, sha256(value.tobytes()).hexdigest()]}
    if isinstance(value, Sequence):
        return plain(list(value), ids, at, depth + 1)
    raise UnkeyableError(
        f"expected data to make a cache key of (text, numbers, bytes, lists, mappings, models), got "
        f"{kind.__module__}.{kind.__qualname__}{f' at {at!r}' if at else ''}; pass a key of your own instead"
    )
