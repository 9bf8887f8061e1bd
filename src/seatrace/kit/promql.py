"""Queries of Prometheus over the rows of the metric catalogue. Names are spelled here and nowhere else in the kit.

A query is built from the inside out, as it reads::

    errors = rate(counts(INFERENCE_DURATION, present(ERROR_TYPE)), "5m")
    share = ratio(sum_by(errors, PROVIDER_NAME), sum_by(rate(counts(INFERENCE_DURATION), "5m"), PROVIDER_NAME))
    str(share > 0.5)

Labels are given by their attribute names (``gen_ai.provider.name``); ``job``, ``instance`` and ``le`` stay what they
are. Ranges are Prometheus durations (``5m``). What cannot be right is no query: a counter that is read without ``rate``
or ``increase``, a label or a bucket bound that a metric does not have, two sides that are not aggregated by the same
labels, all raise :class:`ValueError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from seatrace.emit.catalogue import Metric
from seatrace.emit.prometheus import family, label_name

TARGET_LABELS: Final = ("job", "instance")
"""What Prometheus adds to every series, scraped or pushed: ``job`` is the service, ``instance`` its process."""

Part = Literal["", "_bucket", "_count", "_sum"]


@dataclass(frozen=True, slots=True)
class Match:
    """One condition on a label: ``job="api"``."""

    attribute: str
    operator: Literal["=", "!=", "=~", "!~"]
    value: str

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{label_name(self.attribute)}{self.operator}"{escaped}"'


def equal(attribute: str, value: str) -> Match:
    """Series whose label is ``value``."""
    return Match(attribute, "=", value)


def unequal(attribute: str, value: str) -> Match:
    """Series whose label is not ``value``; those without the label, too."""
    return Match(attribute, "!=", value)


def matches(attribute: str, pattern: str) -> Match:
    """Series whose whole label matches an RE2 pattern; ``.*`` takes those without the label, too."""
    return Match(attribute, "=~", pattern)


def present(attribute: str) -> Match:
    """Series that have the label: ``present(ERROR_TYPE)`` are the failed calls."""
    return Match(attribute, "!=", "")


def absent_label(attribute: str) -> Match:
    """Series that have it not: ``absent_label(ERROR_TYPE)`` are the calls that succeeded."""
    return Match(attribute, "=", "")


@dataclass(frozen=True, slots=True)
class Series:
    """The series of one metric that meet some conditions; not yet numbers that may be shown (see :class:`Query`)."""

    metric: Metric
    where: tuple[Match, ...] = ()
    part: Part = ""

    def __post_init__(self) -> None:
        for match in self.where:
            if match.attribute not in self.labels:
                raise ValueError(f"{self.metric.name} has no label {match.attribute!r}; it has {sorted(self.labels)}")

    @property
    def labels(self) -> frozenset[str]:
        """The attribute names of its labels."""
        bound = ("le",) if self.part == "_bucket" else ()
        return frozenset((*self.metric.attributes, *TARGET_LABELS, *bound))

    def counts(self) -> Series:
        """How many values the histogram got, under the same conditions."""
        return self._part("_count")

    def sums(self) -> Series:
        """The sum of the values that it got, under the same conditions."""
        return self._part("_sum")

    def _part(self, part: Part) -> Series:
        _expect(self.metric, "histogram", hint="only a histogram has parts")
        return Series(self.metric, self.where, part)

    def narrowed(self, *where: Match) -> Series:
        """Those of them that meet further conditions."""
        return Series(self.metric, (*self.where, *where), self.part)

    def __str__(self) -> str:
        conditions = ", ".join(map(str, self.where))
        return family(self.metric) + self.part + (f"{{{conditions}}}" if conditions else "")


@dataclass(frozen=True, slots=True)
class Query:
    """An instant vector. ``+ - * /`` and comparisons (which filter, as in PromQL) take queries and numbers. ``str()``
    is the text. Use :func:`ratio` to divide by what may be 0."""

    text: str
    labels: frozenset[str]
    """The attribute names of the labels that its results may have."""
    compound: bool = False
    """Whether it needs parentheses inside another."""

    def __str__(self) -> str:
        return self.text

    def __add__(self, other: Query | float) -> Query:
        return self.join("+", other)

    def __sub__(self, other: Query | float) -> Query:
        return self.join("-", other)

    def __mul__(self, other: Query | float) -> Query:
        return self.join("*", other)

    def __truediv__(self, other: Query | float) -> Query:
        return self.join("/", other)

    def __gt__(self, other: Query | float) -> Query:
        return self.join(">", other)

    def __ge__(self, other: Query | float) -> Query:
        return self.join(">=", other)

    def __lt__(self, other: Query | float) -> Query:
        return self.join("<", other)

    def __le__(self, other: Query | float) -> Query:
        return self.join("<=", other)

    def both(self, other: Query, *, on: tuple[str, ...] | None = None) -> Query:
        """``and``: the elements that ``other`` has as well."""
        return self.join("and", other, on=on)

    def either(self, other: Query, *, on: tuple[str, ...] | None = None) -> Query:
        """``or``: and of ``other``, the elements that this one has not."""
        return self.join("or", other, on=on)

    def unless(self, other: Query, *, on: tuple[str, ...] | None = None) -> Query:
        """``unless``: the elements that ``other`` has not."""
        return self.join("unless", other, on=on)

    def join(
        self,
        operator: str,
        other: Query | float,
        *,
        on: tuple[str, ...] | None = None,
        group_left: tuple[str, ...] | None = None,
    ) -> Query:
        """Any binary operator.

        Args:
            operator: Of PromQL.
            other: The right side.
            on: The labels by which elements are matched; by default all.
            group_left: That several elements here match one of ``other``, whose labels named are copied.
        """
        matching = ""
        if on is not None:
            matching += f" on ({_names(on)})"
        if group_left is not None:
            matching += f" group_left ({_names(group_left)})"
        labels = self.labels
        if isinstance(other, Query):
            _require(other.labels, on or (), other.text)
            _require(other.labels, group_left or (), other.text)
            if on is None and operator != "or" and self.labels != other.labels:
                raise ValueError(
                    f"one side of {operator!r} has the labels {sorted(self.labels)}, the other {sorted(other.labels)}: "
                    "aggregate both by the same ones, or say on="
                )
            labels = labels | other.labels if operator == "or" else labels | frozenset(group_left or ())
        _require(self.labels, on or (), self.text)
        return Query(f"{_inner(self)} {operator}{matching} {_inner(other)}", labels, compound=True)


def number(value: float) -> Query:
    """``vector(value)``: one element without labels."""
    return Query(f"vector({_number(value)})", frozenset())


def recorded(name: str, *where: Match, labels: tuple[str, ...]) -> Query:
    """What a recording rule wrote under ``name``; ``labels`` are those that it kept."""
    conditions = ", ".join(map(str, where))
    _require(frozenset(labels), tuple(match.attribute for match in where), name)
    return Query(name + (f"{{{conditions}}}" if conditions else ""), frozenset(labels))


def named(pattern: str, *where: Match, labels: tuple[str, ...] = ()) -> Query:
    """Every metric whose name matches an RE2 pattern, with ``__name__`` as a label; ``labels`` are further ones."""
    known = frozenset(("__name__", *TARGET_LABELS, *labels))
    _require(known, tuple(match.attribute for match in where), pattern)
    conditions = ", ".join(map(str, (matches("__name__", pattern), *where)))
    return Query(f"{{{conditions}}}", known)


# --- series -----------------------------------------------------------------------------------------------------------


def series(metric: Metric, *where: Match) -> Series:
    """The series of a counter, an up-down counter or a gauge."""
    _expect(metric, "counter", "updowncounter", "gauge", hint="take counts(), sums() or buckets() of a histogram")
    return Series(metric, where)


def counts(metric: Metric, *where: Match) -> Series:
    """How many values a histogram got: the calls of a duration."""
    _expect(metric, "histogram", hint="only a histogram counts its values")
    return Series(metric, where, "_count")


def sums(metric: Metric, *where: Match) -> Series:
    """The sum of the values that a histogram got: the seconds of a duration."""
    _expect(metric, "histogram", hint="only a histogram sums its values")
    return Series(metric, where, "_sum")


def buckets(metric: Metric, *where: Match) -> Series:
    """The cumulative buckets of a histogram, by the label ``le``."""
    _expect(metric, "histogram", hint="only a histogram has buckets")
    return Series(metric, where, "_bucket")


def within(metric: Metric, bound: float, *where: Match) -> Series:
    """How many values of a histogram were at most ``bound``, which must be one of its bounds and no whole number: those
    are ``le="1"`` in Prometheus 2 and ``le="1.0"`` in Prometheus 3."""
    if bound not in (metric.buckets or ()) or float(bound).is_integer():
        fit = [each for each in metric.buckets or () if not float(each).is_integer()]
        raise ValueError(f"{metric.name} has no bucket bound {bound:g} that can be asked for; it has {fit}")
    return buckets(metric, *where, equal("le", _number(bound)))


# --- from series to numbers -------------------------------------------------------------------------------------------


def now(found: Series, *, offset: str | None = None) -> Query:
    """The present value of a gauge or an up-down counter."""
    _expect(found.metric, "updowncounter", "gauge", hint="take rate() or increase() of it")
    return Query(f"{found}{_offset(offset)}", found.labels)


def rate(found: Series, range: str, *, offset: str | None = None) -> Query:
    """How much a counter or a part of a histogram grew per second."""
    _expect(found.metric, "counter", "histogram", hint="only what counts up has a rate")
    return Query(f"rate({found}[{range}]{_offset(offset)})", found.labels)


def increase(found: Series, range: str, *, offset: str | None = None) -> Query:
    """How much a counter or a part of a histogram grew."""
    _expect(found.metric, "counter", "histogram", hint="only what counts up has an increase")
    return Query(f"increase({found}[{range}]{_offset(offset)})", found.labels)


def over_time(what: Literal["avg", "min", "max", "last"], found: Series, range: str) -> Query:
    """An aggregate of a gauge or an up-down counter over time."""
    _expect(found.metric, "updowncounter", "gauge", hint="take rate() or increase() of it")
    return Query(f"{what}_over_time({found}[{range}])", found.labels)


# --- aggregation ------------------------------------------------------------------------------------------------------


def sum_by(query: Query, *by: str) -> Query:
    """The sums of the elements that have the labels ``by`` in common."""
    return _aggregate("sum", query, by)


def max_by(query: Query, *by: str) -> Query:
    """The largest of the elements that have the labels ``by`` in common."""
    return _aggregate("max", query, by)


def min_by(query: Query, *by: str) -> Query:
    """The smallest of the elements that have the labels ``by`` in common."""
    return _aggregate("min", query, by)


def count_by(query: Query, *by: str) -> Query:
    """How many elements have the labels ``by`` in common."""
    return _aggregate("count", query, by)


def top(limit: int, query: Query) -> Query:
    """The ``limit`` largest elements."""
    return Query(f"topk({limit}, {query})", query.labels)


def bottom(limit: int, query: Query) -> Query:
    """The ``limit`` smallest elements."""
    return Query(f"bottomk({limit}, {query})", query.labels)


def quantile(share: float, found: Series, range: str, *by: str, offset: str | None = None) -> Query:
    """The value that ``share`` (0 to 1) of a histogram's values do not exceed, from :func:`buckets`."""
    if found.part != "_bucket":
        raise ValueError(f"a quantile needs buckets(), not {found}")
    inner = sum_by(rate(found, range, offset=offset), "le", *by)
    return Query(f"histogram_quantile({_number(share)}, {inner})", frozenset(by))


