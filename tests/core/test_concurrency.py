"""Many calls at once: threads, asyncio, uvloop, gevent, fork. Every call has its span, and its own parent."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from typing import Any

import pytest
from opentelemetry import trace

from contract.fresh import run
from contract.rows import ANTHROPIC_ROWS, OPENAI_ROWS, Row
from contract.watch import everything, expected, seen, settle, watched
from contract.wire import Provider
from seatrace.testing import capture

ROWS = (OPENAI_ROWS[0], ANTHROPIC_ROWS[0])
each_row = pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])


def families(captured: Any) -> dict[str, list[str]]:
    """The names of the calls under each span of the program's own."""
    owners = {span.context.span_id: span.name for span in captured.spans if span.instrumentation_scope.name == "app"}
    found: dict[str, list[str]] = {name: [] for name in owners.values()}
    for span in captured.spans:
        if span.instrumentation_scope.name == "seatrace":
            found[owners[span.parent.span_id]].append(span.name)
    return found


@each_row
def test_calls_from_eight_threads_keep_their_parents(row: Row) -> None:
    with watched(calls=None) as captured:
        tracer = captured.tracer_provider.get_tracer("app")
        provider = Provider(row.answer)
        plain = row.connect(provider, "sync")
        streams = row.connect(Provider(row.stream_answer(row.events)), "sync")
        ready = threading.Barrier(8)
        failed: list[BaseException] = []

        def work(name: str) -> None:
            try:
                ready.wait()
                with tracer.start_as_current_span(name):
                    for _ in range(10):
                        row.call(plain)
                        assert len(list(row.call(streams, stream=True))) == row.chunks
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(f"thread-{at}",)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert families(captured) == {f"thread-{at}": [row.name] * 20 for at in range(8)}
        assert captured.total("seatrace.cost") == pytest.approx(160 * 0.00018)


async def _hundred(row: Row, captured: Any) -> None:
    tracer = captured.tracer_provider.get_tracer("app")
    plain = row.connect(Provider(row.answer), "async")
    streams = row.connect(Provider(row.stream_answer(row.events)), "async")
    started = asyncio.Event()

    async def work(name: str) -> None:
        await started.wait()
        with tracer.start_as_current_span(name) as mine:
            await row.call(plain)
            async for _ in await row.call(streams, stream=True):
                await asyncio.sleep(0)
                assert trace.get_current_span() is mine

    tasks = [asyncio.ensure_future(work(f"task-{at}")) for at in range(100)]
    started.set()
    await asyncio.gather(*tasks)
    assert families(captured) == {f"task-{at}": [row.name] * 2 for at in range(100)}


@each_row
async def test_hundred_asyncio_tasks_keep_their_parents(row: Row) -> None:
    with watched(calls=None) as captured:
        await _hundred(row, captured)


@each_row
def test_uvloop_is_a_loop_as_any_other(row: Row) -> None:
    if importlib.util.find_spec("uvloop") is None:
        return
    import uvloop

    with watched(calls=None) as captured:
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(_hundred(row, captured))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


@each_row
def test_event_loop_of_its_own_in_a_thread(row: Row) -> None:
    with watched(calls=2) as captured:

        async def both() -> None:
            await row.call(row.connect(Provider(row.answer), "async"))
            streams = row.connect(Provider(row.stream_answer(row.events)), "async")
            await everything(await row.call(streams, stream=True))

        thread = threading.Thread(target=lambda: asyncio.run(both()))
        thread.start()
        thread.join()
        assert len(captured.calls) == 2


@each_row
async def test_executor_threads_inherit_the_callers_span(row: Row) -> None:
    # smolagents PR#1840, crewAI PR#4708, haystack PR#9727: orphans in threads
    with watched(calls=None) as captured:
        tracer = captured.tracer_provider.get_tracer("app")
        client = row.connect(Provider(row.answer), "sync")
        with tracer.start_as_current_span("app"):
            await asyncio.gather(*(asyncio.to_thread(row.call, client) for _ in range(5)))
        assert families(captured) == {"app": [row.name] * 5}


@each_row
async def test_two_streams_read_in_turn_do_not_mix(row: Row) -> None:
    with watched(calls=2) as captured:
        client = row.connect(Provider(row.stream_answer(row.events)), "sync")
        first, second = row.call(client, stream=True), row.call(client, stream=True)
        for one, other in zip(first, second, strict=True):
            assert one == other
        assert [seen(span) for span in captured.spans] == [expected(row, row.stream_attributes)] * 2


