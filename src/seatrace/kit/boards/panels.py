"""The kinds of panels: what is shown, said without Grafana's words. :mod:`.grafana` turns them into its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from seatrace.emit.prometheus import label_name
from seatrace.kit.promql import Query, Series

from .view import RATE, View

Unit = Literal[
    "short", "none", "s", "bytes", "percentunit", "currencyUSD", "reqps", "ops", "opm", "dateTimeFromNow", "tokens"
]
"""A unit of Grafana's; ``tokens`` is a number of them."""

Kind = Literal["stat", "timeseries", "heatmap", "table", "bargauge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One query of a panel."""

    query: Query
    name: str = ""
    """What it is called, before its labels."""
    exemplar: bool = False
    unit: Unit | None = None
    """In a table: the unit of its column."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The attribute names of its labels, in the order they are shown."""
        return tuple(sorted(self.query.labels - {"le"}))

    @property
    def legend(self) -> str:
        """Its name and its labels, as a template."""
        shown = " · ".join(f"{{{{{label_name(each)}}}}}" for each in self.labels)
        return f"{self.name} {shown}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture of a board."""

    kind: Kind
    title: str
    description: str
    unit: Unit
    lines: tuple[Line, ...]
    stacked: bool = False
    columns: Mapping[str, str] | None = None
    """Of a table: labels (attribute names) and their titles, in order."""
    traces: tuple[str, ...] | None = None
    """Leads to traces: of spans that have these attributes, with the values of the line's labels."""
    alarm: float | None = None
    """Shown in red from this value on. Only where the value itself says that something is wrong."""

    @property
    def instant(self) -> bool:
        """Whether it is asked once, for the end of the time shown, and not for each point in it."""
        if self.kind in ("table", "bargauge"):
            return True
        return self.kind == "stat" and not any(RATE in each.query.text for each in self.lines)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    description: str
    view: View
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All its panels, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)


def row(title: str, *panels: Panel | None) -> Row:
    """A heading and its panels; ``None`` is a panel that this generation of the conventions has no metric for."""
    return Row(title, tuple(panel for panel in panels if panel is not None))


def stat(
    title: str,
    query: Query,
    unit: Unit,
    description: str,
    *,
    alarm: float | None = None,
    traces: tuple[str, ...] | None = None,
) -> Panel:
    """One number."""
    return Panel(
        kind="stat",
        title=title,
        description=description,
        unit=unit,
        lines=(Line(query=query),),
        alarm=alarm,
        traces=traces,
    )


def line(query: Query, name: str = "", *, exemplar: bool = False) -> Line:
    """One query of a graph."""
    return Line(query=query, name=name, exemplar=exemplar)


def percentiles(
    view: View, found: Series, *by: str, shares: tuple[float, ...] = (0.5, 0.95), exemplar: bool = False
) -> tuple[Line, ...]:
    """Lines for percentiles of a histogram; exemplars are asked for once, with the last."""
    return tuple(
        Line(
            query=view.quantile(share, found, *by),
            name=f"p{share * 100:g}",
            exemplar=exemplar and share == shares[-1],
        )
        for share in shares
    )


def graph(
    title: str,
    *lines: Line,
    unit: Unit,
    description: str,
    stacked: bool = False,
    traces: tuple[str, ...] | None = None,
) -> Panel:
    """Lines over time."""
    return Panel(
        kind="timeseries",
        title=title,
        description=description,
        unit=unit,
        lines=lines,
        stacked=stacked,
        traces=traces,
    )


def heatmap(
    title: str,
    view: View,
    found: Series,
    *,
    unit: Unit,
    description: str,
    exemplar: bool = False,
    traces: tuple[str, ...] | None = None,
) -> Panel:
    """The whole distribution of a histogram over time."""
    return Panel(
        kind="heatmap",
        title=title,
        description=description,
        unit=unit,
        lines=(Line(query=view.rate(found, "le"), exemplar=exemplar),),
        traces=traces,
    )


def column(title: str, query: Query, unit: Unit) -> Line:
    """One column of a table."""
    return Line(query=query, name=title, unit=unit)


def table(
    title: str,
    labels: Mapping[str, str],
    *columns: Line,
    description: str,
    traces: tuple[str, ...] | None = None,
) -> Panel:
    """Labels and numbers, sorted by the first number. Each column has a unit of its own."""
    return Panel(
        kind="table",
        title=title,
        description=description,
        unit=columns[0].unit or "short",
        lines=columns,
        columns=labels,
        traces=traces,
    )


def bars(title: str, query: Query, unit: Unit, description: str, *, alarm: float | None = None) -> Panel:
    """One bar for each element."""
    return Panel(
        kind="bargauge",
        title=title,
        description=description,
        unit=unit,
        lines=(Line(query=query),),
        alarm=alarm,
    )
