"""How long the program's own operations take: :func:`measure` and :class:`PerformanceMonitor`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar, cast, overload

from seatrace.core import signals
from seatrace.core.drive import drive_body, driver_of, follow_result
from seatrace.emit import catalogue
from seatrace.emit import semconv as names
from seatrace.own.decorate import Blocks, WrappedFunction, name_of_function

from ._figures import OUTCOMES, Outcome, Series, Stats, Times, add_time, add_up, outcome_of, stats_of
from ._forks import new_lock
from ._report import OTHER, rich_table, seconds, share, text_table
from ._ring import seconds_of
from .sketch import Sketch

__all__ = ["Measurement", "PerformanceMonitor", "Stats", "measure", "monitor"]

_F = TypeVar("_F", bound=Callable[..., Any])


class PerformanceMonitor:
    """Measures operations by name, in bounded memory and from any number of threads and tasks.

    Each time is also recorded in the metric ``seatrace.operation.duration``, with the trace it belongs to; and
    ``seatrace.operation.active`` says how many run.

    Args:
        accuracy: Largest relative error of a quantile.
        window: Of the recent figures, in seconds; exact to one of ``slices``.
        slices: How finely the window moves on.
        max_names: Names beyond these are measured together as ``_OTHER``.
        clock: Seconds, monotonic.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        accuracy: float = 0.01,
        window: float | timedelta = 300.0,
        slices: int = 5,
        max_names: int = 500,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if max_names < 1:
            raise ValueError(f"max_names: expected at least 1, got {max_names!r}")
        self._accuracy = Sketch(accuracy).accuracy
        self._window = seconds_of(window, "window")
        self._slices = slices
        self._max_names = max_names
        self._clock = clock
        self._series: dict[str, Series] = {}
        self._lock = new_lock(self)
        # What was dropped may be noticed inside a garbage collection, where no lock can be waited for.
        self._dropped: SimpleQueue[tuple[_Timing, BaseException | None]] = SimpleQueue()
        self._new_series()  # wrong numbers are said now
        self._shown = False

    def measure(self, name: str | None = None) -> Measurement:
        """Times a function (plain, coroutine, generator, asynchronous generator; a method) or a block::

            @monitor.measure("agent.run")
            async def run(question): ...

            with monitor.measure("parse") as timing:  # async with alike
                ...

        Generators are timed from their first value to their end. What is returned, raised or yielded is unchanged.

        Args:
            name: Of the operation; for a function its own name is the default. Few different ones: no ids.
        """
        return Measurement(self, name)

    def record(self, name: str, duration: float, *, outcome: Outcome = "ok") -> None:
        """Counts an operation that was timed elsewhere; ``duration`` in seconds. One that is negative or no finite
        number counts as an operation without a time."""
        self._count(name, duration, outcome)
        self._tell(name, duration, outcome if outcome != "ok" else None)

    def stats(
        self, name: str, *, window: Literal["all", "recent"] = "all", outcome: Outcome | Literal["all"] = "ok"
    ) -> Stats | None:
        """The figures of ``name``, since the beginning or of the recent window; ``None`` for a name never measured."""
        if window not in ("all", "recent"):
            raise ValueError(f"window: expected 'all' or 'recent', got {window!r}")
        if outcome not in (*OUTCOMES, "all"):
            raise ValueError(f"outcome: expected one of {', '.join(OUTCOMES)}, all; got {outcome!r}")
        with self._lock:
            self._collect()
            series = self._series.get(name)
            if series is None:
                return None
            times = self._times(series, window)
            past = max(self._clock() - series.since, 1e-9)
        return stats_of(name, times, outcome, past if window == "all" else min(past, self._window))

    @property
    def names(self) -> list[str]:
        """What was measured, in the order in which it was first seen."""
        return list(self._series)

    def report(self, *, window: Literal["all", "recent"] = "all") -> str:
        """A table of all names: times of the successful operations. rich draws the monitor itself in colour."""
        return text_table(*self._rows(window))

    def snapshot(self) -> dict[str, Any]:
        """All figures since the beginning, as plain numbers for JSON; :meth:`merge` takes them."""
        with self._lock:
            self._collect()
            found = {name: self._times(series, "all") for name, series in self._series.items()}
        return {name: {outcome: sketch.to_dict() for outcome, sketch in times.items()} for name, times in found.items()}

    def merge(self, other: PerformanceMonitor | Mapping[str, Any]) -> None:
        """Adds what another monitor, or the :meth:`snapshot` of another process, has measured. It counts as past: the
        recent window stays this monitor's own.

        Raises:
            ValueError: The other one's accuracy differs.
        """
        data = other.snapshot() if isinstance(other, PerformanceMonitor) else other
        read = {
            name: {outcome: Sketch.from_dict(each) for outcome, each in times.items()} for name, times in data.items()
        }
        for times in read.values():
            for sketch in times.values():
                Sketch(self._accuracy).merge(sketch)  # all of it fits, or nothing is taken
        with self._lock:
            for name, times in read.items():
                add_up(self._get(name).past, times, self._accuracy)

    def reset(self) -> None:
        """Forgets all figures. Operations that run now count when they end."""
        with self._lock:
            self._collect()
            for series in self._series.values():
                fresh = self._new_series()
                series.past, series.ring, series.since = fresh.past, fresh.ring, fresh.since

    def readings(self) -> list[tuple[Any, float, dict[str, str]]]:
        """How many operations run, for the metric."""
        return [
            (catalogue.MEASURED_ACTIVE, series.active, {names.MEASURED_NAME: name})
            for name, series in list(self._series.items())
        ]

    def zeros(self) -> tuple[()]:
        """No counter has a closed set of labels here."""
        return ()

    def __rich__(self) -> Any:
        return rich_table(*self._rows("all"))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _new_series(self) -> Series:
        return Series(self._window, self._slices, self._clock, self._accuracy)

    def _get(self, name: str) -> Series:
        series = self._series.get(name)
        if series is None:
            if len(self._series) >= self._max_names:
                name = OTHER  # one more than max_names, at most
            series = self._series.get(name)
            if series is None:
                series = self._series[name] = self._new_series()
        return series

    def _begin(self, name: str) -> Series:
        with self._lock:
            series = self._get(name)
            series.active += 1
        if not self._shown:  # now that there is something to read
            self._shown = True
            signals.register(self)
        return series

    def _count(self, name: str, duration: float, outcome: Outcome, ended: Series | None = None) -> None:
        with self._lock:
            self._collect()
            series = ended or self._get(name)
            if ended is not None:
                ended.active -= 1
            add_time(series, duration, outcome, self._accuracy)

    def _tell(self, name: str, duration: float, error_type: str | None) -> None:
        if duration >= 0:
            label = name if name in self._series else OTHER
            attributes = {names.MEASURED_NAME: label}
            if error_type is not None:
                attributes[names.ERROR_TYPE] = error_type
            signals.measure(catalogue.MEASURED_DURATION, duration, attributes)

    def _collect(self) -> None:
        """Counts what was dropped since. The lock is held."""
        while not self._dropped.empty():
            try:
                timing, error = self._dropped.get_nowait()
            except Empty:
                return
            timing.series.active -= 1
            add_time(timing.series, timing.taken, outcome_of(error), self._accuracy)

    def _times(self, series: Series, window: str) -> Times:
        recent = list(series.ring.recent())  # before the past is read: slices may move there
        found: Times = {}
        if window == "all":
            add_up(found, series.past, self._accuracy)
        for times in recent:
            add_up(found, times, self._accuracy)
        return found

    def _rows(self, window: Literal["all", "recent"]) -> tuple[list[str], list[list[str]]]:
        titles = ["operation", "count", "errors", "rate/s", "min", "mean", "p50", "p90", "p95", "p99", "max"]
        found = [each for name in self.names if (each := self.stats(name, window=window)) is not None]
        rows = [
            [
                each.name,
                f"{each.count:,}",
                share(each.error_rate),
                f"{each.rate:.3g}",
                *map(seconds, (each.min, each.mean, each.p50, each.p90, each.p95, each.p99, each.max)),
            ]
            for each in found
        ]
        return titles, rows


