"""What a budget may be told. Each check raises :class:`~seatrace.errors.ConfigError`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from seatrace.errors import ConfigError

from .amounts import MOST, PARTS, Unit, parts_of


def one_of(argument: str, value: Any, known: Sequence[str]) -> Any:
    """``value``, if it is one of the ``known`` words."""
    if value not in known:
        raise ConfigError(f"Budget({argument}=...): expected {', '.join(known)}; got {value!r}")
    return value


def limit(value: Any, unit: Unit) -> float:
    """A number that can be counted exactly."""
    most = MOST / PARTS[unit]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ConfigError(f"Budget(limit=...): expected a number of {unit} from 0 to {most:g}, got {value!r}")
    return float(value)


def threshold(fraction: Any) -> float:
    """A fraction of the limit."""
    if not isinstance(fraction, (int, float)) or not 0 < fraction < math.inf:
        raise ConfigError(f"Budget(thresholds=...): expected fractions of the limit above 0, got {fraction!r}")
    return float(fraction)


def assumed(on_unpriced: str) -> int | None:
    """Parts of a USD that a call of no known price is taken to cost, ``None`` where nothing is assumed."""
    if on_unpriced in ("allow", "block"):
        return None
    word, _, text = on_unpriced.partition(":")
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if word != "assume" or not 0 <= amount < math.inf:
        raise ConfigError(f"Budget(on_unpriced=...): expected allow, block or assume:0.05, got {on_unpriced!r}")
    return parts_of("usd", amount)
