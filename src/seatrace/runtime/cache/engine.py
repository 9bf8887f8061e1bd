"""What all caches do alike: look up, make the call once for all who ask, judge and keep its answer, go on without the
store where that is down, tell what happened."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from time import monotonic, perf_counter_ns
from typing import Any, TypeVar
from weakref import WeakSet

from seatrace.core import guard
from seatrace.core.pipeline import Refused

from .codec import UnstorableError, decode, encode
from .flight import Flight, Flights
from .making import Making
from .steps import Flow, Io, Run, Sleep, run_async, run_sync
from .store import Entry, Leases, Store
from .telemetry import CacheTelemetry, Result

_T = TypeVar("_T")

_REST = 1.0
"""Seconds that a store which failed is left alone."""

_POLL = (0.02, 0.5)
"""Seconds between two looks at what another process is making: at first, and at most."""

_REFRESHES_LIMIT = 4
"""Threads that refresh stale entries of one cache at once."""


@dataclass(frozen=True)
class Near:
    """An entry that is served although its key is another one."""

    entry: Entry
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request to a cache."""

    key: str
    call: Callable[[], Any]
    """Makes the answer: a function, or a coroutine function where the program is asynchronous."""
    operation: str = "chat"
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What the record of a hit has besides."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Further attributes of its span."""
    ttl: Callable[[Any, bytes], float | str]
    """How long to keep an answer, given as it is and as bytes; or why not at all, in one of our fixed words."""
    encode: Callable[[Any, Making], bytes] = lambda value, made: encode(value)
    decode: Callable[[bytes], Any] = decode
    """May be a coroutine function where the program is asynchronous."""
    near: Callable[[], Flow[Near | None]] | None = None
    """Looks for something similar, after there was nothing equal."""
    made: Callable[[Any, Entry | None], Flow[None]] | None = None
    """Is shown an answer just made, and the entry where it is kept."""


