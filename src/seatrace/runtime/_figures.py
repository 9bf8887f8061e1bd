"""The times of one operation by outcome, and the figures made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ._ring import Ring
from .sketch import Sketch

Outcome = Literal["ok", "error", "cancelled"]
"""``cancelled``: a cancelled task, a generator that its consumer closed, Ctrl-C. That is nobody's error."""

OUTCOMES: tuple[Outcome, ...] = ("ok", "error", "cancelled")
_QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one operation. Times are seconds, and ``None`` where nothing was measured; nothing is ever NaN."""

    name: str
    outcome: Outcome | Literal["all"]
    """Whose times these are."""
    count: int
    """Ended operations of every outcome."""
    errors: int
    cancelled: int
    error_rate: float | None
    """Errors among those that were not cancelled."""
    rate: float
    """Ended operations a second, over the window or since the name was first seen."""
    min: float | None
    max: float | None
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


Times = dict[Outcome, Sketch]
"""Seconds by outcome."""


class Series:
    """The measurements of one name."""

    __slots__ = ("active", "past", "ring", "since")

    def __init__(self, window: float, slices: int, clock: Callable[[], float], accuracy: float) -> None:
        self.active = 0
        self.since = clock()
        self.past: Times = {}
        self.ring: Ring[Times] = Ring(
            window, slices, make=dict, fall=lambda old: add_up(self.past, old, accuracy), clock=clock
        )


def add_up(into: Times, times: Mapping[Outcome, Sketch], accuracy: float) -> None:
    """Adds ``times`` to ``into``."""
    for outcome, sketch in times.items():
        if outcome not in into:
            into[outcome] = Sketch(accuracy)
        into[outcome].merge(sketch)


def add_time(series: Series, duration: float, outcome: Outcome, accuracy: float) -> None:
    """Adds one time, in the present slice."""
    times = series.ring.now()
    sketch = times.get(outcome)
    if sketch is None:
        sketch = times[outcome] = Sketch(accuracy)
    sketch.add(duration if duration >= 0 else float("nan"))


def outcome_of(error: BaseException | None) -> Outcome:
    """What became of an operation that ended with ``error``."""
    if error is None:
        return "ok"
    if not isinstance(error, Exception) or type(error).__name__ == "CancelledError":
        return "cancelled"  # concurrent.futures' own one is an Exception
    return "error"


def stats_of(name: str, times: Times, outcome: Outcome | Literal["all"], past: float) -> Stats:
    """The figures of ``times``, which took ``past`` seconds to come together."""
    counts = {each: times[each].count + times[each].invalid if each in times else 0 for each in OUTCOMES}
    count, finished = sum(counts.values()), counts["ok"] + counts["error"]
    wanted = OUTCOMES if outcome == "all" else (outcome,)
    accuracy = next((sketch.accuracy for sketch in times.values()), 0.01)
    together = Sketch(accuracy)
    for each in wanted:
        if each in times:
            together.merge(times[each])
    known = together.count > 0
    return Stats(
        name,
        outcome,
        count,
        counts["error"],
        counts["cancelled"],
        counts["error"] / finished if finished else None,
        count / past,
        together.min if known else None,
        together.max if known else None,
        together.mean,
        *together.quantiles(_QUANTILES),
    )
