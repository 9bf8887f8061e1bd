"""The bundled prices compute what ``genai_prices.calc_price`` computes, over every provider and model it bundles.

What differs on purpose is listed below with its reason, and asserted to differ, so that the lists cannot go stale.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone

import pytest

from seatrace.core.record import Cost, Usage
from seatrace.process.price import PriceBook

genai_prices = pytest.importorskip("genai_prices", reason="the reference implementation (Python >= 3.11)")
from genai_prices import types  # noqa: E402
from genai_prices.data import providers as PROVIDERS  # noqa: E402

if f" {genai_prices.__version__} " not in PriceBook().basis:
    pytest.skip(
        f"installed is {genai_prices.__version__}, bundled {PriceBook().basis}: run scripts/build_prices.py",
        allow_module_level=True,
    )

SEED = 20261122
ROUNDS = 2
DAYS = [date(2026, 8, day) for day in (14, 16, 18, 22, 23, 24)]
"""Around the beginning of DeepSeek's peak hours (Monday 17) and of its weekday rule (Sunday 23)."""
TIERS = ["default", "flex", "priority", "fast", "batch"]

UNMEASURED = {
    ("groq", "canopylabs/orpheus-arabic-saudi"),
    ("groq", "canopylabs/orpheus-v1-english"),
    ("groq", "whisper-large-v3"),
    ("groq", "whisper-large-v3-turbo"),
    ("mistral", "mistral-ocr-2503"),
    ("mistral", "mistral-ocr-2505"),
    ("mistral", "mistral-ocr-2512"),
    ("mistral", "mistral-ocr-4-0"),
    ("mistral", "mistral-ocr-4-1"),
    ("mistral", "mistral-ocr-latest"),
    ("mistral", "voxtral-mini-2602"),
    ("mistral", "voxtral-mini-transcribe-3-0"),
    ("mistral", "voxtral-mini-transcribe-realtime-2602"),
    ("mistral", "voxtral-mini-transcribe-realtime-3-0"),
    ("mistral", "voxtral-small-transcribe-3-0"),
    ("openai", "gpt-live-1"),
    ("openai", "gpt-live-transcribe"),
    ("openai", "gpt-realtime-translate"),
    ("openai", "gpt-realtime-whisper"),
    ("openai", "gpt-transcribe"),
    ("openai", "tts-1"),
    ("openai", "tts-1-hd"),
    ("openai", "whisper-1"),
    ("x-ai", "grok-voice-latest"),
    ("x-ai", "grok-voice-think-fast-1.0"),
    ("x-ai", "grok-voice-think-fast-2.0"),
}
"""Priced in units that no usage of tokens tells (hours of audio, characters, pages, messages): upstream computes 0
without them, seatrace has no cost."""

NOT_FREE = {
    ("cerebras", "qwen-3-coder-480b"),
    ("huggingface_together", "ServiceNow-AI/Apriel-1.6-15b-Thinker"),
    ("huggingface_together", "prism-ml/Ternary-Bonsai-27B-AWQ-4bit"),
    ("huggingface_together", "prism-ml/Ternary-Bonsai-27B-gguf"),
    ("openrouter", "gemini-2.5-pro-exp-03-25"),
    ("openrouter", "google/gemini-flash-1.5-8b-exp"),
    ("openrouter", "google/lyria-3-clip-preview"),
    ("openrouter", "google/lyria-3-pro-preview"),
    ("openrouter", "stealth/crouton-alpha"),
}
"""Upstream knows no price of these and computes 0; unknown is no cost."""

PEAK_HOURS = {"deepseek-flash", "deepseek-v4-flash", "deepseek-v4-pro"}
"""DeepSeek bills off-peak on weekends since 2026-08-23, and had no peak hours before 2026-08-17; upstream's windows
hold on every day (its own ``price_comments``, pydantic/genai-prices#582)."""


def disagrees_on_peak_hours(model: str, at: datetime) -> bool:
    if model not in PEAK_HOURS or not (time(1) <= at.time() < time(4) or time(6) <= at.time() < time(10)):
        return False
    weekend = at >= datetime(2026, 8, 23, tzinfo=timezone.utc) and at.weekday() >= 5
    return weekend or (at < datetime(2026, 8, 17, tzinfo=timezone.utc) and model != "deepseek-flash")


