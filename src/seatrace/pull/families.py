"""What the SDK has collected, as Prometheus sees it: families of series, under the names of :mod:`.emit.prometheus`.

Nothing that a program puts into a name, a label or a value may cost the whole answer: what does not fit is left out,
and said once.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, ldexp
from typing import Any, Literal

from seatrace.core import guard
from seatrace.emit.prometheus import label_name, metric_name, unit_word

Kind = Literal["counter", "gauge", "histogram", "info"]

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}
"""What a family's samples are called behind its name, those of OpenMetrics that are never written included."""

_COMPLAINTS_LIMIT = 100


@dataclass(slots=True)
class Series:
    """One attribute set: a number, or the counts of a histogram's buckets (each alone, ``+Inf`` last)."""

    value: float
    """The number, or the sum of what a histogram counted."""
    bounds: tuple[float, ...] = ()
    counts: list[int] = field(default_factory=list)
    exemplars: dict[float, str] = field(default_factory=dict)
    """By the upper bound of their bucket (that of a counter under ``inf``), as OpenMetrics writes them."""


@dataclass(slots=True)
class Family:
    """All series of one name."""

    name: str
    """Without ``_total`` and ``_info``."""
    kind: Kind
    unit: str
    """The word for it, where the name ends with it; else empty."""
    help: str
    series: dict[str, Series] = field(default_factory=dict)
    """By their labels as both formats write them: ``name="value",…``."""


class Gatherer:
    """Turns collections into families. Keeps the newest exemplar of each counter and bucket, since the SDK hands each
    out once, to whoever collects first. Not for two threads at a time."""

    def __init__(self) -> None:
        self._exemplars: dict[tuple[str, str], dict[float, str]] = {}
        self._complaints: set[str] = set()

    def gather(self, data: Any) -> list[Family]:
        """The families of one collection (``MetricsData`` of the SDK, or ``None``), ``target_info`` first."""
        families: dict[str, Family] = {}
        taken: dict[str, str] = {}
        for resource in data.resource_metrics if data is not None else ():
            self._add(families, taken, "target", "info", "", "The program that these metrics are of.")
            families["target"].series[labels(resource.resource.attributes)] = Series(1)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    try:
                        self._metric(families, taken, metric, scope.scope.name)
                    except Exception as error:
                        guard.fault("serve metrics", error)
        return list(families.values())

    def _metric(self, families: dict[str, Family], taken: dict[str, str], metric: Any, scope: str) -> None:
        data, unit = metric.data, metric.unit or ""
        form = type(data).__name__
        kind: Kind = "histogram" if "Histogram" in form else "gauge"
        if form == "Sum" and data.is_monotonic:
            kind = "counter"
        name = metric_name(metric.name, unit, counter=kind == "counter", gauge=form == "Gauge")
        name = name.removesuffix("_total") if kind == "counter" else name
        if not self._add(families, taken, name, kind, unit_word(unit, gauge=form == "Gauge"), metric.description or ""):
            return
        family = families[name]
        for point in data.data_points:
            key = labels({"otel.scope.name": scope, **(point.attributes or {})})
            series = _series(form, point)
            series.exemplars = self._remember(name, key, series.bounds, kind, point.exemplars)
            known = family.series.get(key)
            family.series[key] = series if known is None or kind == "gauge" else self._joined(name, known, series)

    def _add(
        self, families: dict[str, Family], taken: dict[str, str], name: str, kind: Kind, unit: str, description: str
    ) -> bool:
        """Makes the family, unless there is one or its samples' names are another's."""
        known = families.get(name)
        if known is not None:
            if known.kind == kind:
                return True
            self._complain(name, f"it is a {known.kind} and a {kind}")
            return False
        wanted = [name + suffix for suffix in _SUFFIXES[kind]]
        clash = next((each for each in wanted if each in taken), None)
        if clash is not None:
            self._complain(name, f"{clash} belongs to {taken[clash]}")
            return False
        taken.update(dict.fromkeys(wanted, name))
        unit = unit if unit and name.endswith(f"_{unit}") else ""
        families[name] = Family(name, kind, unit, description)
        return True

    def _joined(self, name: str, one: Series, other: Series) -> Series:
        """Two instruments whose names, or two attribute sets whose labels, are one and the same in Prometheus."""
        if one.bounds != other.bounds:
            self._complain(name, "two histograms of that name have different buckets")
            return one
        counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
        return Series(one.value + other.value, one.bounds, counts, {**one.exemplars, **other.exemplars})

    def _remember(
        self, name: str, key: str, bounds: Sequence[float], kind: Kind, exemplars: Iterable[Any]
    ) -> dict[float, str]:
        if kind == "gauge":
            return {}
        kept = self._exemplars.get((name, key), {})
        for each in sorted(exemplars, key=lambda exemplar: exemplar.time_unix_nano):
            if each.trace_id:
                if not kept:
                    self._exemplars[name, key] = kept
                place = bisect_left(bounds, each.value)
                kept[bounds[place] if place < len(bounds) else inf] = _exemplar(each)
        return dict(kept)

    def _complain(self, name: str, why: str) -> None:
        if name in self._complaints or len(self._complaints) >= _COMPLAINTS_LIMIT:
            return
        self._complaints.add(name)
        guard.logger.warning("seatrace does not serve all metrics called %s in Prometheus: %s", name, why)


