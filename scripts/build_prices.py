"""Regenerate ``src/seatrace/data/prices.json.gz`` from the installed ``genai-prices``.

    python scripts/build_prices.py            write the file and print what changed
    python scripts/build_prices.py --check    write nothing; exit 1 if the file is not what this script would write

The file carries only what a price needs (matching rules and rates), every number exactly as upstream states it, plus
three decisions of ours, each in one table below: the weekday rule of DeepSeek, which models without any price are
free, and which units seatrace cannot measure. The date is the day on which the data last changed here, so that a
second run writes the same bytes. Anything unforeseen in a new release stops the script rather than being dropped.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
from datetime import date, datetime, timezone
from decimal import Decimal
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from genai_prices import types as upstream
from genai_prices.data import providers as upstream_providers

TARGET = Path(__file__).resolve().parent.parent / "src" / "seatrace" / "data" / "prices.json.gz"

UNITS: dict[str, tuple[str, int]] = {
    "input_mtok": ("input", 1),
    "output_mtok": ("output", 1),
    "cache_read_mtok": ("cache_read", 1),
    "cache_write_mtok": ("cache_write", 1),
    "cache_write_1h_mtok": ("cache_write_1h", 1),
    "output_reasoning_mtok": ("reasoning", 1),
    "input_audio_mtok": ("audio_input", 1),
    "output_audio_mtok": ("audio_output", 1),
    "cache_audio_read_mtok": ("audio_cache_read", 1),
    "input_image_mtok": ("image_input", 1),
    "output_image_mtok": ("image_output", 1),
    "requests_kcount": ("per_request", 1000),
    "web_searches_kcount": ("per_web_search", 1000),
}
"""Upstream's price key → ours, and what to divide by: tokens stay USD per million, events become USD each."""

UNMEASURED = {
    "audio_hours",
    "cache_image_read_mtok",
    "input_annotated_document_kpages",
    "input_audio_hours",
    "input_document_kpages",
    "input_mchars",
    "input_text_messages_kcount",
    "input_video_mtok",
    "output_citation_mtok",
    "output_video_mtok",
    "storage_searches_kcount",
}
"""Units of which ``core.record.Usage`` has no count. A model priced in these alone has no price here."""

CONTEXTS = {"processing", "service_tier", "speed"}
CONTEXTS_UNKNOWN = {"route", "search_type"}
"""Request contexts that an observed call does not carry; their variants are left out."""

FREE = {
    "github-copilot": {"gpt-3.5-turbo", "gpt-4.1", "gpt-4o", "gpt-4o-mini"},  # included in the subscription
    "google": {"gemma-3", "gemma-3n", "gemma-4-26b-a4b-it", "gemma-4-31b-it"},  # no paid tier on the Gemini API
    "openai": {"moderation"},
}
UNKNOWN = {
    "cerebras": {"qwen-3-coder-480b"},  # no longer listed; it was never free
    "huggingface_together": {
        "ServiceNow-AI/Apriel-1.6-15b-Thinker",
        "prism-ml/Ternary-Bonsai-27B-AWQ-4bit",
        "prism-ml/Ternary-Bonsai-27B-gguf",
    },
    "openrouter": {
        "gemini-2.5-pro-exp-03-25",
        "google/gemini-flash-1.5-8b-exp",
        "google/lyria-3-clip-preview",  # billed per clip
        "google/lyria-3-pro-preview",
        "stealth/crouton-alpha",
    },
}
"""Models whose upstream entry holds no price at all, for which upstream computes 0. Free is 0; unknown has no cost.

Names that end in ``:free`` are free. A new entry must be put into one of the two tables.
"""

PEAK_RULES: dict[tuple[str, str], dict[str, str]] = {
    ("deepseek", "deepseek-flash"): {"weekdays_from": "2026-08-23"},
    ("deepseek", "deepseek-v4-flash"): {"from": "2026-08-17", "weekdays_from": "2026-08-23"},
    ("deepseek", "deepseek-v4-pro"): {"from": "2026-08-17", "weekdays_from": "2026-08-23"},
}
"""What upstream's peak windows cannot say (its ``price_comments`` and pydantic/genai-prices#582 do): peak pricing
began on 2026-08-17, and since 2026-08-23 weekends are off-peak all day."""

NO_WEEKDAY_RULE = {("deepseek", "deepseek-chat"), ("deepseek", "deepseek-reasoner")}
"""Retired V3 models, whose windows held on every day."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Regenerate the bundled price list from the installed genai-prices.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if the file is out of date")
    arguments = parser.parse_args()

    old = _read(TARGET)
    new = build(taken=_today())
    if old is not None and {**old, "date": None} == {**new, "date": None}:
        new["date"] = old["date"]
    if old == new:
        print(f"{TARGET.name}: up to date, {_summary(new)}")
        return 0
    for line in changes(old, new):
        print(line)
    if arguments.check:
        print(f"{TARGET.name}: out of date, run {Path(__file__).name}", file=sys.stderr)
        return 1
    TARGET.write_bytes(encode(new))
    print(f"{TARGET.name}: written, {_summary(new)}, {TARGET.stat().st_size:,} bytes")
    return 0


def build(*, taken: date) -> dict[str, Any]:
    """The whole price list as plain data, dated ``taken``."""
    package = distribution("genai-prices")
    licence = next(path for path in package.files or () if path.name == "LICENSE").read_text()
    return {
        "source": "genai-prices",
        "version": package.version,
        "date": taken.isoformat(),
        "licence": licence,
        "providers": [_provider(provider) for provider in upstream_providers],
    }


def encode(data: dict[str, Any]) -> bytes:
    """The bytes of the file: sorted keys, no time stamp."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    return buffer.getvalue()


