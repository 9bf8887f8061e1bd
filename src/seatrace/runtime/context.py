"""A conversation made to fit a model's context: :func:`fit_messages`.

What goes out is what a provider accepts: tool calls keep their results, system messages and the newest user message
stay, and the budget is held by the estimate's upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from seatrace.core import signals
from seatrace.emit import semconv
from seatrace.emit.catalogue import patterns
from seatrace.errors import ConfigError, SeatraceError

from ._contents import plain
from ._forms import FORMS, Conversation, FormName, Message, Rewrite, Turn, form_of, read
from ._options import check_choice, check_count
from .tokens import Counter, Tally, TokenEstimate, expect

__all__ = ["ContextTooSmall", "Fit", "fit_messages"]

M = TypeVar("M")


class ContextTooSmall(SeatraceError):
    """What must be kept does not fit, however much is shortened."""


@dataclass(frozen=True, slots=True)
class Fit(Generic[M]):
    """A conversation that fits."""

    messages: list[M]
    """In their order; those that were not shortened are the very objects that were given."""
    tokens_before: TokenEstimate
    """With tools and system prompt, where those were given."""
    tokens_after: TokenEstimate
    dropped: tuple[int, ...] = ()
    """Places of the messages that were left out, those included that no provider would have accepted."""
    truncated: tuple[int, ...] = ()
    """Places of the messages that were shortened."""
    cache_prefix_broken: bool = False
    """Whether the provider's prompt cache, which knows the beginning of the conversation, is of no more use."""


def fit_messages(
    messages: Sequence[M],
    max_tokens: int,
    *,
    model: str | None = None,
    provider: str | None = None,
    form: FormName | None = None,
    system: Any = None,
    tools: Iterable[Any] | None = None,
    reserve_output: int = 1024,
    pin: Callable[[M], bool] | None = None,
    truncate_tool_results: int | None = 2000,
    stub: str = "[{n} tokens omitted]",
    tokenizer: Callable[[str], int] | None = None,
) -> Fit[M]:
    """Leaves out and shortens as little as needed for ``messages`` to fit into ``max_tokens``. Changes no message.

    Kept in any case: system messages, pinned ones, the newest user message, and what the model did last. Then as much
    as fits: the model's steps since the newest user message, from the last back; what lies before a cache mark
    (Anthropic's ``cache_control``); older turns, from the last back, one that is too large without its tool calls or
    not at all. A user message is kept with each step that answers it. Only tool results are shortened, and where what
    must be kept is too large for itself, the newest user message.

    Args:
        messages: In the form of OpenAI's chat or responses, of Anthropic or of Gemini: JSON, or the client library's
            objects.
        max_tokens: What the model's context holds, input and output together.
        model: Whose tokens; see :func:`~seatrace.runtime.count_tokens`.
        provider: ``gen_ai.provider.name``, where one model is known by several.
        form: Where it is not to be guessed: ``"openai_chat"``, ``"openai_responses"``, ``"anthropic"``, ``"gemini"``.
        system: A system prompt that is sent beside the messages.
        tools: Definitions of tools that are sent along.
        reserve_output: Tokens left for the answer.
        pin: Says of a message that it must be kept, with what belongs to it.
        truncate_tool_results: Tokens above which a tool result is shortened before it is left out; ``None``: never.
        stub: Stands where text was taken out; ``{n}`` is how many tokens that had.
        tokenizer: Counts a text; in place of what is installed.

    Raises:
        ContextTooSmall: Even that is too large.
        ConfigError: An option makes no sense.
    """
    check_count("max_tokens", max_tokens)
    check_count("reserve_output", reserve_output, least=0)
    if truncate_tool_results is not None:
        check_count("truncate_tool_results", truncate_tool_results)
    try:
        stub.format(n=1)
    except (LookupError, ValueError) as error:
        raise ConfigError(f"stub: expected a format with no field but {{n}}, got {stub!r} ({error!r})") from None
    if form is not None:
        check_choice("form", form, tuple(FORMS))
    for at, each in enumerate(messages):
        if not isinstance(plain(each), Mapping):
            raise ConfigError(f"messages: expected a mapping or a client library's object at {at}, got {each!r:.80}")
    counter = Counter(model, provider, tokenizer)
    talk = read(messages, FORMS[form] if form is not None else form_of(messages, model, provider))
    beside = counter.count(system) if system is not None else Tally()
    if tools is not None:
        beside += counter.count_tools(tools)
    work = _Fitting(talk, counter, beside, max_tokens - reserve_output, truncate_tool_results, stub)
    if not work.fits_whole():
        work.choose(_pinned(messages, pin))
    fit = cast("Fit[M]", work.result())
    expect(counter, work.total)
    _measure(fit, len(messages))
    return fit


