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
    from .anomaly import Anomaly as Anomaly
    from .anomaly import AnomalyDetector as AnomalyDetector
    from .batch import Batcher as Batcher
    from .batch import BatcherClosed as BatcherClosed
    from .batch import BatchOverflow as BatchOverflow
    from .batch import BatchReport as BatchReport
    from .batch import BatchSizeMismatch as BatchSizeMismatch
    from .budget import Budget as Budget
    from .budget import BudgetExceeded as BudgetExceeded
    from .budget import BudgetState as BudgetState
    from .budget import BudgetUnreachable as BudgetUnreachable
    from .budget import LedgerUnreachable as LedgerUnreachable
    from .budget import MemoryLedger as MemoryLedger
    from .budget import RedisLedger as RedisLedger
    from .budget import Reservation as Reservation

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
    from .collector import CollectedMetrics as CollectedMetrics
    from .collector import MetricsCollector as MetricsCollector
    from .context import ContextTooSmall as ContextTooSmall
    from .context import Fit as Fit
    from .context import fit_messages as fit_messages
    from .cost import CostTotal as CostTotal
    from .cost import CostTracker as CostTracker
    from .jobs import Attempt as Attempt
    from .jobs import Backoff as Backoff
    from .jobs import Counts as Counts
    from .jobs import DeadLetter as DeadLetter
    from .jobs import Discard as Discard
    from .jobs import InvalidPayload as InvalidPayload
    from .jobs import Job as Job
    from .jobs import JobCancelled as JobCancelled
    from .jobs import JobCostExceeded as JobCostExceeded
    from .jobs import JobDead as JobDead
    from .jobs import JobError as JobError
    from .jobs import JobNotFound as JobNotFound
    from .jobs import JobState as JobState
    from .jobs import Queue as Queue
    from .jobs import QueueError as QueueError
    from .jobs import QueueFull as QueueFull
    from .jobs import QueueUnavailable as QueueUnavailable
    from .jobs import ResultTimeout as ResultTimeout
    from .jobs import Worker as Worker
    from .jobs import current_attempt as current_attempt
    from .jobs.bullmq import BullmqBackend as BullmqBackend
    from .jobs.sqlite import SqliteBackend as SqliteBackend
    from .jobs.taskiq import TaskiqBackend as TaskiqBackend
    from .perf import PerformanceMonitor as PerformanceMonitor
    from .perf import Stats as Stats
    from .perf import measure as measure
    from .perf import monitor as monitor
    from .pool import AgentPool as AgentPool
    from .pool import Ejection as Ejection
    from .pool import PoolClosed as PoolClosed
    from .pool import PoolError as PoolError
    from .pool import PoolFull as PoolFull
    from .pool import PoolStats as PoolStats
    from .pool import PoolTimeout as PoolTimeout
    from .routing import Choice as Choice
    from .routing import ModelOption as ModelOption
    from .routing import ModelSelector as ModelSelector
    from .routing import NoModelError as NoModelError
    from .routing import RouteRequest as RouteRequest

    # semantic
    from .semantic import Calibration as Calibration
    from .semantic import Lookup as Lookup
    from .semantic import SemanticCache as SemanticCache
    from .semantic import Verdicts as Verdicts
    from .semantic import lexical_guard as lexical_guard
    from .sketch import Sketch as Sketch
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

_PUBLIC: dict[str, str] = {
    # perf
    "PerformanceMonitor": "perf",
    "Sketch": "sketch",
    "Stats": "perf",
    "measure": "perf",
    "monitor": "perf",
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
    "Anomaly": "anomaly",
    "AnomalyDetector": "anomaly",
    "Budget": "budget",
    "BudgetExceeded": "budget",
    "BudgetState": "budget",
    "BudgetUnreachable": "budget",
    "CollectedMetrics": "collector",
    "CostTotal": "cost",
    "CostTracker": "cost",
    "LedgerUnreachable": "budget",
    "MemoryLedger": "budget",
    "MetricsCollector": "collector",
    "RedisLedger": "budget",
    "Reservation": "budget",
    # pool
    "AgentPool": "pool",
    "Ejection": "pool",
    "PoolClosed": "pool",
    "PoolError": "pool",
    "PoolFull": "pool",
    "PoolStats": "pool",
    "PoolTimeout": "pool",
    # jobs
    "Attempt": "jobs",
    "Backoff": "jobs",
    "BullmqBackend": "jobs.bullmq",
    "Counts": "jobs",
    "DeadLetter": "jobs",
    "Discard": "jobs",
    "InvalidPayload": "jobs",
    "Job": "jobs",
    "JobCancelled": "jobs",
    "JobCostExceeded": "jobs",
    "JobDead": "jobs",
    "JobError": "jobs",
    "JobNotFound": "jobs",
    "JobState": "jobs",
    "Queue": "jobs",
    "QueueError": "jobs",
    "QueueFull": "jobs",
    "QueueUnavailable": "jobs",
    "ResultTimeout": "jobs",
    "SqliteBackend": "jobs.sqlite",
    "TaskiqBackend": "jobs.taskiq",
    "Worker": "jobs",
    "current_attempt": "jobs",
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
