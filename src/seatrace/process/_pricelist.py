"""The bundled price list: which provider and model a name means, and what is charged when.

The data is that of genai-prices (MIT; its licence is in the file), written by ``scripts/build_prices.py``; the rules
of matching are those of its ``data_snapshot.py`` and ``types.py``. Nothing is read before the first price is asked.
"""

from __future__ import annotations

import json
import pkgutil
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from ._ratecard import Prices

Clause = Sequence[Any]
"""``[kind, value]``: kind is equals, starts_with, ends_with, contains, regex, or, and."""

_PROVIDERS = {
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "moonshot_ai": "moonshotai",
    "voyage_ai": "voyageai",
    "x_ai": "x-ai",
    "z_ai": "zai",
    "zhipu_ai": "zhipuai",
}
"""OpenTelemetry's ``gen_ai.provider.name`` → id in the list, where the list would not find it or find another.

Azure sells OpenAI's models at prices of its own, the list says "openai" for every name that contains it.
"""

_COMPACT_DATE = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class Condition:
    """When a price holds: from a date on, or in a daily window (UTC), which may leave out weekends."""

    __slots__ = ("_end", "_from", "_start", "_weekdays_from", "daily")

    def __init__(self, rule: Mapping[str, str]) -> None:
        self._from = _day(rule["from"]) if "from" in rule else 0
        self._weekdays_from = _day(rule["weekdays_from"]) if "weekdays_from" in rule else None
        self.daily = "start" in rule
        self._start = _minute(rule["start"]) if self.daily else 0
        self._end = _minute(rule["end"]) if self.daily else 0

    def active(self, seconds: float) -> bool:
        """Whether it holds at ``seconds`` since the epoch."""
        day, second = divmod(seconds, 86_400)
        if day < self._from:
            return False
        if not self.daily:
            return True
        if self._weekdays_from is not None and day >= self._weekdays_from and (day + 3) % 7 >= 5:  # day 0: a Thursday
            return False
        minute = second / 60
        if self._end < self._start:
            return minute >= self._start or minute < self._end
        return self._start <= minute < self._end


class Model:
    """One model of the list with everything that may be charged for it."""

    __slots__ = ("_prices", "_variants", "changes_every")

    def __init__(self, entry: Mapping[str, Any], context: Mapping[str, str]) -> None:
        self._prices = [(Condition(rule) if rule else None, prices) for rule, prices in entry["prices"]]
        self._variants = [
            (Condition(rule) if rule else None, prices)
            for when, rule, prices in entry.get("variants", ())
            if all(context.get(key) == value for key, value in when.items())
        ]
        conditions = [condition for condition, _ in (*self._prices, *self._variants) if condition is not None]
        self.changes_every = 0 if not conditions else 60 if any(each.daily for each in conditions) else 86_400
        """Seconds between two moments at which the price may change, counted from the epoch; 0 for never."""

    def prices(self, seconds: float) -> tuple[tuple[int, ...], Prices]:
        """The prices in force at ``seconds`` since the epoch, and a key that is equal for equal prices."""
        chosen = 0
        for index in range(len(self._prices) - 1, -1, -1):  # the last one in force wins; none in force: the first
            condition = self._prices[index][0]
            if condition is None or condition.active(seconds):
                chosen = index
                break
        variants = [
            index
            for index, (condition, _) in enumerate(self._variants)
            if condition is None or condition.active(seconds)
        ]
        prices = dict(self._prices[chosen][1])
        for index in reversed(variants):  # for each unit the first one wins
            prices.update(self._variants[index][1])
        return (chosen, *variants), prices


class PriceList:
    """The list as loaded; look-ups take about 0.1 ms and are to be cached by the caller."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.basis = f"{data['source']} {data['version']} ({data['date']})"
        self._providers: dict[str, Mapping[str, Any]] = {each["id"]: each for each in data["providers"]}

    def provider_id(self, provider: str) -> str | None:
        """The list's id of a provider given by its OpenTelemetry name."""
        name = provider.lower().strip()
        name = _PROVIDERS.get(name, name)
        if name in self._providers:
            return name
        for entry in self._providers.values():
            rule = entry.get("provider_match")
            if rule is not None and _matches(rule, name):
                return str(entry["id"])
        return None

    def find(self, provider: str | None, model: str, context: Mapping[str, str]) -> Model | None:
        """What the list knows of ``model``; without a provider, the maker that the model's name tells."""
        model = model.lower()
        if provider is not None and provider.lower() == "litellm":
            provider, model = self._behind_litellm(model)
        if provider is not None:
            identity = self.provider_id(provider)
        else:
            identity = next(
                (key for key, each in self._providers.items() if _matches(each.get("model_match", ["or", []]), model)),
                None,
            )
        if identity is None:
            return None
        entry = self._providers[identity]
        for name in _spellings(identity, model):
            found = _find(entry, name)
            if found is not None:
                return Model(found, context)
            for other in entry.get("fallback", ()):
                found = _find(self._providers[other], name)
                if found is not None:
                    # Service tiers and batch discounts are the seller's; the maker's do not hold at another's shop.
                    return Model(found, {})
        return None

    def _behind_litellm(self, model: str) -> tuple[str | None, str]:
        provider, slash, name = model.partition("/")
        return (provider, name) if slash and self.provider_id(provider) is not None else (None, model)


@lru_cache(maxsize=1)
def bundled() -> PriceList:
    """The list that ships with seatrace: read and decoded once, about 10 ms."""
    packed = pkgutil.get_data("seatrace.data", "prices.json.gz")
    assert packed is not None
    return PriceList(json.loads(zlib.decompress(packed, wbits=31)))


def _spellings(provider: str, model: str) -> list[str]:
    spellings = [model, _COMPACT_DATE.sub(_with_dashes, model)]
    if provider == "google" and "models/" in model:  # resource names: models/…, publishers/google/models/…
        spellings.append(model.rpartition("models/")[2])
    return spellings


def _with_dashes(found: re.Match[str]) -> str:
    """``-20251211`` as ``-2025-12-11``: gateways shorten dates, the list has them in full."""
    year, month, day = found.group(2, 3, 4)
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return found.group(0)
    return f"-{year}-{month}-{day}"


def _find(provider: Mapping[str, Any], model: str) -> Mapping[str, Any] | None:
    for entry in provider["models"]:
        if _matches(entry["match"], model):
            found: Mapping[str, Any] = entry
            return found
    return None


def _matches(clause: Clause, text: str) -> bool:
    kind, value = clause
    if kind == "equals":
        return bool(text == value)
    if kind == "or":
        return any(_matches(part, text) for part in value)
    if kind == "starts_with":
        return text.startswith(value)
    if kind == "contains":
        return value in text
    if kind == "regex":
        return re.search(value, text) is not None
    if kind == "ends_with":
        return text.endswith(value)
    return all(_matches(part, text) for part in value)


def _day(iso: str) -> int:
    return date.fromisoformat(iso).toordinal() - date(1970, 1, 1).toordinal()


def _minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)
