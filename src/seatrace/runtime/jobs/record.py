"""What travels through a queue: a job's envelope, its delivery to a worker, the worker's verdict, and what is known of
a job. Plain data, in JSON where it is stored: never pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any, Literal

from seatrace.errors import ConfigError
from seatrace.runtime._options import check_number

Status = Literal["waiting", "delayed", "active", "completed", "dead_letter", "cancelled"]
Outcome = Literal["completed", "retried", "dead_letter", "cancelled", "released"]
Propagate = Literal["link", "parent"]

FINAL = frozenset({"completed", "dead_letter", "cancelled"})
"""Statuses that a job keeps."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a job waits before its next attempt: exponential, with full jitter in its upper part. Seconds."""

    base: float = 1.0
    factor: float = 2.0
    max: float = 300.0
    jitter: float = 0.5
    """The part of the time that is left to chance: 0.5 means half of it to all of it."""

    def __post_init__(self) -> None:
        check_number("Backoff.base", self.base)
        check_number("Backoff.factor", self.factor, least=1.0)
        check_number("Backoff.max", self.max)
        if check_number("Backoff.jitter", self.jitter) > 1:
            raise ConfigError(f"Backoff.jitter: expected a part from 0 to 1, got {self.jitter!r}")

    def after(self, attempt: int, random: Random) -> float:
        """Seconds to wait after the failure of ``attempt`` (1 for the first)."""
        whole = min(self.max, self.base * self.factor ** min(attempt - 1, 100))
        return whole * (1 - self.jitter * random.random())


@dataclass(frozen=True, slots=True)
class Envelope:
    """A job as it was sent; never changes. Times are seconds since the epoch."""

    id: str
    task: str
    payload: str
    """JSON text, or what the queue's cipher made of it."""
    created: float
    due: float
    headers: Mapping[str, str] = field(default_factory=dict)
    """The sender's trace context."""
    scope: Mapping[str, Any] = field(default_factory=dict)
    """The sender's session, user, tenant … by the fields of ``seatrace.core.context.Scope``."""
    priority: int = 0
    max_attempts: int = 3
    timeout: float | None = None
    expires: float | None = None
    backoff: Backoff = Backoff()
    propagate: Propagate = "link"
    key: str | None = None

    def to_json(self) -> str:
        backoff = self.backoff
        return _encode(
            {
                **{name: getattr(self, name) for name in _PLAIN},
                "headers": dict(self.headers),
                "scope": dict(self.scope),
                "backoff": {name: getattr(backoff, name) for name in _BACKOFF},
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Envelope:
        """Reads what :meth:`to_json` wrote; fields of later versions are left out."""
        found = {name: value for name, value in json.loads(text).items() if name in _FIELDS}
        return cls(**{**found, "backoff": Backoff(**found.get("backoff", {}))})


_encode = json.JSONEncoder(separators=(",", ":")).encode
_FIELDS = frozenset(each.name for each in fields(Envelope))
_PLAIN = tuple(sorted(_FIELDS - {"headers", "scope", "backoff"}))
_BACKOFF = tuple(each.name for each in fields(Backoff))


@dataclass(slots=True, eq=False)
class Delivery:
    """A job that a worker was given, with a lease."""

    envelope: Envelope
    token: str
    """Names this delivery: who settles with another token than the last one comes too late."""
    fence: int
    """Deliveries of the job so far, this one included: grows, so that others may refuse an older one."""
    attempt: int
    """Attempts so far, this one included. A worker that gave the job back unworked does not count."""
    waited: float
    """Seconds since it was due."""
    redelivered: bool = False
    """The lease of the delivery before ran out."""
    cancelled: bool = False
    """Somebody cancelled the job before it was given out."""
    cost: float | None = None
    """USD that earlier attempts cost, as far as known."""
    handle: Any = None
    """The backend's own."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What prolonging leases has shown."""

    lost: list[Delivery] = field(default_factory=list)
    """Deliveries that are no longer their worker's: others have the job now, or it is settled."""
    cancelled: list[Delivery] = field(default_factory=list)
    """Deliveries whose job somebody has cancelled."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a delivery."""

    outcome: Outcome
    result: str | None = None
    """JSON text of what the handler returned, sealed like the payload."""
    error: str | None = None
    delay: float = 0.0
    """Seconds until the next attempt, of ``retried``."""
    cost: float | None = None
    """USD of this attempt."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What one delivery of a job cost, as far as known."""

    fence: int
    cost: float
    """USD."""


@dataclass(frozen=True, slots=True)
class JobState:
    """What is known of a job."""

    id: str
    task: str
    status: Status
    attempts: int
    result: str | None = None
    error: str | None = None
    bills: tuple[Bill, ...] = ()
    payload: str | None = None

    @property
    def cost(self) -> float | None:
        """USD of all attempts, as far as known."""
        return sum(bill.cost for bill in self.bills) if self.bills else None


@dataclass(frozen=True, slots=True)
class Counts:
    """A queue at one moment."""

    waiting: int = 0
    delayed: int = 0
    active: int = 0
    dead: int = 0
    oldest: float | None = None
    """Seconds that the oldest waiting job has been due; ``None`` where none waits, or the backend cannot say."""
