"""Rules about the patterns of :mod:`seatrace.runtime`: caches, queues, pools."""

from __future__ import annotations

from collections.abc import Iterator

from seatrace.emit import semconv as names
from seatrace.emit.catalogue import CACHE_REQUESTS, POOL_MEMBERS, QUEUE_DEPTH, QUEUE_JOBS, QUEUE_OLDEST_AGE, QUEUE_WAIT
from seatrace.kit.promql import (
    Query,
    buckets,
    equal,
    increase,
    matches,
    max_by,
    now,
    quantile,
    rate,
    series,
    share,
    sum_by,
)

from .conditions import JOB, enough, grown
from .rule import COUNT, DURATION, PERCENT, Alert, Group, duration, label, percent, spaced
from .thresholds import Thresholds

_CACHE = (JOB, names.CACHE_NAME, names.CACHE_KIND)
_QUEUE = (names.MESSAGING_SYSTEM, names.MESSAGING_DESTINATION)
"""Not by job: who puts jobs into a queue and who works them off are often two."""


def patterns(limits: Thresholds) -> Group:
    """The group."""
    return Group("seatrace-patterns", (_cache(limits), *_queues(limits), _pool(limits)))


def _cache(limits: Thresholds) -> Alert:
    today, yesterday = _hit_ratio("30m"), _hit_ratio("1h", offset="1d")
    return Alert(
        name="SeatraceCacheHitRatioDrop",
        severity="warning",
        when=f"a cache's hit ratio is less than {percent(limits.cache_drop)} of that of a day ago, over 30 min",
        expr=(today < (yesterday > limits.cache_floor) * limits.cache_drop).both(
            enough(series(CACHE_REQUESTS), "30m", limits.min_lookups, *_CACHE)
        ),
        hold="30m",
        summary=f"Cache {label(names.CACHE_NAME)} hits far less than yesterday",
        description=f"Only {PERCENT} of the lookups of {label(JOB)} in the last 30 minutes were hits, less than "
        f"{percent(limits.cache_drop)} of the share of a day ago. Each miss is a call.",
        board="caches",
        tuned_by=("cache_drop", "cache_floor", "min_lookups"),
    )


def _hit_ratio(range: str, *, offset: str | None = None) -> Query:
    hits = series(CACHE_REQUESTS, matches(names.CACHE_RESULT, "hit|stale|coalesced"))
    return share(
        sum_by(rate(hits, range, offset=offset), *_CACHE),
        sum_by(rate(series(CACHE_REQUESTS), range, offset=offset), *_CACHE),
    )


def _queues(limits: Thresholds) -> Iterator[Alert]:
    queue = f"Queue {label(names.MESSAGING_DESTINATION)}"
    stalled = duration(limits.queue_stalled)
    waiting = max_by(now(series(QUEUE_DEPTH, equal(names.QUEUE_STATE, "waiting"))), *_QUEUE)
    yield Alert(
        name="SeatraceQueueStalled",
        severity="critical",
        when=f"jobs wait in a queue and none ended within {spaced(stalled)}",
        expr=(waiting > 0).unless(sum_by(increase(series(QUEUE_JOBS), stalled), *_QUEUE) > 0),
        hold="5m",
        summary=f"{queue} stands still",
        description=f"{COUNT} jobs wait, and none ended within {spaced(stalled)}.",
        board="queues",
        tuned_by=("queue_stalled",),
        quiets=("SeatraceQueueBacklog",),
    )
    oldest = max_by(now(series(QUEUE_OLDEST_AGE)), *_QUEUE)
    waited = quantile(0.95, buckets(QUEUE_WAIT), "15m", *_QUEUE)
    yield Alert(
        name="SeatraceQueueBacklog",
        severity="warning",
        when=f"the oldest job of a queue, or 1 in 20 of those taken within 15 min, waited longer than "
        f"{limits.queue_wait:g} s",
        expr=(oldest > limits.queue_wait).either(waited > limits.queue_wait),
        hold="10m",
        summary=f"Jobs wait long in queue {label(names.MESSAGING_DESTINATION)}",
        description=f"Jobs wait {DURATION}; they should be taken within {limits.queue_wait:g} s.",
        board="queues",
        tuned_by=("queue_wait",),
    )
    yield Alert(
        name="SeatraceJobsDeadLettered",
        severity="warning",
        when="a job failed for good within 15 min",
        expr=grown(series(QUEUE_JOBS, equal(names.JOB_OUTCOME, "dead_letter")), "15m", *_QUEUE),
        hold="0m",
        keep="15m",
        summary=f"{queue} gave jobs up",
        description=f"{COUNT} jobs of the last 15 minutes failed for good and lie in the dead letters.",
        board="queues",
        tuned_by=(),
    )


def _pool(limits: Thresholds) -> Alert:
    by = (JOB, names.POOL_NAME)
    taken = sum_by(now(series(POOL_MEMBERS, matches(names.POOL_STATE, "busy|ejected"))), *by)
    return Alert(
        name="SeatracePoolSaturated",
        severity="warning",
        when=f"more than {percent(limits.pool_busy)} of a pool's members are busy or ejected, for 15 min",
        expr=share(taken, sum_by(now(series(POOL_MEMBERS)), *by)) > limits.pool_busy,
        hold="15m",
        summary=f"Pool {label(names.POOL_NAME)} has nobody free",
        description=f"{PERCENT} of its members in {label(JOB)} are busy or ejected; requests wait.",
        board="queues",
        tuned_by=("pool_busy",),
    )
