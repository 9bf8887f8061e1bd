"""One attempt at a job: what its handler is given, and what it may cost."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal

from seatrace.core import pipeline
from seatrace.core.context import Run
from seatrace.core.record import Call, Cost
from seatrace.errors import ConfigError

from .errors import JobCostExceeded
from .record import Delivery

End = Literal["timeout", "cancelled", "lost", "released"]


class Attempt:
    """What a handler is given."""

    __slots__ = ("_dearest", "_delivery", "_ended", "_in_flight", "_limit", "_lock", "_stop", "payload", "run")

    def __init__(self, delivery: Delivery, payload: Any, limit: float | None) -> None:
        self._delivery = delivery
        self._limit = limit
        self._lock = threading.Lock()
        self._in_flight = 0
        self._dearest = 0.0
        self._ended: End | None = None
        self._stop: Callable[[], object] | None = None
        self.payload = payload
        """What was queued."""
        self.run = Run(delivery.envelope.task)
        """Roll-up of the model and tool calls of this attempt."""

    @property
    def id(self) -> str:
        """The job's id: the same for all its attempts."""
        return self._delivery.envelope.id

    @property
    def task(self) -> str:
        return self._delivery.envelope.task

    @property
    def number(self) -> int:
        """1 for the first attempt."""
        return self._delivery.attempt

    @property
    def max_attempts(self) -> int:
        return self._delivery.envelope.max_attempts

    @property
    def fence(self) -> int:
        """Grows with every delivery of the job. Hand it to whatever you write to: who refuses a fence lower than the
        last one it saw is safe from a worker that was only slow to die."""
        return self._delivery.fence

    @property
    def cancelled(self) -> bool:
        """Whether the result is not wanted any more (cancelled, timed out, given to another worker, shut down). A
        coroutine is cancelled then; a plain function should look here from time to time and return."""
        return self._ended is not None

    @property
    def cost(self) -> float | None:
        """USD of this attempt so far; ``None`` where no call with a known price was observed."""
        return self.run.cost

    def add_cost(self, usd: float) -> None:
        """Adds what seatrace cannot see: a tool that costs money, a client that is not observed."""
        if not math.isfinite(usd) or usd < 0:
            raise ConfigError(f"usd: expected a finite number of at least 0, got {usd!r}")
        self.run.add(Call("operation", "cost", cost=Cost(usd)))

    # --- for the worker -----------------------------------------------------------------------------------------------

    @property
    def ended(self) -> End | None:
        return self._ended

    def on_end(self, stop: Callable[[], object]) -> None:
        """Calls ``stop`` when the attempt is ended before it is done; at once where it was."""
        with self._lock:
            self._stop = stop
            ended = self._ended
        if ended is not None:
            stop()

    def end(self, why: End) -> None:
        """Ends the attempt; the first reason stays. Safe from any thread."""
        with self._lock:
            if self._ended is not None:
                return
            self._ended = why
            stop = self._stop
        if stop is not None:
            stop()

    # --- what it may cost ---------------------------------------------------------------------------------------------

    def admit(self, call: Call) -> None:
        """Lets a model call pass while the job's cost has room for it. What is in flight is reckoned as dear as the
        dearest call so far."""
        if self._limit is None or call.kind not in ("inference", "embeddings"):
            return
        spent = (self._delivery.cost or 0.0) + (self.run.cost or 0.0)
        with self._lock:
            if spent + self._in_flight * self._dearest >= self._limit:
                raise JobCostExceeded(
                    f"job {self.id} has cost {spent:.6g} USD in {self.number} attempts, with {self._in_flight} calls "
                    f"in flight, and may cost {self._limit:g}: raise max_cost_per_job=, or make the job smaller"
                )
            self._in_flight += 1
        call.on_end = [*(call.on_end or ()), self._settle]

    def _settle(self, call: Call) -> None:
        with self._lock:
            self._in_flight -= 1
            if call.cost is not None:
                self._dearest = max(self._dearest, call.cost.total)


_current: ContextVar[Attempt | None] = ContextVar("seatrace_attempt", default=None)

current_attempt = _current.get
"""The attempt that this code is part of; ``None`` outside of jobs."""

enter_attempt = _current.set
leave_attempt = _current.reset

_lock = threading.Lock()
_capped = 0
_remove: Callable[[], None] | None = None


def _gate(call: Call) -> None:
    attempt = _current.get()
    if attempt is not None:
        attempt.admit(call)


def watch_costs() -> Callable[[], None]:
    """Lets attempts look at model calls before they are made, while any worker with a limit runs; returns a function
    that ends this."""
    global _capped, _remove
    with _lock:
        _capped += 1
        if _remove is None:
            _remove = pipeline.add_gate(_gate)

    def end() -> None:
        global _capped, _remove
        with _lock:
            _capped -= 1
            if _capped == 0 and _remove is not None:
                _remove()
                _remove = None

    return end
