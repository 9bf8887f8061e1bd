"""Entries in a SQLite file, which many processes of one machine may share."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import finalize

from seatrace.runtime._sqlite import write_ahead

from .store import Entry, Evicted, Reason, at_least_zero, ignore, is_alive, wall_clock

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    key TEXT PRIMARY KEY, data BLOB NOT NULL, size INTEGER NOT NULL, dies REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_used ON entry (used);
CREATE INDEX IF NOT EXISTS entry_dies ON entry (dies);
CREATE TABLE IF NOT EXISTS total (entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS entry_added AFTER INSERT ON entry BEGIN
    UPDATE total SET entries = entries + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER IF NOT EXISTS entry_gone AFTER DELETE ON entry BEGIN
    UPDATE total SET entries = entries - 1, bytes = bytes - old.size;
END;
"""

_USED_STEP = 60.0
"""Seconds for which a read does not note again that the entry was used: a read is a write only then."""

_EVICT = 16
"""Entries that are let go at once, so that a full store does not look for one with each put."""

_of_parents: list[sqlite3.Connection] = []
"""Connections that a fork has copied. SQLite forbids to use, and even to close, them in the child."""


class SqliteStore:
    """Keeps the entries in ``path``, which is made readable for its owner alone.

    Args:
        path: The file; its folder must exist.
        max_entries: How many; those unused for longest go first, to within a minute.
        max_bytes: How many bytes they may take together. The file is somewhat larger, and does not shrink.
        timeout: Seconds to wait for another process that writes; after that it counts as an outage.
        clock: Seconds since the epoch.
    """

    blocking = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_entries: int = 100_000,
        max_bytes: int = 1_000_000_000,
        timeout: float = 0.5,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        self._path = os.fspath(path)
        self._max_entries: int = at_least_zero("max_entries", max_entries, whole=True)
        self._max_bytes: int = at_least_zero("max_bytes", max_bytes, whole=True)
        self._timeout: float = at_least_zero("timeout", timeout)
        self.clock = clock
        self.evicted: Evicted = ignore
        self._connection: sqlite3.Connection | None = None
        self._closing: finalize[Any, Any] | None = None
        """Closes the connection of a store that nobody closed: Python 3.13 warns of one that is merely dropped."""
        self._lock = Lock()
        self._size: tuple[int, int] | None = None

    def get(self, key: str) -> Entry | None:
        """The entry."""
        with self._opened() as database:
            row = database.execute("SELECT data, used FROM entry WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            entry, now = Entry.from_bytes(row[0]), self.clock()
            if is_alive(entry, now):
                if abs(now - row[1]) > _USED_STEP:
                    database.execute("UPDATE entry SET used = ? WHERE key = ?", (now, key))
                return entry
            gone = database.execute("DELETE FROM entry WHERE key = ? AND used = ?", (key, row[1])).rowcount
            self._count(database)
        if gone:
            self.evicted("ttl", gone)
        return None

    def put(self, key: str, entry: Entry, lease: str | None = None) -> bool:
        """Keeps ``entry`` and lets go of dead ones, then of those unused for longest, as far as it must."""
        data, gone = entry.to_bytes(), dict[Reason, int]()
        if self._max_entries == 0 or entry.size > self._max_bytes:
            return False
        with self._opened() as database, _transaction(database):
            now = self.clock()
            database.execute("DELETE FROM entry WHERE key = ?", (key,))  # REPLACE would not fire the trigger
            database.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (key, data, entry.size, entry.dies, now))
            entries, taken = self._count(database)
            if entries > self._max_entries or taken > self._max_bytes:
                gone = self._evict(database, now)
        for reason, count in gone.items():
            self.evicted(reason, count)
        return True

    def delete(self, key: str) -> bool:
        """Forgets an entry."""
        return self._forget("key = ?", key) > 0

    def clear(self, prefix: str = "") -> int:
        """Forgets the entries whose keys start with ``prefix``."""
        return self._forget("substr(key, 1, length(?1)) = ?1", prefix)

    def size(self) -> tuple[int, int] | None:
        """Entries and bytes as of this process's last write, those of other processes included."""
        return self._size

    def close(self) -> None:
        """Closes the file; a later operation opens it again."""
        with self._lock:
            self._connection = None
            if self._closing is not None:
                self._closing()

    def after_fork(self) -> None:
        """In the child: opens a connection of its own when it needs one."""
        self._lock = Lock()
        if self._connection is not None:
            _of_parents.append(self._connection)
            self._connection = None
            if self._closing is not None:
                self._closing.detach()

    def _forget(self, which: str, value: str) -> int:
        with self._opened() as database:
            count: int = database.execute(f"DELETE FROM entry WHERE {which}", (value,)).rowcount
            self._count(database)
        if count:
            self.evicted("invalidated", count)
        return count

    def _evict(self, database: sqlite3.Connection, now: float) -> dict[Reason, int]:
        gone: dict[Reason, int] = {}
        dead = database.execute("DELETE FROM entry WHERE dies <= ?", (now,)).rowcount
        if dead:
            gone["ttl"] = dead
        while True:
            entries, taken = self._count(database)
            if entries <= self._max_entries and taken <= self._max_bytes:
                return gone
            reason: Reason = "lru" if entries > self._max_entries else "size"
            many = max(1, min(_EVICT, entries // 10))
            oldest = "SELECT key FROM entry ORDER BY used LIMIT ?"
            count = database.execute(f"DELETE FROM entry WHERE key IN ({oldest})", (many,)).rowcount
            gone[reason] = gone.get(reason, 0) + count

    def _count(self, database: sqlite3.Connection) -> tuple[int, int]:
        entries, taken = database.execute("SELECT entries, bytes FROM total").fetchone()
        self._size = entries, taken
        return entries, taken

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
                self._closing = finalize(self, self._connection.close)
            yield self._connection

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(
            self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            write_ahead(database, self._timeout)
            database.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last entries, never the file
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        except BaseException:
            database.close()
            raise
        return database


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