class _Fitting:
    """Chooses what stays."""

    def __init__(
        self, talk: Conversation, counter: Counter, beside: Tally, budget: int, most_result: int | None, stub: str
    ) -> None:
        self._talk = talk
        self._counter = counter
        self._budget = budget
        self._most_result = most_result
        self._stub = stub
        self._sizes = [counter.count(each) for each in talk.plain]
        self._variants: dict[tuple[int, int | None], tuple[Any, Tally]] = {}
        self._kept: dict[int, Any] = {}
        self._truncated: set[int] = set(talk.mended)
        self._before = beside
        for size in self._sizes:
            self._before += size
        self.total = beside
        """Of what was chosen so far."""

    def fits_whole(self) -> bool:
        """Keeps everything, if it may stay."""
        if self._talk.broken or not self._holds(self._before):
            return False
        self._kept = dict(enumerate(self._talk.messages))
        self.total = self._before
        return True

    def choose(self, pinned: set[int]) -> None:
        """Keeps what must be kept, then what fits."""
        turns = self._talk.turns
        newest = turns[-1] if turns else Turn(None)
        heads = [turn for turn in turns if turn.head is not None]
        self._keep_needed(self._needed(pinned), heads[-1].head if heads else None)
        for group in reversed(newest.groups):
            self._try(group)
        marked = self._marked()
        before = [turn for turn in turns if (turn.head if turn.head is not None else turn.groups[0][0]) < marked]
        self._try([place for turn in before for place in _places(turn)])
        for turn in reversed(turns):
            if not self._try(_places(turn)) and turn.head is not None and turn.groups:
                last = turn.groups[-1]
                self._try([turn.head, *last])

    def result(self) -> Fit[Any]:
        """What was chosen."""
        places = sorted(self._kept)
        truncated = tuple(sorted(self._truncated & self._kept.keys()))
        dropped = tuple(at for at in range(len(self._talk.messages)) if at not in self._kept)
        changed = min((*dropped, *truncated), default=len(self._talk.messages))
        return Fit(
            [self._kept[at] for at in places],
            self._counter.estimate(self._before),
            self._counter.estimate(self.total),
            dropped,
            truncated,
            changed < (self._marked() or self._sent_before()),
        )

    # --- what must be kept --------------------------------------------------------------------------------------------

    def _needed(self, pinned: set[int]) -> list[int]:
        turns = self._talk.turns
        needed = set(self._talk.system)
        for turn in turns:
            for group in turn.groups:
                if pinned & set(group):
                    needed.update(group, [] if turn.head is None else [turn.head])
            if turn.head is not None and turn.head in pinned:
                needed.add(turn.head)
        if turns:
            if turns[-1].groups:
                needed.update(turns[-1].groups[-1])
            heads = [turn.head for turn in turns if turn.head is not None]
            needed.update(heads[-1:])
        return sorted(needed)

    def _keep_needed(self, needed: list[int], head: int | None) -> None:
        """Keeps them as they are, or with ever shorter tool results, or also with a shorter user message."""
        limits: list[int | None] = [None]
        if self._most_result is not None:
            limits += [self._most_result // 2**step for step in range(8) if self._most_result // 2**step >= 16]
        for limit in limits:
            if self._try(needed, limit):
                return
        total = self._with(others := [at for at in needed if at != head], limits[-1])
        if head is not None and self._keep_shortened(head, total):
            self._keep(others, limits[-1])
            return
        least = self._counter.estimate(self._with(needed, limits[-1])).high
        raise ContextTooSmall(
            f"fit_messages: expected a budget of at least about {least} tokens for what must be kept (system, pinned "
            f"and the newest messages, tools), got {self._budget}. Raise max_tokens, or shorten those."
        )

    def _keep_shortened(self, head: int, others: Tally) -> bool:
        """Some of its words at least: a question of which only the stub is left asks nothing."""
        room = self._budget - self._counter.estimate(others).high
        stub_of = self._shortener(0)
        for part in (1.0, 0.85, 0.7, 0.5, 0.3, 0.1):
            shorten = self._shortener(int(room * part))
            words: list[bool] = []

            def rewrite(text: str, shorten: Rewrite = shorten, words: list[bool] = words) -> str:
                short = shorten(text)
                words.append(bool(text) and (short == text or short != stub_of(text)))
                return short

            message = self._talk.form.rewrite_text(self._talk.plain[head], rewrite)
            size = self._counter.count(message)
            if room > 0 and any(words) and self._holds(others + size):
                self.total += size
                self._kept[head] = message
                self._truncated.add(head)
                return True
        return False

    # --- what fits ----------------------------------------------------------------------------------------------------

    def _try(self, places: list[int], limit: int | None = None) -> bool:
        """Keeps all of ``places``, their tool results shortened where that helps; or none."""
        tries = (limit,) if limit is not None or self._most_result is None else (None, self._most_result)
        for each in tries:
            if self._holds(self._with(places, each)):
                self._keep(places, each)
                return True
        return False

    def _with(self, places: list[int], limit: int | None) -> Tally:
        total = self.total
        for at in places:
            if at not in self._kept:
                total += self._variant(at, limit)[1]
        return total

    def _keep(self, places: list[int], limit: int | None) -> None:
        for at in places:
            if at not in self._kept:
                message, size = self._variant(at, limit)
                self._kept[at] = message
                self.total += size
                if message is not self._talk.messages[at]:
                    self._truncated.add(at)

    def _variant(self, at: int, limit: int | None) -> tuple[Any, Tally]:
        known = self._variants.get((at, limit))
        if known is None:
            known = self._variants[at, limit] = self._make_variant(at, limit)
        return known

    def _make_variant(self, at: int, limit: int | None) -> tuple[Any, Tally]:
        talk, size = self._talk, self._sizes[at]
        if limit is None or talk.form.role(talk.plain[at]) != "result" or self._counter.estimate(size).high <= limit:
            return talk.messages[at], size
        shorter = talk.form.rewrite_results(talk.plain[at], self._shortener(limit))
        now = self._counter.count(shorter)
        smaller = self._counter.estimate(now).high < self._counter.estimate(size).high
        return (shorter, now) if smaller else (talk.messages[at], size)

    def _shortener(self, most: int) -> Rewrite:
        def size(text: str) -> int:
            return self._counter.estimate(self._counter.count(text)).high

        return lambda text: shortened(text, most, size, self._stub)

    def _holds(self, total: Tally) -> bool:
        return self._counter.estimate(total).high <= self._budget

    # --- the provider's prompt cache ----------------------------------------------------------------------------------

    def _marked(self) -> int:
        """How many messages lie before the last cache mark."""
        places = [at for at, each in enumerate(self._talk.plain) if _has_mark(each)]
        return places[-1] + 1 if places else 0

    def _sent_before(self) -> int:
        """How many messages the provider has likely seen already: all up to the model's last."""
        roles = [self._talk.form.role(each) for each in self._talk.plain]
        return max((at + 1 for at, role in enumerate(roles) if role == "model"), default=0)


def _places(turn: Turn) -> list[int]:
    return ([] if turn.head is None else [turn.head]) + [at for group in turn.groups for at in group]


def _pinned(messages: Sequence[M], pin: Callable[[M], bool] | None) -> set[int]:
    return set() if pin is None else {at for at, each in enumerate(messages) if pin(each)}


def _has_mark(message: Message) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, (list, tuple)) else ()
    return any(hasattr(part := plain(each), "get") and part.get("cache_control") for each in parts)


