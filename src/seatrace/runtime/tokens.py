"""How many tokens a request will have: :func:`count_tokens`, offline, with bounds, and better with every call seen.

The number is an estimate; truncate and budget by ``high``. :func:`calibrate_tokens` compares estimates with what the
providers then count, and corrects each model's.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from seatrace.core import pipeline, signals
from seatrace.core.record import Call
from seatrace.emit import semconv
from seatrace.emit.catalogue import patterns

from ._contents import Media, contents
from ._tokenizers import Tokenizer, is_openai, tokenizer_for
from ._wordcount import CLAUDE, OPENAI, count_text

__all__ = ["TokenEstimate", "calibrate_tokens", "count_tokens"]

_MESSAGE = 4
"""Tokens around each message: its role and marks."""
_TOOL = 8
"""Tokens around each tool's definition."""
_CLAUDE_TOOLS = 346
"""Tokens of the system prompt that Anthropic adds to a request with tools (its documentation)."""


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """Tokens, and how sure that is."""

    n: int
    low: int
    high: int
    """Rarely less than the true count: what to budget by."""
    method: str
    """``"heuristic"``, ``"calibrated"``, or the tokenizer's name."""


def count_tokens(
    value: Any,
    model: str | None = None,
    *,
    provider: str | None = None,
    tools: Iterable[Any] | None = None,
    tokenizer: Callable[[str], int] | None = None,
) -> TokenEstimate:
    """The input tokens of a text, a message, or a list of messages in any of the forms that :func:`fit_messages` takes.

    Never reaches for the network. Uses ``bpe-openai``, ``tiktoken`` (its vocabulary must be cached) or ``ctok`` where
    installed, else a rule by the shape of words. Images, audio and files count by rule, with wide bounds.

    Args:
        value: What is to be sent. Objects of the client libraries are read like the JSON that they stand for.
        model: Whose tokens; unknown ones get wider bounds.
        provider: ``gen_ai.provider.name``, where one model is known by several.
        tools: Definitions of tools that are sent along.
        tokenizer: Counts a text; in place of those.
    """
    counter = Counter(model, provider, tokenizer)
    total = counter.count(value) + (counter.count_tools(tools) if tools is not None else Tally())
    if not isinstance(value, str):
        expect(counter, total)
    return counter.estimate(total)


@dataclass(frozen=True, slots=True)
class Tally:
    """Tokens before correction: the words', and the least, likely and most of what counts by rule."""

    words: float = 0.0
    low: float = 0.0
    ruled: float = 0.0
    high: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.words + other.words, self.low + other.low, self.ruled + other.ruled, self.high + other.high)

    def __sub__(self, other: Tally) -> Tally:
        return Tally(self.words - other.words, self.low - other.low, self.ruled - other.ruled, self.high - other.high)


class Counter:
    """Counts for one model."""

    def __init__(
        self, model: str | None, provider: str | None = None, tokenizer: Callable[[str], int] | None = None
    ) -> None:
        name = (model or "").rpartition("/")[2].lower()
        self.model = model
        self.provider = provider
        self._claude = "claude" in name
        self._weights = CLAUDE if self._claude else OPENAI
        self._spread = (0.75, 1.4) if self._claude else (0.82, 1.25) if is_openai(name) else (0.7, 1.5)
        if tokenizer is not None:
            self._tokenizer: Tokenizer | None = Tokenizer("own", tokenizer)
        else:
            self._tokenizer = tokenizer_for(model) if model else None
        self._guessed = False

    def count(self, value: Any) -> Tally:
        """The tokens of a text, a message or several."""
        if isinstance(value, str):
            return Tally(self._text(value))
        messages = value if isinstance(value, (list, tuple)) else [value]
        total = Tally()
        for message in messages:
            total += Tally(0, _MESSAGE - 1, _MESSAGE, _MESSAGE + 2)
            for part in contents(message):
                total += Tally(self._text(part)) if isinstance(part, str) else _media(part)
        return total

    def count_tools(self, tools: Iterable[Any]) -> Tally:
        """The tokens of tool definitions: providers rewrite the schemas, mostly into less."""
        total = Tally()
        for tool in tools:
            words = sum(self._text(part) for part in contents(tool, whole=True) if isinstance(part, str))
            total += Tally(0, 0.5 * words + _TOOL / 2, 0.8 * words + _TOOL, 1.2 * words + 2 * _TOOL)
        if self._claude and total.high:
            total += Tally(0, 0, _CLAUDE_TOOLS, 2 * _CLAUDE_TOOLS)
        return total

    def estimate(self, total: Tally) -> TokenEstimate:
        """The bounded estimate of what was counted."""
        if self._tokenizer is not None and not self._guessed:
            return _rounded(total, (1.0, 0.97, 1.03), self._tokenizer.name)
        factor, low, high, known = calibration.bounds(self.provider, self.model, self._spread)
        return _rounded(total, (factor, low, high), "calibrated" if known else "heuristic")

    def _text(self, text: str) -> float:
        tokenizer = self._tokenizer
        if tokenizer is not None and (tokenizer.longest is None or len(text) <= tokenizer.longest):
            return tokenizer.count(text)
        self._guessed = True
        return count_text(text, self._weights)


