"""What leaves the process is cleaned first: secrets out, long texts cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from seatrace.core.record import Content

_ROOM = 4096
"""Characters beyond the limit that are still searched for a secret that begins within it."""

_DEPTH = 12
_NAME = 200
_TOTAL_ITEMS = 20_000
_TOTAL_TEXT = 2_000_000
"""Items and characters kept of one call's content, whatever the limits of its parts allow together."""


def redact(text: str) -> str:
    """See :func:`seatrace.process.secrets.redact`."""
    from . import secrets

    return secrets.redact(text)


def cutter(limit: int) -> Callable[[str], str]:
    """A function that cuts texts to ``limit`` characters and says how many it left out."""

    def cut(text: str) -> str:
        return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit} characters cut]"

    return cut


def cleaner(
    *, redacting: bool, max_text: int, max_parts: int
) -> tuple[Callable[[Content], Content], Callable[[str], str]]:
    """Functions that clean content and single texts before anything is recorded.

    Args:
        redacting: Replace secrets.
        max_text: Characters kept of each text, binary data included.
        max_parts: Items kept of each list, the newest ones: the last messages of a long conversation.
    """
    cut = cutter(max_text)

    def clean_text(text: str) -> str:
        if not redacting:
            return cut(text)
        if len(text) <= max_text + _ROOM:
            return cut(redact(text))
        # A huge text is not searched to its end; with some room, no secret is cut in two before it is seen.
        kept = redact(text[: max_text + _ROOM])[:max_text]
        return f"{kept}… [{len(text) - max_text} characters cut]"

    def clean_content(content: Content) -> Content:
        cleaning = _Cleaning(clean_text, redacting, max_parts)
        return Content(**{field.name: cleaning.value(getattr(content, field.name)) for field in fields(content)})

    return clean_content, clean_text


class _Cleaning:
    """One call's content, reduced to JSON within the limits."""

    def __init__(self, clean_text: Callable[[str], str], redacting: bool, max_parts: int) -> None:
        self._clean_text = clean_text
        self._redacting = redacting
        self._max_parts = max_parts
        self._items = _TOTAL_ITEMS
        self._text = _TOTAL_TEXT

    def value(self, value: Any, depth: int = 0) -> Any:
        self._items -= 1
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self._string(str(value))
        if depth > _DEPTH:
            return "[nested too deep]"
        if self._items < 0:
            return "[too much]"
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            # The newest first, so that they are kept where there is too much.
            kept = list(value)[-self._max_parts :]
            return [self.value(item, depth + 1) for item in reversed(kept)][::-1]
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"[{len(value)} bytes]"
        return self._object(value, depth)

    def _string(self, text: str) -> str:
        if self._text <= 0:
            return f"[{len(text)} characters cut]"
        text = self._clean_text(text)
        self._text -= len(text)
        return text

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        from . import secrets

        out: dict[str, Any] = {}
        for key, item in list(value.items())[: self._max_parts]:
            name = self._clean_text(str(key)[:_NAME])
            if self._redacting and isinstance(item, str) and item and secrets.is_secret_name(name):
                out[name] = secrets.REDACTED
            else:
                out[name] = self.value(item, depth + 1)
        return out

    def _object(self, value: Any, depth: int) -> Any:
        dump = getattr(type(value), "model_dump", None)
        if dump is not None:
            return self.value(value.model_dump(mode="json"), depth + 1)
        named = getattr(type(value), "__dataclass_fields__", None)
        if named is not None:
            return self._mapping({name: getattr(value, name, None) for name in named}, depth)
        try:
            return self._string(repr(value))
        except Exception as error:
            return f"[{type(value).__name__} without repr: {type(error).__name__}]"
