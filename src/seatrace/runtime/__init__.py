"""The performance patterns: caches, batches, streams, contexts, routing, cost, budgets, pools, queues. Each one works
without telemetry and is observable with it (:mod:`seatrace.core.signals`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # cache
    from .cache import CachePolicy as CachePolicy
    from .cache import CacheStats as CacheStats
    from .cache import MemoryStore as MemoryStore
    from .cache import RedisStore as RedisStore
    from .cache import RequestKey as RequestKey
    from .cache import ResponseCache as ResponseCache
    from .cache import SqliteStore as SqliteStore
    from .cache import ToolCache as ToolCache
    from .cache import UnkeyableError as UnkeyableError
    from .cache import cached_tool as cached_tool
    from .cache import tool_cache as tool_cache

    # semantic
    from .semantic import Calibration as Calibration
    from .semantic import Lookup as Lookup
    from .semantic import SemanticCache as SemanticCache
    from .semantic import Verdicts as Verdicts
    from .semantic import lexical_guard as lexical_guard

_PUBLIC: dict[str, str] = {
    # perf
    # cache
    "CachePolicy": "cache",
    "CacheStats": "cache",
    "MemoryStore": "cache",
    "RedisStore": "cache",
    "RequestKey": "cache",
    "ResponseCache": "cache",
    "SqliteStore": "cache",
    "ToolCache": "cache",
    "UnkeyableError": "cache",
    "cached_tool": "cache",
    "tool_cache": "cache",
    # semantic
    "Calibration": "semantic",
    "Lookup": "semantic",
    "SemanticCache": "semantic",
    "Verdicts": "semantic",
    "lexical_guard": "semantic",
    # batch and parallel
    # stream
    # tokens, context and summary
    # routing and structured output
    # cost, budget and anomaly
    # pool
    # jobs
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
