"""Where the time of one run went: to models, to tools, to waiting, or to the program itself.

At each instant the first of these that holds counts, so that the four add up to the run's duration whatever runs at
once: a model works on an answer, a tool works, the run waits (for another attempt after a failed one, for a free agent
of a pool), none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Final, Literal

from .record import Call

Spending = Literal["model", "tool", "waiting"]
SPENDINGS: Final[tuple[Spending, ...]] = ("model", "tool", "waiting")

SPENDING_OF: Final[Mapping[str, Spending]] = {"inference": "model", "embeddings": "model"}
"""Of a call by its kind."""


def spending_of(call: Call) -> Spending | None:
    """What a call's time goes to, ``None`` where the run itself works."""
    return "tool" if call.runs_tool else SPENDING_OF.get(call.kind)


class Timeline:
    """Counts what goes on. Clocks are nanoseconds, monotonic. Not thread-safe: its run holds a lock."""

    __slots__ = ("_active", "_last", "_pauses", "_spent", "_started")

    def __init__(self, clock: int) -> None:
        self._started = self._last = clock
        self._active: dict[Spending, int] = dict.fromkeys(SPENDINGS, 0)
        self._spent: dict[Spending, int] = dict.fromkeys(SPENDINGS, 0)
        self._pauses: list[int] = []
        """When the model calls that pause between two attempts go on."""

    def begin(self, spending: Spending, clock: int) -> None:
        """One more of ``spending`` goes on from here."""
        self._advance(clock)
        self._active[spending] += 1

    def end(self, spending: Spending, clock: int) -> None:
        """One of ``spending`` is over."""
        self._advance(clock)
        self._active[spending] -= 1

    def pause(self, clock: int, until: int) -> None:
        """A model call does nothing between the two clocks."""
        self._advance(clock)
        self._active["model"] -= 1
        self._active["waiting"] += 1
        heappush(self._pauses, until)

    def split(self, clock: int) -> dict[str, float]:
        """Seconds of each of the four until ``clock``: ``model``, ``tool``, ``waiting``, ``own``."""
        self._advance(clock)
        own = max(0, self._last - self._started - sum(self._spent.values()))
        return {name: spent / 1e9 for name, spent in (*self._spent.items(), ("own", own))}

    def _advance(self, clock: int) -> None:
        while self._pauses and self._pauses[0] <= clock:
            self._to(heappop(self._pauses))
            self._active["waiting"] -= 1
            self._active["model"] += 1
        self._to(clock)

    def _to(self, clock: int) -> None:
        passed = clock - self._last
        if passed <= 0:  # another thread was a little faster
            return
        self._last = clock
        active, spent = self._active, self._spent
        if active["model"] > 0:
            spent["model"] += passed
        elif active["tool"] > 0:
            spent["tool"] += passed
        elif active["waiting"] > 0:
            spent["waiting"] += passed
