"""One ended call becomes one span, its measurements and its events."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from time import time_ns
from typing import Any

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer, get_current_span, set_span_in_context

from seatrace.core import guard
from seatrace.core.context import Scope, narrowed
from seatrace.core.record import Call, Content, RateLimit

from . import rate_limits
from . import semconv as names
from ._bounded import set_attributes
from ._events import Record, emit
from ._late import Make, put_later
from ._recorder import Moment
from ._starter import Starter
from .attributes import content_attributes, end_attributes, start_attributes
from .catalogue import RATE_LIMIT_LIMIT, RATE_LIMIT_REMAINING, RETRIES, RETRY_WAIT, Metric
from .foreign import span_of
from .metrics import FINAL_KINDS, Metrics

_KINDS = {
    **dict.fromkeys(("agent", "workflow", "plan", "tool", "cached", "batch", "internal"), SpanKind.INTERNAL),
    "send": SpanKind.PRODUCER,
    "process": SpanKind.CONSUMER,
    "mcp_server": SpanKind.SERVER,
}

# The key is made unique when opentelemetry.context is loaded; the plain word is what older packages set.
_SUPPRESS = frozenset(
    key for key in (getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", None), "suppress_instrumentation") if key
)

ContentHook = Callable[[Call, Content], "Content | None"]
"""Sees a call's content before anything of it is recorded, and returns what may be recorded: the same object, another
one, or ``None`` for nothing."""


class _Live:
    """What the emitter remembers of a call in progress."""

    __slots__ = ("context", "emitted", "measured", "span", "start")

    def __init__(
        self, span: Any, context: Any, start: dict[str, Any], *, emitted: bool, measured: bool = False
    ) -> None:
        self.span = span
        self.context = context
        self.start = start
        self.emitted = emitted
        """Whether the span is ours to end; else it belongs to another instrumentation of the same call."""
        self.measured = measured
        """Whether that one records metrics of the same call, too."""


class Emitter:
    """The pipeline's end: holds tracer, metrics and event logger."""

    def __init__(
        self,
        tracer: Tracer,
        metrics: Metrics,
        logger: Any,
        *,
        latest: bool,
        legacy: bool,
        events: bool,
        content_on_spans: bool,
        content_on_events: bool,
        clean: Callable[[Content], Content],
        clean_text: Callable[[str], str],
        hook: ContentHook | None,
    ) -> None:
        self._starter = Starter(tracer)
        self._metrics = metrics
        self._logger = logger
        self._latest = latest
        self._legacy = legacy
        self._events = events
        self._content_on_spans = content_on_spans
        self._content_on_events = content_on_events and events
        self._clean = clean
        self._clean_text = clean_text
        self._hook = hook
        rate_limits.seen.clear()
        self.wants_content = content_on_spans or self._content_on_events or hook is not None

    # --- begin ------------------------------------------------------------------------------------------------------

    @staticmethod
    def place(call: Call) -> None:
        """Takes conversation, session, user and tenant from the baggage that another service sent."""
        current = _context_of(call)
        if current:
            _from_baggage(call, current)

    def begin(self, call: Call, *, later: bool = False) -> None:
        """Starts the span, with what a sampler may ask for; ``later``: only at its end."""
        current = _context_of(call)
        start = start_attributes(call)
        if self.stands_aside(call):
            call.span = _Live(get_current_span(current), current, start, emitted=False, measured=True)
            return
        theirs = span_of(call, current)
        if theirs is not None:
            call.span = _Live(theirs, set_span_in_context(theirs, current), start, emitted=False)
            return
        call.span = _Live(None, current, start, emitted=True)
        if not later:
            self._start(call, call.span)

    def _start(self, call: Call, live: _Live) -> None:
        live.span = self._starter.start(
            _span_name(call),
            live.context,
            _KINDS.get(call.kind, SpanKind.CLIENT),
            live.start,
            None if call.links is None else [Link(each) for each in call.links if each is not None],
            call.started,
        )
        live.context = set_span_in_context(live.span, live.context)

    def stands_aside(self, call: Call) -> bool:
        """An official instrumentation around this call has its own span: that one is enriched, no second one made."""
        key = names.OFFICIAL_CONTEXT_KEYS.get(call.kind)
        return key is not None and otel_context.get_value(key) is not None

    @staticmethod
    def suppressed() -> bool:
        """Whether OpenTelemetry's own switch says that nothing is to be instrumented here."""
        current = otel_context.get_current()
        return not _SUPPRESS.isdisjoint(current) and any(map(current.get, _SUPPRESS))

    def activate(self, call: Call) -> Any:
        """Makes the call's span current."""
        return otel_context.attach(call.span.context)

    def deactivate(self, token: Any) -> Any:
        """Takes that back and returns the context that was current until now."""
        current = otel_context.get_current()
        otel_context.detach(token)
        return current

    def reactivate(self, state: Any) -> Any:
        """Makes a context current again that :meth:`deactivate` returned."""
        return otel_context.attach(state)

    # --- end --------------------------------------------------------------------------------------------------------

    def end(self, call: Call) -> None:
        """Content first (hook, redaction, limits), then metrics, events and the span's end, whatever fails before."""
        live: _Live = call.span
        if live.span is None:
            self._start(call, live)
        ended = call.started + call.ended_clock - call.started_clock
        try:
            self._emit(call, live, ended)
        finally:
            if live.emitted:
                live.span.end(ended)
            call.span = None

    # --- attempts -----------------------------------------------------------------------------------------------------

    def retried(self, call: Call, reason: str, seconds: float) -> None:
        """Measures a retry when it begins, since a call may wait for minutes."""
        labels = {names.PROVIDER_NAME: call.provider, names.REQUEST_MODEL: call.request_model, names.ERROR_TYPE: reason}
        moment = Moment(time_ns(), call.span.context)
        self._metrics.measure(RETRIES, 1, labels, moment)
        self._metrics.measure(RETRY_WAIT, seconds, labels, moment)

    def limits(self, call: Call, read: Callable[[], Iterable[RateLimit]]) -> None:
        """Keeps what the provider last said of its limits."""
        if rate_limits.seen.keep(call.provider, call.request_model, read):
            self._metrics.observe(RATE_LIMIT_LIMIT)
            self._metrics.observe(RATE_LIMIT_REMAINING)

    def session(self, call: Call, seconds: float) -> None:
        """Measures a session of the Model Context Protocol."""
        self._metrics.session(call, seconds, Moment(time_ns(), otel_context.get_current()))

    # --- patterns -----------------------------------------------------------------------------------------------------

    def measure(self, metric: Metric, value: float, attributes: Mapping[str, Any]) -> None:
        """Records one value, in the current context."""
        self._metrics.measure(metric, value, attributes, Moment(time_ns(), otel_context.get_current()))

    def observe(self, metric: Metric) -> None:
        """Makes the instrument by which ``metric`` of the sources is read."""
        self._metrics.observe(metric)

    def event(self, name: str, attributes: Mapping[str, Any], *, warning: bool, of: Call | None = None) -> None:
        """Emits an event in the current context, or in that of a call."""
        if self._events:
            severity = SeverityNumber.WARN if warning else SeverityNumber.INFO
            context = otel_context.get_current() if of is None or of.span is None else of.span.context
            said = dict(attributes)
            self._log(name, severity, lambda: said, context, time_ns())

    def annotate(self, attributes: Mapping[str, Any]) -> None:
        """Sets attributes on the current span."""
        span = get_current_span()
        if span.is_recording():
            span.set_attributes(dict(attributes))

    def here(self) -> Any:
        """The current span's context, where it is a valid one."""
        found = get_current_span().get_span_context()
        return found if found.is_valid else None

    def inject(self) -> dict[str, str]:
        """The current context as headers."""
        from opentelemetry import propagate  # looks for plugins when it is loaded

        carried: dict[str, str] = {}
        propagate.inject(carried)
        return carried

    def extract(self, carried: Mapping[str, str]) -> Any:
        """The span context in headers, where there is a valid one."""
        found = get_current_span(_arrived(carried)).get_span_context()
        return found if found.is_valid else None

    def _emit(self, call: Call, live: _Live, ended: int) -> None:
        content = self._content(call)
        self._metrics.record(call, Moment(ended, live.context), beside=live.measured)
        recording = live.span.is_recording()
        describes = self._events and call.kind == "inference" and not live.measured
        if recording or describes or (call.error is not None and self._events):
            told = self._told(call)
            message = None if call.error is None else self._clean_text(_text_of(call.error))
            if recording:
                self._finish_span(call, live, told, content, message)
            if describes:
                self._details(live, told, content, ended)
            if message is not None and self._events and not live.measured:
                self._exception(call, live, told, message, ended)

    def _told(self, call: Call) -> Make:
        """The attributes of an ended call: put together later, where nothing changes in it any more."""
        made: Mapping[str, Any] | None = None

        def told() -> Mapping[str, Any]:
            nonlocal made
            if made is None:  # the span and its event ask for them, each when it is exported
                made = end_attributes(call, latest=self._latest, legacy=self._legacy)
            return made

        if call.kind not in FINAL_KINDS or call.attributes:
            told()
        return told

    def _content(self, call: Call) -> Content | None:
        """What may be recorded: nothing where the hook or the cleaning fails, rather than too much."""
        content, call.content = call.content, None
        if content is None:
            return None
        try:
            if self._hook is not None:
                content = self._hook(call, content.detached())
            if content is not None:
                call.content = self._clean(content)
        except Exception as error:
            guard.fault("clean content", error)
        return call.content

    def _finish_span(self, call: Call, live: _Live, told: Make, content: Content | None, message: str | None) -> None:
        span = live.span
        if not live.emitted:
            set_attributes(span, {**live.start, **told()})
        elif not put_later(getattr(span, "_attributes", None), told):
            set_attributes(span, told())
        if self._content_on_spans and content is not None and not live.measured:
            span.set_attributes(content_attributes(content, structured=False))
        if call.error_type is not None and not live.measured:
            span.set_status(Status(StatusCode.ERROR, message))

    def _details(self, live: _Live, told: Make, content: Content | None, ended: int) -> None:
        start, shown = live.start, content if self._content_on_events else None

        def details() -> dict[str, Any]:
            said = {} if shown is None else content_attributes(shown, structured=True)
            return {**start, **told(), **said}

        self._log(names.EVENT_DETAILS, SeverityNumber.DEBUG, details, live.context, ended)

    def _exception(self, call: Call, live: _Live, told: Make, message: str, ended: int) -> None:
        error = call.error
        if error is None or isinstance(error, GeneratorExit):
            return
        stack = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-20))
        details = {
            **live.start,
            **told(),
            names.EXCEPTION_TYPE: _qualified(type(error)),
            names.EXCEPTION_MESSAGE: message,
            names.EXCEPTION_STACKTRACE: self._clean_text(stack),
        }
        event = names.EVENT_TOOL_EXCEPTION if call.operation == "execute_tool" else names.EVENT_EXCEPTION
        self._log(event, SeverityNumber.WARN, lambda: details, live.context, ended)

    def _log(self, event: str, severity: SeverityNumber, attributes: Make, context: Any, timestamp: int) -> None:
        record = Record(
            timestamp=timestamp,
            observed_timestamp=timestamp,
            context=context,
            severity_number=severity,
            severity_text=severity.name,
            event_name=event,
        )
        emit(self._logger, record, attributes)


