"""A store that may fail: calls are made without it then, and it is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from .flight import Flight
from .steps import Flow, Io, Sleep
from .store import Entry, Leases, Store
from .telemetry import CacheTelemetry

_T = TypeVar("_T")

_REST = 1.0
"""Seconds that a store which failed is left alone."""

_POLL = (0.02, 0.5)
"""Seconds between two looks at what another process is making: at first, and at most."""


class Reach:
    """The operations of a store for one cache. Each one that a flow takes may wait; none raises.

    Args:
        store: The store.
        telemetry: Is told of failures.
        leases: Where the store knows them, and they are wanted.
        lease: Seconds that one process may take for a call while others wait for its answer.
        chance: A random number from 0 to 1.
    """

    def __init__(
        self,
        store: Store,
        telemetry: CacheTelemetry,
        *,
        leases: Leases | None,
        lease: float,
        chance: Callable[[], float],
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._leases = leases
        self._seconds = lease
        self._chance = chance
        self.resting_until = 0.0
        """When the store is asked again, on the monotonic clock."""

    def read(self, key: str) -> Flow[tuple[Entry | None, bool]]:
        """The entry, and whether the store failed."""
        found: tuple[Entry | None, bool] = yield Io(lambda: self._read(key), self._store.blocking)
        return found

    def write(self, key: str, entry: Entry, lease: str | None = None, flight: Flight[Any] | None = None) -> Flow[bool]:
        """Keeps ``entry``, unless it was invalidated meanwhile; whether it was kept."""

        def work() -> bool:
            kept, _ = self._attempt(lambda: self._store.put(key, entry, lease), False)
            if flight is not None and flight.void:  # while we wrote
                self.delete(key)
                return False
            return kept

        done: bool = yield Io(work, self._store.blocking)
        return done

    def delete(self, key: str) -> bool:
        """Forgets an entry; whether there was one. Waits here."""
        return self._attempt(lambda: self._store.delete(key), False)[0]

    def clear(self, prefix: str) -> int:
        """Forgets those whose keys start so; how many. Waits here."""
        return self._attempt(lambda: self._store.clear(prefix), 0)[0]

    def take_lease(self, key: str) -> Flow[tuple[str | None, bool]]:
        """The right to make the call, and whether another process had it before. ``None`` where the store is down,
        where there is an answer by now, or where the other one takes too long: then everybody helps themselves."""
        leases, waited = self._leases, False
        if leases is None:
            return None, waited
        until, pause = monotonic() + self._seconds, _POLL[0]
        while True:
            lease, failed = yield Io(
                lambda: self._attempt(lambda: leases.acquire(key, self._seconds), None), self._store.blocking
            )
            if lease is not None or failed or monotonic() >= until:
                return lease, waited
            waited = True
            yield Sleep(pause * (0.5 + self._chance()))
            pause = min(pause * 1.5, _POLL[1])
            entry, failed = yield from self.read(key)
            if failed or (entry is not None and self._store.clock() < entry.fresh_until):
                return None, waited

    def give_back(self, key: str, lease: str | None) -> Flow[None]:
        """Ends a lease that came to nothing."""
        leases = self._leases
        if leases is not None and lease is not None:
            held = lease
            yield Io(lambda: self._attempt(lambda: leases.release(key, held), None), self._store.blocking)

    def _read(self, key: str) -> tuple[Entry | None, bool]:
        return self._attempt(lambda: self._get(key), None)

    def _get(self, key: str) -> Entry | None:
        try:
            return self._store.get(key)
        except ValueError as error:  # one damaged entry is no outage
            self._telemetry.passed_over("unreadable")
            self._telemetry.tell_once("unreadable", "an entry could not be read, the call is made", error)
            return None

    def _attempt(self, work: Callable[[], _T], otherwise: _T) -> tuple[_T, bool]:
        if monotonic() < self.resting_until:
            return otherwise, True
        try:
            return work(), False
        except Exception as error:
            self.resting_until = monotonic() + _REST
            self._telemetry.store_failed(error)
            return otherwise, True
