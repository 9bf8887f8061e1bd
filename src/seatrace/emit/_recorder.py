"""Writing into the SDK's aggregations without its per-measurement overhead.

``Histogram.record`` is the dearest thing on the path of a call: it validates and copies the attributes, hashes them and
looks the aggregation up, each time. A :class:`Recorder` does that once for an attribute set that repeats, asks the
exemplar filter once a call, and puts the many gaps of a stream, and what many calls measured, into an aggregation at
one go. It relies on internals of opentelemetry-sdk, so everything is looked at before it is used: any other SDK, reader
or version gets the public call instead.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from random import Random
from typing import Any, NamedTuple, Protocol

from seatrace.core import guard


class Moment:
    """When and where something was measured: what all measurements of one call have in common. To the SDK's
    aggregations it is the measurement itself."""

    __slots__ = ("attributes", "batch", "context", "instrument", "sampled", "time_unix_nano", "value")

    def __init__(self, time_unix_nano: int, context: Any) -> None:
        self.time_unix_nano = time_unix_nano
        self.context = context
        self.instrument: Any = None
        self.attributes: Any = None
        self.value: float = 0
        self.sampled: bool | None = None
        """What the exemplar filter said of this context, once it was asked."""
        self.batch: Batch | None = None
        """Where its measurements wait for those of other calls."""


Measured = Sequence[tuple[float, Moment]]
"""Values, each with its moment, in the order in which they were measured."""


class Batch:
    """What many calls measured, by recorder."""

    __slots__ = ("measured",)

    def __init__(self) -> None:
        self.measured: defaultdict[Recorder, list[tuple[float, Moment]]] = defaultdict(list)

    def record(self) -> None:
        """Records all of them. Where that fails for one recorder, the others get theirs."""
        for recorder in list(self.measured):  # first come, first served: some SDKs tell of instruments in that order
            measured = self.measured.pop(recorder, None)
            try:
                if measured:  # else a signal's handler was faster
                    recorder.record_all(measured)
            except Exception as error:
                guard.fault("emit a call", error)


class Recorder(Protocol):
    """One instrument with one attribute set."""

    def record(self, value: float, moment: Moment) -> None:
        """Records ``value``, at least 0."""

    def record_all(self, measured: Measured) -> None:
        """Records many values (at least one), as one by one."""

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

    def record_all(self, measured: Measured) -> None:
        """Records them one by one."""
        for value, moment in measured:
            self.record(value, moment)

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

    def record_all(self, measured: Measured) -> None:
        """Records them at one go, where the aggregation is one that can be filled so."""
        for place, aggregation in self._locked():
            fill = place.fill_all if self._filters_by_context else None
            if fill is not None:
                sampled = [
                    (value, moment)
                    for value, moment in measured
                    if moment.sampled or (moment.sampled is None and self._sampled(value, moment))
                ]
                fill(aggregation, measured, sampled, self._attributes)
                continue
            for value, moment in measured:
                aggregation.aggregate(moment, self._measured(value, moment))

    def record_durations(self, nanoseconds: Sequence[int], moment: Moment) -> None:
        """Records them at one go, where the aggregation is one that can be filled so."""
        ascending = sorted(nanoseconds)
        for place, aggregation in self._locked():
            if place.fill_all is _count_all and self._filters_by_context:
                _count_durations(aggregation, ascending, moment, self._measured(0.0, moment))
                continue
            for duration in ascending:
                aggregation.aggregate(moment, self._measured(duration / 1e9, moment))

    def _locked(self) -> Iterator[tuple[_Place, Any]]:
        """Each place with its aggregation in force, while its lock is held."""
        if self._consumer._reader_storages is not self._storages:
            self._resolve()
        for place in self._places:
            with place.match._lock:
                yield place, place.aggregation()

    def _measured(self, value: float, moment: Moment) -> bool:
        """Makes ``moment`` a measurement of this recorder's; returns whether it may become an exemplar."""
        moment.value = value
        moment.attributes = self._attributes
        moment.instrument = self._instrument
        return self._sampled(value, moment)

    def _sampled(self, value: float, moment: Moment) -> bool:
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

    __slots__ = ("_attributes", "_key", "fill_all", "match")

    def __init__(self, match: Any, attributes: Mapping[str, Any]) -> None:
        kept = match._view._attribute_keys
        self._attributes = {name: value for name, value in attributes.items() if kept is None or name in kept}
        self._key = _internals().hash_attributes(self._attributes)
        self.match = match
        self.fill_all = _fills_all(match._aggregation)

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


