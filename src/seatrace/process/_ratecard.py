"""From tokens to money: the compiled rates of one model under one set of conditions.

The arithmetic is that of genai-prices: a count is split into the parts that have a rate of their own, a part without
one is billed at the rate of what contains it, and a tier applies to every token of a call whose input exceeds its
threshold. Splitting is resolved once, when a card is compiled; floats are exact to a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seatrace.core.record import Cost, Usage

Price = float | Sequence[object]
"""USD per million tokens (or each, for events), or ``[base, [[more than input tokens, price], ...]]``."""

Prices = Mapping[str, Price]
"""Unit → price. The units are the fields of :class:`seatrace.process.price.ModelPrice`."""

_INFINITE = float("inf")


class Rates(NamedTuple):
    """USD per million tokens or per event; every unit has a rate, inherited where the model states none."""

    input: float
    cache_read: float
    cache_write: float
    cache_write_1h: float
    audio_input: float
    audio_cache_read: float
    image_input: float
    output: float
    reasoning: float
    audio_output: float
    image_output: float
    per_request: float
    per_web_search: float


class RateCard:
    """Computes the :class:`Cost` of a :class:`Usage`. Immutable."""

    __slots__ = ("_base", "_basis", "_tiers")

    def __init__(self, base: Rates, tiers: Sequence[tuple[int, Rates]], basis: str) -> None:
        self._base = base
        self._tiers = tuple(tiers)
        self._basis = basis

    def cost(self, usage: Usage) -> Cost | None:
        """The cost of ``usage`` in USD; ``None`` where it names no tokens or a count is negative or not a number.

        A part larger than its whole (cached > input) is billed in full and the remainder counts as 0; where it is
        unknown how far two parts overlap (cached audio), they count as separate. Never raises.
        """
        try:
            return self._cost(usage)
        except (TypeError, OverflowError):  # a count that is not a number, or beyond what a float can hold
            return None

    def _cost(self, usage: Usage) -> Cost | None:
        whole_input = usage.input_tokens or 0
        whole_output = usage.output_tokens or 0
        read = usage.cache_read or 0
        write = usage.cache_write or 0
        write_1h = usage.cache_write_1h or 0
        audio = usage.audio_input or 0
        audio_read = usage.audio_cache_read or 0
        image = usage.image_input or 0
        reasoning = usage.reasoning or 0
        audio_out = usage.audio_output or 0
        image_out = usage.image_output or 0
        searches = usage.web_searches or 0
        if (
            whole_input < 0
            or whole_output < 0
            or read < 0
            or write < 0
            or write_1h < 0
            or audio < 0
            or audio_read < 0
            or image < 0
            or reasoning < 0
            or audio_out < 0
            or image_out < 0
            or searches < 0
        ):
            return None

        write -= write_1h
        if write < 0:
            write = 0
        if audio_read:
            read -= audio_read
            if read < 0:
                read = 0
            audio -= audio_read
            if audio < 0:
                audio = 0
        parts = read + write + write_1h + audio + audio_read + image
        plain = whole_input - parts
        if plain < 0:
            plain = 0
            whole_input = parts
        plain_output = whole_output - reasoning - audio_out - image_out
        if plain_output < 0:
            plain_output = 0

        rates = self._base
        for threshold, tier in self._tiers:
            if whole_input > threshold:
                rates = tier
                break
        (
            input_rate,
            read_rate,
            write_rate,
            write_1h_rate,
            audio_rate,
            audio_read_rate,
            image_rate,
            output_rate,
            reasoning_rate,
            audio_out_rate,
            image_out_rate,
            request_rate,
            search_rate,
        ) = rates
        input_cost = plain * input_rate + read * read_rate + write * write_rate + write_1h * write_1h_rate
        if audio or audio_read or image:
            input_cost += audio * audio_rate + audio_read * audio_read_rate + image * image_rate
        output_cost = plain_output * output_rate + reasoning * reasoning_rate
        if audio_out or image_out:
            output_cost += audio_out * audio_out_rate + image_out * image_out_rate
        input_cost /= 1e6  # at the end: rates per million are the page's own decimals, and few results need rounding
        output_cost /= 1e6
        total = input_cost + output_cost + request_rate + searches * search_rate
        if not total < _INFINITE:  # also true of NaN
            return None

        if usage.input_tokens is None and not parts:
            if usage.output_tokens is None and not output_cost:
                return None
            return Cost(total, None, output_cost, basis=self._basis)
        if usage.output_tokens is None and not output_cost:
            return Cost(total, input_cost, None, basis=self._basis)
        return Cost(total, input_cost, output_cost, "USD", "local", self._basis)


def compile_card(prices: Prices, basis: str, *, multiplier: float = 1.0) -> RateCard | None:
    """The card of ``prices``, each times ``multiplier``; ``None`` if they hold no unit, that is, no known price."""
    if not prices:
        return None
    thresholds = {int(start) for price in prices.values() for start, _ in _tiers(price)}
    tiers = [
        (threshold, _rates(prices, threshold + 1, multiplier))  # a tier begins above its threshold
        for threshold in sorted(thresholds, reverse=True)
    ]
    return RateCard(_rates(prices, 0, multiplier), tiers, basis)


def _rates(prices: Prices, input_tokens: int, multiplier: float) -> Rates:
    rates = {unit: _at(price, input_tokens) * multiplier for unit, price in prices.items()}
    input_rate = rates.get("input", 0.0)
    output_rate = rates.get("output", 0.0)
    read_rate = rates.get("cache_read", input_rate)
    write_rate = rates.get("cache_write", input_rate)
    return Rates(
        input=input_rate,
        cache_read=read_rate,
        cache_write=write_rate,
        cache_write_1h=rates.get("cache_write_1h", write_rate),
        audio_input=rates.get("audio_input", input_rate),
        audio_cache_read=rates.get("audio_cache_read", rates.get("audio_input", read_rate)),
        image_input=rates.get("image_input", input_rate),
        output=output_rate,
        reasoning=rates.get("reasoning", output_rate),
        audio_output=rates.get("audio_output", output_rate),
        image_output=rates.get("image_output", output_rate),
        per_request=rates.get("per_request", 0.0),
        per_web_search=rates.get("per_web_search", 0.0),
    )


def _at(price: Price, input_tokens: int) -> float:
    if isinstance(price, (int, float)):
        return price
    result = price[0]
    for start, tier in _tiers(price):
        if input_tokens > start:
            result = tier
    assert isinstance(result, (int, float))
    return result


def _tiers(price: Price) -> Sequence[tuple[float, float]]:
    """Of one price, ascending by threshold."""
    return () if isinstance(price, (int, float)) else price[1]  # type: ignore[return-value]
