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
    from .routing import Choice as Choice
    from .routing import ModelOption as ModelOption
    from .routing import ModelSelector as ModelSelector
    from .routing import NoModelError as NoModelError
    from .routing import RouteRequest as RouteRequest
    from .stream import AsyncBufferedStream as AsyncBufferedStream
    from .stream import BufferedStream as BufferedStream
    from .stream import Piece as Piece
    from .stream import observe_stream as observe_stream
    from .structured import OutputInvalid as OutputInvalid
    from .structured import StructuredOutput as StructuredOutput
    from .summary import HistorySummarizer as HistorySummarizer
    from .summary import Summarized as Summarized
    from .summary import SummaryError as SummaryError
    from .tokens import TokenEstimate as TokenEstimate
    from .tokens import calibrate_tokens as calibrate_tokens
    from .tokens import count_tokens as count_tokens
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
    "Choice": "routing",
    "ModelOption": "routing",
    "ModelSelector": "routing",
    "NoModelError": "routing",
    "OutputInvalid": "structured",
    "RouteRequest": "routing",
    "StructuredOutput": "structured",
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
