"""What a cache tells: counters of its own for ``stats()``, and the same as metrics and spans."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Literal

from seatrace.core import guard, signals
from seatrace.emit import catalogue
from seatrace.emit import semconv as names

from .store import REASONS, Entry, Reason, Store

Result = Literal["hit", "miss", "stale", "coalesced", "bypass", "error"]
RESULTS: tuple[Result, ...] = ("hit", "miss", "stale", "coalesced", "bypass", "error")
CacheKind = Literal["exact", "semantic", "tool"]

_SOURCES: dict[CacheKind, str] = {"exact": "cache", "semantic": "semantic_cache", "tool": "tool_cache"}
_TOLD_LIMIT = 100


@dataclass(frozen=True)
class CacheStats:
    """What a cache has done since it was made. All but ``entries`` and ``bytes`` only ever grow."""

    hits: int
    misses: int
    stale: int
    """Served although too old: while a new answer was made, or since that failed."""
    coalesced: int
    """Served out of a call that another caller had under way."""
    bypassed: int
    """Calls that are not for caching; ``reasons`` says why."""
    errors: int
    """Lookups that the store did not answer; the call was made."""
    store_failures: int
    """Operations of the store that failed, writes included."""
    saved_cost: float
    """USD, as far as known."""
    saved_tokens: int
    saved_seconds: float
    entries: int | None
    """``None`` where the store cannot tell at once, as Redis."""
    bytes: int | None
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why calls were bypassed, and answers not kept."""
    evictions: Mapping[str, int] = field(default_factory=dict)

    @property
    def hit_rate(self) -> float:
        """Share of the lookups that needed no call of their own, 0 before the first one. Calls that are not for caching
        are no lookups."""
        served = self.hits + self.stale + self.coalesced
        lookups = served + self.misses + self.errors
        return served / lookups if lookups else 0.0


