"""Quantiles of any number of values in bounded memory, within one percent of the truth.

A value falls into the bucket ``ceil(log(value) / log(gamma))`` with ``gamma = (1 + accuracy) / (1 - accuracy)``, and a
bucket answers with the value that is relatively nearest to both its bounds (the rule of DDSketch, VLDB 2019). Buckets
are counts, so that sketches of processes, windows and names add up without loss.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

_TINY = 1e-300
"""Magnitudes below this count as zero: the logarithm of a subnormal number is no more exact than one percent."""


class Sketch:
    """Counts numbers by size. Not safe to share between threads: its owner holds a lock.

    Args:
        accuracy: Largest relative error of a quantile, above 0 and below 1.
        max_buckets: Buckets kept on either side of zero; 2,048 at one percent span a ratio of 10^17. Beyond that the
            smallest magnitudes share one bucket and lose their accuracy, the largest never do.

    Raises:
        ValueError: One of them is out of range.
    """

    __slots__ = (
        "_above",
        "_below",
        "_gamma",
        "_log",
        "accuracy",
        "count",
        "invalid",
        "max",
        "max_buckets",
        "min",
        "sum",
    )

    def __init__(self, accuracy: float = 0.01, *, max_buckets: int = 2048) -> None:
        if not 0 < accuracy < 1:
            raise ValueError(f"accuracy: expected a number between 0 and 1, got {accuracy!r}")
        if max_buckets < 1:
            raise ValueError(f"max_buckets: expected at least 1, got {max_buckets!r}")
        self.accuracy = accuracy
        self.max_buckets = max_buckets
        self._gamma = (1 + accuracy) / (1 - accuracy)
        self._log = math.log(self._gamma)
        self._above: dict[int, int] = {}
        self._below: dict[int, int] = {}
        self.count = 0
        self.sum = 0.0
        self.min = math.inf
        self.max = -math.inf
        self.invalid = 0
        """Values that are no finite number. They are in no other figure."""

    def __len__(self) -> int:
        """Buckets in use."""
        return len(self._above) + len(self._below)

    def add(self, value: float) -> None:
        """Counts one value, negative ones and zero included. NaN and infinities are counted in ``invalid`` alone."""
        if value > _TINY:
            if value == math.inf:
                self.invalid += 1
                return
            key, side = math.ceil(math.log(value) / self._log), self._above
            side[key] = side.get(key, 0) + 1
            if len(side) > self.max_buckets:
                _collapse(side, self.max_buckets)
        elif value < -_TINY:
            if value == -math.inf:
                self.invalid += 1
                return
            key, side = math.ceil(math.log(-value) / self._log), self._below
            side[key] = side.get(key, 0) + 1
            if len(side) > self.max_buckets:
                _collapse(side, self.max_buckets)
        elif value != value:
            self.invalid += 1
            return
        self.count += 1
        self.sum += value
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value

    @property
    def mean(self) -> float | None:
        """The arithmetic mean, ``None`` of nothing."""
        return self.sum / self.count if self.count else None

    def quantile(self, q: float) -> float | None:
        """The value at rank ``q * (count - 1)``, rounded down, of all that were added; ``None`` of nothing.
        The smallest and the largest are exact.

        Raises:
            ValueError: ``q`` is not between 0 and 1.
        """
        return self.quantiles((q,))[0]

    def quantiles(self, wanted: Iterable[float]) -> list[float | None]:
        """Several of them at the price of one; in the order of ``wanted``."""
        wanted = list(wanted)
        for q in wanted:
            if not 0 <= q <= 1:
                raise ValueError(f"quantile: expected a number from 0 to 1, got {q!r}")
        if not self.count:
            return [None] * len(wanted)
        below, above = sorted(self._below, reverse=True), sorted(self._above)
        counts = [*map(self._below.__getitem__, below), 0, *map(self._above.__getitem__, above)]
        counts[len(below)] = self.count - sum(counts)  # the zeros
        upto = list(accumulate(counts))

        def at(rank: int) -> float:
            if rank in (0, self.count - 1):
                return self.max if rank else self.min
            place = bisect_right(upto, rank) - len(below)
            value = 0.0
            if place:
                value = -self._value(below[place]) if place < 0 else self._value(above[place - 1])
            return min(max(value, self.min), self.max)

        return [at(math.floor(q * (self.count - 1))) for q in wanted]

    def _value(self, key: int) -> float:
        # Halved before, so that the largest bucket of all does not overflow.
        return 2 * (math.exp(key * self._log) / (self._gamma + 1))

    def merge(self, other: Sketch) -> None:
        """Adds all that ``other`` has counted; ``other`` stays as it is.

        Raises:
            ValueError: The two differ in accuracy, so that their buckets do not match.
        """
        if other.accuracy != self.accuracy:
            raise ValueError(f"merge: expected a sketch of accuracy {self.accuracy}, got one of {other.accuracy}")
        for side, theirs in ((self._above, other._above), (self._below, other._below)):
            known = side.get
            for key, count in theirs.items():
                side[key] = known(key, 0) + count
            _collapse(side, self.max_buckets)
        self.count += other.count
        self.sum += other.sum
        self.invalid += other.invalid
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    def copy(self) -> Sketch:
        """One that goes its own way from now on."""
        made = Sketch(self.accuracy, max_buckets=self.max_buckets)
        made.merge(self)
        return made

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and text, for JSON; :meth:`from_dict` reads it."""
        return {
            "accuracy": self.accuracy,
            "max_buckets": self.max_buckets,
            "count": self.count,
            "sum": self.sum,
            "min": self.min if self.count else None,
            "max": self.max if self.count else None,
            "invalid": self.invalid,
            "above": sorted(self._above.items()),
            "below": sorted(self._below.items()),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sketch:
        """The sketch that :meth:`to_dict` described."""
        made = cls(data["accuracy"], max_buckets=data["max_buckets"])
        made._above = {int(key): int(count) for key, count in data["above"]}
        made._below = {int(key): int(count) for key, count in data["below"]}
        made.count, made.sum, made.invalid = data["count"], data["sum"], data["invalid"]
        if made.count:
            made.min, made.max = data["min"], data["max"]
        return made


def _collapse(side: dict[int, int], limit: int) -> None:
    """Joins the buckets of the smallest magnitudes. A quarter at a time, so that it is seldom done."""
    if len(side) <= limit:
        return
    keys = sorted(side)
    kept = max(1, limit - limit // 4)
    into = keys[-kept]
    side[into] += sum(side.pop(key) for key in keys[:-kept])
