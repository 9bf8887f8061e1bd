"""What all caches do alike: look up, make the call once for all who ask, judge and keep its answer, go on without the
store where that is down, tell what happened."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator, Sequence
from contextvars import copy_context
from functools import partial
from threading import Thread
from time import perf_counter_ns
from typing import Any
from weakref import WeakSet

from seatrace.core import guard
from seatrace.core.pipeline import Refused
from seatrace.errors import ConfigError

from .ask import Ask, Outcome
from .codec import UnstorableError
from .flight import Flight, Flights
from .making import Making
from .reach import Reach
from .steps import Flow, Run, run_async, run_sync
from .store import Entry, Store
from .telemetry import CacheTelemetry, Result

_REFRESHES_LIMIT = 4
"""Threads that refresh stale entries of one cache at once."""


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
        self._chance = chance
        leases: Any = store if single_flight and hasattr(store, "acquire") else None
        self._reach = Reach(store, telemetry, leases=leases, lease=lease, chance=chance)
        self._flights: Flights[Outcome] = Flights()
        self.forked: Sequence[Callable[[], None]] = ()
        """What else is to be done after a fork, in the child."""
        self._refreshing = 0
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
            entry, _ = yield from self._reach.read(ask.key)
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
        except ConfigError as error:  # a coroutine function where a plain one was to be
            outcome = Outcome("error", error=error)
        except Exception as error:
            outcome = Outcome("bypass", fault=error)
        finally:
            self._flights.land(flight, outcome)

    def _make(self, ask: Ask, flight: Flight[Outcome]) -> Flow[Outcome]:
        lease, waited = yield from self._reach.take_lease(ask.key)
        # Somebody may have kept it between our look and our turn.
        old, failed = yield from self._reach.read(ask.key)
        served = None
        if old is not None and self.store.clock() < old.fresh_until:
            served = yield from self._served(ask, old, "coalesced" if waited else "hit")
        elif ask.near is not None:
            near = yield from ask.near()
            if near is not None:
                served = yield from self._served(ask, near.entry, "hit", attributes=near.attributes)
        if served is not None:
            yield from self._reach.give_back(ask.key, lease)
            return served
        outcome = Outcome("error" if failed else "miss", looked=perf_counter_ns())
        try:
            entry = yield from self._call(ask, outcome)
        except GeneratorExit:  # the loop is gone: nobody takes another step, and the lease runs out by itself
            raise
        except BaseException:
            yield from self._reach.give_back(ask.key, lease)
            raise
        if entry is not None and not flight.void:
            yield from self._reach.write(ask.key, entry, lease, flight)
        else:
            yield from self._reach.give_back(ask.key, lease)
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
        entry, failed = yield from self._reach.read(ask.key)
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
            yield from self._reach.write(ask.key, entry)

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
        except RuntimeError:  # no more threads to be had
            self._refreshing -= 1
            self._flights.land(flight, None)

    # --- by hand ----------------------------------------------------------------------------------------------------

    def peek(self, ask: Ask) -> Any:
        """What is kept for ``ask``, ``None`` where nothing is."""
        return run_sync(self.recorded(ask))

    def put(self, ask: Ask, value: Any) -> bool:
        """Keeps ``value`` for ``ask``, where its verdict allows that."""
        entry = self._entry(ask, Outcome("miss", value), Making(), 0.0)
        return entry is not None and run_sync(self._reach.write(ask.key, entry))

    # --- forgetting -------------------------------------------------------------------------------------------------

    def forget(self, key: str) -> bool:
        """Forgets an entry, and does not keep what is on its way to become one."""
        self._flights.void(lambda each: each == key)
        return self._reach.delete(key)

    def clear(self, prefix: str) -> int:
        """Forgets all entries whose keys start with ``prefix``."""
        self._flights.void(lambda each: each.startswith(prefix))
        return self._reach.clear(prefix)

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
    return _Awaited(result) if hasattr(result, "__await__") else result


class _Awaited:
    """A call's awaitable, whose exception takes the same way."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            return (yield from self._result.__await__())
        except Exception as error:
            raise _Failed(error) from None

    def close(self) -> None:
        """Nobody awaits it."""
        close = getattr(self._result, "close", None)
        if close is not None:
            close()
