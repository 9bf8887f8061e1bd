"""A window that moves on: a ring of slices of time, the oldest of which falls out as a whole."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Generic, TypeVar

Slice = TypeVar("Slice")


def seconds_of(span: float | timedelta, name: str) -> float:
    """Seconds as a number.

    Raises:
        ValueError: ``span`` is not above zero and finite.
    """
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name}: expected a time above 0 seconds, got {span!r}")
    return seconds


class Ring(Generic[Slice]):
    """The slices of the last ``window`` seconds, and whatever ``fall`` makes of those that left. Not thread-safe.

    The window is exact to one slice: it covers between ``window - window / slices`` and ``window`` seconds. A clock
    that goes backwards stays in the latest slice.
    """

    def __init__(
        self,
        window: float,
        slices: int,
        *,
        make: Callable[[], Slice],
        fall: Callable[[Slice], None],
        clock: Callable[[], float],
    ) -> None:
        if slices < 1:
            raise ValueError(f"slices: expected at least 1, got {slices!r}")
        self._length = window / slices
        self._count = slices
        self._make, self._fall, self._clock = make, fall, clock
        self._slices: deque[tuple[int, Slice]] = deque()
        self._ends = -math.inf

    def now(self) -> Slice:
        """The slice that the present falls into."""
        at = self._clock()
        if at >= self._ends:
            self._turn(at)
        return self._slices[-1][1]

    def recent(self) -> Iterator[Slice]:
        """The slices of the window, the oldest first."""
        self.now()
        return (each for _, each in self._slices)

    def _turn(self, at: float) -> None:
        index = math.floor(at / self._length)
        while self._slices and self._slices[0][0] <= index - self._count:
            self._fall(self._slices.popleft()[1])
        if not self._slices or self._slices[-1][0] < index:
            self._slices.append((index, self._make()))
        self._ends = (index + 1) * self._length
