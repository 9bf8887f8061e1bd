"""What a call will use at most, and what it has used, in the unit of a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from seatrace.core import pipeline
from seatrace.core.record import Call, Usage

Unit = Literal["usd", "tokens", "calls", "seconds"]

PARTS: Mapping[str, int] = {"usd": 10**9, "tokens": 1, "calls": 1, "seconds": 10**6}
"""Into how many parts a unit is divided: amounts are kept as whole numbers of them."""

MOST = 2**52
"""Parts that an amount or a limit has at most, so that sums stay exact also where numbers are floats (Redis' Lua)."""

TOKENS_PER_BYTE = 0.75
"""High on purpose. Measured: English prose 0.25 tokens a byte, logs 0.53, base64 0.66, Chinese 0.28."""

OUTPUT_TOKENS = 4096
"""Reserved for the answer of a call that names no limit of its own. Name one."""

_MEDIA_TOKENS = 2000
_MEDIA_TYPES = frozenset({"image", "image_url", "input_image", "document", "file", "input_file", "input_audio"})
_ENCODED_FROM = 2000
"""Characters of a text without a blank in its beginning from which on it is a file in base64."""

_DEPTH = 12


class Amount(NamedTuple):
    """Parts of the unit."""

    parts: int
    known: bool = True
    """False where the price is not known."""


def expected_usage(call: Call) -> Usage:
    """The tokens that ``call`` uses at most, as far as can be seen before it: every byte of the request at
    :data:`TOKENS_PER_BYTE`, and the whole answer that it allows."""
    output = 0 if call.kind == "embeddings" else (call.max_tokens or OUTPUT_TOKENS) * (call.choice_count or 1)
    output = max(0, output)  # the request is not checked yet
    return Usage(input_tokens=_tokens(call.request, _DEPTH), output_tokens=output)


def expected(unit: Unit, call: Call, usage: Usage) -> Amount:
    """What to reserve. The time that a call takes cannot be known before: it reserves nothing."""
    if unit == "calls":
        return Amount(1)
    if unit == "seconds":
        return Amount(0, known=False)
    if unit == "tokens":
        return Amount(_sum(usage))
    return _priced(call, usage)


def used(unit: Unit, call: Call, usage: Usage) -> Amount:
    """What ``call``, which has ended, has used. Where the provider did not say: nothing if the call failed before an
    answer began, else the request as estimated, and a token for each chunk that arrived."""
    if unit == "calls":
        return Amount(1)
    if unit == "seconds":
        return Amount(parts_of(unit, call.duration))
    if unit == "usd" and call.cost is not None:
        return Amount(parts_of("usd", call.cost.total), known=call.cost.currency == "USD")
    stated = call.usage
    if stated is not None and (stated.input_tokens is not None or stated.output_tokens is not None):
        return Amount(_sum(stated)) if unit == "tokens" else Amount(0, known=False)
    if call.error_type is not None and not call.first_chunk_clock:
        return Amount(0)
    if call.stream:
        usage = Usage(usage.input_tokens, len(call.gaps or ()) + 1 if call.first_chunk_clock else 0)
    return Amount(_sum(usage)) if unit == "tokens" else _priced(call, usage)


def parts_of(unit: Unit, amount: float) -> int:
    """Whole parts, upwards: a reservation is rather too high. What is no finite number at or above 0 is nothing."""
    if not 0 <= amount < math.inf:
        return 0
    return min(math.ceil(round(amount * PARTS[unit], 3)), MOST)


def _sum(usage: Usage) -> int:
    return int((usage.input_tokens or 0) + (usage.output_tokens or 0))


def _priced(call: Call, usage: Usage) -> Amount:
    """The price of ``usage`` at the model of ``call``, by the price book of the pipeline in force."""
    line = pipeline.current
    if line is None or line.price is None:
        return Amount(0, known=False)
    stated, call.usage = call.usage, usage
    try:
        cost = line.price(call)
    finally:
        call.usage = stated
    return Amount(0, known=False) if cost is None else Amount(parts_of("usd", cost.total))


def _tokens(value: Any, depth: int) -> int:
    if isinstance(value, str):
        if not value.isascii():
            return math.ceil(len(value.encode("utf-8", "surrogatepass")) * TOKENS_PER_BYTE)
        if len(value) > _ENCODED_FROM and " " not in value[:_ENCODED_FROM] and "\n" not in value[:70]:
            return max(_MEDIA_TOKENS, len(value) // 20)
        return math.ceil(len(value) * TOKENS_PER_BYTE)
    if depth == 0:
        return 0
    if isinstance(value, dict):
        media = _MEDIA_TOKENS if value.get("type") in _MEDIA_TYPES else 0
        return media + sum(4 + len(str(key)) + _tokens(each, depth - 1) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return sum(1 + _tokens(each, depth - 1) for each in value)
    return 0
