"""Rules about model calls: the objectives for errors and latency, providers, rate limits, retries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from seatrace.emit import semconv as names
from seatrace.emit.catalogue import RETRIES
from seatrace.kit.conventions import FAILED, Conventions
from seatrace.kit.promql import (
    Query,
    matches,
    or_zero,
    quantile,
    rate,
    ratio,
    recorded,
    series,
    share,
    sum_by,
    within,
)

from .conditions import JOB, enough
from .rule import DURATION, PERCENT, TIMES, Alert, Group, Recording, label, percent, spaced
from .thresholds import Thresholds

_ERRORS: Final = "job:seatrace_errors:ratio_rate"
_SLOW: Final = "job:seatrace_slow:ratio_rate"

_RATE_LIMITED: Final = matches(
    names.ERROR_TYPE, "(?i)429|.*rate.?limit.*|.*throttl.*|.*too.?many.?requests.*|.*quota.*|resource.?exhausted"
)
"""What providers and their libraries call it: OpenAI, Anthropic, Google, AWS, Azure."""


def calls(limits: Thresholds, conventions: Conventions) -> Group:
    """The group."""
    return Group(
        "seatrace-calls",
        (*_objectives(limits, conventions), *_providers(limits, conventions)),
        (
            *(Recording(_ERRORS + range, _error_ratio(conventions, range)) for range in ("5m", "30m", "1h", "6h")),
            *(Recording(_SLOW + range, _slow_ratio(limits, conventions, range)) for range in ("5m", "1h")),
        ),
    )


def _objectives(limits: Thresholds, conventions: Conventions) -> Iterator[Alert]:
    all_calls = conventions.calls.counts()
    job = label(JOB)
    for speed, burn, long, short, hold in (
        ("Fast", limits.error_burn_fast, "1h", "5m", "2m"),
        ("Slow", limits.error_burn_slow, "6h", "30m", "15m"),
    ):
        fast = speed == "Fast"
        most = burn * limits.error_ratio
        yield Alert(
            name=f"SeatraceErrorBudgetBurn{speed}",
            severity="critical" if fast else "warning",
            when=f"more than {percent(most)} of the model calls fail ({burn:g} × {percent(limits.error_ratio)}), over "
            f"{spaced(long)} and over {spaced(short)}",
            expr=(_recorded(_ERRORS + long) > most)
            .both(_recorded(_ERRORS + short) > most)
            .both(enough(all_calls, long, limits.min_calls, JOB)),
            hold=hold,
            summary=f"Model calls of {job} fail" + ("" if fast else " too often"),
            description=f"{PERCENT} of the model calls of the last {spaced(long)} failed; the objective is at most "
            f"{percent(limits.error_ratio)}.",
            board="providers",
            tuned_by=("error_ratio", f"error_burn_{speed.lower()}", "min_calls"),
            quiets=("SeatraceErrorBudgetBurnSlow",) if fast else (),
        )
    slow = limits.latency_burn * limits.slow_ratio
    yield Alert(
        name="SeatraceLatencyBudgetBurn",
        severity="warning",
        when=f"more than {percent(slow)} of the model calls take longer than {limits.latency_bound:g} s "
        f"({limits.latency_burn:g} × {percent(limits.slow_ratio)}), over 1 h and over 5 min",
        expr=(_recorded(_SLOW + "1h") > slow)
        .both(_recorded(_SLOW + "5m") > slow)
        .both(enough(all_calls, "1h", limits.min_calls, JOB)),
        hold="5m",
        summary=f"Model calls of {job} are slow",
        description=f"{PERCENT} of the model calls of the last hour took longer than {limits.latency_bound:g} s; the "
        f"objective is at most {percent(limits.slow_ratio)}.",
        board="latency",
        tuned_by=("latency_bound", "slow_ratio", "latency_burn", "min_calls"),
    )
    first, by_model = conventions.first_chunk, (JOB, names.REQUEST_MODEL)
    yield Alert(
        name="SeatraceTimeToFirstChunkHigh",
        severity="warning",
        when=f"more than 5% of the streams of a model take longer than {limits.time_to_first_chunk:g} s to begin, "
        "over 10 min",
        expr=(quantile(0.95, first, "10m", *by_model) > limits.time_to_first_chunk).both(
            enough(first.counts(), "10m", limits.min_calls, *by_model)
        ),
        hold="10m",
        summary=f"Streams of {label(names.REQUEST_MODEL)} begin late",
        description=f"The slowest 5% of {job}'s streams waited {DURATION} and more for their first chunk; it should "
        f"come within {limits.time_to_first_chunk:g} s.",
        board="latency",
        tuned_by=("time_to_first_chunk", "min_calls"),
    )


def _providers(limits: Thresholds, conventions: Conventions) -> Iterator[Alert]:
    all_calls = conventions.calls.counts()
    job, provider = label(JOB), label(names.PROVIDER_NAME)
    by_provider = (JOB, names.PROVIDER_NAME)
    yield Alert(
        name="SeatraceProviderDown",
        severity="critical",
        when=f"more than {percent(limits.provider_error_ratio)} of the calls to a provider fail, over 5 min",
        expr=(
            ratio(
                sum_by(rate(all_calls.narrowed(FAILED), "5m"), *by_provider),
                sum_by(rate(all_calls, "5m"), *by_provider),
            )
            > limits.provider_error_ratio
        ).both(enough(all_calls, "5m", limits.min_calls, *by_provider)),
        hold="5m",
        summary=f"{provider} fails for {job}",
        description=f"{PERCENT} of the calls of the last five minutes to {provider} failed.",
        board="providers",
        tuned_by=("provider_error_ratio", "min_calls"),
        quiets=("SeatraceErrorBudgetBurnFast", "SeatraceErrorBudgetBurnSlow", "SeatraceRetryStorm"),
    )
    by_model = (*by_provider, names.REQUEST_MODEL)
    first, refused = (sum_by(rate(each, "5m"), *by_model) for each in (all_calls, all_calls.narrowed(_RATE_LIMITED)))
    retried, refused_before = (sum_by(rate(series(RETRIES, *each), "5m"), *by_model) for each in ((), (_RATE_LIMITED,)))
    attempts = first + or_zero(retried, of=first)
    limited = or_zero(refused, of=first) + or_zero(refused_before, of=first)
    yield Alert(
        name="SeatraceRateLimitStorm",
        severity="warning",
        when=f"a provider refuses more than {percent(limits.rate_limited_ratio)} of the attempts for its rate limits, "
        "over 5 min",
        expr=(ratio(limited, attempts) > limits.rate_limited_ratio).both(
            enough(all_calls, "5m", limits.min_calls, *by_model)
        ),
        hold="5m",
        keep="5m",
        summary=f"{provider} limits {job} on {label(names.REQUEST_MODEL)}",
        description=f"{PERCENT} of the attempts of the last five minutes, retries included, were refused for rate "
        "limits.",
        board="providers",
        tuned_by=("rate_limited_ratio", "min_calls"),
        quiets=("SeatraceRetryStorm",),
    )
    yield Alert(
        name="SeatraceRetryStorm",
        severity="warning",
        when=f"there are more than {limits.retry_ratio:g} retries a call, over 10 min",
        expr=(
            ratio(sum_by(rate(series(RETRIES), "10m"), *by_provider), sum_by(rate(all_calls, "10m"), *by_provider))
            > limits.retry_ratio
        ).both(enough(all_calls, "10m", limits.min_calls, *by_provider)),
        hold="10m",
        summary=f"{job} retries its calls to {provider} again and again",
        description=f"There were {TIMES} retries for each call of the last ten minutes.",
        board="providers",
        tuned_by=("retry_ratio", "min_calls"),
    )


def _recorded(name: str) -> Query:
    return recorded(name, labels=(JOB,))


def _error_ratio(conventions: Conventions, range: str) -> Query:
    all_calls = conventions.calls.counts()
    return share(sum_by(rate(all_calls.narrowed(FAILED), range), JOB), sum_by(rate(all_calls, range), JOB))


def _slow_ratio(limits: Thresholds, conventions: Conventions, range: str) -> Query:
    found = conventions.calls
    quick = within(found.metric, limits.latency_bound, *found.where)
    quick_share = ratio(sum_by(rate(quick, range), JOB), sum_by(rate(found.counts(), range), JOB))
    return quick_share * -1 + 1
