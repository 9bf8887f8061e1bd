"""Pools of agents."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pytest
from benchmarks._virtual import run
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrace.core.pipeline import Refused
from seatrace.errors import ConfigError
from seatrace.runtime import AgentPool, Ejection, PoolClosed, PoolFull, PoolTimeout
from seatrace.runtime._faults import blame, retry_after
from seatrace.testing import capture


class Failure(Exception):
    """As a provider's client raises it."""

    def __init__(self, status: int | None = None, **headers: str) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Agent:
    """Takes a second, and notices when two requests are mixed in it."""

    def __init__(self, number: int = 0, seconds: float = 1.0) -> None:
        self.number = number
        self.seconds = seconds
        self.working = 0
        self.most = 0
        self.done: list[Any] = []

    async def run(self, request: Any) -> Any:
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            await asyncio.sleep(self.seconds)
            if isinstance(request, BaseException):
                raise request
            self.done.append(request)
            return self.number, request
        finally:
            self.working -= 1


def agents() -> tuple[list[Agent], Callable[[], Agent]]:
    made: list[Agent] = []

    def make() -> Agent:
        made.append(Agent(len(made)))
        return made[-1]

    return made, make


def virtual_pool(factory: Any, **options: Any) -> AgentPool[Any]:
    options.setdefault("random", random.Random(1))
    return AgentPool(factory, clock=asyncio.get_running_loop().time, **options)


def now() -> float:
    return asyncio.get_running_loop().time()


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        run(main())

    test.__name__ = main.__name__
    return test


# --- leases -----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_member_works_on_one_request_at_a_time() -> None:
    made, make = agents()
    pool = virtual_pool(make, size=3)
    results = await asyncio.gather(*(pool.run(number) for number in range(12)))
    assert [request for _, request in results] == list(range(12))
    assert [agent.most for agent in made] == [1, 1, 1]
    assert now() == 4.0


@in_virtual_time
async def test_agents_without_a_state_may_share() -> None:
    made, make = agents()
    pool = virtual_pool(make, size=2, per_member_concurrency=3)
    await asyncio.gather(*(pool.run(number) for number in range(6)))
    assert sorted(agent.most for agent in made) == [3, 3]


@in_virtual_time
async def test_an_agent_is_made_once_though_many_wait_for_it() -> None:
    made: list[int] = []

    async def make() -> Agent:
        made.append(1)
        await asyncio.sleep(5)
        return Agent()

    pool = virtual_pool(make, size=1, per_member_concurrency=4)
    await asyncio.gather(*(pool.run(number) for number in range(4)))
    assert len(made) == 1
    assert now() == 6.0


@in_virtual_time
async def test_requests_are_served_in_their_order() -> None:
    made, make = agents()
    pool = virtual_pool(make, size=1)
    await asyncio.gather(*(pool.run(number) for number in range(6)))
    assert made[0].done == list(range(6))


@in_virtual_time
async def test_an_exception_passes_unchanged_and_gives_the_member_back() -> None:
    _, make = agents()
    pool = virtual_pool(make, size=1)
    error = Failure(500)
    with pytest.raises(Failure) as caught:
        await pool.run(error)
    assert caught.value is error
    assert await pool.run("next") == (0, "next")


@in_virtual_time
async def test_a_factory_that_fails_costs_no_member() -> None:
    tries: list[int] = []

    def make() -> Agent:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no license")
        return Agent()

    pool = virtual_pool(make, size=1, eject=None)
    with pytest.raises(OSError, match="no license"):
        await pool.run(1)
    assert await pool.run(2) == (0, 2)


@in_virtual_time
async def test_a_cancelled_request_leaves_the_line_and_its_member() -> None:
    made, make = agents()
    pool = virtual_pool(make, size=1)
    first, second, third = (asyncio.create_task(pool.run(number)) for number in range(3))
    await asyncio.sleep(0.5)
    second.cancel()
    await asyncio.sleep(0)
    assert pool.stats().pending == 1
    first.cancel()
    assert await third == (0, 2)
    assert made[0].done == [2]
    assert pool.stats().in_flight == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=25), st.integers(1, 3))
