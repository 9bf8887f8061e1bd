"""What a Grafana board must keep to, checked on its JSON, whoever wrote it; for developers, with ``promql-parser``.

The rules are those of Grafana's dashboard-linter, and what is found broken in boards for language models in the field:
ratios that divide by nothing, counters read raw, alarms at Grafana's default of 80, labels that nobody emits. The rules
about a single query stand in :mod:`.querylint`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .querylint import QUERY_RULES, Words, parsed, query_faults, selector_faults, traced

_Json = Mapping[str, Any]

RULES: Final[dict[str, str]] = {
    "named": "board and panels have a title and a description, the board a uid",
    "schema": "schemaVersion is 42",
    "uneditable": "a board that is generated cannot be edited where it is shown",
    "links": "links lead to the other boards by tag, keeping time and variables",
    "annotations": "firing alerts and new versions are marked",
    "ids": "every panel has an id of its own",
    "places": "panels stand beside each other, within 24 columns",
    "datasource": "data sources are variables, never a uid",
    "job": "there is a variable $job, and every query selects by it",
    "refresh": "variables look for values as the time changes",
    "all": "All is .*, which also takes series without the label",
    "variable": "variables ask for label_values of series, and are defined and used",
    "targets": "every panel asks something, under a refId of its own",
    "unit": "every panel has a unit",
    "thresholds": "no panel has Grafana's default thresholds",
    "columns": "every column of numbers in a table has a title and a unit",
    "exemplars": "latency and cost over time show exemplars",
    "traces": "latency and cost over time lead to their traces",
    "heatmap": "a heatmap shows buckets, no quantiles",
    "legend": "every line has a legend",
    **QUERY_RULES,
}
"""Every rule, by name."""

_UNITS: Final = {"short", "none", "s", "bytes", "percentunit", "currencyUSD", "reqps", "ops", "opm"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a board breaks, and where."""

    rule: str
    where: str
    """The panel's title; empty where it is the board itself."""
    message: str

    def __str__(self) -> str:
        return f"{self.where or 'the board'}: {self.message} [{self.rule}]"


def lint(board: _Json) -> list[Finding]:
    """What is wrong with the JSON of a board.

    Raises:
        MissingExtraError: Without the package ``promql-parser``.
    """
    found = [Finding(rule, "", message) for rule, message in _board(board)]
    for panel in _panels(board):
        name = str(panel.get("title") or f"panel {panel.get('id')}")
        found += [Finding(rule, name, message) for rule, message in _panel(panel)]
    return found


def _panels(board: _Json) -> Iterator[_Json]:
    for panel in board.get("panels", []):
        yield panel
        yield from panel.get("panels", [])  # of a collapsed row


# --- the board --------------------------------------------------------------------------------------------------------


def _board(board: _Json) -> Words:
    for key in ("uid", "title", "description"):
        if not board.get(key):
            yield "named", f"no {key}"
    if board.get("schemaVersion") != 42:
        yield "schema", f"schemaVersion is {board.get('schemaVersion')}, not 42"
    if board.get("editable") is not False:
        yield "uneditable", "can be edited where it is shown: the next push would undo it"
    tags = set(board.get("tags", []))
    if not any(
        each.get("type") == "dashboards" and each.get("includeVars") and each.get("keepTime") and tags & {*each["tags"]}
        for each in board.get("links", [])
    ):
        yield "links", "no links to the other boards of its tags that keep time and variables"
    annotations = " ".join(str(each.get("expr")) for each in board.get("annotations", {}).get("list", []))
    for metric, what in (("ALERTS", "firing alerts"), ("target_info", "new versions")):
        if metric not in annotations:
            yield "annotations", f"no annotations for {what}"
    ids = [panel.get("id") for panel in _panels(board)]
    if len(set(ids)) != len(ids) or None in ids:
        yield "ids", "panels without an id of their own"
    yield from _places(board)
    yield from _variables(board)


def _places(board: _Json) -> Words:
    taken: dict[tuple[int, int], str] = {}
    for panel in _panels(board):
        place = panel.get("gridPos", {})
        x, y, width, height = (place.get(key, 0) for key in "xywh")
        cells = {(column, line) for column in range(x, x + width) for line in range(y, y + height)}
        title = str(panel.get("title"))
        if not cells or x + width > 24:
            yield "places", f"{title} stands outside the board's 24 columns"
        if over := {taken[cell] for cell in cells if cell in taken}:
            yield "places", f"{title} stands on {', '.join(sorted(over))}"
        taken |= dict.fromkeys(cells, title)


