"""JSON schemas of Python types, and whether a value is what a schema says."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from seatrace.errors import ConfigError

Schema = dict[str, Any]

_SIMPLE: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def schema_of(kind: Any) -> Schema:
    """The schema of a dataclass or of a type of one's field: str, int, float, bool, ``None``, lists, tuples of one
    type, dicts with text keys, unions, ``Literal``, enumerations and other dataclasses.

    Raises:
        ConfigError: Another type.
    """
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _of_dataclass(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [each.value for each in kind]}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(each) for each in arguments]}
    if origin in (list, Sequence) or (origin is tuple and arguments[1:] == (...,)):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in (dict, Mapping) and arguments[0] is str:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    raise ConfigError(f"schema: expected a type that JSON has, got {kind!r}. Give a JSON schema instead.")


def _of_dataclass(kind: Any) -> Schema:
    hints = _hints(kind)
    fields = [each for each in dataclasses.fields(kind) if each.init]
    return {
        "type": "object",
        "properties": {each.name: schema_of(hints[each.name]) for each in fields},
        "required": [each.name for each in fields if not _has_default(each)],
        "additionalProperties": False,
    }


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError as error:  # text, of names that only a function knows
        raise ConfigError(
            f"schema: expected annotations of {kind.__name__} that can be looked up, got {error}. Define it, and what "
            f"it names, in a module."
        ) from error


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def build(kind: Any, value: Any) -> Any:
    """``value``, which fits the schema of ``kind``, as ``kind``."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: build(hints[name], each) for name, each in value.items()})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        fitting = next(each for each in arguments if not any(faults(value, schema_of(each))))
        return build(fitting, value)
    if origin in (list, Sequence):
        return [build(arguments[0], each) for each in value]
    if origin is tuple:
        return tuple(build(arguments[0], each) for each in value)
    if origin in (dict, Mapping):
        return {name: build(arguments[1], each) for name, each in value.items()}
    return kind(value) if kind in (int, float) else value


def strict(schema: Any) -> Any:
    """``schema`` as the providers' strict modes want it: objects have no further fields and all of theirs are
    required; defaults go."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        name: {key: strict(each) for key, each in value.items()}
        if name in ("properties", "$defs", "definitions")
        else strict(value)
        for name, value in schema.items()
        if name != "default"
    }
    if isinstance(made.get("properties"), dict):
        made["required"] = list(made["properties"])
        made["additionalProperties"] = False
    return made


_TYPES: dict[str, Any] = {
    "object": Mapping,
    "array": (list, tuple),
    "string": str,
    "boolean": bool,
    "null": type(None),
}


def faults(value: Any, schema: Any, at: str = "$", root: Any = None, depth: int = 0) -> Iterator[str]:
    """What is wrong with ``value``, by type, enum, const, required, properties, additionalProperties, items, anyOf,
    oneOf, allOf and local ``$ref``; other words of the schema are for the model alone."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping) or depth > 50:
        if schema is False:
            yield f"{at}: nothing is allowed here"
        return
    if isinstance(schema.get("$ref"), str):
        yield from faults(value, _resolved(schema["$ref"], root), at, root, depth + 1)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices and all(any(faults(value, each, at, root, depth + 1)) for each in choices):
        yield f"{at}: expected one of {len(choices)} alternatives, none fits"
    for each in schema.get("allOf") or ():
        yield from faults(value, each, at, root, depth + 1)
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if allowed is not None and not any(type(each) is type(value) and each == value for each in allowed):
        yield f"{at}: expected one of {allowed!r}, got {value!r:.80}"
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{at}: expected {' or '.join(kinds)}, got {type(value).__name__}"
        return
    if isinstance(value, Mapping):
        yield from _object_faults(value, schema, at, root, depth)
    elif isinstance(value, (list, tuple)) and "items" in schema:
        for number, each in enumerate(value):
            yield from faults(each, schema["items"], f"{at}[{number}]", root, depth + 1)


def _object_faults(
    value: Mapping[str, Any], schema: Mapping[str, Any], at: str, root: Any, depth: int
) -> Iterator[str]:
    properties = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            yield f"{at}: {name!r} is missing"
    for name, each in value.items():
        if name in properties:
            yield from faults(each, properties[name], f"{at}.{name}", root, depth + 1)
        elif schema.get("additionalProperties") is False:
            yield f"{at}: {name!r} is not expected"
        elif isinstance(schema.get("additionalProperties"), Mapping):
            yield from faults(each, schema["additionalProperties"], f"{at}.{name}", root, depth + 1)


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        whole = isinstance(value, float) and value.is_integer()  # 3.0 is an integer to JSON
        return whole or (isinstance(value, int) and not isinstance(value, bool))
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, _TYPES.get(kind, object))


def _resolved(reference: str, root: Any) -> Any:
    found = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
