"""The numbers that decide when an alert fires: one frozen :class:`Thresholds`, from options and a TOML file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final

from seatrace.emit.catalogue import SECONDS
from seatrace.errors import ConfigError

_Parse = Callable[[str, object], Any]
"""``parse(name, value)``: the value of a TOML file, or the text of an option, as a number; raises ConfigError."""


def _number(name: str, value: object, expected: str) -> float:
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return float(value)
    except ValueError:
        pass
    raise _fail(name, expected, value)


def _fail(name: str, expected: str, came: object) -> ConfigError:
    return ConfigError(f"{name}: expected {expected}, got {came!r}")


def _above(least: float) -> _Parse:
    def parse(name: str, value: object) -> float:
        expected = f"a number above {least:g}"
        number = _number(name, value, expected)
        if least < number < math.inf:
            return number
        raise _fail(name, expected, value)

    return parse


def _whole(name: str, value: object) -> int:
    expected = "a whole number of at least 1"
    number = _number(name, value, expected)
    if 1 <= number < math.inf and number.is_integer():
        return int(number)
    raise _fail(name, expected, value)


def _share(name: str, value: object) -> float:
    expected = "a share above 0 and below 1"
    number = _number(name, value, expected)
    if 0 < number < 1:
        return number
    raise _fail(name, expected, value)


_BOUNDS: Final = tuple(bound for bound in SECONDS if not bound.is_integer())


def _bound(name: str, value: object) -> float:
    expected = f"a bucket bound of the duration: {', '.join(f'{bound:g}' for bound in _BOUNDS)}"
    number = _number(name, value, expected)
    if number in _BOUNDS:
        return number
    raise _fail(name, expected, value)


def _minutes(name: str, value: object) -> int:
    expected = "whole minutes in seconds, such as 600"
    number = _number(name, value, expected)
    if 60 <= number < math.inf and number % 60 == 0:
        return int(number)
    raise _fail(name, expected, value)


def _threshold(parse: _Parse, unit: str, doc: str, default: float | None) -> Any:
    return field(default=default, metadata={"parse": parse, "unit": unit, "doc": doc})


_positive = _above(0)
_factor = _above(1)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When the alerts fire. Every field has a default but the budgets, without which nothing is compared with them.

    Raises :class:`~seatrace.errors.ConfigError` for values that cannot be, and for those with which an alert could
    never fire.
    """

    budget_per_day: float | None = _threshold(
        _positive, "USD", "What all jobs together may spend in 24 hours, by `seatrace.cost`.", None
    )
    budget_per_day_and_tenant: float | None = _threshold(
        _positive, "USD", "What each tenant may spend in 24 hours.", None
    )
    budget_per_day_and_agent: float | None = _threshold(
        _positive, "USD", "What each agent may spend in 24 hours.", None
    )
    budget_burn_fast: float = _threshold(
        _factor, "×", "A page: spending so many times faster than the budget allows, over 1 h and 5 min.", 6.0
    )
    budget_burn_slow: float = _threshold(
        _factor, "×", "A warning: spending so many times faster than the budget allows, over 6 h and 30 min.", 1.5
    )
    anomaly_factor: float = _threshold(_factor, "×", "Spend of an hour against the same hour last week.", 3.0)
    anomaly_floor: float = _threshold(_positive, "USD/h", "Spend below it is never an anomaly.", 1.0)
    wasted_share: float = _threshold(_share, "share", "Spend of runs that failed, of the spend of all runs.", 0.15)
    wasted_floor: float = _threshold(_positive, "USD/h", "Spend of all runs below it is not looked at.", 0.5)

    error_ratio: float = _threshold(_share, "share", "The objective: failed model calls, of all.", 0.01)
    error_burn_fast: float = _threshold(
        _factor, "×", "A page: failing so many times more than the objective allows, over 1 h and 5 min.", 14.4
    )
    error_burn_slow: float = _threshold(
        _factor, "×", "A warning: failing so many times more than the objective allows, over 6 h and 30 min.", 6.0
    )
    latency_bound: float = _threshold(_bound, "s", "Model calls that take longer are slow.", 10.24)
    slow_ratio: float = _threshold(_share, "share", "The objective: slow model calls, of all.", 0.05)
    latency_burn: float = _threshold(
        _factor, "×", "Being slow so many times more than the objective allows, over 1 h and 5 min.", 6.0
    )
    time_to_first_chunk: float = _threshold(_positive, "s", "95 % of the streams should begin within it.", 5.0)
    min_calls: int = _threshold(_whole, "calls", "With fewer calls in its window no ratio of calls is judged.", 10)
    provider_error_ratio: float = _threshold(_share, "share", "A provider is down: failed calls to it, of all.", 0.5)
    rate_limited_ratio: float = _threshold(
        _share, "share", "Attempts that the provider refused for its rate limits, of all attempts.", 0.1
    )
    retry_ratio: float = _threshold(_positive, "retries a call", "More are a storm.", 0.5)

    agent_loops: int = _threshold(_whole, "runs", "Runs of an agent that were seen looping in 10 min.", 3)
    agent_steps: float = _threshold(_positive, "steps", "95 % of an agent's runs should need at most as many.", 30.0)
    agent_error_ratio: float = _threshold(_share, "share", "Failed runs of an agent, of all, in 15 min.", 0.2)
    tool_error_ratio: float = _threshold(_share, "share", "Failed executions of a tool, of all, in 15 min.", 0.2)
    min_runs: int = _threshold(
        _whole, "runs", "With fewer runs in its window no ratio of an agent or tool is judged.", 10
    )
    token_factor: float = _threshold(_factor, "×", "Input tokens against the same time yesterday.", 3.0)
    run_tokens_floor: float = _threshold(_positive, "tokens", "Fewer input tokens a run are no explosion.", 20_000.0)
    call_tokens_floor: float = _threshold(_positive, "tokens", "Fewer input tokens a call are no growth.", 4_000.0)

    cache_drop: float = _threshold(_share, "share", "A cache's hit ratio fell below this part of yesterday's.", 0.5)
    cache_floor: float = _threshold(_share, "share", "A hit ratio that was below it yesterday is not judged.", 0.1)
    min_lookups: int = _threshold(_whole, "lookups", "With fewer lookups in 30 min no cache is judged.", 100)

    queue_stalled: int = _threshold(_minutes, "s", "Jobs wait and none ended for so long.", 600)
    queue_wait: float = _threshold(_positive, "s", "Jobs should be taken within it after they are due.", 600.0)
    pool_busy: float = _threshold(_share, "share", "Members of a pool that are busy or ejected, of all.", 0.95)

    absent_after: int = _threshold(
        _minutes, "s", "A job that sent telemetry so long ago and sends none now is missed.", 3_600
    )
    spans_dropped_ratio: float = _threshold(_share, "share", "Spans that a full queue dropped, of all.", 0.001)
    export_failed_ratio: float = _threshold(_share, "share", "Spans that could not be delivered, of all.", 0.1)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                object.__setattr__(self, each.name, each.metadata["parse"](each.name, value))
        for fast, slow in (("budget_burn_fast", "budget_burn_slow"), ("error_burn_fast", "error_burn_slow")):
            if getattr(self, slow) >= getattr(self, fast):
                raise _fail(slow, f"less than {fast} ({getattr(self, fast):g})", getattr(self, slow))
        for burn, share in (("error_burn_fast", "error_ratio"), ("latency_burn", "slow_ratio")):
            if getattr(self, burn) * getattr(self, share) >= 1:
                raise _fail(
                    share,
                    f"less than {1 / getattr(self, burn):.3g}, since {burn} ({getattr(self, burn):g}) times it is the "
                    "share that alerts, which must be below 1",
                    getattr(self, share),
                )


def known() -> dict[str, Field[Any]]:
    """Each threshold's field, whose ``metadata`` has ``unit`` and ``doc``."""
    return {each.name: each for each in fields(Thresholds)}


def thresholds(given: Mapping[str, object], *, source: str = "thresholds") -> Thresholds:
    """Thresholds of a mapping; what it does not name has its default.

    Args:
        given: Names and values, numbers or texts of numbers.
        source: What the names came from, for errors.

    Raises:
        ConfigError: A name is unknown, or a value is malformed; the message says which.
    """
    for name in given:
        if name not in known():
            close = get_close_matches(name, known(), 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known())}"
            raise ConfigError(f"{source}: there is no threshold {name!r}: {hint}")
    try:
        return Thresholds(**dict(given))  # type: ignore[arg-type]
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def template(values: Thresholds) -> str:
    """A TOML file of all thresholds; those that are not set are commented out."""
    return "".join(_lines(values))


def _lines(values: Thresholds) -> Iterator[str]:
    for name, each in known().items():
        value = getattr(values, name)
        yield f"# {each.metadata['doc']} [{each.metadata['unit']}]\n"
        yield f"# {name} = 100\n" if value is None else f"{name} = {value}\n"
