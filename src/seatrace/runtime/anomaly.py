"""Noticing that cost, errors, latency or tokens are far out of their usual: :class:`AnomalyDetector`.

Each series is cut into buckets of time, and a bucket's value is compared with those before it in the window: how many
standard deviations is its logarithm above their mean? That finds bursts (a runaway loop, an outage, a price that
jumped) and was quiet on ordinary days. What rises slowly or falls to nothing it does not find: that is what alert rules
that compare with yesterday are for.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, get_args

from seatrace.core import guard, signals
from seatrace.core.record import Call
from seatrace.emit import catalogue
from seatrace.emit import semconv as names

from ._follow import follow_calls
from ._forks import new_lock
from ._ring import seconds_of

Series = Literal["cost", "errors", "latency", "tokens"]
"""USD, failed calls, mean seconds of the successful calls, and tokens, each in a bucket."""

SERIES: tuple[Series, ...] = get_args(Series)

MIN_ABS: Mapping[Series, float] = {"cost": 0.01, "errors": 3.0, "latency": 0.1, "tokens": 1000.0}
"""Below these a bucket is never an anomaly, however unusual. Also what is added before taking the logarithm (a tenth of
it), so that the difference between nothing and next to nothing is none."""

_LEAST_DEVIATION = 0.1
"""Of the logarithms: what varies by less than 10 % is taken to vary by 10 %."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A bucket that was far out of its usual."""

    series: Series
    value: float
    """Of the bucket, so far."""
    usual: float
    """The geometric mean of the buckets before it."""
    score: float
    """Standard deviations above that."""
    calls: int
    """In the bucket, so far."""


@dataclass(slots=True)
class _Track:
    """One series: its open bucket and those before it."""

    weight: float
    history: deque[tuple[int, float]] = field(default_factory=deque)
    bucket: int | None = None
    total: float = 0.0
    calls: int = 0
    mean: float = 0.0
    deviation: float = _LEAST_DEVIATION
    strange: int = 0
    """Buckets in a row that were strange, the open one included if it is."""
    judged: bool = False
    quiet_until: float = -math.inf