@each_row
async def test_stream_closed_by_another_thread_ends_once(row: Row) -> None:
    with watched() as captured:
        stream = row.call(row.connect(Provider(row.stream_answer(row.events)), "sync"), stream=True)
        next(stream)
        threads = [threading.Thread(target=stream.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen(captured.spans[0]) == expected(row, row.begun_attributes)


@each_row
async def test_instrument_and_uninstrument_while_calls_run(row: Row) -> None:
    import seatrace

    with capture() as captured:
        client = row.connect(Provider(row.answer), "sync")
        stop = threading.Event()
        failed: list[BaseException] = []

        def work() -> None:
            try:
                while not stop.is_set():
                    row.call(client)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(20):
            seatrace.uninstrument()
            await settle(row.call(client))
            seatrace.instrument(tracer_provider=captured.tracer_provider, meter_provider=captured.meter_provider)
        stop.set()
        thread.join()
        assert failed == []


SETUP = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import {processor}, SpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider

class Lines(SpanExporter):
    def export(self, spans):
        for span in spans:
            os.write(1, f"{{os.getpid() == parent}} {{span.name}} {{span.status.status_code.name}}\\n".encode())
    def shutdown(self): pass

parent = os.getpid()
provider = TracerProvider()
provider.add_span_processor({processor}(Lines()))
import seatrace
seatrace.instrument(tracer_provider=provider, meter_provider=MeterProvider(), logger_provider=LoggerProvider())
from contract.rows import ANTHROPIC_ROWS, OPENAI_ROWS
from contract.wire import Provider
rows = (OPENAI_ROWS[0], ANTHROPIC_ROWS[0])

def call_both():
    for row in rows:
        row.call(row.connect(Provider(row.answer), "sync"))
        list(row.call(row.connect(Provider(row.stream_answer(row.events)), "sync"), stream=True))
"""


@pytest.mark.parametrize("processor", ["SimpleSpanProcessor", "BatchSpanProcessor"])
def test_forked_child_exports_its_own_calls_once(processor: str) -> None:
    # opentelemetry-python-contrib PR#5003, langfuse#12974: lost at fork
    out = run(
        SETUP.format(processor=processor)
        + """
call_both()
provider.force_flush()
child = os.fork()
if child == 0:
    call_both()
    seatrace.flush()
    provider.force_flush()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""",
    )
    assert sorted(out.splitlines()) == ["0"] + ["False chat brook-1 UNSET"] * 4 + ["True chat brook-1 UNSET"] * 4


def test_stream_open_at_a_fork_stays_the_parents() -> None:
    out = run(
        SETUP.format(processor="SimpleSpanProcessor")
        + """
row = rows[0]
stream = row.call(row.connect(Provider(row.stream_answer(row.events)), "sync"), stream=True)
next(stream)
child = os.fork()
if child == 0:
    stream.close()
    del stream
    seatrace.flush()
    os._exit(0)
os.waitpid(child, 0)
list(stream)
""",
    )
    assert out.splitlines() == ["True chat brook-1 UNSET"]


def test_gevent_greenlets_keep_their_parents() -> None:
    if importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed beside this Python")
    out = run(
        """
import platform
platform.platform()  # kept; the libraries ask for it, and it forks: OpenTelemetry's own fork hooks stall under gevent
from gevent import monkey
monkey.patch_all()
import gevent
"""
        + SETUP.format(processor="SimpleSpanProcessor")
        + """
from opentelemetry import trace
tracer = provider.get_tracer("app")
problems = []

def answer(row):
    def later(sent):
        gevent.sleep(0)
        return row.answer
    return later

def work(name):
    with tracer.start_as_current_span(name) as mine:
        for row in rows:
            row.call(row.connect(Provider(answer(row)), "sync"))
            if trace.get_current_span() is not mine: problems.append("plain")
            stream = row.call(row.connect(Provider(row.stream_answer(row.events)), "sync"), stream=True)
            for chunk in stream:
                gevent.sleep(0)
                if trace.get_current_span() is not mine: problems.append("stream")

gevent.joinall([gevent.spawn(work, f"greenlet-{at}") for at in range(10)], raise_error=True)
print(problems)
""",
    )
    lines = out.splitlines()
    assert lines.count("True chat brook-1 UNSET") == 40
    assert sum("greenlet-" in line for line in lines) == 10
    assert lines[-1] == "[]"