Fill = Callable[[Any, Measured, Measured, Mapping[str, Any]], None]
"""Does what ``aggregate`` would do, one after the other, for all that was measured and for what of it was sampled."""


def _count_all(aggregation: Any, measured: Measured, sampled: Measured, attributes: Mapping[str, Any]) -> None:
    bucket_of = partial(bisect_left, aggregation._boundaries)
    values = [value for value, _ in measured]
    _count(aggregation, Counter(map(bucket_of, values)), sum(values), min(values), max(values))
    latest = {bucket_of(each[0]): each for each in sampled}  # the reservoir keeps the last one of each bucket
    for value, moment in latest.values():
        aggregation._reservoir.offer(value, moment.time_unix_nano, attributes, moment.context)


def _count_durations(aggregation: Any, ascending: Sequence[int], moment: Moment, sampled: bool) -> None:
    filled = _fill(aggregation._boundaries, ascending)
    counts = {bucket: count for bucket, count, _ in filled}
    _count(aggregation, counts, sum(ascending) / 1e9, ascending[0] / 1e9, ascending[-1] / 1e9)
    if sampled:
        for _, _, largest in filled:
            aggregation._reservoir.offer(largest / 1e9, moment.time_unix_nano, moment.attributes, moment.context)


def _count(aggregation: Any, counts: Mapping[int, int], total: float, smallest: float, largest: float) -> None:
    with aggregation._lock:
        if aggregation._value is None:
            aggregation._value = aggregation._get_empty_bucket_counts()
        for bucket, count in counts.items():
            aggregation._value[bucket] += count
        aggregation._sum += total
        if aggregation._record_min_max:
            aggregation._min = min(aggregation._min, smallest)
            aggregation._max = max(aggregation._max, largest)


def _sum_all(aggregation: Any, measured: Measured, sampled: Measured, attributes: Mapping[str, Any]) -> None:
    with aggregation._lock:
        aggregation._value = (aggregation._value or 0) + sum(value for value, _ in measured)
    if not sampled:
        return
    reservoir = aggregation._reservoir
    with reservoir._lock:  # it keeps one of all that it has seen, each as likely as any other
        seen = reservoir._measurements_seen
        reservoir._measurements_seen += len(sampled)
        drawn = _random.randrange(reservoir._measurements_seen) - seen
        if drawn >= 0:
            value, moment = sampled[drawn]
            reservoir._reservoir_storage[0].offer(value, moment.time_unix_nano, attributes, moment.context)


_random = Random()
"""Not the interpreter's own, whose numbers a program with a seed counts on."""


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


def _fills_all(aggregation: Any) -> Fill | None:
    """How to fill an aggregation like this one at one go; ``None`` where it is another one than we know."""
    known = _internals()
    reservoir: Any = getattr(aggregation, "_reservoir", None)
    kinds = type(aggregation), type(reservoir)
    if kinds == (known.histogram, known.reservoir_of_histogram) and _has(aggregation, _OF_HISTOGRAMS):
        return _count_all
    if kinds == (known.sum, known.reservoir_of_sum) and _has(aggregation, _OF_SUMS) and _has(reservoir, _OF_RESERVOIRS):
        return _sum_all if reservoir._size == 1 else None
    return None


def _has(internal: Any, names: tuple[str, ...]) -> bool:
    return all(hasattr(internal, name) for name in names)


_OF_SUMS = ("_lock", "_value")
_OF_HISTOGRAMS = (*_OF_SUMS, "_boundaries", "_get_empty_bucket_counts", "_max", "_min", "_record_min_max", "_sum")
_OF_RESERVOIRS = ("_lock", "_measurements_seen", "_reservoir_storage", "_size")


class _Internals(NamedTuple):
    hash_attributes: Any
    histogram: type
    reservoir_of_histogram: type
    sum: type
    reservoir_of_sum: type
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
        aggregation._SumAggregation,
        metrics.SimpleFixedSizeExemplarReservoir,
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
