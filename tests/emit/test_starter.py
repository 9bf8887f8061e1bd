"""Spans started and ended without the SDK's ceremony are those that its public calls would have made."""

from __future__ import annotations

import copy
import gc
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace import export as span_export
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from seatrace.core import guard
from seatrace.emit import _late
from seatrace.emit._late import put_later
from seatrace.emit._starter import Starter

from .attributes import ATTRIBUTES, LIMITS, span_limits

ROOT = Context()
REMOTE = set_span_in_context(
    NonRecordingSpan(SpanContext(7, 8, True, TraceFlags(1), TraceState([("vendor", "x")]))), Context()
)
LOCAL = set_span_in_context(
    NonRecordingSpan(SpanContext(7, 8, False, TraceFlags(1), TraceState([("vendor", "x")]))), Context()
)
LOCAL_UNSAMPLED = set_span_in_context(NonRecordingSpan(SpanContext(7, 8, False, TraceFlags(0))), Context())
REMOTE_UNSAMPLED = set_span_in_context(NonRecordingSpan(SpanContext(7, 8, True, TraceFlags(0))), Context())
CONTEXTS = {
    "root": ROOT,
    "remote": REMOTE,
    "unsampled": REMOTE_UNSAMPLED,
    "local": LOCAL,
    "local unsampled": LOCAL_UNSAMPLED,
}


class Seen(SpanProcessor):
    """What a processor of the program sees of each span."""

    def __init__(self, *, reads: bool = True) -> None:
        self.reads = reads
        self.started: list[Any] = []
        self.ending: list[Any] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        attributes = dict(span.attributes) if self.reads else None
        self.started.append((span.name, attributes, span.kind, span.is_recording(), parent_context))

    def _on_ending(self, span: Any) -> None:
        self.ending.append((span.name, span.end_time))

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class Adds(sampling.Sampler):
    """Decides by an attribute, and adds some."""

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> sampling.SamplingResult:
        keep = (attributes or {}).get("first") == 1
        decision = sampling.Decision.RECORD_AND_SAMPLE if keep else sampling.Decision.DROP
        return sampling.SamplingResult(decision, {**(attributes or {}), "by": ["sampler"]}, TraceState([("s", "1")]))

    def get_description(self) -> str:
        return "Adds"


SAMPLERS: dict[str, sampling.Sampler] = {
    "default": sampling.DEFAULT_ON,
    "off": sampling.ALWAYS_OFF,
    "ratio": sampling.ParentBasedTraceIdRatio(1.0),
    "record only": sampling.StaticSampler(sampling.Decision.RECORD_ONLY),
    "adds": Adds(),
    "children are dropped": sampling.ParentBased(sampling.ALWAYS_ON, local_parent_sampled=sampling.ALWAYS_OFF),
    "children are asked": sampling.ParentBased(sampling.ALWAYS_ON, local_parent_sampled=Adds()),
}


def tracing(*, reads: bool = True, **options: Any) -> tuple[Starter, Any, Seen]:
    """A starter that has seen its tracer's first span, that tracer, and the processor, which reads attributes at the
    start or not."""
    provider = TracerProvider(shutdown_on_exit=False, **options)
    tracer, seen = provider.get_tracer("test", "1", "https://example.org/schema", {"scope": "x"}), Seen(reads=reads)
    starter = Starter(tracer)
    starter.start("first", ROOT, SpanKind.CLIENT, {"first": 1}, None, 1)
    provider.add_span_processor(seen)
    return starter, tracer, seen


def ours(starter: Starter, context: Context = ROOT, attributes: Any = None, start: int = 1) -> Any:
    return starter.start("call", context, SpanKind.CLIENT, attributes or {}, None, start)


def public(tracer: Any, context: Context = ROOT, attributes: Any = None, start: int = 1) -> Any:
    return tracer.start_span(
        "call",
        context,
        SpanKind.CLIENT,
        attributes or {},
        start_time=start,
        record_exception=False,
        set_status_on_exception=False,
    )


def told(span: Any) -> dict[str, Any]:
    """Everything of an ended span but its ids."""
    return {
        "name": span.name,
        "kind": span.kind,
        "parent": span.parent,
        "state": span.context.trace_state,
        "flags": span.context.trace_flags,
        "remote": span.context.is_remote,
        "valid": span.context.is_valid,
        "trace": span.parent is not None and span.context.trace_id == span.parent.trace_id,
        "start": span.start_time,
        "end": span.end_time,
        "attributes": list(span.attributes.items()),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "events": [(each.name, dict(each.attributes), each.timestamp) for each in span.events],
        "links": [(each.context, dict(each.attributes)) for each in span.links],
        "resource": span.resource,
        "scope": span.instrumentation_scope,
        "status": (span.status.status_code, span.status.description),
    }


KNOWN = type(ours(tracing()[0])).__name__ == "CallSpan"
"""Whether the spans of this SDK are made here; the public call makes those of older ones."""

known = pytest.mark.skipif(not KNOWN, reason="this SDK has no spans that we know")


