"""The thread in which a backend lives, and the mail that goes there and back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from seatrace.runtime.jobs.engine import Engine
from seatrace.runtime.jobs.mail import Mail

word: ContextVar[str] = ContextVar("word", default="none")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("test", lambda: None)
    yield engine
    engine.close(nothing)


async def nothing() -> None: ...


class CountingLoop(asyncio.SelectorEventLoop):
    wakes = 0

    def call_soon_threadsafe(self, *args, **options):  # type: ignore[no-untyped-def]
        self.wakes += 1
        return super().call_soon_threadsafe(*args, **options)


@pytest.fixture
def loop() -> Iterator[CountingLoop]:
    loop = CountingLoop()
    yield loop
    loop.close()


class TestMail:
    def test_what_is_sent_before_the_loop_looks_wakes_it_once_and_keeps_its_order(self, loop: CountingLoop) -> None:
        mail, came = Mail(loop), list[int]()
        for round_ in (0, 1):
            for number in range(10):
                mail.send(came.append, number + 10 * round_)
            loop.run_until_complete(nothing())
        assert came == list(range(20))
        assert loop.wakes == 2

    def test_what_is_sent_by_a_call_is_delivered_too(self, loop: CountingLoop) -> None:
        mail, came = Mail(loop), list[str]()
        mail.send(mail.send, came.append, "second")
        mail.send(came.append, "first")
        loop.run_until_complete(asyncio.sleep(0.01))
        assert came == ["first", "second"]

    def test_a_call_that_is_interrupted_loses_none_of_the_others(self, loop: CountingLoop) -> None:
        mail, came = Mail(loop), list[str]()

        def interrupted() -> None:
            raise KeyboardInterrupt

        mail.send(interrupted)
        mail.send(came.append, "later")
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(0.01))
        loop.run_until_complete(asyncio.sleep(0.01))
        assert came == ["later"]

    def test_from_many_threads_nothing_is_lost_and_each_keeps_its_order(self, loop: CountingLoop) -> None:
        mail, came, senders = Mail(loop), list[tuple[int, int]](), range(8)

        def send(sender: int) -> None:
            for number in range(500):
                mail.send(came.append, (sender, number))

        threads = [threading.Thread(target=send, args=(sender,)) for sender in senders]

        async def until_all_came() -> None:
            while len(came) < 500 * len(senders):
                await asyncio.sleep(0)

        for thread in threads:
            thread.start()
        loop.run_until_complete(asyncio.wait_for(until_all_came(), 60))
        for thread in threads:
            thread.join()
        for sender in senders:
            assert [number for each, number in came if each == sender] == list(range(500))

    def test_to_a_closed_loop_nothing_is_sent_and_nothing_raised(self) -> None:
        loop = asyncio.new_event_loop()
        mail = Mail(loop)
        loop.close()
        mail.send(pytest.fail, "called")
        mail.send(pytest.fail, "called")


class TestCall:
    async def test_it_runs_in_the_engines_thread_in_the_callers_context(self, engine: Engine) -> None:
        async def look() -> tuple[str, str]:
            return threading.current_thread().name, word.get()

        async def call(said: str) -> tuple[str, str]:
            word.set(said)
            return await engine.call(look())

        said = [str(number) for number in range(20)]
        assert await asyncio.gather(*(asyncio.create_task(call(each)) for each in said)) == [
            ("seatrace-test", each) for each in said
        ]

    async def test_an_exception_comes_back_the_very_same(self, engine: Engine) -> None:
        error = TimeoutError("ours")

        async def fail() -> None:
            raise error

        with pytest.raises(TimeoutError) as raised:
            await engine.call(fail())
        assert raised.value is error

    async def test_it_is_cancelled_with_its_caller(self, engine: Engine) -> None:
        begun, ended = threading.Event(), threading.Event()

        async def wait() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.set()
                raise

        caller = asyncio.create_task(engine.call(wait()))
        assert await asyncio.to_thread(begun.wait, 30)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await asyncio.to_thread(ended.wait, 30)

    async def test_its_own_cancellation_is_the_callers(self, engine: Engine) -> None:
        async def give_up() -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await engine.call(give_up())

    def test_a_caller_whose_loop_is_gone_harms_nobody(self, engine: Engine) -> None:
        held = threading.Event()

        async def slow() -> None:
            while not held.is_set():
                await asyncio.sleep(0.001)

        loop = asyncio.new_event_loop()
        left = loop.create_task(engine.call(slow()))
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        held.set()
        assert engine.call_sync(asyncio.sleep(0.01, "well")) == "well"
        assert asyncio.run(engine.call(asyncio.sleep(0, "well"))) == "well"
        left._log_destroy_pending = False  # type: ignore[attr-defined]  # it is what this test leaves undone

    async def test_what_runs_when_the_engine_is_closed_is_cancelled(self, engine: Engine) -> None:
        caller = asyncio.create_task(engine.call(asyncio.sleep(60)))
        await engine.call(nothing())
        await asyncio.to_thread(engine.close, nothing)
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await engine.call(asyncio.sleep(0, "anew")) == "anew"
