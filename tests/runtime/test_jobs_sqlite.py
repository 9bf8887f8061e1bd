"""Queues in SQLite files: what a crash, a second process and a set clock do to them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from seatrace.runtime import Queue, QueueUnavailable, SqliteBackend, Worker
from seatrace.runtime.jobs.backend import Backend
from seatrace.runtime.jobs.record import Delivery, Verdict

from .contract import PATIENCE, QueueContract, echo, take, until

ROOT = Path(__file__).parents[2]


class TestSqlite(QueueContract):
    system = "sqlite"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = str(tmp_path / "jobs.db")

    def make_backend(self) -> Backend:
        return SqliteBackend(self.path, poll=0.02)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


def test_jobs_survive_a_restart(path: str) -> None:
    queue = Queue("agents", f"sqlite:///{path}")
    waiting = queue.enqueue_sync("echo", "waiting")
    delayed = queue.enqueue_sync("echo", "delayed", delay=0.05)
    queue.close_sync()
    again = Queue("agents", f"sqlite:///{path}")
    Worker(again, echo).run_sync(until_empty=True)
    assert again.job(waiting.id).result_sync(PATIENCE) == "waiting"
    assert again.job(delayed.id).result_sync(PATIENCE) == "delayed"
    again.close_sync()


def test_a_thousand_jobs_survive_workers_that_are_killed(path: str) -> None:
    """Each job is done, those that were under way when a worker was killed are done again, and every attempt has one
    bill: that of a killed one, too."""
    queue = Queue("agents", f"sqlite:///{path}")
    killers = {100, 400, 700}
    jobs = [queue.enqueue_sync("work", {"number": number, "kills": number in killers}) for number in range(1000)]
    deaths = 0
    for _ in range(10):
        workers = [
            subprocess.Popen([sys.executable, "-m", "tests.runtime.killed_worker", path], cwd=ROOT) for _ in range(2)
        ]
        codes = [worker.wait(120) for worker in workers]
        deaths += sum(code == -9 for code in codes)
        assert set(codes) <= {0, -9}
        if 0 in codes:
            break
    assert 1 <= deaths <= len(killers)  # one death may take two of them
    states = [job.state_sync() for job in jobs]
    assert [job.result_sync(0) for job in jobs] == list(range(1000))
    for number, state in enumerate(states):
        assert state.attempts >= (2 if number in killers else 1)
        assert len({bill.fence for bill in state.bills}) == len(state.bills) <= state.attempts
        assert {bill.cost for bill in state.bills} == {0.01}
    assert sum(len(states[number].bills) == 2 for number in killers) >= deaths
    counts = queue.counts_sync()
    assert (counts.waiting, counts.delayed, counts.active, counts.dead) == (0, 0, 0, 0)
    queue.close_sync()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_works_on_the_same_file(path: str) -> None:
    queue = Queue("agents", f"sqlite:///{path}")
    job = queue.enqueue_sync("echo", 1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            Worker(queue, echo).run_sync(until_empty=True)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert job.result_sync(PATIENCE) == 1
    queue.close_sync()


async def test_a_store_that_is_away_says_so_and_comes_back(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    queue = Queue("agents", f"sqlite:///{folder}/jobs.db")
    with pytest.raises(QueueUnavailable, match="cannot be reached"):
        await queue.enqueue("echo", 1)
    folder.mkdir()
    job = await queue.enqueue("echo", 1)
    async with Worker(queue, echo):
        assert await job.result(PATIENCE) == 1
    await queue.close()


async def test_a_worker_outlives_a_store_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "mount"
    queue = Queue("agents", f"sqlite:///{folder}/jobs.db")
    async with Worker(queue, echo):
        await until(lambda: "the worker tries again" in caplog.text)
        folder.mkdir()
        job = await queue.enqueue("echo", 1)
        assert await job.result(PATIENCE) == 1
    await queue.close()


def test_what_another_process_locks_is_waited_for_and_then_said(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seatrace.runtime.jobs.sqlite._BUSY", 0.05)
    queue = Queue("agents", f"sqlite:///{path}")
    job = queue.enqueue_sync("echo", 1)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(QueueUnavailable, match="locked"):
            queue.enqueue_sync("echo", 2)
        other.rollback()
    assert queue.enqueue_sync("echo", 2).id != job.id
    queue.close_sync()


async def test_a_file_that_is_no_database_is_left_alone(path: str) -> None:
    Path(path).write_bytes(b"something else entirely" * 100)
    queue = Queue("agents", f"sqlite:///{path}")
    with pytest.raises(QueueUnavailable, match="not a database"):
        await queue.enqueue("echo", 1)
    await queue.close()
    assert Path(path).read_bytes() == b"something else entirely" * 100


async def test_a_clock_that_is_set_takes_no_job_from_a_living_worker(path: str) -> None:
    wall, steady = [1_000_000.0], [0.0]
    backend = SqliteBackend(path, clock=lambda: wall[0], steady=lambda: steady[0], poll=0.01)
    queue = Queue("agents", backend, clock=lambda: wall[0])

    async def quick(lease: float) -> Delivery | None:
        return next(iter(await queue.engine.call(backend.take("agents", 1, lease, 0))), None)

    await queue.enqueue("work")
    held = await take(queue, lease=30)
    wall[0] += 3600  # somebody set the clock
    assert await quick(30) is None
    steady[0] += 10
    wall[0] += 10
    renewal = await queue.engine.call(backend.renew("agents", [(held, None)], 30))
    assert renewal.lost == []
    steady[0] += 25
    wall[0] += 25
    assert await quick(30) is None  # renewed by the new time
    steady[0] += 10
    wall[0] += 10
    again = await quick(30)
    assert again is not None
    assert again.redelivered
    wall[0] -= 7200  # and back: what is leased stays leased
    assert await quick(30) is None
    await queue.close()


# --- exactly one settlement, whatever happens in which order ----------------------------------------------------------


class Settlements(RuleBasedStateMachine):
    """A model of a queue beside the queue. Time is a variable, and workers die by not being heard of again."""

    jobs = Bundle("jobs")
    deliveries = Bundle("deliveries")

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000.0
        self.model: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.settled: dict[str, int] = {}
        self.open()

    def open(self) -> None:
        self.queue = Queue(
            "agents",
            SqliteBackend(f"{self.folder.name}/jobs.db", clock=lambda: self.now, steady=lambda: self.now),
            clock=lambda: self.now,
        )
        self.backend = self.queue.backend

    def call(self, work: Any) -> Any:
        return self.queue.engine.call_sync(work)

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.queue.close_sync()
            self.folder.cleanup()

    @rule(target=jobs, key=st.sampled_from([None, None, "a", "b"]), delay=st.sampled_from([0, 0, 5]))
    def send(self, key: str | None, delay: float) -> str:
        id = self.queue.enqueue_sync("work", idempotency_key=key, delay=delay, max_attempts=3).id
        if key is not None:
            assert self.keys.setdefault(key, id) == id
        self.model.setdefault(
            id, {"status": "waiting", "due": self.now + delay, "fence": 0, "until": 0.0, "cancelled": False}
        )
        return id

    @rule(target=deliveries)
    def work(self) -> Delivery | None:
        delivery: Delivery | None = next(iter(self.call(self.backend.take("agents", 1, 10.0, 0.0))), None)
        for job in self.model.values():  # whoever asks for a job notices every lease that ran out
            if job["status"] == "active" and job["until"] <= self.now:
                job.update(status="waiting", due=job["until"], redelivered=True)
        takable = {id for id, job in self.model.items() if job["status"] == "waiting" and job["due"] <= self.now}
        if delivery is None:
            assert not takable
            return None
        job = self.model[delivery.envelope.id]
        assert delivery.envelope.id in takable
        assert delivery.redelivered is job.pop("redelivered", False)
        assert delivery.fence == job["fence"] + 1
        assert delivery.cancelled is job["cancelled"]
        job.update(status="active", fence=delivery.fence, until=self.now + 10.0)
        return delivery

    def holds(self, delivery: Delivery) -> bool:
        job = self.model[delivery.envelope.id]
        return bool(job["status"] == "active" and job["fence"] == delivery.fence)

    @rule(delivery=deliveries)
    def renew(self, delivery: Delivery | None) -> None:
        if delivery is None:
            return
        renewal = self.call(self.backend.renew("agents", [(delivery, 0.5)], 10.0))
        assert bool(renewal.lost) is not self.holds(delivery)
        if self.holds(delivery):
            self.model[delivery.envelope.id]["until"] = self.now + 10.0
            assert bool(renewal.cancelled) is self.model[delivery.envelope.id]["cancelled"]

    @rule(
        delivery=deliveries,
        outcome=st.sampled_from(["completed", "retried", "dead_letter", "cancelled", "released"]),
        delay=st.sampled_from([0, 3]),
    )
    def settle(self, delivery: Delivery | None, outcome: Any, delay: float) -> None:
        if delivery is None:
            return
        id, held = delivery.envelope.id, self.holds(delivery)
        told_already = self.settled.get(id) == delivery.fence
        ok = self.call(self.backend.settle("agents", delivery, Verdict(outcome, delay=delay, cost=1.0)))
        assert ok is (held or told_already)
        if held:
            self.settled[id] = delivery.fence
            status = "waiting" if outcome in ("retried", "released") else outcome
            self.model[id].update(status=status, due=self.now + delay)

    @rule(id=jobs)
    def cancel(self, id: str) -> None:
        job = self.model[id]
        live = job["status"] in ("waiting", "active")
        assert self.call(self.backend.cancel("agents", id)) is live
        if job["status"] == "waiting":
            job["status"] = "cancelled"
        if live:
            job["cancelled"] = True

    @rule(id=jobs)
    def requeue(self, id: str) -> None:
        job = self.model[id]
        dead = job["status"] == "dead_letter"
        assert self.call(self.backend.requeue("agents", id)) is dead
        if dead:
            job.update(status="waiting", due=self.now, cancelled=False)

    @rule(seconds=st.sampled_from([0.5, 4, 11]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.model)
    @rule()
    def restart(self) -> None:
        self.queue.close_sync()
        self.open()

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "queue"):
            return
        for id, job in self.model.items():
            state = self.call(self.backend.look("agents", id))
            status = "waiting" if state.status == "delayed" else state.status
            assert status == job["status"]
            assert len({bill.fence for bill in state.bills}) == len(state.bills) <= job["fence"]
        counts = self.call(self.backend.counts("agents"))
        statuses = [job["status"] for job in self.model.values()]
        assert counts.dead == statuses.count("dead_letter")
        assert counts.waiting + counts.delayed + counts.active == statuses.count("waiting") + statuses.count("active")


TestSettlements = Settlements.TestCase
TestSettlements.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
