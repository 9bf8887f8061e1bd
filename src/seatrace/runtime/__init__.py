"""The performance patterns: caches, batches, streams, contexts, routing, cost, budgets, pools, queues. Each one works
without telemetry and is observable with it (:mod:`seatrace.core.signals`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._parallel import Outcome as Outcome
    from ._parallel import Outcomes as Outcomes
    from ._parallel import ParallelError as ParallelError
    from ._parallel import TaskTimeout as TaskTimeout
    from ._parallel import parallel as parallel
    from ._parallel import parallel_sync as parallel_sync
    from .batch import Batcher as Batcher
    from .batch import BatcherClosed as BatcherClosed
    from .batch import BatchOverflow as BatchOverflow
    from .batch import BatchReport as BatchReport
    from .batch import BatchSizeMismatch as BatchSizeMismatch
    from .context import ContextTooSmall as ContextTooSmall
    from .context import Fit as Fit
    from .context import fit_messages as fit_messages
    from .stream import AsyncBufferedStream as AsyncBufferedStream
    from .stream import BufferedStream as BufferedStream
    from .stream import Piece as Piece
    from .stream import observe_stream as observe_stream
    from .summary import HistorySummarizer as HistorySummarizer
    from .summary import Summarized as Summarized
    from .summary import SummaryError as SummaryError
    from .tokens import TokenEstimate as TokenEstimate
    from .tokens import calibrate_tokens as calibrate_tokens
    from .tokens import count_tokens as count_tokens

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
