"""Entries on a Redis or Valkey server, which many machines may share. Needs ``pip install 'seatrace[redis]'``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from math import ceil
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from seatrace.errors import ConfigError, MissingExtraError

from .store import Entry, Evicted, at_least_zero, ignore, is_alive, wall_clock

_PREFIX = "seatrace:cache"
_DAYS_LIMIT = 3650
_CHUNK = 500

# Only the holder of the lease writes: one that lost it (too slow, or the entry was forgotten meanwhile) comes too late.
_PUT = """
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisStore:
    """Keeps entries as strings that expire by themselves. How many there may be is the server's own setting
    (``maxmemory``, ``maxmemory-policy allkeys-lru``).

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; ``?prefix=`` for the names of the keys, any other option is the
            client's.
        prefix: The same, where the url does not say it.
        timeout: Seconds for one operation; after that it counts as an outage.
        client: A ``redis.Redis`` of your own instead of ``url``; it must not decode responses.
        clock: Seconds since the epoch.

    Raises:
        MissingExtraError: The client library is not installed.
    """

    blocking = True

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        prefix: str = _PREFIX,
        timeout: float = 0.25,
        client: Any = None,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        at_least_zero("timeout", timeout)
        if client is None:
            prefix, url = _take_prefix(url, prefix)
            client = _connect(url, timeout)
        elif client.get_encoder().decode_responses:
            raise ConfigError("client: expected one with decode_responses=False, since entries are bytes")
        self._client = client
        self._prefix = prefix
        self.clock = clock
        self.evicted: Evicted = ignore
        self._put_held = client.register_script(_PUT)
        self._release_held = client.register_script(_RELEASE)

    def get(self, key: str) -> Entry | None:
        """The entry."""
        data = self._client.get(self._entry(key))
        if data is None:
            return None
        entry = Entry.from_bytes(data)
        return entry if is_alive(entry, self.clock()) else None

    def put(self, key: str, entry: Entry, lease: str | None = None) -> bool:
        """Keeps ``entry`` until it dies; with a ``lease`` only if that is still held, which ends with it."""
        milliseconds = min(ceil((entry.dies - self.clock()) * 1000), _DAYS_LIMIT * 86_400_000)
        if milliseconds <= 0:
            return False
        if lease is None:
            self._client.set(self._entry(key), entry.to_bytes(), px=milliseconds)
            return True
        keys = [self._entry(key), self._lease(key)]
        return bool(self._put_held(keys=keys, args=[entry.to_bytes(), lease, milliseconds]))

    def delete(self, key: str) -> bool:
        """Forgets an entry and the lease of whoever is about to make it anew."""
        with self._client.pipeline() as both:
            known = bool(both.delete(self._entry(key)).delete(self._lease(key)).execute()[0])
        if known:
            self.evicted("invalidated", 1)
        return known

    def clear(self, prefix: str = "") -> int:
        """Forgets the entries whose keys start with ``prefix``, looking through all keys of the database."""
        known = self._delete_all(f"{self._prefix}:entry:{{{_literally(prefix)}*")
        self._delete_all(f"{self._prefix}:lease:{{{_literally(prefix)}*")
        if known:
            self.evicted("invalidated", known)
        return known

    def size(self) -> None:
        """Not known without asking the server, which has metrics of its own."""
        return

    def close(self) -> None:
        """Closes the connections; a later operation opens new ones."""
        self._client.close()

    def acquire(self, key: str, seconds: float) -> str | None:
        """The lease on ``key``: a number higher than that of any lease before it."""
        number = str(self._client.incr(f"{self._prefix}:fence"))
        held = self._client.set(self._lease(key), number, nx=True, px=max(1, ceil(seconds * 1000)))
        return number if held else None

    def release(self, key: str, lease: str) -> None:
        """Gives it back, unless somebody else has it by now."""
        self._release_held(keys=[self._lease(key)], args=[lease])

    def _entry(self, key: str) -> str:
        return f"{self._prefix}:entry:{{{key}}}"  # in braces: entry and lease lie on one node of a cluster

    def _lease(self, key: str) -> str:
        return f"{self._prefix}:lease:{{{key}}}"

    def _delete_all(self, pattern: str) -> int:
        found: Iterable[bytes] = self._client.scan_iter(match=pattern, count=_CHUNK)
        names, count = iter(found), 0
        while chunk := list(islice(names, _CHUNK)):
            count += self._client.unlink(*chunk)
        return count


def _literally(text: str) -> str:
    return "".join(f"\\{each}" if each in "*?[]\\" else each for each in text)


def _take_prefix(url: str, prefix: str) -> tuple[str, str]:
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    named = dict(options).get("prefix", prefix)
    rest = urlencode([each for each in options if each[0] != "prefix"])
    return named, urlunsplit(parts._replace(query=rest))


def _connect(url: str, timeout: float) -> Any:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise MissingExtraError(
            "a cache on Redis needs the package redis, which is not installed: pip install 'seatrace[redis]'"
        ) from error
    # One retry mends a connection that the server has closed meanwhile; more would keep the user's call waiting.
    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 1)
    )