def average(found: Series, range: str, *by: str, offset: str | None = None) -> Query:
    """The mean of a histogram's values, from any of its parts; nothing where there were none."""
    total, count = (sum_by(rate(part, range, offset=offset), *by) for part in (found.sums(), found.counts()))
    return ratio(total, count)


def ratio(part: Query, whole: Query) -> Query:
    """``part / (whole > 0)``: nothing, instead of NaN or infinity, where ``whole`` is 0."""
    return part / (whole > 0)


def share(part: Query, whole: Query) -> Query:
    """:func:`ratio` of a part that may have no series yet: 0 then, for as long as there is a whole."""
    return ratio(or_zero(part, of=whole), whole)


def or_zero(query: Query, *, of: Query | None = None) -> Query:
    """``query``, or 0 where it has no element: one for each element ``of`` has, else a single one."""
    return query.either(number(0) if of is None else of * 0)


# --- text -------------------------------------------------------------------------------------------------------------


def _aggregate(function: str, query: Query, by: tuple[str, ...]) -> Query:
    _require(query.labels, by, query.text)
    return Query(f"{function} by ({_names(by)}) ({query})" if by else f"{function}({query})", frozenset(by))


def _names(attributes: tuple[str, ...]) -> str:
    return ", ".join(map(label_name, attributes))


def _require(labels: frozenset[str], wanted: tuple[str, ...], text: str) -> None:
    missing = [each for each in wanted if each not in labels]
    if missing:
        raise ValueError(f"no label {missing[0]!r} in: {text}; there are {sorted(labels)}")


def _expect(metric: Metric, *kinds: str, hint: str) -> None:
    if metric.kind not in kinds:
        raise ValueError(f"{metric.name} is a {metric.kind}: {hint}")


def _inner(value: Query | float) -> str:
    if isinstance(value, Query):
        return f"({value.text})" if value.compound else value.text
    return _number(value)


def _number(value: float) -> str:
    return f"{value:.12g}"


def _offset(offset: str | None) -> str:
    return f" offset {offset}" if offset else ""
