"""Queues over taskiq, with a ledger in Redis."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

pytest.importorskip("taskiq_redis", reason="taskiq_redis is not installed beside this")

from taskiq_redis import RedisStreamBroker

from seatrace.runtime.jobs.backend import Backend
from seatrace.runtime.jobs.taskiq import TaskiqBackend

from .contract import QueueContract

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


def flush(url: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushdb()


@pytest.fixture
def streams(redis_url: str) -> Any:
    flush(redis_url)
    return lambda: RedisStreamBroker(redis_url, xread_block=100)
