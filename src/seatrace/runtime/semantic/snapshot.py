"""A semantic cache in a file: JSON, one line a question."""

from __future__ import annotations

import base64
import json
import os
from time import time
from typing import Any

from seatrace.errors import ConfigError
from seatrace.runtime.cache.store import Entry, Store

from .index import numpy_module, unit
from .shelf import Row, Shelf

_VERSION = 1


def save(path: str, embedder: str, shelf: Shelf, store: Store) -> int:
    """Writes what is alive; readable for its owner alone, and whole or not at all."""
    beside, count, now = f"{path}.{os.getpid()}.new", 0, store.clock()
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        _write(file, {"version": _VERSION, "embedder": embedder, "saved": time()})
        for row in shelf.rows():
            entry = store.get(row.key)
            if entry is None:
                continue
            line = {"context": row.context, "key": row.key, "text": row.text, "vector": _text(row.vector.tobytes())}
            times = {"age": now - entry.created, "fresh": entry.fresh_until - now, "life": entry.dies - now}
            _write(file, {**line, **times, "entry": _text(entry.to_bytes())})
            count += 1
    os.replace(beside, path)
    return count


def load(path: str, embedder: str, shelf: Shelf, store: Store) -> int:
    """Reads them back, each as old as it is by now.

    Raises:
        ConfigError: It is no such file.
        OSError: It cannot be read.
    """
    numpy, count, now = numpy_module(), 0, store.clock()
    with open(path, encoding="utf-8") as file:
        try:
            head = json.loads(file.readline())
            if head["version"] != _VERSION:
                raise ValueError(f"version {head['version']}")
            passed = max(0.0, time() - head["saved"])
            if head["embedder"] != embedder:
                return 0
            for line in map(json.loads, file):
                if line["life"] <= passed:
                    continue
                entry = Entry.from_bytes(_bytes(line["entry"]))
                known = {name: getattr(entry, name) for name in ("seconds", "cost", "tokens", "model", "link")}
                times = (now - line["age"] - passed, now + line["fresh"] - passed, now + line["life"] - passed)
                if store.put(line["key"], Entry(entry.body, *times, **known)):
                    vector = unit(numpy.frombuffer(_bytes(line["vector"]), numpy.float32))
                    shelf.add(Row(line["context"], line["key"], line["text"], vector))
                    count += 1
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"expected a file that SemanticCache.save wrote, got {path!r}: {error}") from error
    return count


def _write(file: Any, line: dict[str, Any]) -> None:
    file.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
