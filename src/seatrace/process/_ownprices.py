"""The user's own prices: from a call, from a mapping, from a TOML file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime

from seatrace.config import read_toml
from seatrace.errors import ConfigError

from ._ratecard import Prices


@dataclass(frozen=True)
class ModelPrice:
    """The price of one model, in USD: per million tokens, ``per_request`` and ``per_web_search`` each.

    A kind of token without a price of its own (``None``) is billed as what contains it: cache reads and writes, audio
    and images as ``input``, one-hour cache writes as ``cache_write``, reasoning as ``output``. 0 means free of charge.

    Raises :class:`~seatrace.errors.ConfigError` for anything but finite numbers of at least 0.
    """

    input: float
    output: float = 0.0
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    reasoning: float | None = None
    audio_input: float | None = None
    audio_output: float | None = None
    audio_cache_read: float | None = None
    image_input: float | None = None
    image_output: float | None = None
    per_request: float | None = None
    per_web_search: float | None = None
    valid_from: date | None = None
    """First day (UTC) on which it holds; ``None`` is always. Before it, an earlier or the bundled price holds."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "valid_from":
                if value is not None and (isinstance(value, datetime) or not isinstance(value, date)):
                    raise ConfigError(f"valid_from: expected a date such as 2026-11-22, got {value!r}")
            elif value is not None or field.name in ("input", "output"):
                check_amount(field.name, value)

    def _units(self) -> Prices:
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "valid_from"}
        return {name: float(value) for name, value in named.items() if value is not None}


Override = ModelPrice | Mapping[str, object] | Sequence[ModelPrice | Mapping[str, object]]
"""A price, the fields of one as a mapping, or several with different ``valid_from``."""


class OwnModel:
    """The user's prices of one model; before the first ``valid_from`` there is none."""

    def __init__(self, dated: Mapping[date, ModelPrice]) -> None:
        epoch = date(1970, 1, 1)
        self._dated = [((day - epoch).days * 86_400, price) for day, price in sorted(dated.items())]
        self.changes_every = 0 if set(dated) == {date.min} else 86_400

    def prices(self, seconds: float) -> tuple[tuple[int, ...], Prices]:
        """As :meth:`seatrace.process._pricelist.Model.prices`."""
        for index in range(len(self._dated) - 1, -1, -1):
            start, price = self._dated[index]
            if seconds >= start:
                return (index,), price._units()
        return (), {}


class OwnPrices:
    """All of the user's prices by ``provider/model`` or ``model``, in any case, with ``*`` for any rest."""

    def __init__(self) -> None:
        self._models: dict[str, dict[date, ModelPrice]] = {}

    def add(self, key: str, price: ModelPrice) -> None:
        """Adds ``price``, or replaces the one of the same key and day."""
        self._models.setdefault(key.lower(), {})[price.valid_from or date.min] = price

    def find(self, providers: Sequence[str], model: str) -> OwnModel | None:
        """The prices of ``model`` under the first of the provider's names, else of the longest pattern."""
        model = model.lower()
        names = [*(f"{provider}/{model}" for provider in providers), model]
        for name in names:
            if name in self._models:
                return OwnModel(self._models[name])
        patterns = [
            key for key in self._models if key.endswith("*") and any(name.startswith(key[:-1]) for name in names)
        ]
        return OwnModel(self._models[max(patterns, key=len)]) if patterns else None


def read_overrides(setting: str, overrides: object) -> Iterator[tuple[str, ModelPrice]]:
    """Every price of a mapping; ``setting`` names it in errors."""
    if not isinstance(overrides, Mapping):
        raise ConfigError(f'{setting}: expected a mapping such as {{"acme/llm-1": …}}, got {overrides!r}')
    for key, value in overrides.items():
        if not isinstance(key, str) or not key:
            raise ConfigError(f'{setting}: expected keys such as "acme/llm-1", got {key!r}')
        several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for each in several:
            yield key, _model_price(f"{setting}[{key!r}]", each)


def read_file(path: str) -> tuple[list[tuple[str, ModelPrice]], dict[str, float]]:
    """The prices and the multipliers by provider of a TOML file."""
    content = read_toml("price file", path)
    for table in content:
        if table not in ("models", "providers"):
            raise ConfigError(f"price file {path}: expected only [models.…] and [providers.…], got {table!r}")
    prices = list(read_overrides(f"price file {path}: models", content.get("models", {})))
    return prices, dict(_read_multipliers(f"price file {path}: providers", content.get("providers", {})))


def check_amount(setting: str, value: object) -> None:
    """Raises ConfigError unless ``value`` is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigError(f"{setting}: expected a finite number of at least 0, got {value!r}")


def _read_multipliers(setting: str, providers: object) -> Iterator[tuple[str, float]]:
    if not isinstance(providers, Mapping):
        raise ConfigError(f"{setting}: expected tables [providers.…], got {providers!r}")
    for provider, settings in providers.items():
        if not isinstance(settings, Mapping) or set(settings) != {"multiplier"}:
            raise ConfigError(f"{setting}.{provider}: expected 'multiplier' alone, got {settings!r}")
        check_amount(f"{setting}.{provider}.multiplier", settings["multiplier"])
        yield provider, float(settings["multiplier"])


def _model_price(setting: str, value: object) -> ModelPrice:
    if isinstance(value, ModelPrice):
        return value
    known = [field.name for field in fields(ModelPrice)]
    if not isinstance(value, Mapping):
        raise ConfigError(f"{setting}: expected a mapping of {', '.join(known)}, got {value!r}")
    for key in value:
        if key not in known:
            raise ConfigError(f"{setting}: expected only {', '.join(known)}, got {key!r}")
    if "input" not in value:
        raise ConfigError(f"{setting}: expected 'input' (USD per million tokens), got only {sorted(value)}")
    try:
        return ModelPrice(**value)
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from None
