"""Writing into the SDK's aggregations without its per-measurement overhead.

``Histogram.record`` is the dearest thing on the path of a call: it validates and copies the attributes, hashes them and
looks the aggregation up, each time. A :class:`Recorder` does that once for an attribute set that repeats, asks the
exemplar filter once a call, and puts the many gaps of a stream into a histogram at one go. It relies on internals of
opentelemetry-sdk, so everything is looked at before it is used: any other SDK, reader or version gets the public call
instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol


class Moment:
    """When and where something was measured: what all measurements of one call have in common. To the SDK's
    aggregations it is the measurement itself."""

    __slots__ = ("attributes", "context", "instrument", "sampled", "time_unix_nano", "value")

    def __init__(self, time_unix_nano: int, context: Any) -> None:
        self.time_unix_nano = time_unix_nano
        self.context = context
        self.instrument: Any = None
        self.attributes: Any = None
        self.value: float = 0
        self.sampled: bool | None = None
        """What the exemplar filter said of this context, once it was asked."""


class Recorder(Protocol):
    """One instrument with one attribute set."""

    def record(self, value: float, moment: Moment) -> None:
        """Records ``value``, at least 0."""

    def record_durations(self, nanoseconds: Sequence[int], moment: Moment) -> None:
        """Records many durations (at least one) of one moment, in seconds and in ascending order."""


class PublicRecorder:
    """Through the public API."""

    __slots__ = ("_attributes", "_record")

    def __init__(self, instrument: Any, attributes: Mapping[str, Any]) -> None:
        self._record = instrument.record if hasattr(instrument, "record") else instrument.add
        self._attributes = attributes

    def record(self, value: float, moment: Moment) -> None:
        """Records ``value``."""
        self._record(value, self._attributes, moment.context)

    def record_durations(self, nanoseconds: Sequence[int], moment: Moment) -> None:
        """Records them one by one."""
        for duration in sorted(nanoseconds):
            self._record(duration / 1e9, self._attributes, moment.context)


class DirectRecorder:
    """Straight into the aggregations of every reader."""

    __slots__ = (
        "_aggregates",
        "_attributes",
        "_consumer",
        "_filter",
        "_filters_by_context",
        "_instrument",
        "_places",
        "_storages",
    )

    def __init__(self, instrument: Any, consumer: Any, attributes: Mapping[str, Any]) -> None:
        self._instrument = instrument
        self._consumer = consumer
        self._attributes = attributes
        self._filter = consumer._sdk_config.exemplar_filter
        self._filters_by_context = type(self._filter) in _internals().filters_by_context
        self._resolve()

    def record(self, value: float, moment: Moment) -> None:
        """Records ``value``."""
        if self._consumer._reader_storages is not self._storages:  # a reader was added or removed
            self._resolve()
        sampled = self._measured(value, moment)
        for aggregate in self._aggregates:
            aggregate(moment, sampled)

    def record_durations(self, nanoseconds: Sequence[int], moment: Moment) -> None:
        """Records them at one go, where the aggregation is one that can be filled so."""
        if self._consumer._reader_storages is not self._storages:
            self._resolve()
        ascending = sorted(nanoseconds)
        for place in self._places:
            with place.match._lock:
                aggregation = place.aggregation()
                if place.counts_in_bulk and self._filters_by_context:
                    _count(aggregation, ascending, moment, self._measured(0.0, moment))
                    continue
                for duration in ascending:
                    aggregation.aggregate(moment, self._measured(duration / 1e9, moment))

    def _measured(self, value: float, moment: Moment) -> bool:
        """Makes ``moment`` a measurement of this recorder's; returns whether it may become an exemplar."""
        moment.value = value
        moment.attributes = self._attributes
        moment.instrument = self._instrument
        sampled = moment.sampled
        if sampled is None:
            sampled = bool(self._filter.should_sample(value, moment.time_unix_nano, self._attributes, moment.context))
            if self._filters_by_context:
                moment.sampled = sampled
        return sampled

    def _resolve(self) -> None:
        storages = self._consumer._reader_storages
        self._places = [
            _Place(match, self._attributes)
            for storage in storages.values()
            for match in storage._get_or_init_view_instrument_match(self._instrument)
        ]
        self._aggregates = [place.aggregate() for place in self._places]
        self._storages = storages  # the SDK replaces this object where readers come or go


