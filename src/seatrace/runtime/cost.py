"""What the observed calls used and cost, added up by whatever one asks for: :class:`CostTracker`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from seatrace.core import context
from seatrace.core.context import Scope
from seatrace.core.record import Call

from ._follow import follow_calls
from ._forks import new_lock
from ._report import OTHER, rich_table, text_table
from ._ring import Ring, seconds_of

Dimension = Literal[
    "provider", "model", "operation", "agent", "tenant", "user", "session", "conversation", "day", "library", "outcome"
]
"""``model`` is the response's, or the requested one where the response named none; ``outcome`` is ok or error."""

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

_COARSER: tuple[frozenset[str], ...] = (
    frozenset({"session", "conversation"}),
    frozenset({"session", "conversation", "user"}),
    frozenset({"session", "conversation", "user", "day", "operation", "library", "outcome"}),
    frozenset({"session", "conversation", "user", "day", "operation", "library", "outcome", "agent", "tenant"}),
    frozenset(DIMENSIONS),
)
"""What old rows lose, step by step, when there are too many."""


@dataclass(slots=True)
class CostTotal:
    """Sums over calls. What the provider did not say is missing in a sum, and counted beside it."""

    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    reasoning_tokens: int = 0
    without_usage: int = 0
    """Calls whose tokens are not known."""
    cost: float = 0.0
    """USD, of the calls that have a price."""
    unpriced: int = 0
    """Calls that used tokens, but whose price is not known: their cost is missing in ``cost``."""
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def add(self, other: CostTotal) -> None:
        """Adds the sums of ``other``."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def count(self, call: Call) -> None:
        """Adds one ended call."""
        self.calls += 1
        self.errors += call.error_type is not None
        self.seconds += call.duration
        usage, cost = call.usage, call.cost
        if usage is None or (usage.input_tokens is None and usage.output_tokens is None):
            self.without_usage += 1
        else:
            self.input_tokens += usage.input_tokens or 0
            self.output_tokens += usage.output_tokens or 0
            self.cache_read_tokens += usage.cache_read or 0
            self.reasoning_tokens += usage.reasoning or 0
            self.unpriced += cost is None or cost.currency != "USD"
        if cost is not None and cost.currency == "USD":
            self.cost += cost.total


_SUMS = tuple(each.name for each in fields(CostTotal))

_Key = tuple[str, ...]
_Rows = OrderedDict[_Key, CostTotal]


class CostTracker:
    """Adds up every observed model and embeddings call, from the moment it is made; nothing is called by hand.

    Failed calls count with what they used. A run of an agent is no call of its own: what it costs are its calls, so
    that parents and children are never both counted.

    Args:
        window: Of the recent figures, in seconds; exact to one of ``slices``.
        slices: How finely the window moves on.
        max_rows: Combinations of all dimensions that are kept apart, in all and in each slice. When there are more,
            those not seen for the longest time are joined: first they lose session and conversation, then user, …
            (their value becomes ``_OTHER``). Totals stay right.
        zone: Where days begin; default UTC.
        clock: Seconds since the epoch, for ``day``.
        monotonic: Seconds, for the window.

    Raises:
        ValueError: A number is not above zero.
    """

    def __init__(
        self,
        *,
        window: float | timedelta = 3600.0,
        slices: int = 6,
        max_rows: int = 10_000,
        zone: str | tzinfo = timezone.utc,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows: expected at least 1, got {max_rows!r}")
        self._max_rows = max_rows
        self._zone = ZoneInfo(zone) if isinstance(zone, str) else zone
        self._clock = clock
        self._day = (0.0, 0.0, "")
        self._lock = new_lock(self)
        self._past: _Rows = OrderedDict()
        self._ring: Ring[_Rows] = Ring(
            seconds_of(window, "window"), slices, make=OrderedDict, fall=self._fall, clock=monotonic
        )
        self._stop = follow_calls(self._listen)

    def close(self) -> None:
        """Stops listening. The figures stay."""
        self._stop()

    def total(self, *, window: Literal["all", "recent"] = "all", **only: str) -> CostTotal:
        """The sums of all calls, or of those ``only`` of some ``tenant``, ``model`` …"""
        _check(only)
        found = CostTotal()
        for key, row in self._rows(window).items():
            if all(key[DIMENSIONS.index(name)] == value for name, value in only.items()):
                found.add(row)
        return found

    def totals(
        self, by: Dimension | Sequence[Dimension], *, window: Literal["all", "recent"] = "all"
    ) -> dict[Any, CostTotal]:
        """The sums by one dimension (keys are its values), or by several (keys are tuples); the dearest first. A call
        that has no such value is under ``""``.

        Raises:
            ValueError: There is no such dimension.
        """
        single = isinstance(by, str)
        wanted: Sequence[Any] = (by,) if single else tuple(by)
        _check(wanted)
        places = [DIMENSIONS.index(each) for each in wanted]
        found: dict[Any, CostTotal] = {}
        for key, row in self._rows(window).items():
            name = key[places[0]] if single else tuple(key[place] for place in places)
            found.setdefault(name, CostTotal()).add(row)
        return dict(sorted(found.items(), key=lambda each: (-each[1].cost, -each[1].tokens, each[0])))

    def report(self, by: Dimension | Sequence[Dimension] = "model", *, window: Literal["all", "recent"] = "all") -> str:
        """A table of :meth:`totals`, with their sum. rich draws the tracker itself in colour."""
        return text_table(*self._table(by, window))

    def __rich__(self) -> Any:
        return rich_table(*self._table("model", "all"))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _listen(self, call: Call) -> None:
        if call.kind not in ("inference", "embeddings"):
            return
        key = self._key(call)
        with self._lock:
            rows = self._ring.now()
            row = rows.get(key)
            if row is not None:
                rows.move_to_end(key)
                row.count(call)
                return
            row = rows[key] = CostTotal()
            row.count(call)
            self._bound(rows)

    def _key(self, call: Call) -> _Key:
        scope = call.scope if isinstance(call.scope, Scope) else context.EMPTY
        return tuple(
            value or ""
            for value in (
                call.provider,
                call.response_model or call.request_model,
                call.operation,
                call.agent,
                scope.tenant,
                scope.user,
                scope.session,
                call.conversation_id,
                self._today(),
                call.library,
                "error" if call.error_type is not None else "ok",
            )
        )

    def _today(self) -> str:
        now = self._clock()
        begins, ends, name = self._day
        if not begins <= now < ends:
            day = datetime.fromtimestamp(now, self._zone).date()
            after = day + timedelta(days=1)
            midnights = (datetime(*each.timetuple()[:3], tzinfo=self._zone).timestamp() for each in (day, after))
            name = day.isoformat()
            self._day = (*midnights, name)  # type: ignore[assignment]
        return name

    def _fall(self, rows: _Rows) -> None:
        for key, row in rows.items():
            self._add(self._past, key, row)
        self._bound(self._past)

    def _add(self, rows: _Rows, key: _Key, row: CostTotal) -> None:
        known = rows.get(key)
        if known is None:
            rows[key] = row
        else:
            known.add(row)
            rows.move_to_end(key)

    def _bound(self, rows: _Rows) -> None:
        """Joins the rows that were not seen for the longest time; a tenth at once, so that it is seldom done."""
        if len(rows) <= self._max_rows:
            return
        goal = self._max_rows - self._max_rows // 10
        for dropped in _COARSER:
            for key in list(rows):
                if len(rows) <= goal:
                    return
                coarse = tuple(OTHER if name in dropped else value for name, value in zip(DIMENSIONS, key, strict=True))
                if coarse != key:
                    self._add(rows, coarse, rows.pop(key))

    def _rows(self, window: str) -> dict[_Key, CostTotal]:
        if window not in ("all", "recent"):
            raise ValueError(f"window: expected 'all' or 'recent', got {window!r}")
        found: dict[_Key, CostTotal] = {}
        with self._lock:
            slices = list(self._ring.recent())  # before the past is read: slices may move there
            for rows in [self._past, *slices] if window == "all" else slices:
                for key, row in rows.items():
                    found.setdefault(key, CostTotal()).add(row)
        return found

    def _table(self, by: Dimension | Sequence[Dimension], window: Any) -> tuple[list[str], list[list[str]]]:
        names = [by] if isinstance(by, str) else list(by)
        titles = [" / ".join(names), "calls", "errors", "input", "output", "cached", "cost USD", "unpriced"]
        found = self.totals(names, window=window)
        together = CostTotal()
        for row in found.values():
            together.add(row)
        labelled = [(" / ".join(each or "–" for each in key), row) for key, row in found.items()]
        return titles, [_line(label, row) for label, row in (*labelled, ("total", together))]


def _line(label: str, row: CostTotal) -> list[str]:
    counts = (row.calls, row.errors, row.input_tokens, row.output_tokens, row.cache_read_tokens)
    return [label, *(f"{each:,}" for each in counts), f"{row.cost:,.6f}", f"{row.unpriced:,}" if row.unpriced else ""]


def _check(names: Any) -> None:
    unknown = [name for name in names if name not in DIMENSIONS]
    if unknown or (isinstance(names, tuple) and not names):
        raise ValueError(f"by: expected some of {', '.join(DIMENSIONS)}; got {', '.join(map(str, unknown)) or 'none'}")
