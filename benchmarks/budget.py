"""What a watched budget adds to a call, beside what the call costs anyway.

    python -m benchmarks.budget [--check] [--rounds 40]

A plain call of the real ``openai`` client on a transport in memory, observed by seatrace; the same with one budget in
memory per tenant; with one on a Redis of loopback too, where ``redis-server`` is installed. They take turns in one
process. Times are CPU; for Redis also the time that passes, since it is two round trips. ``--check`` exits 1 where the
budget in memory adds more than its reach.
"""

from __future__ import annotations

import argparse
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter_ns, process_time_ns
from typing import Any

import seatrace
from seatrace.runtime.budget import Budget, RedisLedger

from ._gauge import interval
from ._sdk import providers
from ._table import table
from ._wire import HISTORY, MODEL, QUESTION, client

CALLS = 60
REACH = 0.25
"""What the budget in memory may add, as a part of the bare client's call."""


def _work(messages: list[Any]) -> Callable[[], None]:
    create = client().chat.completions.create

    def work() -> None:
        for _ in range(CALLS):
            create(model=MODEL, messages=messages, max_tokens=256)

    return work


@contextmanager
def _watched(**options: Any) -> Iterator[None]:
    stop = Budget(1e6, scope="tenant", **options).watch()
    try:
        yield
    finally:
        stop()


@contextmanager
def _redis() -> Iterator[str]:
    """The address of a server that is gone at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        kinds: dict[str, Any] = {"memory": {}}
        if shutil.which("redis-server") is not None:
            ledger = RedisLedger(stack.enter_context(_redis()))
            stack.callback(ledger.close)
            kinds["Redis"] = {"ledger": ledger}
        rows, above = [], False
        for name, messages in (("plain call", [QUESTION]), ("history of 30 messages", HISTORY)):
            for kind, figures in _measured(messages, kinds, chosen.rounds).items():
                low, high = interval(figures, _part)
                reach = REACH if kind == "memory" else None
                above = above or (reach is not None and low > reach)
                rows.append(_row(f"{name}, {kind}", figures, low, high, reach))
    titles = [
        "case",
        "bare client, µs of CPU",
        "observed",
        "budget adds",
        "to bare",
        "95 %",
        "passes more, µs",
        "reach",
    ]
    print(table(titles, rows))
    return 1 if above and chosen.check else 0


def _measured(messages: list[Any], kinds: dict[str, Any], rounds: int) -> dict[str, list[tuple[float, ...]]]:
    """Of each round: CPU of the bare, the observed and the budgeted call, and the time that passes of the last two."""
    work = _work(messages)
    given = providers()
    taken: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in kinds}
    for round_ in range(rounds + 1):
        bare, _ = _timed(work)
        seatrace.instrument(**given._asdict())
        observed, passed = _timed(work)
        for kind in random.sample(list(kinds), len(kinds)):
            with _watched(**kinds[kind]), seatrace.session(tenant="acme"):
                budgeted, longer = _timed(work)
            if round_:  # the first one warms up
                taken[kind].append((bare, observed, budgeted, passed, longer))
        seatrace.uninstrument()
    return taken


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Microseconds a call: of CPU, and as they pass."""
    work()
    cpu, wall = process_time_ns(), perf_counter_ns()
    work()
    return (process_time_ns() - cpu) / 1e3 / CALLS, (perf_counter_ns() - wall) / 1e3 / CALLS


def _part(sample: Any) -> float:
    return statistics.median(row[2] - row[1] for row in sample) / statistics.median(row[0] for row in sample)


def _row(name: str, figures: list[tuple[float, ...]], low: float, high: float, reach: float | None) -> list[str]:
    bare, observed = (statistics.median(row[place] for row in figures) for place in (0, 1))
    added, passed = (statistics.median(row[two] - row[one] for row in figures) for one, two in ((1, 2), (3, 4)))
    verdict = "" if reach is None else f"≤ {reach:g}× {'✗' if low > reach else '✓'}"
    spread = f"{low:.2f} to {high:.2f}"
    return [
        name,
        f"{bare:.0f}",
        f"{observed:.0f}",
        f"{added:.0f}",
        f"{added / bare:.2f}×",
        spread,
        f"{passed:.0f}",
        verdict,
    ]


if __name__ == "__main__":
    raise SystemExit(main())
