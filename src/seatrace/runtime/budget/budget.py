"""A limit on what calls may use, and who stands for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args
from urllib.parse import quote

from seatrace.core import context, guard, signals
from seatrace.core.context import Scope
from seatrace.core.record import Call, Kind
from seatrace.emit import catalogue
from seatrace.emit import semconv as names
from seatrace.errors import ConfigError

from . import checks, gate
from .amounts import PARTS, Unit, parts_of
from .errors import BudgetExceeded
from .ledger import Account, Answer, Ledger, LedgerUnreachable, MemoryLedger, Read
from .reservation import Reservation
from .window import Slot, Window

Action = Literal["warn", "block", "downgrade"]
"""What happens to a call that does not fit: it is made and told, not made, or made while the state says that cheaper
ones are in order."""

Field = Literal["tenant", "user", "session", "conversation", "agent", "model", "provider"]

_SEEN_LIMIT = 1000
"""Scopes whose standing is shown as a metric."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a budget stands for one scope, in its unit."""

    name: str
    unit: Unit
    window: str
    scope: Mapping[str, str]
    limit: float
    used: float
    reserved: float
    """What calls in progress may still use."""
    resets_at: datetime | None
    downgrade: bool = False
    """Cheaper calls are in order: the budget's action is ``downgrade``, and its last threshold below 1 is reached."""

    @property
    def remaining(self) -> float:
        """What can still be reserved, never below 0."""
        return max(0.0, self.limit - self.used - self.reserved)

    @property
    def ratio(self) -> float:
        """Used and reserved to the limit; 1 for a limit of 0."""
        return (self.used + self.reserved) / self.limit if self.limit else 1.0

    @property
    def exhausted(self) -> bool:
        """Whether nothing remains."""
        return self.remaining <= 0


Rule = Callable[[BudgetState], Action | None]
"""Decides about each call that does not fit; ``None`` is ``warn``."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a budget says about calls, read by its reservations."""

    action: Action | Rule
    on_unpriced: Literal["allow", "block"]
    assumed: int | None
    fail: Literal["open", "closed"]
    estimate: Callable[[Call], float] | None
    kinds: frozenset[str] = field(default_factory=frozenset)