class _Timing:
    """One operation between its begin and its end. Behaves like a :class:`~seatrace.core.step.Step`, whose drivers run
    it."""

    __slots__ = ("_error", "_monitor", "_open", "_started", "name", "series", "taken")

    def __init__(self, monitor: PerformanceMonitor, name: str) -> None:
        self.name = name
        self._monitor = monitor
        self._error: BaseException | None = None
        self._open = True
        self.taken = 0.0
        self.series = monitor._begin(name)
        self._started = monitor._clock()

    def fail(self, error: BaseException) -> None:
        """Says that the operation failed, where its exception does not leave the block."""
        self._error = error

    def enter(self) -> None:
        """Nothing is put in force."""

    def leave(self) -> None:
        """Nothing is taken back."""

    said = None

    def yielded(self, value: Any) -> None:
        """Nobody looks at the values of a generator."""

    def result(self, value: Any, read: Any) -> None:
        """Nobody looks at the result."""

    def end(self, error: BaseException | None = None) -> None:
        """Stops the clock, once."""
        if not self._open:
            return
        self._open = False
        error = error or self._error
        self._error = None
        self.taken = self._monitor._clock() - self._started
        if isinstance(error, GeneratorExit):  # perhaps within a garbage collection
            self._monitor._dropped.put((self, error.with_traceback(None)))
            return
        self._monitor._count(self.name, self.taken, outcome_of(error), self.series)
        self._monitor._tell(self.name, self.taken, type(error).__qualname__ if error is not None else None)

    def abandon(self) -> None:
        """Ends it as one whose body was dropped."""
        self.end(GeneratorExit())


