"""What a queue needs of whatever keeps its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from seatrace.errors import ConfigError

from .engine import Engine
from .record import Counts, Delivery, Envelope, JobState, Renewal, Verdict


class Backend(Protocol):
    """A store or broker of jobs. All coroutines run in the loop of its :attr:`engine`, and in no other; a failure to
    reach the store is a ``QueueUnavailable``."""

    system: str
    """``messaging.system`` of spans and metrics."""
    engine: Engine

    async def put(self, queue: str, envelope: Envelope) -> tuple[str, bool]:
        """Queues a job. Returns its id and true; or the id of the job that has the envelope's key already, and false.
        Putting the same envelope again changes nothing."""

    async def take(self, queue: str, most: int, lease: float, wait: float) -> list[Delivery]:
        """The next jobs that are due, at most ``most``, leased for ``lease`` seconds. Waits up to ``wait`` seconds for
        the first one, or until :meth:`nudge`, and for no further one."""

    def nudge(self, queue: str) -> None:
        """Makes a waiting :meth:`take` return with empty hands. Called in the engine's loop."""

    async def renew(self, queue: str, held: Sequence[tuple[Delivery, float | None]], lease: float) -> Renewal:
        """Prolongs leases, and notes what the deliveries cost so far."""

    async def settle(self, queue: str, delivery: Delivery, verdict: Verdict) -> bool:
        """Ends a delivery. False where the lease ran out and the job was given to another worker, or settled: nothing
        but the bill is noted then. Settling twice with one verdict is settling once."""

    async def look(self, queue: str, id: str) -> JobState | None:
        """What is known of a job."""

    async def changed(self, queue: str, id: str, wait: float) -> None:
        """Returns when the job may have been settled, at the latest after ``wait`` seconds."""

    async def cancel(self, queue: str, id: str) -> bool:
        """Asks that a job be cancelled. False where it is unknown, or final already."""

    async def dead(self, queue: str, limit: int) -> list[JobState]:
        """The newest dead letters, with their payloads."""

    async def requeue(self, queue: str, id: str) -> bool:
        """Makes a dead letter a waiting job with all its attempts. False where it is none."""

    async def counts(self, queue: str) -> Counts:
        """Jobs by state, cheaply."""

    async def tend(self, queue: str, lease: float) -> None:
        """What has to be done from time to time: old results go, jobs of dead workers come back. Workers call it about
        three times a lease."""

    async def close(self) -> None:
        """Closes connections. They open again when needed."""


def open_backend(url: str) -> Backend:
    """The backend that ``url`` names.

    ``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``bullmq+redis://host:6379/0``. A taskiq
    broker is an object: ``TaskiqBackend(broker, ledger="redis://…")``.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "memory" and separator and not rest:
        from .sqlite import SqliteBackend

        return SqliteBackend(None)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        from .sqlite import SqliteBackend

        return SqliteBackend(rest[1:])
    if scheme in ("bullmq+redis", "bullmq+rediss", "bullmq+unix"):
        from .bullmq import BullmqBackend

        return BullmqBackend(url.removeprefix("bullmq+"))
    raise ConfigError(
        "expected memory://, sqlite:///file.db, bullmq+redis://host:port/db, or a backend object such as "
        f"TaskiqBackend(broker, ledger=...), got one that begins with {scheme!r}"
    )
