"""Which model a request goes to: :class:`ModelSelector` chooses by rules or a score, among the models that can serve.

What was chosen and why stands on the model call's span; what that saved is counted when the call has ended, from the
tokens that it really had.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol, TypeVar

from seatrace.core import pipeline, signals
from seatrace.core.record import Call, Cost, Usage
from seatrace.emit import semconv
from seatrace.emit.catalogue import patterns
from seatrace.errors import ConfigError, SeatraceError

from ._halves import concerns_an_item
from ._options import check_count, check_number
from ._routes import ModelOption, RouteRequest, options_of

__all__ = ["Choice", "ModelOption", "ModelSelector", "NoModelError", "RouteRequest"]

R = TypeVar("R")

Rule = tuple[Callable[[RouteRequest], bool], str]
"""Whether a request belongs to a tier, and that tier."""


class NoModelError(SeatraceError):
    """No model can serve the request. The message says why each cannot."""


class Remaining(Protocol):
    """A budget, as far as a selector asks it."""

    def remaining(self) -> float | None:
        """USD that are left; ``None``: no limit."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model for a request."""

    model: str
    tier: str
    reason: str
    """``"rule"``, ``"score"``, ``"default"``; or why not the first of that tier: ``"capability"``, ``"context"``,
    ``"cooldown"``, ``"budget"``, ``"fallback"``."""
    estimated_cost: float | None
    """USD for the estimated input and the output allowed; ``None``: no price is known."""
    estimated_saving: float | None
    """USD against the baseline model; negative where the choice is dearer."""
    option: ModelOption
    selector: ModelSelector


