"""What is known of jobs whose messages travel through a broker: kept in Redis or Valkey, changed by scripts.

A broker delivers a message at least once, or at most once, in its own order and time. The ledger decides: a message is
only the word that a job may be taken, and whoever claims the job first has it. So a message that comes twice does no
harm, and a job whose message was lost is taken by a worker that has nothing to do.

Keys, all in one slot of a cluster: ``seatrace:{queue}:job:ID`` (hash), ``:key:KEY`` (string), and the sorted sets
``:waiting`` (by since when), ``:delayed`` (by when it is due), ``:active`` (by when its lease runs out), ``:dead`` (by
when it failed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from seatrace.errors import MissingExtraError

from ._ledger_scripts import SCRIPTS
from ._scripts import Scripts, unreachable
from .engine import inherit
from .record import Bill, Counts, Delivery, Envelope, JobState, Renewal, Verdict

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Ledger:
    """The jobs of one Redis."""

    def __init__(self, url: str, *, keep_results: float, clock: Callable[[], float]) -> None:
        self._url = url
        self._keep = keep_results
        self._clock = clock
        self._redis: Redis | None = None
        self._scripts: Scripts | None = None

    async def put(self, queue: str, envelope: Envelope, max_jobs: int) -> tuple[str, str]:
        """Notes a job: ``("new", id)``, ``("delayed", id)``, ``("known", id)`` where it was put already or another has
        its key, ``("full", count)``."""
        return tuple(
            await self._call(
                "put",
                queue,
                envelope.id,
                envelope.to_json(),
                envelope.task,
                envelope.key or "",
                envelope.due,
                self._clock(),
                max_jobs,
            )
        )

    async def claim(self, queue: str, id: str, lease: float) -> Delivery | None:
        """Leases the job, where it waits; ``None`` where a message of it came too late, too early or twice."""
        now = self._clock()
        row = await self._call("claim", queue, id, uuid4().hex, now + lease)
        return _delivery(row, now) if row else None

    async def sweep(self, queue: str, most: int, lease: float, waiting_for: float = 0.0) -> list[Delivery]:
        """Leases the jobs that have waited longest, at least ``waiting_for`` seconds, whatever their messages do."""
        now = self._clock()
        rows = await self._call("sweep", queue, uuid4().hex, now + lease, now - waiting_for, most)
        return [_delivery(row, now) for row in rows]

    async def renew(self, queue: str, held: Sequence[tuple[Delivery, float | None]], lease: float) -> Renewal:
        until, renewal = self._clock() + lease, Renewal()
        for delivery, cost in held:
            bill = "" if cost is None else repr(cost)
            said = await self._call("renew", queue, delivery.envelope.id, delivery.token, delivery.fence, until, bill)
            if said == "lost":
                renewal.lost.append(delivery)
            elif said == "cancelled":
                renewal.cancelled.append(delivery)
        return renewal

    async def settle(self, queue: str, delivery: Delivery, verdict: Verdict) -> bool:
        now = self._clock()
        done = await self._call(
            "settle",
            queue,
            delivery.envelope.id,
            delivery.token,
            delivery.fence,
            verdict.outcome,
            verdict.result or "",
            verdict.error or "",
            now,
            now + verdict.delay,
            "" if verdict.cost is None else repr(verdict.cost),
            int(self._keep * 1000) or 1,
        )
        return bool(done)

    async def due(self, queue: str, most: int) -> list[str]:
        """Makes jobs wait whose delay is over or whose lease ran out: their messages are to be sent now."""
        found: list[str] = await self._call("due", queue, self._clock(), most)
        return found

    async def look(self, queue: str, id: str) -> JobState | None:
        raw = await self._reach(self._connection().hgetall(f"{_prefix(queue)}job:{id}"))
        return _state(id, raw) if raw else None

    async def cancel(self, queue: str, id: str) -> bool:
        return bool(await self._call("cancel", queue, id, int(self._keep * 1000) or 1))

    async def dead(self, queue: str, limit: int) -> list[JobState]:
        ids = await self._reach(self._connection().zrevrange(f"{_prefix(queue)}dead", 0, limit - 1))
        found = [(id, await self._reach(self._connection().hgetall(f"{_prefix(queue)}job:{id}"))) for id in ids]
        return [_state(id, raw) for id, raw in found if raw]

    async def requeue(self, queue: str, id: str) -> bool:
        return bool(await self._call("requeue", queue, id, self._clock()))

    async def counts(self, queue: str) -> Counts:
        waiting, delayed, active, dead, oldest = await self._call("counts", queue)
        age = max(0.0, self._clock() - float(oldest)) if oldest else None
        return Counts(int(waiting), int(delayed), int(active), int(dead), age)

    async def close(self) -> None:
        redis, self._redis, self._scripts = self._redis, None, None
        if redis is not None:
            await redis.aclose()

    def forget(self) -> None:
        """After a fork: the connections are the parent's."""
        inherit(self._redis, self._scripts)
        self._redis = self._scripts = None

    async def _call(self, script: str, queue: str, *args: Any) -> Any:
        if self._scripts is None:
            self._scripts = Scripts(self._connection(), SCRIPTS)
        return await self._scripts.call(script, _prefix(queue), *args)

    def _connection(self) -> Redis:
        if self._redis is None:
            try:
                from redis.asyncio import Redis
            except ImportError as error:
                raise MissingExtraError("a ledger in Redis needs redis: pip install 'seatrace[redis]'") from error
            self._redis = Redis.from_url(self._url, decode_responses=True, socket_connect_timeout=5, socket_timeout=30)
        return self._redis

    async def _reach(self, work: Any) -> Any:
        from redis.exceptions import RedisError

        try:
            return await work
        except (RedisError, OSError) as error:
            raise unreachable(error) from error


def _delivery(row: Sequence[str], now: float) -> Delivery:
    text, token, fence, attempt, due, redelivered, cancelled, cost = row
    return Delivery(
        Envelope.from_json(text),
        token,
        int(fence),
        int(attempt),
        waited=max(0.0, now - float(due)),
        redelivered=redelivered == "1",
        cancelled=cancelled == "1",
        cost=float(cost) if cost else None,
    )


def _prefix(queue: str) -> str:
    return f"seatrace:{{{queue}}}:"


def _state(id: str, raw: dict[str, str]) -> JobState:
    bills = sorted((int(name[5:]), float(value)) for name, value in raw.items() if name.startswith("bill:"))
    text = raw.get("envelope")
    return JobState(
        id,
        raw["task"],
        raw["status"],  # type: ignore[arg-type]  # the scripts write no other
        int(raw.get("attempts", 0)),
        raw.get("result"),
        raw.get("error"),
        tuple(Bill(*bill) for bill in bills),
        None if text is None else Envelope.from_json(text).payload,
    )
