"""Providers with exporters, for programs that did not set any up themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from .config import PROTOCOLS, Config
from .delivery import LazyExporter, LazyMetricExporter
from .errors import ConfigError, MissingExtraError
from .version import __version__

_INTERNAL_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
_SIGNALS = {
    "traces": ("trace_exporter", "OTLPSpanExporter", "/v1/traces"),
    "metrics": ("metric_exporter", "OTLPMetricExporter", "/v1/metrics"),
    "logs": ("_log_exporter", "OTLPLogExporter", "/v1/logs"),
}
_OTLP = {"otlp": None, "otlp_proto_http": "http/protobuf", "otlp_proto_grpc": "grpc"}
"""The standard words for OTLP and the protocol that each implies."""


def chosen(config: Config, signal: str) -> list[str]:
    """The exporters for ``signal``: the setting, else the signal's own ``OTEL_*_EXPORTER``, else ``otlp``.

    Raises:
        ConfigError: The variable names something else than ``otlp``, ``console`` or ``none``.
    """
    if config.exporter is not None:
        return [] if config.exporter == "none" else [config.exporter]
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    words = [each.strip().lower() for each in os.environ.get(variable, "").split(",") if each.strip()] or ["otlp"]
    for word in words:
        if word not in (*_OTLP, "console", "none"):
            raise ConfigError(f"{variable}: expected otlp, console or none, got {word!r}")
    return [word for word in dict.fromkeys(words) if word != "none"]


def protocol(config: Config, signal: str) -> str:
    """The OTLP protocol for ``signal``: the setting, else the standard variables, the signal's own first.

    Raises:
        ConfigError: A variable names another one.
    """
    if config.protocol is not None:
        return config.protocol
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        word = os.environ.get(variable, "").strip().lower()
        if word and word not in PROTOCOLS:
            raise ConfigError(f"{variable}: expected one of {', '.join(PROTOCOLS)}, got {word!r}")
        if word:
            return word
    return PROTOCOLS[0]


def check(config: Config) -> None:
    """Looks at what the other functions here are going to read.

    Raises:
        ConfigError: A standard variable is malformed.
        MissingExtraError: The package for a protocol is not installed.
    """
    for signal in _SIGNALS:
        for word in chosen(config, signal):
            if word in _OTLP:
                _package(config, signal, word)
    for variable in ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT"):
        text = os.environ.get(variable, "").strip()
        try:
            if text and not float(text) > 0:
                raise ValueError
        except ValueError:
            raise ConfigError(f"{variable}: expected milliseconds above 0, got {text!r}") from None


def resource(config: Config) -> Any:
    """The resource of the providers that seatrace sets up: ``OTEL_RESOURCE_ATTRIBUTES``, detectors and settings."""
    import uuid

    from opentelemetry.sdk.resources import Resource

    attributes: dict[str, Any] = dict(config.resource_attributes)
    if config.service_name is not None:
        attributes["service.name"] = config.service_name
    made = Resource.create(attributes)
    if "service.instance.id" not in made.attributes:
        # Without it the series of two processes of one service fall together in Prometheus.
        made = made.merge(Resource({"service.instance.id": str(uuid.uuid4())}))
    return made.merge(
        Resource(
            {
                "process.pid": os.getpid(),
                "process.runtime.name": sys.implementation.name,
                "process.runtime.version": ".".join(map(str, sys.version_info[:3])),
                "telemetry.distro.name": "seatrace",
                "telemetry.distro.version": __version__,
            }
        )
    )


def begin_anew(providers: list[Any]) -> None:
    """In a forked process: gives ``providers`` an identity of their own, and lets their metrics start at zero. The
    parent's threads may have held the locks while it forked, so these are new, too."""
    import copy
    import threading
    import uuid

    from opentelemetry.sdk.resources import Resource

    changed = Resource({"service.instance.id": str(uuid.uuid4()), "process.pid": os.getpid()})
    for provider in providers:
        update = getattr(provider, "_update_resource", None)
        if update is not None:
            update(changed)
        else:  # before 1.44: all of them share one resource object
            kept = getattr(provider, "_resource", None) or provider._sdk_config.resource
            kept._attributes = kept.merge(changed)._attributes
        consumer = getattr(provider, "_measurement_consumer", None)
        if consumer is None:
            continue
        consumer._lock = threading.Lock()
        storages = {}
        for reader, storage in consumer._reader_storages.items():
            reader._export_lock = threading.Lock()
            storages[reader] = fresh = copy.copy(storage)
            fresh._lock = threading.RLock()
            fresh._instrument_view_instrument_matches = {}
        consumer._reader_storages = storages