class _Place:
    """Where one reader, or one view of it, keeps one attribute set of one instrument."""

    __slots__ = ("_attributes", "_key", "counts_in_bulk", "match")

    def __init__(self, match: Any, attributes: Mapping[str, Any]) -> None:
        kept = match._view._attribute_keys
        self._attributes = {name: value for name, value in attributes.items() if kept is None or name in kept}
        self._key = _internals().hash_attributes(self._attributes)
        self.match = match
        self.counts_in_bulk = _counts_in_bulk(match._aggregation)

    def aggregation(self) -> Any:
        """The aggregation in force. The lock of ``match`` must be held."""
        return self.match._get_or_create_aggregation(self._key, self._attributes)

    def aggregate(self) -> Any:
        """``aggregate(measurement, sampled)``."""
        with self.match._lock:
            lasting = self.aggregation().aggregate
        # A delta reader throws its aggregations away at each collection.
        return self._aggregate if self.match._reset_on_collect else lasting

    def _aggregate(self, measurement: Any, sampled: bool) -> None:
        with self.match._lock:
            self.aggregation().aggregate(measurement, sampled)


def _count(aggregation: Any, ascending: Sequence[int], moment: Moment, sampled: bool) -> None:
    """What ``aggregate`` would do for each of the durations, one after the other."""
    filled = _fill(aggregation._boundaries, ascending)
    with aggregation._lock:
        if aggregation._value is None:
            aggregation._value = aggregation._get_empty_bucket_counts()
        for bucket, count, _ in filled:
            aggregation._value[bucket] += count
        aggregation._sum += sum(ascending) / 1e9
        if aggregation._record_min_max:
            aggregation._min = min(aggregation._min, ascending[0] / 1e9)
            aggregation._max = max(aggregation._max, ascending[-1] / 1e9)
    if sampled:
        for _, _, largest in filled:  # the reservoir keeps the last one of each bucket
            aggregation._reservoir.offer(largest / 1e9, moment.time_unix_nano, moment.attributes, moment.context)


def _fill(bounds: Sequence[float], ascending: Sequence[int]) -> list[tuple[int, int, int]]:
    """Of each bucket that gets something: its index, how many, and the largest of them."""
    filled = []
    done, total = 0, len(ascending)
    for bucket, bound in enumerate(bounds):
        upto = bisect_right(ascending, bound, done, key=_seconds)
        if upto > done:
            filled.append((bucket, upto - done, ascending[upto - 1]))
            done = upto
            if done == total:
                return filled
    if done < total:
        filled.append((len(bounds), total - done, ascending[-1]))
    return filled


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / 1e9


def _counts_in_bulk(aggregation: Any) -> bool:
    known = _internals()
    return (
        type(aggregation) is known.histogram
        and type(getattr(aggregation, "_reservoir", None)) is known.reservoir
        and all(hasattr(aggregation, name) for name in _USED)
    )


_USED = ("_boundaries", "_get_empty_bucket_counts", "_lock", "_max", "_min", "_record_min_max", "_sum", "_value")


class _Internals(NamedTuple):
    hash_attributes: Any
    histogram: type
    reservoir: type
    filters_by_context: tuple[type, ...]
    """Exemplar filters whose answer is the same for every value of a call."""


@cache
def _internals() -> _Internals:
    from opentelemetry.sdk import metrics
    from opentelemetry.sdk.metrics._internal import _view_instrument_match, aggregation

    return _Internals(
        _view_instrument_match._hash_attributes,
        aggregation._ExplicitBucketHistogramAggregation,
        metrics.AlignedHistogramBucketExemplarReservoir,
        (metrics.TraceBasedExemplarFilter, metrics.AlwaysOnExemplarFilter, metrics.AlwaysOffExemplarFilter),
    )


def recorder(instrument: Any, attributes: Mapping[str, Any]) -> Recorder:
    """The fastest recorder that works for ``instrument``."""
    real = getattr(instrument, "_real_instrument", None) or instrument
    consumer = getattr(real, "_measurement_consumer", None)
    try:
        enabled = getattr(real, "_is_enabled", None)
        if enabled is None or not enabled():
            raise AttributeError("another version of the SDK, or a disabled meter")
        return DirectRecorder(real, consumer, attributes)
    except Exception:
        return PublicRecorder(instrument, attributes)
