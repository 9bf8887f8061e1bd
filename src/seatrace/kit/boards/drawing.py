"""A panel as Grafana's JSON."""

from __future__ import annotations

from typing import Any, Final

from seatrace.emit import semconv
from seatrace.emit.prometheus import label_name

from . import traces
from .panels import Board, Line, Panel
from .traces import Traces
from .view import JOB

Json = dict[str, Any]

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

_UNITS: Final = {"tokens": "short"}
_ON_SPANS: Final = frozenset(
    {
        semconv.OPERATION_NAME,
        semconv.PROVIDER_NAME,
        semconv.REQUEST_MODEL,
        semconv.RESPONSE_MODEL,
        semconv.SERVER_ADDRESS,
        semconv.AGENT_NAME,
        semconv.TENANT,
        semconv.TOOL_NAME,
        semconv.ERROR_TYPE,
        semconv.MESSAGING_DESTINATION,
    }
)
"""Labels that spans have under the same name."""


def draw(board: Board, panel: Panel, number: int, place: Json, kind: Traces) -> Json:
    """The JSON of a panel, with its id, where it stands, and the kind of trace store that it leads to."""
    defaults: Json = {
        "unit": _UNITS.get(panel.unit, panel.unit),
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
        "color": {"mode": "thresholds" if panel.kind in ("stat", "bargauge") else "palette-classic"},
        "custom": _custom(panel),
    }
    if panel.kind != "table":
        defaults["min"] = 0
    if panel.kind == "bargauge" and panel.unit == "percentunit":
        defaults["max"] = 1
    if panel.traces is not None:
        defaults["links"] = [{"title": "Traces", "url": _traces(board, panel, kind), "targetBlank": True}]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [_target(panel, line, ref) for ref, line in zip(_references(panel), panel.lines, strict=True)],
        "fieldConfig": {"defaults": defaults, "overrides": _overrides(panel)},
        "options": _options(panel),
        "transformations": _transformations(panel),
    }


def _references(panel: Panel) -> str:
    return "ABCDEFGHIJ"[: len(panel.lines)]


def _target(panel: Panel, line: Line, ref: str) -> Json:
    form = {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series")
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "expr": line.query.text,
        "format": form,
        "instant": panel.instant,
        "range": not panel.instant,
        "exemplar": line.exemplar,
        "legendFormat": "{{le}}" if panel.kind == "heatmap" else line.legend or panel.title,
        "editorMode": "code",
    }


def _steps(panel: Panel) -> list[Json]:
    base = "blue" if panel.kind == "bargauge" else "text"
    steps: list[Json] = [{"color": base, "value": None}]
    if panel.alarm is not None:
        steps.append({"color": "red", "value": panel.alarm})
    return steps


def _custom(panel: Panel) -> Json:
    if panel.kind == "table":
        return {"align": "auto", "filterable": True}
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if panel.stacked else 8,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
    }


def _options(panel: Panel) -> Json:
    one = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {
            "reduceOptions": one,
            "colorMode": "value",
            "graphMode": "none" if panel.instant else "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "value",
        }
    if panel.kind == "bargauge":
        return {
            "reduceOptions": one,
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "valueMode": "color",
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "auto",
            "sizing": "auto",
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Blues", "scale": "exponential", "exponent": 0.5, "steps": 64},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": _UNITS.get(panel.unit, panel.unit)},
        }
    if panel.kind == "table":
        return {
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": panel.lines[0].name, "desc": True}],
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _overrides(panel: Panel) -> list[Json]:
    if panel.kind != "table":
        return []
    return [
        {
            "matcher": {"id": "byName", "options": line.name},
            "properties": [{"id": "unit", "value": _UNITS.get(line.unit or panel.unit, line.unit or panel.unit)}],
        }
        for line in panel.lines
    ]


def _transformations(panel: Panel) -> list[Json]:
    """Of a table: the queries' rows joined by their labels, and columns with titles, in order."""
    if panel.columns is None:
        return []
    values = ["Value"] if len(panel.lines) == 1 else [f"Value #{ref}" for ref in _references(panel)]
    names = {label_name(attribute): title for attribute, title in panel.columns.items()}
    names |= {value: line.name for value, line in zip(values, panel.lines, strict=True)}
    return [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, name in enumerate(names)},
                "renameByName": names,
            },
        },
    ]


def _traces(board: Board, panel: Panel, kind: Traces) -> str:
    labels = [each for each in panel.lines[0].labels if each in _ON_SPANS]
    if panel.columns is not None:
        known = {each: f'${{__data.fields["{panel.columns[each]}"]:percentencode}}' for each in labels}
    else:
        known = {each: f"${{__field.labels.{label_name(each)}:percentencode}}" for each in labels}
    wanted = panel.traces or ()
    narrowed = {
        each.attribute: each.name
        for each in board.view.variables
        if each is not JOB and each.attribute in wanted and each.attribute not in known
    }
    return traces.link(kind, known, narrowed, wanted)
