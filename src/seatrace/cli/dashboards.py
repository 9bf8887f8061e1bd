"""``seatrace dashboards``: Grafana boards, as files or straight into a Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from seatrace.errors import SeatraceError

from .complaint import complain

app = typer.Typer(help="Boards for Grafana, built from the metric catalogue.", no_args_is_help=True)

Semconv = Annotated[Literal["latest", "legacy"], typer.Option(help="The conventions that your programs emit.")]
Traces = Annotated[Literal["tempo", "jaeger"], typer.Option(help="The kind of data source that has your traces.")]

_LOCAL = {"localhost", "127.0.0.1", "::1"}


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("dashboards/grafana"),
    semconv: Semconv = "latest",
    traces: Traces = "tempo",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if a file is out of date.")
    ] = False,
) -> None:
    """Write the boards that are kept in a repository, and take away those that are no more."""
    from seatrace.kit import boards

    files = boards.files(semconv, traces=traces)
    there = {path.name: path for path in out.glob("seatrace-*.json")} if out.is_dir() else {}
    stale = [name for name, text in files.items() if name not in there or there[name].read_text("utf-8") != text]
    gone = sorted(set(there) - set(files))
    if check:
        for name in stale:
            typer.echo(f"{out / name}: {'out of date' if name in there else 'missing'}")
        for name in gone:
            typer.echo(f"{out / name}: no such board")
        if stale or gone:
            complain(f"{len(stale) + len(gone)} boards differ: run seatrace dashboards build", code=1)
        return
    _write(out, {name: files[name] for name in stale})
    for name in gone:
        there[name].unlink()
        typer.echo(f"removed {out / name}")
    if not stale and not gone:
        typer.echo(f"{len(files)} boards in {out} are up to date")


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Is made where it is not there.", show_default=False)],
    semconv: Semconv = "latest",
    traces: Traces = "tempo",
) -> None:
    """Write the boards as JSON, for Grafana's import or its provisioning."""
    from seatrace.kit import boards

    _write(folder, boards.files(semconv, traces=traces))


@app.command()
def push(
    url: Annotated[str, typer.Option(help="Of Grafana, as in the browser.", show_default=False)],
    token: Annotated[
        str | None,
        typer.Option(envvar="GRAFANA_TOKEN", help="Of a service account, role Editor.", show_default=False),
    ] = None,
    folder: Annotated[str, typer.Option(help="The folder's title; it is made where it is not there.")] = "seatrace",
    semconv: Semconv = "latest",
    traces: Traces = "tempo",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Put the boards into a Grafana. Boards that are there already are updated."""
    from seatrace.kit import boards
    from seatrace.kit.push import Grafana

    address = urlsplit(url)
    if token and address.scheme == "http" and address.hostname not in _LOCAL:
        typer.echo(f"seatrace: the token goes to {address.hostname} unencrypted; https:// would hide it", err=True)
    try:
        grafana = Grafana(url, token.strip() if token else None)
        for board in grafana.push(boards.documents(semconv, traces=traces), folder=folder, dry_run=dry_run):
            outcome = f"would be {board.outcome}" if dry_run and board.outcome != "unchanged" else board.outcome
            typer.echo(f"{outcome:<9}  {board.title}  {board.url}")
    except SeatraceError as error:
        complain(str(error), code=1)


def _write(folder: Path, files: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
            typer.echo(f"wrote {folder / name}")
    except OSError as error:
        complain(f"cannot write to {folder}: {error.strerror}", code=1)
