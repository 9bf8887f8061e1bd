"""A pool of agents: each request gets one to itself, the one that answers soonest, and not one that fails."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Generic, Literal, TypeVar, cast
from weakref import WeakSet

from seatrace.core import guard, signals
from seatrace.emit import semconv as names
from seatrace.emit.catalogue import patterns as metrics
from seatrace.emit.catalogue.metric import Metric
from seatrace.errors import ConfigError
from seatrace.runtime._async import is_async
from seatrace.runtime._faults import Blame, blame, retry_after
from seatrace.runtime._options import check_count, check_number

from .desk import Desk
from .errors import PoolClosed, PoolFull, PoolTimeout
from .lease import Lease
from .member import Ejection, Member
from .pick import Pick, named

A = TypeVar("A")

_LOOK_AGAIN = 1.0
"""Longest time in seconds that a waiting request does not look at the clock."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment."""

    idle: int
    busy: int
    ejected: int
    pending: int
    """Requests that wait."""
    in_flight: int
    latencies: tuple[float | None, ...]
    """Seconds, the moving average of each member."""


class AgentPool(Generic[A]):
    """Agents for concurrent requests. Each request has a member to itself, for a member's memory, tools and browser
    are its own.

    Works in async code (``await pool.run(...)``, ``async with pool.lease() as agent``) and in threads
    (``pool.run_sync(...)``, ``with pool.lease() as agent``), in both at once, too.

    Args:
        factory: Makes an agent; may be a coroutine function. Is called in the request that needs the agent.
        size: Most members.
        min_size: Members that are kept when idle; the others are closed after ``idle_timeout``. Default: ``size``.
        name: ``seatrace.pool.name`` of the metrics.
        run: How an agent works on a request. Default: ``agent.run(request)``, or ``agent(request)`` where there is no
            ``run``. What is no coroutine function runs in a thread, when the caller is async.
        strategy: ``"ewma"`` (latency × requests in flight, the better of two), ``"least_busy"``, ``"round_robin"``,
            or a function that chooses one of the free :class:`Member` objects.
        per_member_concurrency: Requests that a member works on at a time. More than 1 is for agents without a state.
        max_queue: Requests that may wait; one more raises :class:`PoolFull`. 0: none waits.
        queue_timeout: Seconds that a request waits before :class:`PoolTimeout`; ``None``: as long as it takes.
        eject: When a failing member is left alone; ``None``: never.
        affinity: A request's key (its conversation …): requests with the same key go to the same member, where that is
            free and well. ``None`` as key: any member.
        reset: Called with the agent after each request; may be a coroutine function. An agent that cannot be reset is
            replaced.
        close: Called with an agent that leaves the pool; may be a coroutine function.
        classify_error: Whether ``"member"`` or ``"request"`` is to blame for an error. Default: client errors (4xx but
            401, 403, 408, 425, 429), content filters and budgets are the request's.
        idle_timeout: Seconds after which members beyond ``min_size`` are closed, at the next request.

    Raises:
        ConfigError: An option makes no sense.
    """

    def __init__(
        self,
        factory: Callable[[], A] | Callable[[], Awaitable[A]],
        *,
        size: int = 5,
        min_size: int | None = None,
        name: str = "pool",
        run: Callable[[A, Any], Any] | None = None,
        strategy: Literal["ewma", "least_busy", "round_robin"] | Pick = "ewma",
        per_member_concurrency: int = 1,
        max_queue: int = 100,
        queue_timeout: float | None = None,
        eject: Ejection | None = Ejection(),  # noqa: B008 (frozen)
        affinity: Callable[[Any], Hashable | None] | None = None,
        reset: Callable[[A], object] | None = None,
        close: Callable[[A], object] | None = None,
        classify_error: Callable[[BaseException], Blame] = blame,
        idle_timeout: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        if not callable(factory):
            raise ConfigError(f"factory: expected a function that makes an agent, got {factory!r}")
        check_count("size", size)
        least = size if min_size is None else check_count("min_size", min_size, least=0)
        if least > size:
            raise ConfigError(f"min_size: expected at most size={size}, got {least}")
        check_count("per_member_concurrency", per_member_concurrency)
        check_count("max_queue", max_queue, least=0)
        if queue_timeout is not None:
            check_number("queue_timeout", queue_timeout)
        self.name = name
        self.factory = factory
        self.reset = reset
        self._close = close
        self._run = run
        self._affinity = affinity
        self._classify = classify_error
        self._queue_timeout = queue_timeout
        self._idle_timeout = check_number("idle_timeout", idle_timeout)
        self._threads_most = size * per_member_concurrency
        self._threads: ThreadPoolExecutor | None = None
        self._clock = clock
        self._desk = Desk(
            size,
            least,
            most=per_member_concurrency,
            max_queue=max_queue,
            ejection=eject,
            pick=named(strategy, random or Random()),
            clock=clock,
        )
        self._attributes = {names.POOL_NAME: name}
        signals.register(self)
        _pools.add(self)

    # --- work -------------------------------------------------------------------------------------------------------

    async def run(self, request: Any) -> Any:
        """Lets a member work on ``request`` and returns what it returns. Its exceptions pass unchanged.

        Raises:
            PoolFull: Too many requests wait.
            PoolTimeout: No member became free in time.
            PoolClosed: The pool is drained or closed.
        """
        lease = self.lease(request)
        agent = await lease.__aenter__()
        work = partial(self._work, agent, request)
        if is_async(self._run or getattr(agent, "run", None) or agent):
            try:
                result = await work()
            except BaseException as error:
                await lease.__aexit__(type(error), error, None)
                raise
            await lease.__aexit__(None, None, None)
            return result
        return await self._run_in_thread(lease, work)

    def run_sync(self, request: Any) -> Any:
        """As :meth:`run`, in a thread: blocks. For agents whose work is no coroutine."""
        with self.lease(request) as agent:
            result = self._work(agent, request)
            if inspect.isawaitable(result):
                if inspect.iscoroutine(result):
                    result.close()
                raise ConfigError("run_sync(): expected an agent that works synchronously, got an awaitable: use run()")
            return result

    def lease(self, request: Any = None) -> Lease[A]:
        """A member for a block, sync or async: ``async with pool.lease() as agent:``. An exception that leaves the
        block counts as the member's, as in :meth:`run`."""
        return Lease(self, None if self._affinity is None else self._affinity(request))

    def stats(self) -> PoolStats:
        """Members by state, and what waits."""
        now = self._clock()
        members = self._desk.members
        states = [member.state(now) for member in members]
        return PoolStats(
            idle=states.count("idle"),
            busy=states.count("busy"),
            ejected=states.count("ejected"),
            pending=self._desk.pending,
            in_flight=sum(member.in_flight for member in members),
            latencies=tuple(member.latency for member in members),
        )

    async def drain(self, timeout: float | None = None) -> bool:
        """Takes no more requests, finishes those in flight and in line, and closes the agents. Whether all was done
        within ``timeout`` seconds; what is still in flight goes on."""
        done = asyncio.wrap_future(self._desk.close(drain=True))
        finished, _ = await asyncio.wait([done], timeout=timeout)
        done.cancel()
        await self._close_agents()
        return bool(finished)

    def drain_sync(self, timeout: float | None = None) -> bool:
        """As :meth:`drain`, in a thread: blocks. Agents whose ``close`` is a coroutine function need :meth:`drain`."""
        finished = wait([self._desk.close(drain=True)], timeout).done
        for member in self._idle_agents():
            self.dispose(member)
        return bool(finished)

    async def aclose(self) -> None:
        """Turns away those in line, waits for what is in flight, and closes the agents."""
        await asyncio.wrap_future(self._desk.close(drain=False))
        await self._close_agents()

    async def __aenter__(self) -> AgentPool[A]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- for the lease ------------------------------------------------------------------------------------------------

    def join(self, key: Hashable | None) -> Future[Member]:
        """A place in line, counted where it is refused."""
        try:
            return self._desk.join(key)
        except PoolFull:
            self._refused("full")
            raise
        except PoolClosed:
            self._refused("closed")
            raise

    def leave(self, future: Future[Member], reason: str | None = None) -> None:
        """Gives up a place in line, or the member that came with it in the same moment."""
        member = self._desk.leave(future)
        if member is not None:
            self._desk.give_back(member, failed=None)
        if reason is not None:
            self._refused(reason)

    def taken(self, place: Future[Member]) -> Member:
        """The member of a place that is done, counted where the pool was closed instead."""
        try:
            return place.result()
        except PoolClosed:
            self._refused("closed")
            raise

    def made(self, member: Member, agent: object) -> None:
        self._desk.made(member, agent)

    def replace(self, member: Member, fault: Exception) -> object:
        """The agent of ``member`` could not be reset: the next request makes a new one. What ``close`` returned. The
        request itself is done, and keeps its outcome."""
        guard.logger.warning("pool %r: an agent could not be reset and is replaced", self.name, exc_info=fault)
        return self.dispose(member)

    def timed_out(self) -> PoolTimeout:
        return PoolTimeout(
            f"no member of the pool {self.name!r} became free within {self._queue_timeout:g} s: allow more members "
            "with size=, or more time with queue_timeout="
        )

    def pause(self, deadline: float | None) -> float | None:
        """Seconds until a waiting request must look again; ``None`` when its time is over."""
        opens = self._desk.serve()
        now = self._clock()
        if deadline is not None and now >= deadline:
            return None
        marks = [at - now for at in (opens, deadline) if at is not None]
        return max(0.0, min([_LOOK_AGAIN, *marks]))

    def deadline(self) -> float | None:
        return None if self._queue_timeout is None else self._clock() + self._queue_timeout

    def given(self, member: Member, waited: float) -> None:
        """A request has got ``member``."""
        signals.measure(metrics.POOL_WAIT, max(0.0, waited), self._attributes)
        signals.measure(metrics.POOL_PICKS, 1, {**self._attributes, names.POOL_MEMBER: str(member.number)})

    def done(self, member: Member, seconds: float, error: BaseException | None) -> None:
        """A request is over."""
        failed: bool | None = False
        away = None
        if error is not None:
            failed = True if self._blames_member(error) else None
            away = retry_after(error) if failed else None
        ejected = self._desk.give_back(member, failed=failed, seconds=seconds, retry_after=away)
        attributes = dict(self._attributes)
        if error is not None:
            attributes[names.ERROR_TYPE] = type(error).__qualname__
        signals.measure(metrics.POOL_USE, max(0.0, seconds), attributes)
        if ejected:
            signals.measure(metrics.POOL_EJECTIONS, 1, self._attributes)

    def clock(self) -> float:
        return self._clock()

    def retired(self) -> list[Member]:
        """Members that were idle for too long: :meth:`release` each when its agent is closed."""
        return self._desk.retire(self._idle_timeout)

    def release(self, member: Member) -> None:
        self._desk.retired(member)

    def dispose(self, member: Member) -> object:
        """Takes the agent out of ``member`` and closes it; what ``close`` returned."""
        agent, member.agent = member.agent, None
        if agent is None or self._close is None:
            return None
        return self._close(agent)

    # --- readings -----------------------------------------------------------------------------------------------------

    def readings(self) -> Iterable[tuple[Metric, float, signals.Attributes]]:
        stats = self.stats()
        for state, count in (("idle", stats.idle), ("busy", stats.busy), ("ejected", stats.ejected)):
            yield metrics.POOL_MEMBERS, count, {**self._attributes, names.POOL_STATE: state}
        yield metrics.POOL_PENDING, stats.pending, self._attributes

    def zeros(self) -> Iterable[tuple[Metric, signals.Attributes]]:
        yield metrics.POOL_EJECTIONS, self._attributes
        for reason in ("full", "timeout", "closed"):
            yield metrics.POOL_REJECTIONS, {**self._attributes, names.POOL_REJECTION_REASON: reason}

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _work(self, agent: A, request: Any) -> Any:
        if self._run is not None:
            return self._run(agent, request)
        work = getattr(agent, "run", None) or agent
        return cast("Callable[[Any], Any]", work)(request)

    async def _run_in_thread(self, lease: Lease[A], work: Callable[[], Any]) -> Any:
        """A thread cannot be stopped: a member whose request was cancelled is given back when its thread is done."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._threads_most, f"seatrace-pool-{self.name}")
        future = self._threads.submit(copy_context().run, work)
        try:
            result = await asyncio.shield(asyncio.wrap_future(future))
            if inspect.isawaitable(result):
                result = await result
        except BaseException as error:
            if future.done() or future.cancel():
                await lease.__aexit__(type(error), error, None)
            else:
                future.add_done_callback(lambda _: lease.abandon())
            raise
        await lease.__aexit__(None, None, None)
        return result

    def _blames_member(self, error: BaseException) -> bool:
        try:
            return self._classify(error) == "member"
        except Exception as fault:
            guard.fault("classify an error", fault)
            return isinstance(error, Exception)

    def _refused(self, reason: str) -> None:
        signals.measure(metrics.POOL_REJECTIONS, 1, {**self._attributes, names.POOL_REJECTION_REASON: reason})

    def _idle_agents(self) -> list[Member]:
        return [member for member in self._desk.members if not member.in_flight]

    async def _close_agents(self) -> None:
        for member in self._idle_agents():
            closing = self.dispose(member)
            if inspect.isawaitable(closing):
                await closing
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def after_fork(self) -> None:
        self._desk.after_fork()
        self._threads = None


_pools: WeakSet[AgentPool[Any]] = WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
