"""What the patterns of :mod:`seatrace.runtime` tell: measurements, readings, events, links. To the pipeline in force,
or to nobody where seatrace is not switched on. Nothing in here raises into the caller or knows of OpenTelemetry.

A metric is a row of :mod:`seatrace.emit.catalogue`, attributes are a mapping from its names to values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter_ns, time_ns
from typing import Any, Protocol
from weakref import WeakSet

from . import context, guard, pipeline
from .pipeline import Pipeline, kept, tell
from .record import Call, Kind

Attributes = Mapping[str, str | int | float | bool]


class Source(Protocol):
    """Something alive that has readings: a cache, a pool, a queue. Is held weakly, and must be hashable."""

    def readings(self) -> Iterable[tuple[Any, float, Attributes]]:
        """``(metric, value, attributes)`` of up-down counters and gauges, now. Is called in the exporting thread: must
        not block, and must not wait for a lock that a caller holds while it works."""

    def zeros(self) -> Iterable[tuple[Any, Attributes]]:
        """The counters' closed sets of labels: they start at zero, since a counter that is born at one is invisible to
        ``increase()``."""


sources: WeakSet[Any] = WeakSet()
"""The :class:`Source` objects of this process."""


def register(source: Source) -> None:
    """Lets ``source`` be read with each export, from now on and through every later ``instrument()``."""
    sources.add(source)
    line = pipeline.current
    if line is not None:
        begin_at_zero(line, source)


def begin_at_zero(line: Pipeline, source: Source) -> None:
    """Records the zeros of ``source`` and makes the instruments of its readings."""
    try:
        for metric, attributes in source.zeros():
            line.emitter.measure(metric, 0, attributes)
        for metric, _, _ in source.readings():
            line.emitter.observe(metric)
    except Exception as error:
        guard.fault("measure", error)


def begin_sources(line: Pipeline) -> None:
    """:func:`begin_at_zero` for all of them: where a pipeline begins, and where somebody begins to read it."""
    for source in list(sources):
        begin_at_zero(line, source)


@contextmanager
def waiting() -> Iterator[None]:
    """The agent's run around the block waits: for a free place, for its turn."""
    run = context.current_scope().run
    if run is None:
        yield
        return
    run.spends("waiting", perf_counter_ns())
    try:
        yield
    finally:
        run.spent("waiting", perf_counter_ns())


def measure(metric: Any, value: float, attributes: Attributes) -> None:
    """Adds to a counter, or records into a histogram. Values of label attributes are capped (500 a name)."""
    line = pipeline.current
    if line is not None:
        tell("measure", line.emitter.measure, metric, value, attributes)


def event(name: str, attributes: Attributes, *, warning: bool = False, of: Call | None = None) -> None:
    """Emits an OpenTelemetry event in the context of the current span, or of the call ``of`` that has not ended;
    severity INFO, or WARN."""
    line = pipeline.current
    if line is not None:
        tell("emit an event", partial(line.emitter.event, name, attributes, warning=warning, of=of))


def annotate(attributes: Attributes) -> None:
    """Sets attributes on the current span, where one is recording."""
    line = pipeline.current
    if line is not None:
        tell("annotate a span", line.emitter.annotate, attributes)


def here() -> Any:
    """The current span, for ``links`` of a call elsewhere; ``None`` where there is none."""
    line = pipeline.current
    return None if line is None else kept("link a span", line.emitter.here)


def carrier() -> dict[str, str]:
    """The current trace context (and baggage) as headers, for a job that runs elsewhere; empty where there is none."""
    line = pipeline.current
    return {} if line is None else kept("carry a context", line.emitter.inject) or {}


def arrived(carried: Mapping[str, str]) -> Any:
    """The span that :func:`carrier` was called in, for ``links``; ``None`` where there was none."""
    line = pipeline.current
    return None if line is None else kept("carry a context", lambda: line.emitter.extract(carried))


def record(
    kind: Kind,
    operation: str,
    *,
    started_clock: int,
    name: str | None = None,
    attributes: Attributes | None = None,
    error: BaseException | None = None,
    links: list[Any] | None = None,
    **fields: Any,
) -> None:
    """Emits a call that is over already: ``started_clock`` is the ``perf_counter_ns()`` of its begin."""
    line = pipeline.current
    if line is None or line.rests():
        return
    try:
        call = Call(kind, operation, name=name, links=links, **fields)
        call.attributes.update(attributes or {})
        call.ended_clock = perf_counter_ns()
        line.begin(call, at=(time_ns() - (call.ended_clock - started_clock), started_clock))
        if error is not None:
            call.error, call.error_type = error, type(error).__qualname__
        line.end(call)
        call.error = None
    except Exception as fault:
        guard.fault("begin a call", fault)


scope = context.current_scope
"""Agent, tenant, session … in force here; see :class:`seatrace.core.context.Scope`."""
