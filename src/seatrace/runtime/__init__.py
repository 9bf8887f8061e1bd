"""The performance patterns: caches, batches, streams, contexts, routing, cost, budgets, pools, queues. Each one works
without telemetry and is observable with it (:mod:`seatrace.core.signals`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # perf
    # cache
    # semantic
    # batch and parallel
    # stream
    # tokens, context and summary
    # routing and structured output
    # cost, budget and anomaly
    # pool
    from .pool import AgentPool as AgentPool
    from .pool import Ejection as Ejection
    from .pool import PoolClosed as PoolClosed
    from .pool import PoolError as PoolError
    from .pool import PoolFull as PoolFull
    from .pool import PoolStats as PoolStats
    from .pool import PoolTimeout as PoolTimeout
    # jobs

_PUBLIC: dict[str, str] = {
    # perf
    # cache
    # semantic
    # batch and parallel
    # stream
    # tokens, context and summary
    # routing and structured output
    # cost, budget and anomaly
    # pool
    "AgentPool": "pool",
    "Ejection": "pool",
    "PoolClosed": "pool",
    "PoolError": "pool",
    "PoolFull": "pool",
    "PoolStats": "pool",
    "PoolTimeout": "pool",
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
