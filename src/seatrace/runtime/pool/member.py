"""One member of a pool: who works in it, how it does, and whether it is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from seatrace.errors import ConfigError
from seatrace.runtime._options import check_count, check_number

State = Literal["idle", "busy", "ejected"]

_WEIGHT = 0.2
"""Of the newest latency in the moving average: about the last ten requests count."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """When a failing member is taken out of the pool, and for how long. Times are seconds."""

    failures: int = 3
    """Failures in a row that eject a member."""
    base: float = 5.0
    """Time of the first ejection; each further one in a row doubles it."""
    max: float = 64.0
    """Longest ejection for failures."""
    half_open: int = 1
    """Requests that a member gets at a time when its ejection is over, until one succeeds."""
    max_ejected: float = 0.5
    """Where a larger part of the members is ejected, the fault is hardly theirs: all are used again (*panic mode*)."""
    max_retry_after: float = 600.0
    """Longest time that a ``Retry-After`` is followed. It is followed in panic mode, too."""

    def __post_init__(self) -> None:
        check_count("Ejection.failures", self.failures)
        check_number("Ejection.base", self.base, above=True)
        check_number("Ejection.max", self.max, least=self.base)
        check_count("Ejection.half_open", self.half_open)
        if check_number("Ejection.max_ejected", self.max_ejected) > 1:
            raise ConfigError(f"Ejection.max_ejected: expected a part from 0 to 1, got {self.max_ejected!r}")
        check_number("Ejection.max_retry_after", self.max_retry_after)


class Member:
    """A place in the pool, with the agent that works there. A strategy of your own may read, and must not change."""

    __slots__ = (
        "agent",
        "ejected_until",
        "ejections",
        "failures",
        "idle_since",
        "in_flight",
        "last_used",
        "latency",
        "number",
        "stays_away_until",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        """From 0 to the pool's size."""
        self.agent: Any = None
        """``None`` until the first request comes here."""
        self.in_flight = 0
        """Requests that it works on."""
        self.latency: float | None = None
        """Seconds of a successful request: a moving average, ``None`` before the first one."""
        self.failures = 0
        """Failures in a row."""
        self.ejections = 0
        """Ejections in a row."""
        self.ejected_until: float | None = None
        self.stays_away_until: float | None = None
        """What a ``Retry-After`` asked for."""
        self.idle_since = 0.0
        self.last_used = float("-inf")

    def opens_at(self, *, panic: bool) -> float:
        """The time from when on it may be given requests."""
        ejected = None if panic else self.ejected_until
        return max(ejected or float("-inf"), self.stays_away_until or float("-inf"))

    def room(self, most: int, ejection: Ejection | None) -> bool:
        """Whether it may take one more request, if it is open. The first one makes the agent."""
        if self.agent is None:
            return not self.in_flight
        if ejection is not None and self.ejected_until is not None:
            return self.in_flight < min(most, ejection.half_open)
        return self.in_flight < most

    def state(self, now: float) -> State:
        if self.opens_at(panic=False) > now:
            return "ejected"
        return "busy" if self.in_flight else "idle"

    def succeeded(self, seconds: float) -> None:
        """Counts a success: it is wholly well again."""
        self.latency = seconds if self.latency is None else self.latency + _WEIGHT * (seconds - self.latency)
        self.failures = self.ejections = 0
        self.ejected_until = self.stays_away_until = None

    def failed(self, now: float, ejection: Ejection, retry_after: float | None) -> bool:
        """Counts a failure; whether that ejected the member. Failures of requests that were under way when it was
        ejected do not make that longer."""
        self.failures += 1
        if retry_after is not None:
            until = now + min(retry_after, ejection.max_retry_after)
            fresh = self.stays_away_until is None or self.stays_away_until <= now
            self.stays_away_until = max(until, self.stays_away_until or until)
            return fresh
        if self.ejected_until is not None:
            if self.ejected_until > now:
                return False
        elif self.failures < ejection.failures:
            return False
        self.ejected_until = now + min(ejection.max, ejection.base * 2.0 ** min(self.ejections, 60))
        self.ejections += 1
        return True