def changes(old: dict[str, Any] | None, new: dict[str, Any]) -> list[str]:
    """One line for every added, removed or changed model, in the list's order."""
    before = _models(old) if old is not None else {}
    after = _models(new)
    lines = [f"+ {name}" for name in after if name not in before]
    lines += [f"- {name}" for name in before if name not in after]
    lines += [f"~ {name}" for name, model in after.items() if name in before and before[name] != model]
    was = f"{old['source']} {old['version']}" if old is not None else "nothing"
    return [f"{was} -> {new['source']} {new['version']}: {len(lines)} models differ", *lines]


def _provider(provider: upstream.Provider) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": provider.id, "models": [_model(provider, model) for model in provider.models]}
    if provider.fallback_model_providers:
        entry["fallback"] = provider.fallback_model_providers
    if provider.provider_match is not None:
        entry["provider_match"] = _clause(provider.provider_match)
    if provider.model_match is not None:
        entry["model_match"] = _clause(provider.model_match)
    return entry


def _model(provider: upstream.Provider, model: upstream.ModelInfo) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": model.id, "match": _clause(model.match)}
    conditional = (
        [(None, model.prices)]
        if isinstance(model.prices, upstream.ModelPrice)
        else [(item.constraint, item.prices) for item in model.prices]
    )
    entry["prices"] = [
        [_condition(provider.id, model.id, constraint), _prices(provider.id, model.id, prices)]
        for constraint, prices in conditional
    ]
    variants = []
    for variant in model.price_variants or ():
        unknown = set(variant.when) - CONTEXTS - CONTEXTS_UNKNOWN
        if unknown:
            raise SystemExit(f"{provider.id}/{model.id}: new kind of request context {sorted(unknown)}")
        prices = _priced_units(variant.prices)
        if prices and not set(variant.when) & CONTEXTS_UNKNOWN:
            condition = _condition(provider.id, model.id, variant.constraint)
            variants.append([dict(sorted(variant.when.items())), condition, prices])
    if variants:
        entry["variants"] = variants
    return entry


def _prices(provider: str, model: str, prices: upstream.ModelPrice) -> dict[str, Any]:
    if any(value is not None for value in prices.__dict__.values()):
        return _priced_units(prices)
    if model.endswith(":free") or model in FREE.get(provider, ()):
        return {"input": 0, "output": 0}
    if model in UNKNOWN.get(provider, ()):
        return {}
    raise SystemExit(f"{provider}/{model}: no price at all: free or unknown? Add it to FREE or UNKNOWN.")


def _priced_units(prices: upstream.ModelPrice) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in sorted(prices.__dict__.items()):
        if value is None or key in UNMEASURED:
            continue
        if key not in UNITS:
            raise SystemExit(f"new unit {key!r}: teach UNITS and process/_ratecard.py, or add it to UNMEASURED")
        name, per = UNITS[key]
        if isinstance(value, upstream.TieredPrices):
            tiers = [[tier.start, _number(tier.price / per)] for tier in value.tiers]
            result[name] = [_number(value.base / per), tiers]
        else:
            result[name] = _number(value / per)
    return result


def _number(value: Decimal) -> int | float:
    number = int(value) if value == value.to_integral_value() else float(value)
    if Decimal(repr(number)) != value:
        raise SystemExit(f"{value} has no exact shortest decimal form")
    return number


def _condition(
    provider: str, model: str, constraint: upstream.StartDateConstraint | upstream.TimeOfDateConstraint | None
) -> dict[str, str] | None:
    if constraint is None:
        return None
    if isinstance(constraint, upstream.StartDateConstraint):
        return {"from": constraint.start_date.isoformat()}
    for moment in (constraint.start_time, constraint.end_time):
        if moment.second or moment.microsecond or moment.utcoffset():
            raise SystemExit(f"{provider}/{model}: a window in other than whole minutes of UTC: {moment}")
    window = {"start": f"{constraint.start_time:%H:%M}", "end": f"{constraint.end_time:%H:%M}"}
    if (provider, model) in NO_WEEKDAY_RULE:
        return window
    if (provider, model) not in PEAK_RULES:
        raise SystemExit(f"{provider}/{model}: a new daily window: add it to PEAK_RULES or NO_WEEKDAY_RULE")
    return {**window, **PEAK_RULES[provider, model]}


def _clause(clause: Any) -> list[Any]:
    """``[kind, value]``; values are lower-cased once here, as upstream does at every comparison."""
    if isinstance(clause, upstream.ClauseOr):
        return ["or", [_clause(part) for part in clause.or_]]
    if isinstance(clause, upstream.ClauseAnd):
        return ["and", [_clause(part) for part in clause.and_]]
    if isinstance(clause, upstream.ClauseRegex):
        return ["regex", clause.regex]
    (kind, value), *_ = clause.__dict__.items()
    if kind not in {"equals", "starts_with", "ends_with", "contains"}:
        raise SystemExit(f"new kind of matching rule: {clause!r}")
    return [kind, value.lower()]


def _models(data: dict[str, Any]) -> dict[str, Any]:
    return {f"{provider['id']}/{model['id']}": model for provider in data["providers"] for model in provider["models"]}


def _summary(data: dict[str, Any]) -> str:
    return (
        f"{data['source']} {data['version']} ({data['date']}), "
        f"{len(data['providers'])} providers, {len(_models(data))} models"
    )


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    data: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return data


def _today() -> date:
    return datetime.now(timezone.utc).date()


if __name__ == "__main__":
    sys.exit(main())
