"""The counter of seatrace's own faults (:mod:`seatrace.core.guard`), which is read before all other metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.metrics import Meter, Observation

from seatrace.core import guard

from . import _waiting, catalogue, semconv

STAGES = (
    "begin a call",
    "read a response",
    "read a chunk",
    "read a stream",
    "read a raw response",
    "read an error",
    "look at a result",
    "end a stream",
    "activate a span",
    "deactivate a span",
    "price a call",
    "clean content",
    "emit a call",
    "notify a listener",
    "pass a gate",
    "measure",
    "emit an event",
    "annotate a span",
    "link a span",
    "carry a context",
    "serve metrics",
    "ask a budget's rule",
    "reach a budget's ledger",
    "follow an attempt",
    "look for loops",
    "look into a cache",
    "keep an answer",
    "classify an error",
    "work on a job",
    "renew leases",
    "move jobs that are due",
    "patch a class",
    "watch a connection",
    "read a request",
    "read a message",
)
"""The closed label set of ``seatrace.faults``: these counters start at zero."""


def count_faults(meter: Meter) -> Any:
    """Makes the counter. A meter knows an instrument once, so the first one serves those that are made later, too."""
    metric = catalogue.FAULTS
    return meter.create_observable_counter(metric.name, [_read], metric.unit, metric.description)


def _read(options: Any) -> Iterable[Observation]:
    """A reader of the SDK asks asynchronous instruments first, and reads the others after that: what waits to be
    measured is measured here."""
    _waiting.catch_up()
    counts = dict.fromkeys(STAGES, 0)
    counts.update(guard.faults)
    return [Observation(count, {semconv.STAGE: stage}) for stage, count in counts.items()]