def random_usage(rng: random.Random) -> Usage:
    """Consistent counts, sized so that every tier is crossed now and then."""

    def count(chance: float, most: float = 6.0) -> int:
        return int(10 ** rng.uniform(0, most)) if rng.random() < chance else 0

    if rng.random() < 0.3:
        return Usage(input_tokens=count(0.9), output_tokens=count(0.9))
    read, write, write_1h = count(0.6, 5.5), count(0.4), count(0.3)
    media = rng.random() < 0.4
    audio, audio_read, image = (count(0.5) * media for _ in range(3))
    reasoning, audio_out, image_out = count(0.4), count(0.3) * media, count(0.3) * media
    return Usage(
        input_tokens=count(0.9) + read + write + write_1h + audio + audio_read + image,
        output_tokens=count(0.9) + reasoning + audio_out + image_out,
        cache_read=read + audio_read,
        cache_write=write + write_1h,
        cache_write_1h=write_1h,
        reasoning=reasoning,
        audio_input=audio + audio_read,
        audio_cache_read=audio_read,
        audio_output=audio_out,
        image_input=image,
        image_output=image_out,
        web_searches=rng.randrange(4),
    )


def upstream_usage(usage: Usage) -> genai_prices.Usage:
    """The same usage in upstream's words, with the counts that seatrace does not know said to be 0."""
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read or 0,
        cache_write_tokens=usage.cache_write or 0,
        cache_write_1h_tokens=usage.cache_write_1h or 0,
        output_reasoning_tokens=usage.reasoning or 0,
        input_audio_tokens=usage.audio_input or 0,
        cache_audio_read_tokens=usage.audio_cache_read or 0,
        output_audio_tokens=usage.audio_output or 0,
        input_image_tokens=usage.image_input or 0,
        output_image_tokens=usage.image_output or 0,
        web_searches=usage.web_searches or 0,
        cache_image_read_tokens=0,
    )


def upstream_price(
    provider: str | None, model: str, usage: Usage, at: datetime, tier: str | None
) -> types.PriceCalculation | None:
    context = None
    if tier is not None:
        context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier, "speed": tier}
    try:
        return genai_prices.calc_price(
            upstream_usage(usage), model, provider_id=provider, genai_request_timestamp=at, price_context=context
        )
    except LookupError:
        return None


def assert_same(ours: Cost | None, theirs: types.PriceCalculation | None, what: object) -> None:
    assert (ours is None) == (theirs is None), (what, ours, theirs)
    if ours is not None and theirs is not None:
        for mine, exact in (
            (ours.total, theirs.total_price),
            (ours.input, theirs.input_price),
            (ours.output, theirs.output_price),
        ):
            assert mine == pytest.approx(float(exact), rel=1e-12, abs=0), (what, ours, theirs)


def moments(rng: random.Random, model: types.ModelInfo) -> Iterator[datetime]:
    """A random one, and both sides of every change of the model's price."""
    yield datetime(2024, 6, 1, tzinfo=timezone.utc) + timedelta(seconds=rng.randrange(3 * 365 * 86_400))
    conditional = [] if isinstance(model.prices, types.ModelPrice) else model.prices
    for item in (*conditional, *(model.price_variants or ())):
        if isinstance(item.constraint, types.StartDateConstraint):
            start = datetime.combine(item.constraint.start_date, time(), timezone.utc)
            yield from (start, start - timedelta(microseconds=1))
        elif item.constraint is not None:
            for day, edge in itertools.product(DAYS, (item.constraint.start_time, item.constraint.end_time)):
                moment = datetime.combine(day, edge.replace(tzinfo=None), timezone.utc)
                yield from (moment, moment - timedelta(microseconds=1))


