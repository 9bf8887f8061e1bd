"""Where the money goes, what was saved, and whether the budgets hold."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit.conventions import Conventions
from seatrace.kit.promql import buckets, or_zero, ratio, series, top

from .panels import Board, Row, bars, column, graph, heatmap, line, percentiles, row, stat, table
from .view import AGENT, JOB, MODEL, PROVIDER, TENANT, View

_HOUR = 3600
_CALL = (label.REQUEST_MODEL,)
_RUN = (label.AGENT_NAME,)
_BUDGET = (label.BUDGET_NAME, label.BUDGET_UNIT, label.BUDGET_WINDOW)


def cost(names: Conventions) -> Board:
    """Spend, budgets, savings."""
    view = View(names, (JOB, PROVIDER, MODEL, AGENT, TENANT))
    return Board(
        "seatrace-cost",
        "Cost & budgets",
        "Where does the money go, what is saved, do the budgets hold?",
        view,
        (_spend(view), _runs(view), _budgets(view), _savings(view)),
    )


def _spend(view: View) -> Row:
    spent = series(metric.COST)
    unpriced = series(metric.UNPRICED)
    # Calls and tokens have no agent and no tenant: the sides of a ratio must be narrowed alike.
    both = view.only(JOB, PROVIDER, MODEL)
    return row(
        "Spend",
        stat("Spend, last 24 h", view.total(spent, over="24h"), "currencyUSD", "The last 24 h, whatever is shown."),
        stat(
            "Against a week ago",
            ratio(view.total(spent, over="24h"), view.total(spent, over="24h", offset="7d")),
            "percentunit",
            "Spend of the last 24 h as a share of that of the same 24 h 7 d ago: 100 % is no change.",
        ),
        stat(
            "Spend per hour",
            view.rate(spent, over="1h") * _HOUR,
            "currencyUSD",
            "At the rate of the last 1 h.",
        ),
        stat(
            "Cost of a call",
            ratio(both.total(spent), both.total(view.names.calls.counts())),
            "currencyUSD",
            "On average in the time shown; calls without a price count as free. Agent and tenant do not narrow it.",
        ),
        stat(
            "Cost of 1,000 output tokens",
            ratio(both.total(spent), both.total(view.names.output_tokens)) * 1000,
            "currencyUSD",
            "All cost in the time shown by 1,000 tokens of answer: what an answer really costs, input included. "
            "Agent and tenant do not narrow it.",
        ),
        stat(
            "Unpriced calls",
            or_zero(view.total(unpriced)),
            "short",
            "Calls in the time shown that used tokens but have no known price: spend is too low by them. "
            "Give a price with seatrace.instrument(prices=…).",
            alarm=1,
        ),
        graph(
            "Spend by model",
            line(view.rate(spent, label.REQUEST_MODEL) * _HOUR, exemplar=True),
            unit="currencyUSD",
            description="Dollars per hour.",
            stacked=True,
            traces=_CALL,
        ),
        graph(
            "Spend by agent",
            line(view.rate(spent, label.AGENT_NAME) * _HOUR, exemplar=True),
            unit="currencyUSD",
            description="Dollars per hour; without a name: calls outside any agent.",
            stacked=True,
            traces=_RUN,
        ),
        graph(
            "Spend by tenant",
            line(top(10, view.rate(spent, label.TENANT)) * _HOUR, exemplar=True),
            unit="currencyUSD",
            description="Dollars per hour of the ten that spend most.",
            traces=(label.TENANT,),
        ),
        graph(
            "Spend by provider",
            line(view.rate(spent, label.PROVIDER_NAME) * _HOUR, exemplar=True),
            unit="currencyUSD",
            description="Dollars per hour.",
            stacked=True,
            traces=(label.PROVIDER_NAME,),
        ),
        graph(
            "This week and last week",
            line(view.rate(spent, over="1h") * _HOUR, "now", exemplar=True),
            line(view.rate(spent, over="1h", offset="7d") * _HOUR, "7 d ago"),
            unit="currencyUSD",
            description="Dollars per hour as a mean over 1 h, and those of 7 d before.",
            traces=_CALL,
        ),
        graph(
            "Out of the usual",
            line(view.total(series(metric.ANOMALIES), label.ANOMALY_SERIES, over="$__rate_interval")),
            unit="short",
            description="Buckets of a watched series (spend, calls, …) that were far out of its usual.",
        ),
        table(
            "Who spends",
            {label.PROVIDER_NAME: "Provider", label.REQUEST_MODEL: "Model", label.AGENT_NAME: "Agent"},
            column("Cost", view.total(spent, *_WHO), "currencyUSD"),
            column("Unpriced calls", view.total(unpriced, *_WHO), "short"),
            description="Of the time shown, dearest first.",
            traces=_CALL,
        ),
    )


_WHO = (label.PROVIDER_NAME, label.REQUEST_MODEL, label.AGENT_NAME)


def _runs(view: View) -> Row:
    run = buckets(metric.RUN_COST)
    job = buckets(metric.JOB_COST)
    return row(
        "What a piece of work costs",
        graph(
            "Cost of a run by agent",
            *percentiles(view, run, label.AGENT_NAME, exemplar=True),
            unit="currencyUSD",
            description="Of a run's own model calls, sub-agents' not. A p95 far above p50 is a few runs gone astray.",
            traces=_RUN,
        ),
        heatmap(
            "Cost of runs",
            view,
            run,
            unit="currencyUSD",
            description="The whole distribution. The dots are single runs: each leads to its trace.",
            exemplar=True,
            traces=_RUN,
        ),
        graph(
            "Cost of a job by queue",
            *percentiles(view, job, label.MESSAGING_DESTINATION, exemplar=True),
            unit="currencyUSD",
            description="What one attempt at a job of a queue costs.",
            traces=(label.MESSAGING_DESTINATION,),
        ),
    )


def _budgets(view: View) -> Row:
    limit = view.highest(series(metric.BUDGET_LIMIT), *_BUDGET)
    scoped = (*_BUDGET, label.BUDGET_SCOPE)
    used = view.highest(series(metric.BUDGET_USED), *scoped)
    reserved = view.highest(series(metric.BUDGET_RESERVED), *scoped)
    of_limit = used.join("/", limit > 0, on=_BUDGET, group_left=())
    return row(
        "Budgets",
        bars(
            "Used of a budget",
            of_limit,
            "percentunit",
            "Share of the limit that is used in the present window. At 100 % calls are refused.",
            alarm=1,
        ),
        bars(
            "Reserved of a budget",
            reserved.join("/", limit > 0, on=_BUDGET, group_left=()),
            "percentunit",
            "Share of the limit that calls in progress have set aside.",
        ),
        graph(
            "Used over time",
            line(of_limit),
            unit="percentunit",
            description="Share of the limit that is used; falls to 0 with each new window.",
        ),
        graph(
            "Used per hour",
            line(ratio(view.rate(series(metric.BUDGET_SPEND), *_BUDGET, over="1h") * _HOUR, limit)),
            unit="percentunit",
            description="Share of the limit that 1 h takes at the present rate, all scopes together: "
            "a budget of a day holds up to 4.2 %.",
        ),
        graph(
            "Refused calls",
            line(view.rate(series(metric.BUDGET_REJECTIONS), *_BUDGET)),
            unit="reqps",
            description="Calls per second that were refused, since the budget would not hold.",
        ),
        graph(
            "Thresholds passed",
            line(
                view.total(
                    series(metric.BUDGET_CROSSINGS),
                    label.BUDGET_NAME,
                    label.BUDGET_THRESHOLD,
                    over="$__rate_interval",
                )
            ),
            unit="short",
            description="Times that a budget passed one of its thresholds.",
        ),
        table(
            "All budgets",
            {label.BUDGET_NAME: "Budget", label.BUDGET_UNIT: "Unit", label.BUDGET_WINDOW: "Window"},
            column("Used", view.highest(series(metric.BUDGET_USED), *_BUDGET), "short"),
            column("Reserved", view.highest(series(metric.BUDGET_RESERVED), *_BUDGET), "short"),
            column("Limit", limit, "short"),
            description="In the budget's own unit; of several scopes, the one that has used most.",
        ),
    )


def _savings(view: View) -> Row:
    by = label.SAVING_SOURCE
    return row(
        "Savings",
        graph(
            "Saved cost by source",
            line(view.rate(series(metric.SAVED_COST), by) * _HOUR),
            unit="currencyUSD",
            description="Dollars per hour that calls would have cost without caches, batches and routing.",
            stacked=True,
        ),
        graph(
            "Saved tokens by source",
            line(view.rate(series(metric.SAVED_TOKENS), by)),
            unit="tokens",
            description="Tokens per second that needed no call.",
            stacked=True,
        ),
        graph(
            "Saved time by source",
            line(view.rate(series(metric.SAVED_TIME), by)),
            unit="short",
            description="Seconds of waiting saved in each second: 2 is as if two callers never waited.",
            stacked=True,
        ),
        stat(
            "Saved share",
            ratio(
                view.only(JOB, MODEL, AGENT, TENANT).total(series(metric.SAVED_COST)),
                view.only(JOB, MODEL, AGENT, TENANT).total(series(metric.SAVED_COST))
                + view.only(JOB, MODEL, AGENT, TENANT).total(series(metric.COST)),
            ),
            "percentunit",
            "Of what the time shown would have cost without the patterns. The provider does not narrow it.",
        ),
        stat(
            "Cost of summaries",
            or_zero(view.total(series(metric.CONTEXT_SUMMARY_COST))),
            "currencyUSD",
            "What making summaries of long conversations cost in the time shown; part of the spend.",
        ),
    )
