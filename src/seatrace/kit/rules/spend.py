"""Rules about money: budgets, anomalies, waste, calls without a price.

The pace of a budget is how many times faster it is spent than it allows: 1 empties it at the end of its window.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Final

from seatrace.emit import semconv as names
from seatrace.emit.catalogue import BUDGET_LIMIT, BUDGET_USED, COST, RUN_COST, UNPRICED
from seatrace.emit.prometheus import label_name
from seatrace.kit.conventions import FAILED
from seatrace.kit.promql import (
    Match,
    Query,
    increase,
    matches,
    max_by,
    now,
    number,
    present,
    rate,
    ratio,
    recorded,
    series,
    sum_by,
    sums,
    unequal,
)

from .conditions import JOB, copied, grown, labelled
from .rule import COUNT, MONEY, PERCENT, TIMES, Alert, Group, Recording, label, percent
from .thresholds import Thresholds

_OWN: Final = (JOB, names.BUDGET_NAME, names.BUDGET_UNIT, names.BUDGET_WINDOW)
_SCOPED: Final = (*_OWN, names.BUDGET_SCOPE)

_PACE: Final = "budget:seatrace_budget_burn:rate"
_USED: Final = "budget:seatrace_budget_used:ratio"

_WINDOWS: Final = {1: "day.*|1d|24h|sliding:(1d|24h)", 7: "week.*|7d|sliding:7d", 30: "month.*|30d|sliding:30d"}
"""Windows of the app's own budgets by days. Shorter ones have no pace: an hour of them is all of them."""

_RANGES: Final = {"5m": 1 / 12, "30m": 1 / 2, "1h": 1, "6h": 6}
"""Ranges in hours. Each pace is looked at over a long one and a short one: the long one says that it matters, the short
one that it still goes on."""

_ALL: Final = labelled(number(0), names.BUDGET_SCOPE, "all")
"""Has the scope of budgets that are not for single tenants, agents or users: to be joined ``on`` it."""


def spend(thresholds: Thresholds) -> Group:
    """The group."""
    return Group("seatrace-spend", (*_budgets(thresholds), *_others(thresholds)), _ahead(thresholds))


def _budgets(limits: Thresholds) -> Iterator[Alert]:
    pace = {range: recorded(_PACE + range, labels=_SCOPED) for range in _RANGES}
    used = recorded(_USED, labels=_SCOPED)
    fast, slow = limits.budget_burn_fast, limits.budget_burn_slow
    name = f"Budget {label(names.BUDGET_NAME)}"
    budgets = ("budget_per_day",)
    scoped = ("budget_per_day_and_tenant", "budget_per_day_and_agent")
    yield Alert(
        name="SeatraceBudgetBurnFast",
        severity="critical",
        when=f"a budget is spent more than {fast:g} times too fast, over 1 h and over 5 min",
        expr=(pace["1h"] > fast).both(pace["5m"] > fast).both(_ALL, on=(names.BUDGET_SCOPE,)),
        hold="2m",
        summary=f"{name} is spent much too fast",
        description=f"Over the last hour it was spent {TIMES} times as fast as its window "
        f"({label(names.BUDGET_WINDOW)}) allows, and it still is.",
        board="cost",
        tuned_by=("budget_burn_fast", *budgets),
        quiets=("SeatraceBudgetBurnSlow", "SeatraceSpendAnomaly"),
    )
    yield Alert(
        name="SeatraceBudgetBurnSlow",
        severity="warning",
        when=f"a budget is spent more than {slow:g} times too fast, over 6 h and over 30 min",
        expr=(pace["6h"] > slow).both(pace["30m"] > slow),
        hold="15m",
        summary=f"{name}{_of_scope()} will not last for its window",
        description=f"Over the last six hours it was spent {TIMES} times as fast as its window "
        f"({label(names.BUDGET_WINDOW)}) allows.",
        board="cost",
        tuned_by=("budget_burn_slow", *budgets, *scoped),
    )
    yield Alert(
        name="SeatraceBudgetExhausted",
        severity="critical",
        when="a budget that is not for single tenants, agents or users is used up",
        expr=(used >= 1).both(_ALL, on=(names.BUDGET_SCOPE,)),
        hold="0m",
        summary=f"{name} is used up",
        description=f"{PERCENT} of it are used in its window ({label(names.BUDGET_WINDOW)}). Calls may be refused.",
        board="cost",
        tuned_by=budgets,
        quiets=("SeatraceBudgetBurnFast", "SeatraceBudgetBurnSlow", "SeatraceSpendAnomaly"),
    )
    yield Alert(
        name="SeatraceScopedBudgetExhausted",
        severity="warning",
        when="the budget of a single tenant, agent or user is used up",
        expr=(used >= 1).unless(_ALL, on=(names.BUDGET_SCOPE,)),
        hold="0m",
        keep="15m",
        summary=f"{name}{_of_scope()} is used up",
        description=f"{PERCENT} of it are used in its window ({label(names.BUDGET_WINDOW)}). "
        "Calls of this scope may be refused, those of others not.",
        board="cost",
        tuned_by=scoped,
    )


