"""Limits on what calls use, with reservations, so that calls at the same time cannot pass them together."""

from .budget import Action as Action
from .budget import Budget as Budget
from .budget import BudgetState as BudgetState
from .errors import BudgetExceeded as BudgetExceeded
from .errors import BudgetUnreachable as BudgetUnreachable
from .ledger import MemoryStore as MemoryStore
from .ledger import StoreUnreachable as StoreUnreachable
from .redis_store import RedisStore as RedisStore
from .reservation import Reservation as Reservation
