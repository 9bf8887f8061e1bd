"""Budgets that several processes share: a real server, cut connections, killed processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seatrace
from model import ask, client
from seatrace.core import guard
from seatrace.errors import ConfigError, MissingExtraError
from seatrace.runtime.budget import (
    Budget,
    BudgetExceeded,
    BudgetUnreachable,
    LedgerUnreachable,
    MemoryLedger,
    RedisLedger,
)
from seatrace.runtime.budget.ledger import Account, Answer, Read, Reserve, Settle
from seatrace.testing import capture

from .redis_server import RedisServer

STAGE = "reach a budget's ledger"


@pytest.fixture
def ledger(redis_url: str) -> Iterator[RedisLedger]:
    made = RedisLedger(redis_url, timeout=10)
    yield made
    made.close()


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until it holds."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)


# --- the same books as in memory ------------------------------------------------------------------------------------

IDS = st.sampled_from("abcde")
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), IDS, st.integers(0, 60), st.booleans()),
        st.tuples(st.just("settle"), IDS, st.integers(0, 60)),
        st.tuples(st.just("read")),
        st.tuples(st.just("move"), st.integers(-3, 20)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("pieces", [0, 10])
def test_both_stores_answer_the_same(redis_url: str, pieces: int) -> None:
    memory, shared = MemoryLedger(), RedisLedger(redis_url, timeout=10)
    runs = iter(range(10**6))

    @given(COMMANDS)
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def check(commands: list[Any]) -> None:
        account = Account("same", str(next(runs)), "slot", pieces, 100 if pieces else 0, 60.0)
        held: dict[str, tuple[str, int]] = {}
        for number, (what, *rest) in enumerate(commands):
            command: Any = Read(account)
            if what == "move":
                account = account._replace(piece=account.piece + (rest[0] if pieces else 0))
                continue
            if what == "reserve":
                if rest[0] in held:
                    continue
                command = Reserve(account, f"{rest[0]}{number}", rest[1], 100, rest[2])
            elif what == "settle":
                if rest[0] not in held:
                    continue
                id, deadline = held.pop(rest[0])
                command = Settle(account, id, rest[1], deadline)
            ours, theirs = memory.do(command), shared.do(command)
            assert ours._replace(deadline=0) == theirs._replace(deadline=0)
            if what == "reserve" and (ours.fits or rest[2]):
                held[rest[0]] = command.id, theirs.deadline

    with closing(shared):
        check()


# --- many at once ---------------------------------------------------------------------------------------------------

WORKER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from seatrace.runtime.budget import Budget, BudgetExceeded, RedisLedger

budget = Budget(1.0, ledger=RedisLedger(sys.argv[1], timeout=30), name="shared", window="month", fail="closed")

def call(_):
    try:
        with budget.reserve(0.012) as reservation:
            state = budget.state()
            assert state.used + state.reserved <= 1.0, state
            reservation.settle(0.01)
            return 1
    except BudgetExceeded:
        return 0

with ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(call, range(60))))
"""


def test_processes_cannot_pass_a_limit_together(redis_url: str) -> None:
    command = [sys.executable, "-c", WORKER, redis_url]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = sum(int(worker.communicate(timeout=120)[0]) for worker in workers)
    assert all(worker.returncode == 0 for worker in workers)
    assert 76 <= made <= 100
    with closing(RedisLedger(redis_url, timeout=10)) as ledger:
        state = Budget(1.0, ledger=ledger, name="shared", window="month").state()
    assert state.used == pytest.approx(made * 0.01, abs=1e-6)
    assert state.used <= 1.0 + 1e-6
    assert state.reserved == 0


async def test_tasks_cannot_pass_a_limit_together(redis_url: str) -> None:
    ledger = RedisLedger(redis_url, timeout=10)
    budget, made = Budget(1.0, ledger=ledger), []

    async def call() -> None:
        async with budget.reserve(0.12) as reservation:
            await asyncio.sleep(0)
            made.append(1)
            reservation.settle(0.10)

    results = await asyncio.gather(*(call() for _ in range(50)), return_exceptions=True)
    assert {type(each) for each in results} <= {BudgetExceeded, type(None)}
    assert 8 <= len(made) <= 10
    assert budget.state().used == pytest.approx(len(made) * 0.10)
    assert budget.state().used <= 1.0
    await ledger.aclose()


def test_observed_calls_are_counted_in_the_store(ledger: RedisLedger) -> None:
    with capture() as captured:
        budget = Budget(2, unit="calls", ledger=ledger, scope="tenant", name="of tenants")
        stop = budget.watch()
        with seatrace.session(tenant="acme"):
            ask(client())
            ask(client())
            with pytest.raises(BudgetExceeded):
                ask(client())
        stop()
        assert captured.total("seatrace.budget.used", seatrace_budget_name="of tenants") == 2
    assert Budget(2, unit="calls", ledger=ledger, scope="tenant", name="of tenants").state(tenant="acme").used == 2


