"""Calls that the garbage collector ends, and what following the collector must not do to the program."""

import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor

import seatrace
from model import ask, client, stream
from seatrace.core import pipeline, signals
from seatrace.emit.catalogue import patterns
from seatrace.testing import capture

_INTERRUPTED = """
import gc, os, signal, sys
import seatrace

seatrace.instrument(exporter="none")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

class Cycle:
    def __init__(self):
        self.me = self

lost = 0
for _ in range(50):
    Cycle()
    try:
        gc.collect(os.kill(os.getpid(), signal.SIGINT) or 2)
        lost += 1
    except KeyboardInterrupt:
        pass
sys.exit(lost)
"""


def test_no_python_code_of_ours_runs_in_a_collection() -> None:
    """An exception of a signal handler would vanish in it: seen with Ctrl-C during seatrace demo."""
    with capture():
        ours = [each for each in gc.callbacks if each in pipeline._NOTICES]
        assert ours == list(pipeline._NOTICES)
        assert not any(hasattr(each, "__code__") for each in ours)
    assert not any(each in gc.callbacks for each in pipeline._NOTICES)


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="POSIX signals")
def test_an_interrupt_near_a_collection_reaches_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_call_ended_by_a_collection_is_emitted_at_the_next_flush() -> None:
    with capture() as captured:
        step = seatrace.agent("forgotten").__enter__()
        step.leave()

        class Holder:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                step.abandon()

        gc.disable()
        try:
            Holder()
            assert not captured.calls
            gc.collect()
            assert not captured.calls, "emitted while the collector ran: an SDK lock may be held there"
        finally:
            gc.enable()
        seatrace.flush()
        assert [call.name for call in captured.calls] == ["forgotten"]


@seatrace.tool
def tidy_up() -> None: ...


class Tidy:
    """Calls a tool when it is collected."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        tidy_up()


def drop_a_stream() -> None:
    """The library itself closes the response, when the collector closes its generator."""
    chunks = ask(client(stream()), stream=True)
    next(chunks)
    chunks.me = chunks


@pytest.mark.parametrize("drop", [drop_a_stream, Tidy])
def test_whatever_ends_a_call_in_a_collection_waits_for_its_end(drop: Callable[[], object]) -> None:
    """Seen as a deadlock in benchmarks/memory.py: the collection came within the SDK, which held a lock."""
    with capture() as captured:
        gc.collect()
        gc.disable()
        try:
            drop()
            gc.collect()
            assert not captured.calls, "emitted while the collector ran: an SDK lock may be held there"
        finally:
            gc.enable()
        seatrace.flush()
        assert len(captured.calls) == 1
        assert captured.calls[0].error_type is None


@pytest.mark.parametrize("emit", ["measure", "event", "annotate", "begin"])
def test_nothing_reaches_the_sdk_within_a_collection(emit: str) -> None:
    """A dropped coroutine's `finally` gives a pool's place back, a dropped generator's begins a step: the SDK may be
    in the middle of the same metric or span."""
    inside: list[str] = []
    collecting = False

    class Told(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            inside.append(span.name) if collecting else None

    def leave() -> Iterator[None]:
        try:
            yield
        finally:
            assert collecting
            if emit == "measure":
                signals.measure(patterns.STREAM_STALLS, 2, {})
            elif emit == "event":
                signals.event("left", {"depth": 3})
            elif emit == "annotate":
                signals.annotate({"depth": 3})
            else:
                with seatrace.tool("left"):
                    pass

    class Held:
        def __init__(self) -> None:
            self.me = self
            self.left = leave()
            next(self.left)

    with capture() as captured:
        captured.tracer_provider.add_span_processor(Told())
        tracer = captured.tracer_provider.get_tracer("app")
        with tracer.start_as_current_span("mine") as mine:
            parent = mine.get_span_context().span_id
            gc.collect()
            gc.disable()
            try:
                Held()
                collecting = True
                gc.collect()
                collecting = False
            finally:
                gc.enable()
            assert inside == []
            assert not captured.calls
            assert "depth" not in mine.attributes
            assert "seatrace.stream.stalls" not in captured.metric_names
            assert not captured._logs.get_finished_logs()
            seatrace.flush()
            if emit == "measure":
                assert captured.total("seatrace.stream.stalls") == 2
            elif emit == "event":
                [event] = captured.events
                assert (event.event_name, event.span_id) == ("left", parent)
            elif emit == "annotate":
                assert mine.attributes["depth"] == 3
            else:
                [span] = captured.spans
                assert (span.name, span.parent.span_id) == ("execute_tool left", parent)
                assert span.start_time == captured.calls[0].started


def test_a_call_that_fails_in_a_collection_keeps_its_error() -> None:
    class Careless(Tidy):
        def __del__(self) -> None:
            with pytest.raises(LookupError), seatrace.tool("careless"):
                raise LookupError("lost")

    with capture() as captured:
        gc.disable()
        try:
            Careless()
            gc.collect()
            assert not captured.calls
        finally:
            gc.enable()
        seatrace.flush()
        assert captured.calls[0].error_type == "LookupError"
        [event] = captured.events
        assert event.attributes["exception.message"] == "lost"


def test_a_collection_in_another_thread_puts_nothing_aside() -> None:
    seen: list[int] = []

    class Slow(Tidy):
        def __del__(self) -> None:
            other = threading.Thread(target=tidy_up)
            other.start()
            other.join()
            seen.append(len(captured.calls))

    with capture() as captured:
        Slow()
        gc.collect()
        assert seen == [1]


def test_collections_in_another_thread_disturb_no_call() -> None:
    """The collector's phase may change between any two bytecodes of the thread that asks for it."""
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            gc.collect(0)

    collecting = threading.Thread(target=collect)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with capture() as captured:  # faults of ours raise
            collecting.start()
            for _ in range(20_000):
                pipeline.drain()
            for _ in range(100):
                with seatrace.tool("work"):
                    pass
            assert len(captured.calls) == 100
    finally:
        stop.set()
        collecting.join()
        sys.setswitchinterval(before)
