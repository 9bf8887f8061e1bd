"""Budgets: what is reserved, settled, refused and told."""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from opentelemetry import baggage
from opentelemetry import context as otel_context

import seatrace
from contract.wire import HANG
from model import COMPLETION, ask, client, completion, failure, stream
from seatrace.core import guard, pipeline
from seatrace.core.record import Call
from seatrace.errors import ConfigError
from seatrace.libraries._models import model_call
from seatrace.runtime.budget import Budget, BudgetExceeded, BudgetState, MemoryLedger
from seatrace.runtime.budget import budget as module
from seatrace.runtime.routing import ModelSelector
from seatrace.testing import Captured, capture

COST = 10 * 0.15e-6 + 5 * 0.60e-6
"""Of one answer of the model: gpt-4o-mini, 10 tokens in, 5 out."""


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


@pytest.fixture
def watched(captured: Captured) -> Iterator[Any]:
    """Makes budgets that are enforced for the length of a test."""
    stops = []

    def make(*args: Any, **options: Any) -> Budget:
        budget = Budget(*args, **options)
        stops.append(budget.watch())
        return budget

    yield make
    for stop in stops:
        stop()


# --- reserving ------------------------------------------------------------------------------------------------------


def test_fifty_calls_at_once_cannot_pass_a_limit() -> None:
    budget, made = Budget(1.0), []

    async def call() -> None:
        async with budget.reserve(0.12) as reservation:
            await asyncio.sleep(0)
            made.append(0.10)
            reservation.settle(0.10)

    async def main() -> list[Any]:
        return await asyncio.gather(*(call() for _ in range(50)), return_exceptions=True)

    results = asyncio.run(main())
    assert len(made) == 8
    assert sum(isinstance(each, BudgetExceeded) for each in results) == 42
    assert budget.state().used == pytest.approx(0.80, abs=1e-12)
    assert budget.state().reserved == 0


@pytest.mark.parametrize("amount", [0.12, 0.1, 0.25])
def test_threads_cannot_pass_a_limit_together(amount: float) -> None:
    budget, barrier, fits = Budget(1.0), threading.Barrier(16), []

    def call() -> None:
        barrier.wait()
        for _ in range(20):
            try:
                with budget.reserve(amount) as reservation:
                    reservation.settle(amount)
                    fits.append(amount)
            except BudgetExceeded:
                pass

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(call) for _ in range(16)]:
            done.result()
    assert len(fits) == int(1 / amount + 1e-9)
    assert budget.state().used <= 1.0 + 1e-8
    assert budget.state().reserved == 0


def test_a_block_that_raises_gives_everything_back() -> None:
    budget = Budget(1.0)

    def work() -> None:
        assert budget.state().reserved == pytest.approx(0.7)
        raise KeyError

    with pytest.raises(KeyError), budget.reserve(0.7):
        work()
    assert (budget.state().used, budget.state().reserved) == (0, 0)


def test_a_block_that_says_nothing_has_used_all_it_reserved() -> None:
    budget = Budget(1.0)
    with budget.reserve(0.7):
        pass
    assert budget.state().used == pytest.approx(0.7)


def test_what_was_used_counts_also_beyond_what_was_reserved() -> None:
    budget = Budget(1.0)
    with budget.reserve(0.1) as reservation:
        reservation.settle(1.5)
    assert budget.state().used == pytest.approx(1.5)
    assert budget.state().remaining == 0
    assert budget.state().exhausted
    with pytest.raises(BudgetExceeded), budget.reserve(0.0001):
        pass


def test_the_error_says_what_there_is_to_know() -> None:
    clock = Clock(datetime(2026, 11, 22, 12, tzinfo=ZoneInfo("UTC")).timestamp())
    budget = Budget(1.0, scope="tenant", window="day@Europe/Berlin", name="tenants", clock=clock)
    with budget.reserve(0.25, tenant="acme") as reservation:
        reservation.settle(0.25)
    with (
        budget.reserve(0.5, tenant="acme"),
        pytest.raises(BudgetExceeded) as caught,
        budget.reserve(0.3, tenant="acme"),
    ):
        pass
    error = caught.value
    assert isinstance(error, seatrace.SeatraceError)
    assert isinstance(error, pipeline.Refused)
    assert (error.budget, error.unit, error.window, error.scope) == (
        "tenants", "usd", "day@Europe/Berlin", {"tenant": "acme"},
    )  # fmt: skip
    assert (error.limit, error.spent, error.reserved, error.requested) == (1.0, 0.25, 0.5, 0.3)
    assert error.resets_at == datetime(2026, 11, 23, tzinfo=ZoneInfo("Europe/Berlin"))
    assert str(error) == (
        "budget 'tenants' tenant='acme': expected a call that fits in 1 usd (day@Europe/Berlin), of which 0.25 are "
        "spent and 0.5 reserved; got one of up to 0.3 usd; resets at 2026-11-23T00:00:00+01:00"
    )
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.resets_at, again.limit) == (str(error), error.resets_at, 1.0)


