"""Why a call was not made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from seatrace.core.pipeline import Refused
from seatrace.errors import SeatraceError


class BudgetExceeded(SeatraceError, Refused):
    """A call was not made, since its budget would not hold. All amounts are in :attr:`unit`."""

    def __init__(
        self,
        budget: str,
        *,
        unit: str,
        window: str,
        scope: Mapping[str, str],
        limit: float,
        spent: float,
        reserved: float,
        requested: float | None,
        resets_at: datetime | None,
    ) -> None:
        self.budget = budget
        self.unit = unit
        self.window = window
        self.scope = dict(scope)
        self.limit = limit
        self.spent = spent
        self.reserved = reserved
        """What calls in progress may still use."""
        self.requested = requested
        """What this call would have reserved; ``None`` where its price is not known."""
        self.resets_at = resets_at
        """When room comes back; ``None`` for the budget of a run."""
        of = "".join(f" {name}={value!r}" for name, value in self.scope.items())
        wanted = "whose price is not known" if requested is None else f"of up to {requested:.10g} {unit}"
        until = f"; resets at {resets_at.isoformat()}" if resets_at is not None else ""
        super().__init__(
            f"budget {budget!r}{of}: expected a call that fits in {limit:.10g} {unit} ({window}), of which "
            f"{spent:.10g} are spent and {reserved:.10g} reserved; got one {wanted}{until}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args, self.__dict__)


class BudgetUnreachable(SeatraceError, Refused):
    """A call was not made, since the ledger of its budget does not answer and the budget says ``fail="closed"``."""


def _again(kind: type[BudgetExceeded], args: tuple[str, ...], state: dict[str, object]) -> BudgetExceeded:
    made = kind.__new__(kind)
    made.args = args
    made.__dict__.update(state)
    return made
