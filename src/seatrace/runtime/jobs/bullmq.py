"""Jobs in BullMQ, the queue of many Node programs: its jobs, its locks and its sets in Redis, by its Python package.

A job is an ordinary BullMQ job: its data is the payload, so that a Node worker can do it, and what a Node program adds
can be done here. What seatrace knows beside stands in the job's options (``seatrace``) and in fields of its hash
(``seatrace:…``), which BullMQ leaves alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any
from uuid import uuid4

from seatrace.errors import MissingExtraError
from seatrace.runtime._options import check_number

from .engine import Engine, inherit
from .errors import QueueUnavailable
from .payload import SEALED
from .record import Backoff, Bill, Counts, Delivery, Envelope, JobState, Renewal, Status, Verdict
from .waiters import Nudges, Waiters

_STATUS: dict[str, Status] = {
    "completed": "completed",
    "failed": "dead_letter",
    "delayed": "delayed",
    "active": "active",
    "prioritized": "waiting",
    "waiting": "waiting",
    "waiting-children": "waiting",
}

_NEVER = 1_000_000_000
"""Stalls until BullMQ itself gives a job up: the worker counts its attempts."""

_CHECK = 1.0
"""Most seconds between looks for jobs whose lock ran out; BullMQ moves those that it finds twice."""

_MARK = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'seatrace:settling', ARGV[1])
return 1
"""

