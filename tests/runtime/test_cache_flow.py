"""A cache around a call: one call for many callers, old answers, failures. No store but memory."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import seatrace
from seatrace.core import pipeline
from seatrace.errors import ConfigError
from seatrace.runtime import CachePolicy, MemoryStore, ResponseCache

from .clocks import Clock

REQUEST = {"model": "m", "prompt": "hello", "temperature": 0}


class Counter:
    """A call that says how often it was made."""

    def __init__(self, *outcomes: Any) -> None:
        self.calls = 0
        self._outcomes = outcomes

    def __call__(self) -> Any:
        self.calls += 1
        if not self._outcomes:
            return {"call": self.calls}
        outcome = self._outcomes[min(self.calls, len(self._outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def later(self) -> Any:
        """The same for asynchronous programs."""
        await asyncio.sleep(0)
        return self()


def cache(clock: Callable[[], float] | None = None, **options: Any) -> ResponseCache:
    """A cache in memory without chance."""
    store = MemoryStore(clock=clock) if clock is not None else "memory://"
    return ResponseCache(options.pop("store", store), **{"jitter": 0.0, **options})


def test_the_second_request_gets_the_answer_of_the_first() -> None:
    kept, call = cache(), Counter()
    assert kept.get_or_call_sync(REQUEST, call) == kept.get_or_call_sync(dict(reversed(REQUEST.items())), call)
    assert call.calls == 1
    stats = kept.stats()
    assert (stats.hits, stats.misses, stats.entries, stats.hit_rate) == (1, 1, 1, 0.5)


async def test_asynchronous_programs_get_it_as_well() -> None:
    kept, call = cache(), Counter()
    assert await kept.get_or_call(REQUEST, call.later) == await kept.get_or_call(REQUEST, call.later)
    assert kept.get_or_call_sync(REQUEST, call) == {"call": 1}
    assert call.calls == 1


def test_what_is_handed_out_is_the_callers_own() -> None:
    kept, call = cache(), Counter({"words": ["a"]})
    first = kept.get_or_call_sync(REQUEST, call)
    first["words"].append("spoiled")
    second = kept.get_or_call_sync(REQUEST, call)
    second["words"].append("spoiled, too")
    assert kept.get_or_call_sync(REQUEST, call) == {"words": ["a"]}


# --- what is cached -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [{"model": "m"}, {"temperature": 0.1}, {"temperature": None}, {"seed": None}])
def test_requests_that_are_not_deterministic_are_made_each_time(request_: dict[str, Any]) -> None:
    kept, call = cache(), Counter()
    for _ in range(3):
        kept.get_or_call_sync(request_, call)
    assert call.calls == 3
    assert kept.stats().bypassed == 3
    assert kept.stats().reasons == {"not_deterministic": 3}
    assert kept.stats().hit_rate == 0.0


@pytest.mark.parametrize("request_", [{"temperature": 0}, {"temperature": 0.0}, {"seed": 0}])
def test_requests_that_are_deterministic_by_their_own_word_are_kept(request_: dict[str, Any]) -> None:
    kept, call = cache(), Counter()
    assert kept.get_or_call_sync(request_, call) == kept.get_or_call_sync(request_, call)


def test_all_requests_are_kept_where_that_is_wanted() -> None:
    kept, call = cache(policy="always"), Counter()
    assert kept.get_or_call_sync({"model": "m"}, call) == kept.get_or_call_sync({"model": "m"}, call)


def chat(reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion."""
    return {"choices": [{"index": 0, "finish_reason": reason, "message": {"content": "x", **message}}]}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (chat("length"), "finish_reason"),
        (chat("content_filter"), "finish_reason"),
        (chat("tool_calls", tool_calls=[{"id": "a"}]), "tool_turn"),
        (chat("stop", tool_calls=[{"id": "a"}]), "tool_turn"),  # where a function was forced
        (chat(refusal="no"), "refusal"),
        ({"type": "message", "stop_reason": "max_tokens", "content": []}, "finish_reason"),
        ({"type": "message", "stop_reason": "refusal", "content": []}, "finish_reason"),
        ({"type": "message", "stop_reason": "tool_use", "content": [{"type": "tool_use"}]}, "tool_turn"),
        ({"object": "response", "status": "incomplete", "output": []}, "finish_reason"),
        ({"object": "response", "status": "failed", "output": []}, "failed"),
        ("x" * 2000, "too_large"),
        (object(), "not_storable"),
        ({"x": {1: 2}}, "not_storable"),
        (math.nan, "not_storable"),
    ],
)
def test_answers_that_are_not_worth_keeping_are_handed_out_and_not_kept(answer: Any, why: str) -> None:
    kept, call = cache(policy=CachePolicy(max_entry_bytes=1000)), Counter(answer)
    assert kept.get_or_call_sync(REQUEST, call) is answer
    assert kept.get_or_call_sync(REQUEST, call) is answer
    assert call.calls == 2
    assert kept.stats().reasons == {why: 2}