class Measurement:
    """A decorator and a block at once. A block may be used again, also within itself and by other threads and tasks."""

    def __init__(self, monitor: PerformanceMonitor, name: str | None) -> None:
        self._monitor = monitor
        self._name = name
        self._blocks: Blocks[_Timing] = Blocks()

    def __call__(self, function: _F) -> _F:
        """Measures ``function``; it stays as it is in signature, kind, docstring and pickling."""
        if isinstance(function, (staticmethod, classmethod)):
            return cast(_F, type(function)(self(function.__func__)))
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"measure(): expected a function, got {function!r}. Measure the methods of a class.")
        name, drive, monitor = self._name or name_of_function(function), driver_of(function), self._monitor

        def start() -> _Timing:
            return _Timing(monitor, name)

        def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            if drive is not None:
                return drive_body(drive, wrapped(*args, **kwargs), start)
            timing = start()
            try:
                result = wrapped(*args, **kwargs)
            except BaseException as error:
                timing.end(error)
                raise
            return follow_result(result, timing, start)

        return cast(_F, WrappedFunction(function, wrapper, (_again, name)))

    def __enter__(self) -> _Timing:
        if self._name is None:
            raise TypeError("with measure(...): expected the operation's name, as in measure('parse')")
        timing = _Timing(self._monitor, self._name)
        self._blocks.push(timing)
        return timing

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._blocks.pop().end(error)

    async def __aenter__(self) -> _Timing:
        return self.__enter__()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.__exit__(kind, error, trace)


def _again(function: Any, name: str) -> Any:
    """In another process a function is measured by that one's own monitor."""
    return measure(name)(function)


monitor = PerformanceMonitor()
"""The monitor behind :func:`measure`: ``seatrace.runtime.monitor.report()``."""


@overload
def measure(name: _F) -> _F: ...
@overload
def measure(name: str | None = None) -> Measurement: ...
def measure(name: Any = None) -> Any:
    """Times a function or a block with the process's own :data:`monitor`; see :meth:`PerformanceMonitor.measure`.
    Works bare, too: ``@measure``."""
    if name is None or isinstance(name, str):
        return monitor.measure(name)
    return monitor.measure()(name)
