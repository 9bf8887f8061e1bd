"""Budgets on observed calls: each one that is in force reserves before a call and settles after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from seatrace.core import context, pipeline
from seatrace.core.context import Run
from seatrace.core.record import Call

from .ledger import MemoryLedger
from .reservation import CallReservation, cover_of

if TYPE_CHECKING:
    from .budget import Budget


class _Block(NamedTuple):
    budget: Budget
    ledger: MemoryLedger | None
    """The account of a window that is this very block."""


_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("seatrace_budgets", default=())
"""The ``budget.run()`` blocks around the code here."""

_everywhere: tuple[Budget, ...] = ()
_lock = Lock()
_installed = False


def watch(budget: Budget) -> Callable[[], None]:
    """Enforces ``budget`` on all calls; returns a function that stops it."""
    global _everywhere
    _install()
    with _lock:
        if budget not in _everywhere:
            _everywhere = (*_everywhere, budget)
    return partial(_forget, budget)


def _forget(budget: Budget) -> None:
    global _everywhere
    with _lock:
        _everywhere = tuple(each for each in _everywhere if each is not budget)


def _install() -> None:
    global _installed
    with _lock:
        if not _installed:
            _installed = True
            pipeline.add_gate(_pass)


def _pass(call: Call) -> None:
    blocks = _blocks.get()
    budgets = _everywhere
    if blocks:
        budgets = tuple(dict.fromkeys((*budgets, *(block.budget for block in blocks))))
    for budget in budgets:
        if call.kind in budget.rules.kinds and _counts(budget, call):
            _admit(budget, call)


def _counts(budget: Budget, call: Call) -> bool:
    return not budget.window.is_run or _block_of(budget) is not None or _root(call) is not None


def _admit(budget: Budget, call: Call) -> None:
    cover = cover_of(budget)
    if call.on_end is None:
        call.on_end = []
    if cover is not None:
        call.on_end.append(cover.observe(call))
        return
    reservation = CallReservation(budget, call)
    reservation.take()
    call.on_end.append(reservation.ended)


# --- runs and blocks ------------------------------------------------------------------------------------------------


@contextmanager
def run_of(budget: Budget, ledger: MemoryLedger | None) -> Iterator[None]:
    """Enforces ``budget`` on the calls inside."""
    _install()
    token = _blocks.set((*_blocks.get(), _Block(budget, ledger)))
    try:
        yield
    finally:
        try:
            _blocks.reset(token)
        except ValueError:  # left in another context than entered
            pass


def ledger_of_run(budget: Budget) -> MemoryLedger:
    """The accounts of the run around the code here: of the innermost ``budget.run()``, else of the outermost agent or
    workflow. Code outside of any gets accounts that nobody else sees."""
    block = _block_of(budget)
    if block is not None and block.ledger is not None:
        return block.ledger
    run = _root(None)
    if run is None:
        return MemoryLedger()
    ledger: MemoryLedger | None = run.kept.get(budget)
    return ledger or run.kept.setdefault(budget, MemoryLedger())


def _block_of(budget: Budget) -> _Block | None:
    return next((each for each in reversed(_blocks.get()) if each.budget is budget), None)


def _root(call: Call | None) -> Run | None:
    scope = context.current_scope() if call is None or call.scope is None else call.scope
    run: Run | None = scope.run
    return None if run is None else (run, *run.around)[-1]
