"""What a semantic cache tells beyond other caches: similarities, what was held back, verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from seatrace.core import signals
from seatrace.emit import catalogue
from seatrace.emit import semconv as names
from seatrace.runtime.cache.store import Store
from seatrace.runtime.cache.telemetry import CacheTelemetry

from .guard import REJECTIONS

Verdict = Literal["right", "wrong"]
Source = Literal["shadow", "report"]

_REASONS = (*REJECTIONS, "verifier", "verifier_failed", "reported")


@dataclass(frozen=True)
class Verdicts:
    """Hits that were judged: in shadow mode against a new answer, or by reports."""

    right: int
    wrong: int
    rejections: dict[str, int] = field(default_factory=dict)
    """Near entries that were held back, by reason."""

    @property
    def wrong_rate(self) -> float | None:
        """Share of the judged hits that were wrong; ``None`` before the first one."""
        judged = self.right + self.wrong
        return self.wrong / judged if judged else None


class SemanticTelemetry(CacheTelemetry):
    """The telling side of one semantic cache."""

    def __init__(self, name: str, store: Store) -> None:
        self._judged: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._own = {names.CACHE_NAME: name}
        super().__init__(name, "semantic", store)

    def zeros(self) -> Iterable[tuple[Any, signals.Attributes]]:
        """Every reason and every verdict."""
        yield from super().zeros()
        for reason in _REASONS:
            yield catalogue.CACHE_REJECTIONS, {**self._own, names.CACHE_REJECTION_REASON: reason}
        for source in ("shadow", "report"):
            for verdict in ("right", "wrong"):
                yield catalogue.CACHE_VERDICTS, self._verdict(verdict, source)

    def compared(self, similarity: float, *, served: bool) -> None:
        """The nearest entry was so similar, and was served or not."""
        result = "hit" if served else "miss"
        signals.measure(catalogue.CACHE_SIMILARITY, similarity, {**self._own, names.CACHE_RESULT: result})

    def rejected(self, reason: str) -> None:
        """A near entry was held back."""
        with self._lock:
            self._rejected[reason] += 1
        signals.measure(catalogue.CACHE_REJECTIONS, 1, {**self._own, names.CACHE_REJECTION_REASON: reason})

    def verified(self, seconds: float) -> None:
        """The verifier took so long."""
        signals.measure(catalogue.CACHE_VERIFY_DURATION, seconds, self._own)

    def judged(self, verdict: Verdict, source: Source) -> None:
        """A hit, or what would have been one, was right or wrong."""
        with self._lock:
            self._judged[verdict] += 1
        signals.measure(catalogue.CACHE_VERDICTS, 1, self._verdict(verdict, source))

    def verdicts(self) -> Verdicts:
        """What was judged so far."""
        with self._lock:
            return Verdicts(self._judged["right"], self._judged["wrong"], dict(self._rejected))

    def _verdict(self, verdict: str, source: str) -> dict[str, str]:
        return {**self._own, names.CACHE_VERDICT: verdict, names.CACHE_VERDICT_SOURCE: source}
