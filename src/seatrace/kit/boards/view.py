"""What a board looks at: the generation of the conventions, and the variables that narrow all its queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from seatrace.emit import catalogue, semconv
from seatrace.emit.prometheus import label_name
from seatrace.kit import external, promql
from seatrace.kit.conventions import FAILED, Conventions
from seatrace.kit.promql import Query, Series, counts, matches, series

RATE: Final = "$__rate_interval"
"""Grafana's range for rates: never shorter than four scrapes, and wider as the picture covers more time."""
RANGE: Final = "$__range"
"""The time that the board shows."""

EVERYTHING: Final = '{__name__=~"(gen_ai|seatrace)_.+"}'


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a board. It narrows every query whose metric has the label."""

    name: str
    title: str
    attribute: str
    description: str
    source: Callable[[Conventions], Series] | None
    """The series that have the values; every series of ours where it is not given."""

    @property
    def match(self) -> promql.Match:
        """The condition on a series; every value, and none, where all are chosen."""
        return matches(self.attribute, f"${self.name}")


JOB: Final = Variable("job", "Job", "job", "The service that sends telemetry.", None)
INSTANCE: Final = Variable(
    "instance", "Instance", "instance", "One process of it.", lambda names: series(external.TARGET_INFO)
)
PROVIDER: Final = Variable(
    "provider",
    "Provider",
    semconv.PROVIDER_NAME,
    "Who serves the model. Narrows what is known by provider.",
    lambda names: names.calls.counts(),
)
MODEL: Final = Variable(
    "model",
    "Model",
    semconv.REQUEST_MODEL,
    "The model that was asked for. Narrows what is known by model.",
    lambda names: names.calls.counts(),
)
AGENT: Final = Variable(
    "agent",
    "Agent",
    semconv.AGENT_NAME,
    "Narrows what is known by agent: runs, tools, cost. The conventions do not say of a model call whose it is.",
    lambda names: counts(catalogue.AGENT_DURATION),
)
TENANT: Final = Variable(
    "tenant",
    "Tenant",
    semconv.TENANT,
    "On whose behalf, as seatrace.session(tenant=…) says. Narrows cost, savings and runs.",
    lambda names: series(catalogue.COST),
)
TOOL: Final = Variable(
    "tool",
    "Tool",
    semconv.TOOL_NAME,
    "Narrows what is known by tool.",
    lambda names: counts(catalogue.TOOL_DURATION),
)
CACHE: Final = Variable(
    "cache",
    "Cache",
    semconv.CACHE_NAME,
    "Narrows the caches of seatrace.runtime.",
    lambda names: series(catalogue.CACHE_REQUESTS),
)
QUEUE: Final = Variable(
    "queue",
    "Queue",
    semconv.MESSAGING_DESTINATION,
    "Narrows what is known by queue.",
    lambda names: series(catalogue.QUEUE_DEPTH),
)


@dataclass(frozen=True, slots=True)
class View:
    """Queries as the panels of a board ask them: narrowed by its variables, per second or over the time shown."""

    names: Conventions
    variables: tuple[Variable, ...]

    def only(self, *variables: Variable) -> View:
        """A view that only ``variables`` narrow: for a ratio whose sides do not have the same labels."""
        return View(self.names, tuple(each for each in self.variables if each in variables))

    def narrowed(self, found: Series) -> Series:
        """``found`` under the variables' conditions."""
        return found.narrowed(*(each.match for each in self.variables if each.attribute in found.labels))

    def rate(self, found: Series, *by: str, over: str = RATE, offset: str | None = None) -> Query:
        """Growth per second."""
        return promql.sum_by(promql.rate(self.narrowed(found), over, offset=offset), *by)

    def total(self, found: Series, *by: str, over: str = RANGE, offset: str | None = None) -> Query:
        """Growth over the time shown."""
        return promql.sum_by(promql.increase(self.narrowed(found), over, offset=offset), *by)

    def level(self, found: Series, *by: str) -> Query:
        """The present values, added up: of something that is counted."""
        return promql.sum_by(promql.now(self.narrowed(found)), *by)

    def highest(self, found: Series, *by: str) -> Query:
        """The largest of the present values: of a limit, an age."""
        return promql.max_by(promql.now(self.narrowed(found)), *by)

    def lowest(self, found: Series, *by: str) -> Query:
        """The smallest of the present values."""
        return promql.min_by(promql.now(self.narrowed(found)), *by)

    def quantile(self, share: float, found: Series, *by: str, over: str = RATE) -> Query:
        """The value that ``share`` of a histogram's values do not exceed."""
        return promql.quantile(share, self.narrowed(found), over, *by)

    def average(self, found: Series, *by: str, over: str = RATE) -> Query:
        """The mean of a histogram's values."""
        return promql.average(self.narrowed(found), over, *by)

    def failed(self, found: Series, *by: str, over: str = RATE) -> Query:
        """Share of what was counted that failed: 0 where nothing did, nothing where there was nothing."""
        return promql.share(self.rate(found.narrowed(FAILED), *by, over=over), self.rate(found, *by, over=over))

    def label_values(self, variable: Variable) -> str:
        """What Grafana asks for the values of ``variable``; those before it narrow them."""
        label = label_name(variable.attribute)
        if variable.source is None:
            return f"label_values({EVERYTHING}, {label})"
        before = self.variables[: self.variables.index(variable)]
        return f"label_values({View(self.names, before).narrowed(variable.source(self.names))}, {label})"
