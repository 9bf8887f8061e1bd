"""Whether providers hold: errors, rate limits, retries, and which model is chosen."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit.conventions import FAILED, Conventions
from seatrace.kit.promql import bottom, buckets, matches, ratio, series

from .panels import Board, Row, column, graph, line, percentiles, row, table
from .view import JOB, MODEL, PROVIDER, RANGE, View

_CALL = (label.REQUEST_MODEL,)
RATE_LIMITED = "429|.*[Rr]ate_?[Ll]imit.*"
"""How an ``error.type`` says that the provider wants fewer requests: its status, or the client library's exception."""
TIMED_OUT = "408|504|.*[Tt]ime_?d?[Oo]ut.*"


def providers(names: Conventions) -> Board:
    """Errors, limits, retries, routing."""
    view = View(names, (JOB, PROVIDER, MODEL))
    return Board(
        "seatrace-providers",
        "Providers & rate limits",
        "Do providers hold? Errors, rate limits, retries, and where calls are routed.",
        view,
        (_errors(view), _limits(view), _routing(view)),
    )


def _errors(view: View) -> Row:
    calls = view.names.calls.counts()
    failed = calls.narrowed(FAILED)
    provider, model = label.PROVIDER_NAME, label.REQUEST_MODEL
    return row(
        "Errors",
        graph(
            "Failed calls by provider",
            line(view.failed(calls, provider)),
            unit="percentunit",
            description="Share of model calls that ended with an error, after all retries.",
        ),
        graph(
            "Errors by provider and type",
            line(view.rate(failed, provider, label.ERROR_TYPE)),
            unit="reqps",
            description="Failed model calls per second.",
            stacked=True,
        ),
        graph(
            "Calls that timed out",
            line(view.rate(calls.narrowed(matches(label.ERROR_TYPE, TIMED_OUT)), provider, model)),
            unit="reqps",
            description="Model calls per second. Many with one model: raise its timeout or stream.",
        ),
        table(
            "Endpoints",
            {provider: "Provider", label.SERVER_ADDRESS: "Server", label.SERVER_PORT: "Port"},
            column("Calls", view.total(calls, *_END), "short"),
            column("Failed", view.failed(calls, *_END, over=RANGE), "percentunit"),
            description="Of the time shown, most calls first.",
        ),
        table(
            "Errors by model and type",
            {provider: "Provider", model: "Model", label.ERROR_TYPE: "Error"},
            column("Calls", view.total(failed, provider, model, label.ERROR_TYPE), "short"),
            description="Failed calls of the time shown, most first.",
            traces=_CALL,
        ),
    )


_END = (label.PROVIDER_NAME, label.SERVER_ADDRESS, label.SERVER_PORT)


def _limits(view: View) -> Row:
    calls = view.names.calls.counts()
    provider, model = label.PROVIDER_NAME, label.REQUEST_MODEL
    limit = (provider, model, label.RATE_LIMIT_RESOURCE)
    remaining = view.lowest(series(metric.RATE_LIMIT_REMAINING), *limit)
    allowed = view.highest(series(metric.RATE_LIMIT_LIMIT), *limit)
    return row(
        "Rate limits and retries",
        graph(
            "Rate-limited calls",
            line(view.rate(calls.narrowed(matches(label.ERROR_TYPE, RATE_LIMITED)), provider, model)),
            unit="reqps",
            description="Model calls per second that failed with 429, after all retries.",
        ),
        graph(
            "Left of the rate limit",
            line(bottom(10, ratio(remaining, allowed))),
            unit="percentunit",
            description="The ten nearest to their limit, by what the provider's latest response headers say.",
        ),
        graph(
            "Retries by reason",
            line(view.rate(series(metric.RETRIES), provider, label.ERROR_TYPE)),
            unit="ops",
            description="Attempts per second after the first one, by what made the one before them fail.",
            stacked=True,
        ),
        graph(
            "Retries for each call",
            line(ratio(view.rate(series(metric.RETRIES), model), view.rate(calls, model))),
            unit="none",
            description="Above about 0.5 retries make the load that they suffer from.",
        ),
        graph(
            "Wait before a retry",
            *percentiles(view, buckets(metric.RETRY_WAIT), provider),
            unit="s",
            description="As Retry-After asked or the client chose.",
        ),
        table(
            "Rate limits",
            {provider: "Provider", model: "Model", label.RATE_LIMIT_RESOURCE: "Of"},
            column("Left", remaining, "short"),
            column("Limit", allowed, "short"),
            column("Share left", ratio(remaining, allowed), "percentunit"),
            description="As the latest response headers say.",
        ),
    )


def _routing(view: View) -> Row:
    decisions = series(metric.ROUTING_DECISIONS)
    return row(
        "Routing",
        graph(
            "Decisions by tier and model",
            line(view.rate(decisions, label.ROUTING_NAME, label.ROUTING_TIER, label.REQUEST_MODEL)),
            unit="ops",
            description="Choices of a model per second.",
            stacked=True,
        ),
        graph(
            "Decisions by reason",
            line(view.rate(decisions, label.ROUTING_NAME, label.ROUTING_REASON)),
            unit="ops",
            description="Why a model was chosen, per second.",
            stacked=True,
        ),
        graph(
            "Fallbacks",
            line(view.rate(series(metric.ROUTING_FALLBACKS), label.ROUTING_FROM, label.ROUTING_TO, label.ERROR_TYPE)),
            unit="ops",
            description="Calls per second that went to another model since the one before failed.",
        ),
    )
