"""One member of a pool for one block of code, in async code or in a thread."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Hashable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from seatrace.core import signals
from seatrace.errors import ConfigError

from .member import Member

if TYPE_CHECKING:
    from .pool import AgentPool

A = TypeVar("A")


class Lease(Generic[A]):
    """What :meth:`AgentPool.lease` returns. For one block; a second one needs a lease of its own."""

    __slots__ = ("_key", "_member", "_pool", "_since")

    def __init__(self, pool: AgentPool[A], key: Hashable | None) -> None:
        self._pool = pool
        self._key = key
        self._member: Member | None = None
        self._since = 0.0

    async def __aenter__(self) -> A:
        pool = self._pool
        await self._close_retired()
        asked, deadline = pool.clock(), pool.deadline()
        place = pool.join(self._key)
        if not place.done():
            waiting = asyncio.wrap_future(place)
            try:
                while not place.done():
                    pause = pool.pause(deadline)
                    if pause is None:
                        break
                    with signals.waiting():
                        await asyncio.wait([waiting], timeout=pause)
            except BaseException:
                pool.leave(place)
                raise
            finally:
                # What was given in the last moment is in `place`; this one is only the way to be told.
                waiting.add_done_callback(_look)
            if not place.done():
                pool.leave(place, "timeout")
                raise pool.timed_out()
        member = self._got(place, asked)
        if member.agent is None:
            try:
                made: Any = pool.factory()
                pool.made(member, await made if inspect.isawaitable(made) else made)
            except BaseException as error:
                self._back(error)
                raise
        return member.agent  # type: ignore[no-any-return]

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        member, pool = self._member, self._pool
        if member is None:
            return
        seconds = pool.clock() - self._since
        try:
            if pool.reset is not None and member.agent is not None:
                done = pool.reset(member.agent)
                if inspect.isawaitable(done):
                    await done
        except Exception as fault:
            closing = pool.replace(member, fault)
            if inspect.isawaitable(closing):
                await closing
        except BaseException:  # cancelled while it was reset: nobody knows its state
            member.agent = None
            raise
        finally:
            self._back(error, seconds)

    def __enter__(self) -> A:
        pool = self._pool
        for member in pool.retired():
            _no_awaitable("close", pool.dispose(member))
            pool.release(member)
        asked, deadline = pool.clock(), pool.deadline()
        place = pool.join(self._key)
        try:
            while not place.done():
                pause = pool.pause(deadline)
                if pause is None:
                    break
                with signals.waiting():
                    wait([place], timeout=pause)
        except BaseException:
            pool.leave(place)
            raise
        if not place.done():
            pool.leave(place, "timeout")
            raise pool.timed_out()
        member = self._got(place, asked)
        if member.agent is None:
            try:
                pool.made(member, _no_awaitable("factory", pool.factory()))
            except BaseException as error:
                self._back(error)
                raise
        return member.agent  # type: ignore[no-any-return]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        member, pool = self._member, self._pool
        if member is None:
            return
        seconds = pool.clock() - self._since
        try:
            if pool.reset is not None and member.agent is not None:
                _no_awaitable("reset", pool.reset(member.agent))
        except ConfigError:
            raise
        except Exception as fault:
            _no_awaitable("close", pool.replace(member, fault))
        finally:
            self._back(error, seconds)

    def abandon(self) -> None:
        """Gives the member back without its agent: a request that was cancelled has left that in some state."""
        member = self._member
        if member is not None:
            member.agent = None
            self._back(asyncio.CancelledError())

    async def _close_retired(self) -> None:
        pool = self._pool
        for member in pool.retired():
            try:
                closing = pool.dispose(member)
                if inspect.isawaitable(closing):
                    await closing
            finally:
                pool.release(member)

    def _got(self, place: Future[Member], asked: float) -> Member:
        member = self._member = self._pool.taken(place)
        self._since = self._pool.clock()
        self._pool.given(member, self._since - asked)
        return member

    def _back(self, error: BaseException | None, seconds: float | None = None) -> None:
        member, self._member = self._member, None
        if member is not None:
            self._pool.done(member, self._pool.clock() - self._since if seconds is None else seconds, error)


def _look(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _no_awaitable(what: str, result: Any) -> Any:
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise ConfigError(f"{what}: expected a plain function in a pool that is used in threads, got an awaitable")
    return result