def test_tool_turns_and_refusals_are_kept_where_that_is_wanted() -> None:
    policy = CachePolicy(tool_turns=True, refusals=True, finish_reasons=frozenset({"stop", "length"}))
    for answer in (chat("tool_calls", tool_calls=[{"id": "a"}]), chat(refusal="no"), chat("length")):
        kept, call = cache(policy=policy), Counter(answer)
        assert kept.get_or_call_sync(REQUEST, call) == kept.get_or_call_sync(REQUEST, call)
        assert call.calls == 1


def test_what_changes_something_at_the_provider_is_made_each_time() -> None:
    kept, call = cache(policy="always"), Counter()
    for request in ({"background": True}, {"conversation": "c"}):
        kept.get_or_call_sync(request, call)
    assert kept.stats().reasons == {"stateful": 2}


def test_a_request_without_a_key_goes_by_the_cache() -> None:
    kept, call = cache(), Counter()
    for _ in range(2):
        kept.get_or_call_sync({**REQUEST, "client": object()}, call)
    assert call.calls == 2
    assert kept.stats().reasons == {"not_keyable": 2}


# --- for whom -----------------------------------------------------------------------------------------------------


def test_what_one_tenant_was_told_no_other_is() -> None:
    kept, call = cache(), Counter()
    for tenant in ("a", "b", "a", None):
        with seatrace.session(tenant=tenant) if tenant else contextlib.nullcontext():
            kept.get_or_call_sync(REQUEST, call)
    assert call.calls == 3


def test_a_cache_by_user_keeps_nothing_of_nobody() -> None:
    kept, call = cache(scope="user"), Counter()
    kept.get_or_call_sync(REQUEST, call)
    kept.get_or_call_sync(REQUEST, call)
    assert call.calls == 2
    assert kept.stats().reasons == {"no_scope": 2}
    for user in ("a", "b", "a"):
        with seatrace.session(user=user):
            kept.get_or_call_sync(REQUEST, call)
    assert call.calls == 4


def test_a_global_cache_and_namespaces() -> None:
    space, call = "one", Counter()
    kept = cache(scope="global", namespace=lambda: space)
    for tenant in ("a", "b"):
        with seatrace.session(tenant=tenant):
            kept.get_or_call_sync(REQUEST, call)
    assert call.calls == 1
    space = "two"
    kept.get_or_call_sync(REQUEST, call)
    assert call.calls == 2


# --- one call for many --------------------------------------------------------------------------------------------


async def test_a_hundred_tasks_at_once_make_one_call() -> None:
    kept, call = cache(), Counter()
    found = await asyncio.gather(*(kept.get_or_call(REQUEST, call.later) for _ in range(100)))
    assert call.calls == 1
    assert found == [{"call": 1}] * 100
    assert len({id(each) for each in found}) == 100
    assert (kept.stats().misses, kept.stats().coalesced) == (1, 99)


def waits_for(cache: ResponseCache, waiting: int) -> None:
    """Returns when so many wait for the one flight that is under way."""
    (flight,) = cache._engine._flights._flights.values()
    while flight._waiting < waiting:
        threading.Event().wait(0.001)


def test_a_hundred_threads_at_once_make_one_call() -> None:
    kept, call, go = cache(), Counter(), threading.Event()

    def slow() -> Any:
        go.wait()
        return call()

    with ThreadPoolExecutor(100) as pool:
        first = pool.submit(kept.get_or_call_sync, REQUEST, slow)
        while not kept._engine._flights._flights:
            threading.Event().wait(0.001)
        others = [pool.submit(kept.get_or_call_sync, REQUEST, slow) for _ in range(99)]
        waits_for(kept, 99)
        go.set()
        assert [each.result() for each in (first, *others)] == [{"call": 1}] * 100
    assert call.calls == 1


