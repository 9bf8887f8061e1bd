"""What a call cost: the price book.

Prices are those of PyPI ``genai-prices``, bundled and dated (:attr:`PriceBook.basis`), and the user's own. An unknown
price is no cost, never 0; an amount that the provider named in its response goes before any computed one.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timezone
from time import time

from seatrace.core.record import Call, Cost, Usage

from ._ownprices import ModelPrice, Override, OwnModel, OwnPrices, check_amount, read_file, read_overrides
from ._pricelist import Model, bundled
from ._ratecard import RateCard, compile_card

__all__ = ["ModelPrice", "PriceBook"]

_REMEMBERED = 512
"""How many (provider, models, tier) a generation of the look-up cache holds; there are two generations."""


class PriceBook:
    """Knows what calls cost. Safe to share between threads; never reads the network, and a file only when made.

    ``overrides`` are prices of your own, by ``"provider/model"`` or ``"model"`` (of any provider), as in
    ``{"acme/llm-1": {"input": 1.0, "output": 2.0, "cache_read": 0.1}}``. ``path`` names a TOML file of the same
    content under ``[models."acme/llm-1"]``, with ``multiplier`` under ``[providers.acme]``; an override of the same
    key and day goes before it. Providers are named as in ``gen_ai.provider.name``. Raises
    :class:`~seatrace.errors.ConfigError` if either is malformed or the file cannot be read.
    """

    def __init__(
        self, overrides: Mapping[str, Override] | None = None, *, path: str | os.PathLike[str] | None = None
    ) -> None:
        self._lock = threading.RLock()
        self._own = OwnPrices()
        self._multipliers: dict[str, float] = {}
        self._recent: dict[_Key, tuple[_Offer, ...]] = {}
        self._former: dict[_Key, tuple[_Offer, ...]] = {}
        prices, multipliers = read_file(os.fspath(path)) if path is not None else ([], {})
        for key, price in (*prices, *read_overrides("prices", overrides or {})):
            self._add(key, price)
        for provider, multiplier in multipliers.items():
            self.multiply(provider, multiplier)

    @property
    def basis(self) -> str:
        """Name, version and date of the bundled prices: ``"genai-prices 0.2.3 (2026-11-22)"``."""
        return bundled().basis

    def register(
        self,
        model: str,
        *,
        provider: str | None = None,
        input: float,
        output: float = 0.0,
        cache_read: float | None = None,
        cache_write: float | None = None,
        cache_write_1h: float | None = None,
        reasoning: float | None = None,
        audio_input: float | None = None,
        audio_output: float | None = None,
        audio_cache_read: float | None = None,
        image_input: float | None = None,
        image_output: float | None = None,
        per_request: float | None = None,
        per_web_search: float | None = None,
        valid_from: date | None = None,
    ) -> None:
        """Sets the price of ``model``, from now on and for every user of this book; units as in :class:`ModelPrice`.

        Without a ``provider`` it holds for any. A ``*`` at the end of ``model`` stands for any rest, so that
        ``register("*", provider="ollama", input=0)`` makes a whole provider free; the longest match wins.
        """
        price = ModelPrice(
            input=input,
            output=output,
            cache_read=cache_read,
            cache_write=cache_write,
            cache_write_1h=cache_write_1h,
            reasoning=reasoning,
            audio_input=audio_input,
            audio_output=audio_output,
            audio_cache_read=audio_cache_read,
            image_input=image_input,
            image_output=image_output,
            per_request=per_request,
            per_web_search=per_web_search,
            valid_from=valid_from,
        )
        self._add(model if provider is None else f"{provider}/{model}", price)

    def multiply(self, provider: str, multiplier: float) -> None:
        """Multiplies every price of ``provider``, bundled or own: 0.85 is a discount of 15 %.

        Amounts that the provider itself reports stay as they are.
        """
        check_amount(f"multiplier of {provider!r}", multiplier)
        with self._lock:
            self._multipliers[provider.lower()] = float(multiplier)
            self._forget()

    def price(self, call: Call, *, at: datetime | None = None) -> Cost | None:
        """The cost of ``call``, or ``None`` where it is not known. Does not raise, whatever the provider reported.

        An amount in the response goes first (``source="provider"``). Else the response's model is priced, or the
        requested one where the list does not know that, at the tier that the response names or the request asked for,
        with the prices in force ``at`` (default: now; naive times are UTC). The advice of other models is added.
        """
        reported = call.reported_cost
        if isinstance(reported, (int, float)) and 0 <= reported < math.inf:
            return Cost(float(reported), source="provider", basis="response")
        usage = call.usage
        if usage is None:
            return None
        tier = call.response_service_tier or call.service_tier
        key = (call.provider, (call.response_model, call.request_model), tier, False)
        cost = self._price(key, usage, at)
        for model, advised in call.advice or ():
            more = self._price((call.provider, (model,), tier, False), advised, at)
            cost = None if cost is None or more is None else _sum(cost, more)
        return cost

    def price_usage(
        self,
        provider: str | None,
        models: Sequence[str],
        usage: Usage,
        *,
        at: datetime | None = None,
        service_tier: str | None = None,
        batch: bool = False,
    ) -> Cost | None:
        """The cost of ``usage`` at the first of ``models`` with a known price, or ``None``.

        ``provider`` is a ``gen_ai.provider.name``; ``None`` leaves it to the model's name. ``service_tier`` is the
        provider's word (flex, priority, fast, batch); ``batch`` says the same as the last.
        """
        return self._price((provider, tuple(models), service_tier, batch), usage, at)

    def _price(self, key: _Key, usage: Usage, at: datetime | None) -> Cost | None:
        offers = self._recent.get(key)
        if offers is None:
            offers = self._look_up(key)
        seconds = time() if at is None else _seconds(at)
        for offer in offers:
            card = offer.card(seconds)
            if card is not None:
                return card.cost(usage)
        return None

    def _look_up(self, key: _Key) -> tuple[_Offer, ...]:
        # Two generations make a bounded least-recently-used cache whose hits cost one dict look-up and no lock.
        with self._lock:
            offers = self._former.get(key)
            if offers is None:
                offers = tuple(self._offers(key))
            if len(self._recent) >= _REMEMBERED:
                self._former = self._recent
                self._recent = {}
            self._recent[key] = offers
            return offers

    def _offers(self, key: _Key) -> list[_Offer]:
        provider, named, tier, batch = key
        models = [model for model in dict.fromkeys(named) if model]
        names = _names(provider)
        own = [self._own.find(names, model) for model in models]
        listed = [bundled().find(provider, model, _context(tier, batch)) for model in models]
        multiplier = next((self._multipliers[name] for name in names if name in self._multipliers), 1.0)
        return [
            *(_Offer(model, "custom", multiplier) for model in own if model is not None),
            *(_Offer(model, self.basis, multiplier) for model in listed if model is not None),
        ]

    def _add(self, key: str, price: ModelPrice) -> None:
        with self._lock:
            self._own.add(key, price)
            self._forget()

    def _forget(self) -> None:
        self._recent = {}
        self._former = {}


class _Offer:
    """One possible price of a call: keeps the compiled card in force, and those that were."""

    __slots__ = ("_basis", "_cards", "_current", "_multiplier", "_source", "_step")

    def __init__(self, source: Model | OwnModel, basis: str, multiplier: float) -> None:
        self._source = source
        self._basis = basis if multiplier == 1 else f"{basis} × {multiplier:g}"
        self._multiplier = multiplier
        self._step = source.changes_every
        self._cards: dict[tuple[int, ...], RateCard | None] = {}  # as many as the model has prices
        self._current: tuple[float, RateCard | None] = (math.nan, None)

    def card(self, seconds: float) -> RateCard | None:
        moment = seconds // self._step if self._step else 0.0
        known = self._current  # one tuple, so that another thread sees either the old pair or the new
        if known[0] == moment:
            return known[1]
        key, prices = self._source.prices(seconds)
        if key not in self._cards:
            self._cards[key] = compile_card(prices, self._basis, multiplier=self._multiplier)
        card = self._cards[key]
        self._current = (moment, card)
        return card


_Key = tuple[str | None, tuple[str | None, ...], str | None, bool]


def _sum(one: Cost, other: Cost) -> Cost:
    return replace(
        one,
        total=one.total + other.total,
        input=(one.input or 0.0) + (other.input or 0.0),
        output=(one.output or 0.0) + (other.output or 0.0),
    )


def _context(tier: str | None, batch: bool) -> dict[str, str]:
    """What genai-prices calls price context: Anthropic says "batch" as a tier and "fast" as a speed."""
    context: dict[str, str] = {}
    if tier:
        context["service_tier"] = context["speed"] = tier.lower()
    if batch or (tier is not None and tier.lower() == "batch"):
        context["processing"] = "batch"
    return context


def _names(provider: str | None) -> list[str]:
    """The names by which users may call a provider: OpenTelemetry's and that of the list."""
    if provider is None:
        return []
    identity = bundled().provider_id(provider)
    return [provider.lower()] if identity is None else [provider.lower(), identity]


def _seconds(at: datetime) -> float:
    return (at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)).timestamp()
