"""Switching seatrace on and off: providers, pipeline, patches, and the flush at the end of the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from opentelemetry import _logs as otel_logs
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace

from . import delivery, ending, libraries, pull
from .config import Config, load
from .core import guard, pipeline, signals
from .core.patch import after_import, forget
from .core.pipeline import Pipeline
from .emit import foreign, semconv
from .emit.emitter import Emitter
from .emit.metrics import Metrics
from .ending import at_once
from .errors import ConfigError
from .libraries import LibraryStatus, _stainless
from .process.redact import cleaner
from .version import __version__

if TYPE_CHECKING:
    from .core.context import RunWatch
    from .core.record import Call, Cost
    from .own.runaway import Detector
    from .process.price import PriceBook

_SCOPE = "seatrace"


@dataclass(slots=True)
class _Session:
    """What one ``instrument()`` set up."""

    config: Config
    tracer_provider: Any = None
    meter_provider: Any = None
    logger_provider: Any = None
    provides: bool = False
    """Whether seatrace sets up the providers that are missing."""
    _prices: PriceBook | None = None
    _detector: Detector | None = None
    remove_gate: Callable[[], None] | None = None

    @property
    def prices(self) -> PriceBook:
        """The price book; loaded with the first observed library, since its import is a start-up's worth."""
        if self._prices is None:
            self._prices = _price_book(self.config)
        return self._prices

    def warm(self) -> None:
        """Loads what the first call needs (prices, patterns of secrets) while the program is importing a library
        anyway."""
        from .process import secrets

        _ = self.prices.basis, secrets

    def watch_run(self, call: Call) -> RunWatch:
        """The pipeline's watch of a run; loaded with the first one."""
        if self._detector is None:
            from .own.runaway import Detector

            config = self.config
            self._detector = Detector(
                repeats=config.loop_repeats,
                max_steps=config.max_steps,
                max_cost=config.max_run_cost,
                action=config.on_runaway,
            )
        return self._detector.watch(call)

    def price(self, call: Call) -> Cost | None:
        """The pipeline's step."""
        return self.prices.price(call)


_session: _Session | None = None
_lock = threading.Lock()

_own: list[Any] = []
"""The providers that seatrace made itself, and therefore flushes and shuts down."""

_spent: WeakSet[Any] = WeakSet()
"""Those of them that are shut down, though they may still be the global ones."""


def instrument(
    *, tracer_provider: Any = None, meter_provider: Any = None, logger_provider: Any = None, **settings: Any
) -> None:
    """Observes every supported library of this process, those imported later included. One line is enough.

    Idempotent: a second call does nothing while the first one holds. Makes no network request itself, imports no LLM
    library, and does not fail for a library that is missing, too old or too new (see :func:`status`).

    Args:
        tracer_provider: OpenTelemetry providers to use. If any of the three is given, the others are the global ones
            as they are. If none is given, the global ones are used where the program has set them, and seatrace sets
            up the missing ones with OTLP exporters and makes them global.
        meter_provider: See ``tracer_provider``.
        logger_provider: See ``tracer_provider``.
        **settings: The fields of :class:`seatrace.Config`, e.g. ``service_name="shop"``, ``exporter="console"``,
            ``capture_content=True``. A keyword wins over ``SEATRACE_*``, which wins over ``OTEL_*``.

    Raises:
        ConfigError: A setting is unknown or malformed; nothing was switched on.
    """
    global _session
    with _lock:
        if _session is not None:
            return
        config = load(settings)
        _check_names(config)
        if not config.enabled:
            return
        session = _Session(config)
        if config.prices is not None:
            _ = session.prices  # malformed prices of one's own are said now
        given = (tracer_provider, meter_provider, logger_provider)
        if any(provider is not None for provider in given):
            session.tracer_provider = tracer_provider or otel_trace.get_tracer_provider()
            session.meter_provider = meter_provider or otel_metrics.get_meter_provider()
            session.logger_provider = logger_provider or otel_logs.get_logger_provider()
        else:
            session.provides = True
            _provide(session)
        for module in foreign.QUIET:
            after_import(module, lambda _: foreign.watch_starts(session.tracer_provider))
        pull.follow(session.meter_provider)
        _stainless.custom_providers = config.providers
        pipeline.current = Pipeline(_emitter(session), session.price)
        pipeline.current.watch_run = session.watch_run
        if config.on_runaway != "report":
            from .own.runaway import refuse

            session.remove_gate = pipeline.add_gate(refuse)
        pipeline.watch_collector(True)
        signals.begin_sources(pipeline.current)
        _session = session
        wanted = config.libraries if config.libraries is not None else [each.name for each in libraries.REGISTRY]
        libraries.observe([name for name in wanted if name not in config.disabled_libraries], session.warm)
        ending.watch(_Ending())
        _watch_forks()


