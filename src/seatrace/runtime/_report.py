"""Tables of figures: as plain text, and as rich draws them where it is asked to show a monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OTHER = "_OTHER"
"""Stands for all names and keys beyond a limit, as in the metrics."""


def text_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, figures to the right."""
    lines = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]

    def joined(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join([joined(lines[0]), "  ".join("─" * width for width in widths), *map(joined, lines[1:])])


def rich_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """The same as a ``rich.table.Table``. Only rich calls this, so that it is there."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column, title in enumerate(titles):
        table.add_column(title, justify="right" if column else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def seconds(value: float | None) -> str:
    """A time in the unit that suits it; nothing for ``None``."""
    if value is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 * size else f"{value / size:,.0f} {unit}"
    return f"{value / 1e-9:.3g} ns" if value else "0 s"


def share(part: float | None) -> str:
    """A fraction in percent; nothing for ``None``."""
    return "" if part is None else f"{part:.1%}"
