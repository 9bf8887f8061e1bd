"""Answers that are kept: of models (:class:`ResponseCache`) and of tools (:func:`cached_tool`)."""

from .canonical import UnkeyableError
from .key import RequestKey
from .memory import MemoryStore
from .policy import CachePolicy
from .redis import RedisStore
from .response import ResponseCache
from .sqlite import SqliteStore
from .store import Entry, Store
from .telemetry import CacheStats
from .tool import ToolCache, cached_tool, tool_cache

__all__ = [
    "CachePolicy",
    "CacheStats",
    "Entry",
    "MemoryStore",
    "RedisStore",
    "RequestKey",
    "ResponseCache",
    "SqliteStore",
    "Store",
    "ToolCache",
    "UnkeyableError",
    "cached_tool",
    "tool_cache",
]
