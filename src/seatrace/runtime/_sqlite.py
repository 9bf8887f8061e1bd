"""What the SQLite files of caches and queues have in common."""

from __future__ import annotations

import sqlite3
from time import monotonic, sleep

_PAUSE = 0.01


def write_ahead(database: sqlite3.Connection, timeout: float) -> None:
    """Switches the file to a write-ahead log, so that processes read while one writes.

    Only the first to open a file has to, and needs the file for itself: SQLite does not wait for that, whatever its own
    timeout, so that processes which open a new file at once would fail.

    Raises:
        sqlite3.OperationalError: The file was locked for longer than ``timeout`` seconds.
    """
    deadline = monotonic() + timeout
    while True:
        try:
            if database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > deadline:
                raise
            sleep(_PAUSE)
