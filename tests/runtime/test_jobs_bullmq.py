"""Queues in BullMQ."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("bullmq", reason="bullmq is not installed beside this")

import bullmq

from seatrace.runtime import Attempt, BullmqBackend, Queue, Worker
from seatrace.runtime.jobs.backend import Backend

from .contract import PATIENCE, QueueContract, echo
from .redis_contract import RedisContract

_numbers = itertools.count()


class TestBullmq(QueueContract):
    system = "bullmq"

    @pytest.fixture(autouse=True)
    def _prefix(self, redis_url: str) -> None:
        self.redis = redis_url
        self.prefix = f"bull-{next(_numbers)}"

    def make_backend(self) -> Backend:
        return BullmqBackend(self.redis, prefix=self.prefix, poll=0.02)


class TestBullmqsRedis(RedisContract):
    put_word = b"key-"
    settle_word = b"returnvalue"

    def make_backend_at(self, url: str) -> Backend:
        return BullmqBackend(url, poll=0.02)


@pytest.fixture
async def plain(redis_url: str) -> AsyncIterator[Any]:
    """A queue of BullMQ itself, as other programs have it."""
    queue: Any = bullmq.Queue(f"plain-{next(_numbers)}", {"connection": redis_url})
    yield queue
    await queue.close()


async def test_jobs_of_other_programs_are_done_here(plain: Any, redis_url: str) -> None:
    ours = Queue(plain.name, f"bullmq+{redis_url}")
    seen: list[Any] = []

    async def work(attempt: Attempt) -> Any:
        seen.append((attempt.task, attempt.payload, attempt.number, attempt.max_attempts))
        if attempt.number == 1:
            raise OSError
        return {"ok": True}

    job = await plain.add("summarize", {"url": "https://example.org"}, {"attempts": 2})
    async with Worker(ours, work):
        assert await ours.job(job.id).result(PATIENCE) == {"ok": True}
    assert seen == [("summarize", {"url": "https://example.org"}, number, 2) for number in (1, 2)]
    assert await (await plain.getJob(job.id)).isCompleted()
    await ours.close()


async def test_jobs_from_here_are_ordinary_ones_there(plain: Any, redis_url: str) -> None:
    ours = Queue(plain.name, f"bullmq+{redis_url}")
    job = await ours.enqueue("summarize", {"url": "https://example.org"}, max_attempts=5)
    [found] = await plain.getJobs(["prioritized"])
    assert (found.id, found.name, found.data) == (job.id, "summarize", {"url": "https://example.org"})
    assert found.opts["attempts"] == 5

    async def fails(attempt: Attempt) -> None:
        raise OSError("no")

    dead = await ours.enqueue("other", max_attempts=1)
    await Worker(ours, {"summarize": echo, "other": fails}).run(until_empty=True)
    assert (await plain.getJob(job.id)).returnvalue == {"url": "https://example.org"}
    assert [failed.id for failed in await plain.getFailed()] == [dead.id]
    assert (await plain.getJob(dead.id)).failedReason == "OSError: no"
    await ours.close()