_BILL = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local known = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if known < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
"""


class BullmqBackend:
    """Jobs in BullMQ.

    Args:
        url: Address of the Redis, ``redis://host:6379/0``.
        prefix: BullMQ's prefix of keys.
        keep_results: Seconds that results, and idempotency keys with them, are kept after a job's end. Dead letters
            stay in BullMQ's failed set.
        poll: Seconds between looks for jobs, where none is there, and for results.
    """

    system = "bullmq"

    def __init__(self, url: str, *, prefix: str = "bull", keep_results: float = 3600.0, poll: float = 0.1) -> None:
        try:
            import bullmq  # type: ignore[import-untyped]  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("BullmqBackend needs bullmq: pip install 'seatrace[bullmq]'") from error
        self.engine = Engine(f"jobs-{self.system}", self._forget)
        self._url = url
        self._prefix = prefix
        self._keep = check_number("keep_results", keep_results)
        self._poll = check_number("poll", poll, above=True)
        self._begin()

    def _forget(self) -> None:
        inherit(self._redis, self._lines)
        self._begin()

    def _begin(self) -> None:
        self._redis: Any = None
        self._lines: dict[str, _Line] = {}
        self._news, self._settled, self._nudges = Waiters(), Waiters(), Nudges()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def put(self, queue: str, envelope: Envelope) -> tuple[str, bool]:
        id = envelope.id if envelope.key is None else f"key-{sha256(envelope.key.encode()).hexdigest()[:40]}"
        payload = envelope.payload
        options: dict[str, Any] = {
            "jobId": id,
            "timestamp": round(envelope.created * 1000),
            "delay": max(0, round((envelope.due - envelope.created) * 1000)),
            "priority": 1001 - envelope.priority,  # BullMQ's first is 1
            "attempts": envelope.max_attempts,
            "removeOnComplete": {"age": self._keep},
            "removeOnFail": False,
            "seatrace": replace(envelope, payload="").to_json(),
        }
        async with self._line(queue) as line:
            await line.queue.add(envelope.task, payload if payload.startswith(SEALED) else json.loads(payload), options)
            self._news.tell(queue)
            if envelope.key is None:
                return id, True
            kept = json.loads(await self._connection().hget(line.key(id), "opts") or "{}")
            return id, json.loads(kept.get("seatrace", "{}")).get("id") == envelope.id

    # --- working ------------------------------------------------------------------------------------------------------

    async def take(self, queue: str, most: int, lease: float, wait: float) -> list[Delivery]:
        loop, nudges = asyncio.get_running_loop(), self._nudges.count(queue)
        deadline = loop.time() + wait
        while True:
            found: list[Delivery] = []
            async with self._line(queue) as line:
                await line.check_stalled(min(_CHECK, lease / 3))
                while len(found) < most:
                    delivery = await self._take_one(line, lease)
                    if delivery is None:
                        break
                    found.append(delivery)
            left = deadline - loop.time()
            if found or left <= 0 or self._nudges.count(queue) != nudges:
                return found
            await self._news.wait(queue, min(left, self._poll))
            if self._nudges.count(queue) != nudges:
                return []

    async def _take_one(self, line: _Line, lease: float) -> Delivery | None:
        token = uuid4().hex
        line.worker.opts["lockDuration"] = max(1, round(lease * 1000))
        job = await line.worker.moveToActive(token)
        if job is None:
            return None
        async with self._connection().pipeline(transaction=True) as pipeline:
            pipeline.hincrby(line.key(job.id), "seatrace:fence", 1)
            pipeline.hgetall(line.key(job.id))
            pipeline.hset(line.key(job.id), "seatrace:stalls", str(job.stalledCounter))
            fence, raw, _ = await pipeline.execute()
        envelope = _envelope(job, raw)
        bills = _bills(raw)
        return Delivery(
            envelope,
            token,
            fence,
            job.attemptsStarted - int(raw.get("seatrace:released", 0)),
            waited=max(0.0, time.time() - float(raw.get("seatrace:due", envelope.due))),
            redelivered=job.stalledCounter > int(raw.get("seatrace:stalls", 0)),
            cancelled=raw.get("seatrace:cancelled") == "1",
            cost=sum(bill.cost for bill in bills) if bills else None,
            handle=job,
        )

    def nudge(self, queue: str) -> None:
        self._nudges.add(queue)
        self._news.tell(queue)

    async def renew(self, queue: str, held: Sequence[tuple[Delivery, float | None]], lease: float) -> Renewal:
        renewal = Renewal()
        async with self._line(queue) as line:
            for delivery, cost in held:
                id = delivery.envelope.id
                await self._bill(line, delivery, cost)
                if not await line.worker.backend.extendLock(id, delivery.token, max(1, round(lease * 1000))):
                    renewal.lost.append(delivery)
                elif await self._connection().hget(line.key(id), "seatrace:cancelled") == "1":
                    renewal.cancelled.append(delivery)
        return renewal

    async def settle(self, queue: str, delivery: Delivery, verdict: Verdict) -> bool:
        id, token, job = delivery.envelope.id, delivery.token, delivery.handle
        async with self._line(queue) as line:
            await self._bill(line, delivery, verdict.cost)
            if not await self._connection().eval(_MARK, 2, f"{line.key(id)}:lock", line.key(id), token):
                # Gone to another worker; or this is the second try of a word whose answer was lost.
                last = await self._connection().hget(line.key(id), "seatrace:settling")
                return bool(last == token and await job.getState() != "active")
            try:
                await self._say(line, job, token, verdict)
            except TypeError:  # BullMQ's word for a lock that is not ours any more
                return False
        self._settled.tell(id)
        return True

    async def _say(self, line: _Line, job: Any, token: str, verdict: Verdict) -> None:
        fields = {"seatrace:due": repr(time.time() + verdict.delay)}
        if verdict.outcome == "cancelled":
            fields["seatrace:cancelled"] = "1"
        await self._connection().hset(line.key(job.id), mapping=fields)
        if verdict.outcome in ("completed", "cancelled"):
            result = verdict.result
            value = result if result is not None and result.startswith(SEALED) else json.loads(result or "null")
            await job.moveToCompleted(value, token, False)
        elif verdict.outcome == "dead_letter":
            job.discarded = True
            await job.moveToFailed(verdict.error or "", token, False)
        else:
            if verdict.outcome == "released":
                await self._connection().hincrby(line.key(job.id), "seatrace:released", 1)
            now = round(time.time() * 1000)
            more: dict[str, Any] = {"skipAttempt": verdict.outcome == "released"}
            if verdict.error is not None:
                more["fieldsToUpdate"] = {"failedReason": verdict.error}
            await line.worker.backend.moveToDelayed(job.id, now, round(verdict.delay * 1000), token, more)

    async def _bill(self, line: _Line, delivery: Delivery, cost: float | None) -> None:
        """One bill a delivery, whatever is noted how often."""
        if cost is not None:
            key = line.key(delivery.envelope.id)
            await self._connection().eval(_BILL, 1, key, f"seatrace:bill:{delivery.fence}", repr(cost))

    async def tend(self, queue: str, lease: float) -> None:
        async with self._line(queue) as line:
            await line.check_stalled(min(_CHECK, lease / 3))

    # --- asking -------------------------------------------------------------------------------------------------------

    async def look(self, queue: str, id: str) -> JobState | None:
        async with self._line(queue) as line:
            state = await line.queue.backend.getState(id)  # first: what is final then stands in the hash
            raw = await self._connection().hgetall(line.key(id))
            if "name" not in raw:
                return None
        cancelled = state == "completed" and raw.get("seatrace:cancelled") == "1"
        result = raw.get("returnvalue")
        return JobState(
            id,
            raw["name"],
            "cancelled" if cancelled else _STATUS.get(state, "waiting"),
            int(raw.get("ats", 0)) - int(raw.get("seatrace:released", 0)),
            _text(json.loads(result)) if result else None,
            raw.get("failedReason"),
            tuple(_bills(raw)),
            _text(json.loads(raw.get("data", "null"))),
        )

    async def changed(self, queue: str, id: str, wait: float) -> None:
        await self._settled.wait(id, min(wait, self._poll))

    async def cancel(self, queue: str, id: str) -> bool:
        """A job that waits is marked, and ends as cancelled when a worker takes it."""
        state = await self.look(queue, id)
        if state is None or state.status not in ("waiting", "delayed", "active"):
            return False
        async with self._line(queue) as line:
            await self._connection().hset(line.key(id), "seatrace:cancelled", "1")
        return True

    async def dead(self, queue: str, limit: int) -> list[JobState]:
        async with self._line(queue) as line:
            ids = await self._connection().zrevrange(line.key("failed"), 0, limit - 1)
        states = [await self.look(queue, id) for id in ids]
        return [state for state in states if state is not None]

    async def requeue(self, queue: str, id: str) -> bool:
        from bullmq import Job

        async with self._line(queue) as line:
            job = await Job.fromId(line.queue, id)
            if job is None or await job.getState() != "failed":
                return False
            await self._connection().hdel(line.key(id), "seatrace:released", "seatrace:cancelled")
            await self._connection().hset(line.key(id), "seatrace:due", repr(time.time()))
            try:
                await job.retry("failed", {"resetAttemptsMade": True, "resetAttemptsStarted": True})
            except TypeError:  # somebody else was faster
                return False
        self._news.tell(queue)
        return True

    async def counts(self, queue: str) -> Counts:
        async with self._line(queue) as line:
            async with self._connection().pipeline(transaction=False) as pipeline:
                pipeline.llen(line.key("wait"))
                pipeline.zcard(line.key("prioritized"))
                pipeline.zcard(line.key("delayed"))
                pipeline.llen(line.key("active"))
                pipeline.zcard(line.key("failed"))
                waiting, prioritized, delayed, active, failed = await pipeline.execute()
        return Counts(waiting + prioritized, delayed, active, failed)

    # --- Redis --------------------------------------------------------------------------------------------------------

    def _connection(self) -> Any:
        if self._redis is None:
            from redis.asyncio import Redis

            self._redis = Redis.from_url(self._url, decode_responses=True, socket_connect_timeout=5, socket_timeout=30)
        return self._redis

    @asynccontextmanager
    async def _line(self, queue: str) -> AsyncIterator[_Line]:
        from redis.exceptions import RedisError

        try:
            line = self._lines.get(queue)
            if line is None:
                line = self._lines[queue] = _Line(queue, self._prefix, self._connection())
            yield line
        except (RedisError, OSError) as error:
            raise QueueUnavailable(f"BullMQ's Redis cannot be reached: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        redis = self._redis
        self._begin()
        if redis is not None:
            await redis.aclose()


class _Line:
    """One queue of BullMQ: its producer, and a worker that is asked for jobs one by one."""

    def __init__(self, name: str, prefix: str, redis: Any) -> None:
        from bullmq import Queue, Worker

        # A client of ours: that of BullMQ tries twenty times, for minutes, before it says that Redis is away.
        options: Any = {"connection": redis, "prefix": prefix}
        nothing: Any = None
        self.queue: Any = Queue(name, options)
        self.worker: Any = Worker(name, nothing, {**options, "autorun": False})
        self._checked = float("-inf")

    def key(self, id: str) -> str:
        """The Redis key of a job, or of a set of jobs."""
        return str(self.queue.toKey(id))

    async def check_stalled(self, pause: float) -> None:
        now = time.monotonic()
        if now - self._checked >= pause:
            self._checked = now
            await self.worker.backend.moveStalledJobsToWait(_NEVER, max(1, round(pause * 1000)))


def _envelope(job: Any, raw: Mapping[str, str]) -> Envelope:
    """The envelope that ``put`` stored; for a job of another program, what BullMQ says of it."""
    payload = _text(job.data)
    stored = job.opts.get("seatrace")
    if stored:
        return replace(Envelope.from_json(stored), id=job.id, payload=payload)
    created = job.timestamp / 1000
    backoff = job.opts.get("backoff")
    pause = backoff.get("delay", 0) / 1000 if isinstance(backoff, dict) else 0.0
    return Envelope(
        job.id,
        job.name or "",
        payload,
        created,
        created + float(raw.get("delay", 0)) / 1000,
        max_attempts=max(1, job.attempts or 1),
        backoff=Backoff(base=pause),
    )


def _text(value: Any) -> str:
    sealed = isinstance(value, str) and value.startswith(SEALED)
    return value if sealed else json.dumps(value, separators=(",", ":"))


def _bills(raw: Mapping[str, str]) -> list[Bill]:
    found = ((name.rpartition(":")[2], cost) for name, cost in raw.items() if name.startswith("seatrace:bill:"))
    return sorted((Bill(int(fence), float(cost)) for fence, cost in found), key=lambda bill: bill.fence)
