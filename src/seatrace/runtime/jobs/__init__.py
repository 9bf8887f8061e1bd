"""Queues of jobs and their workers, in memory, in SQLite, and over taskiq and BullMQ."""

from .attempt import Attempt, current_attempt
from .errors import (
    Discard,
    InvalidPayload,
    JobCancelled,
    JobCostExceeded,
    JobDead,
    JobError,
    JobNotFound,
    QueueError,
    QueueFull,
    QueueUnavailable,
    ResultTimeout,
)
from .queue import DeadLetter, Job, Queue
from .record import Backoff, Counts, JobState
from .worker import Worker

__all__ = [
    "Attempt",
    "Backoff",
    "Counts",
    "DeadLetter",
    "Discard",
    "InvalidPayload",
    "Job",
    "JobCancelled",
    "JobCostExceeded",
    "JobDead",
    "JobError",
    "JobNotFound",
    "JobState",
    "Queue",
    "QueueError",
    "QueueFull",
    "QueueUnavailable",
    "ResultTimeout",
    "Worker",
    "current_attempt",
]