class ModelSelector:
    """Chooses a model: ``choose(request)``, or ``await call(request, make)`` and ``call_sync``, which try another one
    where a call fails.

    A request is the mapping of arguments that the client library is given. First its tier: by the first of ``rules``
    that fits, or by ``scorer`` and ``thresholds``, else ``default``. Then the first model of the tier that can serve it
    (tools, images, JSON, size of the context); else one of the higher tiers, then of the lower ones.

    Args:
        tiers: Models by tier, from the least to the most able; of a tier the preferred one first.
        rules: Pairs of a function and the tier for requests that it is true of.
        scorer: How hard a request is, in place of rules.
        thresholds: The least score of each tier.
        default: The tier where no rule fits; the last one if not said.
        baseline: The model that savings are measured against; the first of the last tier if not said.
        budget: Has ``remaining()``: where the estimated cost exceeds that, the cheapest model that can serve is taken.
            Refusing a call is the budget's own matter.
        output_tokens: What an answer is thought to have where the request does not limit it.
        falls_back: Whether an error lets ``call`` try another model. Default: not found, time-outs, rate limits, server
            errors, connections (HTTP status 404, 408, 409, 429 and from 500).
        cooldown: Seconds that a model is chosen last after such an error.
        price: Prices a call, where seatrace is off or another book is wanted (``PriceBook.price``).
        name: Stands on the metrics. Give it one of few values.
        clock: Seconds, for ``cooldown``.

    Raises:
        ConfigError: A tier is empty or unknown, or an option makes no sense.
    """

    def __init__(
        self,
        tiers: Mapping[str, Sequence[ModelOption | str]],
        *,
        rules: Sequence[Rule] = (),
        scorer: Callable[[RouteRequest], float] | None = None,
        thresholds: Mapping[str, float] | None = None,
        default: str | None = None,
        baseline: ModelOption | str | None = None,
        budget: Remaining | None = None,
        output_tokens: int = 500,
        falls_back: Callable[[Exception], bool] | None = None,
        cooldown: float = 30.0,
        price: Callable[[Call], Cost | None] | None = None,
        name: str = "models",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._tiers = options_of(tiers)
        if not self._tiers or not all(self._tiers.values()):
            raise ConfigError(f"tiers: expected at least one model in each tier, got {dict(tiers)!r}")
        if (scorer is None) != (thresholds is None) or (scorer is not None and rules):
            raise ConfigError("scorer: expected either rules, or a scorer with thresholds, got a mix")
        names = list(self._tiers)
        for option, tier in [("default", default), *(("rules", tier) for _, tier in rules)]:
            if tier is not None and tier not in names:
                raise ConfigError(f"{option}: expected a tier out of {', '.join(names)}, got {tier!r}")
        if thresholds is not None and not set(thresholds) <= set(names):
            raise ConfigError(f"thresholds: expected tiers out of {', '.join(names)}, got {', '.join(thresholds)}")
        self._rules = list(rules)
        self._scorer = scorer
        self._thresholds = sorted((thresholds or {}).items(), key=lambda each: -check_number("thresholds", each[1]))
        self._default = default or names[-1]
        best = self._tiers[names[-1]][0]
        self.baseline = best if baseline is None else ModelOption(baseline) if isinstance(baseline, str) else baseline
        self._budget = budget
        self._output_tokens = check_count("output_tokens", output_tokens)
        self._falls_back = falls_back or _is_passing
        self._cooldown = check_number("cooldown", cooldown)
        self._price = price
        self._clock = clock
        self._failed: dict[ModelOption, float] = {}
        self.name = name

    def choose(self, request: Mapping[str, Any]) -> Choice:
        """The model for ``request``. The next call to it from here carries the decision on its span.

        Raises:
            NoModelError: None can serve it.
        """
        return self._choose(RouteRequest(request, self._output_tokens))[0]

    async def call(self, request: Mapping[str, Any], make: Callable[[Choice], Awaitable[R]]) -> R:
        """Awaits ``make(choice)``; where that fails for a time, with the next model. The last error is raised as it
        is."""
        attempts = self._attempts(request)
        choice: Choice = next(attempts)
        while True:
            try:
                return await make(choice)
            except Exception as error:
                following: Choice | None = attempts.send(error)
                if following is None:
                    raise
                choice = following

    def call_sync(self, request: Mapping[str, Any], make: Callable[[Choice], R]) -> R:
        """:meth:`call` for functions that are not asynchronous."""
        attempts = self._attempts(request)
        choice: Choice = next(attempts)
        while True:
            try:
                return make(choice)
            except Exception as error:
                following: Choice | None = attempts.send(error)
                if following is None:
                    raise
                choice = following

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _choose(self, request: RouteRequest) -> tuple[Choice, list[tuple[str, ModelOption]]]:
        tier, reason = self._tier(request)
        able, why = self._able(request, tier)
        first = self._tiers[tier][0]
        if able[0][1] is not first:
            reason = why.get(first) or "cooldown"
        chosen = able[0]
        affordable = self._affordable(request, able)
        if affordable is not None and affordable is not chosen:
            chosen, reason = affordable, "budget"
        choice = self._decided(request, *chosen, reason)
        return choice, [each for each in able if each[1] != chosen[1]]

    def _tier(self, request: RouteRequest) -> tuple[str, str]:
        if self._scorer is not None:
            score = self._scorer(request)
            tier = next((tier for tier, least in self._thresholds if score >= least), None)  # NaN is no score
            return (self._default, "default") if tier is None else (tier, "score")
        return next(((tier, "rule") for rule, tier in self._rules if rule(request)), (self._default, "default"))

    def _able(self, request: RouteRequest, tier: str) -> tuple[list[tuple[str, ModelOption]], dict[ModelOption, str]]:
        names = list(self._tiers)
        at = names.index(tier)
        order = [*names[at:], *reversed(names[:at])]
        all_of = [(name, option) for name in order for option in self._tiers[name]]
        why = {option: lack for _, option in all_of if (lack := option.lacks(request)) is not None}
        able = [each for each in all_of if each[1] not in why]
        if not able:
            reasons = ", ".join(f"{option.model} ({lack})" for option, lack in why.items())
            raise NoModelError(
                f"ModelSelector {self.name!r}: expected a model for {request.tokens(all_of[0][1]).high} tokens of "
                f"input and {request.output_tokens} of output with {', '.join(sorted(request.needs)) or 'text alone'}; "
                f"none can: {reasons}. Add one to a tier, or fit the messages."
            )
        return sorted(able, key=lambda each: self._cools(each[1])), why

    def _affordable(self, request: RouteRequest, able: list[tuple[str, ModelOption]]) -> tuple[str, ModelOption] | None:
        left = self._budget.remaining() if self._budget is not None else None
        if left is None:
            return None
        costs = [(self._cost_of(request, each[1]), each) for each in able]
        if costs[0][0] is None or costs[0][0] <= left:
            return able[0]
        known = [(cost, at) for at, (cost, _) in enumerate(costs) if cost is not None]
        return able[min(known)[1]]

    def _decided(self, request: RouteRequest, tier: str, option: ModelOption, reason: str) -> Choice:
        cost, against = self._cost_of(request, option), self._cost_of(request, self.baseline)
        saving = None if cost is None or against is None else against - cost
        choice = Choice(option.model, tier, reason, cost, saving, option, self)
        attributes = {semconv.ROUTING_NAME: self.name, semconv.ROUTING_TIER: tier, semconv.ROUTING_REASON: reason}
        signals.measure(patterns.ROUTING_DECISIONS, 1, {**attributes, semconv.REQUEST_MODEL: option.model})
        signals.annotate(attributes)
        _follow(choice)
        return choice

    def _cost_of(self, request: RouteRequest, option: ModelOption) -> float | None:
        usage = Usage(input_tokens=request.tokens(option).n, output_tokens=request.output_tokens)
        return self.cost(option, usage)

    def cost(self, option: ModelOption, usage: Usage, like: Call | None = None) -> float | None:
        """USD of ``usage`` at ``option``; ``like`` is the call that had it, whose service tier counts."""
        line = pipeline.current
        price = self._price or (line.price if line is not None else None) or _bundled
        tier = None if like is None else like.response_service_tier or like.service_tier
        call = Call("inference", "chat", provider=option.provider, request_model=option.model, usage=usage)
        call.service_tier = tier
        cost = price(call)
        return None if cost is None else cost.total

    # --- trying another one -------------------------------------------------------------------------------------------

    def _attempts(self, arguments: Mapping[str, Any]) -> Generator[Any, Exception, None]:
        """A :class:`Choice`; for each error that is sent, the next one, or ``None``: that error is to be raised."""
        request = RouteRequest(arguments, self._output_tokens)
        choice, others = self._choose(request)
        error = yield choice
        while not isinstance(error, pipeline.Refused) and self._falls_back(error):
            self._failed[choice.option] = self._clock()
            if not others:
                break
            tier, option = others.pop(0)
            attributes = {
                semconv.ROUTING_NAME: self.name,
                semconv.ROUTING_FROM: choice.model,
                semconv.ROUTING_TO: option.model,
                semconv.ERROR_TYPE: type(error).__qualname__,
            }
            signals.measure(patterns.ROUTING_FALLBACKS, 1, attributes)
            choice = self._decided(request, tier, option, "fallback")
            error = yield choice
        yield None

    def _cools(self, option: ModelOption) -> bool:
        failed = self._failed.get(option)
        return failed is not None and 0 <= self._clock() - failed < self._cooldown


def _is_passing(error: Exception) -> bool:
    """Whether another model may fare better."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in (404, 408, 409, 429) or status >= 500
    return not concerns_an_item(error)


_book: Any = None


def _bundled(call: Call) -> Cost | None:
    global _book
    if _book is None:
        from seatrace.process.price import PriceBook

        _book = PriceBook()
    return _book.price(call)  # type: ignore[no-any-return]


# --- what became of a choice ------------------------------------------------------------------------------------------

_chosen: ContextVar[Choice | None] = ContextVar("seatrace_choice", default=None)
_following = False


def _follow(choice: Choice) -> None:
    global _following
    _chosen.set(choice)
    if not _following:
        _following = True
        pipeline.add_gate(_watch)


def _watch(call: Call) -> None:
    """Before a call: whether it is the one that was chosen for."""
    choice = _chosen.get()
    if choice is None or call.kind != "inference" or call.request_model != choice.model:
        return
    _chosen.set(None)
    call.attributes[semconv.ROUTING_NAME] = choice.selector.name
    call.attributes[semconv.ROUTING_TIER] = choice.tier
    call.attributes[semconv.ROUTING_REASON] = choice.reason
    call.on_end = [*(call.on_end or ()), lambda ended: _save(choice, ended)]


def _save(choice: Choice, call: Call) -> None:
    baseline = choice.selector.baseline
    if call.usage is None or call.cost is None or choice.option == baseline:
        return
    against = choice.selector.cost(baseline, call.usage, call)
    if against is None or against <= call.cost.total:
        return
    attributes = {
        semconv.SAVING_SOURCE: "routing",
        semconv.REQUEST_MODEL: call.request_model,
        semconv.AGENT_NAME: call.agent,
        semconv.TENANT: call.scope.tenant if call.scope is not None else None,
    }
    found = {name: value for name, value in attributes.items() if value is not None}
    signals.measure(patterns.SAVED_COST, against - call.cost.total, found)
