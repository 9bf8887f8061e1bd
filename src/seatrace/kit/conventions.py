"""Where the same question is answered by other metrics before and since v0.1.0 of the GenAI conventions.

Boards and rules ask here, so that one text of theirs serves both, and any emitter of them: what seatrace adds
(cost, budgets, caches, …) is simply empty for others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from seatrace.emit import catalogue, semconv

from .promql import Match, Series, buckets, equal, matches, series, sums

Semconv = Literal["latest", "legacy"]

FAILED: Final = Match(semconv.ERROR_TYPE, "!~", "|CancelledError|GeneratorExit|KeyboardInterrupt|SystemExit")
"""The condition on series of what failed. What the program itself broke off did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventions:
    """What one generation of the conventions calls it. Series of histograms are their buckets; ``.counts()`` and
    ``.sums()`` are the other parts of the same."""

    semconv: Semconv
    calls: Series
    """Duration of model calls, one value a call; failed ones have an ``error.type``."""
    first_chunk: Series
    output_chunk: Series
    embeddings: Series
    """Duration of embeddings calls."""
    others: Series
    """Duration of calls that are neither."""
    input_tokens: Series
    """What model calls sent, as something to take a rate of; cached tokens included."""
    output_tokens: Series
    call_input: Series
    """Input tokens a model call."""
    call_output: Series
    embeddings_input: Series
    """Input tokens an embeddings call."""


_INFERENCE: Final = "chat|text_completion|generate_content|compact"
"""The operations of model calls. Before v0.1.0 they share a metric with all others."""


def _legacy(metric: catalogue.Metric, *where: Match) -> Series:
    return buckets(metric, matches(semconv.OPERATION_NAME, _INFERENCE), *where)


_SENT = equal(semconv.TOKEN_TYPE_LEGACY, "input")
_SAID = equal(semconv.TOKEN_TYPE_LEGACY, "output")
_EMBEDDINGS = equal(semconv.OPERATION_NAME, "embeddings")

LATEST: Final = Conventions(
    semconv="latest",
    calls=buckets(catalogue.INFERENCE_DURATION),
    first_chunk=buckets(catalogue.TIME_TO_FIRST_CHUNK),
    output_chunk=buckets(catalogue.TIME_PER_OUTPUT_CHUNK),
    embeddings=buckets(catalogue.EMBEDDINGS_DURATION),
    others=buckets(catalogue.OPERATION_DURATION),
    input_tokens=series(catalogue.INPUT_TOKENS),
    output_tokens=series(catalogue.OUTPUT_TOKENS),
    call_input=buckets(catalogue.CALL_INPUT_TOKENS),
    call_output=buckets(catalogue.CALL_OUTPUT_TOKENS),
    embeddings_input=buckets(catalogue.EMBEDDINGS_INPUT_TOKENS),
)
LEGACY: Final = Conventions(
    semconv="legacy",
    calls=_legacy(catalogue.OPERATION_DURATION),
    first_chunk=buckets(catalogue.TIME_TO_FIRST_CHUNK_LEGACY),
    output_chunk=buckets(catalogue.TIME_PER_OUTPUT_CHUNK_LEGACY),
    embeddings=buckets(catalogue.OPERATION_DURATION, _EMBEDDINGS),
    others=buckets(catalogue.OPERATION_DURATION, Match(semconv.OPERATION_NAME, "!~", f"{_INFERENCE}|embeddings")),
    input_tokens=sums(catalogue.TOKEN_USAGE_LEGACY, matches(semconv.OPERATION_NAME, _INFERENCE), _SENT),
    output_tokens=sums(catalogue.TOKEN_USAGE_LEGACY, matches(semconv.OPERATION_NAME, _INFERENCE), _SAID),
    call_input=_legacy(catalogue.TOKEN_USAGE_LEGACY, _SENT),
    call_output=_legacy(catalogue.TOKEN_USAGE_LEGACY, _SAID),
    embeddings_input=buckets(catalogue.TOKEN_USAGE_LEGACY, _EMBEDDINGS, _SENT),
)


def conventions(semconv: Semconv) -> Conventions:
    """The names of a generation."""
    return LATEST if semconv == "latest" else LEGACY
