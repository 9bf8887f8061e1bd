"""The performance patterns: caches, batches, streams, contexts, routing, cost, budgets, pools, queues. Each one works
without telemetry and is observable with it (:mod:`seatrace.core.signals`)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC: dict[str, str] = {
    # perf
    # cache
    # semantic
    # batch and parallel
    "BatchOverflow": "batch",
    "BatchReport": "batch",
    "BatchSizeMismatch": "batch",
    "Batcher": "batch",
    "BatcherClosed": "batch",
    "Outcome": "_parallel",
    "Outcomes": "_parallel",
    "ParallelError": "_parallel",
    "TaskTimeout": "_parallel",
    "parallel": "_parallel",
    "parallel_sync": "_parallel",
    # stream
    "AsyncBufferedStream": "stream",
    "BufferedStream": "stream",
    "Piece": "stream",
    "observe_stream": "stream",
    # tokens, context and summary
    "ContextTooSmall": "context",
    "Fit": "context",
    "HistorySummarizer": "summary",
    "Summarized": "summary",
    "SummaryError": "summary",
    "TokenEstimate": "tokens",
    "calibrate_tokens": "tokens",
    "count_tokens": "tokens",
    "fit_messages": "context",
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
