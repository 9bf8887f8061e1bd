"""Jobs through a taskiq broker: Redis streams or lists, RabbitMQ, Kafka, NATS, SQS …, for workers on many machines.

The broker carries messages, the ledger (:mod:`.ledger`) knows the jobs. A message is an ordinary taskiq one, sent with
the broker's middlewares; it holds the job's id and nothing of its payload.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, cast

from seatrace.core import guard
from seatrace.errors import ConfigError, MissingExtraError
from seatrace.runtime._options import check_count, check_number

from .background import background, end
from .engine import Engine, inherit
from .errors import QueueFull, QueueUnavailable
from .ledger import Ledger
from .record import Counts, Delivery, Envelope, JobState, Renewal, Verdict
from .waiters import Nudges, Waiters

if TYPE_CHECKING:
    from taskiq import AsyncBroker

_TASK = "seatrace:"
"""Before the queue's name in a message's task name."""

_OVERDUE = 60.0
"""Seconds after which a waiting job is taken without its message, also by workers that have enough to do."""

_OUTBOX = 32
"""Messages that wait to be sent. What comes faster than the broker takes it needs no message: workers are awake."""

_LAST_WORD = 5.0
"""Seconds that a closing backend takes to send them."""


class TaskiqBackend:
    """Jobs through a taskiq broker.

    Args:
        broker: A function that makes the broker; or the broker itself, where nothing else uses it: it runs in the
            backend's own event loop, and cannot be carried over a fork. Any broker with ``listen()``, so not
            ``InMemoryBroker``.
        ledger: Address of the Redis or Valkey that knows the jobs (``redis://…``). Every broker needs one.
        keep_results: Seconds that results, and idempotency keys with them, are kept after a job's end.
        max_jobs: Most jobs of a queue, dead letters included.
        poll: Seconds between looks for jobs that are due, whose message was lost, or that are settled.
        clock: Seconds since the epoch, the same on all machines but for a small part of a lease.
    """

    system = "taskiq"

    def __init__(
        self,
        broker: AsyncBroker | Callable[[], AsyncBroker],
        *,
        ledger: str,
        keep_results: float = 3600.0,
        max_jobs: int = 1_000_000,
        poll: float = 0.2,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            import taskiq
        except ImportError as error:
            raise MissingExtraError("TaskiqBackend needs taskiq: pip install 'seatrace[taskiq]'") from error
        given = isinstance(broker, taskiq.AsyncBroker)
        if isinstance(broker, taskiq.InMemoryBroker) or not (given or callable(broker)):
            raise ConfigError(
                "broker: expected a taskiq broker that other processes reach, or a function that makes one, got "
                f"{type(broker).__name__}; in one process, use Queue(name, 'memory://')"
            )
        self._make = cast("Callable[[], AsyncBroker]", (lambda: broker) if given else broker)
        self.engine = Engine(f"jobs-{self.system}", self._forget)
        self._poll = check_number("poll", poll, above=True)
        self._max_jobs = check_count("max_jobs", max_jobs)
        self._ledger = Ledger(ledger, keep_results=check_number("keep_results", keep_results), clock=clock)
        self._begin()

    def _forget(self) -> None:
        inherit(self._broker, self._running)
        self._ledger.forget()
        self._begin()

    def _begin(self) -> None:
        self._broker: AsyncBroker | None = None
        self._starting: asyncio.Lock | None = None
        self._outbox: asyncio.Queue[tuple[str, str, int]] = asyncio.Queue(_OUTBOX)
        self._intake = Intake()
        self._nudges = Nudges()
        self._settled = Waiters()
        self._swept: dict[str, float] = {}
        self._sweeping: dict[str, bool] = {}
        """Whether the last look into the ledger, with no message there, found a job: then the next look is at once."""
        self._running: dict[str, asyncio.Task[None]] = {}
        self._told = False

    # --- sending ------------------------------------------------------------------------------------------------------

    async def put(self, queue: str, envelope: Envelope) -> tuple[str, bool]:
        said, id = await self._ledger.put(queue, envelope, self._max_jobs)
        if said == "full":
            raise QueueFull(f"queue {queue!r} holds {id} jobs, as many as it may: drain it, or raise max_jobs=")
        if said == "new":
            self._keep_running("send", self._send_all)
            try:
                self._outbox.put_nowait((queue, id, envelope.priority))
            except asyncio.QueueFull:
                pass  # workers that are woken by the others find it in the ledger
        return id, id == envelope.id

    async def _send_all(self) -> None:
        """Sends messages one after the other, so that senders wait for the ledger alone."""
        while True:
            await self._send(*await self._outbox.get())
            self._outbox.task_done()

    async def _send(self, queue: str, id: str, priority: int = 0) -> None:
        """Sends the job's message. Where that fails, the job is late and not lost: the ledger has it."""
        from taskiq.kicker import AsyncKicker

        labels = {"priority": priority} if priority else {}
        try:
            kicker: AsyncKicker[..., Any] = AsyncKicker(_TASK + queue, await self._started(), labels)
            await kicker.with_task_id(id).kiq()
            self._told = False
        except Exception as error:
            if not self._told:
                self._told = True
                guard.logger.warning(
                    "the taskiq broker took no message, jobs of queue %s wait until a worker is idle: %r",
                    queue,
                    error.__cause__ or error,
                )

    # --- working ------------------------------------------------------------------------------------------------------

    async def take(self, queue: str, most: int, lease: float, wait: float) -> list[Delivery]:
        loop, nudges = asyncio.get_running_loop(), self._nudges.count(queue)
        self._keep_running("listen", self._listen)
        self._keep_running(f"move {queue}", lambda: self._move(queue))
        deadline = loop.time() + wait
        while True:
            if loop.time() - self._swept.get(queue, 0.0) >= 5 * self._poll:
                self._swept[queue] = loop.time()
                overdue = await self._ledger.sweep(queue, 1, lease, _OVERDUE)
                if overdue:
                    return overdue
            left = max(0.0, deadline - loop.time())
            messages = await self._intake.next(queue, most, min(left, 0.0 if self._sweeping.get(queue) else self._poll))
            found = await self._claim(queue, messages, lease)
            if found:
                return found
            if not messages:
                found = await self._ledger.sweep(queue, most, lease)
                self._sweeping[queue] = bool(found)
                if found:
                    return found
            if left <= 0 or self._nudges.count(queue) != nudges:
                return []

    async def _claim(self, queue: str, messages: list[Message], lease: float) -> list[Delivery]:
        """Claims the jobs of ``messages`` and acknowledges those. Where the ledger is away they are kept for later."""
        claims = (self._ledger.claim(queue, id, lease) for id, _ in messages)
        answers = await asyncio.gather(*claims, return_exceptions=True)
        found: list[Delivery] = []
        failed: BaseException | None = None
        for message, answer in zip(messages, answers, strict=True):
            if isinstance(answer, BaseException):
                self._intake.put_back(queue, message)
                failed = answer
                continue
            if message[1] is not None:
                background(self._acknowledge(message[1]))
            if answer is not None:
                found.append(answer)
        if failed is not None and not found:
            raise failed
        return found

    def nudge(self, queue: str) -> None:
        self._nudges.add(queue)
        self._intake.wake(queue)

    def _keep_running(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        running = self._running.get(name)
        if running is None or running.done():
            self._running[name] = background(work())

    async def _listen(self) -> None:
        """Brings messages from the broker, for as long as there is room; begins anew where the broker fails."""
        while True:
            try:
                broker = await self._started()
                async for message in broker.listen():
                    await self._receive(broker, message)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                guard.logger.warning("the taskiq broker failed, listening begins again: %r", error)
            await asyncio.sleep(self._poll)

    async def _receive(self, broker: AsyncBroker, message: Any) -> None:
        try:
            read = broker.formatter.loads(message=message if isinstance(message, bytes) else message.data)
            queue, id = read.task_name, read.task_id
        except Exception as error:
            guard.logger.warning("a message that cannot be read is left alone: %s", type(error).__name__)
            return
        if queue.startswith(_TASK):
            await self._intake.put(queue.removeprefix(_TASK), (id, getattr(message, "ack", None)))
        else:
            guard.logger.warning("a message of the task %r is none of seatrace's and is left alone", queue)

    @staticmethod
    async def _acknowledge(ack: Any) -> None:
        try:
            done = ack()
            if done is not None:
                await done
        except Exception as error:  # the message comes again, and finds its job taken
            guard.logger.debug("a message could not be acknowledged: %r", error)

    async def _move(self, queue: str) -> None:
        """Sends the messages of jobs that became due, or whose worker died."""
        while True:
            try:
                for id in await self._ledger.due(queue, 100):
                    await self._send(queue, id)
            except QueueUnavailable:
                pass  # takers are told
            except Exception as error:
                guard.fault("move jobs that are due", error)
            await asyncio.sleep(self._poll)

    async def renew(self, queue: str, held: Sequence[tuple[Delivery, float | None]], lease: float) -> Renewal:
        return await self._ledger.renew(queue, held, lease)

    async def settle(self, queue: str, delivery: Delivery, verdict: Verdict) -> bool:
        settled = await self._ledger.settle(queue, delivery, verdict)
        self._settled.tell(delivery.envelope.id)
        return settled

    async def tend(self, queue: str, lease: float) -> None:
        """Nothing: results end by themselves, and what is due is moved all the time."""

    # --- asking -------------------------------------------------------------------------------------------------------

    async def look(self, queue: str, id: str) -> JobState | None:
        return await self._ledger.look(queue, id)

    async def changed(self, queue: str, id: str, wait: float) -> None:
        await self._settled.wait(id, min(wait, self._poll))

    async def cancel(self, queue: str, id: str) -> bool:
        return await self._ledger.cancel(queue, id)

    async def dead(self, queue: str, limit: int) -> list[JobState]:
        return await self._ledger.dead(queue, limit)

    async def requeue(self, queue: str, id: str) -> bool:
        found = await self._ledger.requeue(queue, id)
        if found:
            await self._send(queue, id)
        return found

    async def counts(self, queue: str) -> Counts:
        return await self._ledger.counts(queue)

    # --- the broker ---------------------------------------------------------------------------------------------------

    async def _started(self) -> AsyncBroker:
        if self._broker is not None:
            return self._broker
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._broker is None:
                broker = self._make()
                await broker.startup()
                self._broker = broker
        return self._broker

    async def close(self) -> None:
        if self._outbox.qsize() and "send" in self._running:
            await asyncio.wait({asyncio.ensure_future(self._outbox.join())}, timeout=_LAST_WORD)
        await end(self._running.values())
        try:
            if self._broker is not None:
                await self._broker.shutdown()
        finally:
            await self._ledger.close()
            self._begin()


Message = tuple[str, Any]
"""A job's id, and the function that acknowledges its message."""


class Intake:
    """Messages that came and were not taken yet, by queue. Few: what waits here, no other worker gets by message."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._came: dict[str, deque[Message]] = {}
        self._news, self._room = Waiters(), Waiters()

    async def put(self, queue: str, message: Message) -> None:
        waiting = self._came.setdefault(queue, deque())
        while len(waiting) >= self._most:
            await self._room.wait(queue, 1.0)
        waiting.append(message)
        self._news.tell(queue)

    def put_back(self, queue: str, message: Message) -> None:
        self._came.setdefault(queue, deque()).appendleft(message)

    async def next(self, queue: str, most: int, wait: float) -> list[Message]:
        """The next messages; none after ``wait`` seconds, or when woken."""
        waiting = self._came.setdefault(queue, deque())
        if not waiting and wait > 0:
            await self._news.wait(queue, wait)
        messages = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        self._room.tell(queue)
        return messages

    def wake(self, queue: str) -> None:
        self._news.tell(queue)
