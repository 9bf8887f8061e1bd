"""Workers: they take jobs from a queue, run their handlers, and settle what became of them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from random import Random
from time import perf_counter
from typing import Any

from seatrace.core import context, guard, signals
from seatrace.core.context import Scope
from seatrace.core.record import Call
from seatrace.core.step import Step
from seatrace.emit import semconv as names
from seatrace.emit.catalogue import patterns as metrics
from seatrace.errors import ConfigError
from seatrace.runtime._options import check_count, check_number

from .attempt import Attempt, enter_attempt, leave_attempt, watch_costs
from .errors import QueueError, QueueUnavailable
from .payload import from_text
from .perform import GRACE, Handler, StillRunning, perform
from .queue import Queue
from .record import Delivery, Verdict
from .verdicts import of_error, of_result, text_of, unfit

_WAIT = 1.0
"""Seconds that a worker waits at a time for a job."""

_SHORT = 0.05
"""The same, where it only looks whether the queue is empty."""


class Worker:
    """Runs ``handler`` for the jobs of ``queue``: at least once, at most one at a time.

    A job that is being worked on is leased; leases are renewed from the queue's own thread, so that a handler that
    blocks keeps its job. When a worker dies, its jobs come back after ``lease`` seconds.

    Args:
        queue: Where jobs come from.
        handler: One function for all tasks, or one by the name of each. Is given an :class:`Attempt`; what it returns
            (JSON) is the job's result. An exception means another attempt, ``Discard`` means none.
        concurrency: Jobs at a time.
        lease: Seconds after which a dead worker's jobs are given to others.
        max_cost_per_job: USD that the observed model calls of a job may cost, all attempts together: the call after
            that raises :class:`JobCostExceeded`, and the job fails for good. Needs ``seatrace.instrument()``.
        drain_timeout: Seconds that jobs get to end when the worker is stopped. Coroutines that need longer are
            cancelled and their jobs given back, not counted as an attempt.

    Raises:
        ConfigError: An option makes no sense.
    """

    def __init__(
        self,
        queue: Queue,
        handler: Handler | Mapping[str, Handler],
        *,
        concurrency: int = 10,
        lease: float = 60.0,
        max_cost_per_job: float | None = None,
        drain_timeout: float = 30.0,
        random: Random | None = None,
    ) -> None:
        if not callable(handler) and not (isinstance(handler, Mapping) and all(map(callable, handler.values()))):
            raise ConfigError(f"handler: expected a function, or functions by task, got {type(handler).__name__}")
        self.queue = queue
        self._handler = handler
        self._concurrency = check_count("concurrency", concurrency)
        self._lease = check_number("lease", lease, above=True)
        self._limit = None if max_cost_per_job is None else check_number("max_cost_per_job", max_cost_per_job)
        self._drain_timeout = check_number("drain_timeout", drain_timeout)
        self._random = random or Random()
        self._stopping = False
        self._running: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held: dict[Delivery, Attempt | None] = {}
        self._busy: set[Delivery] = set()
        self._threads: ThreadPoolExecutor | None = None
        self.told_unavailable = False

    # --- running ------------------------------------------------------------------------------------------------------

    async def run(self, *, until_empty: bool = False) -> None:
        """Works until :meth:`stop`, or until the queue has no job that waits, is delayed or is worked on. Cancelling it
        stops it at once: jobs under way are given back."""
        if self._running is not None:
            raise QueueError("run(): expected a worker at rest, but this one runs already")
        self._running = asyncio.current_task()
        self._loop, self._room = asyncio.get_running_loop(), asyncio.Event()
        self._stopping = False
        queue = self.queue
        renewing = queue.engine.start(self._renew())
        end_watch = watch_costs() if self._limit is not None else None
        tasks: set[asyncio.Task[None]] = set()
        timeout = self._drain_timeout
        try:
            await self._take_all(tasks, until_empty)
        except BaseException:
            timeout = 0.0
            raise
        finally:
            try:
                await self._finish(tasks, timeout)
            finally:
                renewing.cancel()
                if end_watch is not None:
                    end_watch()
                if self._threads is not None:
                    self._threads.shutdown(wait=False)
                    self._threads = None
                self._running = None

    def run_sync(self, *, until_empty: bool = False) -> None:
        """As :meth:`run`, in a loop of its own; blocks. SIGTERM and SIGINT stop the worker gently, where this is the
        main thread."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            if threading.current_thread() is threading.main_thread():
                for each in (signal.SIGTERM, signal.SIGINT):
                    try:
                        loop.add_signal_handler(each, self.stop)
                    except NotImplementedError:  # a platform without signals in loops
                        pass
            await self.run(until_empty=until_empty)

        asyncio.run(main())

    def stop(self) -> None:
        """Takes no more jobs; :meth:`run` returns when those under way are done. Safe from any thread."""
        self._stopping = True
        self.queue.engine.start(self._nudge())
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._room.set)
            except RuntimeError:  # the loop is closed: so is the worker
                pass

    async def __aenter__(self) -> Worker:
        self._background = asyncio.ensure_future(self.run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        await self._background

    # --- taking -------------------------------------------------------------------------------------------------------

    async def _take_all(self, tasks: set[asyncio.Task[None]], until_empty: bool) -> None:
        room = self._room
        pause = 0.1

        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            room.set()

        while not self._stopping:
            # What is being settled takes no place, so that the next job is fetched meanwhile.
            free = min(self._concurrency - len(self._busy), 2 * self._concurrency - len(tasks))
            if free <= 0:
                room.clear()
                await room.wait()  # also when stopped
                continue
            try:
                deliveries = await self._take(free, _SHORT if until_empty else _WAIT)
                if not deliveries and until_empty and not tasks and await self._empty():
                    return
                pause = 0.1
                self.told_unavailable = False
            except QueueUnavailable as error:
                self._tell_unavailable(error)
                await self._rest(pause)
                pause = min(5.0, 2 * pause)
                continue
            if self._stopping:
                await self._give_back(deliveries)
                return
            for delivery in deliveries:
                self._busy.add(delivery)
                task = asyncio.ensure_future(self._process(delivery))
                tasks.add(task)
                task.add_done_callback(done)

    async def _rest(self, seconds: float) -> None:
        """Waits, and not when stopped."""
        self._room.clear()
        if not self._stopping:
            try:
                await asyncio.wait_for(self._room.wait(), seconds)
            except asyncio.TimeoutError:
                pass

    async def _take(self, most: int, wait: float) -> list[Delivery]:
        """The next jobs. If this is cancelled, jobs that come in the same moment are given back."""
        queue = self.queue
        taking = asyncio.ensure_future(queue.engine.call(queue.backend.take(queue.name, most, self._lease, wait)))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            queue.engine.start(self._nudge())
            await asyncio.wait([taking])
            if not taking.cancelled() and not taking.exception():
                await self._give_back(taking.result())
            raise

    async def _give_back(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            await self._settle(delivery, Verdict("released"))

    async def _nudge(self) -> None:
        self.queue.backend.nudge(self.queue.name)

    async def _empty(self) -> bool:
        counts = await self.queue.counts()
        return not (counts.waiting or counts.delayed or counts.active)

    async def _finish(self, tasks: set[asyncio.Task[None]], timeout: float) -> None:
        if not tasks:
            return
        if timeout:
            await asyncio.wait(tasks, timeout=timeout)
        for attempt in list(self._held.values()):
            if attempt is not None:
                attempt.end("released")
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE + _WAIT)

    # --- one job ------------------------------------------------------------------------------------------------------

    async def _process(self, delivery: Delivery) -> None:
        queue, envelope = self.queue, delivery.envelope
        self._held[delivery] = None
        try:
            signals.measure(metrics.QUEUE_WAIT, delivery.waited, queue.attributes)
            if delivery.redelivered:
                signals.measure(metrics.QUEUE_REDELIVERIES, 1, queue.attributes)
            handler = self._handler_of(envelope.task)
            verdict = unfit(delivery, queue.clock(), handled=handler is not None)
            if verdict is None:
                try:
                    payload = from_text(envelope.payload, queue.cipher)
                except Exception as error:
                    verdict = Verdict("dead_letter", error=f"the payload cannot be read: {text_of(error)}")
            if verdict is None and handler is not None:
                attempt = self._held[delivery] = Attempt(delivery, payload, self._limit)
                verdict = await self._attempt(delivery, attempt, handler)
            self._busy.discard(delivery)
            self._room.set()
            settled = verdict is not None and await self._settle(delivery, verdict)
            self._count(delivery, "lost" if verdict is None or not settled else verdict.outcome)
        except Exception as error:  # ours: the job comes back when its lease runs out
            guard.fault("work on a job", error)
        finally:
            self._busy.discard(delivery)
            self._held.pop(delivery, None)

    def _handler_of(self, task: str) -> Handler | None:
        return self._handler.get(task) if isinstance(self._handler, Mapping) else self._handler

    async def _attempt(self, delivery: Delivery, attempt: Attempt, handler: Handler) -> Verdict | None:
        """Runs the handler, in the sender's scope and in a span of its own. ``None``: there is nothing to settle."""
        queue, envelope = self.queue, delivery.envelope
        error: BaseException | None = None
        verdict: Verdict | None
        scope = context.enter_scope(Scope(**envelope.scope, run=attempt.run))
        mark = enter_attempt(attempt)
        step: Step | None = None
        started = perf_counter()
        try:
            step = Step.begin(lambda: self._call(delivery))
            step.enter()
            try:
                result = await perform(handler, attempt, envelope.timeout, self._executor)
            finally:
                step.leave()
            verdict = of_result(attempt, result, limit=queue.max_payload, cipher=queue.cipher)
        except StillRunning as raised:
            error, verdict = raised, None  # its thread keeps the job until the lease runs out
        except BaseException as raised:
            error, verdict = raised, of_error(delivery, attempt, raised, self._random)
        finally:
            leave_attempt(mark)
            context.leave_scope(scope)
        seconds = perf_counter() - started
        if step is not None:
            self._describe(step.call, attempt, verdict)
            step.end(error)
        attributes = dict(queue.attributes)
        if error is not None:
            attributes[names.ERROR_TYPE] = type(error).__qualname__
        signals.measure(metrics.QUEUE_PROCESS_DURATION, seconds, attributes)
        if attempt.cost is not None:
            signals.measure(metrics.JOB_COST, attempt.cost, queue.attributes)
        error = None  # its traceback holds this frame
        return verdict

    def _executor(self) -> Executor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._concurrency, f"seatrace-worker-{self.queue.name}")
        return self._threads

    async def _settle(self, delivery: Delivery, verdict: Verdict) -> bool:
        """Settles, and does not give up soon: the work is done and paid for. The lease is renewed meanwhile."""
        queue, pause, patience = self.queue, 0.05, max(30.0, self._lease)
        while True:
            try:
                return await queue.engine.call(queue.backend.settle(queue.name, delivery, verdict))
            except QueueUnavailable as error:
                self._tell_unavailable(error)
                patience -= pause
                if patience <= 0:
                    return False
                await asyncio.sleep(pause)
                pause = min(2.0, 2 * pause)

    # --- leases, in the engine's thread -------------------------------------------------------------------------------

    async def _renew(self) -> None:
        queue, backend = self.queue, self.queue.backend
        while True:
            await asyncio.sleep(self._lease / 3)
            held = list(self._held.items())
            try:
                if held:
                    costs = [(delivery, None if attempt is None else attempt.cost) for delivery, attempt in held]
                    renewal = await backend.renew(queue.name, costs, self._lease)
                    for why, deliveries in (("lost", renewal.lost), ("cancelled", renewal.cancelled)):
                        for delivery in deliveries:
                            attempt = self._held.get(delivery)
                            if attempt is not None:
                                attempt.end(why)  # type: ignore[arg-type]
                await backend.tend(queue.name, self._lease)
            except QueueUnavailable as error:
                self._tell_unavailable(error)
            except Exception as error:
                guard.fault("renew leases", error)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _call(self, delivery: Delivery) -> Call:
        envelope = delivery.envelope
        attributes: dict[str, Any] = {
            **self.queue.attributes,
            names.MESSAGING_OPERATION: "process",
            names.MESSAGING_OPERATION_TYPE: "process",
            names.MESSAGING_MESSAGE_ID: envelope.id,
            names.JOB_TASK: envelope.task,
            names.JOB_ATTEMPT: delivery.attempt,
            names.JOB_WAIT: delivery.waited,
        }
        call = Call("process", "process", "seatrace", name=self.queue.name, attributes=attributes)
        if envelope.propagate == "parent":
            call.parent = envelope.headers
        else:
            sender = signals.arrived(envelope.headers)
            call.links = None if sender is None else [sender]
        return call

    @staticmethod
    def _describe(call: Call, attempt: Attempt, verdict: Verdict | None) -> None:
        run = attempt.run
        call.attributes[names.JOB_OUTCOME] = "lost" if verdict is None or attempt.ended == "lost" else verdict.outcome
        call.attributes[names.RUN_MODEL_CALLS] = run.model_calls
        if run.cost is not None:
            call.attributes[names.RUN_COST] = run.cost

    def _count(self, delivery: Delivery, outcome: str) -> None:
        if outcome == "released":
            return
        signals.measure(metrics.QUEUE_JOBS, 1, {**self.queue.attributes, names.JOB_OUTCOME: outcome})
        if outcome in ("dead_letter", "lost"):
            guard.logger.warning(
                "queue %s: attempt %d at job %s (%s) ended as %s",
                self.queue.name,
                delivery.attempt,
                delivery.envelope.id,
                delivery.envelope.task,
                outcome,
            )

    def _tell_unavailable(self, error: QueueUnavailable) -> None:
        if not self.told_unavailable:
            self.told_unavailable = True
            guard.logger.warning("queue %s cannot be reached, the worker tries again: %s", self.queue.name, error)
