"""``seatrace demo``: provider, agents, listener and tables put together."""

from __future__ import annotations

import io
import json
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

import seatrace

from . import patterns, show
from .agent import Clients, conversations, faults
from .board import Board
from .collector import Collector, find_collector
from .interrupt import Check
from .provider import FakeProvider, Served

_WIDTH = 100
"""Columns of saved pictures and of output that is no terminal."""
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""What a saved picture would load from elsewhere when somebody looks at it."""
_LATENCY = 0.055
"""Seconds to a typical first token: the default demo takes about ten seconds."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What to run. Answers, latencies and faults depend on ``seed`` alone."""

    calls: int = 60
    """Model calls after which no new question is begun."""
    port: int = 0
    seed: int = 0
    live: bool = True
    picture: Path | None = None
    """Where to save the tables as SVG."""
    log: Path | None = None
    """Where to save what the provider served, one JSON object a line."""


def run(demo: Demo, console: Console, check: Check) -> int:
    """Run the demo and print its tables; returns the exit code: 0, or 130 after Ctrl-C, which ``check`` raises.

    Raises:
        PortTakenError: if another program listens on ``demo.port``.
        ConfigError: if a setting in the environment is malformed.
    """
    collector = find_collector()
    provider = FakeProvider(port=demo.port, seed=demo.seed, latency=_LATENCY, schedule=faults(demo.seed))
    board = Board() if demo.live else show.lines(console, demo.calls)
    interrupted = False
    with provider:
        seatrace.instrument(
            service_name="seatrace-demo",
            exporter="otlp" if collector.listens else "none",
            providers={_address(provider.url): "openai", _address(provider.second_url): "anthropic"},
        )
        forget = seatrace.on_call(board.listen)
        try:
            with _screen(console, board, demo):
                _converse(provider, board, demo.calls, check)
        except KeyboardInterrupt:
            interrupted = True
        seatrace.flush()
        forget()
    _print(console, demo, board, provider.served, collector, interrupted=interrupted)
    seatrace.shutdown()
    return 130 if interrupted else 0


def _address(url: str) -> str:
    return url.removeprefix("http://")


def _converse(provider: FakeProvider, board: Board, calls: int, check: Check) -> None:
    with Clients(provider.url, provider.second_url, check) as clients:
        for _report in conversations(clients):
            if board.model_calls >= calls:
                break
        for gain in patterns.watch(clients):
            board.gains.append(gain)


def _screen(console: Console, board: Board, demo: Demo) -> AbstractContextManager[None]:
    return show.live(console, board, demo.calls) if demo.live else nullcontext()


def _print(
    console: Console, demo: Demo, board: Board, served: list[Served], collector: Collector, *, interrupted: bool
) -> None:
    tables = show.report(board, served, collector, interrupted=interrupted)
    console.print(tables)
    if demo.picture is not None:
        paper = Console(record=True, width=_WIDTH, force_terminal=True, file=io.StringIO())
        paper.print(tables)
        picture = paper.export_svg(title="seatrace demo")
        demo.picture.write_text(_FONTS.sub("", picture), encoding="utf-8")
    if demo.log is not None:
        demo.log.write_text("".join(json.dumps(asdict(request)) + "\n" for request in served))
