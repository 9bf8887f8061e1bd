"""The stretch of time that a limit holds for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from seatrace.errors import ConfigError

PIECES = 60
"""A sliding window moves on in so many steps: what was spent leaves it up to 1/60 of its length late, never early."""

_LENGTH = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EXPECTED = (
    "expected 'run', a length such as '1h', '15m' or '7d', 'sliding:24h', or 'day', 'week' or 'month', "
    "with a time zone if not in UTC: 'day@Europe/Berlin'"
)


@dataclass(frozen=True, slots=True)
class Slot:
    """One window at a time: what is spent in it counts together."""

    key: str
    starts: float
    """Seconds since the epoch; minus infinity where the window slides or is a run."""
    ends: float
    piece: int = 0
    """Of a sliding window: the number of the present piece."""


class Window:
    """Knows the slot of each moment.

    Lengths such as ``1h`` are counted from the epoch, so that every machine has the same ones. Calendar windows begin
    at local midnight, a week on Monday; a day with a change of the clocks has 23 or 25 hours.

    Raises:
        ConfigError: ``text`` is none of these, or the time zone is not known here.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        kind, at, zone = text.partition("@")
        self.is_run = kind == "run"
        self.calendar = kind if kind in ("day", "week", "month") else None
        self.sliding = kind.startswith("sliding:")
        self.length = math.inf
        if not self.is_run and self.calendar is None:
            found = _LENGTH.fullmatch(kind.removeprefix("sliding:"))
            self.length = int(found[1]) * _SECONDS[found[2]] if found else 0
        if self.length == 0 or (at and self.calendar is None):
            raise ConfigError(f"window: {_EXPECTED}; got {text!r}")
        self._zone = _zone(zone) if at else timezone.utc
        self._latest = Slot("", math.inf, -math.inf)

    @property
    def pieces(self) -> int:
        """Into how many pieces the window is cut, 0 if it does not slide."""
        return PIECES if self.sliding else 0

    def slot(self, now: float) -> Slot:
        """The slot that ``now`` (seconds since the epoch) falls into."""
        latest = self._latest
        if latest.starts <= now < latest.ends:
            return latest
        if self.is_run:
            made = Slot("run", -math.inf, math.inf)
        elif self.sliding:
            return Slot("sliding", -math.inf, math.inf, math.floor(now / self.length * PIECES))
        elif self.calendar is None:
            index = math.floor(now / self.length)
            made = Slot(str(index), index * self.length, (index + 1) * self.length)
        else:
            made = self._calendar_slot(now)
        self._latest = made
        return made

    def _calendar_slot(self, now: float) -> Slot:
        today = datetime.fromtimestamp(now, self._zone).date()
        if self.calendar == "month":
            first = today.replace(day=1)
            after = (first + timedelta(days=31)).replace(day=1)
        else:
            first = today - timedelta(days=today.weekday() if self.calendar == "week" else 0)
            after = first + timedelta(days=7 if self.calendar == "week" else 1)
        return Slot(first.isoformat(), min(self._midnight(first), now), self._midnight(after))

    def _midnight(self, day: date) -> float:
        return datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp()

    def room_at(self, slot: Slot, oldest: int | None) -> datetime | None:
        """When room comes back: at the slot's end, or when the ``oldest`` piece leaves; ``None`` for a run."""
        if self.sliding:
            moment = None if oldest is None else (oldest + PIECES) * self.length / PIECES
        else:
            moment = slot.ends if slot.ends < math.inf else None
        return None if moment is None else datetime.fromtimestamp(moment, self._zone)

    def keep(self, now: float) -> float:
        """For how many seconds what is spent now must be remembered: to the end of the slot and a while beyond, in case
        that a clock goes back."""
        if self.sliding:
            return 2 * self.length
        slot = self.slot(now)
        return 2 * max(slot.ends - now, 0.0) + min(slot.ends - slot.starts, 86400.0)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"window: expected a time zone such as 'Europe/Berlin', got {name!r}. "
            f"Where the system has no time zones, pip install tzdata."
        ) from error
