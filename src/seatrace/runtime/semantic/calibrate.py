"""How often a threshold serves what it should, and what it should not, on pairs of questions that are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from seatrace.errors import ConfigError, MissingExtraError

from .guard import Guard
from .index import unit

Pair = tuple[str, str, bool]
"""A known question, one asked, and whether one answer is right for both."""

THRESHOLDS = (0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98)


@dataclass(frozen=True)
class Row:
    """One threshold."""

    threshold: float
    served: float
    """Share of the pairs with the same answer that are served."""
    wrong: float
    """Share of the pairs with different answers that are served all the same."""


@dataclass(frozen=True)
class Calibration:
    """What thresholds do on the pairs that were given."""

    rows: tuple[Row, ...]
    same: int
    """Pairs with the same answer."""
    different: int
    rejected: dict[str, int]
    """Pairs that the guard holds back at any threshold, by what it found."""

    def best(self, max_wrong: float = 0.05) -> Row | None:
        """The lowest threshold that serves at most ``max_wrong`` of the different pairs. Chosen on these pairs, it
        looks better than it is: confirm it in shadow mode."""
        return next((row for row in self.rows if row.wrong <= max_wrong), None)

    def __str__(self) -> str:
        lines = [f"{self.same} pairs with one answer, {self.different} with two", "threshold   served    wrong"]
        lines += [f"{row.threshold:9.2f}  {row.served:7.1%}  {row.wrong:7.1%}" for row in self.rows]
        return "\n".join(lines)


def fow_pairs() -> list[Pair]:
    """The 600 public pairs of the package ``fow-cache`` (CC BY 4.0).

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        load_questions = import_module("fow_cache.data").load_questions
    except ImportError as error:
        raise MissingExtraError(
            "the public pairs are in the package fow-cache, which is not installed: pip install fow-cache"
        ) from error
    return [(each["a"], each["b"], bool(each["same_answer"])) for each in load_questions()]


def pairs_of(pairs: Iterable[Pair] | Literal["fow"]) -> list[Pair]:
    """The pairs as a list.

    Raises:
        ConfigError: There are none of one kind.
        MissingExtraError: ``"fow"`` is not installed.
    """
    known = fow_pairs() if pairs == "fow" else list(pairs)
    if len({same for _, _, same in known}) < 2:
        raise ConfigError("pairs: expected some with the same answer and some with different ones")
    return known


def calibrate(
    pairs: Sequence[Pair], vectors: Sequence[Any], guard: Guard | None, thresholds: Sequence[float] = THRESHOLDS
) -> Calibration:
    """What each of ``thresholds`` would do; ``vectors`` are those of all known questions, then of all asked."""
    units = [unit(vector) for vector in vectors]
    close = [float(one @ two) for one, two in zip(units[: len(pairs)], units[len(pairs) :], strict=True)]
    found = [None if guard is None else guard(known, asked) for known, asked, _ in pairs]
    same = sum(alike for _, _, alike in pairs)
    different = len(pairs) - same
    rows = []
    for threshold in sorted(thresholds):
        served = Counter(
            alike
            for (_, _, alike), similarity, reason in zip(pairs, close, found, strict=True)
            if reason is None and similarity >= threshold
        )
        rows.append(Row(threshold, served[True] / same, served[False] / different))
    return Calibration(tuple(rows), same, different, dict(Counter(reason for reason in found if reason is not None)))