async def test_threads_and_event_loops_share_one_call() -> None:
    kept, call, go = cache(), Counter(), asyncio.Event()

    async def slow() -> Any:
        await go.wait()
        return call()

    async def elsewhere() -> Any:
        return await kept.get_or_call(REQUEST, slow)

    first = asyncio.ensure_future(kept.get_or_call(REQUEST, slow))
    await asyncio.sleep(0)
    thread = asyncio.ensure_future(asyncio.to_thread(kept.get_or_call_sync, REQUEST, call))
    loop = asyncio.ensure_future(asyncio.to_thread(asyncio.run, elsewhere()))
    await asyncio.to_thread(waits_for, kept, 3)
    go.set()
    assert await asyncio.gather(first, thread, loop) == [{"call": 1}] * 3
    assert call.calls == 1


async def test_the_call_survives_the_task_that_began_it() -> None:
    kept, call, go = cache(), Counter(), asyncio.Event()

    async def slow() -> Any:
        await go.wait()
        return call()

    leader = asyncio.ensure_future(kept.get_or_call(REQUEST, slow))
    await asyncio.sleep(0)
    followers = [asyncio.ensure_future(kept.get_or_call(REQUEST, slow)) for _ in range(3)]
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    go.set()
    assert await asyncio.gather(*followers) == [{"call": 1}] * 3
    assert call.calls == 1


