"""Checks of the patterns' options: the message names the option, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Collection

from seatrace.errors import ConfigError


def check_count(name: str, value: object, *, least: int = 1) -> int:
    """``value`` as a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return value


def check_number(name: str, value: object, *, least: float = 0.0, above: bool = False) -> float:
    """``value`` as a finite number of at least ``least``, or ``above`` it."""
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not right or value < least or (above and value == least):  # type: ignore[operator]
        raise ConfigError(
            f"{name}: expected a finite number {'above' if above else 'of at least'} {least:g}, got {value!r}"
        )
    return float(value)  # type: ignore[arg-type]


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Nothing, where ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