def test_scopes_do_not_share_a_limit() -> None:
    budget = Budget(1, unit="calls", scope=("tenant", "user"))
    with budget.reserve(tenant="a", user="b"):
        pass
    with budget.reserve(tenant="a,user=b", user=""), budget.reserve(tenant="", user="b"):
        pass
    with pytest.raises(BudgetExceeded), budget.reserve(tenant="a", user="b"):
        pass


def test_scopes_beyond_the_limit_share_one_account_until_others_are_over() -> None:
    clock = Clock()
    ledger = MemoryLedger(max_scopes=3, clock=clock)
    budget = Budget(1, unit="calls", scope="tenant", window="1h", ledger=ledger, clock=clock)
    for tenant in "abc":
        with budget.reserve(tenant=tenant):
            pass
    with budget.reserve(tenant="d"):
        pass
    with pytest.raises(BudgetExceeded), budget.reserve(tenant="e"):
        pass
    clock.now += 4 * 3600
    for tenant in "xyz":
        with budget.reserve(tenant=tenant):
            pass


class Accounts(RuleBasedStateMachine):
    """Any order of reserving, settling and releasing, beside plain sums: the limit holds and the books are right."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(1.0, unit="usd", thresholds=())
        self.open: list[tuple[Any, int]] = []
        self.used = 0

    @rule(amount=st.integers(0, 600_000_000))
    def reserve(self, amount: int) -> None:
        reservation = self.budget.reserve(amount / 1e9)
        taken = self.used + sum(held for _, held in self.open)
        if taken + amount > 1_000_000_000:
            with pytest.raises(BudgetExceeded):
                reservation.__enter__()
        else:
            reservation.__enter__()
            self.open.append((reservation, amount))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: Any) -> None:
        reservation, held = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        used = data.draw(st.integers(0, held))
        reservation.settle(used / 1e9)
        reservation.__exit__(None, None, None)
        self.used += used

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def fail(self, data: Any) -> None:
        reservation, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        reservation.__exit__(ValueError, ValueError(), None)

    @invariant()
    def books_are_right(self) -> None:
        state = self.budget.state()
        assert round(state.used * 1e9) == self.used
        assert round(state.reserved * 1e9) == sum(held for _, held in self.open)
        assert state.used + state.reserved <= 1.0


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


@given(st.lists(st.tuples(st.floats(0, 0.4), st.floats(0, 1)), max_size=40), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_tasks_in_any_order_never_pass_a_limit(calls: list[tuple[float, float]], seed: int) -> None:
    import random

    budget, order = Budget(1.0), random.Random(seed)
    seen: list[float] = []

    async def call(amount: float, share: float) -> None:
        for _ in range(order.randrange(3)):
            await asyncio.sleep(0)
        async with budget.reserve(amount) as reservation:
            for _ in range(order.randrange(3)):
                await asyncio.sleep(0)
            reservation.settle(amount * share)
            state = budget.state()
            seen.append(state.used + state.reserved)

    async def main() -> None:
        await asyncio.gather(*(call(*each) for each in calls), return_exceptions=True)

    asyncio.run(main())
    assert all(taken <= 1.0 + 1e-9 for taken in seen)
    assert budget.state().used <= 1.0 + 1e-8  # each settlement is rounded up to a billionth
    assert budget.state().reserved == 0


# --- observed calls -------------------------------------------------------------------------------------------------


def test_an_observed_call_is_reserved_high_and_settled_to_what_it_cost(watched: Any) -> None:
    budget = watched(1.0)
    during: list[BudgetState] = []

    def answer(sent: Any) -> Any:
        during.append(budget.state())
        return completion()

    ask(client(answer), max_tokens=1000)
    assert during[0].reserved > 1000 * 0.60e-6 + 10 * 0.15e-6
    assert during[0].reserved < 1000 * 0.60e-6 + 500 * 0.15e-6
    assert budget.state().used == pytest.approx(COST, abs=1e-9)
    assert budget.state().reserved == 0


def test_a_call_that_does_not_fit_is_not_made(watched: Any, captured: Captured) -> None:
    watched(0.001, name="small")
    of = client()
    with pytest.raises(BudgetExceeded) as caught:
        ask(of, max_tokens=100_000)
    assert caught.value.requested is not None
    assert caught.value.requested > 0.06
    assert captured.calls == []
    assert captured.total("seatrace.budget.rejections", seatrace_budget_name="small") == 1
    ask(of, max_tokens=100)
    assert len(captured.calls) == 1


def test_a_tenant_that_is_known_from_baggage_alone_has_its_limit(watched: Any, captured: Captured) -> None:
    watched(1, unit="calls", scope="tenant", name="tenants")
    of = client()
    for tenant in ("acme", "globex"):
        token = otel_context.attach(baggage.set_baggage("seatrace.tenant", tenant))  # as another service sends it
        try:
            ask(of)
            with pytest.raises(BudgetExceeded, match=f"tenant='{tenant}'"):
                ask(of)
        finally:
            otel_context.detach(token)
    assert [call.scope.tenant for call in captured.calls] == ["acme", "globex"]


class Framework:
    """Calls a model, through an observed client or not."""

    def ask(self, of: Any = None) -> None:
        if of is not None:
            ask(of)


def _models_call(framework: Framework, of: Any = None) -> Call:
    return Call("inference", "chat", "framework", provider="openai", request_model="gpt-4o-mini")


@pytest.mark.parametrize("observed", [True, False])
def test_a_frameworks_model_call_counts_once_whoever_makes_it(
    watched: Any, captured: Captured, monkeypatch: pytest.MonkeyPatch, observed: bool
) -> None:
    budget = watched(2, unit="calls", name="once")
    monkeypatch.setattr(Framework, "ask", model_call(_models_call)(Framework.ask))
    of = client() if observed else None
    for _ in range(2):
        Framework().ask(of)
    assert (budget.state().used, budget.state().reserved) == (2, 0)
    with pytest.raises(BudgetExceeded):
        Framework().ask(of)
    assert [call.library for call in captured.calls] == ["openai" if observed else "framework"] * 2


async def test_fifty_observed_calls_at_once_cannot_pass_a_limit(watched: Any) -> None:
    budget = watched(0.01)  # each reserves a bit more than 1,000 · 0.60 per million
    of = client(kind="AsyncOpenAI")
    results = await asyncio.gather(*(ask(of, max_tokens=1000) for _ in range(50)), return_exceptions=True)
    refused = [each for each in results if isinstance(each, BudgetExceeded)]
    assert 30 <= len(refused) < 50
    assert budget.state().used == pytest.approx((50 - len(refused)) * COST, abs=1e-6)
    assert budget.state().reserved == 0


def test_a_failed_call_gives_back_what_it_reserved(watched: Any) -> None:
    import openai

    budget = watched(1.0)
    with pytest.raises(openai.BadRequestError):
        ask(client(failure()))
    assert (budget.state().used, budget.state().reserved) == (0, 0)


def test_a_failed_call_is_a_call(watched: Any) -> None:
    import openai

    budget = watched(1, unit="calls")
    with pytest.raises(openai.BadRequestError):
        ask(client(failure()))
    assert budget.state().used == 1
    with pytest.raises(BudgetExceeded):
        ask(client())


async def test_a_cancelled_call_gives_back_what_it_reserved(watched: Any) -> None:
    budget = watched(1.0)
    task = asyncio.ensure_future(ask(client(HANG, kind="AsyncOpenAI")))
    while not budget.state().reserved:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (budget.state().used, budget.state().reserved) == (0, 0)


def test_a_stream_holds_its_reservation_until_it_ends(watched: Any) -> None:
    budget = watched(1.0)
    answer = ask(client(stream()), stream=True)
    next(iter(answer))
    assert budget.state().reserved > 0
    for _ in answer:
        pass
    assert budget.state().used == pytest.approx(COST, abs=1e-9)
    assert budget.state().reserved == 0


@pytest.mark.parametrize("end", ["close", "drop"])
def test_a_stream_that_breaks_off_counts_what_came(watched: Any, end: str) -> None:
    budget = watched(1000, unit="tokens")
    answer = ask(client(stream()), stream=True, max_tokens=100)
    next(iter(answer))
    if end == "close":
        answer.close()
    else:
        del answer
    gc.collect()
    pipeline.drain()
    state = budget.state()
    assert state.reserved == 0
    assert 0 < state.used < 100, "the request as estimated, and a token a chunk"


def test_a_stream_that_never_ends_is_given_back_after_a_while(watched: Any) -> None:
    clock = Clock()
    budget = watched(1.0, ledger=MemoryLedger(reservation_ttl=60, clock=clock))
    answer = ask(client(stream()), stream=True)
    clock.now += 59
    assert budget.state().reserved > 0
    clock.now += 1
    assert budget.state().reserved == 0
    for _ in answer:  # and when it goes on after all, it counts
        pass
    assert budget.state().used == pytest.approx(COST, abs=1e-9)


def test_a_call_of_tenant_and_agent_is_on_their_account(watched: Any) -> None:
    budget = watched(1000, unit="tokens", scope=("tenant", "agent"))

    @seatrace.agent("planner")
    def plan() -> None:
        ask(client(), max_tokens=10)

    with seatrace.session(tenant="acme"):
        plan()
    assert budget.state(tenant="acme", agent="planner").used == 15
    assert budget.state(tenant="acme", agent="").used == 0


def test_a_budget_by_model_knows_the_requested_one(watched: Any) -> None:
    budget = watched(2, unit="calls", scope="model")
    ask(client())
    assert budget.state(model="gpt-4o-mini").used == 1


def test_all_budgets_must_hold_and_one_that_refuses_takes_nothing_from_the_others(watched: Any) -> None:
    wide, narrow = watched(10, unit="calls", name="wide"), watched(0, unit="calls", name="narrow")
    with pytest.raises(BudgetExceeded, match="'narrow'"):
        ask(client())
    assert (wide.state().used, wide.state().reserved) == (0, 0)
    assert narrow.state().used == 0


def test_calls_inside_a_reserved_block_use_what_that_holds(watched: Any) -> None:
    budget = watched(0.5)
    with budget.reserve(0.5):
        ask(client())
        ask(client())
    assert budget.state().used == pytest.approx(2 * COST, abs=1e-8)
    assert budget.state().reserved == 0


def test_a_budget_that_is_not_watched_any_more_lets_calls_pass(captured: Captured) -> None:
    budget = Budget(0, unit="calls")
    stop = budget.watch()
    with pytest.raises(BudgetExceeded):
        ask(client())
    stop()
    ask(client())


def test_tools_can_be_counted(watched: Any) -> None:
    watched(1, unit="calls", window="run", kinds=("tool",))

    @seatrace.tool
    def search() -> str:
        return "found"

    @seatrace.agent
    def run() -> None:
        search()
        search()

    with pytest.raises(BudgetExceeded):
        run()


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_makes_no_more_steps_than_it_may(watched: Any, captured: Captured) -> None:
    watched(3, unit="calls", window="run", name="steps")
    made = []

    @seatrace.agent("loop")
    def run() -> None:
        while True:
            ask(client())
            made.append(1)

    for _ in range(2):  # each run has its own
        with pytest.raises(BudgetExceeded) as caught:
            run()
        assert caught.value.resets_at is None
    assert len(made) == 6


def test_sub_agents_draw_on_the_outermost_run(watched: Any) -> None:
    watched(3, unit="calls", window="run")
    made = []

    @seatrace.agent
    def inner() -> None:
        ask(client())
        made.append(1)

    @seatrace.agent
    def outer() -> None:
        for _ in range(5):
            inner()

    with pytest.raises(BudgetExceeded):
        outer()
    assert len(made) == 3


def test_calls_outside_of_any_run_are_not_of_a_run(watched: Any) -> None:
    watched(0, unit="calls", window="run")
    ask(client())


def test_a_block_can_be_the_run(captured: Captured) -> None:
    budget = Budget(1, unit="calls", window="run")
    for _ in range(2):
        with budget.run():
            ask(client())
            with pytest.raises(BudgetExceeded):
                ask(client())
    ask(client())


def test_a_block_says_whose_calls_they_are(captured: Captured) -> None:
    budget = Budget(100, unit="tokens", scope="tenant")
    with budget.run(tenant="acme"):
        ask(client(), max_tokens=10)
    ask(client(), max_tokens=10)
    assert budget.state(tenant="acme").used == 15
    assert budget.state(tenant="").used == 0
    assert captured.spans[0].attributes is not None
    assert captured.spans[0].attributes["seatrace.tenant"] == "acme"


# --- what does not block --------------------------------------------------------------------------------------------


def test_a_warning_lets_calls_pass(watched: Any, captured: Captured) -> None:
    budget = watched(1, unit="calls", action="warn")
    for _ in range(3):
        ask(client())
    assert budget.state().used == 3
    assert captured.total("seatrace.budget.rejections") == 0
    assert captured.total("seatrace.budget.crossings", seatrace_budget_threshold="1") == 1


def test_downgrade_says_when_cheaper_calls_are_in_order(watched: Any) -> None:
    budget = watched(10, unit="calls", action="downgrade")
    flags = []
    for _ in range(12):
        flags.append(budget.state().downgrade)
        ask(client())
    assert flags == [False] * 8 + [True] * 4


def test_a_selector_takes_a_cheaper_model_as_the_budget_runs_out(captured: Captured) -> None:
    budget = Budget(0.01, action="downgrade")
    selector = ModelSelector({"large": ["gpt-4o", "gpt-4o-mini"]}, default="large", budget=budget)
    request = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 500}
    assert selector.choose(request).model == "gpt-4o"
    with budget.reserve(0.008):
        pass
    assert selector.choose(request).model == "gpt-4o-mini"
    assert Budget(1, unit="calls").remaining() is None


def test_a_function_can_decide(watched: Any) -> None:
    asked: list[BudgetState] = []

    def decide(state: BudgetState) -> Any:
        asked.append(state)
        return "warn" if state.scope["tenant"] == "gold" else "block"

    budget = watched(1, unit="calls", scope="tenant", action=decide)
    with seatrace.session(tenant="gold"):
        ask(client())
        ask(client())
        assert budget.state().used == 2
    with seatrace.session(tenant="iron"):
        ask(client())
        with pytest.raises(BudgetExceeded):
            ask(client())
    assert [each.used for each in asked] == [1, 1]


@pytest.mark.parametrize(("fail", "made"), [("open", 1), ("closed", 0)])
def test_a_function_that_fails_is_our_users_fault_and_does_not_reach_the_call(fail: Any, made: int) -> None:
    def broken(state: BudgetState) -> Any:
        raise ZeroDivisionError

    with capture(strict=False) as got:
        before = guard.faults["ask a budget's rule"]
        stop = Budget(0, unit="calls", action=broken, fail=fail).watch()
        try:
            ask(client())
        except BudgetExceeded:
            pass
        finally:
            stop()
        assert len(got.calls) == made
        assert guard.faults["ask a budget's rule"] == before + 1


# --- prices that are not known --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "used"), [("allow", 0.0), ("assume:0.05", 0.05)])
def test_a_call_of_no_known_price(watched: Any, policy: str, used: float) -> None:
    budget = watched(1.0, on_unpriced=policy)
    ask(client(completion(model="nobody-knows")), model="nobody-knows")
    assert budget.state().used == pytest.approx(used)


def test_a_call_of_no_known_price_can_be_refused(watched: Any) -> None:
    watched(1.0, on_unpriced="block")
    with pytest.raises(BudgetExceeded, match="whose price is not known") as caught:
        ask(client(), model="nobody-knows")
    assert caught.value.requested is None
    ask(client())


def test_a_call_of_no_known_price_is_not_made_once_all_is_spent(watched: Any) -> None:
    budget = watched(0.1)
    with budget.reserve(0.1):
        pass
    with pytest.raises(BudgetExceeded):
        ask(client(), model="nobody-knows")


def test_a_free_call_fits_also_when_all_is_spent(watched: Any) -> None:
    seatrace.prices().register("free-1", provider="openai", input=0)
    budget = watched(0.1)
    with budget.reserve(0.1):
        pass
    ask(client(completion(model="free-1")), model="free-1")


# --- estimates ------------------------------------------------------------------------------------------------------

TEXTS = {
    "prose": "The tide rises and falls twice a day, since the Moon pulls at the sea. " * 40,
    "chinese": "潮汐是海水在月球和太阳引力作用下的周期性涨落现象。" * 40,
    "log": '2026-11-22T10:00:00.123Z ERROR [0x7f3a] q=8f14e45f ms=12.7 {"a":1,"b":[2,3]}\n' * 40,
}


@pytest.mark.parametrize("text", TEXTS)
def test_the_estimate_of_a_request_is_above_what_a_tokenizer_counts(watched: Any, text: str) -> None:
    budget = watched(10**9, unit="tokens")
    reserved = []

    def answer(sent: Any) -> Any:
        reserved.append(budget.state().reserved)
        return completion()

    ask(client(answer), TEXTS[text], max_tokens=1)
    dense = {"prose": 0.30, "chinese": 0.35, "log": 0.60}[text]  # tokens a byte, a bit above what was measured
    assert reserved[0] >= dense * len(TEXTS[text].encode())
    assert reserved[0] <= len(TEXTS[text].encode()) + 200


def test_a_picture_is_not_counted_by_the_byte(watched: Any) -> None:
    budget = watched(10**9, unit="tokens")
    reserved = []

    def answer(sent: Any) -> Any:
        reserved.append(budget.state().reserved)
        return completion()

    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 20_000}}
    ask(client(answer), [{"type": "text", "text": "what is this"}, picture], max_tokens=1)
    assert 2_000 < reserved[0] < 20_000


def test_the_program_can_estimate_itself(watched: Any) -> None:
    watched(10.0, unit="seconds", estimate=lambda call: 60.0)
    with pytest.raises(BudgetExceeded):
        ask(client())


@pytest.mark.parametrize("limits", [{"max_tokens": -5}, {"n": -3}, {"max_tokens": 10**30}])
def test_an_absurd_request_is_the_providers_to_refuse(watched: Any, limits: dict[str, Any]) -> None:
    budget = watched(1.0, action="warn")
    ask(client(), **limits)
    assert budget.state().reserved == 0


def test_seconds_are_those_that_calls_took(watched: Any, captured: Captured) -> None:
    budget = watched(60, unit="seconds")
    ask(client())
    assert budget.state().used == pytest.approx(captured.calls[0].duration, abs=2e-6)


# --- windows --------------------------------------------------------------------------------------------------------


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("window", "inside", "after"),
    [
        ("1h", ("2026-11-22T10:00", "2026-11-22T10:59:59"), "2026-11-22T11:00"),
        ("15m", ("2026-11-22T10:15", "2026-11-22T10:29"), "2026-11-22T10:30"),
        ("day", ("2026-11-22T00:00", "2026-11-22T23:59:59"), "2026-11-23T00:00"),
        ("week", ("2026-11-16T00:00", "2026-11-22T23:59:59"), "2026-11-23T00:00"),
        ("month", ("2026-02-01T00:00", "2026-02-28T23:59:59"), "2026-03-01T00:00"),
        ("month", ("2026-12-01T00:00", "2026-12-31T23:59:59"), "2027-01-01T00:00"),
    ],
)
def test_a_window_ends(window: str, inside: tuple[str, str], after: str) -> None:
    clock = Clock(at(inside[0]))
    budget = Budget(1, unit="calls", window=window, clock=clock)
    with budget.reserve():
        pass
    clock.now = at(inside[1])
    with pytest.raises(BudgetExceeded) as caught, budget.reserve():
        pass
    assert caught.value.resets_at is not None
    assert caught.value.resets_at.timestamp() == at(after)
    clock.now = at(after)
    with budget.reserve():
        pass


@pytest.mark.parametrize(
    ("window", "zone", "first", "last", "after"),
    [
        ("day", "Europe/Berlin", "2026-03-29T00:00", "2026-03-29T23:59:59", "2026-03-30T00:00"),  # 23 hours
        ("day", "Europe/Berlin", "2026-10-25T00:00", "2026-10-25T23:59:59", "2026-10-26T00:00"),  # 25 hours
        ("month", "America/New_York", "2026-11-01T00:00", "2026-11-30T23:59:59", "2026-12-01T00:00"),
        ("month", "Pacific/Kiritimati", "2026-11-01T00:00", "2026-11-30T23:59:59", "2026-12-01T00:00"),
        ("day", "America/Sao_Paulo", "2018-11-04T01:00", "2018-11-04T23:59:59", "2018-11-05T00:00"),  # no midnight
    ],
)
def test_calendar_windows_follow_the_clocks_of_their_zone(
    window: str, zone: str, first: str, last: str, after: str
) -> None:
    clock = Clock(at(first, zone))
    budget = Budget(2, unit="calls", window=f"{window}@{zone}", clock=clock)
    with budget.reserve():
        pass
    clock.now = at(first, zone) - 1
    assert budget.state().used == 0, "the second before is of the window before"
    clock.now = at(last, zone)
    assert budget.state().used == 1
    assert budget.state().resets_at == datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))
    clock.now = at(after, zone)
    assert budget.state().used == 0


def test_a_reservation_counts_in_the_window_that_it_began_in() -> None:
    clock = Clock(at("2026-11-22T23:59"))
    budget = Budget(1.0, clock=clock)
    with budget.reserve(0.8) as reservation:
        clock.now += 120
        reservation.settle(0.6)
    assert budget.state().used == 0
    clock.now -= 120
    assert budget.state().used == pytest.approx(0.6)


def test_a_sliding_window_lets_go_late_never_early() -> None:
    clock = Clock(1_800_000_000.0)
    budget = Budget(1, unit="calls", window="sliding:1h", clock=clock)
    with budget.reserve():
        pass
    clock.now += 3599
    with pytest.raises(BudgetExceeded) as caught, budget.reserve():
        pass
    assert caught.value.resets_at is not None
    assert 0 < caught.value.resets_at.timestamp() - clock.now <= 61
    clock.now = caught.value.resets_at.timestamp()
    with budget.reserve():
        pass


def test_a_long_call_counts_in_a_sliding_window_from_its_end() -> None:
    clock = Clock()
    budget = Budget(1, unit="calls", window="sliding:1h", clock=clock)
    with budget.reserve():
        clock.now += 1800
    clock.now += 3500
    assert budget.state().used == 1


@pytest.mark.parametrize("window", ["day", "1h", "sliding:24h"])
@pytest.mark.parametrize("jump", [-90_000.0, 90_000.0, -7200.0, 7200.0, 3e7])
def test_a_clock_that_jumps_and_comes_back_finds_what_was_spent(window: str, jump: float) -> None:
    clock = Clock(at("2026-11-22T12:30"))
    budget = Budget(3, unit="calls", window=window, clock=clock)
    with budget.reserve(2):
        pass
    clock.now += jump
    state = budget.state()
    assert state.used in (0, 2)
    with budget.reserve():
        pass
    clock.now -= jump
    assert budget.state().used >= 2
    with pytest.raises(BudgetExceeded), budget.reserve(2):
        pass


# --- what is told ---------------------------------------------------------------------------------------------------


def test_thresholds_are_told_once_a_window(captured: Captured) -> None:
    told: list[BudgetState] = []
    clock = Clock()
    budget = Budget(10, unit="calls", window="1h", name="hourly", on_threshold=told.append, clock=clock, scope="tenant")
    for _ in range(2):
        for _ in range(10):
            with budget.reserve(tenant="acme"):
                pass
        clock.now += 3600
    assert [each.used for each in told] == [5, 8, 10] * 2
    events = [each for each in captured.events if each.event_name == "seatrace.budget.threshold"]
    assert len(events) == 6
    assert dict(events[0].attributes) == {
        "seatrace.budget.name": "hourly",
        "seatrace.budget.unit": "calls",
        "seatrace.budget.window": "1h",
        "seatrace.budget.scope": "tenant=acme",
        "seatrace.budget.threshold": "0.5",
        "seatrace.budget.limit": 10.0,
        "seatrace.budget.used": 5.0,
        "seatrace.budget.reserved": 0.0,
    }
    assert captured.total("seatrace.budget.crossings", seatrace_budget_threshold="0.8") == 2


def test_the_first_refusal_is_the_whole_limits_crossing(captured: Captured) -> None:
    told: list[BudgetState] = []
    budget = Budget(1.0, thresholds=(1.0,), on_threshold=told.append)
    with budget.reserve(0.9):
        pass
    for _ in range(3):
        with pytest.raises(BudgetExceeded), budget.reserve(0.2):
            pass
    assert len(told) == 1
    with budget.reserve(0.1):
        pass
    assert len(told) == 1


def test_gauges_show_limit_used_and_reserved(captured: Captured) -> None:
    budget = Budget(10.0, name="daily", scope="tenant")
    with budget.reserve(4.0, tenant="acme") as reservation:
        with budget.reserve(2.5, tenant="acme"):
            reservation.settle(3.0)
            assert captured.total("seatrace.budget.reserved", seatrace_budget_scope="tenant=acme") == 6.5
    assert captured.total("seatrace.budget.limit", seatrace_budget_name="daily") == 10
    assert captured.total("seatrace.budget.used", seatrace_budget_scope="tenant=acme") == 5.5
    assert captured.total("seatrace.budget.reserved", seatrace_budget_scope="tenant=acme") == 0
    assert captured.total("seatrace.budget.spend", seatrace_budget_name="daily") == 5.5


def test_a_gauge_begins_anew_with_its_window(captured: Captured) -> None:
    clock = Clock()
    budget = Budget(10.0, name="hourly", window="1h", clock=clock)
    with budget.reserve(4.0):
        pass
    clock.now += 3600
    assert captured.total("seatrace.budget.used", seatrace_budget_name="hourly") == 0


def test_counters_begin_at_zero(captured: Captured) -> None:
    Budget(1, unit="calls", name="fresh").watch()()

    def points(name: str) -> list[Any]:
        return [each for each in captured.points(name) if each.attributes["seatrace.budget.name"] == "fresh"]

    assert [point.value for point in points("seatrace.budget.rejections")] == [0]
    assert [point.value for point in points("seatrace.budget.spend")] == [0]
    crossings = points("seatrace.budget.crossings")
    assert {point.attributes["seatrace.budget.threshold"]: point.value for point in crossings} == {
        "0.5": 0,
        "0.8": 0,
        "1": 0,
    }


def test_the_gauges_of_scopes_are_there_from_the_first_call_on() -> None:
    program = """