def _of_scope() -> str:
    scope = f".Labels.{label_name(names.BUDGET_SCOPE)}"
    return f'{{{{ if ne {scope} "all" }}}} of {{{{ {scope} }}}}{{{{ end }}}}'


def _others(limits: Thresholds) -> Iterator[Alert]:
    hour = sum_by(rate(series(COST), "1h"), JOB)
    week_ago = sum_by(rate(series(COST), "1h", offset="1w"), JOB)
    yield Alert(
        name="SeatraceSpendAnomaly",
        severity="warning",
        when=f"an hour costs more than {limits.anomaly_factor:g} times as much as a week ago, and more than "
        f"{limits.anomaly_floor:g} USD",
        expr=(hour * 3600 > limits.anomaly_floor).both(hour > (week_ago > 0) * limits.anomaly_factor),
        hold="15m",
        summary=f"{label(JOB)} spends far more than a week ago",
        description=f"The last hour cost {MONEY}, more than {limits.anomaly_factor:g} times as much as the same hour "
        "last week.",
        board="cost",
        tuned_by=("anomaly_factor", "anomaly_floor"),
    )
    runs = sum_by(rate(sums(RUN_COST), "1h"), JOB)
    failed = sum_by(rate(sums(RUN_COST, FAILED), "1h"), JOB)
    yield Alert(
        name="SeatraceWastedSpend",
        severity="warning",
        when=f"more than {percent(limits.wasted_share)} of what runs cost went into runs that failed, over 1 h",
        expr=(ratio(failed, runs) > limits.wasted_share).both(runs * 3600 > limits.wasted_floor),
        hold="30m",
        summary=f"{label(JOB)} pays for runs that fail",
        description=f"{PERCENT} of what agents' runs cost in the last hour went into runs that ended in an error.",
        board="cost",
        tuned_by=("wasted_share", "wasted_floor"),
    )
    yield Alert(
        name="SeatraceUnpricedCalls",
        severity="info",
        when="calls had no known price in the last hour, so that their cost is missing everywhere",
        expr=grown(series(UNPRICED), "1h", JOB, names.PROVIDER_NAME, names.REQUEST_MODEL),
        hold="30m",
        summary=f"No price is known for {label(names.REQUEST_MODEL)}",
        description=f"{COUNT} calls of {label(JOB)} to {label(names.REQUEST_MODEL)} ({label(names.PROVIDER_NAME)}) in "
        "the last hour have no price. Cost, budgets and alerts miss them.",
        board="cost",
        tuned_by=(),
    )


def _ahead(limits: Thresholds) -> tuple[Recording, ...]:
    per_day = Recording("budget:seatrace_budget_limit:per_day", _any([_limit(*each) for each in _WINDOWS.items()]) > 0)
    allowed = recorded(per_day.name, labels=_OWN)
    used = _of(_used(unequal(names.BUDGET_WINDOW, "run")), max_by(now(series(BUDGET_LIMIT)), *_OWN) > 0)
    shares = [used, *(spent / limit for spent, limit in _configured(limits))]
    return (
        per_day,
        *(Recording(_PACE + range, _pace(limits, allowed, range)) for range in _RANGES),
        Recording(_USED, _any(shares)),
    )


def _pace(limits: Thresholds, allowed: Query, range: str) -> Query:
    before = _used(offset=range).either(_used() * 0)  # a budget that was not there had nothing spent of it
    own = _of(_used() - before, allowed) * (24 / _RANGES[range])
    return _any([own, *(spent * 86_400 / limit for spent, limit in _configured(limits, range))])


def _used(*where: Match, offset: str | None = None) -> Query:
    return max_by(now(series(BUDGET_USED, *where), offset=offset), *_SCOPED)


def _limit(days: int, window: str) -> Query:
    return max_by(now(series(BUDGET_LIMIT, matches(names.BUDGET_WINDOW, window))), *_OWN) / days


def _of(used: Query, limit: Query) -> Query:
    return used.join("/", limit, on=_OWN, group_left=())


def _configured(limits: Thresholds, range: str | None = None) -> Iterator[tuple[Query, float]]:
    """What was spent, USD per second over ``range`` or in all of the last day, and its limit."""
    for scope, limit, who in (
        ("all", limits.budget_per_day, None),
        ("tenant", limits.budget_per_day_and_tenant, names.TENANT),
        ("agent", limits.budget_per_day_and_agent, names.AGENT_NAME),
    ):
        if limit is None:
            continue
        cost, by = (series(COST, present(who)), (who,)) if who else (series(COST), ())
        spent = sum_by(rate(cost, range) if range else increase(cost, "1d"), *by)
        name = f"spend per day and {scope}" if who else "spend per day"
        for attribute, value in ((names.BUDGET_NAME, name), (names.BUDGET_UNIT, "usd"), (names.BUDGET_WINDOW, "day")):
            spent = labelled(spent, attribute, value)
        as_scope = copied(spent, names.BUDGET_SCOPE, who, f"{scope}=") if who else None
        yield as_scope or labelled(spent, names.BUDGET_SCOPE, scope), limit


def _any(queries: list[Query]) -> Query:
    return reduce(Query.either, queries)
