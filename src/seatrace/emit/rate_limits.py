"""What providers said last of their rate limits, as gauges.

A response only leaves its headers here; they are read when metrics are exported. So a call pays nothing for limits that
nobody may ever look at, and of thousands of responses between two exports only the last one is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from time import monotonic
from typing import Any

from seatrace.core import signals
from seatrace.core.record import RateLimit

from . import semconv as names
from .catalogue import RATE_LIMIT_LIMIT, RATE_LIMIT_REMAINING, Metric

_KEYS_LIMIT = 500
"""Pairs of provider and model that are kept, those heard of last."""

_LASTS = 300.0
"""Seconds after which what was said is no longer true."""

Read = Callable[[], Iterable[RateLimit]]


class RateLimits:
    """A source (:class:`seatrace.core.signals.Source`)."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._said: OrderedDict[tuple[str | None, str | None], tuple[float, Read]] = OrderedDict()

    def keep(self, provider: str | None, model: str | None, read: Read) -> bool:
        """Keeps what was said just now of one model; true where it is the first one heard of."""
        key = provider, model
        with self._lock:
            known = bool(self._said)
            self._said[key] = self._clock(), read
            self._said.move_to_end(key)
            if len(self._said) > _KEYS_LIMIT:
                self._said.popitem(last=False)
        return not known

    def readings(self) -> Iterable[tuple[Metric, float, dict[str, Any]]]:
        """What still holds."""
        with self._lock:
            said, oldest = list(self._said.items()), self._clock() - _LASTS
        for (provider, model), (when, read) in said:
            for found in read() if when >= oldest else ():
                labels = {
                    names.PROVIDER_NAME: provider,
                    names.REQUEST_MODEL: model,
                    names.RATE_LIMIT_RESOURCE: found.resource,
                }
                if found.limit is not None:
                    yield RATE_LIMIT_LIMIT, found.limit, labels
                if found.remaining is not None:
                    yield RATE_LIMIT_REMAINING, found.remaining, labels

    def zeros(self) -> Iterable[tuple[Any, dict[str, Any]]]:
        """There are no counters."""
        return ()

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._said.clear()


seen = RateLimits()
signals.sources.add(seen)
