"""seatrace: OpenTelemetry-based observability for LLM agents.

import seatrace
seatrace.instrument()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config as Config
    from .core.pipeline import on_call as on_call
    from .core.record import Call as Call
    from .core.record import Cost as Cost
    from .core.record import Usage as Usage
    from .errors import ConfigError as ConfigError
    from .errors import SeatraceError as SeatraceError
    from .libraries import LibraryStatus as LibraryStatus
    from .own import agent as agent
    from .own import retriever as retriever
    from .own import tool as tool
    from .own import watch as watch
    from .own import workflow as workflow
    from .own.runaway import Runaway as Runaway
    from .own.runaway import RunawayAgent as RunawayAgent
    from .process.price import PriceBook as PriceBook
    from .pull.apps import metrics_asgi_app as metrics_asgi_app
    from .pull.apps import metrics_wsgi_app as metrics_wsgi_app
    from .pull.server import serve_metrics as serve_metrics
    from .scopes import session as session
    from .scopes import suppress as suppress
    from .setup import flush as flush
    from .setup import instrument as instrument
    from .setup import prices as prices
    from .setup import shutdown as shutdown
    from .setup import status as status
    from .setup import uninstrument as uninstrument
    from .version import __version__ as __version__

_PUBLIC = {
    "Call": "core.record",
    "Config": "config",
    "ConfigError": "errors",
    "Cost": "core.record",
    "LibraryStatus": "libraries",
    "PriceBook": "process.price",
    "Runaway": "own.runaway",
    "RunawayAgent": "own.runaway",
    "SeatraceError": "errors",
    "Usage": "core.record",
    "__version__": "version",
    "agent": "own",
    "flush": "setup",
    "instrument": "setup",
    "metrics_asgi_app": "pull.apps",
    "metrics_wsgi_app": "pull.apps",
    "on_call": "core.pipeline",
    "prices": "setup",
    "retriever": "own",
    "serve_metrics": "pull.server",
    "session": "scopes",
    "shutdown": "setup",
    "status": "setup",
    "suppress": "scopes",
    "tool": "own",
    "uninstrument": "setup",
    "watch": "own",
    "workflow": "own",
}

__all__ = [
    "Call",
    "Config",
    "ConfigError",
    "Cost",
    "LibraryStatus",
    "PriceBook",
    "Runaway",
    "RunawayAgent",
    "SeatraceError",
    "Usage",
    "__version__",
    "agent",
    "flush",
    "instrument",
    "metrics_asgi_app",
    "metrics_wsgi_app",
    "on_call",
    "prices",
    "retriever",
    "serve_metrics",
    "session",
    "shutdown",
    "status",
    "suppress",
    "tool",
    "uninstrument",
    "watch",
    "workflow",
]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'seatrace' has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
