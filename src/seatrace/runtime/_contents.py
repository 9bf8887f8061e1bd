"""What a message says, whatever its form: the texts in it, and its images, sounds and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Media:
    """Something that is no text."""

    kind: Literal["image", "other"]
    size: int | None = None
    """Bytes, where it is sent along."""
    small: bool = False
    """An image that is to be looked at in low detail."""
    audio: bool = False


_IDS = ("id", "tool_call_id", "call_id", "tool_use_id", "item_id", "response_id")
_SEALED = ("signature", "thoughtSignature", "thought_signature", "encrypted_content", "cache_control")
_KINDS = ("type", "role", "object", "status", "index", "detail", "format", "media_type", "mime_type", "mimeType")
_NO_TEXT = frozenset({*_IDS, *_SEALED, *_KINDS})
"""Fields that a model is not shown as text."""

_AS_JSON = frozenset({"input", "args", "arguments", "response", "parameters", "input_schema", "schema", "json"})
"""Fields whose objects reach the model as JSON."""

_IMAGES = frozenset({"image_url", "input_image", "image"})
_OTHERS = frozenset({"input_audio", "audio", "file", "input_file", "document", "video", "input_video"})
_GEMINI = ("inline_data", "inlineData", "file_data", "fileData")


def plain(value: Any) -> Any:
    """``value`` as the JSON that it stands for: client libraries' objects as mappings."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    return value


def contents(value: Any, *, whole: bool = False, depth: int = 0) -> Iterator[str | Media]:
    """The texts and media in ``value``. ``whole``: all of it is JSON, such as a tool's definition."""
    value = plain(value)
    if isinstance(value, str):
        yield value
    elif value is None or isinstance(value, (bool, int, float)):
        if value is not None:
            yield str(value)
    elif whole:
        yield as_json(value)
    elif isinstance(value, Mapping):
        yield from _of_mapping(value, depth)
    elif isinstance(value, (list, tuple)) and depth < _DEEPEST:
        for each in value:
            yield from contents(each, depth=depth + 1)
    elif isinstance(value, (bytes, bytearray)):
        yield Media("other", len(value))


def _of_mapping(value: Mapping[Any, Any], depth: int) -> Iterator[str | Media]:
    kind = value.get("type")
    if kind in _IMAGES:
        url = value.get("image_url")
        detail = value.get("detail") or (url.get("detail") if isinstance(url, Mapping) else None)
        yield Media("image", small=detail == "low")
        return
    if kind in _OTHERS and "text" not in value:
        source = value.get("source")
        if isinstance(source, Mapping) and source.get("type") in ("text", "content"):
            yield from contents(source.get("data") or source.get("content"), depth=depth + 1)
            return
        yield Media("other", _size(value), audio=kind in ("input_audio", "audio"))
        return
    found = next((value[name] for name in _GEMINI if isinstance(value.get(name), Mapping)), None)
    if found is not None:
        mime = str(found.get("mime_type") or found.get("mimeType") or "")
        yield (
            Media("image")
            if mime.startswith("image/")
            else Media("other", _size(found), audio=mime.startswith("audio/"))
        )
        return
    if depth >= _DEEPEST:
        return
    for name, field in value.items():
        if name in _NO_TEXT:
            continue
        if name in _AS_JSON and isinstance(field, (Mapping, list, tuple)):
            yield as_json(field)
        else:
            yield from contents(field, depth=depth + 1)


def _size(value: Mapping[Any, Any]) -> int | None:
    """Bytes of the longest base64 text in it."""
    longest = 0
    for field in value.values():
        inner = _size(field) if isinstance(field, Mapping) else None
        if inner is not None:
            longest = max(longest, inner)
        elif isinstance(field, (str, bytes)) and len(field) > 200:
            longest = max(longest, len(field) * 3 // 4)
    return longest or None


def as_json(value: Any) -> str:
    """``value`` as compact JSON; what JSON has not, as its ``str``."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_default)
    except (ValueError, RecursionError):  # circular, or nested without end
        return str(type(value))


def _default(value: Any) -> Any:
    dumped = plain(value)
    return str(value) if dumped is value else dumped