@dataclass
class Outcome:
    """What became of a call, or what stands in for it."""

    result: Result
    value: Any = None
    error: Exception | None = None
    body: bytes | None = None
    entry: Entry | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    looked: int = 0
    """``perf_counter_ns()`` when the lookup was over."""
    fault: Exception | None = None
    """What went wrong in our own code: everybody makes the call for themselves then."""

    def get(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


alive: WeakSet[Engine] = WeakSet()
"""The engines of this process."""


class Engine:
    """The machinery of one cache.

    Args:
        store: Where entries are kept.
        telemetry: Who tells of it.
        stale_while_revalidate: Seconds past its time that an entry is still served, while a new one is made.
        stale_if_error: Seconds past its time that an entry is still served where the call fails.
        jitter: By which share of its time, at most, an entry ends early, so that not all end at once.
        single_flight: Whether those who ask for the same thing at once share one call.
        lease: Seconds that one process may take for a call while others wait for its answer; only with a store that
            knows leases.
        chance: A random number from 0 to 1.
    """

    def __init__(
        self,
        store: Store,
        telemetry: CacheTelemetry,
        *,
        stale_while_revalidate: float = 0.0,
        stale_if_error: float = 0.0,
        jitter: float = 0.0,
        single_flight: bool = True,
        lease: float = 60.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.store = store
        self.telemetry = telemetry
        self._revalidate = stale_while_revalidate
        self._if_error = stale_if_error
        self._jitter = jitter
        self._single = single_flight
        self._lease = lease
        self._leases: Leases | None = store if single_flight and hasattr(store, "acquire") else None  # type: ignore[assignment]
        self._chance = chance
        self._flights: Flights[Outcome] = Flights()
        self.forked: Sequence[Callable[[], None]] = ()
        """What else is to be done after a fork, in the child."""
        self._refreshing = 0
        self._resting_until = 0.0
        alive.add(self)

    # --- the two doors ----------------------------------------------------------------------------------------------

    def answer_sync(self, ask: Ask) -> Any:
        """The answer to ``ask``, kept or new."""
        started = perf_counter_ns()
        outcome = run_sync(self._look(ask, self._refresh_in_thread))
        while outcome is None:
            flight, leads = self._join(ask)
            if leads:
                with flight.leading():
                    run_sync(self._lead(ask, flight))
                outcome = flight.wait()
            elif flight.blocked(synchronous=True):
                return self._uncached(ask, "inside_itself")
            else:
                outcome = run_sync(self._share(ask, flight.wait()))
        if outcome.fault is not None:
            guard.fault("look into a cache", outcome.fault)
            return self._uncached(ask, "fault")
        return self._told(ask, outcome, started).get()

    async def answer(self, ask: Ask) -> Any:
        """:meth:`answer_sync` for asynchronous programs."""
        started = perf_counter_ns()
        outcome = await run_async(self._look(ask, self._refresh_in_task))
        while outcome is None:
            flight, leads = self._join(ask)
            if leads:
                flight.start(run_async(self._lead(ask, flight)), partial(self._flights.land, flight, None))
                outcome = await flight.arrive()
            elif flight.blocked(synchronous=False):
                return await self._uncached(ask, "inside_itself")
            else:
                outcome = await run_async(self._share(ask, await flight.arrive()))
        if outcome.fault is not None:
            guard.fault("look into a cache", outcome.fault)
            return await self._uncached(ask, "fault")
        return self._told(ask, outcome, started).get()

    def _join(self, ask: Ask) -> tuple[Flight[Outcome], bool]:
        return self._flights.join(ask.key) if self._single else (Flight(ask.key), True)

    def _uncached(self, ask: Ask, reason: str) -> Any:
        self.telemetry.bypassed(reason)
        return ask.call()

    def _told(self, ask: Ask, outcome: Outcome, started: int) -> Outcome:
        seconds = (outcome.looked - started) / 1e9 if outcome.looked >= started else None
        self.telemetry.looked_up(outcome.result, seconds)
        if outcome.result in ("hit", "stale", "coalesced") and outcome.entry is not None:
            age = self.store.clock() - outcome.entry.created
            self.telemetry.served(
                outcome.result,
                outcome.entry,
                age,
                started,
                operation=ask.operation,
                call=ask.fields,
                attributes={**ask.attributes, **outcome.attributes},
            )
        return outcome

    # --- flows ------------------------------------------------------------------------------------------------------

    def _look(self, ask: Ask, refresh: Callable[[Ask], None]) -> Flow[Outcome | None]:
        try:
            entry, _ = yield Io(lambda: self._read(ask.key), self.store.blocking)
            now = self.store.clock()
            if entry is None or now >= entry.fresh_until + self._revalidate:
                return None
            served = yield from self._served(ask, entry, "hit" if now < entry.fresh_until else "stale")
            if served is not None and served.result == "stale":
                refresh(ask)
            return served
        except Exception as error:
            return Outcome("bypass", fault=error)

    def _served(self, ask: Ask, entry: Entry, result: Result, **attributes: Any) -> Flow[Outcome | None]:
        looked = perf_counter_ns()
        try:
            value = yield Run(lambda: ask.decode(entry.body), "decode")
        except Exception as error:
            self.telemetry.passed_over("unreadable")
            self.telemetry.tell_once("unreadable", "an entry could not be read, the call is made", error)
            return None
        return Outcome(result, value, body=entry.body, entry=entry, looked=looked, **attributes)

    def _share(self, ask: Ask, outcome: Outcome | None) -> Flow[Outcome | None]:
        """What one caller made, for another one: an object of its own, as far as that can be had."""
        if outcome is None or outcome.fault is not None:
            return outcome
        if outcome.error is not None:
            return Outcome("coalesced", error=outcome.error)
        body = outcome.body
        if body is None:
            return Outcome("coalesced", outcome.value)
        value = yield Run(lambda: ask.decode(body), "decode")
        return Outcome("coalesced", value, body=body, entry=outcome.entry, attributes=outcome.attributes)

    def _lead(self, ask: Ask, flight: Flight[Outcome]) -> Flow[None]:
        outcome = None
        try:
            outcome = yield from self._make(ask, flight)
        except Exception as error:
            outcome = Outcome("bypass", fault=error)
        finally:
            self._flights.land(flight, outcome)

    def _make(self, ask: Ask, flight: Flight[Outcome]) -> Flow[Outcome]:
        lease, waited = yield from self._take_lease(ask)
        # Somebody may have kept it between our look and our turn.
        old, failed = yield Io(lambda: self._read(ask.key), self.store.blocking)
        served = None
        if old is not None and self.store.clock() < old.fresh_until:
            served = yield from self._served(ask, old, "coalesced" if waited else "hit")
        elif ask.near is not None:
            near = yield from ask.near()
            if near is not None:
                served = yield from self._served(ask, near.entry, "hit", attributes=near.attributes)
        if served is not None:
            yield Io(lambda: self._give_back(ask.key, lease), self.store.blocking and lease is not None)
            return served
        outcome = Outcome("error" if failed else "miss", looked=perf_counter_ns())
        try:
            entry = yield from self._call(ask, outcome)
        except GeneratorExit:  # the loop is gone: nobody takes another step, and the lease runs out by itself
            raise
        except BaseException:
            yield Io(lambda: self._give_back(ask.key, lease), self.store.blocking)
            raise
        if entry is not None and not flight.void:
            yield Io(lambda: self._write(ask.key, entry, lease, flight), self.store.blocking)
        elif lease is not None:
            yield Io(lambda: self._give_back(ask.key, lease), self.store.blocking)
        if outcome.error is not None and old is not None and self._forgives(outcome.error, old):
            served = yield from self._served(ask, old, "stale")
            return served or outcome
        return outcome

    def _call(self, ask: Ask, outcome: Outcome) -> Flow[Entry | None]:
        """Makes the call; what came of it into ``outcome``, what is to be kept of it as an entry."""
        begun, made = perf_counter_ns(), Making()
        with made.noticing():
            try:
                value = yield Run(lambda: _caught(ask.call), "call")
            except _Failed as failed:
                outcome.error = failed.error
                return None
        seconds = (perf_counter_ns() - begun) / 1e9
        outcome.value = value
        try:
            outcome.entry = self._entry(ask, outcome, made, seconds)
            if ask.made is not None:
                yield from ask.made(value, outcome.entry)
        except Exception as error:
            guard.fault("keep an answer", error)
        return outcome.entry

    def _entry(self, ask: Ask, outcome: Outcome, made: Making, seconds: float) -> Entry | None:
        try:
            outcome.body = ask.encode(outcome.value, made)
        except UnstorableError as error:
            self.telemetry.passed_over("not_storable")
            self.telemetry.tell_once(f"not_storable {error}", f"an answer cannot be kept: {error}")
            return None
        verdict = ask.ttl(outcome.value, outcome.body)
        if isinstance(verdict, str):
            self.telemetry.passed_over(verdict)
            return None
        return self.entry(
            outcome.body,
            verdict,
            seconds=seconds,
            cost=made.cost,
            tokens=made.tokens,
            model=ask.fields.get("request_model") or made.model,
            link=made.link,
        )

    def entry(self, body: bytes, ttl: float, **known: Any) -> Entry | None:
        """An entry that lives for ``ttl`` seconds from now, with jitter; ``None`` where that is no time at all."""
        if ttl <= 0:
            return None
        now = self.store.clock()
        fresh_until = now + ttl * (1 - self._jitter * self._chance())
        dies = fresh_until + max(self._revalidate, self._if_error)
        return Entry(body, now, fresh_until, dies, **known)

    def _forgives(self, error: Exception, old: Entry) -> bool:
        """Whether an old answer is better than this error. A refusal is no outage: somebody wanted it."""
        return not isinstance(error, Refused) and self.store.clock() < old.fresh_until + self._if_error

    # --- streams ----------------------------------------------------------------------------------------------------

    def recorded(self, ask: Ask) -> Flow[Any]:
        """What is kept for ``ask``, ``None`` where a call is to be made."""
        started = perf_counter_ns()
        entry, failed = yield Io(lambda: self._read(ask.key), self.store.blocking)
        if entry is not None and self.store.clock() < entry.fresh_until:
            served = yield from self._served(ask, entry, "hit")
            if served is not None:
                return self._told(ask, served, started).value
        self._told(ask, Outcome("error" if failed else "miss", looked=perf_counter_ns()), started)
        return None

    def keep(self, ask: Ask, value: Any, made: Making, seconds: float) -> Flow[None]:
        """Keeps what came of a call that went on after it had returned."""
        try:
            entry = self._entry(ask, Outcome("miss", value), made, seconds)
        except Exception as error:
            guard.fault("keep an answer", error)
            return
        if entry is not None:
            yield Io(lambda: self.write(ask.key, entry), self.store.blocking)

    # --- stale entries ----------------------------------------------------------------------------------------------

    def _refresh_in_task(self, ask: Ask) -> None:
        flight, leads = self._flights.join(ask.key)
        if leads:
            flight.detached = True
            flight.start(run_async(self._lead(ask, flight)), partial(self._flights.land, flight, None))

    def _refresh_in_thread(self, ask: Ask) -> None:
        if self._refreshing >= _REFRESHES_LIMIT:
            return
        flight, leads = self._flights.join(ask.key)
        if not leads:
            return
        self._refreshing += 1
        flight.detached = True

        def work() -> None:
            try:
                with flight.leading():
                    run_sync(self._lead(ask, flight))
            finally:
                self._refreshing -= 1

        try:
            Thread(target=copy_context().run, args=(work,), name="seatrace-cache-refresh", daemon=True).start()
        except BaseException:  # no more threads to be had
            self._refreshing -= 1
            self._flights.land(flight, None)
            raise

    # --- the store, which may fail ----------------------------------------------------------------------------------

    def _attempt(self, work: Callable[[], _T], otherwise: _T) -> tuple[_T, bool]:
        """``work()``, and whether it failed. A store that failed is left alone for a while."""
        if monotonic() < self._resting_until:
            return otherwise, True
        try:
            return work(), False
        except Exception as error:
            self._resting_until = monotonic() + _REST
            self.telemetry.store_failed(error)
            return otherwise, True

    def _read(self, key: str) -> tuple[Entry | None, bool]:
        return self._attempt(lambda: self.store.get(key), None)

    def write(self, key: str, entry: Entry) -> None:
        """Keeps ``entry``."""
        self._attempt(lambda: self.store.put(key, entry), False)

    def _write(self, key: str, entry: Entry, lease: str | None, flight: Flight[Outcome]) -> None:
        self._attempt(lambda: self.store.put(key, entry, lease), False)
        if flight.void:  # invalidated while we wrote
            self._attempt(lambda: self.store.delete(key), False)

    def _give_back(self, key: str, lease: str | None) -> None:
        leases = self._leases
        if leases is not None and lease is not None:
            self._attempt(lambda: leases.release(key, lease), None)

    def _take_lease(self, ask: Ask) -> Flow[tuple[str | None, bool]]:
        """The right to make the call, and whether another process had it before. ``None`` where the store is down,
        where there is an answer by now, or where the other one takes too long: then everybody helps themselves."""
        leases, waited = self._leases, False
        if leases is None:
            return None, waited
        until, pause = monotonic() + self._lease, _POLL[0]
        while True:
            lease, failed = yield Io(
                lambda: self._attempt(lambda: leases.acquire(ask.key, self._lease), None), self.store.blocking
            )
            if lease is not None or failed or monotonic() >= until:
                return lease, waited
            waited = True
            yield Sleep(pause * (0.5 + self._chance()))
            pause = min(pause * 1.5, _POLL[1])
            entry, failed = yield Io(lambda: self._read(ask.key), self.store.blocking)
            if failed or (entry is not None and self.store.clock() < entry.fresh_until):
                return None, waited

    # --- by hand ----------------------------------------------------------------------------------------------------

    def peek(self, ask: Ask) -> Any:
        """What is kept for ``ask``, ``None`` where nothing is."""
        return run_sync(self.recorded(ask))

    def put(self, ask: Ask, value: Any) -> bool:
        """Keeps ``value`` for ``ask``, where its verdict allows that."""
        entry = self._entry(ask, Outcome("miss", value), Making(), 0.0)
        return entry is not None and self._attempt(lambda: self.store.put(ask.key, entry), False)[0]

    # --- forgetting -------------------------------------------------------------------------------------------------

    def forget(self, key: str) -> bool:
        """Forgets an entry, and does not keep what is on its way to become one."""
        self._flights.void(lambda each: each == key)
        return self._attempt(lambda: self.store.delete(key), False)[0]

    def clear(self, prefix: str) -> int:
        """Forgets all entries whose keys start with ``prefix``."""
        self._flights.void(lambda each: each.startswith(prefix))
        return self._attempt(lambda: self.store.clear(prefix), 0)[0]

    def after_fork(self) -> None:
        """In the child: what was under way is the parent's."""
        self._flights.after_fork()
        self._refreshing = 0
        self.telemetry.after_fork()
        fork = getattr(self.store, "after_fork", None)
        for each in self.forked if fork is None else (fork, *self.forked):
            each()


def _after_fork() -> None:
    for engine in list(alive):
        engine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Failed(Exception):
    """The call's own exception on its way through a flow, where a bare ``StopIteration`` would be taken for its end."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _caught(call: Callable[[], Any]) -> Any:
    try:
        result = call()
    except Exception as error:
        raise _Failed(error) from None
    return _awaited(result) if hasattr(result, "__await__") else result


async def _awaited(result: Any) -> Any:
    try:
        return await result
    except Exception as error:
        raise _Failed(error) from None
