"""The batcher through its public door: when batches are closed, what each item gets, what becomes of the rest."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seatrace
from seatrace import testing
from seatrace.demo.provider import FakeProvider
from seatrace.errors import ConfigError
from seatrace.runtime import Batcher, BatcherClosed, BatchOverflow, BatchReport, BatchSizeMismatch

from .virtual import run


@dataclass
class Doubling:
    """A batch function that notes when it was called with what."""

    takes: float = 0.0
    calls: list[tuple[float, list[Any]]] = field(default_factory=list)

    async def __call__(self, items: list[Any]) -> list[Any]:
        self.calls.append((asyncio.get_running_loop().time(), items))
        await asyncio.sleep(self.takes)
        return [2 * item for item in items]

    @property
    def batches(self) -> list[list[Any]]:
        return [items for _, items in self.calls]


# --- when a batch is closed -------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    gaps=st.lists(st.floats(0, 0.2), min_size=1, max_size=40),
    max_size=st.integers(1, 8),
    max_wait=st.floats(0, 0.3),
    takes=st.floats(0, 0.5),
    concurrency=st.integers(1, 3),
)
def test_no_item_waits_longer_than_the_deadline_where_a_slot_is_free(
    gaps: list[float], max_size: int, max_wait: float, takes: float, concurrency: int
) -> None:
    double = Doubling(takes)
    submitted: dict[int, float] = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        batcher = Batcher(double, max_size=max_size, max_wait=max_wait, concurrency=concurrency)
        tasks = []
        for number, gap in enumerate(gaps):
            await asyncio.sleep(gap)
            submitted[number] = loop.time()
            tasks.append(asyncio.ensure_future(batcher.submit(number)))
        assert await asyncio.gather(*tasks) == [2 * number for number in range(len(gaps))]

    run(main())
    assert [item for batch in double.batches for item in batch] == list(range(len(gaps)))
    for at, (started, items) in enumerate(double.calls):
        busy = sorted(begin + takes for begin, _ in double.calls[:at])
        free = busy[-concurrency] if len(busy) >= concurrency else 0.0
        assert len(items) <= max_size
        assert started <= max(submitted[items[0]] + max_wait, free) + 1e-5
        if len(items) < max_size:  # nothing but its deadline may start it
            assert started >= submitted[items[0]] + max_wait - 1e-5


def test_a_steady_trickle_does_not_push_the_deadline_away() -> None:
    double = Doubling()
    waits: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        batcher = Batcher(double, max_wait=0.05)

        async def one(number: int) -> None:
            began = loop.time()
            await batcher.submit(number)
            waits.append(loop.time() - began)

        tasks = []
        for number in range(100):
            tasks.append(asyncio.ensure_future(one(number)))
            await asyncio.sleep(0.04)
        await asyncio.gather(*tasks)

    run(main())
    assert max(waits) < 0.0501  # a timer that every item restarts makes it 4.1 s


def test_a_full_batch_starts_at_once_and_the_rest_keeps_its_own_deadline() -> None:
    double = Doubling()

    async def main() -> None:
        batcher = Batcher(double, max_size=3, max_wait=1.0)
        await batcher.map(range(4))

    run(main())
    assert double.calls == [(1_000.0, [0, 1, 2]), (1_001.0, [3])]


def test_items_gather_while_all_slots_are_busy() -> None:
    double = Doubling(takes=10)

    async def main() -> None:
        batcher = Batcher(double, max_wait=0.1)

        async def later(number: int) -> int:
            await asyncio.sleep(number)
            return await batcher.submit(number)

        await asyncio.gather(*map(later, range(6)))

    run(main())
    assert double.batches == [[0], [1, 2, 3, 4, 5]]


def test_weight_closes_a_batch_and_a_heavy_item_goes_alone() -> None:
    double = Doubling()

    async def main() -> None:
        batcher = Batcher(double, max_weight=10, weight=float, concurrency=9)
        await batcher.map([4, 5, 3, 50, 1])

    run(main())
    assert double.batches == [[4, 5], [3], [50], [1]]


def test_zero_wait_gathers_one_turn_of_the_loop() -> None:
    double = Doubling()

    async def main() -> None:
        batcher = Batcher(double, max_wait=0)
        await asyncio.gather(*map(batcher.submit, range(5)))
        await batcher.submit(9)

    run(main())
    assert double.batches == [[0, 1, 2, 3, 4], [9]]


def test_flush_starts_what_waits_now() -> None:
    double = Doubling()

    async def main() -> None:
        batcher = Batcher(double, max_wait=60)
        waiting = asyncio.gather(*map(batcher.submit, range(2)))
        await asyncio.sleep(0)
        batcher.flush()
        await waiting

    run(main())
    assert double.calls == [(1_000.0, [0, 1])]


# --- what an item gets ------------------------------------------------------------------------------------------------


def test_one_bad_item_fails_alone() -> None:
    calls: list[list[int]] = []

    async def picky(items: list[int]) -> list[int]:
        calls.append(items)
        if 6 in items:
            raise ValueError("six")
        return items

    async def main() -> list[Any]:
        batcher = Batcher(picky, max_size=8)
        return await asyncio.gather(*map(batcher.submit, range(8)), return_exceptions=True)

    results = run(main())
    assert [each for each in results if not isinstance(each, ValueError)] == [0, 1, 2, 3, 4, 5, 7]
    assert str(results[6]) == "six"
    assert len(calls) == 7  # 8, then 4 and 4, then 2 and 2, then 1 and 1


class _Status(Exception):
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (_Status(429), 1),
        (_Status(401), 1),
        (_Status(503), 1),
        (ConnectionResetError(), 1),
        (asyncio.TimeoutError(), 1),
        (openai.APIConnectionError(request=None), 1),  # type: ignore[arg-type]
        (_Status(400), 7),
        (_Status(413), 7),
    ],
    ids=lambda value: f"{type(value).__name__}{getattr(value, 'status_code', '')}",
)
def test_an_error_that_concerns_no_item_is_not_tried_again_with_halves(error: Exception, calls: int) -> None:
    made: list[list[int]] = []

    def failing(items: list[int]) -> list[int]:
        made.append(items)
        raise error

    async def main() -> list[Any]:
        batcher = Batcher(failing, max_size=4)
        return await asyncio.gather(*map(batcher.submit, range(4)), return_exceptions=True)

    assert all(each is error for each in asyncio.run(main()))
    assert len(made) == calls


def test_the_program_may_decide_whether_to_split() -> None:
    made: list[list[int]] = []

    async def failing(items: list[int]) -> list[int]:
        made.append(items)
        raise KeyError(items[0])

    async def main(**options: Any) -> int:
        made.clear()
        batcher = Batcher(failing, max_size=2, **options)
        await asyncio.gather(*map(batcher.submit, range(2)), return_exceptions=True)
        return len(made)

    assert run(main(on_error="fail")) == 1
    assert run(main(on_error=lambda error: error.args == (0,))) == 3


def test_an_exception_in_a_results_place_is_that_items() -> None:
    async def main() -> list[Any]:
        async def mixed(items: list[int]) -> list[int | Exception]:
            return [ValueError(item) if item % 2 else item for item in items]

        batcher = Batcher(mixed, max_wait=0)
        return await asyncio.gather(*map(batcher.submit, range(4)), return_exceptions=True)

    results = run(main())
    assert [type(each) for each in results] == [int, ValueError, int, ValueError]


@pytest.mark.parametrize("returned", [[1], [1, 2, 3], None, "ab", {0: 0, 1: 1}], ids=repr)
def test_a_wrong_number_of_results_is_an_error_for_all(returned: Any) -> None:
    async def main() -> list[Any]:
        async def wrong(_: list[int]) -> Any:
            return returned

        batcher = Batcher(wrong, max_wait=0)
        return await asyncio.gather(*map(batcher.submit, range(2)), return_exceptions=True)

    results = run(main())
    assert [type(each) for each in results] == [BatchSizeMismatch] * 2
    assert "2" in str(results[0])


def test_a_generator_of_results_is_as_good_as_a_list() -> None:
    with Batcher(lambda items: (item + 1 for item in items), max_wait=0) as batcher:
        assert batcher.map_sync([1, 2, 3]) == [2, 3, 4]


def test_duplicates_share_one_item_while_it_waits_or_runs() -> None:
    double = Doubling(takes=5)

    async def main() -> None:
        batcher = Batcher(double, max_wait=1, dedup=str.lower)
        first = asyncio.gather(batcher.submit("a"), batcher.submit("A"), batcher.submit("b"))
        await asyncio.sleep(2)  # the batch runs
        assert await batcher.submit("B") == "bb"
        assert await first == ["aa", "aa", "bb"]
        assert await batcher.submit("a") == "aa"

    run(main())
    assert double.batches == [["a", "b"], ["a"]]


def test_a_duplicate_stays_when_the_first_one_leaves() -> None:
    double = Doubling()

    async def main() -> None:
        batcher = Batcher(double, max_wait=1, dedup=True)
        first, second = asyncio.ensure_future(batcher.submit(1)), asyncio.ensure_future(batcher.submit(1))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 2

    run(main())
    assert double.batches == [[1]]


def test_an_item_that_makes_no_key_is_refused_clearly() -> None:
    async def main() -> None:
        batcher = Batcher(Doubling(), dedup=True)
        with pytest.raises(TypeError, match="hashable key, got dict"):
            await batcher.submit({"a": 1})
        assert batcher.pending == 0

    run(main())


# --- cancelling, pressure, closing ------------------------------------------------------------------------------------


def test_a_cancelled_item_does_not_run() -> None:
    double = Doubling()

    async def main() -> None:
        batcher = Batcher(double, max_wait=1)
        tasks = [asyncio.ensure_future(batcher.submit(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.sleep(0)
        assert batcher.pending == 2
        assert await asyncio.gather(tasks[1], tasks[3]) == [2, 6]

    run(main())
    assert double.batches == [[1, 3]]


def test_clients_that_give_up_leave_nothing_behind() -> None:
    async def main() -> None:
        double = Doubling(takes=1_000)
        batcher = Batcher(double, max_wait=0)
        stuck = asyncio.ensure_future(batcher.submit(0))
        await asyncio.sleep(1)
        for number in range(500):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(batcher.submit(number), 1)
        assert batcher.pending == 0
        await stuck

    run(main())


def test_a_batch_that_nobody_waits_for_any_more_is_cancelled() -> None:
    ended: list[str] = []

    async def main() -> None:
        async def slow(items: list[int]) -> list[int]:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            return items

        batcher = Batcher(slow, max_wait=0)
        tasks = [asyncio.ensure_future(batcher.submit(number)) for number in range(2)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        await asyncio.sleep(1)
        assert ended == []
        tasks[1].cancel()
        await asyncio.sleep(1)
        assert ended == ["cancelled"]

    run(main())


def test_too_many_items_wait_their_turn_or_are_refused() -> None:
    double = Doubling(takes=1)

    async def waiting() -> None:
        batcher = Batcher(double, max_size=2, max_wait=0, max_pending=2)
        tasks = [asyncio.ensure_future(batcher.submit(number)) for number in range(9)]
        for _ in range(5):
            await asyncio.sleep(0)
            assert batcher.pending <= 2
        tasks[5].cancel()
        assert await asyncio.gather(*tasks, return_exceptions=True) is not None
        assert [task.result() for task in tasks if not task.cancelled()] == [0, 2, 4, 6, 8, 12, 14, 16]

    run(waiting())
    assert [item for batch in double.batches for item in batch] == [0, 1, 2, 3, 4, 6, 7, 8]

    async def refusing() -> None:
        batcher = Batcher(Doubling(), max_wait=1, max_pending=2, overflow="raise")
        tasks = [asyncio.ensure_future(batcher.submit(number)) for number in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[:2] == [0, 2]
        assert isinstance(results[2], BatchOverflow)

    run(refusing())


@pytest.mark.parametrize("drain", [True, False])
def test_closing_runs_what_waits_or_says_that_it_did_not(drain: bool) -> None:
    double = Doubling(takes=1)

    async def main() -> None:
        batcher = Batcher(double, max_size=2, max_wait=60)
        tasks = [asyncio.ensure_future(batcher.submit(number)) for number in range(5)]
        await asyncio.sleep(0)
        await batcher.aclose(drain=drain)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[:2] == [0, 2]
        if drain:
            assert results[2:] == [4, 6, 8]
        else:
            assert [type(each) for each in results[2:]] == [BatcherClosed] * 3
        with pytest.raises(BatcherClosed):
            await batcher.submit(1)
        await batcher.aclose()

    run(main())


# --- loops, threads, nesting ------------------------------------------------------------------------------------------


def test_one_batcher_serves_one_loop_after_another() -> None:
    double = Doubling()
    batcher = Batcher(double, max_wait=0.001)

    async def main() -> list[int]:
        abandoned = asyncio.ensure_future(batcher.submit(7))  # is cancelled when the loop ends
        await asyncio.sleep(0)
        assert not abandoned.done()
        return await batcher.map([1, 2])

    for _ in range(3):
        assert asyncio.run(main()) == [2, 4]
    assert batcher.pending == 0


def test_threads_join_the_batches_of_the_running_loop() -> None:
    double = Doubling()

    async def main() -> None:
        batcher = Batcher(double, max_size=3, max_wait=60)
        first = asyncio.ensure_future(batcher.submit(1))
        await asyncio.sleep(0)
        others = [asyncio.to_thread(batcher.submit_sync, number) for number in (2, 3)]
        assert sorted(await asyncio.gather(first, *others)) == [2, 4, 6]

    asyncio.run(main())
    assert [sorted(batch) for batch in double.batches] == [[1, 2, 3]]


def test_threads_alone_share_batches() -> None:
    ready = threading.Barrier(8)
    seen: list[int] = []
    results: list[int] = []

    def plain(items: list[int]) -> list[int]:
        seen.append(len(items))
        return [2 * item for item in items]

    batcher = Batcher(plain, max_size=8, max_wait=60)

    def work(number: int) -> None:
        ready.wait()
        results.append(batcher.submit_sync(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert seen == [8]
    batcher.close()
    with pytest.raises(BatcherClosed):
        batcher.submit_sync(1)


def test_a_thread_does_not_wait_for_a_loop_that_has_ended() -> None:
    batcher: Batcher[int, int] = Batcher(Doubling(), max_wait=3_600)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            batcher.submit_sync(1)
        except BaseException as error:
            errors.append(error)

    async def main() -> threading.Thread:
        mine = asyncio.ensure_future(batcher.submit(0))
        await asyncio.sleep(0)
        thread = threading.Thread(target=work)
        thread.start()
        while batcher.pending < 2:
            await asyncio.sleep(0.001)
        mine.cancel()
        return thread

    asyncio.run(main()).join(30)
    assert [type(each) for each in errors] == [BatcherClosed]


def test_a_function_that_exits_ends_its_own_batch_alone() -> None:
    def leave(items: list[int]) -> list[int]:
        if 0 in items:
            raise SystemExit
        return items

    batcher = Batcher(leave, max_size=1)
    with pytest.raises((SystemExit, BatcherClosed)):
        batcher.submit_sync(0)
    assert batcher.submit_sync(1) == 1
    batcher.close()


async def test_the_blocking_door_refuses_to_block_a_loop() -> None:
    batcher: Batcher[int, int] = Batcher(Doubling())
    with pytest.raises(RuntimeError, match=r"await submit\(\)"):
        batcher.submit_sync(1)
    with pytest.raises(RuntimeError, match=r"await aclose\(\)"):
        batcher.close()


def test_a_function_may_submit_to_its_own_batcher() -> None:
    def factorials(batcher: Batcher[int, int], items: list[int]) -> list[int]:
        smaller = batcher.map_sync([item - 1 for item in items if item > 1])
        return [1 if item <= 1 else item * smaller.pop(0) for item in items]

    batcher: Batcher[int, int] = Batcher(lambda items: factorials(batcher, items), max_wait=0.001, concurrency=1)
    assert batcher.map_sync([5, 3]) == [120, 6]
    batcher.close()


def test_two_batchers_may_call_each_other() -> None:
    async def main() -> None:
        async def ping(items: list[int]) -> list[int]:
            return [item if item <= 0 else 1 + await pong_batcher.submit(item - 1) for item in items]

        async def pong(items: list[int]) -> list[int]:
            return [item if item <= 0 else 1 + await ping_batcher.submit(item - 1) for item in items]

        ping_batcher: Batcher[int, int] = Batcher(ping, max_wait=1)
        pong_batcher: Batcher[int, int] = Batcher(pong, max_wait=1)
        assert await ping_batcher.submit(9) == 9

    run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_anew() -> None:
    batcher = Batcher(lambda items: items, max_wait=0.001)
    assert batcher.submit_sync(1) == 1
    child = os.fork()
    if child == 0:
        os._exit(batcher.submit_sync(42))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    batcher.close()


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"max_size": 0},
        {"max_size": True},
        {"max_size": 2.5},
        {"max_wait": -1},
        {"max_wait": math.nan},
        {"max_wait": math.inf},
        {"max_weight": 0, "weight": len},
        {"max_weight": 5},
        {"concurrency": 0},
        {"max_pending": 0},
        {"overflow": "drop"},
        {"on_error": "retry"},
    ],
    ids=repr,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Batcher(Doubling(), **options)


@pytest.mark.parametrize("weight", [math.nan, -1, math.inf, "heavy"])
def test_a_weight_that_is_none_is_the_submitters_error(weight: Any) -> None:
    async def main() -> None:
        batcher = Batcher(Doubling(), weight=lambda _: weight)
        with pytest.raises(ConfigError, match="weight of an item"):
            await batcher.submit(1)
        assert batcher.pending == 0

    run(main())


def test_a_huge_item_is_passed_on_by_reference() -> None:
    huge = bytearray(32_000_000)
    with Batcher(lambda items: items, max_wait=0, max_weight=1_000, weight=len) as batcher:
        assert batcher.submit_sync(huge) is huge


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Iterator[openai.AsyncOpenAI]:
    with FakeProvider() as provider:
        yield openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0)


def test_one_span_with_links_to_its_callers_and_all_metrics() -> None:
    async def main() -> None:
        batcher = Batcher(Doubling(), name="embed", max_size=2, max_pending=3, overflow="raise")

        @seatrace.tool
        async def ask(number: int) -> int:
            return await batcher.submit(number)

        await asyncio.gather(ask(1), ask(2))
        with pytest.raises(BatchOverflow):
            await asyncio.gather(*(batcher.submit(number) for number in range(9)))
        await batcher.aclose()

    with testing.capture() as captured:
        asyncio.run(main())
        first = next(span for span in captured.spans if span.name == "batch embed")
        askers = [span for span in captured.spans if span.name == "execute_tool ask"]
        assert {link.context.span_id for link in first.links} == {span.context.span_id for span in askers}
        assert first.parent is None
        assert first.attributes == {
            "seatrace.batch.name": "embed",
            "messaging.batch.message_count": 2,
            "seatrace.flush.reason": "size",
            "seatrace.run.model_calls": 0,
        }
        assert captured.total("seatrace.batch.flushes", seatrace_flush_reason="size") >= 1
        assert captured.total("seatrace.batch.rejections") >= 1
        assert captured.points("seatrace.batch.wait.duration")[0].count >= 2
        assert captured.points("seatrace.batch.duration")
        assert captured.total("seatrace.batch.pending") == 0


def test_a_failed_batch_is_an_error_and_a_half_failed_one_says_how_many() -> None:
    async def main() -> None:
        async def picky(items: list[int]) -> list[int]:
            if 0 in items:
                raise ValueError(items)
            return items

        batcher = Batcher(picky, name="picky", max_wait=0)
        await asyncio.gather(*map(batcher.submit, (0, 1, 2)), return_exceptions=True)
        await asyncio.gather(batcher.submit(0), return_exceptions=True)

    with testing.capture() as captured:
        run(main())
        mixed, failed = captured.spans
        assert mixed.status.status_code.name == "UNSET"
        assert mixed.attributes["seatrace.batch.failed_items"] == 1
        assert failed.attributes["error.type"] == "ValueError"
        assert [point.count for point in captured.points("seatrace.batch.duration")] == [1, 1]


def test_the_cost_is_split_by_weight_among_those_who_submitted(client: openai.AsyncOpenAI) -> None:
    reports: list[BatchReport] = []

    async def embed(texts: list[str]) -> list[list[float]]:
        answer = await client.embeddings.create(model="text-embedding-3-small", input=texts)
        return [each.embedding for each in answer.data]

    async def main() -> None:
        batcher = Batcher(embed, max_size=2, weight=len, on_batch=reports.append)

        @seatrace.agent
        async def librarian(text: str) -> None:
            await batcher.submit(text)

        async def of(tenant: str, text: str) -> None:
            with seatrace.session(tenant=tenant):
                await librarian(text)

        await asyncio.gather(of("small", "tide " * 10), of("large", "tide " * 30))
        await client.close()

    with testing.capture(providers={f"127.0.0.1:{client.base_url.port}": "openai"}) as captured:
        asyncio.run(main())
        (report,) = reports
        (embedded,) = [call for call in captured.calls if call.kind == "embeddings"]
        assert embedded.cost is not None
        assert report.cost == embedded.cost.total > 0
        assert [(share.scope.tenant, share.weight) for share in report.shares] == [("small", 0.25), ("large", 0.75)]
        assert sum(share.cost or 0 for share in report.shares) == pytest.approx(report.cost)
        assert sum(share.input_tokens or 0 for share in report.shares) == embedded.usage.input_tokens
        # Each agent's own bill has its share, the call itself is counted once and belongs to no tenant alone.
        assert captured.total("seatrace.agent.run.cost", seatrace_tenant="large") == pytest.approx(0.75 * report.cost)
        assert captured.total("seatrace.cost") == pytest.approx(report.cost)
        assert embedded.scope.tenant is None
        assert embedded.agent == "librarian"


def test_what_looks_at_a_batch_cannot_break_it() -> None:
    async def main() -> list[int]:
        def broken(_: BatchReport) -> None:
            raise RuntimeError("mine")

        return await Batcher(Doubling(), max_wait=0, on_batch=broken).map([1])

    with testing.capture(strict=False) as captured:
        assert run(main()) == [2]
        assert captured.total("seatrace.faults") >= 1


def test_suppressed_submitters_have_no_batch_to_be_seen() -> None:
    async def main() -> None:
        batcher = Batcher(Doubling(), max_wait=0)
        with seatrace.suppress():
            await batcher.map([1, 2])

    with testing.capture() as captured:
        run(main())
        assert captured.spans == []
