"""The demo on the screen: live progress while it runs, tables at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .board import AgentRow, Board, ModelRow, Seen
from .collector import Collector
from .patterns import Gain
from .provider import Served

_RECENT = 8
"""Calls in the live view."""


def lines(console: Console, calls: int) -> Board:
    """A board that says each model call in one plain line, for output that is no terminal."""

    def heard(seen: Seen, count: int) -> None:
        usage = f"{_count(seen.usage.input_tokens)} in, {_count(seen.usage.output_tokens)} out"
        told = "failed" if seen.failed else f"{usage}, {_usd(seen.usd)} USD"
        place = f"{count:>{len(str(calls))}}/{calls}" if count <= calls else f"{count}"
        console.print(f"{place}  {seen.agent or '-':<10}  {seen.name:<22}  {_seconds(seen.duration):>7}  {told}")

    return Board(heard)


@contextmanager
def live(console: Console, board: Board, calls: int) -> Iterator[None]:
    """Shows progress and the latest calls until the block ends, then vanishes."""
    progress = Progress(
        TextColumn("[bold]seatrace demo"), BarColumn(), MofNCompleteColumn(), TextColumn("calls"), TimeElapsedColumn()
    )
    task = progress.add_task("", total=calls)

    def view() -> RenderableType:
        progress.update(task, completed=min(board.model_calls, calls))
        return Group(progress, Padding(_latest(board.latest(_RECENT)), (1, 0, 0, 2)))

    with Live(get_renderable=view, console=console, refresh_per_second=12, transient=True):
        yield


def report(board: Board, served: Sequence[Served], collector: Collector, *, interrupted: bool) -> RenderableType:
    """The tables and where they come from."""
    parts: list[RenderableType] = []
    if interrupted:
        parts.append(Text("Interrupted: the tables show the calls until then.\n", style="yellow"))
    if board.model_calls:
        parts += [_models(board.models(), board.total()), _agents(board.agents())]
    if board.gains:
        parts.append(_patterns(board.gains))
    parts += [Padding(Text.from_markup(note), (0, 1, 0, 1)) for note in _notes(board, served, collector)]
    return Group(*parts)


def _models(rows: Sequence[ModelRow], total: ModelRow) -> Table:
    titles = ("calls", "errors", "p50\nms", "p95\nms", "p99\nms", "first\nchunk", "tokens\nin", "cache\nreads")
    table = _table("By model", "model", *titles, "tokens\nout", "USD")
    for row in rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(total), style="bold")
    return table


def _cells(row: ModelRow) -> list[str]:
    return [
        row.model,
        str(row.calls),
        _errors(row.errors),
        *(_milliseconds(duration) for duration in row.durations),
        _milliseconds(row.first_chunk),
        _count(row.input_tokens),
        _count(row.cache_read),
        _count(row.output_tokens),
        _usd(row.usd),
    ]


def _agents(rows: Sequence[AgentRow]) -> Table:
    titles = ("runs", "p50 of a\nrun, ms", "model\ncalls", "tool\ncalls", "tool\nerrors", "tokens", "USD")
    table = _table("By agent", "agent", *titles)
    for row in rows:
        table.add_row(
            row.agent,
            str(row.runs),
            _milliseconds(row.run_p50),
            str(row.model_calls),
            str(row.tool_calls),
            _errors(row.tool_errors),
            _count(row.tokens),
            _usd(row.usd),
        )
    return table


def _patterns(gains: Sequence[Gain]) -> Table:
    table = _table("By pattern", "pattern", "what it did", "gained")
    for column in table.columns[1:]:
        column.justify = "left"
    for gain in gains:
        table.add_row(gain.pattern, gain.did, gain.gained)
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.title_justify, table.title_style = "left", "bold"
    table.header_style, table.border_style = "cyan", "dim"
    tall = any("\n" in other for other in others)
    for title in (first, *others):
        justify: JustifyMethod = "left" if title == first else "right"
        table.add_column(f"\n{title}" if tall and "\n" not in title else title, justify=justify, no_wrap=True)
    return table


def _notes(board: Board, served: Sequence[Served], collector: Collector) -> Iterator[str]:
    statuses = Counter(request.status for request in served)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
    yield (
        f"The fake provider answered {len(served)} HTTP requests ({answers or 'none'}). The clients retry by "
        "themselves; seatrace records one call, however many requests it took. All numbers by model and by agent are "
        "from its records."
    )
    for basis in board.price_bases():
        yield f"USD: made-up traffic at real list prices, {basis}. Nobody was billed."
    if collector.listens:
        yield f"Traces, metrics and events were sent by OTLP to [bold]{collector.endpoint}[/bold]."
    else:
        yield (
            f"No collector listens on [bold]{collector.endpoint}[/bold]: nothing was sent. "
            "Start one there, or set OTEL_EXPORTER_OTLP_ENDPOINT, and run the demo again."
        )


def _latest(calls: Sequence[Seen]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for seen in calls:
        spent = f"{_count(seen.usage.input_tokens)} in, {_count(seen.usage.output_tokens)} out"
        told = Text("failed", "red") if seen.failed else Text("" if seen.kind == "tool" else spent, "dim")
        name = Text(seen.name, "magenta" if seen.kind == "tool" else "")
        table.add_row(
            Text(seen.agent or "", "cyan"),
            name,
            _seconds(seen.duration),
            told,
            "" if seen.usd is None else _usd(seen.usd),
        )
    return table


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:,.0f}"


def _count(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _errors(count: int) -> str:
    return f"[red]{count}[/red]" if count else "0"


def _usd(amount: float | None) -> str:
    if amount is None:
        return "–"
    return "<0.0001" if 0 < amount < 0.00005 else f"{amount:.4f}"
