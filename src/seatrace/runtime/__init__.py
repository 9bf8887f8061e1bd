"""The performance patterns: caches, batches, streams, contexts, routing, cost, budgets, pools, queues. Each one works
without telemetry and is observable with it (:mod:`seatrace.core.signals`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jobs import Attempt as Attempt
    from .jobs import Backoff as Backoff
    from .jobs import Counts as Counts
    from .jobs import DeadLetter as DeadLetter
    from .jobs import Discard as Discard
    from .jobs import InvalidPayload as InvalidPayload
    from .jobs import Job as Job
    from .jobs import JobCancelled as JobCancelled
    from .jobs import JobCostExceeded as JobCostExceeded
    from .jobs import JobDead as JobDead
    from .jobs import JobError as JobError
    from .jobs import JobNotFound as JobNotFound
    from .jobs import JobState as JobState
    from .jobs import Queue as Queue
    from .jobs import QueueError as QueueError
    from .jobs import QueueFull as QueueFull
    from .jobs import QueueUnavailable as QueueUnavailable
    from .jobs import ResultTimeout as ResultTimeout
    from .jobs import Worker as Worker
    from .jobs import current_attempt as current_attempt
    from .jobs.bullmq import BullmqBackend as BullmqBackend
    from .jobs.sqlite import SqliteBackend as SqliteBackend
    from .jobs.taskiq import TaskiqBackend as TaskiqBackend
    from .pool import AgentPool as AgentPool
    from .pool import Ejection as Ejection
    from .pool import PoolClosed as PoolClosed
    from .pool import PoolError as PoolError
    from .pool import PoolFull as PoolFull
    from .pool import PoolStats as PoolStats
    from .pool import PoolTimeout as PoolTimeout

_PUBLIC: dict[str, str] = {
    # perf
    # cache
    # semantic
    # batch and parallel
    # stream
    # tokens, context and summary
    # routing and structured output
    # cost, budget and anomaly
    # pool
    "AgentPool": "pool",
    "Ejection": "pool",
    "PoolClosed": "pool",
    "PoolError": "pool",
    "PoolFull": "pool",
    "PoolStats": "pool",
    "PoolTimeout": "pool",
    # jobs
    "Attempt": "jobs",
    "Backoff": "jobs",
    "BullmqBackend": "jobs.bullmq",
    "Counts": "jobs",
    "DeadLetter": "jobs",
    "Discard": "jobs",
    "InvalidPayload": "jobs",
    "Job": "jobs",
    "JobCancelled": "jobs",
    "JobCostExceeded": "jobs",
    "JobDead": "jobs",
    "JobError": "jobs",
    "JobNotFound": "jobs",
    "JobState": "jobs",
    "Queue": "jobs",
    "QueueError": "jobs",
    "QueueFull": "jobs",
    "QueueUnavailable": "jobs",
    "ResultTimeout": "jobs",
    "SqliteBackend": "jobs.sqlite",
    "TaskiqBackend": "jobs.taskiq",
    "Worker": "jobs",
    "current_attempt": "jobs",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
