"""Queues over taskiq, with a ledger in Redis."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("taskiq_redis", reason="taskiq_redis is not installed beside this")

import redis
from taskiq import InMemoryBroker, TaskiqMessage
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from seatrace.errors import ConfigError
from seatrace.runtime import Attempt, Queue, QueueFull, TaskiqBackend, Worker
from seatrace.runtime.jobs.backend import Backend

from .contract import PATIENCE, QueueContract, echo, take, until
from .redis_contract import RedisContract
from .redis_server import RedisServer

_numbers = itertools.count()


class TestTaskiqStreams(QueueContract):
    system = "taskiq"
    knows_priorities = False  # Redis streams have none

    @pytest.fixture(autouse=True)
    def _stream(self, redis_url: str) -> None:
        self.redis = f"{redis_url[:-1]}{next(_numbers) % 15}"
        self.name = f"stream-{next(_numbers)}"
        flush(self.redis)

    def make_backend(self) -> Backend:
        return TaskiqBackend(
            lambda: RedisStreamBroker(self.redis, queue_name=self.name, xread_block=100), ledger=self.redis, poll=0.02
        )


class TestTaskiqsRedis(RedisContract):
    put_word = b"EVALSHA"
    settle_word = b"completed"

    def make_backend_at(self, url: str) -> Backend:
        return TaskiqBackend(lambda: RedisStreamBroker(url, xread_block=100), ledger=url, poll=0.02)


def flush(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushdb()


@pytest.fixture
def empty_redis(redis_url: str) -> str:
    flush(redis_url)
    return redis_url


async def test_a_broker_without_acknowledgement_loses_no_job_either(empty_redis: str) -> None:
    """With bare taskiq, what a killed worker had taken from a Redis list is gone."""
    queue = Queue("agents", TaskiqBackend(lambda: ListQueueBroker(empty_redis), ledger=empty_redis, poll=0.02))
    job = await queue.enqueue("echo", 1)
    await take(queue, lease=0.1)
    async with Worker(queue, echo):
        assert await job.result(PATIENCE) == 1
    assert (await job.state()).attempts == 2
    await queue.close()


async def test_a_job_whose_message_was_lost_is_done(empty_redis: str) -> None:
    queue = Queue("agents", TaskiqBackend(lambda: RedisStreamBroker(empty_redis), ledger=empty_redis, poll=0.02))
    job = await queue.enqueue("echo", 1)
    with redis.Redis.from_url(empty_redis) as client:
        await until(lambda: client.xlen("taskiq"))
        client.xtrim("taskiq", maxlen=0)
    async with Worker(queue, echo):
        assert await job.result(PATIENCE) == 1
    await queue.close()


async def test_a_message_that_comes_twice_is_one_job(empty_redis: str) -> None:
    queue = Queue("agents", TaskiqBackend(lambda: RedisStreamBroker(empty_redis), ledger=empty_redis, poll=0.02))
    runs: list[str] = []

    async def work(attempt: Attempt) -> None:
        runs.append(attempt.id)

    job = await queue.enqueue("work")
    with redis.Redis.from_url(empty_redis) as client:
        await until(lambda: client.xlen("taskiq"))
        [(_, fields)] = client.xrange("taskiq")
        for _ in range(3):
            client.xadd("taskiq", fields)
    await Worker(queue, work).run(until_empty=True)
    assert runs == [job.id]
    await queue.close()


async def test_messages_hold_no_payload_and_are_acknowledged(empty_redis: str) -> None:
    queue = Queue("agents", TaskiqBackend(lambda: RedisStreamBroker(empty_redis), ledger=empty_redis, poll=0.02))
    job = await queue.enqueue("echo", {"secret": "hunter2"})
    with redis.Redis.from_url(empty_redis) as client:
        await until(lambda: client.xlen("taskiq"))
        [(_, fields)] = client.xrange("taskiq")
        assert b"hunter2" not in fields[b"data"]
        assert job.id.encode() in fields[b"data"]
        async with Worker(queue, echo):
            await job.result(PATIENCE)
            await until(lambda: client.xpending("taskiq", "taskiq")["pending"] == 0)
    await queue.close()


async def test_a_broker_that_is_away_makes_jobs_late_and_loses_none(
    empty_redis: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path)
    queue = Queue("agents", TaskiqBackend(lambda: RedisStreamBroker(server.url), ledger=empty_redis, poll=0.02))
    job = await queue.enqueue("echo", 1)
    async with Worker(queue, echo):
        assert await job.result(PATIENCE) == 1
    assert "the taskiq broker" in caplog.text
    await queue.close()


async def test_messages_of_others_are_left_alone(empty_redis: str, caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue("agents", TaskiqBackend(lambda: RedisStreamBroker(empty_redis), ledger=empty_redis, poll=0.02))
    job = await queue.enqueue("echo", 1)
    with redis.Redis.from_url(empty_redis) as client:
        await until(lambda: client.xlen("taskiq"))
        client.xadd("taskiq", {"data": b"no message"})
        client.xadd(
            "taskiq",
            {"data": TaskiqMessage(task_id="x", task_name="other", labels={}, args=[], kwargs={}).model_dump_json()},
        )
        async with Worker(queue, echo):
            assert await job.result(PATIENCE) == 1
            await until(lambda: "'other' is none of seatrace's" in caplog.text)
    assert "cannot be read" in caplog.text
    await queue.close()


async def test_a_full_queue_refuses(empty_redis: str) -> None:
    queue = Queue("agents", TaskiqBackend(lambda: RedisStreamBroker(empty_redis), ledger=empty_redis, max_jobs=2))
    for number in range(2):
        await queue.enqueue("echo", number)
    with pytest.raises(QueueFull, match="holds 2 jobs"):
        await queue.enqueue("echo", 2)
    await queue.close()


async def test_results_end_with_their_time(empty_redis: str) -> None:
    queue = Queue(
        "agents",
        TaskiqBackend(lambda: RedisStreamBroker(empty_redis), ledger=empty_redis, keep_results=1000.0, poll=0.02),
    )
    job = await queue.enqueue("echo", 1, idempotency_key="k")
    dead = await queue.enqueue("other", max_attempts=1)
    await Worker(queue, {"echo": echo}).run(until_empty=True)
    with redis.Redis.from_url(empty_redis) as client:
        prefix = "seatrace:{agents}:"
        assert 0 < client.pttl(f"{prefix}job:{job.id}") <= 1_000_000
        assert 0 < client.pttl(f"{prefix}key:k") <= 1_000_000
        assert client.pttl(f"{prefix}job:{dead.id}") == -1
    await queue.close()


@pytest.mark.parametrize("broker", [InMemoryBroker(), None, "redis://localhost"], ids=["in memory", "none", "text"])
def test_what_is_no_broker_for_many_processes_is_refused(broker: Any) -> None:
    with pytest.raises(ConfigError, match="expected a taskiq broker"):
        TaskiqBackend(broker, ledger="redis://localhost")


def test_a_broker_may_be_given_as_it_is(empty_redis: str) -> None:
    queue = Queue("agents", TaskiqBackend(RedisStreamBroker(empty_redis), ledger=empty_redis, poll=0.02))
    job = queue.enqueue_sync("echo", 1)
    Worker(queue, echo).run_sync(until_empty=True)
    assert job.result_sync(PATIENCE) == 1
    queue.close_sync()
