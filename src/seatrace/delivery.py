"""Exporters as a guest wants them: made late, quiet when nobody listens, and not in the way when the process ends."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import WeakSet

from .core import guard
from .process.redact import redact

_SILENCE = 300.0
"""Seconds in which a failed delivery is told once, whatever the signal."""

_RETRY_SWITCHES = ("_shutdown_event", "_shutdown_in_progress", "_shutdown_is_occuring")
"""What the official exporters of several versions call the event that ends their waiting for another try."""

_told = float("-inf")
_failed = 0
_here = threading.local()
_all: WeakSet[LazyExporter] = WeakSet()


def failed() -> int:
    """Batches that this process could not deliver so far."""
    return _failed


def hurry() -> None:
    """From now on each batch gets one try: nobody waits at the end of a process for a collector to come back."""
    for each in list(_all):
        each.hurry()


def close() -> None:
    """Lets go of the connections; for the end of the process, when nothing follows."""
    for each in list(_all):
        try:
            each.shutdown()
        except Exception as error:
            guard.logger.debug("seatrace could not close an exporter: %s", error)


class LazyExporter:
    """An exporter that is made when there is something to export, in the exporting thread: its libraries (protobuf,
    requests or gRPC) are most of what setting up would cost the program's start.

    A forked process makes one of its own, since it cannot share its parent's connections.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._process = 0
        self._broken = False
        self._hurried = False
        self._inherited: list[Any] = []
        """The parent's exporter, kept: its destructor would close what the parent still uses."""
        _all.add(self)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Exports a batch; what the official exporter would log of a failure becomes one line in five minutes."""
        _here.said = ""
        _here.exporting = True
        try:
            exporter = self._exporter()
            if exporter is None:
                _count()
                return None
            result = exporter.export(*args, **kwargs)
        except Exception as error:  # older ones raise what requests raises
            _tell(getattr(self._made, "_endpoint", "its endpoint"), f"{type(error).__name__}: {error}")
            return None
        finally:
            _here.exporting = False
        if getattr(result, "name", None) == "FAILURE":
            _tell(getattr(exporter, "_endpoint", "its endpoint"), _here.said)
        return result

    def hurry(self) -> None:
        """See :func:`hurry`."""
        self._hurried = True
        if self._made is not None:
            _stop_retrying(self._made)

    def shutdown(self, *args: Any, **kwargs: Any) -> None:
        """Shuts the exporter down, if it was ever needed."""
        _all.discard(self)
        if self._made is not None and self._process == os.getpid():
            self._made.shutdown(*args, **kwargs)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Flushes what the exporter itself holds back."""
        return True if self._made is None else bool(self._made.force_flush(timeout_millis))

    def _exporter(self) -> Any:
        if self._process != os.getpid():
            if self._made is not None:
                self._inherited.append(self._made)
            self._made, self._process = None, os.getpid()
        if self._made is None and not self._broken:
            try:
                self._made = self._make()
            except Exception as error:
                self._broken = True
                guard.logger.warning("seatrace could not set its exporter up; nothing is exported: %s", error)
                return None
            if self._hurried:
                _stop_retrying(self._made)
            for kind in type(self._made).__mro__:
                if kind.__module__.startswith("opentelemetry.exporter"):
                    _Hush.watch(logging.getLogger(kind.__module__))
        return self._made


class LazyMetricExporter(LazyExporter):
    """A metric exporter is asked for temporality and aggregation at once: the standard variables answer."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__(make)
        self._preferred_temporality, self._preferred_aggregation = _preferences()


def _preferences() -> tuple[dict[type, Any], dict[type, Any]]:
    from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
    from opentelemetry.sdk.metrics.export import AggregationTemporality
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

    delta = AggregationTemporality.DELTA
    word = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative").strip().lower()
    temporality: dict[type, Any] = {}
    if word == "delta":
        temporality = {Counter: delta, Histogram: delta, ObservableCounter: delta}
    elif word == "lowmemory":
        temporality = {Counter: delta, Histogram: delta}
    aggregation: dict[type, Any] = {}
    form = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "").strip().lower()
    if form == "base2_exponential_bucket_histogram":
        aggregation = {Histogram: ExponentialBucketHistogramAggregation()}
    return temporality, aggregation


def _stop_retrying(exporter: Any) -> None:
    for owner in (exporter, getattr(exporter, "_client", None)):
        for name in _RETRY_SWITCHES:
            switch = getattr(owner, name, None)
            if isinstance(switch, threading.Event):
                switch.set()


def _count() -> None:
    global _failed
    _failed += 1


def _tell(endpoint: str, reason: str) -> None:
    global _told
    _count()
    if monotonic() - _told < _SILENCE:
        return
    _told = monotonic()
    guard.logger.warning(
        "seatrace could not deliver telemetry to %s and dropped it%s. Told once in %d minutes. "
        "SEATRACE_ENDPOINT says where the collector is, SEATRACE_EXPORTER=none sends nothing.",
        redact(endpoint),
        f" ({redact(reason)[:400]})" if reason else "",
        _SILENCE // 60,
    )


class _Hush(logging.Filter):
    """Keeps what an official exporter logs while it exports for us, and remembers the first of it. What it logs for
    the program's own exporters passes."""

    @classmethod
    def watch(cls, logger: logging.Logger) -> None:
        if not any(isinstance(each, cls) for each in logger.filters):
            logger.addFilter(cls())

    def filter(self, record: logging.LogRecord) -> bool:
        if not getattr(_here, "exporting", False):
            return True
        _here.said = _here.said or record.getMessage()
        return record.levelno < logging.WARNING
