"""What queues, workers and jobs raise."""

from __future__ import annotations

from seatrace.core.pipeline import Refused
from seatrace.errors import SeatraceError


class QueueError(SeatraceError):
    """Base of what queues raise."""


class InvalidPayload(QueueError, ValueError):
    """A payload or result is no JSON, or too large for a queue. Larger things belong into a store, and their address
    into the payload."""


class QueueFull(QueueError):
    """The queue holds as many jobs as it may."""


class QueueUnavailable(QueueError):
    """The queue's store or broker cannot be reached, or does not answer in time. Whether a job was queued is unknown
    then: queue it again with the same ``idempotency_key``."""


class JobError(QueueError):
    """Base of the reasons why a job has no result."""


class JobNotFound(JobError, LookupError):
    """No job of this id is known (any more)."""


class JobDead(JobError):
    """The job failed for good and lies among the dead letters. The message is the last attempt's error."""


class JobCancelled(JobError):
    """The job was cancelled."""


class ResultTimeout(JobError, TimeoutError):
    """The job was not done in time; it goes on."""


class Discard(QueueError):
    """Raised by a handler: the job fails for good, with no further attempt."""


class JobCostExceeded(Refused, QueueError):
    """A model call was refused, since the job has cost as much as it may (``max_cost_per_job``)."""
