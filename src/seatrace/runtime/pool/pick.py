"""Which free member is given a request."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from random import Random

from seatrace.runtime._options import check_choice

from .member import Member

Pick = Callable[[Sequence[Member]], Member]
"""Chooses one of the members that are free now; there is at least one, in the order of their numbers."""


def two_choices(random: Random) -> Pick:
    """The better of two members drawn at random, by latency (moving average of successes) × (requests in flight + 1):
    as good as looking at all of them, and no herd runs to the one that looked best last (Mitzenmacher, *The power of
    two choices in randomized load balancing*, 2001). A member without a latency yet is tried first."""

    def pick(free: Sequence[Member]) -> Member:
        if len(free) == 1:
            return free[0]
        one, other = random.sample(free, 2)
        return one if _load(one) <= _load(other) else other

    return pick


def _load(member: Member) -> float:
    return (member.latency or 0.0) * (member.in_flight + 1)


def least_busy(free: Sequence[Member]) -> Member:
    """The member with the fewest requests in flight; among equals the one that was idle for longest."""
    return min(free, key=lambda member: (member.in_flight, member.last_used))


def round_robin() -> Pick:
    """Each free member in its turn."""
    last = -1

    def pick(free: Sequence[Member]) -> Member:
        nonlocal last
        chosen = next((member for member in free if member.number > last), free[0])
        last = chosen.number
        return chosen

    return pick


def named(strategy: str | Pick, random: Random) -> Pick:
    """The strategy of that name; a function is one already."""
    if callable(strategy):
        return strategy
    check_choice("strategy", strategy, ("ewma", "least_busy", "round_robin"))
    if strategy == "ewma":
        return two_choices(random)
    return least_busy if strategy == "least_busy" else round_robin()


def preferred(members: Sequence[Member], key: Hashable) -> Member:
    """The member that ``key`` belongs to, always the same one, without a table (rendezvous hashing)."""
    return max(members, key=lambda member: hash((key, member.number)))
