"""The one way that every record travels: begin → (chunks) → end → price → hook → emit → listeners."""

from __future__ import annotations

import gc
import os
import queue
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from functools import partial
from threading import local
from time import perf_counter_ns, time_ns
from typing import Any, Protocol, TypeVar

from . import context, guard
from .record import Call, Cost, RateLimit
from .timeline import Timeline

Listener = Callable[[Call], None]
"""Is given each ended call, once, after pricing and emitting. Must not keep content longer than it needs."""


class Emitter(Protocol):
    """What ``emit/`` offers to the pipeline."""

    wants_content: bool

    def place(self, call: Call) -> None:
        """Takes from the current context whose call it is, as far as the scope does not say."""

    def begin(self, call: Call, *, later: bool = False) -> None:
        """Starts the telemetry of ``call``: fills ``call.span``. ``later``: nothing of the SDK's may be called now, so
        that the span itself is started by :meth:`end`."""

    def end(self, call: Call) -> None:
        """Finishes it: span, metrics and events."""

    def activate(self, call: Call) -> Any:
        """Makes the call's span the current one; returns what :meth:`deactivate` needs."""

    def deactivate(self, token: Any) -> Any:
        """Takes back :meth:`activate`; returns what :meth:`reactivate` needs to go on later."""

    def reactivate(self, state: Any) -> Any:
        """Goes on where :meth:`deactivate` left off; for generators, whose body pauses."""

    def suppressed(self) -> bool:
        """Whether OpenTelemetry's own switch says that nothing is to be instrumented here."""

    def stands_aside(self, call: Call) -> bool:
        """Whether another instrumentation observes this very call already."""

    def retried(self, call: Call, reason: str, seconds: float) -> None:
        """Measures a retry within ``call``."""

    def limits(self, call: Call, read: Callable[[], Iterable[RateLimit]]) -> None:
        """Keeps what a provider last said of its limits; ``read`` is asked when that is exported."""

    def session(self, call: Call, seconds: float) -> None:
        """Measures a session of the Model Context Protocol that is over; ``call`` says with whom it was."""

    def measure(self, metric: Any, value: float, attributes: Mapping[str, Any]) -> None:
        """Records one value of a metric of the catalogue."""

    def observe(self, metric: Any) -> None:
        """Makes the instrument by which ``metric`` of the sources is read (``core/signals.py``)."""

    def event(self, name: str, attributes: Mapping[str, Any], *, warning: bool, of: Call | None = None) -> None:
        """Emits an event in the current context, or in that of a call that has not ended."""

    def annotate(self, attributes: Mapping[str, Any]) -> None:
        """Sets attributes on the current span."""

    def here(self) -> Any:
        """The current span, as a link."""

    def inject(self) -> dict[str, str]:
        """The current context as headers."""

    def extract(self, carried: Mapping[str, str]) -> Any:
        """The span in such headers, as a link."""