class CacheTelemetry:
    """The telling side of one cache; a source of readings (:class:`seatrace.core.signals.Source`)."""

    def __init__(self, name: str, kind: CacheKind, store: Store | None) -> None:
        self.name = name
        self.kind = kind
        self._store = store
        self._base = {names.CACHE_NAME: name, names.CACHE_KIND: kind}
        self._by_result = {result: {**self._base, names.CACHE_RESULT: result} for result in RESULTS}
        self._lock = threading.Lock()
        self._results: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._evictions: Counter[str] = Counter()
        self._saved_cost = 0.0
        self._saved_tokens = 0
        self._saved_seconds = 0.0
        self._failures = 0
        self._told: set[str] = set()
        if store is not None:
            store.evicted = self.evicted
        signals.register(self)

    # --- signals.Source ---------------------------------------------------------------------------------------------

    def readings(self) -> Iterable[tuple[Any, float, signals.Attributes]]:
        """Entries and bytes, where the store knows them."""
        size = self.size()
        if size is not None:
            yield catalogue.CACHE_ENTRIES, size[0], self._base
            yield catalogue.CACHE_SIZE, size[1], self._base

    def zeros(self) -> Iterable[tuple[Any, signals.Attributes]]:
        """Every result and every reason of an eviction."""
        for attributes in self._by_result.values():
            yield catalogue.CACHE_REQUESTS, attributes
        for reason in REASONS:
            yield catalogue.CACHE_EVICTIONS, {**self._base, names.CACHE_EVICTION_REASON: reason}

    def size(self) -> tuple[int, int] | None:
        """Entries and bytes."""
        return None if self._store is None else self._store.size()

    # --- what happens -----------------------------------------------------------------------------------------------

    def looked_up(self, result: Result, seconds: float | None = None) -> None:
        """A request came to ``result``; its lookup took ``seconds``."""
        with self._lock:
            self._results[result] += 1
        signals.measure(catalogue.CACHE_REQUESTS, 1, self._by_result[result])
        if seconds is not None:
            signals.measure(catalogue.CACHE_LOOKUP_DURATION, seconds, self._base)

    def bypassed(self, reason: str) -> None:
        """A call went by the cache."""
        self.looked_up("bypass")
        self.passed_over(reason)

    def passed_over(self, reason: str) -> None:
        """A call was not for caching, or its answer was not kept, for a ``reason`` out of our own fixed words."""
        with self._lock:
            self._reasons[reason] += 1

    def evicted(self, reason: Reason, count: int) -> None:
        """Entries left the store."""
        with self._lock:
            self._evictions[reason] += count
        signals.measure(catalogue.CACHE_EVICTIONS, count, {**self._base, names.CACHE_EVICTION_REASON: reason})

    def store_failed(self, error: Exception) -> None:
        """An operation of the store failed."""
        with self._lock:
            self._failures += 1
        self.tell_once(f"store {type(error).__qualname__}", "its store failed, calls are made without it", error)

    def tell_once(self, about: str, what: str, error: BaseException | None = None) -> None:
        """One log line for all that is ``about`` the same."""
        if about in self._told or len(self._told) >= _TOLD_LIMIT:
            return
        self._told.add(about)
        guard.logger.warning("seatrace cache %r: %s (logged once)", self.name, what, exc_info=error)

    def served(
        self,
        result: Result,
        entry: Entry,
        age: float,
        started_clock: int,
        *,
        operation: str,
        call: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """An entry was handed out in place of a call: measures it and records its span.

        Args:
            result: hit, stale or coalesced.
            entry: What was handed out.
            age: Seconds since it was made.
            started_clock: ``perf_counter_ns()`` when the lookup began.
            operation: ``gen_ai.operation.name`` of the call that was not made.
            call: Further fields of its record.
            attributes: Further attributes of its span.
        """
        seconds = max(0.0, entry.seconds - (perf_counter_ns() - started_clock) / 1e9)
        with self._lock:
            self._saved_cost += entry.cost or 0.0
            self._saved_tokens += entry.tokens or 0
            self._saved_seconds += seconds
        signals.measure(catalogue.CACHE_ENTRY_AGE, max(0.0, age), self._base)
        self._measure_savings(entry, seconds)
        told: dict[str, Any] = {names.CACHE_NAME: self.name, names.CACHE_RESULT: result}
        if entry.cost is not None:
            told[names.CACHE_SAVED_COST] = entry.cost
        if entry.tokens is not None:
            told[names.CACHE_SAVED_TOKENS] = entry.tokens
        link = signals.arrived(entry.link) if entry.link else None
        signals.record(
            "cached",
            operation,
            started_clock=started_clock,
            attributes={**told, **(attributes or {})},
            links=None if link is None else [link],
            **{"request_model": entry.model, **call},
        )

    def _measure_savings(self, entry: Entry, seconds: float) -> None:
        scope = signals.scope()
        if scope.run is not None:
            scope.run.saves(entry.cost, entry.tokens)
        labels: dict[str, Any] = {names.SAVING_SOURCE: _SOURCES[self.kind]}
        for name, value in (
            (names.REQUEST_MODEL, entry.model),
            (names.AGENT_NAME, scope.agent),
            (names.TENANT, scope.tenant),
        ):
            if value is not None:
                labels[name] = value
        if entry.cost is not None:
            signals.measure(catalogue.SAVED_COST, entry.cost, labels)
        if entry.tokens is not None:
            signals.measure(catalogue.SAVED_TOKENS, entry.tokens, labels)
        signals.measure(catalogue.SAVED_TIME, seconds, labels)

    def stats(self) -> CacheStats:
        """What happened so far."""
        entries, taken = self.size() or (None, None)
        with self._lock:
            count = self._results
            return CacheStats(
                hits=count["hit"],
                misses=count["miss"],
                stale=count["stale"],
                coalesced=count["coalesced"],
                bypassed=count["bypass"],
                errors=count["error"],
                store_failures=self._failures,
                saved_cost=self._saved_cost,
                saved_tokens=self._saved_tokens,
                saved_seconds=self._saved_seconds,
                entries=entries,
                bytes=taken,
                reasons=dict(self._reasons),
                evictions=dict(self._evictions),
            )

    def after_fork(self) -> None:
        """In the child: the lock may have been held."""
        self._lock = threading.Lock()
