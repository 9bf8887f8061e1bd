"""Whom a call belongs to: scope, agent run, suppression. Plain context variables, no OpenTelemetry."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .record import Call, Content
from .timeline import Spending, Timeline, spending_of


class RunWatch(Protocol):
    """Somebody who looks at what happens within one run. Never raises."""

    def asked(self, call: Call, content: Content) -> None:
        """A tool of this run's own begins."""

    def ended(self, call: Call, *, own: bool) -> None:
        """A model or tool call ended and is counted, ``own`` or a sub-agent's."""


class Outer(Protocol):
    """A model call as a framework makes it. What goes out to a model within it is the same call."""

    over: bool
    """Whether it has ended."""

    def taken(self) -> None:
        """An observed client makes it: it counts there."""


@dataclass(slots=True, eq=False)
class Run:
    """The roll-up of one agent or workflow run.

    ``own_*`` leave sub-agents out (the conventions want ``gen_ai.invoke_agent.inference_calls`` so); the totals
    include them. All updates hold the lock: tools of one run may work in threads.
    """

    name: str | None
    parent: Run | None = None
    own_model_calls: int = 0
    own_tool_calls: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    steps: int = 0
    """Model calls that this run made itself: each one is a turn of its loop."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    own_input_tokens: int | None = None
    own_output_tokens: int | None = None
    cost: float | None = None
    own_cost: float | None = None
    unpriced: int = 0
    finish_reasons: list[str] | None = None
    saved_cost: float | None = None
    """USD that calls would have cost whose answers came out of a cache, sub-agents' included."""
    own_saved_cost: float | None = None
    saved_tokens: int | None = None
    timeline: Timeline = field(default_factory=lambda: Timeline(0), repr=False)
    """Set anew when the run begins."""
    kept: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What patterns keep for the life of this run, by a key of their own: a budget's account of it."""
    watch: RunWatch | None = None
    around: tuple[Run, ...] = field(init=False, repr=False)
    """The runs that this one is a part of, the innermost first."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.around = () if self.parent is None else (self.parent, *self.parent.around)

    def begins(self, call: Call) -> None:
        """A model or tool call begins; :meth:`add` ends it."""
        spending = spending_of(call)
        if spending is not None:
            self.spends(spending, call.started_clock)

    def spends(self, spending: Spending, clock: int) -> None:
        """From ``clock`` on, time of this run and those around it goes to ``spending``, too."""
        for run in (self, *self.around):
            with run._lock:
                run.timeline.begin(spending, clock)

    def spent(self, spending: Spending, clock: int) -> None:
        """Until ``clock``."""
        for run in (self, *self.around):
            with run._lock:
                run.timeline.end(spending, clock)

    def pauses(self, clock: int, until: int) -> None:
        """A model call waits before its next attempt."""
        for run in (self, *self.around):
            with run._lock:
                run.timeline.pause(clock, until)

    def time(self, clock: int) -> dict[str, float]:
        """Seconds until ``clock`` by what they were spent on: ``model``, ``tool``, ``waiting``, ``own``."""
        with self._lock:
            return self.timeline.split(clock)

    def saves(self, cost: float | None, tokens: int | None) -> None:
        """An answer of a cache made a call needless."""
        for run in (self, *self.around):
            with run._lock:
                run.saved_cost = _plus(run.saved_cost, cost)
                run.saved_tokens = _plus(run.saved_tokens, tokens)
                if run is self:
                    run.own_saved_cost = _plus(run.own_saved_cost, cost)

    def add(self, call: Call) -> None:
        """Counts an ended model or tool call into this run and the runs around it."""
        for run in (self, *self.around):
            run._count(call, own=run is self)
            if run.watch is not None:
                run.watch.ended(call, own=run is self)

    def _count(self, call: Call, *, own: bool) -> None:
        spending = spending_of(call)
        with self._lock:
            if spending is not None:
                self.timeline.end(spending, call.ended_clock)
            if call.runs_tool:
                self.tool_calls += 1
                self.own_tool_calls += own
                return
            if call.kind == "inference":
                self.model_calls += 1
                self.own_model_calls += own
                self.steps += own
                if own:
                    self.finish_reasons = call.finish_reasons
            usage, cost = call.usage, call.cost
            if usage is not None:
                self.input_tokens = _plus(self.input_tokens, usage.input_tokens)
                self.output_tokens = _plus(self.output_tokens, usage.output_tokens)
                if own:
                    self.own_input_tokens = _plus(self.own_input_tokens, usage.input_tokens)
                    self.own_output_tokens = _plus(self.own_output_tokens, usage.output_tokens)
            if cost is not None:
                self.cost = _plus(self.cost, cost.total)
                if own:
                    self.own_cost = _plus(self.own_cost, cost.total)
            elif usage is not None and usage.input_tokens is not None:
                self.unpriced += 1


def _plus(total: Any, value: Any) -> Any:
    return total if value is None else value if total is None else total + value


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom and on whose behalf the current code runs. Immutable; changes make a new one."""

    conversation: str | None = None
    session: str | None = None
    user: str | None = None
    tenant: str | None = None
    agent: str | None = None
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    run: Run | None = None


EMPTY = Scope()

_scope: ContextVar[Scope] = ContextVar("seatrace_scope", default=EMPTY)
_suppressed: ContextVar[bool] = ContextVar("seatrace_suppressed", default=False)
_observing: ContextVar[Call | None] = ContextVar("seatrace_observing", default=None)
_outer: ContextVar[Outer | None] = ContextVar("seatrace_outer", default=None)

current_scope = _scope.get
"""The scope in force here."""

enter_scope = _scope.set
leave_scope = _scope.reset

suppressed = _suppressed.get
"""Whether observation is switched off here, see :func:`suppress`."""


def observing() -> Call | None:
    """The model call that is being observed here, ``None`` outside of one. A task that was started inside a call may
    outlive it: what it calls later is its own."""
    call = _observing.get()
    return None if call is None or call.ended else call


enter_call = _observing.set
leave_call = _observing.reset


def outer_call() -> Outer | None:
    """The framework's model call that the current code is a part of. A task that was started inside one may outlive it:
    what it calls later is its own."""
    outer = _outer.get()
    return None if outer is None or outer.over else outer


enter_outer = _outer.set
leave_outer = _outer.reset


def narrowed(**changes: Any) -> Scope:
    """The current scope with ``changes``; values of ``None`` leave what is there."""
    scope = _scope.get()
    attributes = changes.pop("attributes", None)
    kept = {name: value for name, value in changes.items() if value is not None}
    if attributes:
        kept["attributes"] = {**scope.attributes, **attributes}
    return replace(scope, **kept) if kept else scope


@contextmanager
def suppress() -> Iterator[None]:
    """Calls inside are made but not observed. Nests; holds for this thread or task and what it starts."""
    token = _suppressed.set(True)
    try:
        yield
    finally:
        try:
            _suppressed.reset(token)
        except ValueError:  # left in another context than entered, as a framework's dependencies are
            pass
