"""Where the served metrics come from: a reader of ours at the meter provider in force, whenever that comes."""

from __future__ import annotations

import os
import threading
from typing import Any

from opentelemetry import metrics as otel_metrics
from opentelemetry.sdk.metrics.export import MetricReader

from seatrace import pull
from seatrace.core import pipeline, signals
from seatrace.errors import ConfigError

from .families import Family, Gatherer


class ScrapeReader(MetricReader):
    """Collects when it is asked. Cumulative, with the SDK's own choice of buckets."""

    def __init__(self) -> None:
        super().__init__()
        self._data: Any = None
        self.gatherer = Gatherer()

    def consumer(self) -> Any:
        """The measurement consumer of the provider that it reads, ``None`` as long as it reads none."""
        return getattr(self._collect, "__self__", None)

    def read(self) -> Any:
        """``MetricsData``, or ``None`` where nothing was measured yet. Not for two threads at a time."""
        self._data = None
        self.collect()
        data, self._data = self._data, None
        return data

    def _receive_metrics(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        self._data = metrics_data

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """There is nothing that would have to be sent."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """What was measured can still be read."""


class Source:
    """One a process, for all servers and apps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: ScrapeReader | None = None
        self._provider: Any = None

    def readers(self) -> list[Any]:
        """A reader for a provider about to be made, which :meth:`follow` then is to be told of."""
        with self._lock:
            if self._reader is None or self._reader.consumer() is not None:
                self._leave()
                self._reader = ScrapeReader()
            return [self._reader]

    def follow(self, provider: Any) -> None:
        """Reads ``provider`` from now on, and no other one. One that the program sets only later is found then.

        Raises:
            ConfigError: It is none of the OpenTelemetry SDK's.
        """
        if "Proxy" in type(provider).__name__:
            return
        consumer = getattr(provider, "_measurement_consumer", None)
        if consumer is None:
            kind = type(provider)
            raise ConfigError(
                f"serving metrics: expected a MeterProvider of the OpenTelemetry SDK, got {kind.__module__}."
                f"{kind.__qualname__}. Set one up, or let seatrace.instrument() do it."
            )
        with self._lock:
            if self._reader is None or self._reader.consumer() is not consumer:
                self._leave()
                self._reader = ScrapeReader()
                _attach(provider, consumer, self._reader)
            self._provider = provider
        if pipeline.current is not None:
            signals.begin_sources(pipeline.current)

    def join(self) -> None:
        """Finds the provider in force, where none is read yet."""
        if self._reader is None or self._reader.consumer() is None:
            find = pull.in_force
            self.follow(otel_metrics.get_meter_provider() if find is None else find(self.readers))

    def read(self) -> tuple[Any, list[Family]] | None:
        """What was measured until now, as the SDK and as Prometheus see it; ``None`` while there is no provider."""
        self.join()
        pipeline.drain()
        with self._lock:
            if self._reader is None or self._reader.consumer() is None:
                return None
            data = self._reader.read()
            return data, self._reader.gatherer.gather(data)

    def _leave(self) -> None:
        reader, provider, self._provider = self._reader, self._provider, None
        if reader is not None and provider is not None and reader.consumer() is not None:
            _detach(provider, reader)

    def after_fork(self) -> None:
        """The parent's threads may have held the lock."""
        self._lock = threading.Lock()


def wanted() -> Source:
    """The source of this process, which from now on follows the provider in force."""
    with _making:
        if pull.served is None:
            pull.served = Source()
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=pull.served.after_fork)
    pull.served.join()
    return pull.served


_making = threading.Lock()


# --- readers that come and go, which the SDK allows since 1.43 -----------------------------------------------------


def _attach(provider: Any, consumer: Any, reader: ScrapeReader) -> None:
    if hasattr(provider, "add_metric_reader"):
        provider.add_metric_reader(reader)
        return
    from opentelemetry.sdk.metrics._internal.metric_reader_storage import MetricReaderStorage

    wants: tuple[Any, Any] = (reader._instrument_class_temporality, reader._instrument_class_aggregation)
    storage = MetricReaderStorage(consumer._sdk_config, *wants)
    with consumer._lock:
        consumer._reader_storages = {**consumer._reader_storages, reader: storage}
    reader._set_collect_callback(consumer.collect)


def _detach(provider: Any, reader: ScrapeReader) -> None:
    if hasattr(provider, "remove_metric_reader"):
        provider.remove_metric_reader(reader)
        return
    consumer = reader.consumer()
    with consumer._lock:
        kept = consumer._reader_storages.items()
        consumer._reader_storages = {each: storage for each, storage in kept if each is not reader}
    reader._set_collect_callback(None)