async def test_the_call_is_cancelled_once_nobody_waits_for_it() -> None:
    kept, stopped = cache(), asyncio.Event()

    async def endless() -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    tasks = [asyncio.ensure_future(kept.get_or_call(REQUEST, endless)) for _ in range(2)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert not stopped.is_set()
    tasks[1].cancel()
    await asyncio.wait_for(stopped.wait(), 30)
    assert await kept.get_or_call(REQUEST, Counter().later) == {"call": 1}  # and the next one makes it anew


def test_another_thread_makes_the_call_anew_where_its_maker_was_interrupted() -> None:
    kept, go, call = cache(), threading.Event(), Counter(KeyboardInterrupt(), {"call": 2})

    def slow() -> Any:
        go.wait()
        return call()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(kept.get_or_call_sync, REQUEST, slow)
        while not kept._engine._flights._flights:
            threading.Event().wait(0.001)
        second = pool.submit(kept.get_or_call_sync, REQUEST, slow)
        waits_for(kept, 1)
        go.set()
        with pytest.raises(KeyboardInterrupt):
            first.result()
        assert second.result() == {"call": 2}


async def test_all_who_wait_get_the_calls_own_exception_and_it_is_not_kept() -> None:
    error = ValueError("no")
    kept, call = cache(), Counter(error, {"call": 2})
    found = await asyncio.gather(*(kept.get_or_call(REQUEST, call.later) for _ in range(3)), return_exceptions=True)
    assert found == [error] * 3
    assert found[0] is error
    assert await kept.get_or_call(REQUEST, call.later) == {"call": 2}


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), TimeoutError(), RecursionError()])
def test_odd_exceptions_pass_as_well(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        cache().get_or_call_sync(REQUEST, Counter(error))
    assert raised.value is error


async def test_a_coroutine_function_in_a_synchronous_program_is_an_error_that_says_so() -> None:
    kept, call = cache(), Counter()
    with pytest.raises(ConfigError, match="call: expected a plain function here, got a coroutine function"):
        kept.get_or_call_sync(REQUEST, call.later)


def test_a_fault_of_the_cache_itself_does_not_reach_the_program(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> float:
        raise ZeroDivisionError

    kept, call = cache(broken), Counter()
    assert kept.get_or_call_sync(REQUEST, call) == {"call": 1}
    assert asyncio.run(kept.get_or_call(REQUEST, call.later)) == {"call": 2}
    assert kept.stats().reasons == {"fault": 2}
    assert "seatrace could not look into a cache" in caplog.text


def test_a_call_may_ask_for_itself() -> None:
    kept, call = cache(), Counter()
    assert kept.get_or_call_sync(REQUEST, lambda: kept.get_or_call_sync(REQUEST, call)) == {"call": 1}
    assert kept.stats().reasons == {"inside_itself": 1}


async def test_an_asynchronous_call_may_ask_for_itself_in_both_ways() -> None:
    kept, call = cache(), Counter()

    async def inner() -> Any:
        return await kept.get_or_call(REQUEST, call.later), kept.get_or_call_sync(REQUEST, call)

    assert await kept.get_or_call(REQUEST, inner) == ({"call": 1}, {"call": 2})


async def test_a_synchronous_caller_does_not_wait_for_the_loop_that_it_holds_up() -> None:
    kept, call, go = cache(), Counter(), asyncio.Event()

    async def slow() -> Any:
        await go.wait()
        return "late"

    task = asyncio.ensure_future(kept.get_or_call(REQUEST, slow))
    await asyncio.sleep(0.01)
    assert kept.get_or_call_sync(REQUEST, call) == {"call": 1}
    go.set()
    assert await task == "late"


async def test_without_single_flight_everybody_makes_a_call() -> None:
    kept, call = cache(single_flight=False), Counter()
    await asyncio.gather(*(kept.get_or_call(REQUEST, call.later) for _ in range(5)))
    assert call.calls == 5


# --- time ---------------------------------------------------------------------------------------------------------


def test_an_answer_ends_with_its_time() -> None:
    clock, call = Clock(), Counter()
    kept = cache(clock, ttl=10)
    kept.get_or_call_sync(REQUEST, call)
    clock.now += 9.9
    assert kept.get_or_call_sync(REQUEST, call) == {"call": 1}
    clock.now += 0.1
    assert kept.get_or_call_sync(REQUEST, call) == {"call": 2}
    assert kept.stats().evictions == {"ttl": 1}


def test_jitter_ends_answers_at_different_times_and_none_late() -> None:
    clock, call = Clock(), Counter()
    kept = cache(clock, ttl=100, jitter=0.5)
    for at in range(200):
        kept.get_or_call_sync({**REQUEST, "seed": at}, call)
    lives = {entry.fresh_until - clock.now for entry in kept._engine.store._entries.values()}  # type: ignore[attr-defined]
    assert len(lives) > 100
    assert 50 <= min(lives) < 60
    assert 90 < max(lives) <= 100


def test_no_time_keeps_nothing_and_endless_time_keeps_for_ever() -> None:
    for ttl, calls in ((0, 2), (math.inf, 1)):
        clock, call = Clock(), Counter()
        kept = cache(clock, ttl=ttl)
        kept.get_or_call_sync(REQUEST, call)
        clock.now += 1e9
        kept.get_or_call_sync(REQUEST, call)
        assert call.calls == calls


async def test_a_stale_answer_is_served_at_once_and_made_anew_once_in_the_background() -> None:
    clock, call = Clock(), Counter()
    kept = cache(clock, ttl=10, stale_while_revalidate=10)
    await kept.get_or_call(REQUEST, call.later)
    clock.now += 15
    assert [await kept.get_or_call(REQUEST, call.later) for _ in range(5)] == [{"call": 1}] * 5
    await until(lambda: kept.get(REQUEST) == {"call": 2})
    assert call.calls == 2
    clock.now += 20
    assert await kept.get_or_call(REQUEST, call.later) == {"call": 3}  # too old to be served
    assert kept.stats().stale == 5


def test_a_thread_makes_the_stale_answer_anew_for_synchronous_programs() -> None:
    clock, call, go = Clock(), Counter(), threading.Event()
    kept = cache(clock, ttl=10, stale_while_revalidate=10)
    kept.get_or_call_sync(REQUEST, call)
    clock.now += 15

    def slow() -> Any:
        go.wait()
        assert threading.current_thread().daemon
        return call()

    assert kept.get_or_call_sync(REQUEST, slow) == {"call": 1}
    assert kept.get_or_call_sync(REQUEST, slow) == {"call": 1}
    go.set()
    while kept.get(REQUEST) != {"call": 2}:
        threading.Event().wait(0.001)
    assert call.calls == 2
    assert kept.stats().stale == 2


async def test_a_refresh_that_fails_leaves_the_old_answer() -> None:
    clock, call = Clock(), Counter("old", ValueError("down"), "new")
    kept = cache(clock, ttl=10, stale_while_revalidate=100)
    await kept.get_or_call(REQUEST, call.later)
    clock.now += 15
    assert await kept.get_or_call(REQUEST, call.later) == "old"
    await until(lambda: call.calls == 2 and not kept._engine._flights._flights)
    assert await kept.get_or_call(REQUEST, call.later) == "old"
    await until(lambda: kept.get(REQUEST) == "new")


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop run until something holds."""
    while not holds():
        await asyncio.sleep(0.001)


def test_an_old_answer_is_better_than_an_error_where_that_is_wanted() -> None:
    clock, call = Clock(), Counter("old", ValueError("down"))
    kept = cache(clock, ttl=10, stale_if_error=100)
    kept.get_or_call_sync(REQUEST, call)
    clock.now += 50
    assert kept.get_or_call_sync(REQUEST, call) == "old"
    assert (call.calls, kept.stats().stale) == (2, 1)
    clock.now += 100
    with pytest.raises(ValueError, match="down"):
        kept.get_or_call_sync(REQUEST, call)


def test_a_refusal_is_no_outage() -> None:
    clock, call = Clock(), Counter("old", pipeline.Refused("over budget"))
    kept = cache(clock, ttl=10, stale_if_error=100)
    kept.get_or_call_sync(REQUEST, call)
    clock.now += 50
    with pytest.raises(pipeline.Refused):
        kept.get_or_call_sync(REQUEST, call)


# --- by hand ------------------------------------------------------------------------------------------------------


def test_answers_can_be_set_looked_up_and_forgotten() -> None:
    kept = cache()
    assert kept.get(REQUEST) is None
    assert kept.set(REQUEST, "by hand")
    assert kept.get(REQUEST) == "by hand"
    assert kept.invalidate(REQUEST)
    assert not kept.invalidate(REQUEST)
    assert kept.get(REQUEST) is None
    assert not kept.set(REQUEST, chat("length"))
    assert kept.stats().evictions == {"invalidated": 1}


def test_clear_forgets_the_present_scope() -> None:
    kept = cache()
    for tenant in ("a", "b"):
        with seatrace.session(tenant=tenant):
            kept.set(REQUEST, tenant)
            kept.set({**REQUEST, "seed": 1}, tenant)
    with seatrace.session(tenant="a"):
        assert kept.clear() == 2
        assert kept.get(REQUEST) is None
    with seatrace.session(tenant="b"):
        assert kept.get(REQUEST) == "b"
    assert kept.clear(everything=True) == 2


async def test_what_was_invalidated_while_it_was_made_is_handed_out_and_not_kept() -> None:
    kept, call, go = cache(), Counter(), asyncio.Event()

    async def slow() -> Any:
        await go.wait()
        return "of yesterday"

    task = asyncio.ensure_future(kept.get_or_call(REQUEST, slow))
    await asyncio.sleep(0.01)
    kept.invalidate(REQUEST)
    go.set()
    assert await task == "of yesterday"
    assert await kept.get_or_call(REQUEST, call.later) == {"call": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ttl": -1}, "ttl: expected a number of at least 0, got -1"),
        ({"ttl": math.nan}, "ttl: expected a number of at least 0, got nan"),
        ({"ttl": "1"}, "ttl: expected a number of at least 0, got '1'"),
        ({"ttl": True}, "ttl"),
        ({"stale_if_error": -0.1}, "stale_if_error"),
        ({"stale_while_revalidate": math.nan}, "stale_while_revalidate"),
        ({"jitter": -1}, "jitter"),
        ({"lease": -1}, "lease"),
        ({"scope": "everyone"}, "scope: expected one of global, tenant, user, session, got 'everyone'"),
        ({"policy": "sometimes"}, "requests: expected 'deterministic' or 'always', got 'sometimes'"),
        ({"store": "mongodb://x"}, "expected memory://, sqlite:///path, redis://host or a store object"),
        ({"store": "memory://?max_entries=-1"}, "expected a size"),
        ({"store": "memory://?max_bytes=64XB"}, "expected a size such as 64MB, 1GiB or 100000, got '64XB'"),
        ({"store": "memory://?entries=1"}, "expected max_entries and max_bytes"),
        ({"store": "sqlite://"}, "expected the path of a file"),
    ],
)
def test_malformed_settings_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ResponseCache(**options)
    assert words in str(raised.value)


@pytest.mark.parametrize("options", [{"max_entries": -1}, {"max_entries": 1.5}, {"max_bytes": math.nan}])
def test_malformed_limits_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MemoryStore(**options)
    with pytest.raises(ConfigError):
        CachePolicy(max_entry_bytes=-1)
    with pytest.raises(ConfigError):
        CachePolicy(finish_reasons="stop")  # type: ignore[arg-type]
