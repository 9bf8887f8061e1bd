"""Notices that somebody set the clock. Leases are times of day, since processes and restarts share them: a clock that
jumps an hour ahead would take every job from its worker and have it done, and paid, twice.
"""

from __future__ import annotations

from collections.abc import Callable

_DRIFT = 1.0
"""Seconds that the two clocks may part between two looks."""


class ClockWatch:
    """Compares the time of day with a clock that cannot be set."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._clock = clock
        self._steady = steady
        self._apart = clock() - steady()
        self._doubts_until = float("-inf")

    def trusts(self, lease: float) -> bool:
        """Whether leases that look expired are. After a jump not for one lease's time: in that, every worker that is
        alive renews its leases by the new time."""
        steady = self._steady()
        apart = self._clock() - steady
        if abs(apart - self._apart) > _DRIFT:
            self._doubts_until = steady + lease
        self._apart = apart
        return steady >= self._doubts_until
