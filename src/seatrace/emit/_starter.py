"""Starting and ending spans without the SDK's ceremony.

``Tracer.start_span`` cleans each attribute, goes through a dozen constructors and makes four locks and two queues that
hardly a span needs; ``Span.end`` copies it all. That is most of what a call pays for its span, more so in a program
whose caches are full of other code. The spans of a :class:`Starter` are the SDK's own, too (a subclass), but have only
what differs from span to span, and make the rest when somebody asks for it.

It relies on internals of opentelemetry-sdk: the first span of a tracer is started by the public call, and the next are
made here only where ours would be like that one. Links, other tracers, other versions and a ``start_span`` that
somebody has patched get the public call.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from time import time_ns
from typing import Any

from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    get_current_span,
    propagation,
)

from . import _late

_RANDOM: int = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
"""The flag that newer SDKs set on the traces that they begin."""

_SAMPLED = TraceFlags.SAMPLED

_FLAGS = {number: TraceFlags(number) for number in range(4)}

_SPAN_KEY = getattr(propagation, "_SPAN_KEY", None)


def span_in(context: Any) -> Any:
    """``get_current_span(context)``, without its calls where a span is there."""
    span = context.get(_SPAN_KEY)
    return get_current_span(context) if span is None else span


class Starter:
    """Starts the spans of one tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer: Any = tracer
        self._span: Any = None
        """The class of our spans, where they are like the tracer's."""
        self._public: Any = None
        self._compared = False
        self._sampler: Any = None
        """One that decides the same of every span with a parent that is sampled here, whatever that span is."""
        self._of_children: Any = None
        """What it decides."""

    def start(
        self,
        name: str,
        context: Any,
        kind: SpanKind,
        attributes: dict[str, Any],
        links: Sequence[Link] | None,
        start_time: int,
    ) -> Any:
        """``tracer.start_span(...)``, which neither records exceptions nor sets a status by itself."""
        tracer = self._tracer
        if (
            links is None
            and self._span is not None
            and type(tracer).start_span is self._public
            and tracer._is_enabled()
        ):
            return self._start(name, context, kind, attributes, start_time)
        span = tracer.start_span(
            name,
            context,
            kind,
            attributes,
            links,
            start_time=start_time,
            record_exception=False,
            set_status_on_exception=False,
        )
        if links is None and not self._compared and span.is_recording():
            self._compared = True
            try:
                self._compare(span, attributes)
            except Exception:  # not a span of the SDK that we know
                self._span = None
        return span

    def _start(self, name: str, context: Any, kind: SpanKind, attributes: dict[str, Any], start_time: int) -> Any:
        tracer = self._tracer
        parent: Any = span_in(context).get_span_context()
        if parent.is_valid:
            trace_id = parent.trace_id
        else:
            parent, trace_id = None, tracer.id_generator.generate_trace_id()
        if (
            parent is not None
            and parent.trace_flags & _SAMPLED
            and not parent.is_remote
            and tracer.sampler is self._sampler
        ):
            decision, state = self._of_children, parent.trace_state
        else:
            sampled = tracer.sampler.should_sample(context, trace_id, name, kind, attributes, ())
            decision, state, attributes = sampled.decision, sampled.trace_state, sampled.attributes
        own = SpanContext(
            trace_id,
            tracer.id_generator.generate_span_id(),
            is_remote=False,
            trace_flags=self._flags(decision.is_sampled(), parent),
            trace_state=state,
        )
        on_end = tracer._tracer_metrics.start_span(parent, decision)
        if not decision.is_recording():
            return NonRecordingSpan(context=own)
        span = self._span(name, own, parent, kind, attributes, start_time, on_end, tracer.resource)
        tracer.span_processor.on_start(span, parent_context=context)
        return span

    def _flags(self, sampled: bool, parent: Any) -> TraceFlags:
        if parent is None:
            random = _RANDOM and self._tracer.id_generator.is_trace_id_random()
        else:
            random = parent.trace_flags & _RANDOM
        return _FLAGS[sampled | (_RANDOM if random else 0)]

    def _compare(self, theirs: Any, attributes: dict[str, Any]) -> None:
        """Looks at a span of the public call, and whether ours would be the same."""
        public = type(self._tracer).start_span
        own, parent, on_end = theirs._context, theirs._parent, theirs._record_end_metrics
        kind = _span_class(self._tracer, theirs)
        ours = kind(theirs.name, own, parent, theirs.kind, attributes, theirs.start_time, on_end, theirs._resource)
        if (
            public.__module__ == type(theirs).__module__
            and not hasattr(public, "__wrapped__")
            and "start_span" not in vars(self._tracer)
            and self._flags(own.trace_flags.sampled, parent) == own.trace_flags
            and vars(ours).keys() <= vars(theirs).keys()
            and vars(theirs._readable_span()).keys() <= vars(ours._readable_span()).keys()
            and all(_alike(getattr(ours, name), value) for name, value in vars(theirs).items())
        ):
            self._span, self._public = kind, public
            self._of_children = _decision_of_children(self._tracer.sampler)
            self._sampler = None if self._of_children is None else self._tracer.sampler


