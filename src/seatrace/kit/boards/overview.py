"""Is all well: rate, errors, duration and money of everything, on one screen."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit import external
from seatrace.kit.conventions import FAILED, Conventions
from seatrace.kit.promql import (
    buckets,
    count_by,
    counts,
    equal,
    matches,
    now,
    or_zero,
    series,
)

from .caches import hit_ratio
from .panels import Board, graph, line, percentiles, row, stat
from .view import AGENT, JOB, MODEL, PROVIDER, View

_CALL = (label.REQUEST_MODEL,)
_RUN = (label.AGENT_NAME,)


def overview(names: Conventions) -> Board:
    """The first board to look at."""
    view = View(names, (JOB, PROVIDER, MODEL, AGENT))
    calls = names.calls.counts()
    failed = calls.narrowed(FAILED)
    runs = counts(metric.AGENT_DURATION)
    cost = series(metric.COST)
    own = buckets(metric.MEASURED_DURATION)
    return Board(
        "seatrace-overview",
        "Overview",
        "Is all well? Rate, errors, duration and money of all model calls and agent runs.",
        view,
        (
            row(
                "At a glance",
                stat("Calls", view.rate(calls), "reqps", "Model calls per second. Retries inside a call count once."),
                stat(
                    "Failed calls",
                    view.failed(calls),
                    "percentunit",
                    "Share of model calls that ended with an error, after all retries. What the program broke off "
                    "does not count.",
                ),
                stat(
                    "p95 latency",
                    view.quantile(0.95, names.calls),
                    "s",
                    "95 of 100 model calls take less, retries and the whole stream included.",
                    traces=_CALL,
                ),
                stat(
                    "p95 time to first chunk",
                    view.quantile(0.95, names.first_chunk),
                    "s",
                    "What a user waits before text appears, in 95 of 100 streamed calls.",
                    traces=_CALL,
                ),
                stat(
                    "Spend",
                    view.total(cost),
                    "currencyUSD",
                    "Of the calls in the time shown. Those without a known price are missing: see Cost & budgets.",
                ),
                stat(
                    "Projected spend, 30 days",
                    view.rate(cost, over="6h") * (30 * 86400),
                    "currencyUSD",
                    "If the next 30 days go on as the last 6 h did.",
                ),
                stat("Agent runs", view.rate(runs) * 60, "opm", "Runs of agents and workflows per minute."),
                stat(
                    "Failed runs",
                    view.failed(runs),
                    "percentunit",
                    "Share of runs that ended with an error.",
                ),
                stat(
                    "Cost of a run",
                    view.average(buckets(metric.RUN_COST), over="$__range"),
                    "currencyUSD",
                    "What a run's own model calls cost on average in the time shown, sub-agents' not.",
                ),
                stat(
                    "Cache hits",
                    hit_ratio(view),
                    "percentunit",
                    "Share of lookups in caches of seatrace.runtime that needed no call of their own.",
                ),
                stat(
                    "Saved",
                    or_zero(view.total(series(metric.SAVED_COST))),
                    "currencyUSD",
                    "What calls would have cost in the time shown that caches, batches and routing made needless.",
                ),
                stat(
                    "Firing alerts",
                    or_zero(
                        count_by(
                            now(
                                series(
                                    external.ALERTS,
                                    matches("alertname", "Seatrace.*"),
                                    equal("alertstate", "firing"),
                                    matches("job", "$job|"),
                                )
                            )
                        )
                    ),
                    "none",
                    "Alerts of seatrace that fire now; budgets' alerts have no job and always count. "
                    "Each has a runbook.",
                    alarm=1,
                ),
            ),
            row(
                "Rate, errors, duration",
                graph(
                    "Calls by model",
                    line(view.rate(calls, label.REQUEST_MODEL)),
                    unit="reqps",
                    description="Model calls per second.",
                    stacked=True,
                ),
                graph(
                    "Errors by type",
                    line(view.rate(failed, label.ERROR_TYPE)),
                    unit="reqps",
                    description="Failed model calls per second. 429 and rate limits: see Providers & rate limits.",
                    stacked=True,
                ),
                graph(
                    "Latency",
                    *percentiles(view, names.calls, shares=(0.5, 0.95, 0.99), exemplar=True),
                    unit="s",
                    description="Time of model calls. The dots are single calls: each leads to its trace.",
                    traces=_CALL,
                ),
                graph(
                    "Spend by model",
                    line(view.rate(cost, label.REQUEST_MODEL) * 3600, exemplar=True),
                    unit="currencyUSD",
                    description="Dollars per hour.",
                    stacked=True,
                    traces=_CALL,
                ),
                graph(
                    "p95 run duration by agent",
                    line(view.quantile(0.95, buckets(metric.AGENT_DURATION), label.AGENT_NAME), exemplar=True),
                    unit="s",
                    description="95 of 100 runs take less.",
                    traces=_RUN,
                ),
                graph(
                    "Tokens",
                    line(view.rate(names.input_tokens), "input"),
                    line(view.rate(names.output_tokens), "output"),
                    unit="tokens",
                    description="Tokens per second of model calls. Cached input and reasoning are part of them.",
                ),
            ),
            row(
                "The program's own operations",
                graph(
                    "Operations",
                    line(view.rate(own.counts(), label.MEASURED_NAME)),
                    unit="ops",
                    description="What the program measures with measure(), per second.",
                ),
                graph(
                    "p95 duration of operations",
                    line(view.quantile(0.95, own, label.MEASURED_NAME), exemplar=True),
                    unit="s",
                    description="95 of 100 operations take less.",
                ),
                graph(
                    "Failed operations",
                    line(view.failed(own.counts(), label.MEASURED_NAME)),
                    unit="percentunit",
                    description="Share of operations that raised.",
                ),
                graph(
                    "Operations in progress",
                    line(view.level(series(metric.MEASURED_ACTIVE), label.MEASURED_NAME)),
                    unit="none",
                    description="Operations that run now. A line that only grows is a leak, or something that hangs.",
                ),
            ),
        ),
    )