class Pipeline:
    """Holds the emitter, the price book and the listeners of one ``instrument()``."""

    def __init__(self, emitter: Emitter, price: Callable[[Call], Cost | None] | None = None) -> None:
        self.emitter = emitter
        self.price = price
        self.wants_content = emitter.wants_content
        self.watch_run: Callable[[Call], context.RunWatch] | None = None
        """Makes the watch of a run that an agent's call begins."""

    def rests(self) -> bool:
        """Whether nothing is to be observed here, by our own switch or by OpenTelemetry's."""
        return context.suppressed() or self.emitter.suppressed()

    def begin(self, call: Call, *, at: tuple[int, int] | None = None) -> None:
        """Starts ``call``: clocks, scope, span. ``at``: when it began, since the epoch and on the monotonic clock,
        where it is told afterwards: no gate is asked then.

        Raises:
            Refused: A gate does not let it happen; nothing was started.
        """
        drain()
        self._place(call)
        if at is None:
            outer = context.outer_call()
            if outer is not None and call.kind in ("inference", "embeddings"):
                outer.taken()
            if gates:
                _pass_gates(call)
        call.request = None
        call.started, call.started_clock = at or (time_ns(), perf_counter_ns())
        self.emitter.begin(call, later=_collecting())
        if call.run is not None:
            call.run.timeline = Timeline(call.started_clock)
        elif at is None and call.scope.run is not None:
            call.scope.run.begins(call)

    def admit(self, call: Call) -> None:
        """Asks the gates for a call that may be told afterwards; :func:`withdraw` says that it is another one's.

        Raises:
            Refused: A gate does not let it happen.
        """
        if gates:
            self._place(call)
            _pass_gates(call)

    def _place(self, call: Call) -> None:
        call.scope = scope = context.current_scope()
        if call.agent is None:
            call.agent = scope.agent
        if call.conversation_id is None:
            call.conversation_id = scope.conversation
        self.emitter.place(call)

    def end(self, call: Call) -> None:
        """Ends ``call``; a second end does nothing. Never raises, and is safe in destructors."""
        if call.ended:
            return
        if not call.ended_clock:
            call.ended_clock = perf_counter_ns()
        if put_aside(self._end_with, call, call.error) or not call.close():
            return
        try:
            self._price(call)
            self.emitter.end(call)
        except Exception as error:
            guard.fault("emit a call", error)
        for listener in listeners:
            try:
                listener(call)
            except Exception as error:
                guard.fault("notify a listener", error)
        if call.on_end is not None:
            withdraw(call)

    def _end_with(self, call: Call, error: BaseException | None) -> None:
        call.error = error
        self.end(call)
        call.error = None

    def retried(self, call: Call, reason: str, seconds: float) -> None:
        """The client is about to make another attempt within ``call``, after ``seconds``; ``reason`` is the HTTP status
        or the exception of the one before."""
        call.retries += 1
        tell("follow an attempt", self.emitter.retried, call, reason, seconds)
        if call.scope.run is not None:
            clock = perf_counter_ns()
            call.scope.run.pauses(clock, clock + int(seconds * 1e9))

    def _price(self, call: Call) -> None:
        billed = call.kind in ("inference", "embeddings")
        if billed and self.price is not None and (call.usage is not None or call.reported_cost is not None):
            try:
                call.cost = self.price(call)
            except Exception as error:
                guard.fault("price a call", error)
        run = call.scope.run if call.scope is not None else None
        if run is not None and call.run is None and (call.exchange is None or call.exchange.counts):
            run.add(call)


current: Pipeline | None = None
"""The pipeline in force; ``None`` while seatrace is not switched on."""

listeners: tuple[Listener, ...] = ()


def on_call(listener: Listener) -> Callable[[], None]:
    """Calls ``listener`` with every ended call, in the thread that ended it; returns a function that stops it.

    An exception in the listener is counted (``seatrace.faults``) and does not reach the observed program.
    """
    global listeners
    listeners = (*listeners, listener)

    def remove() -> None:
        global listeners
        listeners = tuple(each for each in listeners if each is not listener)

    return remove


# --- what may refuse a call ---------------------------------------------------------------------------------------


class Refused(Exception):
    """A gate's word that a call is not to be made. The one exception of ours that reaches the observed program, and
    only where it asked for that: a budget that blocks, a runaway agent that is stopped."""


_T = TypeVar("_T")


def kept(stage: str, work: Callable[[], _T], otherwise: _T | None = None) -> _T | None:
    """``work()``, or ``otherwise`` where that fails: a fault of ours is counted and kept from the program. What a gate
    refuses is no fault."""
    try:
        return work()
    except Refused:
        raise
    except Exception as error:
        guard.fault(stage, error)
        return otherwise


Gate = Callable[[Call], None]
"""Looks at a call about to be made (model, parameters, scope) and raises :class:`Refused`, or lets it pass; may append
to ``call.on_end`` to learn what became of it. Any other exception of it is a fault of ours and lets the call pass."""

gates: tuple[Gate, ...] = ()


def add_gate(gate: Gate) -> Callable[[], None]:
    """Shows ``gate`` every call before it begins; returns a function that stops it."""
    global gates
    gates = (*gates, gate)

    def remove() -> None:
        global gates
        gates = tuple(each for each in gates if each is not gate)

    return remove


def _pass_gates(call: Call) -> None:
    for gate in gates:
        try:
            gate(call)
        except Refused:
            withdraw(call)  # those before this one have reserved something
            raise
        except Exception as error:
            guard.fault("pass a gate", error)