def _alike(ours: Any, theirs: Any) -> bool:
    if ours is theirs or (type(ours) is type(theirs) and ours == theirs):
        return True
    if type(theirs) is type(Lock()):
        return type(ours) is type(theirs)
    if not isinstance(ours, type(theirs)) or not type(theirs).__name__.startswith("Bounded"):
        return False
    return all(_alike(getattr(ours, name), value) for name, value in vars(theirs).items())


def _decision_of_children(sampler: Any) -> Any:
    """What ``sampler`` decides of a span whose parent is sampled and of this process; ``None`` where it depends."""
    from opentelemetry.sdk.trace import sampling

    if type(sampler).should_sample is sampling.ParentBased.should_sample:
        sampler = sampler._local_parent_sampled
    return sampler._decision if type(sampler).should_sample is sampling.StaticSampler.should_sample else None


def _span_class(tracer: Any, like: Any) -> Any:
    """The class of a tracer's spans: what is the same in all of them, as in ``like``, stands in the class."""
    from opentelemetry.sdk.trace import ReadableSpan, _Span
    from opentelemetry.sdk.util import BoundedList

    limits = tracer._span_limits
    maxlen, max_value_len = limits.max_span_attributes, limits.max_span_attribute_length
    late = _late.late_attributes()

    class CallSpan(_Span):
        _end_time = None
        _instrumentation_info = like._instrumentation_info
        _instrumentation_scope = like._instrumentation_scope
        _limits = limits
        _record_exception = False
        _sampler = tracer.sampler
        _set_status_on_exception = False
        _span_processor = tracer.span_processor
        _status = like._status
        _trace_config = None

        def __init__(
            self,
            name: str,
            context: SpanContext,
            parent: SpanContext | None,
            kind: SpanKind,
            attributes: Any,
            start_time: int,
            on_end: Any,
            resource: Any,
        ) -> None:
            self._name = name
            self._context = context
            self._parent = parent
            self._kind = kind
            self._start_time = start_time
            self._record_end_metrics = on_end
            self._resource = resource
            self._attributes = late(lambda: dict(attributes), maxlen, max_value_len, False)

        def __getattr__(self, name: str) -> Any:
            """Of what most spans never need."""
            if name == "_lock":
                made: Any = Lock()
            elif name == "_events":
                made = BoundedList(limits.max_events)
            elif name == "_links":
                made = BoundedList(limits.max_links)
            else:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return vars(self).setdefault(name, made)  # another thread may ask, too

        def end(self, end_time: int | None = None) -> None:
            """Ends it, once."""
            with _late.making:
                ended = self._end_time is not None
                if not ended:
                    self._end_time = time_ns() if end_time is None else end_time
            if ended:
                super().end(end_time)  # says so in the log
                return
            attributes: Any = self._attributes
            attributes._immutable = True
            on_end: Any = self._record_end_metrics
            on_end()
            self._span_processor._on_ending(self)
            self._span_processor.on_end(self._readable_span())

        def _readable_span(self) -> Any:
            """A copy that nobody can write to."""
            readable = object.__new__(ReadableSpan)
            vars(readable).update(same)
            vars(readable).update(vars(self))
            return readable

    of_all = vars(CallSpan)
    same = {name: of_all[name] for name in vars(like._readable_span()) if name in of_all} | {
        "_events": (),
        "_links": (),
    }
    return CallSpan