def uninstrument() -> None:
    """Takes everything out again: the patched classes get the very same attribute objects back.

    Providers that seatrace set up stay in place and go on exporting what they have, since OpenTelemetry lets the
    global ones be set only once; a later :func:`instrument` uses them again.
    """
    global _session
    with _lock:
        if _session is None:
            return
        libraries.restore()
        for module in foreign.QUIET:
            forget(module)
        pipeline.drain()
        pipeline.watch_collector(False)
        pipeline.current = None
        if _session.remove_gate is not None:
            _session.remove_gate()
        _session = None
        ending.unwatch()


def status() -> list[LibraryStatus]:
    """What seatrace observes: one row a library, ``observed``, ``not imported``, ``not installed``,
    ``target missing`` (an unknown version) or ``switched off``. Imports nothing."""
    return libraries.status()


def flush(timeout: float = 10.0) -> bool:
    """Exports everything recorded so far, and waits for it at most ``timeout`` seconds; true where all went out."""
    pipeline.drain()
    return _all_went_out(_flushes(_session), timeout)


def shutdown(timeout: float = 10.0) -> bool:
    """Stops observing and serving, flushes, and shuts the providers down that seatrace set up itself. Waits at most
    ``timeout`` seconds; true where all went out. A later :func:`instrument` sets up new ones."""
    session = _session
    uninstrument()
    pull.close()
    delivery.hurry()
    closing = [partial(_close, provider) for provider in _own]
    others = [flush for flush in _flushes(session) if flush.__self__ not in _own]  # type: ignore[attr-defined]
    _spent.update(_own)
    _own.clear()
    return _all_went_out([*closing, *others], timeout)


def prices() -> PriceBook:
    """The price book in force, for custom prices at run time: ``seatrace.prices().register(...)``.

    Raises:
        ConfigError: ``instrument()`` was not called.
    """
    if _session is None:
        raise ConfigError("prices(): expected a running seatrace, call seatrace.instrument() first")
    return _session.prices


def _check_names(config: Config) -> None:
    known = {each.name for each in libraries.REGISTRY}
    for setting in ("libraries", "disabled_libraries"):
        for name in getattr(config, setting) or ():
            if name not in known:
                raise ConfigError(f"{setting}: expected names out of {', '.join(sorted(known))}, got {name!r}")


def _price_book(config: Config) -> PriceBook:
    from .process.price import PriceBook

    if isinstance(config.prices, (str, os.PathLike)):
        return PriceBook(path=config.prices)
    return PriceBook(config.prices)


def _provide(session: _Session) -> None:
    """Uses the global providers where the program set them, and sets up the others.

    Raises:
        ConfigError: The SDK does not accept what the standard variables say; nothing was set up.
    """
    config = session.config
    tracers, meters, loggers = (
        otel_trace.get_tracer_provider(),
        otel_metrics.get_meter_provider(),
        otel_logs.get_logger_provider(),
    )
    made: list[tuple[Any, Any, Callable[[Any], None]]] = []
    missing = [not _is_set(meters), not _is_set(tracers), config.events and not _is_set(loggers)]
    if any(missing):
        from . import exporters

        try:
            exporters.check(config)
            resource = exporters.resource(config)
            if missing[0] and (own := exporters.meter_provider(config, resource, pull.readers())) is not None:
                made.append((own, meters, otel_metrics.set_meter_provider))
                meters = own
            if missing[1] and (own := exporters.tracer_provider(config, resource, meters)) is not None:
                made.append((own, tracers, otel_trace.set_tracer_provider))
                tracers = own
            if missing[2] and (own := exporters.logger_provider(config, resource, meters)) is not None:
                made.append((own, loggers, otel_logs.set_logger_provider))
                loggers = own
        except BaseException as error:
            for provider, _, _ in made:
                provider.shutdown()
            if isinstance(error, ValueError) and not isinstance(error, ConfigError):
                raise ConfigError(f"OTEL_* variables: the OpenTelemetry SDK does not accept them: {error}") from error
            raise
    for own, before, set_global in made:
        _put_in_force(own, before, set_global)
    session.tracer_provider, session.meter_provider, session.logger_provider = tracers, meters, loggers


