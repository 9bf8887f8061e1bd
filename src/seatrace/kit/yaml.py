"""Writes the little YAML that rules need: the same text each time, expressions readable, no library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

Value = str | int | bool | Sequence["Value"] | Mapping[str, "Value"]

_PLAIN = re.compile(r"[A-Za-z_][\w/:-]*(?<!:)|\d+[smhdw]")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd]|\x85|\u2028|\u2029")


def dump(value: Mapping[str, Value], *, head: str = "") -> str:
    """A document; each line of ``head`` is a comment at its top."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in head.splitlines())
    return comment + "".join(f"{line}\n" if line else "\n" for line in _mapping(value))


def _mapping(value: Mapping[str, Value]) -> Iterator[str]:
    for key, item in value.items():
        yield from _item(f"{_scalar(key)}:", item)


def _item(lead: str, value: Value) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield lead
        yield from (f"  {line}" if line else "" for line in _mapping(value))
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        yield lead
        for each in value:
            first, *rest = _entry(each)
            yield f"  - {first}"
            yield from (f"    {line}" if line else "" for line in rest)
    elif isinstance(value, str) and _readable_in_lines(value):
        yield f"{lead} |-"
        yield from (f"  {line}" for line in value.split("\n"))
    else:
        yield f"{lead} {_scalar(value)}"


def _entry(value: Value) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield from _mapping(value)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        raise ValueError("a list in a list is not needed, and not written")
    else:
        yield _scalar(value)


def _readable_in_lines(text: str) -> bool:
    return "\n" in text and not _UNPRINTABLE.search(text) and all(line and line[0] != " " for line in text.split("\n"))


def _scalar(value: Value) -> str:
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return "{}" if isinstance(value, Mapping) else "[]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if "\n" in value or _UNPRINTABLE.search(value):
        return _UNPRINTABLE.sub(lambda found: f"\\U{ord(found[0]):08x}", json.dumps(value, ensure_ascii=False))
    return f'"{value}"' if not set(value) & {'"', "\\"} else "'" + value.replace("'", "''") + "'"