def test_no_member_is_lost_however_requests_are_cancelled(plan: list[tuple[float, float]], size: int) -> None:
    async def main() -> None:
        made, make = agents()
        pool = virtual_pool(make, size=size, max_queue=len(plan))

        async def one(at: float, patience: float) -> None:
            await asyncio.sleep(at)
            task = asyncio.create_task(pool.run(at))
            await asyncio.sleep(patience)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(one(at, patience) for at, patience in plan))
        stats = pool.stats()
        assert (stats.in_flight, stats.pending) == (0, 0)
        await asyncio.wait_for(asyncio.gather(*(pool.run(number) for number in range(size))), 1.5)
        assert all(agent.most == 1 for agent in made)

    run(main())


@in_virtual_time
async def test_a_block_has_a_member_to_itself() -> None:
    _, make = agents()
    pool = virtual_pool(make, size=1, queue_timeout=2.0)
    async with pool.lease() as agent:
        assert isinstance(agent, Agent)
        assert pool.stats().busy == 1
        with pytest.raises(PoolTimeout):
            async with pool.lease():
                pass
    assert pool.stats().idle == 1


@in_virtual_time
async def test_an_agent_is_reset_after_each_request_also_a_failed_one() -> None:
    resets: list[Agent] = []
    _, make = agents()

    async def reset(agent: Agent) -> None:
        resets.append(agent)

    pool = virtual_pool(make, size=1, reset=reset)
    await pool.run(1)
    with pytest.raises(Failure):
        await pool.run(Failure(400))
    assert len(resets) == 2


@in_virtual_time
async def test_an_agent_that_cannot_be_reset_is_replaced_and_the_result_is_kept() -> None:
    closed: list[Agent] = []
    made, make = agents()

    def reset(agent: Agent) -> None:
        if agent.number == 0:
            raise RuntimeError("stuck")

    pool = virtual_pool(make, size=1, reset=reset, close=closed.append)
    assert await pool.run("a") == (0, "a")
    assert await pool.run("b") == (1, "b")
    assert closed == [made[0]]


@in_virtual_time
async def test_members_beyond_the_least_number_are_closed_when_idle() -> None:
    closed: list[Agent] = []
    _, make = agents()
    pool = virtual_pool(make, size=4, min_size=1, idle_timeout=60, close=closed.append)
    await asyncio.gather(*(pool.run(number) for number in range(4)))
    await asyncio.sleep(30)
    await pool.run("early")
    assert closed == []
    await asyncio.sleep(61)
    await pool.run("late")
    assert len(closed) == 3


# --- choices ----------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_the_slow_member_gets_the_fewest_requests() -> None:
    made, make = agents()
    pool = virtual_pool(make, size=4)
    await asyncio.gather(*(pool.run("first") for _ in range(4)))
    made[2].seconds = 20.0
    for _ in range(60):
        await asyncio.gather(pool.run("x"), pool.run("y"))
    share = Counter({agent.number: len(agent.done) for agent in made})
    assert share[2] <= 4


@pytest.mark.parametrize("strategy", ["least_busy", "round_robin"])
def test_other_strategies_spread_requests_evenly(strategy: str) -> None:
    async def main() -> None:
        made, make = agents()
        pool = virtual_pool(make, size=4, strategy=strategy)
        for number in range(40):
            await pool.run(number)
        assert [len(agent.done) for agent in made] == [10, 10, 10, 10]

    run(main())


@in_virtual_time
async def test_a_strategy_of_ones_own_chooses_among_the_free_members() -> None:
    made, make = agents()
    pool = virtual_pool(make, size=3, strategy=lambda free: free[-1])
    await asyncio.gather(*(pool.run(number) for number in range(3)))
    for number in range(5):
        await pool.run(number)
    assert len(made[2].done) == 6


@in_virtual_time
async def test_a_conversation_stays_with_its_member_while_that_is_free() -> None:
    _, make = agents()
    pool = virtual_pool(make, size=5, affinity=lambda request: request)
    first = {key: (await pool.run(key))[0] for key in "abcdefgh"}
    for _ in range(3):
        assert {key: (await pool.run(key))[0] for key in "abcdefgh"} == first
    both = await asyncio.gather(pool.run("a"), pool.run("a"))
    assert both[0][0] != both[1][0]