class Budget:
    """Lets calls be made as long as what they use stays below a limit.

    A call first reserves what it may use at most, in one step with the question whether that fits, and gives back what
    it has not used when it ends, fails, is cancelled, or its stream is dropped. So the calls that are in progress at
    the same time cannot pass the limit together. With :meth:`watch` this happens to every observed call by itself.

    Args:
        limit: In ``unit``. 0 lets nothing through.
        unit: ``usd`` (by the price book), ``tokens`` (input and output), ``calls``, or ``seconds`` that calls took.
        window: ``run`` (an agent or workflow with all that it calls, or a :meth:`run` block), a length such as ``1h``
            counted from the epoch, ``day``, ``week``, ``month`` (UTC, or ``day@Europe/Berlin``), or ``sliding:24h``.
        scope: Whose limit it is: each ``tenant``, ``user``, ``session``, ``conversation``, ``agent``, ``model`` or
            ``provider`` (or combination) has one of its own. Calls without that share one.
        name: In metrics and messages; budgets on one ledger are told apart by it. Default: from unit and window.
        thresholds: Fractions of the limit whose crossing is told (event, counter, ``on_threshold``), once a window.
        action: ``block`` raises :class:`BudgetExceeded`; ``warn`` and ``downgrade`` let calls pass; or a function of
            the :class:`BudgetState` that says which.
        ledger: Who keeps the accounts: this process (default), or a :class:`RedisLedger`.
        on_unpriced: What happens to calls of no known price: ``allow`` (they are made, and counted in
            ``seatrace.cost.unpriced``), ``block``, or ``assume:0.05`` USD.
        fail: What happens to calls while the ledger does not answer: ``open`` lets them pass, ``closed`` does not.
        estimate: What a call uses at most, in ``unit``; default as in ``budget/amounts.py``. In seconds nothing is
            reserved without it.
        kinds: The calls that count. ``("tool",)`` with the unit ``calls`` limits tool calls.
        on_threshold: Is called with the state when a threshold is crossed, in the thread of the call that crossed it.
        clock: Seconds since the epoch.

    Raises:
        ConfigError: An argument is not one of these.
    """

    def __init__(
        self,
        limit: float,
        *,
        unit: Unit = "usd",
        window: str = "day",
        scope: Field | Sequence[Field] = (),
        name: str | None = None,
        thresholds: Sequence[float] = (0.5, 0.8, 1.0),
        action: Action | Rule = "block",
        ledger: Ledger | None = None,
        on_unpriced: str = "allow",
        fail: Literal["open", "closed"] = "open",
        estimate: Callable[[Call], float] | None = None,
        kinds: Collection[Kind] = ("inference", "embeddings"),
        on_threshold: Callable[[BudgetState], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.unit: Unit = checks.one_of("unit", unit, get_args(Unit))
        self.limit = checks.limit(limit, self.unit)
        self.window = Window(window)
        self.scope: tuple[Field, ...] = (scope,) if isinstance(scope, str) else tuple(scope)
        for each in self.scope:
            checks.one_of("scope", each, get_args(Field))
        self.name = name or f"{unit}-{window}"
        self.thresholds = tuple(sorted(checks.threshold(each) for each in set(thresholds)))
        if not callable(action):
            checks.one_of("action", action, get_args(Action))
        checks.one_of("fail", fail, ("open", "closed"))
        assumed = checks.assumed(on_unpriced)
        self.rules = _Rules(
            action, "block" if on_unpriced == "block" else "allow", assumed, fail, estimate, frozenset(kinds)
        )
        self.most = parts_of(self.unit, self.limit)
        """The limit in parts of the unit."""
        self._ledger: Ledger = MemoryLedger() if ledger is None else ledger
        self._on_threshold = on_threshold
        self._clock = clock
        self._seen: dict[str, tuple[Account, Answer]] = {}
        self.labels = {
            names.BUDGET_NAME: self.name,
            names.BUDGET_UNIT: self.unit,
            names.BUDGET_WINDOW: self.window.text,
        }
        if not self.scope:
            self.saw(self.account({})[1], Answer(0, 0))
        signals.register(self)

    # --- what the program does ----------------------------------------------------------------------------------------

    def watch(self) -> Callable[[], None]:
        """Enforces this budget on every observed call of the process, from now on; returns a function that stops it."""
        return gate.watch(self)

    @contextmanager
    def run(self, **scope: str) -> Iterator[Budget]:
        """The calls inside are made on behalf of ``scope`` (``tenant="acme"`` …), and this budget is enforced on them.

        For the window ``run`` the block is the run. Holds for this thread or task and the tasks it starts.
        """
        with _narrowed(scope), gate.run_of(self, MemoryLedger() if self.window.is_run else None):
            yield self

    def reserve(self, amount: float | None = None, **scope: str) -> Reservation:
        """Room for work that is not observed, or for several calls at once::

            with budget.reserve(0.50, tenant="acme") as reservation:  # async with alike
                reservation.settle(pay(...))

        If the block raises, all is given back. If it ends without :meth:`~Reservation.settle`, what its observed calls
        used counts, or else the whole ``amount``.

        Args:
            amount: In the budget's unit; default: one call for ``calls``, else required.
            **scope: On whose behalf; default: as :func:`seatrace.session` and the agents around say.

        Raises:
            BudgetExceeded: On entering: it does not fit.
            ConfigError: The amount is negative or no finite number, or the scope has other names than the budget's.
        """
        if amount is None and self.unit == "calls":
            amount = 1
        if amount is None or not 0 <= amount < math.inf:
            raise ConfigError(f"reserve(): expected an amount in {self.unit} of at least 0, got {amount!r}")
        self._check_names(scope)
        return Reservation(self, self._values(context.current_scope(), None, scope), parts_of(self.unit, amount))

    def state(self, **scope: str) -> BudgetState:
        """How it stands, for ``scope`` or whoever the code here runs for. One question to the ledger.

        Raises:
            LedgerUnreachable: The ledger does not answer.
        """
        self._check_names(scope)
        values = self._values(context.current_scope(), None, scope)
        ledger, account, slot = self.account(values)
        return self.state_of(values, slot, ledger.do(Read(account)))

    def remaining(self, **scope: str) -> float | None:
        """USD that can still be reserved, for a :class:`~seatrace.runtime.ModelSelector`; ``None`` where the budget is
        not in USD."""
        return self.state(**scope).remaining if self.unit == "usd" else None

    # --- for gate and reservation -------------------------------------------------------------------------------------

    def values_of(self, call: Call) -> dict[str, str]:
        """Whose account a call is made on."""
        scope = call.scope if isinstance(call.scope, Scope) else context.EMPTY
        return self._values(scope, call, {})

    def account(self, values: Mapping[str, str]) -> tuple[Ledger, Account, Slot]:
        """Where what is used now is counted. A run's account lives with the run, whatever the ledger."""
        now = self._clock()
        slot = self.window.slot(now)
        keep = self.window.keep(now) if slot.ends < math.inf or self.window.sliding else math.inf
        account = Account(self.name, _label(values), slot.key, self.window.pieces, slot.piece, keep)
        if not self.window.is_run:
            return self._ledger, account, slot
        return gate.ledger_of_run(self), account, slot

    def state_of(self, values: Mapping[str, str], slot: Slot, answer: Answer) -> BudgetState:
        """An answer of the ledger in the budget's unit."""
        size = PARTS[self.unit]
        taken = answer.used + answer.reserved
        below = [each for each in self.thresholds if each < 1] or [1.0]
        return BudgetState(
            self.name,
            self.unit,
            self.window.text,
            dict(values),
            self.limit,
            answer.used / size,
            answer.reserved / size,
            self.window.room_at(slot, answer.oldest),
            self.rules.action == "downgrade" and taken >= below[-1] * self.most,
        )

    def exceeded(self, state: BudgetState, requested: int | None) -> BudgetExceeded:
        """Counts a refusal and makes the error to raise."""
        signals.measure(catalogue.BUDGET_REJECTIONS, 1, self.labels)
        return BudgetExceeded(
            self.name,
            unit=self.unit,
            window=self.window.text,
            scope=state.scope,
            limit=self.limit,
            spent=state.used,
            reserved=state.reserved,
            requested=None if requested is None else requested / PARTS[self.unit],
            resets_at=state.resets_at,
        )

    def saw(self, account: Account, answer: Answer) -> None:
        """Remembers how an account stands, for the metrics."""
        if self.window.is_run:
            return
        seen = self._seen
        first = not seen
        seen[account.scope] = (account, answer)
        if first:
            signals.register(self)  # again: now that there is something to read
        if len(seen) > _SEEN_LIMIT:
            seen.pop(next(iter(seen.copy())), None)

    def tell_crossings(self, values: Mapping[str, str], slot: Slot, answer: Answer) -> None:
        """Tells which thresholds a settlement crossed; the whole limit not again, if something was refused before."""
        for each in self.thresholds:
            if answer.before < each * self.most <= answer.used and not (each == 1 and answer.refused):
                self.crossed(each, self.state_of(values, slot, answer))

    def crossed(self, threshold: float, state: BudgetState) -> None:
        """Tells that a threshold was crossed."""
        labels = {**self.labels, names.BUDGET_THRESHOLD: f"{threshold:g}"}
        signals.measure(catalogue.BUDGET_CROSSINGS, 1, labels)
        details: dict[str, str | int | float | bool] = {
            **labels,
            names.BUDGET_SCOPE: _label(state.scope),
            catalogue.BUDGET_LIMIT.name: state.limit,
            catalogue.BUDGET_USED.name: state.used,
            catalogue.BUDGET_RESERVED.name: state.reserved,
        }
        signals.event(names.EVENT_BUDGET_THRESHOLD, details, warning=True)
        if self._on_threshold is not None:
            try:
                self._on_threshold(state)
            except Exception as error:
                guard.fault("ask a budget's rule", error)

    # --- metrics ------------------------------------------------------------------------------------------------------

    def readings(self) -> Iterator[tuple[Any, float, Mapping[str, str]]]:
        """Limit, used and reserved. Those of a ledger elsewhere are as last heard; runs have none."""
        yield catalogue.BUDGET_LIMIT, self.limit, self.labels
        slot = self.window.slot(self._clock())
        for scope, (account, answer) in self._seen.copy().items():
            if self._ledger.local:
                answer = self._ledger.do(Read(account._replace(slot=slot.key, piece=slot.piece)))
            elif account.slot != slot.key:
                answer = Answer(0, 0)
            labels = {**self.labels, names.BUDGET_SCOPE: scope}
            yield catalogue.BUDGET_USED, answer.used / PARTS[self.unit], labels
            yield catalogue.BUDGET_RESERVED, answer.reserved / PARTS[self.unit], labels

    def zeros(self) -> Iterator[tuple[Any, Mapping[str, str]]]:
        """The counters start at zero."""
        yield catalogue.BUDGET_SPEND, self.labels
        yield catalogue.BUDGET_REJECTIONS, self.labels
        for each in self.thresholds:
            yield catalogue.BUDGET_CROSSINGS, {**self.labels, names.BUDGET_THRESHOLD: f"{each:g}"}

    # --- inside -------------------------------------------------------------------------------------------------------

    def _values(self, scope: Scope, call: Call | None, given: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in self.scope:
            value = given.get(each)
            if value is None and call is not None:
                value = {
                    "agent": call.agent,
                    "conversation": call.conversation_id,
                    "model": call.request_model,
                    "provider": call.provider,
                }.get(each)
            if value is None and each not in ("model", "provider"):
                value = getattr(scope, each)
            found[each] = "" if value is None else str(value)
        return found

    def _check_names(self, scope: Mapping[str, str]) -> None:
        unknown = set(scope) - set(self.scope)
        if unknown:
            raise ConfigError(
                f"budget {self.name!r}: expected a scope of {', '.join(self.scope) or 'nothing'}, "
                f"got {', '.join(sorted(unknown))}"
            )


@contextmanager
def _narrowed(scope: Mapping[str, str]) -> Iterator[None]:
    for each in scope:
        checks.one_of("scope", each, ("tenant", "user", "session", "conversation", "agent"))
    token = context.enter_scope(context.narrowed(**{name: str(value) for name, value in scope.items()}))
    try:
        yield
    finally:
        try:
            context.leave_scope(token)
        except ValueError:  # left in another context than entered: nothing of ours is there
            pass


def _label(values: Mapping[str, str]) -> str:
    """As a label and as a part of a key: ``tenant=acme,agent=planner``; unambiguous, whatever stands in the values."""
    return ",".join(f"{name}={quote(value, safe=' @/:')[:200]}" for name, value in values.items()) or "all"


__all__ = ["Action", "Budget", "BudgetState", "Field", "LedgerUnreachable", "Rule"]
