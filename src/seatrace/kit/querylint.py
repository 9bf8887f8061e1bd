"""What a query must keep to, on a board; see :mod:`.lint`. Works on the syntax tree of ``promql-parser``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from seatrace.emit import catalogue
from seatrace.emit.catalogue import CATALOGUE, Metric
from seatrace.emit.prometheus import family, label_name
from seatrace.errors import MissingExtraError

from .external import EXTERNAL, OVERFLOW
from .promql import TARGET_LABELS

Words = Iterator[tuple[str, str]]
"""Names of broken rules, and what is wrong."""

QUERY_RULES: Final[dict[str, str]] = {
    "promql": "every query parses",
    "metric": "every metric stands in the catalogue, or in the list of external ones",
    "label": "every label is one of its metric's",
    "selector": "nothing selects by service_name, which series that are scraped do not have",
    "counter": "what counts up is read under rate or increase, and nothing else is",
    "range": "rates over time take $__rate_interval, sums $__range; a fixed range is an hour or more and is said",
    "le": "no bucket bound is a whole number, which Prometheus 2 and 3 write differently",
    "quantile": "quantiles are of buckets that are added up by le",
    "guard": "nothing is divided by what may be 0",
    "division": "both sides of a division are aggregated by the same labels",
}

_RANGE, _RATE = timedelta(seconds=4271), timedelta(seconds=4273)
"""What stands for ``$__range`` and ``$__rate_interval`` while a query is parsed."""

_GROWTH: Final = {"rate", "increase", "irate"}
_COLLECTOR: Final = "otelcol_"
"""Is a job of its own."""

_KNOWN: Final[dict[str, tuple[Metric, str]]] = {
    family(metric) + part: (metric, part)
    for metric in (*CATALOGUE, *EXTERNAL)
    for part in (("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",))
}
_TRACED: Final = {
    name
    for name, (metric, _) in _KNOWN.items()
    if (metric.name.startswith("gen_ai.") and metric.unit == "s") or metric in (catalogue.COST, catalogue.RUN_COST)
}


def parsed(expression: str) -> Any:
    """The syntax tree; Grafana's ranges become Prometheus's.

    Raises:
        ValueError: It is no PromQL.
        MissingExtraError: Without the package ``promql-parser``.
    """
    try:
        import promql_parser
    except ModuleNotFoundError as missing:
        raise MissingExtraError("queries are checked with promql-parser: pip install promql-parser") from missing
    text = expression.replace("$__rate_interval", f"{_RATE.seconds}s").replace("$__range", f"{_RANGE.seconds}s")
    return promql_parser.parse(text)


def traced(expression: str) -> bool:
    """Whether it asks for the latency or the cost of calls, runs or tools: there is a trace for each."""
    return bool(_TRACED & set(re.findall(r"\w+", expression)))


def query_faults(expression: str, *, instant: bool, said: str) -> Words:
    """What is wrong with a query.

    Args:
        expression: The text.
        instant: Whether it is asked for one moment; else over time.
        said: What the reader is told about it.
    """
    try:
        query = parsed(expression)
    except ValueError as error:
        yield "promql", f"no query: {error}"
        return
    for node, above in _walk(query):
        kind = _kind(node)
        if kind == "VectorSelector":
            yield from selector_faults(node)
            yield from _job(node)
            yield from _growth(node, above)
        elif kind == "MatrixSelector":
            yield from _range(node, instant, said)
        elif kind == "BinaryExpr" and str(node.op) == "/":
            yield from _division(node)
        elif kind == "AggregateExpr":
            yield from _aggregate(node)
        elif kind == "Call" and node.func.name == "histogram_quantile" and "le" not in _by(node.args[1]):
            yield "quantile", f"a quantile needs sum by (le, …): {node.prettify()}"


def _walk(node: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every node of a query, with the functions around it."""
    yield node, above
    kind = _kind(node)
    if kind == "MatrixSelector":
        yield from _walk(node.vector_selector, above)
    elif kind == "Call":
        for argument in node.args:
            yield from _walk(argument, (*above, node.func.name))
    elif kind == "BinaryExpr":
        yield from _walk(node.lhs, above)
        yield from _walk(node.rhs, above)
    elif kind in ("AggregateExpr", "ParenExpr", "UnaryExpr", "SubqueryExpr"):
        yield from _walk(node.expr, above)


# --- selectors --------------------------------------------------------------------------------------------------------