# --- the line ---------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_full_line_refuses_at_once_and_counts_it() -> None:
    _, make = agents()
    with capture() as captured:
        pool = virtual_pool(make, size=1, max_queue=1, name="line")
        busy = [asyncio.create_task(pool.run(number)) for number in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(PoolFull, match=r"1 members are busy and 1 requests wait"):
            await pool.run(3)
        await asyncio.gather(*busy)
        assert captured.total("seatrace.pool.rejections", seatrace_pool_rejection_reason="full") == 1


@in_virtual_time
async def test_without_a_line_a_request_is_served_or_refused() -> None:
    _, make = agents()
    pool = virtual_pool(make, size=1, max_queue=0)
    busy = asyncio.create_task(pool.run(1))
    await asyncio.sleep(0)
    with pytest.raises(PoolFull):
        await pool.run(2)
    assert await busy == (0, 1)


@in_virtual_time
async def test_a_request_waits_no_longer_than_it_may() -> None:
    _, make = agents()
    pool = virtual_pool(make, size=1, queue_timeout=0.25)
    busy = asyncio.create_task(pool.run(1))
    await asyncio.sleep(0)
    with pytest.raises(PoolTimeout, match=r"0\.25 s"):
        await pool.run(2)
    assert now() == 0.25
    assert await busy == (0, 1)
    assert pool.stats().pending == 0


@in_virtual_time
async def test_draining_finishes_what_is_there_and_takes_no_more() -> None:
    closed: list[Agent] = []
    made, make = agents()
    pool = virtual_pool(make, size=1, close=closed.append)
    tasks = [asyncio.create_task(pool.run(number)) for number in range(3)]
    await asyncio.sleep(0.1)
    draining = asyncio.create_task(pool.drain())
    await asyncio.sleep(0.1)
    with pytest.raises(PoolClosed):
        await pool.run("late")
    assert await draining
    assert [await task for task in tasks] == [(0, 0), (0, 1), (0, 2)]
    assert closed == made


@in_virtual_time
async def test_draining_gives_up_after_its_timeout() -> None:
    _, make = agents()
    pool = virtual_pool(make, size=1)
    task = asyncio.create_task(pool.run(1))
    await asyncio.sleep(0)
    assert not await pool.drain(0.5)
    assert await task == (0, 1)


@in_virtual_time
async def test_closing_turns_away_those_who_wait() -> None:
    _, make = agents()
    async with virtual_pool(make, size=1) as pool:
        first, second = asyncio.create_task(pool.run(1)), asyncio.create_task(pool.run(2))
        await asyncio.sleep(0)
    assert await first == (0, 1)
    with pytest.raises(PoolClosed):
        await second


# --- ejection ---------------------------------------------------------------------------------------------------------


class Flaky(Agent):
    """Fails at once while it is broken."""

    broken: BaseException | None = None

    async def run(self, request: Any) -> Any:
        if self.broken is not None:
            raise self.broken
        return await super().run(request)


def flaky_pool(size: int = 3, **options: Any) -> tuple[list[Flaky], AgentPool[Any]]:
    made: list[Flaky] = []

    def make() -> Flaky:
        made.append(Flaky(len(made)))
        return made[-1]

    options.setdefault("strategy", lambda free: free[0])
    return made, virtual_pool(make, size=size, **options)


async def fill(pool: AgentPool[Any], size: int = 3) -> None:
    await asyncio.gather(*(pool.run("first") for _ in range(size)))


async def failures(pool: AgentPool[Any], count: int) -> int:
    failed = 0
    for number in range(count):
        try:
            await pool.run(number)
        except Failure:
            failed += 1
    return failed


@in_virtual_time
async def test_a_failing_member_is_left_alone_for_longer_each_time() -> None:
    made, pool = flaky_pool(eject=Ejection(failures=3, base=5, max=12))
    await fill(pool)
    for agent in made:
        agent.seconds = 0.0
    made[0].broken = Failure(500)
    assert await failures(pool, 6) == 3
    for pause in (5, 10, 12, 12):  # then one probe each, and twice as long, up to the most
        await asyncio.sleep(pause - 0.01)
        assert pool.stats().ejected == 1
        assert await failures(pool, 2) == 0
        await asyncio.sleep(0.02)
        assert pool.stats().ejected == 0
        assert await failures(pool, 3) == 1


@in_virtual_time
async def test_one_success_makes_a_member_well_again() -> None:
    made, pool = flaky_pool(eject=Ejection(failures=1, base=5))
    await fill(pool)
    made[0].broken = Failure(500)
    assert await failures(pool, 2) == 1
    made[0].broken = None
    await asyncio.sleep(5)
    await pool.run("probe")
    made[0].broken = Failure(500)
    assert await failures(pool, 1) == 1
    await asyncio.sleep(5)
    assert pool.stats().ejected == 0  # the first pause again, not the second


@in_virtual_time
async def test_a_member_on_probation_gets_one_request_at_a_time() -> None:
    made, pool = flaky_pool(eject=Ejection(failures=1, base=5), per_member_concurrency=4)
    await asyncio.gather(*(pool.run("first") for _ in range(3)))
    made[0].broken = Failure(500)
    await failures(pool, 1)
    made[0].broken = None
    await asyncio.sleep(5)
    made[0].most = 0
    await asyncio.gather(*(pool.run(number) for number in range(9)))
    assert made[0].most == 1


@pytest.mark.parametrize(
    ("error", "ejects"),
    [
        (Failure(400), False),
        (Failure(422), False),
        (Failure(404), False),
        (type("ContentFilterFinishReasonError", (Exception,), {})(), False),
        (type("BudgetExceeded", (Refused,), {})(), False),
        (Failure(401), True),
        (Failure(429), True),
        (Failure(503), True),
        (Failure(), True),
        (ConnectionResetError(), True),
    ],
    ids=repr,
)
def test_what_the_request_is_to_blame_for_ejects_nobody(error: Exception, ejects: bool) -> None:
    async def main() -> None:
        made, pool = flaky_pool(eject=Ejection(failures=1))
        await fill(pool)
        made[0].broken = error
        with pytest.raises(type(error)):
            await pool.run(1)
        assert (pool.stats().ejected == 1) is ejects

    run(main())


@in_virtual_time
async def test_retry_after_is_followed_at_the_first_failure() -> None:
    made, pool = flaky_pool(eject=Ejection(failures=3, base=5))
    await fill(pool)
    made[0].broken = Failure(429, retry_after="30")
    assert await failures(pool, 4) == 1
    await asyncio.sleep(25)
    assert pool.stats().ejected == 1
    await asyncio.sleep(6)
    assert await failures(pool, 1) == 1


@in_virtual_time
async def test_when_most_members_fail_all_are_used() -> None:
    made, pool = flaky_pool(size=2, eject=Ejection(failures=1, base=60, max=60))
    await fill(pool, 2)
    made[0].broken = made[1].broken = Failure(500)
    assert await failures(pool, 2) == 2
    made[0].broken = made[1].broken = None
    assert await failures(pool, 2) == 0
    assert now() < 10


@in_virtual_time
async def test_when_all_must_stay_away_requests_wait_for_the_first_that_may_come_back() -> None:
    made, pool = flaky_pool(size=2)
    await fill(pool, 2)
    made[0].broken, made[1].broken = Failure(429, retry_after="50"), Failure(429, retry_after="20")
    await failures(pool, 2)
    made[0].broken = made[1].broken = None
    started = now()
    assert (await pool.run("patient"))[0] == 1
    assert now() - started == pytest.approx(21)


@in_virtual_time
async def test_no_member_is_ejected_where_that_is_switched_off() -> None:
    made, pool = flaky_pool(eject=None)
    await fill(pool)
    made[0].broken = Failure(500)
    assert await failures(pool, 10) == 10


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Failure(429, retry_after="7"), 7.0),
        (Failure(429, retry_after_ms="1500"), 1.5),
        (Failure(429, retry_after="Thu, 26 Nov 2026 12:00:30 GMT"), 30.0),
        (Failure(429, retry_after="Thu, 26 Nov 2026 11:00:00 GMT"), 0.0),
        (Failure(429, retry_after="soon"), None),
        (Failure(429, retry_after="-3"), None),
        (Failure(429, retry_after="nan"), None),
        (Failure(429), None),
        (ValueError(), None),
    ],
    ids=repr,
)
def test_retry_after_is_read_as_seconds_or_date(error: Exception, seconds: float | None) -> None:
    assert retry_after(error, now=datetime(2026, 11, 26, 12, tzinfo=timezone.utc)) == seconds


