"""Limits on what calls use, with reservations, so that calls at the same time cannot pass them together."""

from .budget import Action as Action
from .budget import Budget as Budget
from .budget import BudgetState as BudgetState
from .errors import BudgetExceeded as BudgetExceeded
from .errors import BudgetUnreachable as BudgetUnreachable
from .ledger import LedgerUnreachable as LedgerUnreachable
from .ledger import MemoryLedger as MemoryLedger
from .redis_ledger import RedisLedger as RedisLedger
from .reservation import Reservation as Reservation
