"""The metrics in a few numbers, for a person or a page of one's own: what ``/metrics.json`` says.

They are sums since the program began, of the very data points that ``/metrics`` shows. A number that nothing is known
of is ``None``: the mean of no call, the cost of calls that have no price.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from seatrace.emit import catalogue
from seatrace.emit import semconv as names

from .families import powers_of_two
from .process import resident_bytes, uptime

Numbers = dict[str, Any]

_BILLED = ("chat", "text_completion", "generate_content", "embeddings", "compact")
"""Operations that are model calls, where the conventions before v0.1.0 have one duration for all."""


def summary(data: Any) -> Numbers:
    """``uptime`` (seconds), ``memory``, ``agent`` (its runs), ``model`` (its calls), ``cache`` and ``saved`` (by
    all patterns)."""
    points = _Points(data)
    return {
        "uptime": uptime(),
        "memory": {"resident_bytes": resident_bytes()},
        "agent": _agent(points),
        "model": _model(points),
        "cache": _cache(points),
        "saved": {
            "cost": points.total(catalogue.SAVED_COST),
            "tokens": points.total(catalogue.SAVED_TOKENS),
            "seconds": points.total(catalogue.SAVED_TIME),
        },
    }


def _agent(points: _Points) -> Numbers:
    runs = points.histogram(catalogue.AGENT_DURATION, **{names.OPERATION_NAME: ("invoke_agent",)})
    return {
        **_calls(runs),
        "input_tokens": points.total(catalogue.RUN_INPUT_TOKENS),
        "output_tokens": points.total(catalogue.RUN_OUTPUT_TOKENS),
        "cost": points.total(catalogue.RUN_COST),
        "steps": points.total(catalogue.RUN_STEPS),
    }


def _model(points: _Points) -> Numbers:
    latest = points.histogram(catalogue.INFERENCE_DURATION)
    latest.add(points.histogram(catalogue.EMBEDDINGS_DURATION))
    if latest.count:
        sent = points.total(catalogue.CALL_INPUT_TOKENS), points.total(catalogue.EMBEDDINGS_INPUT_TOKENS)
        tokens = _plus(*sent), points.total(catalogue.CALL_OUTPUT_TOKENS)
    else:
        latest = points.histogram(catalogue.OPERATION_DURATION, **{names.OPERATION_NAME: _BILLED})
        kinds = ({names.TOKEN_TYPE_LEGACY: (kind,)} for kind in ("input", "output"))
        tokens = tuple(points.total(catalogue.TOKEN_USAGE_LEGACY, **kind) for kind in kinds)  # type: ignore[assignment]
    cost = points.total(catalogue.COST)
    return {
        **_calls(latest),
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "cost": cost,
        "mean_cost": None if cost is None else _ratio(cost, latest.count),
        "unpriced": int(points.total(catalogue.UNPRICED) or 0),
    }


def _cache(points: _Points) -> Numbers:
    results = points.by(catalogue.CACHE_REQUESTS, names.CACHE_RESULT)
    requests = sum(results.values())
    hits = results["hit"] + results["stale"] + results["coalesced"]
    return {
        "requests": requests,
        "hits": hits,
        "misses": results["miss"],
        "hit_rate": _ratio(hits, hits + results["miss"]),
        "entries": points.total(catalogue.CACHE_ENTRIES),
    }


def _calls(timed: _Histogram) -> Numbers:
    return {
        "requests": timed.count,
        "errors": timed.errors,
        "error_rate": _ratio(timed.errors, timed.count),
        "latency": {
            "mean": _ratio(timed.sum, timed.count),
            **{f"p{round(share * 100)}": timed.quantile(share) for share in (0.5, 0.95, 0.99)},
        },
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _plus(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


class _Points:
    """The data points of one collection by the names of their metrics."""

    def __init__(self, data: Any) -> None:
        self._found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self._found.setdefault(metric.name, []).extend(metric.data.data_points)

    def of(self, metric: catalogue.Metric, allowed: Mapping[str, tuple[str, ...]]) -> Iterable[Any]:
        """Those whose attributes have one of the ``allowed`` values."""
        for point in self._found.get(metric.name, ()):
            if all((point.attributes or {}).get(name) in values for name, values in allowed.items()):
                yield point

    def total(self, metric: catalogue.Metric, **allowed: tuple[str, ...]) -> float | None:
        """The sum of them, ``None`` where there is none."""
        found = [point.value if hasattr(point, "value") else point.sum for point in self.of(metric, allowed)]
        return sum(found) if found else None

    def by(self, metric: catalogue.Metric, attribute: str) -> Counter[str]:
        """The sums by the values of an attribute."""
        found: Counter[str] = Counter()
        for point in self.of(metric, {}):
            found[str((point.attributes or {}).get(attribute))] += point.value
        return found

    def histogram(self, metric: catalogue.Metric, **allowed: tuple[str, ...]) -> _Histogram:
        """All of them in one."""
        joined = _Histogram()
        for point in self.of(metric, allowed):
            joined.add(_Histogram.of(point))
        return joined


@dataclass
class _Histogram:
    """Histograms of any buckets, joined: counts by the bounds that they lie between."""

    count: int = 0
    errors: int = 0
    sum: float = 0.0
    low: float = inf
    high: float = -inf
    buckets: Counter[tuple[float, float]] = field(default_factory=Counter)

    @classmethod
    def of(cls, point: Any) -> _Histogram:
        """A data point's."""
        if hasattr(point, "scale"):
            series = powers_of_two(point)
            bounds, counts = series.bounds, series.counts
        else:
            bounds, counts = tuple(point.explicit_bounds), list(point.bucket_counts)
        failed = names.ERROR_TYPE in (point.attributes or {})
        between = zip((-inf, *bounds), (*bounds, inf), strict=True)
        buckets = Counter({place: count for place, count in zip(between, counts, strict=True) if count})
        return cls(point.count, point.count if failed else 0, point.sum, point.min, point.max, buckets)

    def add(self, other: _Histogram) -> None:
        """Joins ``other`` into this one."""
        self.count += other.count
        self.errors += other.errors
        self.sum += other.sum
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.buckets.update(other.buckets)

    def quantile(self, share: float) -> float | None:
        """Linear between the bounds of its bucket, as Prometheus's ``histogram_quantile``, but never beyond what was
        really measured. ``None`` where nothing was."""
        low, high = (self.low, self.high) if self.low <= self.high else (0.0, inf)  # a view may not keep them
        wanted, before = share * self.count, 0
        for (lower, upper), count in sorted(self.buckets.items()):
            if before + count >= wanted:
                lower, upper = max(lower, low), min(upper, high)
                return lower if upper == inf else lower + (upper - lower) * max(0.0, wanted - before) / count
            before += count
        return None
