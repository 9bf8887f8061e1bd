"""The commands and their options."""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seatrace.errors import SeatraceError
from seatrace.version import __version__

from . import dashboards, rules
from .complaint import complain
from .program import Program

app = typer.Typer(
    name="seatrace",
    help="Observability for LLM agents: one line, honest numbers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(dashboards.app, name="dashboards")
app.add_typer(rules.app, name="rules")

_NON_TERMINAL_WIDTH = 100
_STATE_STYLES = {"observed": "green", "target missing": "red", "not imported": "red", "not installed": "dim"}


def parse() -> Program | None:
    """Carry out the command in ``sys.argv``; the program to start where the command was ``run``.

    Raises:
        SystemExit: with the command's exit code, after every command but ``run``.
    """
    chosen: list[Program] = []
    try:
        app(obj=chosen)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit:
        if not chosen:
            raise
    return chosen[0] if chosen else None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"seatrace {__version__}")
        raise typer.Exit


@app.callback()
def _seatrace(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the fake provider; 0 takes a free one.")] = 0,
    calls: Annotated[int, typer.Option(min=1, help="Model calls after which no new question is begun.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Answers, latencies and failures depend on it.")] = 0,
    live: Annotated[bool, typer.Option(help="Live progress; plain lines where the output is no terminal.")] = True,
    save_svg: Annotated[Path | None, typer.Option(hidden=True, help="Save the tables as a picture.")] = None,
    save_log: Annotated[Path | None, typer.Option(hidden=True, help="Save what the provider served.")] = None,
) -> None:
    """Watch agents at work: real client libraries, a provider played on this machine, no keys needed."""
    from seatrace.demo.interrupt import patient_interrupts

    console = _console()
    live = live and console.is_terminal
    try:
        with patient_interrupts() as check:
            from seatrace.demo.run import Demo, run

            check()
            options = Demo(calls=calls, port=port, seed=seed, live=live, picture=save_svg, log=save_log)
            code = run(options, console, check)
    except ModuleNotFoundError as missing:
        name = (missing.name or "").partition(".")[0]
        if name not in {"openai", "anthropic", "starlette", "uvicorn"}:
            raise
        complain(f"the demo needs {name}: pip install 'seatrace[demo]'")
    except SeatraceError as error:
        complain(str(error), code=1)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="",
)
def run(
    context: typer.Context,
    program: Annotated[list[str], typer.Argument(metavar="SCRIPT [ARGUMENTS]...", show_default=False)],
    module: Annotated[bool, typer.Option("-m", help="Run a module, as python -m does.")] = False,
) -> None:
    """Run a Python program with seatrace observing it; nothing in the program changes.

    The settings come from SEATRACE_* and OTEL_* variables.
    """
    name, *arguments = program
    context.obj.append(Program(name, arguments, module=module))


@app.command()
def status() -> None:
    """Show which libraries seatrace observes here; imports those that are installed to see whether it can."""
    import seatrace

    try:
        seatrace.instrument(exporter="none")
    except SeatraceError as error:
        complain(str(error))
    for row in seatrace.status():
        if row.state == "not imported":
            with contextlib.suppress(Exception):
                importlib.import_module(row.name)
    table = Table(box=box.ROUNDED, header_style="cyan")
    for title in ("Library", "Version", "State", ""):
        table.add_column(title)
    for row in seatrace.status():
        table.add_row(row.name, row.version or "–", Text(row.state, _STATE_STYLES.get(row.state, "")), row.detail)
    _console().print(table)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_NON_TERMINAL_WIDTH)
