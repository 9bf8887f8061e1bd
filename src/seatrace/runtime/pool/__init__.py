"""Pools of agents: leases, strategies, ejection."""

from .errors import PoolClosed, PoolError, PoolFull, PoolTimeout
from .lease import Lease
from .member import Ejection, Member
from .pool import AgentPool, PoolStats

__all__ = [
    "AgentPool",
    "Ejection",
    "Lease",
    "Member",
    "PoolClosed",
    "PoolError",
    "PoolFull",
    "PoolStats",
    "PoolTimeout",
]
