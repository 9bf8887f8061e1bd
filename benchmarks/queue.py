"""Jobs a second through seatrace's queue over taskiq, beside bare taskiq on the same Redis, in one interleaved run.

    python -m benchmarks.queue [--jobs 500] [--rounds 15] [--check]

Each round sends the same jobs (500 bytes), ten at a time, and then has them done by one worker, ten at a time, first
with one contender, then with the other, in turns. Both use Redis streams, acknowledge, and store every result; bare
taskiq keeps no lease, no attempts, no idempotency and no dead letters beside. SQLite and memory are measured for
comparison, without a bound. Of each contender its median round counts. ``--check`` exits 1 where the whole 95 %
interval of the ratio is below its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from benchmarks._gauge import Sample, interval
from benchmarks._table import table
from seatrace.runtime import Attempt, Queue, TaskiqBackend, Worker

BOUND = 0.8
"""Jobs a second of seatrace's queue, as part of bare taskiq's."""

CONCURRENCY = 10
PAYLOAD = {"text": "x" * 480}

Times = tuple[float, float]
"""Seconds to send all jobs, and to have them done."""


async def ten_at_a_time(send: Callable[[], Coroutine[Any, Any, Any]], jobs: int) -> None:
    left = iter(range(jobs))

    async def sender() -> None:
        for _ in left:
            await send()

    await asyncio.gather(*(sender() for _ in range(CONCURRENCY)))


async def bare(url: str, jobs: int) -> Times:
    from taskiq.receiver import Receiver
    from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

    results: Any = RedisAsyncResultBackend(url, result_ex_time=3600)
    broker = RedisStreamBroker(url, queue_name=f"bare-{uuid4().hex}").with_result_backend(results)
    done = asyncio.Event()
    left = jobs

    @broker.task(task_name="work")
    async def work(payload: Any) -> str:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        return "done"

    await broker.startup()
    started = time.perf_counter()
    await ten_at_a_time(lambda: work.kiq(PAYLOAD), jobs)
    sent = time.perf_counter()
    finish = asyncio.Event()
    receiver = Receiver(broker, max_async_tasks=CONCURRENCY, run_startup=False)
    listening = asyncio.create_task(receiver.listen(finish))
    await done.wait()
    ended = time.perf_counter()
    finish.set()
    await listening
    await broker.shutdown()
    return sent - started, ended - sent


async def queue_of(backend: Any, jobs: int) -> Times:
    queue = Queue("bench", backend)
    done = asyncio.Event()
    left = jobs

    async def work(attempt: Attempt) -> str:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        return "done"

    await queue.counts()
    started = time.perf_counter()
    await ten_at_a_time(lambda: queue.enqueue("work", PAYLOAD), jobs)
    sent = time.perf_counter()
    async with Worker(queue, work, concurrency=CONCURRENCY):
        await done.wait()
        ended = time.perf_counter()
    await queue.close()
    return sent - started, ended - sent


async def over_taskiq(url: str, jobs: int) -> Times:
    from taskiq_redis import RedisStreamBroker

    name = f"ours-{uuid4().hex}"
    return await queue_of(TaskiqBackend(lambda: RedisStreamBroker(url, queue_name=name), ledger=url), jobs)


@contextmanager
def redis_server() -> Iterator[str | None]:
    """A Redis on a free port; ``None`` where there is no redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                wait_for(port)
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                server.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("redis-server does not answer")


def measure(contenders: dict[str, Callable[[], Awaitable[Times]]], rounds: int) -> dict[str, list[Times]]:
    """The times of each contender in each round, the order turned from round to round."""
    times: dict[str, list[Times]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        names = list(contenders)
        for name in names[number % len(names) :] + names[: number % len(names)]:

            async def once(name: str = name) -> Times:
                return await contenders[name]()

            found = asyncio.run(once())
            if number:  # the first round warms up
                times[name].append(found)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    jobs = options.jobs
    with redis_server() as url, tempfile.TemporaryDirectory() as folder:
        contenders: dict[str, Callable[[], Awaitable[Times]]] = {}
        if url is not None:
            contenders["bare taskiq, Redis streams"] = lambda: bare(url, jobs)
            contenders["seatrace over taskiq, Redis streams"] = lambda: over_taskiq(url, jobs)
        contenders["seatrace, SQLite"] = lambda: queue_of(f"sqlite:///{Path(folder, uuid4().hex)}.db", jobs)
        contenders["seatrace, memory"] = lambda: queue_of("memory://", jobs)
        times = measure(contenders, options.rounds)
    rows = [
        [name, *(f"{jobs / median(part):,.0f}" for part in (*zip(*found, strict=True), map(sum, found)))]
        for name, found in times.items()
    ]
    print(table(["jobs a second (median round)", "sent", "done", "both"], rows))
    if url is None:
        print("\nredis-server is not installed: nothing is compared")
        return 0
    theirs, ours, *_ = times.values()
    sample = [(sum(bare), sum(seatrace)) for bare, seatrace in zip(theirs, ours, strict=True)]
    low, high = interval(sample, ratio)
    print(
        f"\nseatrace / bare taskiq, sent and done: {ratio(sample):.2f}, 95 %: {low:.2f} to {high:.2f} (bound {BOUND})"
    )
    return int(options.check and high < BOUND)


def ratio(sample: Sample) -> float:
    """Jobs a second of ours to theirs, of rounds ``(seconds theirs took, seconds ours took)``."""
    return median(row[0] for row in sample) / median(row[1] for row in sample)


if __name__ == "__main__":
    sys.exit(main())