def _rounded(total: Tally, factors: tuple[float, float, float], method: str) -> TokenEstimate:
    factor, low, high = factors
    return TokenEstimate(
        round(total.words * factor + total.ruled),
        math.floor(total.words * low + total.low),
        math.ceil(total.words * high + total.high),
        method,
    )


def _media(part: Media) -> Tally:
    """Images by the tiles that providers charge (OpenAI 85 to 1,445, Anthropic up to about 1,600); the rest by size: a
    page of a document is 1,500 to 3,000, a second of audio about 10 to 32."""
    if part.kind == "image":
        return Tally(0, 65, 85, 300) if part.small else Tally(0, 85, 1_000, 1_700)
    size = part.size
    if size is None:
        return Tally(0, 50, 1_500, 8_000)
    return Tally(0, size / 200 + 10, size / 60 + 100, size / 10 + 500)


# --- learning from what providers count -------------------------------------------------------------------------------

_MODELS = 500
_ENOUGH = 8
"""Calls of a model after which its own spread replaces the prior one."""
_FORGET = 0.05
"""How much the newest call weighs, once there are more than its inverse."""
_SANE = 4.0
"""An estimate this many times off was of something else than the call."""
_LEAST = 20


class Calibration:
    """What is known of each model: the mean and spread of log(counted / estimated)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str | None, str | None], tuple[int, float, float]] = OrderedDict()

    def learn(self, provider: str | None, model: str | None, ratio: float) -> None:
        """A call of ``model`` had ``ratio`` times the tokens that were estimated without correction."""
        if not 1 / _SANE <= ratio <= _SANE:
            return
        value = math.log(ratio)
        with self._lock:
            for key in {(provider, model), (None, model)}:
                count, mean, variance = self._known.pop(key, (0, 0.0, 0.0))
                weight = max(_FORGET, 1 / (count + 1))
                step = value - mean
                mean += weight * step
                variance = (1 - weight) * (variance + weight * step * step)
                self._known[key] = (count + 1, mean, variance)
                while len(self._known) > _MODELS:
                    self._known.popitem(last=False)

    def bounds(
        self, provider: str | None, model: str | None, spread: tuple[float, float]
    ) -> tuple[float, float, float, bool]:
        """Factors for the estimate, its low and its high; and whether the model is known."""
        with self._lock:
            count, mean, variance = self._known.get((provider, model), (0, 0.0, 0.0))
        if not count:
            return (1.0, *spread, False)
        factor = math.exp(mean)
        low, high = spread
        if count >= _ENOUGH:
            width = math.exp(3 * math.sqrt(variance) + 0.03)
            low, high = max(low, 1 / width), min(high, width)
        return factor, factor * low, factor * high, True

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._known.clear()


calibration = Calibration()

_expected: ContextVar[tuple[Counter, Tally] | None] = ContextVar("seatrace_expected_tokens", default=None)
_stop: Callable[[], None] | None = None


def expect(counter: Counter, total: Tally) -> None:
    """Notes what the next call of the counter's model here is thought to have; nothing, while nobody learns."""
    if _stop is not None and counter.model is not None:
        _expected.set((counter, total))


def calibrate_tokens() -> Callable[[], None]:
    """Learns from now on how far estimates are off, a model at a time; returns a function that stops it.

    An estimate is compared with the provider's count where :func:`count_tokens` of messages, or :func:`fit_messages`,
    came right before the observed call to the same model, in the same task or thread: count what you send. Emits
    ``seatrace.token_estimate.error``. Twice is once.
    """
    global _stop
    if _stop is None:
        _stop = pipeline.add_gate(_watch)
    return _stop_calibrating


def _stop_calibrating() -> None:
    global _stop
    if _stop is not None:
        _stop()
        _stop = None


def _watch(call: Call) -> None:
    """Before a call: whether it is the one that was counted."""
    expected = _expected.get()
    if expected is None or call.kind != "inference" or call.request_model != expected[0].model:
        return
    _expected.set(None)
    call.on_end = [*(call.on_end or ()), partial(_compare, *expected)]


def _compare(counter: Counter, total: Tally, call: Call) -> None:
    counted = call.usage.input_tokens if call.usage is not None else None
    if counted is None or counted < _LEAST:
        return
    estimate = counter.estimate(total)
    attributes = {semconv.PROVIDER_NAME: call.provider or "", semconv.REQUEST_MODEL: call.request_model or ""}
    signals.measure(patterns.TOKEN_ESTIMATE_ERROR, estimate.n / counted, attributes)
    words = counted - total.ruled
    if estimate.method in ("heuristic", "calibrated") and total.words > 0 and words > 0 and total.ruled < total.words:
        calibration.learn(call.provider, call.request_model, words / total.words)