class AnomalyDetector:
    """Watches the observed model and embeddings calls from the moment it is made.

    An anomaly is told while its bucket is still filling, once a bucket: as an event ``seatrace.anomaly`` in the trace
    of the call that made it one, in the counter ``seatrace.anomalies``, and to ``on_anomaly``.

    Args:
        series: What to watch.
        bucket: Seconds that are summed up to one value.
        window: Seconds of buckets to compare with.
        k: Standard deviations above the mean that are too many.
        min_count: Calls in a bucket before it is judged.
        min_history: Buckets with calls in the window before any is judged.
        min_abs: Values below these are never an anomaly; for series that are left out, :data:`MIN_ABS`.
        consecutive: Strange buckets in a row before it is told.
        cooldown: Seconds without a further word on the same series.
        on_anomaly: Is called in the thread of that call; an exception in it does not reach the program.
        clock: Seconds, monotonic.

    Raises:
        ValueError: An argument is out of range, or there is no such series.
    """

    def __init__(
        self,
        series: Sequence[Series] = SERIES,
        *,
        bucket: float | timedelta = 300.0,
        window: float | timedelta = 6 * 3600.0,
        k: float = 4.0,
        min_count: int = 20,
        min_history: int = 12,
        min_abs: Mapping[Series, float] | None = None,
        consecutive: int = 1,
        cooldown: float | timedelta = 1800.0,
        on_anomaly: Callable[[Anomaly], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        unknown = [each for each in (*series, *(min_abs or {})) if each not in SERIES]
        if unknown or not series:
            raise ValueError(f"series: expected some of {', '.join(SERIES)}; got {unknown or series!r}")
        if not k > 0 or not min_count > 0 or not min_history > 1 or not consecutive > 0:
            raise ValueError(f"expected numbers above 0: {k=}, {min_count=}, {min_history=} (above 1), {consecutive=}")
        floors = {**MIN_ABS, **(min_abs or {})}
        if not all(0 < each < math.inf for each in floors.values()):
            raise ValueError(f"min_abs: expected numbers above 0, got {min_abs!r}")
        self._bucket = seconds_of(bucket, "bucket")
        self._length = math.ceil(seconds_of(window, "window") / self._bucket)
        if self._length < min_history:
            raise ValueError(f"window: expected at least {min_history} buckets (min_history), got {self._length}")
        self._k, self._min_count, self._min_history = k, min_count, min_history
        self._consecutive = consecutive
        self._floors = floors
        self._cooldown = cooldown.total_seconds() if isinstance(cooldown, timedelta) else float(cooldown)
        self._on_anomaly = on_anomaly
        self._clock = clock
        self._lock = new_lock(self)
        self._tracks: dict[Series, _Track] = {each: _Track(floors[each]) for each in series}
        self._latest = -math.inf
        self._stop = follow_calls(self._listen)
        signals.register(self)

    def close(self) -> None:
        """Stops listening."""
        self._stop()

    def add(self, series: Series, value: float, *, calls: int = 1) -> Anomaly | None:
        """Adds to the open bucket of ``series`` by hand; returns the anomaly if this made it one. What is no finite
        number at or above 0 is left out."""
        if not 0 <= value < math.inf:
            return None
        with self._lock:
            found = self._add(series, value, calls)
        if found is not None:
            self._tell(found)
        return found

    def readings(self) -> tuple[()]:
        """No gauges."""
        return ()

    def zeros(self) -> list[tuple[Any, dict[str, str]]]:
        """The counter starts at zero for each series."""
        return [(catalogue.ANOMALIES, {names.ANOMALY_SERIES: each}) for each in self._tracks]

    # --- inside -----------------------------------------------------------------------------------------------------

    def _listen(self, call: Call) -> None:
        if call.kind not in ("inference", "embeddings"):
            return
        usage = call.usage
        failed = call.error_type is not None
        values: dict[Series, float | None] = {
            "cost": call.cost.total if call.cost is not None else 0.0,
            "errors": float(failed),
            "latency": None if failed else call.duration,
            "tokens": float((usage.input_tokens or 0) + (usage.output_tokens or 0)) if usage is not None else 0.0,
        }
        for series, value in values.items():
            if value is not None and series in self._tracks:
                self.add(series, value)

    def _add(self, series: Series, value: float, calls: int) -> Anomaly | None:
        track = self._tracks[series]
        now = self._latest = max(self._clock(), self._latest)  # a clock that goes back stays in the open bucket
        bucket = math.floor(now / self._bucket)
        if track.bucket != bucket:
            self._turn(series, track, bucket)
        track.total += value * calls if series == "latency" else value
        track.calls += calls
        return self._judge(series, track, now)

    def _value(self, series: Series, track: _Track) -> float:
        return track.total / track.calls if series == "latency" else track.total

    def _logarithm(self, series: Series, value: float) -> float:
        return math.log(value + self._floors[series] / 10)

    def _turn(self, series: Series, track: _Track, bucket: int) -> None:
        """Closes the open bucket and looks at the past anew. Buckets without calls are no values: a pause is no
        collapse."""
        if track.bucket is not None:
            track.history.append((track.bucket, self._logarithm(series, self._value(series, track))))
            if not track.judged or track.bucket != bucket - 1:
                track.strange = 0
        while track.history and track.history[0][0] < bucket - self._length:
            track.history.popleft()
        values = [value for _, value in track.history]
        if values:
            track.mean = math.fsum(values) / len(values)
            variance = math.fsum((value - track.mean) ** 2 for value in values) / len(values)
            track.deviation = max(math.sqrt(variance), _LEAST_DEVIATION)
        track.bucket, track.total, track.calls, track.judged = bucket, 0.0, 0, False

    def _judge(self, series: Series, track: _Track, now: float) -> Anomaly | None:
        if track.judged or track.calls < self._min_count or len(track.history) < self._min_history:
            return None
        value = self._value(series, track)
        if value < self._floors[series]:
            return None
        score = (self._logarithm(series, value) - track.mean) / track.deviation
        if score < self._k:
            return None
        track.judged = True
        track.strange += 1
        if track.strange < self._consecutive or now < track.quiet_until:
            return None
        track.quiet_until = now + self._cooldown
        usual = max(0.0, math.exp(track.mean) - self._floors[series] / 10)
        return Anomaly(series, value, usual, score, track.calls)

    def _tell(self, found: Anomaly) -> None:
        signals.measure(catalogue.ANOMALIES, 1, {names.ANOMALY_SERIES: found.series})
        details: dict[str, str | int | float | bool] = {
            names.ANOMALY_SERIES: found.series,
            f"{names.EVENT_ANOMALY}.value": found.value,
            f"{names.EVENT_ANOMALY}.usual": found.usual,
            f"{names.EVENT_ANOMALY}.score": found.score,
            f"{names.EVENT_ANOMALY}.calls": found.calls,
        }
        signals.event(names.EVENT_ANOMALY, details, warning=True)
        if self._on_anomaly is None:
            return
        try:
            self._on_anomaly(found)
        except Exception as error:
            guard.fault("notify a listener", error)