def selector_faults(node: Any, *, label: str | None = None) -> Words:
    """What is wrong with a selection of series, wherever it stands; ``label`` is one that it must have."""
    matchers = {matcher.name: matcher.value for matcher in node.matchers.matchers}
    if node.name and node.name not in _KNOWN:
        yield "metric", f"{node.name} is no metric of the catalogue"
        return
    if "service_name" in matchers:
        yield "selector", f"selects by service_name: {node.prettify()}"
        return
    bound = matchers.get("le", "")
    if re.fullmatch(r"\d+(\.0*)?", bound):
        yield "le", f'asks for le="{bound}"'
    yield from _labels([*matchers, *([label] if label else [])], [node])


def _labels(labels: Iterable[str], selectors: Iterable[Any]) -> Words:
    for node in selectors:
        if node.name and node.name not in _KNOWN:
            continue  # is a finding already
        metric, part = _KNOWN[node.name] if node.name else (None, "")
        attributes = metric.attributes if metric else (OVERFLOW,)
        known = {*map(label_name, attributes), *TARGET_LABELS, "__name__"} | ({"le"} if part == "_bucket" else set())
        for label in labels:
            if label not in known:
                yield "label", f"{node.name or node.prettify()} has no label {label}"


def _job(node: Any) -> Words:
    if (node.name or "").startswith(_COLLECTOR):
        return
    if not any(each.name == "job" and "$job" in each.value for each in node.matchers.matchers):
        yield "job", f"does not select by $job: {node.prettify()}"


def _growth(node: Any, above: tuple[str, ...]) -> Words:
    if node.name not in _KNOWN:
        return
    metric, part = _KNOWN[node.name]
    counts_up = bool(part) or metric.kind == "counter"
    if counts_up and not _GROWTH & set(above):
        yield "counter", f"{node.name} only counts up: take rate() or increase() of it"
    if not counts_up and _GROWTH & set(above):
        yield "counter", f"{node.name} is a {metric.kind}: it has no rate"


def _range(node: Any, instant: bool, said: str) -> Words:
    if node.range == (_RATE if instant else _RANGE):
        yield "range", "$__range is for one moment, $__rate_interval for what is asked over time"
    if node.range in (_RATE, _RANGE):
        return
    hours = node.range / timedelta(hours=1)
    if hours < 1 or not re.search(rf"\b{hours:g} h\b", said):
        yield "range", f"a fixed range that title and description do not say: {node.prettify()}"


# --- aggregations and divisions ---------------------------------------------------------------------------------------


def _aggregate(node: Any) -> Words:
    within = [each for each, _ in _walk(node.expr)]
    selectors = [each for each in within if _kind(each) == "VectorSelector"]
    if not any(_kind(each) == "AggregateExpr" for each in within):
        yield from _labels(sorted(_by(node)), selectors)
    if str(node.op) == "avg" and any((each.name or "").endswith("_bucket") for each in selectors):
        yield "quantile", f"a mean of buckets means nothing: {node.prettify()}"


def _division(node: Any) -> Words:
    left, right = _bare(node.lhs), _bare(node.rhs)
    if _kind(right) == "NumberLiteral":
        return
    guarded = _kind(right) == "BinaryExpr" and str(right.op) == ">" and str(_bare(right.rhs)) == "0"
    if not guarded:
        yield "guard", f"divides by what may be 0: write ({right.prettify()} > 0)"
    told = node.modifier is not None and node.modifier.matching is not None
    sides = _sides(left) | _sides(right)
    if not told and (len(sides) != 1 or None in sides):
        yield "division", f"the sides are not aggregated by the same labels: {node.prettify()}"


def _sides(node: Any) -> frozenset[frozenset[str] | None]:
    """The sets of labels by which a side is aggregated: one, if all is well; ``None`` for a part that is not."""
    node = _bare(node)
    kind = _kind(node)
    if kind == "AggregateExpr":
        return _sides(node.expr) if str(node.op) in ("topk", "bottomk") else frozenset({_by(node)})
    if kind == "BinaryExpr":
        return _sides(node.lhs) | _sides(node.rhs)
    if kind == "Call" and node.func.name == "histogram_quantile":
        return frozenset({_by(node.args[1]) - {"le"}})
    if kind == "NumberLiteral" or (kind == "Call" and node.func.name == "vector"):
        return frozenset()
    return frozenset({None})


def _by(node: Any) -> frozenset[str]:
    node = _bare(node)
    if _kind(node) != "AggregateExpr" or node.modifier is None:
        return frozenset()
    return frozenset(node.modifier.labels)


def _bare(node: Any) -> Any:
    while _kind(node) == "ParenExpr":
        node = node.expr
    return node


def _kind(node: Any) -> str:
    return type(node).__name__