from seatrace.runtime.budget import Budget
from seatrace.runtime.routing import ModelSelector
from seatrace.testing import capture
budget = Budget(3, unit="calls", scope="tenant")
with capture() as captured, budget.reserve(tenant="acme"):
    assert captured.total("seatrace.budget.reserved", seatrace_budget_scope="tenant=acme") == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_budgets_work_while_seatrace_is_off() -> None:
    budget = Budget(1, unit="calls")
    with budget.reserve():
        pass
    with pytest.raises(BudgetExceeded), budget.reserve():
        pass
    with budget.run():
        ask(client())  # not observed: nothing to enforce


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf"), -0.001, "10", None, True, 1e30])
def test_a_limit_is_a_number_from_zero_on(limit: Any) -> None:
    with pytest.raises(ConfigError, match="limit"):
        Budget(limit)


@pytest.mark.parametrize(
    "options",
    [
        {"unit": "eur"},
        {"window": "fortnight"},
        {"window": "0h"},
        {"window": "-1h"},
        {"window": "sliding:day"},
        {"window": "1h@Europe/Berlin"},
        {"window": "day@Mars/Base"},
        {"window": "day@"},
        {"window": ""},
        {"scope": "planet"},
        {"scope": ("tenant", "planet")},
        {"thresholds": (0,)},
        {"thresholds": (float("nan"),)},
        {"action": "explode"},
        {"fail": "sideways"},
        {"on_unpriced": "assume:-1"},
        {"on_unpriced": "assume:much"},
        {"on_unpriced": "shrug"},
    ],
    ids=str,
)
def test_a_setting_that_is_none_says_so(options: Any) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Budget(1.0, **options)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), None])
def test_an_amount_is_a_number_from_zero_on(amount: Any) -> None:
    with pytest.raises(ConfigError, match="expected an amount"):
        Budget(1.0).reserve(amount)
    with Budget(1.0).reserve(0.5) as reservation:
        with pytest.raises(ConfigError):
            reservation.settle(-1 if amount is None else amount)


def test_a_scope_has_the_budgets_names() -> None:
    with pytest.raises(ConfigError, match="got user"):
        Budget(1.0, scope="tenant").reserve(0.1, user="ann")
    with pytest.raises(ConfigError, match="got 'planet'"):
        with Budget(1.0).run(planet="mars"):
            pass


def test_memory_stays_bounded_over_many_windows_and_scopes() -> None:
    clock = Clock()
    ledger = MemoryLedger(max_scopes=50, clock=clock)
    budget = Budget(10, unit="calls", window="1m", scope="user", ledger=ledger, clock=clock)
    for number in range(2000):
        clock.now += 7
        with budget.reserve(user=str(number % 200)):
            pass
    assert len(ledger._scopes) <= 51
    assert max(len(slots) for slots in ledger._scopes.values()) <= 3
    assert len(budget._seen) <= module._SEEN_LIMIT


def test_the_numbers_of_the_provider_are_what_counts(watched: Any) -> None:
    budget = watched(1000, unit="tokens")
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    ask(client(completion(usage={**COMPLETION["usage"], **usage})), max_tokens=10)
    assert budget.state().used == 150
