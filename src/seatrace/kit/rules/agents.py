"""Rules about agents and tools: loops, failures, steps, tokens that grow."""

from __future__ import annotations

from collections.abc import Iterator

from seatrace.emit import semconv as names
from seatrace.emit.catalogue import AGENT_DURATION, LOOPS, RUN_INPUT_TOKENS, RUN_STEPS, TOOL_DURATION
from seatrace.kit.conventions import FAILED, Conventions
from seatrace.kit.promql import (
    Query,
    Series,
    average,
    buckets,
    counts,
    increase,
    quantile,
    rate,
    ratio,
    series,
    sum_by,
)

from .conditions import JOB, enough
from .rule import COUNT, NUMBER, PERCENT, Alert, Group, label, percent
from .thresholds import Thresholds

_AGENT = (JOB, names.AGENT_NAME)
_TOOL = (JOB, names.TOOL_NAME)
_MODEL = (JOB, names.REQUEST_MODEL)


def agents(limits: Thresholds, conventions: Conventions) -> Group:
    """The group."""
    return Group("seatrace-agents", (*_runs(limits), *_tokens(limits, conventions)))


def _runs(limits: Thresholds) -> Iterator[Alert]:
    agent, tool, job = f"Agent {label(names.AGENT_NAME)}", label(names.TOOL_NAME), label(JOB)
    yield Alert(
        name="SeatraceAgentLooping",
        severity="critical",
        when=f"{limits.agent_loops} runs of an agent or more were seen looping within 10 min",
        expr=sum_by(increase(series(LOOPS), "10m"), *_AGENT) >= limits.agent_loops,
        hold="0m",
        keep="10m",
        summary=f"{agent} goes round in circles",
        description=f"{COUNT} of its runs in {job} were seen looping in the last ten minutes. Each goes on costing.",
        board="agents",
        tuned_by=("agent_loops",),
        quiets=("SeatraceAgentStepsHigh", "SeatraceTokenExplosion"),
    )
    yield Alert(
        name="SeatraceAgentFailing",
        severity="critical",
        when=f"more than {percent(limits.agent_error_ratio)} of an agent's runs fail, over 15 min",
        expr=_failing(counts(AGENT_DURATION), limits.agent_error_ratio, limits.min_runs, *_AGENT),
        hold="5m",
        summary=f"{agent} fails",
        description=f"{PERCENT} of its runs in {job} in the last 15 minutes ended in an error.",
        board="agents",
        tuned_by=("agent_error_ratio", "min_runs"),
        quiets=("SeatraceWastedSpend",),
    )
    yield Alert(
        name="SeatraceToolFailing",
        severity="warning",
        when=f"more than {percent(limits.tool_error_ratio)} of a tool's executions fail, over 15 min",
        expr=_failing(counts(TOOL_DURATION), limits.tool_error_ratio, limits.min_runs, *_TOOL),
        hold="10m",
        summary=f"Tool {tool} fails",
        description=f"{PERCENT} of its executions in {job} in the last 15 minutes ended in an error.",
        board="agents",
        tuned_by=("tool_error_ratio", "min_runs"),
    )
    yield Alert(
        name="SeatraceAgentStepsHigh",
        severity="warning",
        when=f"more than 5% of an agent's runs need more than {limits.agent_steps:g} steps, over 30 min",
        expr=(quantile(0.95, buckets(RUN_STEPS), "30m", *_AGENT) > limits.agent_steps).both(
            enough(counts(RUN_STEPS), "30m", limits.min_runs, *_AGENT)
        ),
        hold="15m",
        summary=f"{agent} needs very many steps",
        description=f"The longest 5% of its runs in {job} took {NUMBER} steps and more in the last 30 minutes; "
        f"{limits.agent_steps:g} are expected at most.",
        board="agents",
        tuned_by=("agent_steps", "min_runs"),
    )


def _tokens(limits: Thresholds, conventions: Conventions) -> Iterator[Alert]:
    job = label(JOB)
    yield Alert(
        name="SeatraceTokenExplosion",
        severity="warning",
        when=f"an agent's runs take more than {limits.token_factor:g} times the input tokens of a day ago, and more "
        f"than {limits.run_tokens_floor:,.0f} each, over 30 min",
        expr=_more_than_yesterday(
            buckets(RUN_INPUT_TOKENS), limits.token_factor, limits.run_tokens_floor, *_AGENT
        ).both(enough(counts(RUN_INPUT_TOKENS), "30m", limits.min_runs, *_AGENT)),
        hold="15m",
        summary=f"Agent {label(names.AGENT_NAME)} reads far more tokens than yesterday",
        description=f"Its runs in {job} took {NUMBER} input tokens each in the last 30 minutes, more than "
        f"{limits.token_factor:g} times as many as a day ago.",
        board="tokens",
        tuned_by=("token_factor", "run_tokens_floor", "min_runs"),
    )
    yield Alert(
        name="SeatracePromptGrowth",
        severity="warning",
        when=f"calls of a model have more than {limits.token_factor:g} times the input tokens of a day ago, and more "
        f"than {limits.call_tokens_floor:,.0f} each, over 30 min",
        expr=_more_than_yesterday(conventions.call_input, limits.token_factor, limits.call_tokens_floor, *_MODEL).both(
            enough(conventions.call_input.counts(), "30m", limits.min_calls, *_MODEL)
        ),
        hold="15m",
        summary=f"Prompts for {label(names.REQUEST_MODEL)} are far longer than yesterday",
        description=f"Calls of {job} had {NUMBER} input tokens each in the last 30 minutes, more than "
        f"{limits.token_factor:g} times as many as a day ago.",
        board="tokens",
        tuned_by=("token_factor", "call_tokens_floor", "min_calls"),
    )


def _failing(found: Series, most: float, least: int, *by: str) -> Query:
    failed = sum_by(rate(found.narrowed(FAILED), "15m"), *by)
    return (ratio(failed, sum_by(rate(found, "15m"), *by)) > most).both(enough(found, "15m", least, *by))


def _more_than_yesterday(found: Series, factor: float, floor: float, *by: str) -> Query:
    today, yesterday = average(found, "30m", *by), average(found, "1h", *by, offset="1d")
    return (today > floor).both(today > yesterday * factor)
