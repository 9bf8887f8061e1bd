"""What is kept, and what a store must offer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

from seatrace.errors import ConfigError

Reason = Literal["lru", "size", "ttl", "invalidated"]
REASONS: tuple[Reason, ...] = ("lru", "size", "ttl", "invalidated")
"""Why an entry left a store: too many entries, too many bytes, too old, or it was told to."""

Evicted = Callable[[Reason, int], None]


@dataclass(frozen=True)
class Entry:
    """An answer that is kept. Times are seconds on the store's clock."""

    body: bytes
    """The answer, as ``codec.encode`` makes it."""
    created: float
    fresh_until: float
    """Until then it is served without further thought."""
    dies: float
    """From then on it is not there any more."""
    seconds: float = 0.0
    """What making it took."""
    cost: float | None = None
    """What making it cost, USD; ``None`` where that is not known."""
    tokens: int | None = None
    """Input and output tokens of making it."""
    model: str | None = None
    link: Mapping[str, str] = field(default_factory=dict)
    """The trace headers of the span that made it."""

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return len(self.body) + _OVERHEAD

    def to_bytes(self) -> bytes:
        """As bytes, for a store outside of this process."""
        head = {name: value for name, value in asdict(self).items() if name != "body"}
        return json.dumps(head, separators=(",", ":")).encode() + b"\n" + self.body

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        """Back from :meth:`to_bytes`.

        Raises:
            ValueError: ``data`` is no entry.
        """
        head, newline, body = data.partition(b"\n")
        if not newline:
            raise ValueError("an entry without a head")
        try:
            return cls(body=body, **json.loads(head))
        except TypeError as error:
            raise ValueError(f"an entry of another version: {error}") from error


_OVERHEAD = 300
"""Bytes that an entry takes beside its body, roughly: key, numbers, links."""

_SKEW = 60.0
"""Seconds that clocks of different machines may differ."""


def is_alive(entry: Entry, now: float) -> bool:
    """Whether ``entry`` may still be served. One from the future is of a clock that was set back since: nobody knows
    how old it is."""
    return now < entry.dies and entry.created <= now + _SKEW


class Store(Protocol):
    """Where entries are kept. Whatever it raises counts as an outage: the cache goes on without it.

    One store object belongs to one cache; several of them may share a file or a server.
    """

    blocking: bool
    """Whether an operation may wait for a disk or a network: an asynchronous program then leaves it to a thread."""
    evicted: Evicted
    """Is told of entries that leave; set by the cache."""

    def clock(self) -> float:
        """Seconds; the same clock for all who share the store."""

    def get(self, key: str) -> Entry | None:
        """The entry, unless it is dead."""

    def put(self, key: str, entry: Entry, lease: str | None = None) -> bool:
        """Keeps ``entry``, or not where it is too large. With a ``lease`` that is no longer held it must not."""

    def delete(self, key: str) -> bool:
        """Forgets an entry, and whatever is on its way to become one. Whether there was one."""

    def clear(self, prefix: str = "") -> int:
        """Forgets the entries whose keys start so; how many."""

    def size(self) -> tuple[int, int] | None:
        """Entries and bytes now, ``None`` where that is not known at once: must not block."""

    def close(self) -> None:
        """Lets go of files and connections."""


class Leases(Protocol):
    """What a store offers besides, if several processes are not to make the same call at once."""

    def acquire(self, key: str, seconds: float) -> str | None:
        """The right to make the answer to ``key`` for so long; ``None`` while somebody else has it. Each one carries a
        higher number than those before it."""

    def release(self, key: str, lease: str) -> None:
        """Gives it back."""


def ignore(reason: Reason, count: int) -> None:
    """Nobody wants to know what was evicted."""


def wall_clock() -> float:
    """Seconds since the epoch: what machines agree on."""
    return time.time()


_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "b": 1}


def at_least_zero(name: str, value: Any, *, whole: bool = False) -> Any:
    """``value`` where it is a number of at least 0.

    Raises:
        ConfigError: It is not.
    """
    fits = isinstance(value, int) or (isinstance(value, float) and not whole)
    if not fits or isinstance(value, bool) or not value >= 0:  # a NaN is not >= 0 either
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{name}: expected {kind} of at least 0, got {value!r}")
    return value


def size_of(text: str) -> int:
    """Bytes in a text such as ``"64MB"``, ``"1GiB"`` or ``"1000"``.

    Raises:
        ConfigError: It is none of these.
    """
    lowered = text.strip().lower()
    digits = lowered.rstrip("kmgib")
    unit = _UNITS.get(lowered[len(digits) :] or "b")
    try:
        number = float(digits) * (unit or 0)
    except ValueError:
        number = -1
    if unit is None or not 0 <= number < inf:
        raise ConfigError(f"expected a size such as 64MB, 1GiB or 100000, got {text!r}")
    return int(number)


def open_store(store: Store | str) -> Store:
    """The store that a url names.

    ``memory://?max_entries=1000&max_bytes=64MB``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``,
    ``redis://host:6379/0?prefix=app`` (also ``rediss`` and ``unix``).

    Raises:
        ConfigError: The url names none.
        MissingExtraError: It needs ``pip install 'seatrace[redis]'``.
    """
    if not isinstance(store, str):
        return store
    parts = urlsplit(store)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "memory":
        from .memory import MemoryStore

        return MemoryStore(**_limits(options, store))
    if parts.scheme == "sqlite":
        from .sqlite import SqliteStore

        path = parts.path.removeprefix("/")
        if not path:
            raise ConfigError(f"expected the path of a file, as in sqlite:///cache.db, got {store!r}")
        return SqliteStore(path, **_limits(options, store))
    if parts.scheme in ("redis", "rediss", "unix"):
        from .redis import RedisStore

        return RedisStore(store)
    raise ConfigError(f"expected memory://, sqlite:///path, redis://host or a store object, got {store!r}")


def _limits(options: Mapping[str, str], url: str) -> dict[str, Any]:
    unknown = options.keys() - {"max_entries", "max_bytes"}
    if unknown:
        raise ConfigError(f"expected max_entries and max_bytes in {url!r}, got {sorted(unknown)}")
    return {name: size_of(value) for name, value in options.items()}
