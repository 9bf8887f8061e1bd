"""A metric's points with one set of attributes, resolved once and kept."""

from __future__ import annotations

from typing import Any

from seatrace.core.record import Call

from . import catalogue, semconv
from ._recorder import Moment, Recorder, recorder


def present(attributes: dict[str, Any]) -> dict[str, Any]:
    """Those that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}


class Room:
    """How many more series may be kept."""

    def __init__(self, series: int) -> None:
        self._left = series

    def take(self) -> bool:
        """Whether there was room for one more; it is taken."""
        self._left -= 1
        return self._left >= 0


class Family:
    """The series of the calls of one operation, provider, pair of models and server."""

    __slots__ = ("_attributes", "_costs", "_instruments", "_more", "_room", "base")

    def __init__(self, instruments: dict[str, Any], attributes: dict[str, Any], room: Room) -> None:
        self._instruments = instruments
        self._attributes = attributes
        self._room = room
        self._more: dict[tuple[str, str], Series] = {}
        self._costs: dict[tuple[str | None, str | None], Series] = {}
        self.base = Series(instruments, attributes)

    def plus(self, name: str, value: str) -> Series:
        """The series with one attribute more."""
        series = self._more.get((name, value))
        if series is None:
            series = Series(self._instruments, {**self._attributes, name: value})
            if self._room.take():
                self._more[name, value] = series
        return series

    def timed(self, call: Call) -> Series:
        """The series of ``call``'s duration."""
        return self.base if call.error_type is None else self.plus(semconv.ERROR_TYPE, call.error_type)

    def cost(self, agent: str | None, tenant: str | None) -> Series:
        """The series of cost, which names who spent it and no server."""
        series = self._costs.get((agent, tenant))
        if series is None:
            of = {**self._attributes, semconv.AGENT_NAME: agent, semconv.TENANT: tenant}
            series = Series(self._instruments, present({name: of.get(name) for name in catalogue.COST.attributes}))
            if self._room.take():
                self._costs[agent, tenant] = series
        return series


class Series:
    """The instruments' recorders for one attribute set, resolved when first needed."""

    __slots__ = ("_attributes", "_instruments", "_recorders")

    def __init__(self, instruments: dict[str, Any], attributes: dict[str, Any]) -> None:
        self._instruments = instruments
        self._attributes = attributes
        self._recorders: dict[str, Recorder] = {}

    def add(self, metric: catalogue.Metric, value: float, moment: Moment) -> None:
        """Records one value, at once or with the moment's batch."""
        found = self._recorders.get(metric.name) or self._resolved(metric)
        if moment.batch is None:
            found.record(value, moment)
        else:
            moment.batch.measured[found].append((value, moment))

    def add_durations(self, metric: catalogue.Metric, nanoseconds: list[int], moment: Moment) -> None:
        """Records many durations (at least one) at once, in seconds."""
        found = self._recorders.get(metric.name)
        (found or self._resolved(metric)).record_durations(nanoseconds, moment)

    def _resolved(self, metric: catalogue.Metric) -> Recorder:
        made = self._recorders[metric.name] = recorder(self._instruments[metric.name], self._attributes)
        return made
