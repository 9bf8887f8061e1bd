"""From reserving to settling: written once as steps that ask a ledger, driven by a thin loop for threads and one for
event loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from seatrace.core import guard, signals
from seatrace.core.record import Call
from seatrace.emit import catalogue
from seatrace.errors import ConfigError

from . import amounts
from .amounts import PARTS, Amount, parts_of
from .errors import BudgetUnreachable
from .ledger import Answer, Command, Ledger, LedgerUnreachable, Read, Reserve, Settle

if TYPE_CHECKING:
    from .budget import Budget, BudgetState

_Steps = Generator[Command, Answer, None]


def _run(steps: _Steps, ledger: Ledger) -> None:
    """Carries ``steps`` out, and waits for each of them."""
    try:
        command = next(steps)
        while True:
            try:
                answer = ledger.do(command)
            except LedgerUnreachable as error:
                command = steps.throw(error)
            else:
                command = steps.send(answer)
    except StopIteration:
        return


async def _arun(steps: _Steps, ledger: Ledger) -> None:
    """The same, on an event loop."""
    try:
        command = next(steps)
        while True:
            try:
                answer = await ledger.ado(command)
            except LedgerUnreachable as error:
                command = steps.throw(error)
            else:
                command = steps.send(answer)
    except StopIteration:
        return


class _Hold:
    """Parts of a budget that are reserved until they are settled."""

    __slots__ = ("_deadline", "_id", "_open", "account", "budget", "ledger", "slot", "values")

    def __init__(self, budget: Budget, values: Mapping[str, str]) -> None:
        self.budget = budget
        self.values = values
        self.ledger, self.account, self.slot = budget.account(values)
        self._id = token_hex(8)
        self._deadline = 0
        self._open = False

    def taking(self, amount: Amount) -> _Steps:
        """Reserves ``amount``, or raises as the budget says."""
        budget = self.budget
        rule, barred = budget.rules.action, budget.unit == "usd" and budget.rules.on_unpriced == "block"
        limit = budget.most if amount.known else budget.most - 1  # an unknown amount needs that something is left
        command = Reserve(self.account, self._id, amount.parts, limit, force=rule in ("warn", "downgrade"))
        try:
            if barred and not amount.known:
                raise budget.exceeded(self._state((yield Read(self.account))), None)
            answer = yield command
            if answer.first and 1.0 in budget.thresholds and answer.used < budget.most:
                budget.crossed(1.0, self._state(answer))
            if not answer.fits and not command.force:
                if not self._passes(rule, answer):
                    raise budget.exceeded(self._state(answer), amount.parts if amount.known else None)
                answer = yield command._replace(force=True)
        except LedgerUnreachable as error:
            guard.note("reach a budget's ledger", error)
            if budget.rules.fail == "closed":
                self._open = True
                yield from self.settling(0)  # it may have been reserved all the same
                raise BudgetUnreachable(
                    f"budget {budget.name!r}: expected an answer of its ledger, got: {error}. "
                    f"No call is made meanwhile, as fail='closed' says."
                ) from error
        else:
            self._deadline = answer.deadline
            budget.saw(self.account, answer)
        self._open = True

    def settling(self, used: int) -> _Steps:
        """Gives back what is reserved, and counts ``used``; once. A ledger that does not answer keeps it for later."""
        if not self._open:
            return
        self._open = False
        budget = self.budget
        if used:
            signals.measure(catalogue.BUDGET_SPEND, used / PARTS[budget.unit], budget.labels)
        if budget.window.sliding:  # counts from now on, not from when the call began
            _, self.account, self.slot = budget.account(self.values)
        try:
            answer = yield Settle(self.account, self._id, used, self._deadline)
        except LedgerUnreachable as error:
            guard.note("reach a budget's ledger", error)
            return
        budget.saw(self.account, answer)
        budget.tell_crossings(self.values, self.slot, answer)

    def _state(self, answer: Answer) -> BudgetState:
        return self.budget.state_of(self.values, self.slot, answer)

    def _passes(self, rule: Any, answer: Answer) -> bool:
        if rule == "block":
            return False
        try:
            verdict: object = rule(self._state(answer))
        except Exception as error:
            guard.fault("ask a budget's rule", error)
            return self.budget.rules.fail == "open"
        return verdict != "block"


class CallReservation(_Hold):
    """What one observed call holds."""

    __slots__ = ("_amount", "_usage")

    def __init__(self, budget: Budget, call: Call) -> None:
        super().__init__(budget, budget.values_of(call))
        self._usage = amounts.expected_usage(call)
        self._amount = self._expected(call)

    def take(self) -> None:
        """Reserves, or refuses the call."""
        _run(self.taking(self._amount), self.ledger)

    def ended(self, call: Call) -> None:
        """Settles: what the call has used, or nothing where it was refused by another gate and never made."""
        _run(self.settling(self._used(call) if call.ended else 0), self.ledger)

    def _expected(self, call: Call) -> Amount:
        estimate = self.budget.rules.estimate
        if estimate is not None:
            try:
                return Amount(parts_of(self.budget.unit, estimate(call)))
            except Exception as error:
                guard.fault("ask a budget's rule", error)
        return self._assumed(amounts.expected(self.budget.unit, call, self._usage))

    def _used(self, call: Call) -> int:
        return self._assumed(amounts.used(self.budget.unit, call, self._usage)).parts

    def _assumed(self, amount: Amount) -> Amount:
        assumed = self.budget.rules.assumed
        return amount if amount.known or assumed is None or self.budget.unit != "usd" else Amount(assumed)


class Reservation(_Hold):
    """Room that the program asked for itself, with :meth:`Budget.reserve`. A block of ``with`` or ``async with``."""

    __slots__ = ("_amount", "_cover", "_observed", "_settled")

    def __init__(self, budget: Budget, values: Mapping[str, str], amount: int) -> None:
        super().__init__(budget, values)
        self._amount = amount
        self._observed: int | None = None
        self._settled: int | None = None
        self._cover: Any = None

    def settle(self, used: float) -> None:
        """Says what the work has used, in the budget's unit. It counts when the block ends, also if that raises.

        Raises:
            ConfigError: ``used`` is negative or no finite number.
        """
        if not 0 <= used < math.inf:
            raise ConfigError(f"settle(): expected an amount in {self.budget.unit} of at least 0, got {used!r}")
        self._settled = parts_of(self.budget.unit, used)

    def observe(self, call: Call) -> Callable[[Call], None]:
        """What an observed call inside the block tells at its end."""
        usage = amounts.expected_usage(call)

        def ended(call: Call) -> None:
            if call.ended:
                self._observed = (self._observed or 0) + amounts.used(self.budget.unit, call, usage).parts

        return ended

    def __enter__(self) -> Reservation:
        _run(self.taking(Amount(self._amount)), self.ledger)
        self._enter()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        _run(self.settling(self._leave(error)), self.ledger)

    async def __aenter__(self) -> Reservation:
        await _arun(self.taking(Amount(self._amount)), self.ledger)
        self._enter()
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await _arun(self.settling(self._leave(error)), self.ledger)

    def _enter(self) -> None:
        self._cover = _covers.set((*_covers.get(), self))

    def _leave(self, error: BaseException | None) -> int:
        try:
            _covers.reset(self._cover)
        except ValueError:  # left in another context than entered: nothing of ours is there
            pass
        if self._settled is not None:
            return self._settled
        if self._observed is not None:
            return self._observed
        return 0 if error is not None else self._amount


_covers: ContextVar[tuple[Reservation, ...]] = ContextVar("seatrace_reservations", default=())
"""The blocks around the code here: calls inside use what these hold already."""


def cover_of(budget: Budget) -> Reservation | None:
    """The innermost block around the code here that holds room of ``budget``."""
    return next((each for each in reversed(_covers.get()) if each.budget is budget), None)
