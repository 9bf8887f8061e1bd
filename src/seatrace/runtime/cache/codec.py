"""Answers as bytes and back: JSON, never pickle. What comes back has the type of what went in, and is a new object."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

_TAG = b'"~'
"""In what is kept where there is more than JSON knows; also in a text that begins so."""


class UnstorableError(Exception):
    """An answer that JSON cannot carry without changing it. It is handed out as it is and not kept."""


def encode(value: object) -> bytes:
    """``value`` as bytes.

    JSON data, tuples, bytes, dataclasses, and models (``model_dump`` and ``model_validate``, as pydantic's and those
    of the client libraries) can be kept, also within each other.

    Raises:
        UnstorableError: ``value`` is something else, or would not come back equal.
    """
    try:
        data = json.dumps(_pack(value), separators=(",", ":"), ensure_ascii=False).encode()
        same = decode(data) == value
    except UnstorableError:
        raise
    except Exception as error:  # a model's own code, a lone surrogate, endless nesting
        raise UnstorableError(f"{type(value).__qualname__}: {error}") from error
    if not same:
        raise UnstorableError(f"{type(value).__qualname__} does not come back equal")
    return data


def decode(data: bytes) -> Any:
    """A new object equal to the one that :func:`encode` was given.

    Raises:
        UnstorableError: It was of a class that this program has not loaded, or ``data`` is damaged.
    """
    try:
        tree = json.loads(data)
        return tree if _TAG not in data else _unpack(tree)
    except UnstorableError:
        raise
    except Exception as error:
        raise UnstorableError(f"an entry cannot be read: {error}") from error


def bare(data: bytes) -> Any:
    """The JSON data in ``data`` without its types: models and dataclasses as mappings."""
    return _bare(json.loads(data))


def _pack(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind is list:
        return [_pack(item) for item in value]
    if kind is dict:
        if not all(type(name) is str for name in value):
            raise UnstorableError("a mapping whose keys are no text")
        return {f"~{name}" if name.startswith("~") else name: _pack(item) for name, item in value.items()}
    if kind is tuple:
        return {"~tuple": [_pack(item) for item in value]}
    if kind is bytes:
        return {"~bytes": base64.b64encode(value).decode()}
    if _is_model(kind):
        return {"~model": _name_of(kind), "data": value.model_dump(mode="json", by_alias=True, exclude_unset=True)}
    if is_dataclass(kind):
        given = fields(kind)
        if not all(each.init for each in given):
            raise UnstorableError(f"{kind.__qualname__} has fields that its constructor does not take")
        return {"~dataclass": _name_of(kind), "data": {each.name: _pack(getattr(value, each.name)) for each in given}}
    raise UnstorableError(f"{kind.__module__}.{kind.__qualname__}")


def _unpack(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_unpack(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    first = next(iter(tree), "")
    if not first.startswith("~") or first.startswith("~~"):
        return {name[1:] if name.startswith("~") else name: _unpack(item) for name, item in tree.items()}
    if first == "~tuple":
        return tuple(_unpack(item) for item in tree[first])
    if first == "~bytes":
        return base64.b64decode(tree[first])
    kind = _class_of(tree[first])
    if first == "~model":
        return _model(kind, tree["data"])
    return kind(**{name: _unpack(item) for name, item in tree["data"].items()})


def _bare(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_bare(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    first = next(iter(tree), "")
    if first == "~model":
        return tree["data"]
    if first in ("~tuple", "~dataclass"):
        return _bare(tree["data" if first == "~dataclass" else first])
    return {name: _bare(item) for name, item in tree.items()}


def _is_model(kind: Any) -> bool:
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate")


def _model(kind: Any, data: Mapping[str, Any]) -> Any:
    # The client libraries' own models come without validation, whatever a newer provider says: their `construct`.
    construct: Any = getattr(kind, "construct", None)
    own = construct is not None and not construct.__module__.startswith("pydantic")
    return construct(**data) if own else kind.model_validate(data)


def _name_of(kind: type) -> str:
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _class_of(name) is not kind:
        raise UnstorableError(f"{name} cannot be found by its name")
    return name


def _class_of(name: str) -> Any:
    """A class that the program has loaded itself: what lies in a store never makes it import something."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not (_is_model(found) or is_dataclass(found)):
        raise UnstorableError(f"{name} is not loaded, or no model")
    return found