@known
def test_spans_are_made_here() -> None:
    starter, _, _ = tracing(reads=False)
    span = ours(starter)
    assert type(span).__name__ == "CallSpan"
    assert {"_events", "_links", "_lock"}.isdisjoint(vars(span))
    assert "_dict" not in vars(span._attributes)
    span.end()
    assert "_dict" not in vars(span._attributes)


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_whole_spans_are_the_same(sampler: sampling.Sampler, context: Context) -> None:
    starter, tracer, seen = tracing(sampler=sampler)
    for attributes in ({"first": 1, "b": "x"}, {"first": 2}):
        made = ours(starter, context, attributes), public(tracer, context, attributes)
        assert made[0].is_recording() == made[1].is_recording()
        assert made[0].get_span_context().trace_flags == made[1].get_span_context().trace_flags
        for span in made:
            span.end(9)
        if made[0].is_recording():
            continue
    assert seen.started[0::2] == seen.started[1::2]
    assert seen.ending[0::2] == seen.ending[1::2]
    assert [told(each) for each in seen.ended[0::2]] == [told(each) for each in seen.ended[1::2]]
    assert {type(each) for each in seen.ended} <= {ReadableSpan}


def test_items_are_the_same() -> None:
    starter, tracer, seen = tracing(reads=False)
    for span in ours(starter, attributes={"a": 1}), public(tracer, attributes={"a": 1}):
        open_ = span.attributes.items()
        for name, _ in open_:  # who reads a span that is open may write to it
            span.set_attribute(f"{name}{name}", 2)
        span.end(9)
    mine, theirs = (list(each.attributes.items()) for each in seen.ended)
    assert mine == theirs == [("a", 1), ("aa", 2)]


def test_another_sampler_is_asked() -> None:
    starter, tracer, _ = tracing()
    assert ours(starter, LOCAL).is_recording()
    tracer.sampler = sampling.ALWAYS_OFF
    assert not ours(starter, LOCAL).is_recording()


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
def test_attributes_are_the_same(attributes: dict[Any, Any], limits: dict[str, int], read: bool) -> None:
    starter, tracer, seen = tracing(reads=False, span_limits=span_limits(limits))
    mine, theirs = (start({"kept": "old", "first": 1}) for start in _both(starter, tracer))
    if read:
        assert dict(mine.attributes) == dict(theirs.attributes)
    if not put_later(mine._attributes, lambda: dict(attributes)):
        assert read or not KNOWN
        mine.set_attributes(attributes)
    theirs.set_attributes(attributes)
    mine.end(9)
    theirs.end(9)
    assert told(seen.ended[0]) == told(seen.ended[1])


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_attributes_at_the_start_are_the_same(attributes: dict[Any, Any], limits: dict[str, int]) -> None:
    starter, tracer, seen = tracing(span_limits=span_limits(limits))
    for start in _both(starter, tracer):
        start(attributes).end(9)
    assert seen.started[0] == seen.started[1]
    assert told(seen.ended[0]) == told(seen.ended[1])


def _both(starter: Starter, tracer: Any) -> Sequence[Callable[[Any], Any]]:
    return (lambda given: ours(starter, attributes=given)), (lambda given: public(tracer, attributes=given))


def test_what_the_program_does_to_a_span_is_the_same() -> None:
    starter, tracer, seen = tracing()
    for span in ours(starter, attributes={"a": 1}), public(tracer, attributes={"a": 1}):
        span.set_attribute("b", [1, 2])
        span.set_attributes({"a": 2, "c": object()})
        span.add_event("happened", {"why": ["x"]}, 5)
        span.record_exception(ValueError("no"), timestamp=6)
        span.add_link(SpanContext(1, 2, False), {"l": 1})
        span.update_name("renamed")
        span.set_status(Status(StatusCode.ERROR, "no"))
        with pytest.raises(KeyError), span:  # neither records nor sets a status by itself
            raise KeyError("x")
    mine, theirs = map(told, seen.ended)
    for each in mine, theirs:
        each["end"] = None
        each["events"] = [(name, {**of, "exception.stacktrace": ""}, at) for name, of, at in each["events"]]
    assert mine == theirs


def test_a_span_that_has_ended_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    starter, tracer, seen = tracing()
    words = []
    for span in ours(starter, attributes={"a": 1}), public(tracer, attributes={"a": 1}):
        caplog.clear()
        span.end(9)
        span.end(10)
        span.set_attribute("b", 1)
        span.set_attributes({"b": 1})
        span.add_event("late")
        span.add_link(SpanContext(1, 2, False))
        span.update_name("late")
        span.set_status(StatusCode.ERROR)
        if KNOWN:
            with pytest.raises(TypeError):
                span._attributes["b"] = 1
        words.append([each.getMessage() for each in caplog.records])
    assert words[0] == words[1]
    assert told(seen.ended[0]) == told(seen.ended[1])
    assert len(seen.ended) == 2