def _put_in_force(own: Any, before: Any, set_global: Callable[[Any], None]) -> None:
    _own.append(own)
    if before not in _spent:  # OpenTelemetry lets it be set only once
        set_global(own)


def _meters(readers: Callable[[], list[Any]]) -> Any:
    """The meter provider in force, for whom it is read from. Where seatrace would set one up but had no exporter for
    it, it is made now."""
    with _lock:
        session, before = _session, otel_metrics.get_meter_provider()
        line = pipeline.current
        if session is None or line is None:
            return before
        if session.provides and not _is_set(session.meter_provider):
            from . import exporters

            own = exporters.meter_provider(session.config, exporters.resource(session.config), readers())
            _put_in_force(own, before, otel_metrics.set_meter_provider)
            session.meter_provider = own
            line.emitter = _emitter(session)
            signals.begin_sources(line)
        return session.meter_provider


pull.in_force = _meters


def _is_set(provider: Any) -> bool:
    """Whether the program has set this global provider, or seatrace did and it still works."""
    return "Proxy" not in type(provider).__name__ and provider not in _spent


def _emitter(session: _Session) -> Emitter:
    config = session.config
    latest, legacy = config.semconv != "legacy", config.semconv != "latest"
    schema = semconv.SCHEMA_URL if latest else semconv.SCHEMA_URL_LEGACY
    clean, clean_text = cleaner(redacting=config.redact, max_text=config.max_text_length, max_parts=config.max_items)
    meter = session.meter_provider.get_meter(_SCOPE, __version__, schema)
    return Emitter(
        session.tracer_provider.get_tracer(_SCOPE, __version__, schema_url=schema),
        Metrics(meter, latest=latest, legacy=legacy),
        session.logger_provider.get_logger(_SCOPE, __version__, schema),
        latest=latest,
        legacy=legacy,
        events=config.events and _listens(session.logger_provider),
        content_on_spans=config.capture_content in ("SPAN_ONLY", "SPAN_AND_EVENT"),
        content_on_events=config.capture_content in ("EVENT_ONLY", "SPAN_AND_EVENT"),
        clean=clean,
        clean_text=clean_text,
        hook=config.content_hook,
    )


def _listens(provider: Any) -> bool:
    return "Proxy" not in type(provider).__name__ and "NoOp" not in type(provider).__name__


# --- processes that are made by forking ----------------------------------------------------------------------------

_watching_forks = False


def _watch_forks() -> None:
    global _watching_forks
    if not _watching_forks and hasattr(os, "register_at_fork"):
        _watching_forks = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    """A child counts from zero and under its own name: else each worker of a pool would report its parent's calls
    again. OpenTelemetry's own part (queues, threads) it does itself."""
    global _lock
    _lock = threading.Lock()
    if not _own:
        return
    try:
        from . import exporters

        exporters.begin_anew(_own)
    except Exception as error:
        guard.fault("begin anew after a fork", error)


# --- flushing ------------------------------------------------------------------------------------------------------


def _all_went_out(tasks: list[Callable[[], object]], timeout: float) -> bool:
    failed = delivery.failed()
    return at_once(tasks, timeout) and delivery.failed() == failed


def _flushes(session: _Session | None) -> list[Callable[[], object]]:
    providers = list(_own)
    if session is not None:
        for provider in (session.tracer_provider, session.logger_provider, session.meter_provider):
            if provider not in providers and hasattr(provider, "force_flush"):
                providers.append(provider)
    return [provider.force_flush for provider in providers]


class _Ending:
    """The end of the process. Providers of the program's own are flushed, and are its business to shut down."""

    def prepare(self) -> None:
        delivery.hurry()
        try:
            pipeline.finish()
        except Exception as error:
            guard.fault("emit a call", error)

    def tasks(self) -> list[Callable[[], object]]:
        return _flushes(_session)

    def close(self) -> None:
        delivery.close()


def _close(provider: Any) -> bool:
    done = provider.force_flush() is not False  # a metric reader without an interval exports only when it is told to
    provider.shutdown()
    return done