def test_a_cancelled_task_is_nobodys_fault() -> None:
    assert blame(asyncio.CancelledError()) == "request"
    assert blame(KeyboardInterrupt()) == "request"


# --- threads ----------------------------------------------------------------------------------------------------------


class Plain:
    """A synchronous agent that notices two requests at once."""

    def __init__(self) -> None:
        self.inside = threading.Lock()

    def run(self, request: Any) -> Any:
        assert self.inside.acquire(blocking=False)
        try:
            if callable(request):
                return request()
            return request
        finally:
            self.inside.release()


def test_threads_share_a_pool() -> None:
    pool = AgentPool(Plain, size=3)
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(pool.run_sync, range(300))) == list(range(300))
    assert pool.drain_sync(5)
    with pytest.raises(PoolClosed):
        pool.run_sync(1)


def test_a_thread_waits_no_longer_than_it_may() -> None:
    pool = AgentPool(Plain, size=1, queue_timeout=0.01)
    with pool.lease():
        with pytest.raises(PoolTimeout):
            pool.run_sync(1)
    assert pool.run_sync(2) == 2


async def test_plain_agents_work_in_threads_of_async_callers() -> None:
    pool = AgentPool(Plain, size=2)
    loop_thread = threading.get_ident()
    assert await pool.run(threading.get_ident) != loop_thread
    assert await asyncio.gather(*(pool.run(number) for number in range(20))) == list(range(20))
    await pool.aclose()