def references(rng: random.Random, model: types.ModelInfo) -> list[str]:
    """The model's id and one more name that its rule lets through."""
    names: list[str] = []

    def walk(clause: object) -> None:
        for part in getattr(clause, "or_", None) or getattr(clause, "and_", None) or ():
            walk(part)
        match clause:
            case types.ClauseEquals():
                names.append(clause.equals)
            case types.ClauseStartsWith():
                names.extend([clause.starts_with, f"{clause.starts_with}-20261005", f"{clause.starts_with}-latest"])
            case types.ClauseContains():
                names.extend([f"any/{clause.contains}", f"us.{clause.contains}-v1:0"])
            case types.ClauseEndsWith():
                names.append(f"any-{clause.ends_with}")

    walk(model.match)
    return [model.id, rng.choice(names).upper()] if names else [model.id]


MODELS = [(provider, model) for provider in PROVIDERS for model in provider.models]


def test_every_bundled_model_costs_what_upstream_computes() -> None:
    rng, book, compared = random.Random(SEED), PriceBook(), 0
    unmeasured, not_free, peak_hours = set(), set(), set()
    for provider, model in MODELS:
        tiers = [None, *TIERS] if model.price_variants else [None]
        for reference in references(rng, model):
            for at in moments(rng, model):
                for tier in tiers * ROUNDS:
                    usage = random_usage(rng)
                    theirs = upstream_price(provider.id, reference, usage, at, tier)
                    ours = book.price_usage(provider.id, [reference], usage, at=at, service_tier=tier)
                    compared += 1
                    found = (provider.id, theirs.model.id) if theirs else (provider.id, model.id)
                    if found in UNMEASURED and ours is None:
                        unmeasured.add(found)
                    elif found in NOT_FREE and ours is None:
                        not_free.add(found)
                    elif provider.id == "deepseek" and disagrees_on_peak_hours(found[1], at):
                        assert ours is not None
                        assert theirs is not None
                        assert ours.total <= float(theirs.total_price)  # off-peak
                        peak_hours.add(found[1])
                    else:
                        assert_same(ours, theirs, (provider.id, reference, usage, at, tier))
    assert compared > 15_000
    assert (unmeasured, not_free, peak_hours) == (UNMEASURED, NOT_FREE, PEAK_HOURS)


def test_a_model_without_a_provider_is_found_by_its_name() -> None:
    rng, book = random.Random(SEED), PriceBook()
    skip = UNMEASURED | NOT_FREE
    at = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    for _, model in rng.sample(MODELS, 400):
        usage = random_usage(rng)
        theirs = upstream_price(None, model.id, usage, at, None)
        if theirs is None or (theirs.provider.id, theirs.model.id) not in skip:
            assert_same(book.price_usage(None, [model.id], usage, at=at), theirs, (model.id, usage))


def test_a_seller_of_other_makers_models_falls_back_to_their_prices() -> None:
    rng, book = random.Random(SEED), PriceBook()
    at = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    by_id = {provider.id: provider for provider in PROVIDERS}
    for seller in PROVIDERS:
        for maker in seller.fallback_model_providers or ():
            for model in by_id[maker].models:
                usage, tier = random_usage(rng), rng.choice([None, *TIERS])
                theirs = upstream_price(seller.id, model.id, usage, at, tier)
                if theirs is not None and (maker, theirs.model.id) in UNMEASURED:
                    continue
                ours = book.price_usage(seller.id, [model.id], usage, at=at, service_tier=tier)
                assert_same(ours, theirs, (seller.id, model.id, usage, tier))


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-20240806"),  # a compact date is read as the dashed one
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::x"),
        ("anthropic", "claude-opus-5-5-20261001"),
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929"),
        ("litellm", "anthropic/claude-sonnet-4-5"),
        ("litellm", "gpt-4o"),
        ("litellm", "nowhere/gpt-4o"),
        ("openrouter", "openai/gpt-6-sol-20261001"),
        ("openrouter", "no-such-model"),
        ("no-such-provider", "gpt-4o"),
        (" OpenAI ", "GPT-4o"),
    ],
)
def test_names_are_matched_as_upstream_matches_them(provider: str, model: str) -> None:
    usage, at = Usage(input_tokens=1_000, output_tokens=1_000), datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    assert_same(
        PriceBook().price_usage(provider, [model], usage, at=at),
        upstream_price(provider, model, usage, at, None),
        (provider, model),
    )
