"""What a pool raises when it has no member to give."""

from __future__ import annotations

from seatrace.errors import SeatraceError


class PoolError(SeatraceError):
    """Base of the pool's own errors. An agent's exceptions pass unchanged."""


class PoolFull(PoolError):
    """All members are busy and as many requests wait as may."""


class PoolTimeout(PoolError, TimeoutError):
    """No member became free in ``queue_timeout`` seconds."""


class PoolClosed(PoolError):
    """The pool is drained or closed."""
