"""Queues in memory."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from seatrace.errors import ConfigError
from seatrace.runtime import Attempt, Backoff, Queue, QueueError, QueueFull, SqliteBackend, Worker
from seatrace.runtime.jobs.backend import Backend

from .contract import PATIENCE, QueueContract, echo


class TestMemory(QueueContract):
    system = "memory"

    @pytest.fixture(autouse=True)
    def _one_backend(self) -> None:
        self.backend = SqliteBackend(None, poll=0.02)

    def make_backend(self) -> Backend:
        return self.backend  # what is in memory is shared as an object


async def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    queue = Queue("small", SqliteBackend(None, max_jobs=2))
    jobs = [await queue.enqueue("echo", number) for number in range(2)]
    with pytest.raises(QueueFull, match="holds 2 jobs"):
        await queue.enqueue("echo", 2)
    await Worker(queue, echo).run(until_empty=True)
    assert [await job.result(PATIENCE) for job in jobs] == [0, 1]
    await queue.close()


async def test_results_are_kept_for_a_while_and_no_longer() -> None:
    now = [1000.0]

    def clock() -> float:
        return now[0]

    queue = Queue("kept", SqliteBackend(None, keep_results=60, clock=clock, steady=clock), clock=clock)
    job = await queue.enqueue("echo", 1, idempotency_key="k")
    await Worker(queue, echo).run(until_empty=True)
    for passed, kept in ((59, True), (2, False)):
        now[0] += passed
        await queue.engine.call(queue.backend.tend("kept", 1.0))
        assert (await queue.engine.call(queue.backend.look("kept", job.id)) is not None) is kept
    again = await queue.enqueue("echo", 1, idempotency_key="k")
    assert again.id != job.id
    await queue.close()


async def test_two_queues_in_one_store_do_not_mix() -> None:
    backend = SqliteBackend(None)
    one, two = Queue("one", backend), Queue("two", backend)
    first = await one.enqueue("echo", 1, idempotency_key="k")
    second = await two.enqueue("echo", 2, idempotency_key="k")
    await Worker(two, echo).run(until_empty=True)
    assert (await second.state()).status == "completed"
    assert (await first.state()).status == "waiting"
    await one.close()


def test_many_threads_queue_at_once() -> None:
    queue = Queue("threads")
    ids: list[str] = []

    def send() -> None:
        ids.extend(queue.enqueue_sync("echo", number).id for number in range(50))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 200
    assert queue.counts_sync().waiting == 200
    queue.close_sync()


def test_no_thread_runs_before_a_queue_is_used() -> None:
    before = threading.active_count()
    queue = Queue("lazy")
    Worker(queue, echo)
    assert threading.active_count() == before
    queue.enqueue_sync("echo")
    assert threading.active_count() == before + 1
    queue.close_sync()
    assert threading.active_count() == before


def test_a_closed_queue_opens_again() -> None:
    queue = Queue("again")
    queue.close_sync()
    queue.enqueue_sync("echo")
    queue.close_sync()
    assert queue.counts_sync().waiting == 0  # memory ends with its queue
    queue.close_sync()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_starts_with_an_empty_memory() -> None:
    queue = Queue("forked")
    queue.enqueue_sync("echo", "the parent's")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            empty = queue.counts_sync().waiting == 0
            job = queue.enqueue_sync("echo", "the child's")
            Worker(queue, echo).run_sync(until_empty=True)
            code = 0 if empty and job.result_sync(PATIENCE) == "the child's" else 1
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert queue.counts_sync().waiting == 1
    queue.close_sync()


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"lease": 0}, {"lease": float("nan")}, {"max_cost_per_job": -1}, {"drain_timeout": -1}],
    ids=str,
)
def test_a_worker_without_sense_is_refused(options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Worker(Queue("q"), echo, **options)


@pytest.mark.parametrize("handler", [None, "echo", {"echo": 1}])
def test_a_handler_is_a_function_or_functions_by_task(handler: Any) -> None:
    with pytest.raises(ConfigError, match="handler"):
        Worker(Queue("q"), handler)


@pytest.mark.parametrize("url", ["redis://localhost", "memory", "memory://x", "sqlite://", "sqlite:///", "file.db"])
def test_an_address_that_names_no_backend_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected memory://, sqlite:///"):
        Queue("q", url)


@pytest.mark.parametrize("name", ["", "a:b"])
def test_a_queue_has_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        Queue(name)


@pytest.mark.parametrize("options", [{"base": -1}, {"factor": 0.5}, {"max": float("nan")}, {"jitter": 1.5}], ids=str)
def test_a_backoff_without_sense_is_refused(options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Backoff(**options)


def test_pauses_grow_up_to_the_most_with_jitter() -> None:
    from random import Random

    backoff = Backoff(base=1, factor=2, max=10, jitter=0.5)
    pauses = [[backoff.after(attempt, Random(seed)) for seed in range(200)] for attempt in range(1, 7)]
    for whole, drawn in zip((1, 2, 4, 8, 10, 10), pauses, strict=True):
        assert whole / 2 <= min(drawn) < whole * 0.6
        assert whole * 0.9 < max(drawn) <= whole
    assert Backoff(jitter=0).after(10_000, Random(1)) == 300


async def test_a_worker_runs_once_at_a_time() -> None:
    queue = Queue("q")
    async with Worker(queue, echo) as worker:
        with pytest.raises(QueueError, match="runs already"):
            await worker.run()
    await queue.close()


async def test_a_handler_adds_only_costs_that_make_sense() -> None:
    queue = Queue("q")
    errors: list[str] = []

    async def work(attempt: Attempt) -> None:
        for usd in (-1.0, float("nan")):
            with pytest.raises(ConfigError, match="usd"):
                attempt.add_cost(usd)
            errors.append(attempt.id)

    await queue.enqueue("work", max_attempts=1)
    await Worker(queue, work).run(until_empty=True)
    assert len(errors) == 2
    await queue.close()