def _context_of(call: Call) -> Any:
    return otel_context.get_current() if call.parent is None else _arrived(call.parent)


def _arrived(carried: Mapping[str, str]) -> Any:
    from opentelemetry import propagate

    return propagate.extract(carried, otel_context.Context())


def _span_name(call: Call) -> str:
    subject = call.request_model if call.kind in ("inference", "embeddings", "operation") else call.name
    if call.kind == "cached":
        subject = call.request_model or call.name
    if call.exchange is not None:
        subject = call.name or call.prompt_name
        return f"{call.exchange.method} {subject}" if subject else call.exchange.method
    return f"{call.operation} {subject}" if subject else call.operation


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"{type(error).__qualname__} without a text"


def _qualified(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# --- baggage --------------------------------------------------------------------------------------------------------

_BAGGAGE = {
    "conversation": names.CONVERSATION_ID,
    "session": names.SESSION_ID,
    "user": names.USER_ID,
    "tenant": names.TENANT,
}

_BAGGAGE_KEY = getattr(baggage, "_BAGGAGE_KEY", None)
"""Where a context keeps it; to ask the package takes three calls."""

_BAGGAGE_LIMIT = 256
"""Characters taken of what another service says."""


def _from_baggage(call: Call, current: Any) -> None:
    """What a calling service said about conversation, session, user and tenant, where this one says nothing."""
    if _BAGGAGE_KEY is not None and _BAGGAGE_KEY not in current:
        return
    entries = baggage.get_all(current)
    scope: Scope = call.scope
    found = {
        field: str(entries[key])[:_BAGGAGE_LIMIT]
        for field, key in _BAGGAGE.items()
        if key in entries and getattr(scope, field) is None
    }
    if found:
        call.scope = narrowed(**found)
        if call.conversation_id is None:
            call.conversation_id = call.scope.conversation


def attach_baggage(scope: Scope) -> Any:
    """Puts the scope into the baggage that goes out with requests; returns the token for :func:`detach_baggage`."""
    current = otel_context.get_current()
    for field, key in _BAGGAGE.items():
        value = getattr(scope, field)
        if value is not None:
            current = baggage.set_baggage(key, value, current)
    return otel_context.attach(current)


detach_baggage = otel_context.detach
