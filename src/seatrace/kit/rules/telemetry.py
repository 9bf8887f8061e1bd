"""Rules about the telemetry itself: what is lost, what is missing, what overflows."""

from __future__ import annotations

from collections.abc import Iterator

from seatrace.emit import semconv as names
from seatrace.emit.catalogue import FAULTS
from seatrace.emit.prometheus import label_name
from seatrace.kit.conventions import Conventions
from seatrace.kit.external import (
    COLLECTOR_FAILED,
    COLLECTOR_SENT,
    OVERFLOW,
    SPANS_EXPORTED,
    SPANS_PROCESSED,
)
from seatrace.kit.promql import Query, Series, count_by, or_zero, present, rate, ratio, series, sum_by

from .conditions import JOB, grown
from .rule import COUNT, PERCENT, Alert, Group, duration, label, percent, spaced
from .thresholds import Thresholds

_FAILED = present(names.ERROR_TYPE)


def telemetry(limits: Thresholds, conventions: Conventions) -> Group:
    """The group."""
    return Group("seatrace-telemetry", (_absent(limits, conventions), *_lost(limits), _faults(), _overflow()))


def _absent(limits: Thresholds, conventions: Conventions) -> Alert:
    before = duration(limits.absent_after)
    signs = (series(FAULTS), conventions.calls.counts())
    return Alert(
        name="SeatraceTelemetryAbsent",
        severity="critical",
        when=f"a job that sent metrics {spaced(before)} ago sends none now",
        expr=_alive(signs, offset=before).unless(_alive(signs)),
        hold="15m",
        summary=f"Nothing is heard of {label(JOB)}",
        description=f"{label(JOB)} sent metrics {spaced(before)} ago and sends none now. Meanwhile its other alerts "
        "cannot fire.",
        board="health",
        tuned_by=("absent_after",),
    )


def _alive(signs: tuple[Series, ...], *, offset: str | None = None) -> Query:
    shift = f" offset {offset}" if offset else ""
    either = Query(" or ".join(f"{sign}{shift}" for sign in signs), frozenset({JOB}), compound=True)
    return count_by(either, JOB)


def _lost(limits: Thresholds) -> Iterator[Alert]:
    for name, found, most, threshold, what in (
        ("SeatraceSpansDropped", SPANS_PROCESSED, limits.spans_dropped_ratio, "spans_dropped_ratio", "dropped"),
        ("SeatraceExportFailing", SPANS_EXPORTED, limits.export_failed_ratio, "export_failed_ratio", "not delivered"),
    ):
        failed = sum_by(rate(series(found, _FAILED), "10m"), JOB)
        yield Alert(
            name=name,
            severity="warning",
            when=f"more than {percent(most)} of the spans of a job are {what}, over 10 min",
            expr=ratio(failed, sum_by(rate(series(found), "10m"), JOB)) > most,
            hold="10m",
            summary=f"Spans of {label(JOB)} are {what}",
            description=f"{PERCENT} of the spans of the last ten minutes were {what}. Traces have holes; metrics do "
            "not.",
            board="health",
            tuned_by=(threshold,),
        )
    sent, failed = (sum_by(rate(series(each), "10m"), JOB, "exporter") for each in (COLLECTOR_SENT, COLLECTOR_FAILED))
    yield Alert(
        name="SeatraceCollectorFailing",
        severity="warning",
        when=f"an exporter of the collector loses more than {percent(limits.export_failed_ratio)} of the spans, over "
        "10 min",
        expr=ratio(failed, failed + or_zero(sent, of=failed)) > limits.export_failed_ratio,
        hold="10m",
        summary=f"The collector cannot pass spans on to {label('exporter')}",
        description=f"{PERCENT} of the spans of the last ten minutes could not be passed on and are lost.",
        board="health",
        tuned_by=("export_failed_ratio",),
    )


def _faults() -> Alert:
    return Alert(
        name="SeatraceFaults",
        severity="warning",
        when="seatrace itself had a fault within the last hour, which it kept from the program",
        expr=grown(series(FAULTS), "1h", JOB, names.STAGE),
        hold="5m",
        summary=f"seatrace has faults in {label(JOB)}",
        description=f"{COUNT} faults in the last hour, where it was to {label(names.STAGE)}. The program is not "
        "touched; some of its calls may be missing or incomplete in telemetry.",
        board="health",
        tuned_by=(),
    )


def _overflow() -> Alert:
    named = 'label_replace({__name__=~"(gen_ai|seatrace|messaging)_.+", ' + f'{label_name(OVERFLOW)}="true"}}, '
    # An alert has no __name__, so two metrics would be the same alert, which Prometheus refuses.
    overflown = Query(named + '"metric", "$1", "__name__", "(.+)")', frozenset({JOB, "metric"}))
    return Alert(
        name="SeatraceCardinalityOverflow",
        severity="warning",
        when="a metric has more attribute sets than the SDK keeps, and the rest falls into one",
        expr=count_by(overflown, JOB, "metric") > 0,
        hold="15m",
        summary=f"{label('metric')} of {label(JOB)} has too many series",
        description="Its further attribute sets fall into one series without labels, so sums hold, but what is broken "
        "down by label does not.",
        board="health",
        tuned_by=(),
    )
