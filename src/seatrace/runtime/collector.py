"""The figures that everybody asks for first, in one place: :class:`MetricsCollector`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from typing import Any

from seatrace.core import pipeline
from seatrace.core.record import Call

from ._follow import follow_calls
from ._forks import new_lock
from ._ring import Ring, seconds_of
from .sketch import Sketch


@dataclass(frozen=True, slots=True)
class CollectedMetrics:
    """Figures of model and embeddings calls. Latencies are seconds, and ``None`` as rates are where there is nothing
    to divide; nothing is ever NaN."""

    requests: int = 0
    """Ended calls."""
    errors: int = 0
    active: int = 0
    """Calls that are being made."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    """USD, failed calls included with what they used."""
    unpriced: int = 0
    """Calls that used tokens, but whose price is not known: their cost is missing in ``cost``."""
    latency: float = 0.0
    """Of all calls together."""
    latency_p50: float | None = None
    """Of the successful calls of the recent window, like the two that follow."""
    latency_p95: float | None = None
    latency_p99: float | None = None

    @property
    def error_rate(self) -> float | None:
        """Errors to requests."""
        return self.errors / self.requests if self.requests else None

    @property
    def average_latency(self) -> float | None:
        """Seconds a request, failed ones included."""
        return self.latency / self.requests if self.requests else None

    @property
    def average_cost(self) -> float | None:
        """USD a request whose price is known."""
        priced = self.requests - self.unpriced
        return self.cost / priced if priced else None

    def since(self, earlier: CollectedMetrics) -> CollectedMetrics:
        """What came between ``earlier`` and this. ``active`` and the percentiles are this one's."""
        return replace(self, **{name: getattr(self, name) - getattr(earlier, name) for name in _SUMS})

    def as_json(self) -> dict[str, Any]:
        """Plain values, the averages included, under the names of the seed's dashboard."""
        renamed = {_JSON.get(name, name): value for name, value in asdict(self).items()}
        return {
            **renamed,
            "errorRate": self.error_rate,
            "avgLatency": self.average_latency,
            "avgCost": self.average_cost,
        }


_SUMS = tuple(
    each.name
    for each in fields(CollectedMetrics)
    if each.name not in ("active", "latency_p50", "latency_p95", "latency_p99")
)
_JSON = {
    "latency": "totalLatency",
    "cost": "totalCost",
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "latency_p50": "p50Latency",
    "latency_p95": "p95Latency",
    "latency_p99": "p99Latency",
}


class MetricsCollector:
    """Counts every observed model and embeddings call from the moment it is made; nothing is called by hand.

    Counts only grow. Who wants those of an interval keeps what :meth:`metrics` said before and asks
    :meth:`CollectedMetrics.since`: several readers do not disturb each other.

    Args:
        window: Of the percentiles, in seconds; exact to one of ``slices``.
        slices: How finely the window moves on.
        clock: Seconds, monotonic.

    Raises:
        ValueError: A number is not above zero.
    """

    def __init__(
        self,
        *,
        window: float | timedelta = 300.0,
        slices: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = clock()
        self._lock = new_lock(self)
        self._sums = dict.fromkeys(_SUMS, 0.0)
        self._active: set[int] = set()
        self._ring: Ring[Sketch] = Ring(
            seconds_of(window, "window"), slices, make=Sketch, fall=lambda old: None, clock=clock
        )
        self._stops = (follow_calls(self._ended), pipeline.add_gate(_Door(self._active)))

    def close(self) -> None:
        """Stops listening. The figures stay."""
        for stop in self._stops:
            stop()

    def metrics(self) -> CollectedMetrics:
        """The figures since the beginning, and the percentiles of the recent window."""
        together = Sketch()
        with self._lock:
            for each in self._ring.recent():
                together.merge(each)
            sums: dict[str, Any] = {
                name: value if name in ("cost", "latency") else int(value) for name, value in self._sums.items()
            }
        p50, p95, p99 = together.quantiles((0.5, 0.95, 0.99))
        return CollectedMetrics(**sums, active=len(self._active), latency_p50=p50, latency_p95=p95, latency_p99=p99)

    def as_json(self, **more: Mapping[str, Any]) -> dict[str, Any]:
        """What ``/metrics.json`` shows, in the seed's shape: ``uptime`` in seconds, ``agent`` with the figures, and
        whatever is given as ``more``, such as ``cache=cache.stats()``. The process's memory is nobody's business but
        its owner's, and is not in it."""
        return {"uptime": self._clock() - self._began, "agent": self.metrics().as_json(), **more}

    def _ended(self, call: Call) -> None:
        if call.kind not in ("inference", "embeddings"):
            return
        usage, cost = call.usage, call.cost
        known = usage is not None and not (usage.input_tokens is None and usage.output_tokens is None)
        priced = cost is not None and cost.currency == "USD"
        with self._lock:
            sums = self._sums
            sums["requests"] += 1
            sums["errors"] += call.error_type is not None
            sums["latency"] += call.duration
            sums["unpriced"] += known and not priced
            if usage is not None:
                sums["input_tokens"] += usage.input_tokens or 0
                sums["output_tokens"] += usage.output_tokens or 0
            if cost is not None and priced:
                sums["cost"] += cost.total
            if call.error_type is None:
                self._ring.now().add(call.duration)


class _Door:
    """Notes the calls that are being made. Knows no more of the collector than their set, so that it keeps nothing
    alive."""

    def __init__(self, active: set[int]) -> None:
        self._active = active

    def __call__(self, call: Call) -> None:
        if call.kind in ("inference", "embeddings"):
            self._active.add(id(call))
            if call.on_end is None:
                call.on_end = []
            call.on_end.append(self._leave)

    def _leave(self, call: Call) -> None:
        self._active.discard(id(call))