async def test_a_cancelled_thread_keeps_its_member_until_it_is_done() -> None:
    started, go = threading.Event(), threading.Event()
    made: list[Plain] = []

    def make() -> Plain:
        made.append(Plain())
        return made[-1]

    def work() -> None:
        started.set()
        assert go.wait(30)

    pool = AgentPool(make, size=1)
    task = asyncio.create_task(pool.run(work))
    await asyncio.to_thread(started.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.stats().busy == 1
    go.set()
    assert await pool.run("next") == "next"
    assert len(made) == 2  # what the cancelled one was left in, nobody knows
    await pool.aclose()


def test_an_async_agent_in_a_thread_is_an_error_that_says_so() -> None:
    pool = AgentPool(Agent, size=1)
    with pytest.raises(ConfigError, match="use run"):
        pool.run_sync(1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_has_agents_of_its_own() -> None:
    pool = AgentPool(Plain, size=1)
    pool.run_sync(1)
    with pool.lease():
        child = os.fork()
        if child == 0:
            try:
                ok = pool.stats().busy == 0 and pool.run_sync(2) == 2
            finally:
                os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0


# --- options and telemetry --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": True},
        {"size": 2, "min_size": 3},
        {"min_size": -1},
        {"per_member_concurrency": 0},
        {"max_queue": -1},
        {"queue_timeout": float("nan")},
        {"queue_timeout": -1},
        {"strategy": "fastest"},
        {"idle_timeout": float("inf")},
    ],
    ids=repr,
)
def test_options_without_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(reversed(options))):
        AgentPool(Plain, **options)


@pytest.mark.parametrize(
    "options",
    [{"failures": 0}, {"base": 0}, {"max": 1}, {"half_open": 0}, {"max_ejected": 1.5}, {"max_retry_after": -1}],
    ids=repr,
)
def test_an_ejection_without_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Ejection(**options)


AGENTS = {"seatrace_pool_name": "agents"}


@in_virtual_time
async def test_a_pool_is_measured() -> None:
    with capture() as captured:
        made, pool = flaky_pool(size=2, name="agents", eject=Ejection(failures=1), queue_timeout=0.5)
        await fill(pool, 2)
        assert captured.total("seatrace.pool.members", **AGENTS, seatrace_pool_state="idle") == 2
        made[0].broken = Failure(500)
        await failures(pool, 1)
        busy = asyncio.create_task(pool.run("busy"))
        await asyncio.sleep(0.1)
        assert captured.total("seatrace.pool.members", **AGENTS, seatrace_pool_state="busy") == 1
        assert captured.total("seatrace.pool.members", **AGENTS, seatrace_pool_state="ejected") == 1
        with pytest.raises(PoolTimeout):
            await pool.run("late")
        await busy
        assert captured.total("seatrace.pool.ejections", **AGENTS) == 1
        assert captured.total("seatrace.pool.rejections", **AGENTS, seatrace_pool_rejection_reason="timeout") == 1
        assert captured.total("seatrace.pool.picks", **AGENTS, seatrace_pool_member="0") == 2
        [failed] = [
            point for point in captured.points("seatrace.pool.use.duration") if "error.type" in point.attributes
        ]
        assert failed.attributes == {"seatrace.pool.name": "agents", "error.type": "Failure"}
        assert captured.points("seatrace.pool.wait.duration")[0].count == 4


@in_virtual_time
async def test_clocks_that_jump_back_keep_a_pool_going() -> None:
    time = [1000.0]
    made, make = agents()
    pool = AgentPool(make, size=2, clock=lambda: time[0], random=random.Random(1))
    await asyncio.gather(pool.run(1), pool.run(2))
    time[0] = 0.0
    await asyncio.gather(pool.run(3), pool.run(4))
    assert sum(len(agent.done) for agent in made) == 4
