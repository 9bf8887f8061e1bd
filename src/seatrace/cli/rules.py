"""``seatrace rules``: alerts with the thresholds of one's own."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seatrace.config import read_toml
from seatrace.errors import ConfigError, SeatraceError

from .complaint import complain

if TYPE_CHECKING:
    from seatrace.kit.rules import Thresholds  # the kit is loaded by its own commands alone

app = typer.Typer(help="Alerts for Prometheus, Grafana and Alertmanager.", no_args_is_help=True)

_FILES = {
    "prometheus": "seatrace.rules.yaml",
    "grafana": "seatrace.grafana-alerts.yaml",
    "alertmanager": "alertmanager.yaml",
}


@app.command()
def generate(
    out: Annotated[Path | None, typer.Option(help="The folder to write to; without it the file is printed.")] = None,
    format: Annotated[
        Literal["prometheus", "grafana", "alertmanager"], typer.Option(help="Who reads the file.")
    ] = "prometheus",
    file: Annotated[
        Path | None, typer.Option("--thresholds", help="A TOML file; `seatrace rules thresholds` prints one.")
    ] = None,
    budget_per_day: Annotated[
        str | None, typer.Option(metavar="USD", help="What all jobs together may spend in 24 hours.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any threshold; wins over the file.")
    ] = None,
    semconv: Annotated[
        Literal["latest", "legacy"], typer.Option(help="The conventions that your programs emit.")
    ] = "latest",
    runbooks: Annotated[
        str, typer.Option(metavar="URL", help="The folder of the runbooks, for runbook_url.")
    ] = "docs/runbooks",
    grafana_url: Annotated[
        str, typer.Option(metavar="URL", help="Where Grafana is, for dashboard_url.")
    ] = "http://localhost:3000",
    datasource: Annotated[str, typer.Option(help="Grafana's uid of Prometheus.")] = "prometheus",
    check: Annotated[
        bool, typer.Option(help="Write nothing; exit code 1 and a diff if a file is out of date.")
    ] = False,
) -> None:
    """Write the rules.

    Docs: docs/alerts.md.
    """
    from seatrace.kit.rules import alertmanager, grafana, groups, prometheus
    from seatrace.kit.rules.links import Links

    if check and out is None:
        complain("--check compares with the file in a folder: give --out, too")
    try:
        limits = _limits(file, budget_per_day, set_ or [])
    except SeatraceError as error:
        complain(str(error))
    rules, links = groups(limits, semconv=semconv), Links(runbooks=runbooks, grafana=grafana_url)
    if format == "prometheus":
        text = prometheus.text(rules, links)
    elif format == "grafana":
        text = grafana.text(rules, links, datasource=datasource)
    else:
        text = alertmanager.text(rules)
    if out is None:
        typer.echo(text, nl=False)
    elif check:
        _check(out / _FILES[format], text)
    else:
        _write(out / _FILES[format], text)


@app.command("thresholds")
def print_thresholds(
    file: Annotated[Path | None, typer.Option("--thresholds", help="A TOML file to complete and check.")] = None,
) -> None:
    """Print all thresholds as a TOML file, with what they mean."""
    from seatrace.kit.rules.thresholds import template

    try:
        typer.echo(template(_limits(file, None, [])), nl=False)
    except SeatraceError as error:
        complain(str(error))


def _limits(file: Path | None, budget_per_day: str | None, settings: list[str]) -> Thresholds:
    from seatrace.kit.rules.thresholds import thresholds

    found = read_toml("thresholds", str(file)) if file is not None else {}
    thresholds(found, source=str(file))
    given: dict[str, object] = {} if budget_per_day is None else {"budget_per_day": budget_per_day}
    for each in settings:
        name, sign, value = each.partition("=")
        if not sign:
            raise ConfigError(f"--set: expected NAME=VALUE, got {each!r}")
        given[name.strip().replace("-", "_")] = value.strip()
    return thresholds({**found, **given}, source="thresholds")


def _check(path: Path, text: str) -> None:
    before = path.read_text() if path.exists() else ""
    if before == text:
        return
    diff = difflib.unified_diff(before.splitlines(True), text.splitlines(True), str(path), "what would be written")
    typer.echo("".join(diff), nl=False)
    raise typer.Exit(1)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        complain(f"{path} cannot be written: {error.strerror}", code=1)
    typer.echo(f"wrote {path}")
