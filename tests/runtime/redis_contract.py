"""What holds for queues whose jobs are in Redis, when that is cut off, restarted or away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from seatrace.runtime import Attempt, Queue, QueueUnavailable, Worker
from seatrace.runtime.jobs.backend import Backend
from seatrace.runtime.jobs.record import Verdict

from .contract import PATIENCE, echo, settle, take, until
from .cut_proxy import cut_proxy
from .redis_server import RedisServer


class RedisContract:
    """Tests for every backend with Redis below."""

    put_word: bytes
    settle_word: bytes

    def make_backend_at(self, url: str) -> Backend:
        raise NotImplementedError

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[RedisServer]:
        server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
        server.start()
        yield server
        server.stop()

    async def test_a_job_whose_answer_was_lost_is_queued_once(self, server: RedisServer) -> None:
        with cut_proxy(server.port) as proxy:
            queue = Queue("agents", self.make_backend_at(f"redis://127.0.0.1:{proxy.port}/0"))
            await queue.counts()
            proxy.cut(self.put_word)
            try:
                await queue.enqueue("echo", 1, idempotency_key="k")
            except QueueUnavailable:
                pass
            assert proxy.left == 0
            job = await queue.enqueue("echo", 1, idempotency_key="k")
            counts = await queue.counts()
            assert counts.waiting + counts.delayed == 1
            async with Worker(queue, echo):
                assert await job.result(PATIENCE) == 1
            await queue.close()

    async def test_a_verdict_whose_answer_was_lost_counts_once(self, server: RedisServer) -> None:
        with cut_proxy(server.port) as proxy:
            queue = Queue("agents", self.make_backend_at(f"redis://127.0.0.1:{proxy.port}/0"))
            runs: list[int] = []

            async def work(attempt: Attempt) -> str:
                runs.append(attempt.number)
                attempt.add_cost(0.5)
                proxy.cut(self.settle_word)
                return "done"

            async with Worker(queue, work):
                job = await queue.enqueue("work")
                assert await job.result(PATIENCE) == "done"
            assert proxy.left == 0
            assert runs == [1]
            assert [bill.cost for bill in (await job.state()).bills] == [0.5]
            await queue.close()

    async def test_a_result_outlives_a_redis_that_is_away_when_it_comes(self, server: RedisServer) -> None:
        queue = Queue("agents", self.make_backend_at(server.url))
        runs: list[int] = []

        async def work(attempt: Attempt) -> str:
            runs.append(attempt.number)
            await asyncio.to_thread(server.stop)
            return "done"

        worker = Worker(queue, work)
        async with worker:
            job = await queue.enqueue("work")
            await until(lambda: runs)
            await until(lambda: worker.told_unavailable)
            await asyncio.to_thread(server.start)
            while True:
                try:
                    assert await job.result(PATIENCE) == "done"
                    break
                except QueueUnavailable:
                    await asyncio.sleep(0.05)
        assert runs == [1]
        await queue.close()

    async def test_a_redis_that_is_away_is_an_error_and_not_a_wait(self, server: RedisServer) -> None:
        server.stop()
        queue = Queue("agents", self.make_backend_at(server.url))
        with pytest.raises(QueueUnavailable):
            await queue.enqueue("echo", 1)
        with pytest.raises(QueueUnavailable):
            await queue.job("x").result(1)
        await queue.close()

    async def test_jobs_survive_a_redis_that_is_killed_and_forgets_its_scripts(self, server: RedisServer) -> None:
        queue = Queue("agents", self.make_backend_at(server.url))
        job = await queue.enqueue("echo", 1)
        delivery = await take(queue)
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        while True:
            try:
                assert await settle(queue, delivery, Verdict("completed", result="7"))
                break
            except QueueUnavailable:
                await asyncio.sleep(0.05)
        assert await job.result(PATIENCE) == 7
        later = await queue.enqueue("echo", 2)
        async with Worker(queue, echo):
            assert await later.result(PATIENCE) == 2
        await queue.close()

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    def test_a_forked_child_has_connections_of_its_own(self, server: RedisServer) -> None:
        queue = Queue("agents", self.make_backend_at(server.url))
        job = queue.enqueue_sync("echo", 1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                Worker(queue, echo).run_sync(until_empty=True)
                queue.close_sync()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert job.result_sync(PATIENCE) == 1
        queue.close_sync()
