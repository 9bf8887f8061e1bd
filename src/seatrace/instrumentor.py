"""Zero-code start: ``opentelemetry-instrument python app.py`` finds this class by its entry point."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .core import guard
from .errors import SeatraceError
from .setup import instrument, uninstrument


class SeatraceInstrumentor:
    """What ``opentelemetry-instrument`` expects of an instrumentor, without depending on the package that defines it.

    The providers are those that OpenTelemetry's configurator has set by then, from the standard variables.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """No library is needed: those present are observed."""
        return ()

    def instrument(self, **options: Any) -> None:
        """Switches seatrace on with the providers among ``options``. A wrong setting is logged: an exception would
        keep the instrumentations from loading that come after this one."""
        known = {
            name: options[name] for name in ("tracer_provider", "meter_provider", "logger_provider") if name in options
        }
        try:
            instrument(**known)
        except SeatraceError as error:
            guard.logger.error("seatrace is not switched on. %s", error)

    def uninstrument(self, **options: Any) -> None:
        """Switches it off again."""
        uninstrument()