def _variables(board: _Json) -> Words:
    variables = {str(each.get("name")): each for each in board.get("templating", {}).get("list", [])}
    for name, kinds in (("datasource", {"prometheus"}), ("traces", {"tempo", "jaeger"})):
        if variables.get(name, {}).get("query") not in kinds:
            yield "datasource", f"no variable ${name} for a data source of type {' or '.join(sorted(kinds))}"
    if "job" not in variables:
        yield "job", "no variable $job"
    asked = " ".join(str(target.get("expr")) for panel in _panels(board) for target in panel.get("targets", []))
    used = set(re.findall(r"\$\{?(\w+)", asked)) - {"__rate_interval", "__range"}
    for name in sorted(used - set(variables)):
        yield "variable", f"${name} is used and not defined"
    for name, each in variables.items():
        if each.get("type") == "query":
            yield from _variable(name, each, used)


def _variable(name: str, variable: _Json, used: set[str]) -> Words:
    if name not in used:
        yield "variable", f"${name} is defined and not used"
    if variable.get("refresh") != 2:
        yield "refresh", f"${name} does not look for values as the time changes"
    if variable.get("includeAll") and variable.get("allValue") != ".*":
        yield "all", f"${name}: All must be .*, which also takes series without the label"
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", str(variable.get("definition")))
    if asked is None:
        yield "variable", f"${name} does not ask for label_values(SERIES, LABEL)"
        return
    for rule, message in selector_faults(parsed(asked[1]), label=asked[2]):
        yield rule, f"${name}: {message}"


# --- a panel ----------------------------------------------------------------------------------------------------------


def _panel(panel: _Json) -> Words:
    if panel.get("type") in ("row", "text"):
        return
    for key in ("title", "description"):
        if not panel.get(key):
            yield "named", f"no {key}"
    targets = panel.get("targets", [])
    references = [target.get("refId") for target in targets]
    if not targets or len(set(references)) != len(references) or None in references:
        yield "targets", "no queries, or queries without a refId of their own"
    for part in (panel, *targets):
        if part.get("datasource", {}).get("uid") != "${datasource}":
            yield "datasource", "not from ${datasource}"
    yield from _field(panel)
    if panel.get("type") == "table":
        yield from _table(panel)
    said = f"{panel.get('title')} {panel.get('description')}"
    for target in targets:
        if panel.get("type") in ("timeseries", "bargauge") and not target.get("legendFormat"):
            yield "legend", f"no legend for {target.get('expr')}"
        yield from query_faults(str(target.get("expr", "")), instant=bool(target.get("instant")), said=said)


def _field(panel: _Json) -> Words:
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    unit = defaults.get("unit")
    if unit not in _UNITS:
        yield "unit", f"no unit, or one that we do not use: {unit}"
    steps = defaults.get("thresholds", {}).get("steps", [])
    if not steps or any(step.get("value") == 80 for step in steps):
        yield "thresholds", "has Grafana's default thresholds: red from 80"
    expressions = [str(target.get("expr")) for target in panel.get("targets", [])]
    if panel.get("type") == "heatmap" and any("histogram_quantile" in each for each in expressions):
        yield "heatmap", "shows quantiles as if they were buckets"
    if panel.get("type") not in ("timeseries", "heatmap") or unit not in ("s", "currencyUSD"):
        return
    if any(traced(each) for each in expressions):
        if not any(target.get("exemplar") for target in panel["targets"]):
            yield "exemplars", "latency or cost without exemplars"
        if not any("${traces}" in str(each.get("url")) for each in defaults.get("links", [])):
            yield "traces", "latency or cost without a link to its traces"


def _table(panel: _Json) -> Words:
    with_unit = {
        override["matcher"].get("options")
        for override in panel["fieldConfig"].get("overrides", [])
        if any(each.get("id") == "unit" for each in override.get("properties", []))
    }
    titles = [
        title
        for step in panel.get("transformations", [])
        for name, title in step.get("options", {}).get("renameByName", {}).items()
        if name.startswith("Value")
    ]
    if len(titles) != len(panel.get("targets", [])):
        yield "columns", f"{len(titles)} columns of numbers have a title"
    if missing := [title for title in titles if title not in with_unit]:
        yield "columns", f"columns without a unit of their own: {', '.join(missing)}"
