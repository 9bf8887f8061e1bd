"""What a row of the catalogue is, and the bucket bounds that rows share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
AGENT_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
WORKFLOW_SECONDS_LEGACY: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
MCP_SECONDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKENS: Final = tuple(4.0**exponent for exponent in range(14))
CALLS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
USD: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

FAST_SECONDS: Final = (0.00001, 0.0000316, 0.0001, 0.000316, 0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0)
WAIT_SECONDS: Final = (0.001, 0.005, 0.02, 0.08, 0.32, 1.28, 5.12, 20.48, 81.92, 327.68, 1310.72, 5242.88)
RATIOS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)
SIMILARITIES: Final = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 1.0)

Kind = Literal["histogram", "counter", "updowncounter", "gauge"]
"""An OpenTelemetry instrument. Up-down counters and gauges are asynchronous: they are asked for when they are read, and
the readings of one attribute set are added up (up-down counters), or the largest counts (gauges)."""

Generation = Literal["latest", "legacy", "seatrace"]
"""Which setting of ``SEATRACE_SEMCONV`` emits a metric; ``seatrace`` ones are always emitted."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the catalogue."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...]
    generation: Generation
    buckets: tuple[float, ...] | None = None


def histogram(
    name: str,
    unit: str,
    buckets: tuple[float, ...],
    attributes: tuple[str, ...],
    description: str,
    generation: Generation = "seatrace",
) -> Metric:
    """A row for a histogram."""
    return Metric(name, "histogram", unit, description, attributes, generation, buckets)


def counter(
    name: str, unit: str, attributes: tuple[str, ...], description: str, generation: Generation = "seatrace"
) -> Metric:
    """A row for a counter."""
    return Metric(name, "counter", unit, description, attributes, generation)


def updowncounter(name: str, unit: str, attributes: tuple[str, ...], description: str) -> Metric:
    """A row for something that can be added up over processes: entries, members, jobs."""
    return Metric(name, "updowncounter", unit, description, attributes, "seatrace")


def gauge(name: str, unit: str, attributes: tuple[str, ...], description: str) -> Metric:
    """A row for something that cannot: a limit, an age. Never with the unit ``1``: some translators to Prometheus add
    ``_ratio`` to it and some do not."""
    return Metric(name, "gauge", unit, description, attributes, "seatrace")
