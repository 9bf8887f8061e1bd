"""The pool's desk: gives members to requests and takes them back. No waiting in here, and no telemetry.

A request that must wait stands in line with a future; whoever changes something (a member comes back, an ejection is
over) calls :meth:`Desk.serve`, which gives members to the line in its order. All of it holds one lock for a moment.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass

from .errors import PoolClosed, PoolFull
from .member import Ejection, Member
from .pick import Pick, preferred


@dataclass(slots=True, eq=False)
class Place:
    """A place in line."""

    future: Future[Member]
    key: Hashable | None


class Desk:
    """Members and the line before them."""

    def __init__(
        self,
        size: int,
        least: int,
        *,
        most: int,
        max_queue: int,
        ejection: Ejection | None,
        pick: Pick,
        clock: Callable[[], float],
    ) -> None:
        self.members = [Member(number) for number in range(size)]
        self._least = least
        self._most = most
        self._max_queue = max_queue
        self._ejection = ejection
        self._pick = pick
        self._clock = clock
        self._line: deque[Place] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._empty: list[Future[None]] = []

    @property
    def pending(self) -> int:
        """Requests in line."""
        return sum(not place.future.done() for place in list(self._line))

    @property
    def closed(self) -> bool:
        return self._closed

    def join(self, key: Hashable | None) -> Future[Member]:
        """A place in line; its future has a member already where one is free.

        Raises:
            PoolClosed: No more requests are taken.
            PoolFull: The line is as long as may be.
        """
        with self._lock:
            if self._closed:
                raise PoolClosed("expected an open pool, but this one is drained or closed")
            self._serve()
            place = Place(Future(), key)
            self._line.append(place)
            self._serve()
            if place.future.done() or len(self._line) <= self._max_queue:
                return place.future
            self._line.remove(place)
            raise PoolFull(
                f"all {len(self.members)} members are busy and {self._max_queue} requests wait already: try again "
                "later, or allow more with size= or max_queue="
            )

    def serve(self) -> float | None:
        """Gives free members to those in line. Returns when (on the clock) one more may open, if somebody waits."""
        with self._lock:
            self._serve()
            if not self._line:
                return None
            now, panic = self._clock(), self._panic()
            opens = [at for member in self.members if (at := member.opens_at(panic=panic)) > now]
            return min(opens, default=None)

    def made(self, member: Member, agent: object) -> None:
        """``member`` has its agent, and room for as many requests as may be."""
        with self._lock:
            member.agent = agent
            self._serve()

    def leave(self, future: Future[Member]) -> Member | None:
        """Gives a place in line up. Returns the member, where it was given one in the same moment."""
        if future.cancel():
            with self._lock:
                self._serve()
            return None
        return None if future.exception() is not None else future.result()

    def give_back(
        self, member: Member, *, failed: bool | None, seconds: float = 0.0, retry_after: float | None = None
    ) -> bool:
        """The request is done: well, badly, or in a way that says nothing about the member (``None``). Returns whether
        the member was ejected."""
        with self._lock:
            now = self._clock()
            member.in_flight -= 1
            member.last_used = member.idle_since = now
            ejected = False
            if failed and self._ejection is not None:
                ejected = member.failed(now, self._ejection, retry_after)
            elif failed is False:
                member.succeeded(seconds)
            self._serve()
            if self._closed:
                self._tell_empty()
            return ejected

    def retire(self, idle: float) -> list[Member]:
        """Members beyond the least number that were idle for ``idle`` seconds, in flight once so that nobody gets
        them: to be closed and given back."""
        with self._lock:
            now = self._clock()
            made = [member for member in self.members if member.agent is not None]
            old = [each for each in made if not each.in_flight and now - each.idle_since >= idle]
            old.sort(key=lambda member: member.idle_since)
            retired = old[: max(0, len(made) - self._least)]
            for member in retired:
                member.in_flight += self._most
            return retired

    def retired(self, member: Member) -> None:
        """The place of a retired member is free for a new one."""
        with self._lock:
            member.in_flight -= self._most
            self._serve()
            if self._closed:
                self._tell_empty()

    def close(self, *, drain: bool) -> Future[None]:
        """Takes no more requests. Those in line are served, or turned away; the future is done when all are."""
        with self._lock:
            self._closed = True
            while self._line and not drain:
                place = self._line.popleft()
                if place.future.set_running_or_notify_cancel():
                    place.future.set_exception(PoolClosed("the pool was closed while the request waited"))
            empty: Future[None] = Future()
            self._empty.append(empty)
            self._tell_empty()
            return empty

    def after_fork(self) -> None:
        """In the child nobody waits, and agents with their connections are the parent's."""
        self._lock = threading.Lock()
        self._line.clear()
        self._empty.clear()
        self.members[:] = [Member(member.number) for member in self.members]

    # --- with the lock held -------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while self._line:
            place = self._line[0]
            if place.future.done():
                self._line.popleft()
                continue
            member = self._choose(place.key)
            if member is None:
                return
            self._line.popleft()
            if place.future.set_running_or_notify_cancel():
                member.in_flight += 1
                place.future.set_result(member)

    def _choose(self, key: Hashable | None) -> Member | None:
        now, panic = self._clock(), self._panic()
        ejection = None if panic else self._ejection
        free = [
            member
            for member in self.members
            if member.opens_at(panic=panic) <= now and member.room(self._most, ejection)
        ]
        if not free:
            return None
        if key is not None:
            wanted = preferred(self.members, key)
            if wanted in free:
                return wanted
        made = [member for member in free if member.agent is not None or member.in_flight]
        there = sum(member.agent is not None or member.in_flight > 0 for member in self.members)
        if len(made) < len(free) and (not made or there < self._least):
            return next(member for member in free if member not in made)
        return self._pick(made)

    def _panic(self) -> bool:
        if self._ejection is None:
            return False
        now = self._clock()
        ejected = sum(member.ejected_until is not None and member.ejected_until > now for member in self.members)
        return ejected > self._ejection.max_ejected * len(self.members)

    def _tell_empty(self) -> None:
        if self._line or any(member.in_flight for member in self.members):
            return
        told, self._empty = self._empty, []
        for future in told:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