def test_a_span_ends_once_among_threads() -> None:
    starter, _, seen = tracing()
    for _ in range(50):
        span, gate = ours(starter), threading.Barrier(4)

        def end(span: Any = span, gate: threading.Barrier = gate) -> None:
            gate.wait()
            span.end()

        threads = [threading.Thread(target=end) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(seen.ended) == 50


def test_threads_that_write_first_lose_nothing() -> None:
    starter, _, _ = tracing(reads=False)
    for _ in range(50):
        span, gate = ours(starter, attributes={"a": 1}), threading.Barrier(8)

        def write(number: int, span: Any = span, gate: threading.Barrier = gate) -> None:
            gate.wait()
            span.set_attribute(f"n{number}", number)
            span.add_event(f"e{number}")

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(span.attributes) == 9
        assert len(span.events) == 8


def test_other_spans_may_be_below() -> None:
    starter, tracer, seen = tracing()
    token = otel_context.attach(set_span_in_context(ours(starter)))
    with tracer.start_as_current_span("below") as below:
        pass
    otel_context.detach(token)
    assert below.parent.trace_id == below.context.trace_id
    assert seen.started[0][0] == "call"


def test_links_get_the_public_call() -> None:
    starter, _, seen = tracing()
    span = starter.start("call", ROOT, SpanKind.CLIENT, {}, [Link(SpanContext(1, 2, False), {"a": 1})], 1)
    span.end()
    assert type(span).__name__ == "_Span"
    assert seen.ended[0].links[0].attributes == {"a": 1}


def test_a_patched_tracer_gets_the_public_call(monkeypatch: pytest.MonkeyPatch) -> None:
    starter, tracer, _ = tracing()
    kind, names = type(tracer), []

    def start_span(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        names.append(name)
        return original(self, name, *args, **kwargs)

    original = kind.start_span
    monkeypatch.setattr(kind, "start_span", start_span)
    assert type(ours(starter)).__name__ == "_Span"
    assert type(ours(Starter(tracer))).__name__ == "_Span"
    assert names == ["call", "call"]


def test_another_tracer_gets_the_public_call() -> None:
    class Other:
        def start_span(self, *args: Any, **kwargs: Any) -> Any:
            return NonRecordingSpan(SpanContext(1, 2, False))

    starter = Starter(Other())  # type: ignore[arg-type]
    assert type(ours(starter)) is type(ours(starter)) is NonRecordingSpan


def test_another_sdk_gets_the_public_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_late, "late_attributes", lambda: None)
    starter, _, _ = tracing()
    assert type(ours(starter)).__name__ == "_Span"


@known
def test_spans_may_be_copied() -> None:
    starter, _, _ = tracing(reads=False)
    span = ours(starter, attributes={"a": 1})
    assert dict(copy.copy(span).attributes) == {"a": 1}
    assert dict(copy.deepcopy(span._attributes)) == {"a": 1}
    assert not hasattr(span, "nothing")
    assert not hasattr(span._attributes, "nothing")


@known
def test_an_exporter_reads_attributes_in_its_own_thread() -> None:
    where: list[int] = []
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(span_export.BatchSpanProcessor(exporter))
    starter = Starter(provider.get_tracer("test"))
    ours(starter).end()
    span = ours(starter, attributes={"a": 1})

    def more() -> dict[str, Any]:
        where.append(threading.get_ident())
        return {"b": 2}

    assert put_later(span._attributes, more)
    span.end()
    assert where == []
    provider.force_flush()
    assert [dict(each.attributes or {}) for each in exporter.get_finished_spans()] == [{}, {"a": 1, "b": 2}]
    assert len(where) == 1
    provider.shutdown()


@known
def test_a_fault_of_ours_does_not_reach_the_exporter() -> None:
    starter, _, seen = tracing(reads=False)
    span = ours(starter, attributes={"a": 1})
    before = guard.faults["emit a call"]
    put_later(span._attributes, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    span.end()
    assert dict(seen.ended[0].attributes or {}) == {}
    assert guard.faults["emit a call"] == before + 1


@known
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_reads_although_another_thread_was_reading() -> None:
    starter, _, _ = tracing(reads=False)
    span = ours(starter, attributes={"a": 1})
    begun, go = threading.Event(), threading.Event()

    def slow() -> dict[str, Any]:
        begun.set()
        go.wait(10)
        return {"b": 2}

    put_later(span._attributes, slow)
    reader = threading.Thread(target=lambda: dict(span.attributes))
    reader.start()
    begun.wait(10)
    child = os.fork()
    if child == 0:
        go.set()
        os._exit(0 if dict(span.attributes) == {"a": 1, "b": 2} else 1)
    go.set()
    reader.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@known
def test_what_is_read_holds_nothing_of_what_it_was_made_of() -> None:
    starter, _, _ = tracing(reads=False)
    span = ours(starter, attributes={"a": 1})

    class Kept:
        pass

    kept = Kept()
    put_later(span._attributes, lambda kept=kept: {"b": type(kept).__name__})  # type: ignore[misc]
    del kept
    assert dict(span.attributes) == {"a": 1, "b": "Kept"}
    gc.collect()
    assert not any(isinstance(each, Kept) for each in gc.get_objects())