def _series(form: str, point: Any) -> Series:
    if form == "Histogram":
        return Series(point.sum, tuple(point.explicit_bounds), list(point.bucket_counts))
    if form == "ExponentialHistogram":
        return powers_of_two(point)
    return Series(point.value)


def powers_of_two(point: Any) -> Series:
    """Exponential buckets as plain ones, which a text format can carry. Buckets of a scale merge into those of a
    smaller scale without loss, and from scale 0 down each bound is a power of two: the counts are exact, and a change
    of scale moves no bound. What is not positive counts under 0."""
    scale, found = point.scale, Counter[int]()
    for index, count in enumerate(point.positive.bucket_counts, point.positive.offset):
        if count:
            found[index >> max(scale, 0)] += count
    buckets = {0.0: point.zero_count + sum(point.negative.bucket_counts)}
    for place in range(min(found) - 1, max(found) + 1) if found else ():  # the one before says where the first begins
        bound = _power((place + 1) << max(-scale, 0))
        buckets[bound] = buckets.get(bound, 0) + found[place]
    rest = buckets.pop(inf, 0)
    return Series(point.sum, tuple(buckets), [*buckets.values(), rest])


def _power(exponent: int) -> float:
    return ldexp(1.0, max(exponent, -1074)) if exponent < 1024 else inf


def _exemplar(found: Any) -> str:
    return (
        f' # {{trace_id="{found.trace_id:032x}",span_id="{found.span_id or 0:016x}"}} '
        f"{float(found.value)!r} {found.time_unix_nano / 1e9:.3f}"
    )


# --- labels ---------------------------------------------------------------------------------------------------------

_ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n"}


def labels(attributes: Mapping[str, Any]) -> str:
    """Attributes as ``name="value",…``. Those whose names become one label are joined with ``;``, in the order of their
    own names; empty ones are left out, since to Prometheus they are absent."""
    found: dict[str, str] = {}
    for attribute in sorted(attributes):
        value = _text(attributes[attribute])
        if value:
            name = _label_name(attribute)
            found[name] = f"{found[name]};{value}" if name in found else value
    return ",".join(f'{name}="{escaped(value)}"' for name, value in found.items())


def escaped(text: str) -> str:
    """As both formats want the text between two quotes."""
    return text.translate(_ESCAPES).encode("utf-8", "replace").decode()


def _label_name(attribute: str) -> str:
    name = label_name(attribute) or "_"
    if name == "le":
        return "exported_le"
    return f"key{name}" if name.startswith("__") else name  # those are Prometheus's own


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
