"""Entries in this process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from .store import Entry, Evicted, Reason, at_least_zero, ignore, is_alive

_SWEEP = 2
"""Entries that each put looks at, from the one unused for longest on: dead ones do not stay for ever."""


class MemoryStore:
    """Keeps the entries used last, in a dictionary.

    Args:
        max_entries: How many; 0 keeps none.
        max_bytes: How many bytes they may take together; an answer larger than that is not kept.
        clock: Seconds, never going back.
    """

    blocking = False

    def __init__(
        self, *, max_entries: int = 1000, max_bytes: int = 64_000_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_entries: int = at_least_zero("max_entries", max_entries, whole=True)
        self._max_bytes: int = at_least_zero("max_bytes", max_bytes, whole=True)
        self.clock = clock
        self.evicted: Evicted = ignore
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: str) -> Entry | None:
        """The entry, which then is the one used last."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if is_alive(entry, self.clock()):
                self._entries.move_to_end(key)
                return entry
            self._drop(key)
        self.evicted("ttl", 1)
        return None

    def put(self, key: str, entry: Entry, lease: str | None = None) -> bool:
        """Keeps ``entry`` and lets go of those unused for longest, as far as it must."""
        if self._max_entries == 0 or entry.size > self._max_bytes:
            return False
        gone: dict[Reason, int] = {}
        with self._lock:
            if key in self._entries:
                self._drop(key)
            self._entries[key] = entry
            self._bytes += entry.size
            now = self.clock()
            for old in [each for _, each in zip(range(_SWEEP), self._entries, strict=False)]:
                if not is_alive(self._entries[old], now):
                    self._drop(old)
                    gone["ttl"] = gone.get("ttl", 0) + 1
            while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
                reason: Reason = "lru" if len(self._entries) > self._max_entries else "size"
                self._drop(next(iter(self._entries)))
                gone[reason] = gone.get(reason, 0) + 1
        for why, count in gone.items():
            self.evicted(why, count)
        return True

    def delete(self, key: str) -> bool:
        """Forgets an entry."""
        with self._lock:
            known = key in self._entries
            if known:
                self._drop(key)
        if known:
            self.evicted("invalidated", 1)
        return known

    def clear(self, prefix: str = "") -> int:
        """Forgets the entries whose keys start with ``prefix``."""
        with self._lock:
            keys = [key for key in self._entries if key.startswith(prefix)]
            for key in keys:
                self._drop(key)
        if keys:
            self.evicted("invalidated", len(keys))
        return len(keys)

    def size(self) -> tuple[int, int]:
        """Entries and bytes."""
        return len(self._entries), self._bytes

    def close(self) -> None:
        """Nothing is open."""

    def after_fork(self) -> None:
        """In the child: a lock that another thread of the parent held would never be free again."""
        self._lock = Lock()
        self._bytes = sum(entry.size for entry in self._entries.values())

    def _drop(self, key: str) -> None:
        self._bytes -= self._entries.pop(key).size
