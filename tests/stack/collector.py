"""The real collector, built from ``collector/builder.yaml``, with the shipped configs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .programs import Program, free_ports, get, start, wait_for, wait_until_ready

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "collector"
OVERLAYS = sorted(each.stem for each in CONFIGS.glob("*.yaml") if each.stem not in ("builder", "compose", "gateway"))

_NO_GO = 3
"""What ``collector/build`` ends with where there is no Go."""


def build() -> str:
    """The path of the collector, which is built where it was not; skips where it cannot be."""
    built = subprocess.run([CONFIGS / "build"], capture_output=True, text=True)
    if built.returncode == _NO_GO:
        pytest.skip("Go is not installed: no collector can be built")
    assert built.returncode == 0, built.stderr
    return built.stdout.strip()


def config_arguments(overlays: tuple[str, ...]) -> list[str]:
    """``--config`` for the gateway and overlays on it."""
    return [part for name in ("gateway", *overlays) for part in ("--config", str(CONFIGS / f"{name}.yaml"))]


@dataclass
class Collector:
    """A collector on free ports. It can be killed and started again on the same ones."""

    program: str
    directory: Path
    overlays: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    running: Program | None = None

    def __post_init__(self) -> None:
        grpc, http, health, own, scraped = free_ports(5)
        self.grpc, self.http = f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}"
        self._health, self.own_metrics = f"http://127.0.0.1:{health}", f"127.0.0.1:{own}"
        self.scraped = f"127.0.0.1:{scraped}"
        self._env = {
            "SEATRACE_COLLECTOR_GRPC": self.grpc,
            "SEATRACE_COLLECTOR_HTTP": f"127.0.0.1:{http}",
            "SEATRACE_COLLECTOR_HEALTH": f"127.0.0.1:{health}",
            "SEATRACE_COLLECTOR_METRICS_PORT": str(own),
            "SEATRACE_COLLECTOR_SCRAPE": self.scraped,
            "SEATRACE_COLLECTOR_STORAGE": str(self.directory / "queue"),
            **self.settings,
        }

    def start(self) -> None:
        """Starts it, and waits until its health check says that it is ready."""
        command = [self.program, *config_arguments(self.overlays)]
        self.running = start(command, self.directory / "collector.log", env=self._env)
        wait_until_ready(self.running, self._health)

    def kill(self) -> None:
        """``kill -9``."""
        assert self.running is not None
        self.running.kill()

    def stop(self) -> None:
        """Lets it end in order."""
        if self.running is not None:
            self.running.stop()

    def said(self) -> str:
        """Its log."""
        return (self.directory / "collector.log").read_text(errors="replace")

    def memory(self) -> int:
        """Bytes of memory that it takes now."""
        assert self.running is not None
        return self.running.memory()

    def counted(self, name: str, **labels: str) -> float:
        """The sum of its own metric ``name`` over the series that have ``labels``."""
        text = get(f"http://{self.own_metrics}/metrics").decode()
        total = 0.0
        for found in re.finditer(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE):
            own = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
            if all(own.get(key) == value for key, value in labels.items()):
                total += float(found[2])
        return total

    def wait_for_count(self, least: float, name: str, **labels: str) -> None:
        """Waits until :meth:`counted` is at least ``least``."""
        wait_for(lambda: self.counted(name, **labels) >= least, f"{name}{labels} is {least}")


@contextmanager
def collecting(
    program: str, directory: Path, *overlays: str, settings: Mapping[str, str] | None = None
) -> Iterator[Collector]:
    """A collector for the length of the block.

    Args:
        program: Of :func:`build`.
        directory: For its queue and its log.
        *overlays: Names of shipped configs that go on top of ``gateway.yaml``.
        settings: Further environment variables that the configs read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    collector = Collector(program, directory, overlays, dict(settings or {}))
    try:
        collector.start()
        yield collector
    finally:
        collector.stop()
