"""Who has spent and reserved what. A ledger takes commands and answers each of them atomically; this one is in memory.

Amounts are whole numbers of the smallest part of a unit, so that nothing is lost or made by rounding.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from seatrace.core import guard
from seatrace.errors import SeatraceError
from seatrace.runtime._forks import new_lock
from seatrace.runtime._report import OTHER

RESERVATION_TTL = 900.0
"""Seconds after which a reservation whose process is gone is given back. Longer than the time limit of 600 s that the
clients of OpenAI and Anthropic have. A call that takes longer is still counted when it ends."""


class LedgerUnreachable(SeatraceError):
    """A shared ledger did not answer. What then happens to a call is the budget's ``fail``."""


class Account(NamedTuple):
    """What counts together: one budget, one scope, one slot of its window."""

    budget: str
    scope: str
    slot: str
    pieces: int
    piece: int
    keep: float
    """Seconds for which it must be remembered."""


class Reserve(NamedTuple):
    """Takes ``amount`` if it fits below ``limit``; or anyway, if ``force``. Doing it twice is as doing it once."""

    account: Account
    id: str
    amount: int
    limit: int
    force: bool = False


class Settle(NamedTuple):
    """Gives the reservation ``id`` back and counts ``amount`` as used. Once, however often it is said."""

    account: Account
    id: str
    amount: int
    deadline: int = 0
    """The ledger's own word of when the reservation runs out; 0 where it was never answered."""


class Read(NamedTuple):
    """Asks how it stands."""

    account: Account


Command = Reserve | Settle | Read


class Answer(NamedTuple):
    """How the account stands after a command."""

    used: int
    reserved: int
    fits: bool = True
    """Whether the amount fitted; with ``force`` it is reserved all the same."""
    first: bool = False
    """It did not, for the first time in this slot."""
    before: int = 0
    """What was used before the command."""
    refused: bool = False
    """Whether something did not fit in this slot already."""
    oldest: int | None = None
    """Of a sliding window: the oldest piece in which something was used."""
    deadline: int = 0


class Ledger(Protocol):
    """Keeps the accounts of budgets. Raises :class:`LedgerUnreachable` where it cannot."""

    local: bool
    """Whether it answers at once, so that it may be asked whenever metrics are read."""

    def do(self, command: Command) -> Answer:
        """Carries out one command."""

    async def ado(self, command: Command) -> Answer:
        """The same, without blocking the event loop."""


@dataclass(slots=True)
class _Slot:
    pieces: dict[int, int] = field(default_factory=dict)
    held: dict[str, tuple[int, float]] = field(default_factory=dict)
    reserved: int = 0
    refused_in: int | None = None
    """The piece in which something did not fit."""
    forget_at: float = 0.0

    def expire(self, now: float) -> None:
        while self.held:
            id, (amount, until) = next(iter(self.held.items()))
            if until > now:
                return  # in the order of time, as all live equally long
            del self.held[id]
            self.reserved -= amount

    def used(self, account: Account) -> int:
        if not account.pieces:
            return self.pieces.get(0, 0)
        return sum(amount for piece, amount in self.pieces.items() if abs(piece - account.piece) < account.pieces)

    def oldest(self, account: Account) -> int | None:
        if not account.pieces:
            return None
        return min((p for p in self.pieces if abs(p - account.piece) < account.pieces), default=None)

    def refused(self, account: Account) -> bool:
        piece = self.refused_in
        return piece is not None and (not account.pieces or abs(piece - account.piece) < account.pieces)

    def spend(self, account: Account, amount: int) -> None:
        if not amount:
            return
        self.pieces[account.piece] = self.pieces.get(account.piece, 0) + amount
        while len(self.pieces) > 4 * account.pieces + 1:  # after jumps of the clock
            del self.pieces[min(self.pieces, key=lambda piece: -abs(piece - account.piece))]


class MemoryLedger:
    """Accounts of this process. The default.

    Args:
        max_scopes: How many tenants, users … have accounts of their own at a time; accounts whose window is over make
            room. Those beyond share one, so that never more is spent than a limit allows.
        reservation_ttl: Seconds after which a reservation that nobody settles is given back.
        clock: Seconds, monotonic.

    Raises:
        ValueError: A number is not above zero.
    """

    local = True

    def __init__(
        self,
        *,
        max_scopes: int = 10_000,
        reservation_ttl: float = RESERVATION_TTL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not max_scopes > 0 or not reservation_ttl > 0:
            raise ValueError(f"MemoryLedger: expected numbers above 0, got {max_scopes=!r}, {reservation_ttl=!r}")
        self._max_scopes = max_scopes
        self._ttl = reservation_ttl
        self._clock = clock
        self._lock = new_lock(self)
        self._scopes: OrderedDict[tuple[str, str], dict[str, _Slot]] = OrderedDict()
        self._sweep_at = 0.0

    async def ado(self, command: Command) -> Answer:
        """The same as :meth:`do`: there is nothing to wait for."""
        return self.do(command)

    def do(self, command: Command) -> Answer:
        """Carries out one command."""
        account = command.account
        with self._lock:
            now = self._clock()
            slot = self._slot(account, now)
            slot.expire(now)
            used = slot.used(account)
            if isinstance(command, Reserve):
                return self._reserve(slot, command, used, now)
            if isinstance(command, Settle):
                held = slot.held.pop(command.id, None)
                slot.reserved -= held[0] if held is not None else 0
                slot.spend(account, command.amount)
                after = used + command.amount
                return Answer(
                    after, slot.reserved, before=used, refused=slot.refused(account), oldest=slot.oldest(account)
                )
            return Answer(used, slot.reserved, before=used, refused=slot.refused(account), oldest=slot.oldest(account))

    def _reserve(self, slot: _Slot, command: Reserve, used: int, now: float) -> Answer:
        oldest = slot.oldest(command.account)
        fits = used + slot.reserved + command.amount <= command.limit
        refused = slot.refused(command.account)
        if not fits and not refused:
            slot.refused_in = command.account.piece
        if fits or command.force:
            slot.held[command.id] = (command.amount, now + self._ttl)
            slot.reserved += command.amount
        return Answer(used, slot.reserved, fits, not fits and not refused, used, refused or not fits, oldest)

    def _slot(self, account: Account, now: float) -> _Slot:
        key = (account.budget, account.scope)
        slots = self._scopes.get(key)
        if slots is None:
            if len(self._scopes) >= self._max_scopes and not self._make_room(now):
                key = (account.budget, OTHER)
            slots = self._scopes.setdefault(key, {})
        slot = slots.get(account.slot)
        if slot is None:
            # Two earlier ones stay, in case that the clock goes back: what was spent then is still spent.
            for old in list(slots)[:-2]:
                del slots[old]
            slot = slots[account.slot] = _Slot()
        slot.forget_at = now + account.keep
        return slot

    def _make_room(self, now: float) -> bool:
        """Forgets the accounts that are over; seldom, since it looks at all of them."""
        if now < self._sweep_at:
            return False
        for key, slots in list(self._scopes.items()):
            if all(slot.forget_at <= now and not slot.held for slot in slots.values()):
                del self._scopes[key]
        if len(self._scopes) < self._max_scopes:
            return True
        self._sweep_at = now + 60.0
        guard.logger.warning(
            "seatrace: a budget has more than %d scopes at a time; further ones share one account. "
            "Raise MemoryLedger(max_scopes=...) or use a RedisLedger.",
            self._max_scopes,
        )
        return False
