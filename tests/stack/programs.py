"""Programs that tests start on free loopback ports and stop by their process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

DEADLINE = 90.0
"""Seconds until a condition that should come true counts as failed; generous, since the machine may be busy."""

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, *, deadline: float = DEADLINE) -> T:
    """The first true value of ``condition``, which is asked again and again; ``OSError`` counts as not yet."""
    end = time.monotonic() + deadline
    while True:
        try:
            if found := condition():
                return found
            last: object = found
        except OSError as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}; last: {last!r}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def installed(program: str) -> str:
    """The path of a program; skips the test where there is none."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@dataclass
class Program:
    """A running program, whose output goes to a file."""

    command: Sequence[str]
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """What it wrote."""
        return self.log.read_text(errors="replace")

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Asks it to end, and makes it end if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def memory(self) -> int:
        """Bytes of memory that it takes now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def start(command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None) -> Program:
    """Starts a program; it goes on after this call."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "SEATRACE_"))}
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**own, **(env or {})}
        )
    return Program(command, process, log)


@contextmanager
def running(
    command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, ready: str | None = None
) -> Iterator[Program]:
    """A program for the length of the block; with ``ready``, from when that URL answers."""
    program = start(command, log, env=env)
    try:
        if ready is not None:
            wait_until_ready(program, ready)
        yield program
    finally:
        program.stop()


def wait_until_ready(program: Program, url: str) -> None:
    """Waits until ``url`` answers with success."""

    def answers() -> bool:
        if not program.runs:
            raise AssertionError(
                f"{program.command[0]} ended with {program.process.returncode}:\n{program.said()[-3000:]}"
            )
        try:
            return bool(get(url, timeout=5) is not None)
        except urllib.error.HTTPError:
            return False

    wait_for(answers, f"{url} answers; it said:\n{program.said()[-2000:]}")


def get(url: str, *, timeout: float = 30, headers: Mapping[str, str] | None = None) -> bytes:
    """What a URL answers.

    Raises:
        OSError: nobody listens, or the answer is an error.
    """
    request = urllib.request.Request(url, headers=dict(headers or {}))
    with _DIRECT.open(request, timeout=timeout) as answer:
        body: bytes = answer.read()
        return body


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
