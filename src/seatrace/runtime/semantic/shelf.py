"""Which questions are known, by context: their vectors, their texts, the keys of their answers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from .index import Index, IndexKind, Vector, index_maker


@dataclass(frozen=True)
class Row:
    """A known question."""

    context: str
    key: str
    """Where its answer is kept."""
    text: str
    vector: Vector


class Shelf:
    """At most ``max_entries`` questions; those added first go first. All vectors are of one dimension, that of the
    first one: a vector of another means another embedding model, and all that was known is worthless."""

    def __init__(self, kind: IndexKind, max_entries: int) -> None:
        self._make = index_maker(kind, max_entries)
        self._max_entries = max_entries
        self._rows: OrderedDict[int, Row] = OrderedDict()
        self._by_key: dict[str, int] = {}
        self._indexes: dict[str, Index] = {}
        self._dimension = 0
        self._next = 0
        self._lock = threading.Lock()

    def add(self, row: Row) -> int:
        """Adds a question; how many were dropped, since they were made with another embedding model."""
        with self._lock:
            dropped = self._fit(len(row.vector))
            known = self._by_key.get(row.key)
            if known is not None:
                self._take_out(known)
            if self._max_entries == 0:
                return dropped
            number, self._next = self._next, self._next + 1
            index = self._indexes.get(row.context)
            if index is None:
                index = self._indexes[row.context] = self._make(self._dimension)
            index.add(number, row.vector)
            self._rows[number] = row
            self._by_key[row.key] = number
            while len(self._rows) > self._max_entries:
                self._take_out(next(iter(self._rows)))
            return dropped

    def search(self, context: str, vector: Vector, count: int) -> tuple[list[tuple[Row, float]], int]:
        """The nearest questions of ``context`` with their similarities, nearest first; and how many were dropped."""
        with self._lock:
            dropped = self._fit(len(vector))
            index = self._indexes.get(context)
            found = () if index is None else index.search(vector, count)
            return [(self._rows[number], close) for number, close in found if number in self._rows], dropped

    def size(self, context: str) -> int:
        """Questions of ``context``."""
        index = self._indexes.get(context)
        return 0 if index is None else len(index)

    def remove(self, key: str) -> None:
        """Forgets a question."""
        with self._lock:
            number = self._by_key.get(key)
            if number is not None:
                self._take_out(number)

    def clear(self, prefix: str) -> None:
        """Forgets those whose keys start with ``prefix``."""
        with self._lock:
            for key in [key for key in self._by_key if key.startswith(prefix)]:
                self._take_out(self._by_key[key])

    def rows(self) -> Iterator[Row]:
        """All, the oldest first."""
        with self._lock:
            rows = list(self._rows.values())
        return iter(rows)

    def after_fork(self) -> None:
        """In the child: the lock may have been held."""
        self._lock = threading.Lock()

    def _fit(self, dimension: int) -> int:
        if dimension == self._dimension:
            return 0
        dropped = len(self._rows)
        self._rows.clear()
        self._by_key.clear()
        self._indexes.clear()
        self._dimension = dimension
        return dropped

    def _take_out(self, number: int) -> None:
        row = self._rows.pop(number)
        del self._by_key[row.key]
        index = self._indexes[row.context]
        index.remove(number)
        if not len(index):
            del self._indexes[row.context]
