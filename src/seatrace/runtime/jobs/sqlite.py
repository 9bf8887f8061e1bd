"""Jobs in SQLite: in a file for the processes of one machine, in memory for one process.

Every change is one transaction, so that a killed process leaves no job in between: what was not settled comes back when
its lease runs out. Needs SQLite 3.35 (``UPDATE … RETURNING``).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

from seatrace.errors import ConfigError
from seatrace.runtime._options import check_count, check_number
from seatrace.runtime._sqlite import write_ahead

from ._schema import SCHEMA
from .clockwatch import ClockWatch
from .engine import Engine, inherit
from .errors import QueueFull, QueueUnavailable
from .record import Bill, Counts, Delivery, Envelope, JobState, Renewal, Status, Verdict
from .waiters import Nudges, Waiters

_BUSY = 5.0
"""Seconds that a transaction waits for one of another process."""

_NEXT: dict[str, Status] = {
    "completed": "completed",
    "dead_letter": "dead_letter",
    "cancelled": "cancelled",
    "retried": "delayed",
    "released": "delayed",
}


class SqliteBackend:
    """Jobs in the SQLite file ``path``, or in memory where that is ``None``.

    Args:
        path: A file on a local disk: SQLite's locks are unreliable on network file systems.
        max_jobs: Most jobs of a queue, dead letters and kept results included; one more is a :class:`QueueFull`.
            Default: 100,000 in memory, 10 million in a file.
        keep_results: Seconds that results, and idempotency keys with them, are kept after a job's end. Dead letters
            stay until they are requeued.
        poll: Seconds between looks for what other processes did.
        durable: Also survives a loss of power (``synchronous=FULL``): each change waits for the disk. Without, that may
            undo the last changes; a killed process undoes nothing either way.
        clock: Seconds since the epoch. Times must mean the same in all processes.
        steady: Seconds on a clock that cannot be set, to notice when ``clock`` was.
    """

    system = "sqlite"

    def __init__(
        self,
        path: str | None,
        *,
        max_jobs: int | None = None,
        keep_results: float = 3600.0,
        poll: float = 0.1,
        durable: bool = False,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        if sqlite3.sqlite_version_info < (3, 35):
            raise ConfigError(f"expected SQLite 3.35 or newer, but this Python has {sqlite3.sqlite_version}")
        if path is None:
            self.system = "memory"
        self.engine = Engine(f"jobs-{self.system}", self._forget)
        self._path = path
        self._max_jobs = check_count("max_jobs", max_jobs or (100_000 if path is None else 10_000_000))
        self._keep = check_number("keep_results", keep_results)
        self._poll = check_number("poll", poll, above=True)
        self._durable = durable
        self._clock = clock
        self._watch = ClockWatch(clock, steady)
        self._open: sqlite3.Connection | None = None
        self._news = Waiters()
        self._settled = Waiters()
        self._nudges = Nudges()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def put(self, queue: str, envelope: Envelope) -> tuple[str, bool]:
        with self._writing() as db:
            held = db.execute("SELECT sum(jobs) FROM counts WHERE queue = ?", (queue,)).fetchone()[0]
            if (held or 0) >= self._max_jobs:
                raise QueueFull(f"queue {queue!r} holds {held} jobs, as many as it may: drain it, or raise max_jobs=")
            status = "delayed" if envelope.due > self._clock() else "waiting"
            new = db.execute(
                "INSERT INTO jobs (id, queue, key, task, status, priority, due, envelope) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    envelope.id,
                    queue,
                    envelope.key,
                    envelope.task,
                    status,
                    envelope.priority,
                    envelope.due,
                    envelope.to_json(),
                ),
            ).rowcount
            if not new:
                known = db.execute("SELECT id FROM jobs WHERE queue = ? AND key = ?", (queue, envelope.key)).fetchone()
                id = envelope.id if known is None else known[0]
                return id, id == envelope.id
        self._news.tell(queue)
        return envelope.id, True

    # --- working ------------------------------------------------------------------------------------------------------

    async def take(self, queue: str, most: int, lease: float, wait: float) -> list[Delivery]:
        loop, nudges = asyncio.get_running_loop(), self._nudges.count(queue)
        deadline = loop.time() + wait
        while True:
            found = self._take(queue, most, lease)
            left = deadline - loop.time()
            if found or left <= 0 or self._nudges.count(queue) != nudges:
                return found
            await self._news.wait(queue, min(left, self._poll))
            if self._nudges.count(queue) != nudges:
                return []

    def nudge(self, queue: str) -> None:
        self._nudges.add(queue)
        self._news.tell(queue)

    def _take(self, queue: str, most: int, lease: float) -> list[Delivery]:
        now = self._clock()
        expired = now if self._watch.trusts(lease) else float("-inf")
        with self._reading() as db:
            # Looking takes no lock, so that idle workers are not in the way of busy ones.
            due = db.execute(
                "SELECT 1 WHERE EXISTS (SELECT 1 FROM jobs WHERE queue = :queue AND status = 'waiting') "
                "OR EXISTS (SELECT 1 FROM jobs WHERE queue = :queue AND status = 'delayed' AND due <= :now) "
                "OR EXISTS (SELECT 1 FROM jobs WHERE queue = :queue AND status = 'active' AND lease_until <= :expired)",
                {"queue": queue, "now": now, "expired": expired},
            ).fetchone()
        if due is None:
            return []
        taken: list[Delivery] = []
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET status = 'waiting' WHERE queue = ? AND status = 'delayed' AND due <= ?", (queue, now)
            )
            db.execute(
                "UPDATE jobs SET status = 'waiting', due = lease_until, redelivered = 1 "
                "WHERE queue = ? AND status = 'active' AND lease_until <= ?",
                (queue, expired),
            )
            while len(taken) < most and (delivery := self._take_one(db, queue, now, now + lease)) is not None:
                taken.append(delivery)
        return taken

    @staticmethod
    def _take_one(db: sqlite3.Connection, queue: str, now: float, until: float) -> Delivery | None:
        row = db.execute(
            "UPDATE jobs SET status = 'active', token = ?, lease_until = ?, fence = fence + 1, attempts = attempts + 1 "
            "WHERE seq = (SELECT seq FROM jobs WHERE queue = ? AND status = 'waiting' "
            "ORDER BY priority DESC, seq LIMIT 1) "
            "RETURNING id, envelope, token, fence, attempts, due, redelivered, cancelled",
            (uuid4().hex, until, queue),
        ).fetchone()
        if row is None:
            return None
        id, text, token, fence, attempt, due, redelivered, cancelled = row
        if redelivered:
            db.execute("UPDATE jobs SET redelivered = 0 WHERE id = ?", (id,))
        cost = None
        if fence > 1:
            [cost] = db.execute("SELECT sum(cost) FROM bills WHERE id = ?", (id,)).fetchone()
        return Delivery(
            Envelope.from_json(text),
            token,
            fence,
            attempt,
            waited=max(0.0, now - due),
            redelivered=bool(redelivered),
            cancelled=bool(cancelled),
            cost=cost,
        )

    async def renew(self, queue: str, held: Sequence[tuple[Delivery, float | None]], lease: float) -> Renewal:
        until = self._clock() + lease
        renewal = Renewal()
        with self._writing() as db:
            for delivery, cost in held:
                self._bill(db, delivery, cost)
                row = db.execute(
                    "UPDATE jobs SET lease_until = ? WHERE id = ? AND token = ? AND status = 'active' "
                    "RETURNING cancelled",
                    (until, delivery.envelope.id, delivery.token),
                ).fetchone()
                if row is None:
                    renewal.lost.append(delivery)
                elif row[0]:
                    renewal.cancelled.append(delivery)
        return renewal

    async def settle(self, queue: str, delivery: Delivery, verdict: Verdict) -> bool:
        now = self._clock()
        status = _NEXT[verdict.outcome]
        with self._writing() as db:
            self._bill(db, delivery, verdict.cost)
            settled = db.execute(
                "UPDATE jobs SET status = ?, result = ?, error = ?, due = ?, finished = ?, settled = token, "
                "token = NULL, attempts = attempts - ? WHERE id = ? AND token = ? AND status = 'active'",
                (
                    status,
                    verdict.result,
                    verdict.error,
                    now + verdict.delay,
                    now,
                    verdict.outcome == "released",
                    delivery.envelope.id,
                    delivery.token,
                ),
            ).rowcount
            if not settled:
                again = db.execute(
                    "SELECT 1 FROM jobs WHERE id = ? AND settled = ?", (delivery.envelope.id, delivery.token)
                ).fetchone()
                return again is not None
        self._news.tell(queue)
        self._settled.tell(delivery.envelope.id)
        return True

    @staticmethod
    def _bill(db: sqlite3.Connection, delivery: Delivery, cost: float | None) -> None:
        """One bill a delivery, whatever is noted how often."""
        if cost is not None:
            db.execute(
                "INSERT INTO bills (id, fence, cost) SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM jobs WHERE id = ?) "
                "ON CONFLICT (id, fence) DO UPDATE SET cost = max(cost, excluded.cost)",
                (delivery.envelope.id, delivery.fence, cost, delivery.envelope.id),
            )

    async def tend(self, queue: str, lease: float) -> None:
        with self._writing() as db:
            db.execute(
                "DELETE FROM jobs WHERE queue = ? AND status IN ('completed', 'cancelled') AND finished < ?",
                (queue, self._clock() - self._keep),
            )

    # --- asking -------------------------------------------------------------------------------------------------------

    async def look(self, queue: str, id: str) -> JobState | None:
        with self._reading() as db:
            row = db.execute(
                "SELECT id, task, status, attempts, result, error FROM jobs WHERE queue = ? AND id = ?", (queue, id)
            ).fetchone()
            if row is None:
                return None
            bills = db.execute("SELECT fence, cost FROM bills WHERE id = ? ORDER BY fence", (id,)).fetchall()
        return replace(JobState(*row), bills=tuple(Bill(*bill) for bill in bills))

    async def changed(self, queue: str, id: str, wait: float) -> None:
        await self._settled.wait(id, min(wait, self._poll))

    async def cancel(self, queue: str, id: str) -> bool:
        now = self._clock()
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET status = 'cancelled', cancelled = 1, finished = ? "
                "WHERE queue = ? AND id = ? AND status IN ('waiting', 'delayed')",
                (now, queue, id),
            ).rowcount
            asked = db.execute(
                "UPDATE jobs SET cancelled = 1 WHERE queue = ? AND id = ? AND status = 'active'", (queue, id)
            ).rowcount
        self._settled.tell(id)
        return bool(done or asked)

    async def dead(self, queue: str, limit: int) -> list[JobState]:
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, task, status, attempts, result, error, envelope FROM jobs "
                "WHERE queue = ? AND status = 'dead_letter' ORDER BY finished DESC, seq DESC LIMIT ?",
                (queue, limit),
            ).fetchall()
        return [replace(JobState(*known), payload=Envelope.from_json(envelope).payload) for *known, envelope in rows]

    async def requeue(self, queue: str, id: str) -> bool:
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET status = 'waiting', attempts = 0, due = ?, error = NULL, finished = NULL, "
                "cancelled = 0 WHERE queue = ? AND id = ? AND status = 'dead_letter'",
                (self._clock(), queue, id),
            ).rowcount
        self._news.tell(queue)
        return bool(done)

    async def counts(self, queue: str) -> Counts:
        with self._reading() as db:
            held = dict(db.execute("SELECT status, jobs FROM counts WHERE queue = ?", (queue,)).fetchall())
            [oldest] = db.execute(
                "SELECT min(due) FROM jobs WHERE queue = ? AND status = 'waiting'", (queue,)
            ).fetchone()
        return Counts(
            waiting=held.get("waiting", 0),
            delayed=held.get("delayed", 0),
            active=held.get("active", 0),
            dead=held.get("dead_letter", 0),
            oldest=None if oldest is None else max(0.0, self._clock() - oldest),
        )

    async def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    # --- the file -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection()
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            db = sqlite3.connect(self._path or ":memory:", timeout=_BUSY, isolation_level=None)
            try:
                write_ahead(db, _BUSY)
                db.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
                db.executescript(SCHEMA)
            except BaseException:
                db.close()
                raise
            self._open = db
        return self._open

    def _unavailable(self, error: sqlite3.Error) -> QueueUnavailable:
        if self._path is not None and self._open is not None:  # what is in memory would be gone with it
            try:
                self._open.close()
            except sqlite3.Error:
                pass
            self._open = None
        where = "in memory" if self._path is None else f"in {self._path!r}"
        return QueueUnavailable(f"the jobs {where} cannot be reached: {error}")

    def _forget(self) -> None:
        """After a fork: SQLite's connections must not be carried over, and not be closed either."""
        inherit(self._open)
        self._open = None
        self._news, self._settled, self._nudges = Waiters(), Waiters(), Nudges()
