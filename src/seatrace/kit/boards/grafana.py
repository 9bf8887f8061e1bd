"""A board as Grafana's classic JSON, schemaVersion 42: Grafana 10 to 13 read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Final

from seatrace.kit import external
from seatrace.kit.promql import Query, count_by, equal, matches, now, present, series

from .drawing import DATASOURCE, Json, draw
from .panels import Board, Panel, Row
from .traces import Traces
from .view import Variable, View

SCHEMA_VERSION: Final = 42
TAG: Final = "seatrace"
"""Boards find each other by it."""

_SIZES: Final = {"stat": (6, 4), "timeseries": (3, 8), "heatmap": (3, 8), "table": (1, 9), "bargauge": (2, 8)}
"""How many panels of a kind stand side by side at most, and how high they are."""


def document(board: Board, *, traces: Traces = "tempo") -> Json:
    """The JSON of a board; ``traces`` is the kind of data source that its panels lead to."""
    return {
        "uid": board.uid,
        "title": f"seatrace / {board.title}",
        "description": board.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "annotations": {"list": [_ALERTS, _VERSIONS]},
        "links": [_MENU],
        "templating": {"list": _variables(board.view, traces)},
        "panels": list(_panels(board, traces)),
    }


# --- around the panels ------------------------------------------------------------------------------------------------

_MENU: Final[Json] = {
    "type": "dashboards",
    "title": "seatrace",
    "tooltip": "The other boards, with the same time and choices",
    "icon": "external link",
    "tags": [TAG],
    "asDropdown": True,
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "url": "",
}


def _annotation(name: str, color: str, title: str, tags: str, query: Query) -> Json:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": color,
        "expr": str(query),
        "step": "60s",
        "titleFormat": title,
        "tagKeys": tags,
        "useValueForTime": False,
    }


# Alerts about a budget or a collector have no job: they concern everybody.
_FIRING = (matches("alertname", "Seatrace.*"), equal("alertstate", "firing"), matches("job", "$job|"))
_VERSION = series(external.TARGET_INFO, matches("job", "$job"), present("service_version"))

_ALERTS: Final = _annotation(
    "Firing alerts",
    "red",
    "{{alertname}}",
    "severity",
    count_by(now(series(external.ALERTS, *_FIRING)), "alertname", "severity"),
)
_VERSIONS: Final = _annotation(
    "New versions",
    "blue",
    "{{job}} {{service_version}}",
    "job",
    count_by(now(_VERSION), "job", "service_version").unless(
        count_by(now(_VERSION, offset="10m"), "job", "service_version")
    ),
)


def _variables(view: View, kind: Traces) -> list[Json]:
    return [
        _source("datasource", "Metrics", "prometheus"),
        _source("traces", "Traces", kind),
        *(_variable(view, each) for each in view.variables),
    ]


def _source(name: str, label: str, kind: str) -> Json:
    return {"type": "datasource", "name": name, "label": label, "query": kind, "refresh": 1, "multi": False}


def _variable(view: View, variable: Variable) -> Json:
    query = view.label_values(variable)
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.title,
        "description": variable.description,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{variable.name}", "qryType": 5},
        "definition": query,
        "refresh": 2,  # as the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",  # also takes series without the label
        "current": {"text": ["All"], "value": ["$__all"]},
    }


# --- panels -----------------------------------------------------------------------------------------------------------


def _panels(board: Board, kind: Traces) -> Iterator[Json]:
    number, y = 0, 0
    for row in board.rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
            "panels": [],
        }
        y += 1
        for side_by_side in _layout(row):
            x, height = 0, max(_SIZES[panel.kind][1] for panel in side_by_side)
            for place, panel in enumerate(side_by_side):
                number += 1
                width = 24 // len(side_by_side) + (place < 24 % len(side_by_side))
                yield draw(board, panel, number, {"h": height, "w": width, "x": x, "y": y}, kind)
                x += width
            y += height


def _layout(row: Row) -> Iterator[Sequence[Panel]]:
    """The panels of a row in lines of the same kind of size, each as wide as the board and as even as can be."""
    run: list[Panel] = []
    for panel in row.panels:
        if run and _SIZES[panel.kind] != _SIZES[run[0].kind]:
            yield from _even(run)
            run = []
        run.append(panel)
    yield from _even(run)


def _even(run: Sequence[Panel]) -> Iterator[Sequence[Panel]]:
    if not run:
        return
    lines = ceil(len(run) / _SIZES[run[0].kind][0])
    start = 0
    for number in range(lines):
        end = start + len(run) // lines + (number < len(run) % lines)
        yield run[start:end]
        start = end