def shortened(text: str, most: int, size: Callable[[str], int], stub: str) -> str:
    """``text`` without its middle, ``most`` tokens long at most; without all of it where that is too little."""
    whole = size(text)
    if whole <= most:
        return text
    keep = int(len(text) * max(most, 0) / whole)
    keep = keep if keep >= 8 else 0  # fewer characters say nothing
    for _ in range(12):
        omitted = stub.format(n=max(1, round(whole * (1 - keep / len(text)))))
        head = keep * 3 // 5
        made = f"{text[:head]}{omitted}{text[len(text) - (keep - head) :]}"
        if size(made) <= most or keep == 0:
            return made if len(made) < len(text) else text
        keep = keep * 4 // 5 if keep > 8 else 0
    return stub.format(n=whole)


def _measure(fit: Fit[Any], count: int) -> None:
    for stage, tokens in (("before", fit.tokens_before), ("after", fit.tokens_after)):
        signals.measure(patterns.CONTEXT_TOKENS, tokens.n, {semconv.CONTEXT_STAGE: stage})
    actions = {
        "kept": count - len(fit.dropped) - len(fit.truncated),
        "dropped": len(fit.dropped),
        "truncated": len(fit.truncated),
    }
    for action, number in actions.items():
        if number:
            signals.measure(patterns.CONTEXT_MESSAGES, number, {semconv.CONTEXT_ACTION: action})