def tracer_provider(config: Config, made: Any, meter_provider: Any) -> Any | None:
    """A tracer provider with batching exporters, ``None`` where there are to be none."""
    names = chosen(config, "traces")
    if not names:
        return None
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    provider = TracerProvider(resource=made, shutdown_on_exit=False)
    for name in names:
        if name == "console":
            provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
            continue
        with _counting_drops():
            provider.add_span_processor(_batched(BatchSpanProcessor, _otlp(config, "traces", name), meter_provider))
    return provider


def meter_provider(config: Config, made: Any, further: Sequence[Any] = ()) -> Any | None:
    """A meter provider with periodic exporters and the ``further`` readers, ``None`` where there are to be none."""
    names = chosen(config, "metrics")
    if not names and not further:
        return None
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

    readers = [
        PeriodicExportingMetricReader(ConsoleMetricExporter() if name == "console" else _otlp(config, "metrics", name))
        for name in names
    ]
    return MeterProvider([*readers, *further], made, shutdown_on_exit=False)


def logger_provider(config: Config, made: Any, meter_provider: Any) -> Any | None:
    """A logger provider with batching exporters, ``None`` where there are to be none."""
    names = chosen(config, "logs")
    if not names:
        return None
    from opentelemetry.sdk import _logs
    from opentelemetry.sdk._logs import export

    provider = _logs.LoggerProvider(made, shutdown_on_exit=False)
    for name in names:
        if name == "console":
            console = getattr(export, "ConsoleLogRecordExporter", None) or export.ConsoleLogExporter  # before 1.40
            provider.add_log_record_processor(export.SimpleLogRecordProcessor(console()))
            continue
        with _counting_drops():
            provider.add_log_record_processor(
                _batched(export.BatchLogRecordProcessor, _otlp(config, "logs", name), meter_provider)
            )
    return provider


def _batched(processor: Any, exporter: Any, meter_provider: Any) -> Any:
    try:
        return processor(exporter, meter_provider=meter_provider)
    except TypeError:  # before SDK metrics could be told their meter provider
        return processor(exporter)


@contextmanager
def _counting_drops() -> Iterator[None]:
    """The SDK counts what a full queue drops (``otel.sdk.processor.*``) only where this variable is set. Counting in
    the processors costs nothing while nothing is dropped; the tracer's own counters would cost each span, so the
    variable is set for the processors alone."""
    before = os.environ.get(_INTERNAL_METRICS)
    os.environ.setdefault(_INTERNAL_METRICS, "true")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_INTERNAL_METRICS, None)


def _package(config: Config, signal: str, word: str) -> str:
    flavour = "grpc" if (_OTLP[word] or protocol(config, signal)) == "grpc" else "http"
    package = f"opentelemetry.exporter.otlp.proto.{flavour}"
    try:
        found = find_spec(package)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise MissingExtraError(
            f"protocol={flavour!r} needs the package opentelemetry-exporter-otlp-proto-{flavour}, "
            f"which is not installed: pip install opentelemetry-exporter-otlp"
        )
    return package


def _otlp(config: Config, signal: str, word: str) -> Any:
    module, name, path = _SIGNALS[signal]
    package = _package(config, signal, word)
    settings: dict[str, Any] = {}
    if package.endswith("grpc"):
        if config.endpoint is not None:
            settings["endpoint"] = config.endpoint
        if config.headers is not None:
            settings["headers"] = {key.lower(): value for key, value in config.headers.items()}
    else:
        if config.endpoint is not None:
            settings["endpoint"] = config.endpoint.rstrip("/") + path
        if config.headers is not None:
            settings["headers"] = dict(config.headers)

    def make() -> Any:
        from importlib import import_module

        return getattr(import_module(f"{package}.{module}"), name)(**settings)

    return LazyMetricExporter(make) if signal == "metrics" else LazyExporter(make)
