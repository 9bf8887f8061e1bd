"""A pool of agents against round robin, as a simulation: the real pools on an event loop whose time passes at once.

    python -m benchmarks.pool [--requests 20000] [--check]

Five members that work on four requests each, at 60 % load, arrivals at random (Poisson), working times at random
(exponential, mean 1 s). In one run one member is five times slower, in the other one fails at once. Every strategy sees
the same arrivals and working times. Latency is that of successful requests, waiting included.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from benchmarks._table import table
from benchmarks._virtual import run
from seatrace.runtime import AgentPool, Ejection

MEMBERS, SLOTS, LOAD, MEAN = 5, 4, 0.6, 1.0
SLOW, FAILS_AFTER = 5.0, 0.01

SLOW_BOUND = 0.1
"""p95 latency with one slow member, as part of round robin's."""
ERROR_BOUND = 0.05
"""Error rate with one failing member, as part of round robin's."""


class Failed(Exception):
    """What the failing member raises."""


@dataclass
class Simulated:
    """An agent that does nothing for a while."""

    slow: bool
    fails: bool
    done: int = 0

    async def run(self, seconds: float) -> None:
        self.done += 1
        if self.fails:
            await asyncio.sleep(FAILS_AFTER)
            raise Failed
        await asyncio.sleep(seconds * (SLOW if self.slow else 1.0))


class Runs(Protocol):
    async def run(self, request: Any) -> Any: ...


class RoundRobin:
    """What the pattern's usual sketch does: the next agent in turn, whatever it is doing."""

    def __init__(self, make: Callable[[], Simulated]) -> None:
        self._members = [(make(), asyncio.Semaphore(SLOTS)) for _ in range(MEMBERS)]
        self._turns = count()

    async def run(self, request: Any) -> Any:
        agent, slots = self._members[next(self._turns) % MEMBERS]
        async with slots:
            return await agent.run(request)


@dataclass
class Outcome:
    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    requests: int = 0
    share: float = 0.0
    """The part of requests that the odd member got."""

    def quantile(self, part: float) -> float:
        return sorted(self.latencies)[int(part * (len(self.latencies) - 1))]

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests


def simulate(make_pool: Callable[[Callable[[], Simulated]], Runs], requests: int, *, slow: bool, seed: int) -> Outcome:
    """All requests through one pool whose first member is the odd one."""

    async def main() -> Outcome:
        draw = random.Random(seed)
        agents: list[Simulated] = []

        def make() -> Simulated:
            first = not agents
            agents.append(Simulated(slow=first and slow, fails=first and not slow))
            return agents[-1]

        pool = make_pool(make)
        outcome = Outcome(requests=requests)
        loop = asyncio.get_running_loop()

        async def one(seconds: float) -> None:
            started = loop.time()
            try:
                await pool.run(seconds)
            except Failed:
                outcome.errors += 1
            else:
                outcome.latencies.append(loop.time() - started)

        tasks = []
        for _ in range(requests):
            await asyncio.sleep(draw.expovariate(LOAD * MEMBERS * SLOTS / MEAN))
            tasks.append(asyncio.create_task(one(draw.expovariate(1 / MEAN))))
        await asyncio.gather(*tasks)
        outcome.share = agents[0].done / requests
        return outcome

    return run(main())


def pool_of(strategy: Any, ejection: Ejection | None, seed: int) -> Callable[[Callable[[], Simulated]], Runs]:
    def make_pool(make: Callable[[], Simulated]) -> Runs:
        return AgentPool(
            make,
            size=MEMBERS,
            per_member_concurrency=SLOTS,
            strategy=strategy,
            eject=ejection,
            max_queue=1_000_000,
            clock=asyncio.get_running_loop().time,
            random=random.Random(seed),
        )

    return make_pool


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    contenders: dict[str, Callable[[Callable[[], Simulated]], Runs]] = {
        "round robin": RoundRobin,
        "pool, round_robin, no ejection": pool_of("round_robin", None, options.seed),
        "pool, least_busy, no ejection": pool_of("least_busy", None, options.seed),
        "pool, ewma, no ejection": pool_of("ewma", None, options.seed),
        "pool, as it comes": pool_of("ewma", Ejection(), options.seed),
    }
    results = {
        name: tuple(simulate(make, options.requests, slow=slow, seed=options.seed) for slow in (True, False))
        for name, make in contenders.items()
    }
    rows = [
        [name, f"{slow.quantile(0.5):.2f} s", f"{slow.quantile(0.95):.1f} s", f"{slow.share:.1%}",
         f"{failing.error_rate:.2%}", f"{failing.quantile(0.95):.1f} s"]
        for name, (slow, failing) in results.items()
    ]  # fmt: skip
    head = ["", "slow member: p50", "p95", "its share", "failing member: errors", "p95 of the rest"]
    print(table(head, rows))
    (base_slow, base_failing), (slow, failing) = results["round robin"], results["pool, as it comes"]
    latency = slow.quantile(0.95) / base_slow.quantile(0.95)
    errors = failing.error_rate / base_failing.error_rate
    print(f"\npool / round robin: p95 with a slow member {latency:.4f} (bound {SLOW_BOUND})")
    print(f"pool / round robin: errors with a failing member {errors:.4f} (bound {ERROR_BOUND})")
    return int(options.check and (latency > SLOW_BOUND or errors > ERROR_BOUND))


if __name__ == "__main__":
    sys.exit(main())
