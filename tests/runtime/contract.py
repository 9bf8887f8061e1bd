"""What holds for queues on every backend. A test file for a backend derives a class and says how to make it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import seatrace
from seatrace.core import context, pipeline
from seatrace.core.record import Call
from seatrace.errors import ConfigError
from seatrace.runtime import (
    Attempt,
    Backoff,
    Discard,
    InvalidPayload,
    JobCancelled,
    JobCostExceeded,
    JobDead,
    JobNotFound,
    Queue,
    ResultTimeout,
    Worker,
    current_attempt,
)
from seatrace.runtime.jobs.backend import Backend
from seatrace.runtime.jobs.record import Delivery, Verdict
from seatrace.testing import capture

AT_ONCE = Backoff(base=0.0)
PATIENCE = 60.0
"""Seconds after which a test gives up; none waits that long."""


async def echo(attempt: Attempt) -> Any:
    return attempt.payload


async def until(condition: Callable[[], Any]) -> None:
    """Waits until ``condition`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.005)


async def take(queue: Queue, lease: float = 30.0) -> Delivery:
    """A job, as a worker takes it that dies before it says a word."""
    [found] = await queue.engine.call(queue.backend.take(queue.name, 1, lease, PATIENCE))
    return found


async def settle(queue: Queue, delivery: Delivery, verdict: Verdict) -> bool:
    return await queue.engine.call(queue.backend.settle(queue.name, delivery, verdict))


def spend(usd: float) -> None:
    """An observed model call that costs ``usd``."""
    line = pipeline.current
    assert line is not None
    call = Call("inference", "chat", request_model="some-model")
    line.begin(call)
    call.reported_cost = usd
    line.end(call)


class QueueContract:
    """Tests for every backend."""

    system: str
    keeps_order = True
    knows_priorities = True

    def make_backend(self) -> Backend:
        """A backend on the same jobs, as another process would make it."""
        raise NotImplementedError

    @pytest.fixture
    async def queue(self) -> AsyncIterator[Queue]:
        queue = Queue("agents", self.make_backend())
        yield queue
        await queue.close()

    # --- results ------------------------------------------------------------------------------------------------------

    async def test_what_the_handler_returns_is_the_result(self, queue: Queue) -> None:
        payload = {"text": "Grüße \u2028 \U0001f600", "numbers": [1, 2.5, None, True], "deep": {"er": []}}
        async with Worker(queue, echo):
            job = await queue.enqueue("echo", payload)
            assert await job.result(PATIENCE) == payload
            state = await job.state()
        assert (state.status, state.attempts, state.task) == ("completed", 1, "echo")

    async def test_plain_functions_work_in_threads(self, queue: Queue) -> None:
        def work(attempt: Attempt) -> Any:
            return [threading.current_thread() is threading.main_thread(), attempt.payload]

        async with Worker(queue, {"work": work}):
            job = await queue.enqueue("work", 7)
            assert await job.result(PATIENCE) == [False, 7]

    async def test_nothing_is_a_payload_and_a_result(self, queue: Queue) -> None:
        async with Worker(queue, echo):
            assert await (await queue.enqueue("echo")).result(PATIENCE) is None

    def test_programs_without_a_loop_queue_and_work(self) -> None:
        queue = Queue("agents", self.make_backend())
        try:
            jobs = [queue.enqueue_sync("echo", number) for number in range(5)]
            Worker(queue, echo, concurrency=2).run_sync(until_empty=True)
            assert [job.result_sync(PATIENCE) for job in jobs] == list(range(5))
            assert jobs[0].state_sync().status == "completed"
            assert queue.dead_letters_sync() == []
            assert queue.counts_sync().waiting == 0
        finally:
            queue.close_sync()

    async def test_another_process_finds_the_job_by_its_id(self, queue: Queue) -> None:
        job = await queue.enqueue("echo", "x")
        async with Worker(queue, echo):
            assert await queue.job(job.id).result(PATIENCE) == "x"

    async def test_a_result_is_waited_for_as_long_as_one_likes(self, queue: Queue) -> None:
        job = await queue.enqueue("echo", "x")
        with pytest.raises(ResultTimeout, match="it goes on"):
            await job.result(0)
        async with Worker(queue, echo):
            assert await job.result() == "x"

    async def test_a_job_that_never_was_is_not_found(self, queue: Queue) -> None:
        with pytest.raises(JobNotFound):
            await queue.job("nowhere").result(0)
        with pytest.raises(JobNotFound):
            await queue.job("nowhere").state()
        assert not await queue.job("nowhere").cancel()
        assert not await queue.requeue("nowhere")

    async def test_many_jobs_are_done_once_each(self, queue: Queue) -> None:
        done: list[int] = []

        async def work(attempt: Attempt) -> None:
            done.append(attempt.payload)

        jobs = await asyncio.gather(*(queue.enqueue("work", number) for number in range(60)))
        workers = [Worker(queue, work, concurrency=4) for _ in range(2)]
        await asyncio.gather(*(worker.run(until_empty=True) for worker in workers))
        assert sorted(done) == list(range(60))
        assert {(await job.state()).status for job in jobs} == {"completed"}

    # --- order --------------------------------------------------------------------------------------------------------

    async def test_jobs_are_done_in_their_order(self, queue: Queue) -> None:
        done: list[int] = []

        async def work(attempt: Attempt) -> None:
            done.append(attempt.payload)

        for number in range(6):
            await queue.enqueue("work", number)
        await Worker(queue, work, concurrency=1).run(until_empty=True)
        assert done == list(range(6))

    async def test_higher_priority_goes_first(self, queue: Queue) -> None:
        if not self.knows_priorities:
            return
        done: list[int] = []

        async def work(attempt: Attempt) -> None:
            done.append(attempt.payload)

        for priority in (-5, 0, 7, 0, 1000):
            await queue.enqueue("work", priority, priority=priority)
        await Worker(queue, work, concurrency=1).run(until_empty=True)
        assert done == [1000, 7, 0, 0, -5]

    async def test_a_delayed_job_waits_for_its_time(self, queue: Queue) -> None:
        began: list[float] = []

        async def work(attempt: Attempt) -> None:
            began.append(time.time())

        queued = time.time()
        job = await queue.enqueue("work", delay=0.3)
        assert (await job.state()).status == "delayed"
        assert (await queue.counts()).delayed == 1
        async with Worker(queue, work):
            await job.result(PATIENCE)
        assert began[0] >= queued + 0.29

    async def test_a_job_that_nobody_wants_any_more_does_not_begin(self, queue: Queue) -> None:
        job = await queue.enqueue("echo", delay=0.05, ttl=0.01)
        async with Worker(queue, echo):
            with pytest.raises(JobDead, match="expired"):
                await job.result(PATIENCE)

    # --- failures -----------------------------------------------------------------------------------------------------

    async def test_a_failed_attempt_is_made_again(self, queue: Queue) -> None:
        numbers: list[tuple[int, int]] = []

        async def work(attempt: Attempt) -> str:
            numbers.append((attempt.number, attempt.max_attempts))
            if attempt.number < 3:
                raise OSError("not yet")
            return "done"

        async with Worker(queue, work):
            job = await queue.enqueue("work", backoff=AT_ONCE)
            assert await job.result(PATIENCE) == "done"
        assert numbers == [(1, 3), (2, 3), (3, 3)]

    async def test_the_last_failure_makes_a_dead_letter_that_can_be_queued_again(self, queue: Queue) -> None:
        fail = True

        async def work(attempt: Attempt) -> str:
            if fail:
                raise OSError("the disk is full")
            return "done"

        async with Worker(queue, work):
            job = await queue.enqueue("work", {"n": 1}, max_attempts=2, backoff=AT_ONCE)
            with pytest.raises(JobDead, match="OSError: the disk is full"):
                await job.result(PATIENCE)
            [letter] = await queue.dead_letters()
            assert (letter.id, letter.task, letter.payload, letter.attempts) == (job.id, "work", {"n": 1}, 2)
            assert letter.error == "OSError: the disk is full"
            assert (await queue.counts()).dead == 1
            fail = False
            assert await queue.requeue(job.id)
            assert await job.result(PATIENCE) == "done"
            assert await queue.dead_letters() == []
            assert not await queue.requeue(job.id)

    async def test_discard_ends_a_job_at_once(self, queue: Queue) -> None:
        async def work(attempt: Attempt) -> None:
            raise Discard("nonsense")

        async with Worker(queue, work):
            job = await queue.enqueue("work")
            with pytest.raises(JobDead, match="after 1 attempts: Discard: nonsense"):
                await job.result(PATIENCE)

    async def test_a_provider_says_when_to_come_back(self, queue: Queue) -> None:
        class Limited(Exception):
            retry_after = 0.3

        times: list[float] = []

        async def work(attempt: Attempt) -> None:
            times.append(time.monotonic())
            if attempt.number == 1:
                raise Limited

        async with Worker(queue, work):
            await (await queue.enqueue("work", backoff=AT_ONCE)).result(PATIENCE)
        assert times[1] - times[0] >= 0.29

    async def test_an_attempt_has_its_time(self, queue: Queue) -> None:
        cancelled: list[str] = []

        async def work(attempt: Attempt) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(attempt.id)
                raise

        async with Worker(queue, work):
            job = await queue.enqueue("work", timeout=0.05, max_attempts=2, backoff=AT_ONCE)
            with pytest.raises(JobDead, match="timed out"):
                await job.result(PATIENCE)
        assert cancelled == [job.id] * 2

    async def test_a_thread_that_is_out_of_time_is_told_and_waited_for(self, queue: Queue) -> None:
        left: list[bool] = []

        def work(attempt: Attempt) -> None:
            while not attempt.cancelled:
                time.sleep(0.005)
            left.append(True)
            raise OSError

        async with Worker(queue, work):
            job = await queue.enqueue("work", timeout=0.05, max_attempts=1)
            with pytest.raises(JobDead, match="timed out"):
                await job.result(PATIENCE)
            assert left == [True]

    async def test_a_result_that_is_no_json_is_not_paid_for_twice(self, queue: Queue) -> None:
        async def work(attempt: Attempt) -> Any:
            return object()

        async with Worker(queue, work):
            job = await queue.enqueue("work")
            with pytest.raises(JobDead, match="result: expected JSON"):
                await job.result(PATIENCE)

    async def test_a_task_that_no_handler_knows_is_a_dead_letter(self, queue: Queue) -> None:
        async with Worker(queue, {"echo": echo}):
            with pytest.raises(JobDead, match="no handler for the task 'other'"):
                await (await queue.enqueue("other")).result(PATIENCE)

    # --- what may be sent ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "payload",
        [object(), float("nan"), float("inf"), {1, 2}, b"bytes", {"deep": [object()]}, "\ud800", {("a",): 1}],
        ids=lambda payload: type(payload).__name__,
    )
    async def test_what_is_no_json_is_refused(self, queue: Queue, payload: Any) -> None:
        with pytest.raises(InvalidPayload, match="expected JSON"):
            await queue.enqueue("echo", payload)

    async def test_a_huge_payload_is_refused(self, queue: Queue) -> None:
        with pytest.raises(InvalidPayload, match=r"at most 262,144 bytes of JSON, got 300,002"):
            await queue.enqueue("echo", "x" * 300_000)

    @pytest.mark.parametrize(
        "options",
        [
            {"delay": -1},
            {"delay": float("nan")},
            {"timeout": 0},
            {"timeout": float("inf")},
            {"max_attempts": 0},
            {"priority": 1001},
            {"priority": 0.5},
            {"ttl": 0},
            {"idempotency_key": ""},
            {"propagate": "both"},
        ],
        ids=str,
    )
    async def test_options_without_sense_are_refused(self, queue: Queue, options: Any) -> None:
        with pytest.raises(ConfigError, match=next(iter(options))):
            await queue.enqueue("echo", **options)

    async def test_a_key_queues_a_job_once(self, queue: Queue) -> None:
        with capture() as captured:
            done: list[str] = []

            async def work(attempt: Attempt) -> str:
                done.append(attempt.id)
                return "first"

            jobs = [await queue.enqueue("work", number, idempotency_key="order 7") for number in range(3)]
            assert len({job.id for job in jobs}) == 1
            other = await queue.enqueue("work", idempotency_key="order 8")
            async with Worker(queue, work):
                assert [await job.result(PATIENCE) for job in jobs] == ["first"] * 3
                again = await queue.enqueue("work", idempotency_key="order 7")
                assert await again.result(PATIENCE) == "first"
                await other.result(PATIENCE)
            assert sorted(done) == sorted({jobs[0].id, other.id})
            assert captured.total("seatrace.queue.duplicates", messaging_system=self.system) == 3

    async def test_what_a_cipher_seals_nobody_reads(self) -> None:
        class Reversed:
            def encrypt(self, data: bytes) -> bytes:
                return data[::-1]

            def decrypt(self, token: bytes) -> bytes:
                return token[::-1]

        queue = Queue("sealed", self.make_backend(), cipher=Reversed())
        try:
            job = await queue.enqueue("echo", {"secret": "hunter2"})
            delivery = await take(queue)
            assert "hunter2" not in delivery.envelope.to_json()
            assert await settle(queue, delivery, Verdict("released"))
            async with Worker(queue, echo):
                assert await job.result(PATIENCE) == {"secret": "hunter2"}
            state = await job.state()
            assert "hunter2" not in json.dumps([state.result, state.error])
        finally:
            await queue.close()

    async def test_payloads_are_not_logged(self, queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
        async def work(attempt: Attempt) -> None:
            raise ValueError(f"bad {attempt.payload}")

        with caplog.at_level(logging.DEBUG, "seatrace"):
            async with Worker(queue, work):
                job = await queue.enqueue("work", "hunter2", max_attempts=1)
                with pytest.raises(JobDead):
                    await job.result(PATIENCE)
        assert "dead_letter" in caplog.text
        assert "hunter2" not in caplog.text

    # --- cancelling and stopping --------------------------------------------------------------------------------------

    async def test_a_cancelled_job_does_not_begin(self, queue: Queue) -> None:
        done: list[str] = []

        async def work(attempt: Attempt) -> None:
            done.append(attempt.id)

        job, delayed = await queue.enqueue("work"), await queue.enqueue("work", delay=0.05)
        assert await job.cancel()
        assert await delayed.cancel()
        await Worker(queue, work).run(until_empty=True)
        for each in (job, delayed):
            with pytest.raises(JobCancelled):
                await each.result(PATIENCE)
        assert done == []
        assert not await job.cancel()

    async def test_a_job_under_way_is_cancelled_with_what_it_waits_for(self, queue: Queue) -> None:
        state: list[str] = []

        async def work(attempt: Attempt) -> None:
            state.append("began")
            try:
                await asyncio.Event().wait()
            finally:
                state.append("closed" if attempt.cancelled else "?")

        async with Worker(queue, work, lease=0.6):
            job = await queue.enqueue("work")
            await until(lambda: state)
            assert await job.cancel()
            with pytest.raises(JobCancelled):
                await job.result(PATIENCE)
        assert state == ["began", "closed"]

    async def test_a_worker_that_stops_finishes_what_it_began(self, queue: Queue) -> None:
        go = asyncio.Event()
        began: list[str] = []

        async def work(attempt: Attempt) -> str:
            began.append(attempt.id)
            await go.wait()
            return "done"

        job = await queue.enqueue("work")
        worker = Worker(queue, work)
        running = asyncio.create_task(worker.run())
        await until(lambda: began)
        worker.stop()
        later = await queue.enqueue("work")
        await asyncio.sleep(0)
        go.set()
        await running
        assert (await job.state()).status == "completed"
        state = await later.state()
        assert (state.status in ("waiting", "delayed"), state.attempts) == (True, 0)

    async def test_what_a_stopping_worker_cannot_finish_is_given_back_uncounted(self, queue: Queue) -> None:
        began: list[int] = []

        async def endless(attempt: Attempt) -> None:
            began.append(attempt.number)
            await asyncio.Event().wait()

        job = await queue.enqueue("work", max_attempts=1)
        worker = Worker(queue, endless, drain_timeout=0, concurrency=1)
        running = asyncio.create_task(worker.run())
        await until(lambda: began)
        worker.stop()
        await running
        async with Worker(queue, echo):
            assert await job.result(PATIENCE) is None
        assert (await job.state()).attempts == 1

    async def test_a_cancelled_worker_gives_its_jobs_back(self, queue: Queue) -> None:
        began: list[int] = []

        async def endless(attempt: Attempt) -> None:
            began.append(attempt.number)
            await asyncio.Event().wait()

        job = await queue.enqueue("work", max_attempts=1)
        running = asyncio.create_task(Worker(queue, endless).run())
        await until(lambda: began)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with Worker(queue, echo):
            assert await job.result(PATIENCE) is None

    # --- leases -------------------------------------------------------------------------------------------------------

    async def test_a_handler_that_blocks_keeps_its_job(self) -> None:
        """Seen with other engines: the lock is renewed in the loop that the handler blocks, another worker takes the
        job, and the model is paid twice."""
        queues = [Queue("agents", self.make_backend()) for _ in range(2)]
        runs: list[int] = []

        async def blocks(attempt: Attempt) -> str:
            runs.append(attempt.number)
            time.sleep(2.0)
            return "done"

        stops: list[Worker] = []

        def work(queue: Queue) -> None:
            worker = Worker(queue, blocks, lease=0.6, concurrency=1)
            stops.append(worker)
            worker.run_sync()

        threads = [threading.Thread(target=work, args=(queue,)) for queue in queues]
        for thread in threads:
            thread.start()
        try:
            job = await queues[0].enqueue("work")
            assert await job.result(PATIENCE) == "done"
        finally:
            await until(lambda: len(stops) == 2)
            for worker in stops:
                worker.stop()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            for queue in queues:
                await queue.close()
        assert runs == [1]

    async def test_a_dead_workers_job_is_given_to_another_and_the_late_word_is_refused(self, queue: Queue) -> None:
        with capture() as captured:
            job = await queue.enqueue("work")
            dead = await take(queue, lease=0.2)
            seen: list[tuple[int, int]] = []

            async def work(attempt: Attempt) -> str:
                seen.append((attempt.number, attempt.fence))
                return "second"

            async with Worker(queue, work, lease=0.6):
                assert await job.result(PATIENCE) == "second"
            assert not await settle(queue, dead, Verdict("completed", result='"first"'))
            assert await job.result(PATIENCE) == "second"
            assert seen == [(2, dead.fence + 1)]
            assert captured.total("seatrace.queue.redeliveries", messaging_system=self.system) == 1

    async def test_a_late_worker_learns_that_it_lost_its_job(self, queue: Queue) -> None:
        job = await queue.enqueue("work")
        late = await take(queue, lease=0.2)
        second = await take(queue, lease=30)
        renewal = await queue.engine.call(queue.backend.renew(queue.name, [(late, None), (second, None)], 30))
        assert renewal.lost == [late]
        assert not await settle(queue, late, Verdict("completed", result='"late"'))
        assert await settle(queue, second, Verdict("completed", result='"second"'))
        assert await job.result(PATIENCE) == "second"

    async def test_a_word_said_twice_counts_once(self, queue: Queue) -> None:
        job = await queue.enqueue("work")
        delivery = await take(queue)
        verdict = Verdict("completed", result='"done"', cost=0.5)
        assert await settle(queue, delivery, verdict)
        assert await settle(queue, delivery, verdict)
        assert (await job.state()).cost == 0.5

    async def test_a_job_that_kills_its_workers_is_poison(self, queue: Queue) -> None:
        job = await queue.enqueue("work", max_attempts=2)
        for _ in range(2):
            await take(queue, lease=0.1)
        async with Worker(queue, echo, lease=0.6):
            with pytest.raises(JobDead, match="poison"):
                await job.result(PATIENCE)

    # --- money --------------------------------------------------------------------------------------------------------

    async def test_each_attempt_is_billed_once(self, queue: Queue) -> None:
        with capture() as captured:

            async def work(attempt: Attempt) -> None:
                spend(0.25)
                attempt.add_cost(0.25)
                if attempt.number == 1:
                    raise OSError("after the money is spent")

            async with Worker(queue, work):
                job = await queue.enqueue("work", backoff=AT_ONCE)
                await job.result(PATIENCE)
            [point] = [
                point
                for point in captured.points("seatrace.job.cost")
                if point.attributes["messaging.system"] == self.system
            ]
            assert (point.count, point.sum) == (2, 1.0)
            state = await job.state()
            assert [bill.cost for bill in state.bills] == [0.5, 0.5]
            assert state.cost == 1.0

    async def test_what_a_dead_worker_had_spent_is_known_as_of_its_last_renewal(self, queue: Queue) -> None:
        job = await queue.enqueue("work")
        dead = await take(queue, lease=0.2)
        await queue.engine.call(queue.backend.renew(queue.name, [(dead, 0.75)], 0.2))
        second = await take(queue)
        assert second.cost == 0.75
        assert await settle(queue, second, Verdict("completed", cost=0.5))
        assert [bill.cost for bill in (await job.state()).bills] == [0.75, 0.5]

    async def test_a_job_costs_no_more_than_it_may(self, queue: Queue) -> None:
        with capture():
            calls: list[int] = []

            async def work(attempt: Attempt) -> None:
                while True:
                    spend(0.3)
                    calls.append(attempt.number)
                    if len(calls) == 2:
                        raise OSError("the second attempt pays on")

            async with Worker(queue, work, max_cost_per_job=1.0):
                job = await queue.enqueue("work", backoff=AT_ONCE)
                with pytest.raises(JobDead, match=r"JobCostExceeded: job \w+ has cost 1.2 USD in 2 attempts"):
                    await job.result(PATIENCE)
            assert calls == [1, 1, 2, 2]
            spend(99)  # outside of jobs nothing is capped

    async def test_the_cap_reaches_the_handler_as_an_exception(self, queue: Queue) -> None:
        with capture():

            async def work(attempt: Attempt) -> str:
                spend(2.0)
                try:
                    spend(2.0)
                except JobCostExceeded:
                    return "the short answer"
                return "?"

            async with Worker(queue, work, max_cost_per_job=1.0):
                assert await (await queue.enqueue("work")).result(PATIENCE) == "the short answer"

    # --- telemetry ----------------------------------------------------------------------------------------------------

    async def test_the_workers_span_is_linked_to_the_senders(self, queue: Queue) -> None:
        with capture() as captured:
            with seatrace.workflow("order"):
                job = await queue.enqueue("echo", 1)
            async with Worker(queue, echo):
                await job.result(PATIENCE)
            await until(lambda: any(span.name == "process agents" for span in captured.spans))
            spans = {span.name: span for span in captured.spans}
            sent, worked = spans["send agents"], spans["process agents"]
            assert sent.parent.span_id == spans["invoke_workflow order"].context.span_id
            assert [link.context.span_id for link in worked.links] == [sent.context.span_id]
            assert worked.context.trace_id != sent.context.trace_id
            assert (sent.kind.name, worked.kind.name) == ("PRODUCER", "CONSUMER")
            attributes = dict(worked.attributes or {})
            assert attributes.pop("seatrace.job.wait") >= 0
            assert attributes == {
                "messaging.system": self.system,
                "messaging.destination.name": "agents",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.message.id": job.id,
                "seatrace.job.task": "echo",
                "seatrace.job.attempt": 1,
                "seatrace.job.outcome": "completed",
                "seatrace.run.model_calls": 0,
            }
            assert captured.total("messaging.client.sent.messages", messaging_system=self.system) == 1
            assert (
                captured.total("seatrace.queue.jobs", messaging_system=self.system, seatrace_job_outcome="completed")
                == 1
            )
            for name in ("messaging.process.duration", "seatrace.queue.wait.duration"):
                assert [point.count for point in captured.points(name)] == [1]

    async def test_the_workers_span_may_be_a_child_of_the_senders(self, queue: Queue) -> None:
        with capture() as captured:
            job = await queue.enqueue("echo", 1, propagate="parent")
            async with Worker(queue, echo):
                await job.result(PATIENCE)
            await until(lambda: any(span.name == "process agents" for span in captured.spans))
            spans = {span.name: span for span in captured.spans}
            assert spans["process agents"].parent.span_id == spans["send agents"].context.span_id

    async def test_the_senders_scope_holds_in_the_handler(self, queue: Queue) -> None:
        seen: list[Any] = []

        def work(attempt: Attempt) -> None:
            seen.append((context.current_scope(), current_attempt()))

        async with Worker(queue, work):
            with seatrace.session("s1", tenant="acme", user="u1", conversation="c1", attributes={"plan": "free"}):
                job = await queue.enqueue("work")
            await job.result(PATIENCE)
        [(scope, attempt)] = seen
        assert (scope.session, scope.tenant, scope.user, scope.conversation) == ("s1", "acme", "u1", "c1")
        assert scope.attributes == {"plan": "free"}
        assert attempt.id == job.id
        assert current_attempt() is None
        assert context.current_scope().session is None

    async def test_calls_of_the_handler_are_the_jobs(self, queue: Queue) -> None:
        with capture() as captured:

            async def work(attempt: Attempt) -> None:
                spend(0.125)

            with seatrace.session(tenant="acme"):
                job = await queue.enqueue("work")
            async with Worker(queue, work):
                await job.result(PATIENCE)
            await until(lambda: any(span.name == "process agents" for span in captured.spans))
            spans = {span.name: span for span in captured.spans}
            attributes = spans["process agents"].attributes
            assert (attributes["seatrace.run.model_calls"], attributes["seatrace.run.cost"]) == (1, 0.125)
            assert spans["chat some-model"].parent.span_id == spans["process agents"].context.span_id
            assert captured.total("seatrace.cost", seatrace_tenant="acme") == 0.125

    async def test_a_failed_attempt_is_a_failed_span(self, queue: Queue) -> None:
        with capture() as captured:

            async def work(attempt: Attempt) -> None:
                raise OSError("no")

            async with Worker(queue, work):
                job = await queue.enqueue("work", max_attempts=1)
                with pytest.raises(JobDead):
                    await job.result(PATIENCE)
            [worked] = [span for span in captured.spans if span.name == "process agents"]
            assert worked.attributes["error.type"] == "OSError"
            assert worked.attributes["seatrace.job.outcome"] == "dead_letter"
            [point] = captured.points("messaging.process.duration")
            assert point.attributes["error.type"] == "OSError"

    async def test_the_depth_is_read_without_waiting(self, queue: Queue) -> None:
        with capture() as captured:
            for _ in range(3):
                await queue.enqueue("echo")
            await queue.enqueue("echo", delay=60)

            def depth(state: str) -> float:
                return captured.total("seatrace.queue.depth", messaging_system=self.system, seatrace_queue_state=state)

            await until(lambda: depth("waiting") == 3)
            assert depth("delayed") == 1

    async def test_everything_works_while_seatrace_is_off(self, queue: Queue) -> None:
        async with Worker(queue, echo, max_cost_per_job=1.0):
            job = await queue.enqueue("echo", 1)
            assert await job.result(PATIENCE) == 1
            assert (await job.state()).cost is None
