"""A queue of jobs, and the handle of one job: the sender's side."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import uuid4

from seatrace.core import context, signals
from seatrace.core.record import Call
from seatrace.core.step import Step
from seatrace.emit import semconv as names
from seatrace.emit.catalogue import patterns as metrics
from seatrace.emit.catalogue.metric import Metric
from seatrace.errors import ConfigError
from seatrace.runtime._options import check_choice, check_count, check_number

from .backend import Backend, open_backend
from .engine import Engine
from .errors import JobCancelled, JobDead, JobNotFound, ResultTimeout
from .payload import Cipher, from_text, to_text
from .record import FINAL, Backoff, Counts, Envelope, JobState, Propagate

if TYPE_CHECKING:
    from typing_extensions import Unpack

_HEADERS_LIMIT = 8192
"""Bytes of trace context and baggage that travel with a job."""

_FRESH = 1.0
"""Seconds for which counts of a queue are good enough for metrics."""

_OUTCOMES = ("completed", "retried", "dead_letter", "cancelled", "lost")


class JobOptions(TypedDict, total=False):
    """The options of a job; see :meth:`Queue.prepare`."""

    idempotency_key: str | None
    delay: float
    priority: int
    timeout: float | None
    max_attempts: int
    backoff: Backoff | None
    ttl: float | None
    propagate: Propagate


class Queue:
    """Jobs for workers elsewhere, or later. Use it from any coroutine or thread; methods ``…_sync`` block.

    Args:
        name: ``messaging.destination.name`` of spans and metrics, and the queue's name in the backend.
        backend: ``"memory://"`` (this process), ``"sqlite:///jobs.db"`` (this machine, survives restarts),
            ``"bullmq+redis://host:6379/0"``, or a backend object such as ``TaskiqBackend(broker, ledger=…)``. Queues
            may share an object.
        cipher: Seals payloads and results (``encrypt``/``decrypt``, as of ``cryptography.fernet.Fernet``): what is
            stored can be read only by who has its key.
        max_payload: Most bytes of a payload's or result's JSON.

    Raises:
        ConfigError: An option makes no sense.
    """

    def __init__(
        self,
        name: str,
        backend: str | Backend = "memory://",
        *,
        cipher: Cipher | None = None,
        max_payload: int = 262_144,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not name or ":" in name:
            raise ConfigError(f"name: expected a queue's name without ':', got {name!r}")
        self.name = name
        self.backend: Backend = open_backend(backend) if isinstance(backend, str) else backend
        self.cipher = cipher
        self.max_payload = check_count("max_payload", max_payload)
        self.attributes = {names.MESSAGING_SYSTEM: self.backend.system, names.MESSAGING_DESTINATION: name}
        self.clock = clock
        self._counts = Counts()
        self._counted = float("-inf")
        signals.register(self)

    @property
    def engine(self) -> Engine:
        return self.backend.engine

    # --- sending ------------------------------------------------------------------------------------------------------

    async def enqueue(self, task: str, payload: Any = None, **options: Unpack[JobOptions]) -> Job:
        """Queues a job for the handler of ``task``; see :meth:`prepare` for the options.

        Raises:
            InvalidPayload: The payload is no JSON, or too large.
            QueueFull: The queue holds as many jobs as it may.
            QueueUnavailable: The store cannot be reached.
        """
        with self._sending() as step:
            envelope = self.prepare(task, payload, **options)
            id, new = await self.engine.call(self.backend.put(self.name, envelope))
            step.call.attributes[names.MESSAGING_MESSAGE_ID] = id
        return self._queued(id, new)

    def enqueue_sync(self, task: str, payload: Any = None, **options: Unpack[JobOptions]) -> Job:
        """As :meth:`enqueue`; blocks."""
        with self._sending() as step:
            envelope = self.prepare(task, payload, **options)
            id, new = self.engine.call_sync(self.backend.put(self.name, envelope))
            step.call.attributes[names.MESSAGING_MESSAGE_ID] = id
        return self._queued(id, new)

    def prepare(
        self,
        task: str,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
        delay: float = 0.0,
        priority: int = 0,
        timeout: float | None = None,
        max_attempts: int = 3,
        backoff: Backoff | None = None,
        ttl: float | None = None,
        propagate: Propagate = "link",
    ) -> Envelope:
        """The job that :meth:`enqueue` would send. Times are seconds.

        Args:
            task: Which handler is to work on it.
            payload: JSON.
            idempotency_key: A job with the same key is not queued twice while the first one or its result is kept:
                what comes back is that one. Queue again with the same key when the answer was lost.
            delay: Time before the first attempt.
            priority: Higher first; -1000 to 1000.
            timeout: Time of one attempt. A coroutine is cancelled; a plain function is told (``attempt.cancelled``) and
                waited for, since a thread cannot be stopped.
            max_attempts: Attempts until the job is a dead letter. An attempt whose worker died counts.
            backoff: Pauses between attempts.
            ttl: Time after which nobody wants the job any more: an attempt that would begin later does not.
            propagate: Whether the worker's span is a ``"link"`` to the sender's trace or has it as ``"parent"``.
        """
        if not task or not isinstance(task, str):
            raise ConfigError(f"task: expected the name of a task, got {task!r}")
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > 1000:
            raise ConfigError(f"priority: expected a whole number from -1000 to 1000, got {priority!r}")
        if idempotency_key is not None and not 0 < len(idempotency_key) <= 512:
            raise ConfigError("idempotency_key: expected 1 to 512 characters")
        check_choice("propagate", propagate, ("link", "parent"))
        now = self.clock()
        if not math.isfinite(now):
            raise ConfigError(f"clock: expected seconds since the epoch, got {now!r}")
        return Envelope(
            id=uuid4().hex,
            task=task,
            payload=to_text(payload, "payload", limit=self.max_payload, cipher=self.cipher),
            created=now,
            due=now + check_number("delay", delay),
            headers=_bounded(signals.carrier()),
            scope=_scope(),
            priority=priority,
            max_attempts=check_count("max_attempts", max_attempts),
            timeout=None if timeout is None else check_number("timeout", timeout, above=True),
            expires=None if ttl is None else now + check_number("ttl", ttl, above=True),
            backoff=backoff or Backoff(),
            propagate=propagate,
            key=idempotency_key,
        )

    @contextmanager
    def _sending(self) -> Iterator[Step]:
        attributes = {**self.attributes, names.MESSAGING_OPERATION: "send", names.MESSAGING_OPERATION_TYPE: "send"}
        step = Step.begin(lambda: Call("send", "send", "seatrace", name=self.name, attributes=attributes))
        try:
            with step:
                yield step
        except BaseException as error:
            signals.measure(metrics.QUEUE_SENT, 1, {**self.attributes, names.ERROR_TYPE: type(error).__qualname__})
            raise
        signals.measure(metrics.QUEUE_SENT, 1, self.attributes)

    def _queued(self, id: str, new: bool) -> Job:
        if not new:
            signals.measure(metrics.QUEUE_DUPLICATES, 1, self.attributes)
        return Job(self, id)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def job(self, id: str) -> Job:
        """The handle of a job, by the id that another process was given."""
        return Job(self, id)

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The newest jobs that failed for good."""
        return self._letters(await self.engine.call(self.backend.dead(self.name, check_count("limit", limit))))

    def dead_letters_sync(self, limit: int = 100) -> list[DeadLetter]:
        """As :meth:`dead_letters`; blocks."""
        return self._letters(self.engine.call_sync(self.backend.dead(self.name, check_count("limit", limit))))

    async def requeue(self, id: str) -> bool:
        """Gives a dead letter all its attempts again. False where there is none of this id."""
        return await self.engine.call(self.backend.requeue(self.name, id))

    def requeue_sync(self, id: str) -> bool:
        """As :meth:`requeue`; blocks."""
        return self.engine.call_sync(self.backend.requeue(self.name, id))

    async def counts(self) -> Counts:
        """Jobs by state."""
        return await self.engine.call(self.backend.counts(self.name))

    def counts_sync(self) -> Counts:
        """As :meth:`counts`; blocks."""
        return self.engine.call_sync(self.backend.counts(self.name))

    async def close(self) -> None:
        """Closes the backend's connections and thread; for all queues that share it. They open again when needed."""
        await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """As :meth:`close`; blocks."""
        self.engine.close(self.backend.close)

    def _letters(self, states: list[JobState]) -> list[DeadLetter]:
        return [
            DeadLetter(
                state.id,
                state.task,
                None if state.payload is None else from_text(state.payload, self.cipher),
                state.attempts,
                state.error or "",
            )
            for state in states
        ]

    # --- readings -----------------------------------------------------------------------------------------------------

    def readings(self) -> Iterable[tuple[Metric, float, signals.Attributes]]:
        """The counts as last known; new ones are asked for, and not waited for."""
        if self.engine.running and time.monotonic() - self._counted > _FRESH:
            self._counted = time.monotonic()
            self.engine.start(self._count())
        counts = self._counts
        for state, jobs in (("waiting", counts.waiting), ("delayed", counts.delayed), ("active", counts.active)):
            yield metrics.QUEUE_DEPTH, jobs, {**self.attributes, names.QUEUE_STATE: state}
        if counts.oldest is not None or not counts.waiting:
            yield metrics.QUEUE_OLDEST_AGE, counts.oldest or 0.0, self.attributes

    def zeros(self) -> Iterable[tuple[Metric, signals.Attributes]]:
        for metric in (metrics.QUEUE_SENT, metrics.QUEUE_DUPLICATES, metrics.QUEUE_REDELIVERIES):
            yield metric, self.attributes
        for outcome in _OUTCOMES:
            yield metrics.QUEUE_JOBS, {**self.attributes, names.JOB_OUTCOME: outcome}

    async def _count(self) -> None:
        try:
            self._counts = await self.backend.counts(self.name)
        except Exception:  # the store is away, as its users are told: the readings stay as they were
            pass


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that failed for good."""

    id: str
    task: str
    payload: Any
    attempts: int
    error: str


class Job:
    """The handle of a job."""

    __slots__ = ("_queue", "id")

    def __init__(self, queue: Queue, id: str) -> None:
        self._queue = queue
        self.id = id

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self._queue.name}>"

    async def result(self, timeout: float | None = None) -> Any:
        """What the handler returned, as soon as it has; waits for ``timeout`` seconds at most.

        Raises:
            JobDead: It failed for good.
            JobCancelled: It was cancelled.
            JobNotFound: It is unknown, or its result was kept for too short a time.
            ResultTimeout: It is not done yet; it goes on.
            QueueUnavailable: The store cannot be reached.
        """
        return self._read(await self._queue.engine.call(self._settled(timeout)), timeout)

    def result_sync(self, timeout: float | None = None) -> Any:
        """As :meth:`result`; blocks."""
        return self._read(self._queue.engine.call_sync(self._settled(timeout)), timeout)

    async def state(self) -> JobState:
        """What is known of the job."""
        return self._known(await self._queue.engine.call(self._look()))

    def state_sync(self) -> JobState:
        """As :meth:`state`; blocks."""
        return self._known(self._queue.engine.call_sync(self._look()))

    async def cancel(self) -> bool:
        """Cancels the job. One that waits will not begin; one that runs is told at its worker's next renewal of leases,
        and a coroutine is cancelled then, with the model call it waits for. False where it was over already."""
        return await self._queue.engine.call(self._queue.backend.cancel(self._queue.name, self.id))

    def cancel_sync(self) -> bool:
        """As :meth:`cancel`; blocks."""
        return self._queue.engine.call_sync(self._queue.backend.cancel(self._queue.name, self.id))

    def _look(self) -> Coroutine[Any, Any, JobState | None]:
        return self._queue.backend.look(self._queue.name, self.id)

    async def _settled(self, timeout: float | None) -> JobState:
        if timeout is not None:
            check_number("timeout", timeout)
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            state = self._known(await self._look())
            left = 1.0 if deadline is None else deadline - loop.time()
            if state.status in FINAL or left <= 0:
                return state
            await self._queue.backend.changed(self._queue.name, self.id, min(left, 1.0))

    def _known(self, state: JobState | None) -> JobState:
        if state is None:
            raise JobNotFound(f"queue {self._queue.name!r} knows no job {self.id!r}: it was never queued, or long ago")
        return state

    def _read(self, state: JobState, timeout: float | None) -> Any:
        if state.status == "completed":
            return None if state.result is None else from_text(state.result, self._queue.cipher)
        if state.status == "dead_letter":
            raise JobDead(f"job {self.id} failed for good after {state.attempts} attempts: {state.error}")
        if state.status == "cancelled":
            raise JobCancelled(f"job {self.id} was cancelled")
        raise ResultTimeout(f"job {self.id} is {state.status} after {timeout:g} s; it goes on")


def _scope() -> Mapping[str, Any]:
    scope = context.current_scope()
    found = {field: getattr(scope, field) for field in ("conversation", "session", "user", "tenant", "agent")}
    if scope.attributes:
        found["attributes"] = dict(scope.attributes)
    return {field: value for field, value in found.items() if value is not None}


def _bounded(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers of no more bytes than may travel; the trace context first, baggage if there is room."""
    kept: dict[str, str] = {}
    for name in sorted(headers, key=lambda name: name == "baggage"):
        if len(json.dumps({**kept, name: headers[name]})) <= _HEADERS_LIMIT:
            kept[name] = headers[name]
    return kept
