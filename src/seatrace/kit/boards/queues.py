"""Work that waits, is shared out and is bundled: queues, pools, batches, parallel calls."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit.conventions import FAILED, Conventions
from seatrace.kit.promql import absent_label, buckets, equal, ratio, series

from .panels import Board, Row, column, graph, line, percentiles, row, table
from .view import JOB, QUEUE, RANGE, View

_JOB = (label.MESSAGING_DESTINATION,)


def queues(names: Conventions) -> Board:
    """Queues, pools, batches."""
    view = View(names, (JOB, QUEUE))
    return Board(
        "seatrace-queues",
        "Pools, queues & batches",
        "Does work get done in time? Queues, pools, batches and parallel calls of seatrace.runtime.",
        view,
        (_queues(view), _pools(view), _batches(view), _parallel(view)),
    )


def _queues(view: View) -> Row:
    by = label.MESSAGING_DESTINATION
    depth, jobs = series(metric.QUEUE_DEPTH), series(metric.QUEUE_JOBS)
    waiting = depth.narrowed(equal(label.QUEUE_STATE, "waiting"))
    attempt = buckets(metric.QUEUE_PROCESS_DURATION)
    sent = series(metric.QUEUE_SENT)
    queue = (label.MESSAGING_SYSTEM, by)
    return row(
        "Queues",
        graph(
            "Jobs by state",
            line(view.highest(depth, by, label.QUEUE_STATE)),
            unit="short",
            description="Waiting, delayed, active. Every worker reads the same queue: the highest reading counts.",
        ),
        graph(
            "Age of the oldest job",
            line(view.highest(series(metric.QUEUE_OLDEST_AGE), by)),
            unit="s",
            description="Time that the oldest waiting job has been due. Growing: too few workers, or none.",
        ),
        graph(
            "Time to drain",
            line(ratio(view.highest(waiting, by), view.rate(jobs, by))),
            unit="s",
            description="Until the waiting jobs are done, at the present rate and if none comes.",
        ),
        graph(
            "Jobs sent",
            line(view.rate(sent.narrowed(absent_label(label.ERROR_TYPE)), by), "sent"),
            line(view.rate(sent.narrowed(FAILED), by), "failed to send"),
            unit="ops",
            description="Jobs per second.",
        ),
        graph(
            "Attempts by outcome",
            line(view.rate(jobs, by, label.JOB_OUTCOME)),
            unit="ops",
            description="Per second: completed, retried, dead letter, cancelled, lost.",
            stacked=True,
        ),
        graph(
            "Failed attempts",
            line(view.failed(attempt.counts(), by)),
            unit="percentunit",
            description="Share of attempts at jobs that raised.",
        ),
        graph(
            "Wait of a job",
            *percentiles(view, buckets(metric.QUEUE_WAIT), by, exemplar=True),
            unit="s",
            description="From when a job was due until a worker took it.",
            traces=_JOB,
        ),
        graph(
            "Duration of an attempt",
            *percentiles(view, attempt, by, exemplar=True),
            unit="s",
            description="Time of one attempt at a job.",
            traces=_JOB,
        ),
        graph(
            "Known and given out again",
            line(view.rate(series(metric.QUEUE_DUPLICATES), by), "already known"),
            line(view.rate(series(metric.QUEUE_REDELIVERIES), by), "given out again"),
            unit="ops",
            description="Jobs per second that were not queued, since their idempotency key was known; and those whose "
            "worker's lease ran out: workers die or hang.",
        ),
        table(
            "All queues",
            {label.MESSAGING_SYSTEM: "System", by: "Queue"},
            column("Attempts", view.total(jobs, *queue), "short"),
            column(
                "Dead letters",
                view.total(jobs.narrowed(equal(label.JOB_OUTCOME, "dead_letter")), *queue),
                "short",
            ),
            column("Waiting", view.highest(waiting, *queue), "short"),
            column("p95 wait", view.quantile(0.95, buckets(metric.QUEUE_WAIT), *queue, over=RANGE), "s"),
            column("p95 attempt", view.quantile(0.95, attempt, *queue, over=RANGE), "s"),
            column("Cost of an attempt", view.average(buckets(metric.JOB_COST), *queue, over=RANGE), "currencyUSD"),
            description="Of the time shown, most attempts first.",
            traces=_JOB,
        ),
    )


def _pools(view: View) -> Row:
    by = label.POOL_NAME
    members = series(metric.POOL_MEMBERS)
    use = buckets(metric.POOL_USE)
    return row(
        "Pools",
        graph(
            "Members by state",
            line(view.level(members, by, label.POOL_STATE)),
            unit="short",
            description="Idle, busy, ejected; all processes added up.",
            stacked=True,
        ),
        graph(
            "Busy members",
            line(ratio(view.level(members.narrowed(equal(label.POOL_STATE, "busy")), by), view.level(members, by))),
            unit="percentunit",
            description="Share of a pool. Near 100 % with requests that wait: the pool is too small.",
        ),
        graph(
            "Requests that wait",
            line(view.level(series(metric.POOL_PENDING), by)),
            unit="short",
            description="For a member of a pool, now.",
        ),
        graph(
            "Wait for a member",
            *percentiles(view, buckets(metric.POOL_WAIT), by),
            unit="s",
            description="Time that a request waited.",
        ),
        graph(
            "Use of a member",
            *percentiles(view, use, by),
            unit="s",
            description="Time that a member was in use.",
        ),
        graph(
            "Failed uses",
            line(view.failed(use.counts(), by)),
            unit="percentunit",
            description="Share of uses that raised.",
        ),
        graph(
            "Requests refused",
            line(view.rate(series(metric.POOL_REJECTIONS), by, label.POOL_REJECTION_REASON)),
            unit="reqps",
            description="That got no member: the line was full, the wait too long, the pool closed.",
        ),
        graph(
            "Members taken out",
            line(view.rate(series(metric.POOL_EJECTIONS), by) * 60),
            unit="opm",
            description="Times per minute that a failing member was taken out for a while.",
        ),
        graph(
            "Requests by member",
            line(view.rate(series(metric.POOL_PICKS), by, label.POOL_MEMBER)),
            unit="reqps",
            description="How evenly the load is spread.",
        ),
    )


def _batches(view: View) -> Row:
    by = label.BATCH_NAME
    batch = buckets(metric.BATCH_DURATION)
    return row(
        "Batches",
        graph(
            "Items of a batch",
            *percentiles(view, buckets(metric.BATCH_SIZE), by),
            unit="none",
            description="Near 1 a batch saves nothing: the deadline is too short for the traffic.",
        ),
        graph(
            "Wait for a batch",
            *percentiles(view, buckets(metric.BATCH_WAIT), by),
            unit="s",
            description="From an item's submission to its batch's start: what batching costs in latency.",
        ),
        graph(
            "Duration of a batch",
            *percentiles(view, batch, by),
            unit="s",
            description="Time of the call for a whole batch.",
        ),
        graph(
            "Failed batches",
            line(view.failed(batch.counts(), by)),
            unit="percentunit",
            description="Share of batches whose call raised; all their items fail.",
        ),
        graph(
            "Batches by what closed them",
            line(view.rate(series(metric.BATCH_FLUSHES), by, label.FLUSH_REASON)),
            unit="ops",
            description="Per second. Mostly deadline: little traffic. Mostly size: a larger size may save more.",
            stacked=True,
        ),
        graph(
            "Items that wait and are refused",
            line(view.level(series(metric.BATCH_PENDING), by), "waiting now"),
            line(view.total(series(metric.BATCH_REJECTIONS), by, over="$__rate_interval"), "refused"),
            unit="short",
            description="Items that wait for a batch; and those refused, since too many were waiting.",
        ),
    )


def _parallel(view: View) -> Row:
    by = label.PARALLEL_NAME
    return row(
        "Parallel calls",
        graph(
            "Tasks given",
            *percentiles(view, buckets(metric.PARALLEL_WIDTH), by),
            unit="none",
            description="Tasks of one parallel().",
        ),
        graph(
            "Tasks by outcome",
            line(view.rate(series(metric.PARALLEL_TASKS), by, label.PARALLEL_OUTCOME)),
            unit="ops",
            description="Per second: ok, error, timeout, cancelled.",
            stacked=True,
        ),
        graph(
            "Duration of all tasks",
            *percentiles(view, buckets(metric.PARALLEL_DURATION), by),
            unit="s",
            description="From the first to the last task.",
        ),
        graph(
            "Speed-up",
            *percentiles(view, buckets(metric.PARALLEL_SPEEDUP), by),
            unit="none",
            description="Time of the tasks added up, divided by the time they took together. Near 1: they wait for "
            "each other, or one takes nearly all the time.",
        ),
    )
