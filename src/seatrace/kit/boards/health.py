"""Whether the numbers can be trusted: faults, drops, limits, versions, and the collector."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit import external
from seatrace.kit.conventions import Conventions
from seatrace.kit.promql import (
    absent_label,
    buckets,
    count_by,
    equal,
    named,
    now,
    or_zero,
    present,
    ratio,
    series,
    share,
    top,
)

from .panels import Board, Row, column, graph, line, row, stat, table
from .view import INSTANCE, JOB, View

_OURS = "(gen_ai|seatrace)_.+"


def health(names: Conventions) -> Board:
    """Telemetry about the telemetry."""
    view = View(names, (JOB, INSTANCE))
    return Board(
        "seatrace-health",
        "Telemetry health",
        "Can the other boards be trusted? Faults of seatrace, dropped spans, series out of bounds, the collector.",
        view,
        (_glance(view), _sdk(view), _series(view), _collector(view)),
    )


def _glance(view: View) -> Row:
    processed, exported = series(external.SPANS_PROCESSED), series(external.SPANS_EXPORTED)
    failed = present(label.ERROR_TYPE)
    return row(
        "At a glance",
        stat(
            "Spans dropped",
            share(view.rate(processed.narrowed(failed)), view.rate(processed)),
            "percentunit",
            "Share of ended spans that never left the process, since its queue was full. Needs the SDK's own metrics: "
            "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true.",
        ),
        stat(
            "Spans not delivered",
            share(view.rate(exported.narrowed(failed)), view.rate(exported)),
            "percentunit",
            "Share of exported spans that the receiver did not take. Needs the SDK's own metrics.",
        ),
        stat(
            "Faults",
            or_zero(view.total(series(metric.FAULTS))),
            "short",
            "Faults in seatrace itself in the time shown; your program did not notice. The log has each once.",
            alarm=1,
        ),
        stat(
            "Unpriced calls",
            or_zero(view.total(series(metric.UNPRICED))),
            "short",
            "Calls in the time shown whose cost is missing everywhere.",
            alarm=1,
        ),
        stat(
            "Processes",
            count_by(count_by(now(view.narrowed(series(external.TARGET_INFO))), "job", "instance")),
            "none",
            "That send telemetry now.",
        ),
        stat(
            "Targets up",
            ratio(view.level(series(external.UP)), count_by(now(view.narrowed(series(external.UP))))),
            "percentunit",
            "Share of scraped targets that answered. Empty where telemetry is pushed.",
        ),
    )


def _sdk(view: View) -> Row:
    processed, exported = series(external.SPANS_PROCESSED), series(external.SPANS_EXPORTED)
    failed, fine = present(label.ERROR_TYPE), absent_label(label.ERROR_TYPE)
    process = ("job", "instance")
    return row(
        "In the process",
        graph(
            "Spans",
            line(view.rate(series(external.SPANS_STARTED)), "started"),
            line(view.rate(exported.narrowed(fine)), "delivered"),
            line(view.rate(exported.narrowed(failed)), "not delivered"),
            line(view.rate(processed.narrowed(failed)), "dropped"),
            unit="ops",
            description="Per second. Started and delivered lie on each other where all is well.",
        ),
        graph(
            "Fill of the span queue",
            line(
                ratio(
                    view.highest(series(external.SPAN_QUEUE_SIZE), *process),
                    view.highest(series(external.SPAN_QUEUE_CAPACITY), *process),
                )
            ),
            unit="percentunit",
            description="At 100 % spans are dropped: raise OTEL_BSP_MAX_QUEUE_SIZE, or help the collector.",
        ),
        graph(
            "Spans in progress",
            line(view.level(series(external.SPANS_LIVE), *process)),
            unit="short",
            description="A line that only grows is spans that are never ended.",
        ),
        graph(
            "p95 duration of an export",
            line(view.quantile(0.95, buckets(external.EXPORT_DURATION), external.COMPONENT_TYPE)),
            unit="s",
            description="95 of 100 take less. It happens in a thread of its own: no caller waits for it.",
        ),
        graph(
            "Faults by stage",
            line(view.total(series(metric.FAULTS), label.STAGE, over="$__rate_interval")),
            unit="short",
            description="Where in seatrace something went wrong and was kept from the program.",
        ),
        table(
            "Versions",
            {
                "job": "Job",
                "service_version": "Version",
                "telemetry_sdk_name": "SDK",
                "telemetry_sdk_version": "SDK version",
            },
            column(
                "Processes",
                count_by(
                    now(view.narrowed(series(external.TARGET_INFO))),
                    "job",
                    "service_version",
                    "telemetry_sdk_name",
                    "telemetry_sdk_version",
                ),
                "short",
            ),
            description="What runs now.",
        ),
    )


def _series(view: View) -> Row:
    job = JOB.match
    overflow = equal(external.OVERFLOW, "true")
    return row(
        "Series",
        graph(
            "Series by metric",
            line(top(10, count_by(named(_OURS, job), "__name__"))),
            unit="short",
            description="The ten metrics with most series. Growth without end: an id has become a label.",
        ),
        graph(
            "Metrics past the SDK's limit",
            line(count_by(named(_OURS, job, overflow, labels=(external.OVERFLOW,)), "__name__")),
            unit="short",
            description="Series of metrics that had more attribute sets than the SDK keeps (2,000): what came later "
            "is in one series without labels.",
        ),
    )


def _collector(view: View) -> Row:
    # The collector is a job of its own: no choice of jobs narrows what it says about itself.
    every = View(view.names, ())
    by = "exporter"
    return row(
        "The collector",
        graph(
            "Spans taken in",
            line(every.rate(series(external.COLLECTOR_ACCEPTED), "receiver"), "accepted"),
            line(every.rate(series(external.COLLECTOR_REFUSED), "receiver"), "refused"),
            unit="ops",
            description="Per second. Refused: it is short of memory, and senders try again.",
        ),
        graph(
            "Spans passed on",
            line(every.rate(series(external.COLLECTOR_SENT), by), "sent"),
            line(every.rate(series(external.COLLECTOR_FAILED), by), "failed"),
            unit="ops",
            description="Per second. Failed: lost for good, after all retries.",
        ),
        graph(
            "Fill of the collector's queues",
            line(
                ratio(
                    every.highest(series(external.COLLECTOR_QUEUE_SIZE), by, "job", "instance"),
                    every.highest(series(external.COLLECTOR_QUEUE_CAPACITY), by, "job", "instance"),
                )
            ),
            unit="percentunit",
            description="At 100 % it loses what comes: the backend behind the exporter is slow or away.",
        ),
    )