def test_a_reservation_of_a_killed_process_runs_out(redis_url: str) -> None:
    program = """
import os, sys, signal
from seatrace.runtime.budget import Budget, RedisLedger
budget = Budget(1.0, ledger=RedisLedger(sys.argv[1], timeout=30, reservation_ttl=1.0), name="killed", window="month")
budget.reserve(0.9).__enter__()
print("held", flush=True)
signal.pause()
"""
    worker = subprocess.Popen([sys.executable, "-c", program, redis_url], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "held\n"
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    with closing(RedisLedger(redis_url, timeout=10)) as ledger:
        budget = Budget(1.0, ledger=ledger, name="killed", window="month")
        eventually(lambda: budget.state().reserved == 0)
        with budget.reserve(0.9):
            pass


def test_a_call_longer_than_its_reservation_still_counts_once(redis_url: str) -> None:
    with closing(RedisLedger(redis_url, timeout=10, reservation_ttl=0.05)) as ledger:
        budget = Budget(1.0, ledger=ledger)
        with budget.reserve(0.5) as reservation:
            eventually(lambda: budget.state().reserved == 0)
            reservation.settle(0.4)
        assert (budget.state().used, budget.state().reserved) == (0.4, 0)


def test_accounts_are_forgotten_when_their_window_is_long_over(ledger: RedisLedger, redis_url: str) -> None:
    budget = Budget(1, unit="calls", window="1h", ledger=ledger, scope="user")
    with budget.reserve(user="a{b}c|d"):
        pass
    with redis.Redis.from_url(redis_url) as direct:
        keys = direct.keys("*")
        lives = [direct.ttl(key) for key in keys]
    assert len(keys) == 1
    assert b"{calls-1h|user=a%257Bb%257Dc%257Cd|" in keys[0]
    assert 0 < lives[0] <= 4 * 3600


# --- a server that does not answer ----------------------------------------------------------------------------------


class Proxy:
    """Stands between a ledger and its server. Where told, it cuts the connection before a command or its answer, or
    lets the answer wait."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.cuts: list[str] = []
        self.waiting, self.release = threading.Event(), threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(inside,), daemon=True).start()

    def _serve(self, inside: socket.socket) -> None:
        with inside, socket.create_connection(("127.0.0.1", self._target)) as outside:
            while asked := inside.recv(65536):
                cut = self.cuts.pop(0) if b"EVALSHA" in asked and self.cuts else ""
                if cut == "command":
                    return
                outside.sendall(asked)
                answered = outside.recv(65536)
                if cut == "answer":
                    return
                if cut == "wait":
                    self.waiting.set()
                    self.release.wait(30)
                inside.sendall(answered)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy(redis_server: RedisServer, redis_url: str) -> Iterator[Proxy]:
    made = Proxy(redis_server.port)
    yield made
    made.close()


@pytest.mark.parametrize("cut", ["command", "answer"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_is_cut_off_while_it_settles_counts_once(proxy: Proxy, cut: str, times: int) -> None:
    with closing(RedisLedger(proxy.url, timeout=10, retry_after=0)) as ledger:
        budget = Budget(1.0, ledger=ledger)
        with budget.reserve(0.5) as reservation:
            reservation.settle(0.3)
            proxy.cuts = [cut] * times
        proxy.cuts = []
        budget.state()  # takes along what is left over
        assert (budget.state().used, budget.state().reserved) == (0.3, 0)


@pytest.mark.parametrize("cut", ["command", "answer"])
@pytest.mark.parametrize(("fail", "made"), [("open", True), ("closed", False)])
def test_what_is_cut_off_while_it_reserves_is_given_back(proxy: Proxy, cut: str, fail: Any, made: bool) -> None:
    with closing(RedisLedger(proxy.url, timeout=10, retry_after=0)) as ledger:
        budget = Budget(1.0, ledger=ledger, fail=fail)
        budget.state()
        before = guard.faults[STAGE]
        proxy.cuts = [cut] * 2
        with nullcontext() if made else pytest.raises(BudgetUnreachable), budget.reserve(0.5) as reservation:
            proxy.cuts = []
            reservation.settle(0.2)
        proxy.cuts = []
        assert guard.faults[STAGE] > before
        budget.state()
        assert (budget.state().used, budget.state().reserved) == (0.2 if made else 0, 0)


@pytest.mark.parametrize("cut", ["command", "answer"])
async def test_an_event_loop_is_cut_off_and_counts_once(proxy: Proxy, cut: str) -> None:
    ledger = RedisLedger(proxy.url, timeout=10, retry_after=0)
    budget = Budget(1.0, ledger=ledger)
    async with budget.reserve(0.5) as reservation:
        reservation.settle(0.3)
        proxy.cuts = [cut] * 2
    proxy.cuts = []
    async with budget.reserve(0.1) as reservation:
        reservation.settle(0)
    assert (budget.state().used, budget.state().reserved) == (0.3, 0)
    await ledger.aclose()


async def test_a_task_that_is_cancelled_while_it_reserves_leaves_nothing(proxy: Proxy) -> None:
    ledger = RedisLedger(proxy.url, timeout=30)
    budget = Budget(1.0, ledger=ledger)
    async with budget.reserve(0.1):
        pass
    proxy.cuts = ["wait"]
    task = asyncio.ensure_future(budget.reserve(0.5).__aenter__())
    while not proxy.waiting.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    proxy.release.set()
    budget.state()
    assert budget.state().used == pytest.approx(0.1)
    assert budget.state().reserved == 0
    await ledger.aclose()


def test_a_server_that_is_away_costs_one_try_and_then_none_for_a_while() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, and says nothing
        now = 0.0
        ledger = RedisLedger(f"redis://127.0.0.1:{mute.getsockname()[1]}", timeout=0.05, clock=lambda: now)
        read = Read(Account("b", "all", "1", 0, 0, 60))
        with pytest.raises(LedgerUnreachable, match="imeout"):
            ledger.do(read)
        with pytest.raises(LedgerUnreachable, match="a moment ago"):
            ledger.do(read)
        now = 1.0
        with pytest.raises(LedgerUnreachable, match="imeout"):
            ledger.do(read)
        ledger.close()


@pytest.mark.parametrize(("fail", "made"), [("open", 1), ("closed", 0)])
def test_calls_while_the_server_is_away_do_as_the_budget_says(fail: Any, made: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with capture() as captured, closing(RedisLedger(f"redis://127.0.0.1:{port}")) as ledger:
        stop = Budget(1, unit="calls", ledger=ledger, fail=fail).watch()
        before = guard.faults[STAGE]
        with nullcontext() if made else pytest.raises(BudgetUnreachable, match="fail='closed'"):
            ask(client())
        stop()
        assert len(captured.calls) == made
        assert guard.faults[STAGE] > before


def test_what_is_used_while_the_server_is_away_counts_when_it_is_back(
    redis_server: RedisServer, redis_url: str
) -> None:
    with closing(RedisLedger(redis_url, timeout=10, retry_after=0)) as ledger:
        budget = Budget(1000, unit="calls", ledger=ledger)
        with budget.reserve():
            pass
        redis_server.stop()
        try:
            for _ in range(300):
                with budget.reserve():
                    pass
        finally:
            redis_server.start()
        for _ in range(3):
            budget.state()
        assert budget.state().used == 300, "the server lost what it knew, and nothing of what came since"


def test_a_full_backlog_loses_the_oldest_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seatrace.runtime.budget.redis_ledger._LATER_LIMIT", 5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with closing(RedisLedger(f"redis://127.0.0.1:{port}")) as ledger:
        budget = Budget(1000, unit="calls", ledger=ledger)
        before = guard.faults[STAGE]
        for _ in range(8):
            with budget.reserve():
                pass
        assert len(ledger._later) == 5
        assert guard.faults[STAGE] == before + 8 * 2 + 3


def test_a_key_of_another_kind_is_no_answer(ledger: RedisLedger, redis_url: str) -> None:
    account = Account("b", "all", "1", 0, 0, 60)
    with redis.Redis.from_url(redis_url) as direct:
        direct.set("seatrace:budget:{b|all|1}", "what is this")
    with pytest.raises(LedgerUnreachable, match="WRONGTYPE"):
        ledger.do(Read(account))


def test_a_client_of_the_programs_own_is_used_and_left_open(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as own:
        ledger = RedisLedger(client=own)
        assert ledger.do(Reserve(Account("b", "all", "1", 0, 0, 60), "x", 5, 10))._replace(deadline=0) == Answer(0, 5)
        ledger.close()
        assert own.ping()


@pytest.mark.parametrize(
    "options", [{}, {"url": "redis://x", "timeout": 0}, {"url": "redis://x", "reservation_ttl": float("nan")}], ids=str
)
def test_a_store_needs_an_address_and_times(options: Any) -> None:
    with pytest.raises(ConfigError):
        RedisLedger(**options)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'seatrace\[redis\]'"):
        RedisLedger("redis://localhost")