def withdraw(call: Call) -> None:
    """Tells the gates that let ``call`` pass what became of it: it ended, or it is not made after all."""
    told, call.on_end = call.on_end or (), None
    for tell in told:
        try:
            tell(call)
        except Exception as error:
            guard.fault("pass a gate", error)


# --- within a garbage collection ----------------------------------------------------------------------------------
#
# A collection may start at any allocation, also inside the SDK while it holds a lock that emitting needs. Whatever is
# to be emitted in there (by our own destructors, by a library that closes its response as its generator is collected,
# by a program's `__del__` or the `finally` of a dropped coroutine) would wait for that lock for ever. It is therefore
# put aside (SimpleQueue.put is safe in destructors) and done at the next begin or flush. A stream that simply goes out
# of scope ends at once: no collection is running then.

_aside: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

# Which phase the collector is in, the last key; what it said when it began; and the same in the thread that it runs in.
# The callbacks are C functions on purpose: a signal that arrives during a collection is handled at the first bytecode,
# and an exception raised there (Ctrl-C) is lost inside a callback. Each is called with the phase and a dict of figures,
# the same object for all of them: it is what tells whether the collection is this thread's.
# `move_to_end(phase, info)` takes the non-empty `info` for "move to the last place".
_phases: OrderedDict[str, None] = OrderedDict.fromkeys(("start", "stop"))
_told: dict[str, Any] = {}
_Local: Any = next(
    (each for each in object.__subclasses__() if (each.__module__, each.__qualname__) == ("_thread", "_local")), local
)
"""The interpreter's own, also where gevent has put one in its place, which fails in a greenlet that is collected."""
_told_here = _Local()
_NOTICES: tuple[Any, ...] = (_phases.move_to_end, _told.__setitem__, _told_here.__setattr__)


def _collecting() -> bool:
    """Whether a collection runs in this thread. Those of others wait for nobody here."""
    if list(_phases)[-1] != "start":  # one step: the collector may begin or end between any two
        return False
    return getattr(_told_here, "start", None) is _told.get("start")


def put_aside(work: Callable[..., object], *arguments: Any) -> bool:
    """Whether a collection runs in this thread: then ``work`` is done after it, in the context that is current now."""
    if not _collecting():
        return False
    _aside.put(partial(copy_context().run, work, *arguments))
    return True


def tell(stage: str, work: Callable[..., object], *arguments: Any) -> None:
    """``work(*arguments)``, now or after the collection that runs in this thread. A fault of ours is counted and kept
    from the program."""
    try:
        if not put_aside(tell, stage, work, *arguments):
            work(*arguments)
    except Exception as error:
        guard.fault(stage, error)


def watch_collector(on: bool) -> None:
    """Follows the garbage collector's phases, so that what is to be emitted within a collection is put aside. Goes on
    while streams are open, whose calls are still to end."""
    if on:
        gc.callbacks.extend(each for each in _NOTICES if each not in gc.callbacks)
    elif not still_open:
        for notice in _NOTICES:
            if notice in gc.callbacks:
                gc.callbacks.remove(notice)
        _phases.move_to_end("stop")


def drain() -> None:
    """Does what was put aside; not while a collection runs, which is as unsafe as before."""
    if _aside.empty() or _collecting():
        return
    for _ in range(_aside.qsize()):
        try:
            work = _aside.get_nowait()
        except queue.Empty:
            return
        work()


# --- streams that are open ---------------------------------------------------------------------------------------


class Open(Protocol):
    """A call that goes on after its method returned. Whoever adds one to :data:`still_open` takes it out at its end."""

    call: Call

    def abandoned(self) -> None:
        """Ends the call as if its stream had been dropped."""


still_open: set[Open] = set()


def finish() -> None:
    """For the end of the process: ends the calls whose streams are open, and does what was put aside."""
    drain()
    for each in list(still_open):
        each.abandoned()


def _disown() -> None:
    """After a fork, in the child: the streams that are open, and what was put aside, are the parent's."""
    global _aside
    _aside = queue.SimpleQueue()
    for each in still_open:
        each.call.close()
    still_open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
