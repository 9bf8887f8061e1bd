"""One look into a semantic cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from seatrace.runtime.cache.store import Entry

from .index import Vector


@dataclass(frozen=True)
class Lookup:
    """What a semantic cache found."""

    result: Literal["hit", "near", "miss"]
    """``near``: something similar, which was held back or is below the threshold."""
    similarity: float | None = None
    known: str | None = None
    """The question that is similar."""
    answer: Any = None
    rejection: str | None = None
    """Why it was held back."""


@dataclass
class Search:
    """One lookup under way, and what it has found so far."""

    key: str
    context: str
    text: str
    vector: Vector | None = None
    near: Lookup = Lookup("miss")
    entry: Entry | None = None
