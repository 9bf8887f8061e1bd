"""The yardstick: chat completions of ``openai`` instrumented by hand, with OpenTelemetry's public API alone.

It emits what seatrace emits for the same calls: the span with its start, end and cost attributes, the metrics of the
latest conventions, and the details event (``tests/benchmarks`` holds the two to equal telemetry). It is written as one
would write it for a single program: attributes built once a call, nothing computed twice, no generality.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns, time_ns
from typing import Any

from openai._legacy_response import LegacyAPIResponse
from openai.resources.chat.completions import AsyncCompletions, Completions
from opentelemetry import context as otel_context
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from seatrace.core.record import Usage
from seatrace.process.price import PriceBook

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4.0**exponent for exponent in range(14))
_PARAMETERS = {
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "reasoning_effort": "gen_ai.request.reasoning.level",
    "service_tier": "openai.request.service_tier",
}


class Handwritten:
    """Tracer, instruments and event logger. ``gaps``: whether time_per_output_chunk is recorded, which is most of
    what watching a stream costs."""

    def __init__(self, tracer_provider: Any, meter_provider: Any, logger_provider: Any, *, gaps: bool = True) -> None:
        meter = meter_provider.get_meter("handwritten")
        histogram = functools.partial(self._histogram, meter)
        self.tracer = tracer_provider.get_tracer("handwritten")
        self.logger = logger_provider.get_logger("handwritten")
        self.prices = PriceBook()
        self.gaps = gaps
        client = "gen_ai.client.inference."
        self.duration = histogram(client + "duration", "s", _SECONDS)
        self.first_chunk = histogram(client + "time_to_first_chunk", "s", _SECONDS)
        self.per_chunk = histogram(client + "time_per_output_chunk", "s", _SECONDS)
        self.call_input = histogram(client + "operation.input_tokens", "{token}", _TOKENS)
        self.call_output = histogram(client + "operation.output_tokens", "{token}", _TOKENS)
        self.input = meter.create_counter(client + "usage.input_tokens", "{token}")
        self.output = meter.create_counter(client + "usage.output_tokens", "{token}")
        self.cache_read = meter.create_counter(client + "usage.cache_read.input_tokens", "{token}")
        self.reasoning = meter.create_counter(client + "usage.reasoning.output_tokens", "{token}")
        self.cost = meter.create_counter("seatrace.cost", "USD")
        self.unpriced = meter.create_counter("seatrace.cost.unpriced", "{call}")
        self.steps = {
            "invoke_agent": ("gen_ai.agent.name", histogram("gen_ai.invoke_agent.duration", "s", _SECONDS)),
            "execute_tool": ("gen_ai.tool.name", histogram("gen_ai.execute_tool.duration", "s", _SECONDS)),
        }

    @contextmanager
    def step(self, operation: str, name: str) -> Iterator[None]:
        """The span and the duration of an agent's run or a tool's, around what it does."""
        named, duration = self.steps[operation]
        started = perf_counter_ns()
        attributes = {"gen_ai.operation.name": operation, named: name}
        with self.tracer.start_as_current_span(f"{operation} {name}", attributes=attributes):
            yield
        duration.record((perf_counter_ns() - started) / 1e9, {named: name})

    @staticmethod
    def _histogram(meter: Any, name: str, unit: str, buckets: tuple[float, ...]) -> Any:
        return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=buckets)


class _Call:
    """One call between its request and its end."""

    __slots__ = ("attributes", "base", "context", "first", "gaps", "last", "otel", "span", "started", "started_clock")

    def __init__(self, otel: Handwritten, server: tuple[str, int], request: dict[str, Any]) -> None:
        model = request.get("model")
        self.otel = otel
        self.base = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model,
            "server.address": server[0],
            "server.port": server[1],
        }
        self.attributes: dict[str, Any] = {
            _PARAMETERS[name]: value
            for name, value in request.items()
            if name in _PARAMETERS and isinstance(value, (str, int, float))  # frameworks pass sentinels for the others
        }
        if request.get("stream"):
            self.attributes["gen_ai.request.stream"] = True
        self.gaps: list[float] = []
        self.first = self.last = 0
        self.started = time_ns()
        self.started_clock = perf_counter_ns()
        self.span = otel.tracer.start_span(
            f"chat {model}", kind=SpanKind.CLIENT, attributes=self.base, start_time=self.started
        )
        self.context = set_span_in_context(self.span)

    def chunk(self) -> None:
        now = perf_counter_ns()
        if self.last:
            if self.otel.gaps:
                self.gaps.append((now - self.last) / 1e9)
        else:
            self.first = now
        self.last = now

    def response(self, found: Any, reasons: list[str], usage: Any) -> None:
        """Reads a completion, or the last chunk of a stream."""
        attributes = self.attributes
        self.base["gen_ai.response.model"] = attributes["gen_ai.response.model"] = found.model
        attributes["gen_ai.response.id"] = found.id
        attributes["openai.api.type"] = "chat_completions"
        if reasons:
            attributes["gen_ai.response.finish_reasons"] = reasons
        if found.service_tier is not None:
            attributes["openai.response.service_tier"] = found.service_tier
        if found.system_fingerprint is not None:
            attributes["openai.response.system_fingerprint"] = found.system_fingerprint
        self.end(usage)

    def failed(self, error: BaseException) -> None:
        kind = getattr(error, "code", None) or type(error).__qualname__
        self.span.set_status(Status(StatusCode.ERROR, str(error)))
        self.attributes["error.type"] = kind
        self.end(None)

    def end(self, usage: Any) -> None:
        otel, base, attributes, context = self.otel, self.base, self.attributes, self.context
        clock = perf_counter_ns()
        ended = self.started + clock - self.started_clock
        kind = attributes.get("error.type")
        labels = base if kind is None else {**base, "error.type": kind}
        otel.duration.record((clock - self.started_clock) / 1e9, labels, context)
        if self.first:
            first = (self.first - self.started_clock) / 1e9
            attributes["gen_ai.response.time_to_first_chunk"] = first
            otel.first_chunk.record(first, base, context)
            for gap in self.gaps:
                otel.per_chunk.record(gap, base, context)
        if usage is not None:
            self._usage(usage)
        if self.span.is_recording():
            self.span.set_attributes(attributes)
        otel.logger.emit(
            LogRecord(
                timestamp=ended,
                observed_timestamp=ended,
                context=context,
                severity_number=SeverityNumber.DEBUG,
                severity_text="DEBUG",
                event_name="gen_ai.client.inference.operation.details",
                attributes={**base, **attributes},
            )
        )
        self.span.end(ended)

    def _usage(self, usage: Any) -> None:
        otel, base, attributes, context = self.otel, self.base, self.attributes, self.context
        sent, said = usage.prompt_tokens, usage.completion_tokens
        inputs, outputs = usage.prompt_tokens_details, usage.completion_tokens_details
        cached = inputs.cached_tokens if inputs is not None else None
        reasoning = outputs.reasoning_tokens if outputs is not None else None
        attributes["gen_ai.usage.input_tokens"] = sent
        attributes["gen_ai.usage.output_tokens"] = said
        if cached is not None:
            attributes["gen_ai.usage.cache_read.input_tokens"] = cached
        if reasoning is not None:
            attributes["gen_ai.usage.reasoning.output_tokens"] = reasoning
        otel.call_input.record(sent, base, context)
        otel.call_output.record(said, base, context)
        labels = {**base, "gen_ai.token.modality": "unknown"}
        otel.input.add(sent, labels, context)
        otel.output.add(said, labels, context)
        if cached:
            otel.cache_read.add(cached, labels, context)
        if reasoning:
            otel.reasoning.add(reasoning, labels, context)
        request_model, model = base["gen_ai.request.model"], base["gen_ai.response.model"]
        cost = otel.prices.price_usage(
            "openai", (model, request_model), Usage(sent, said, cache_read=cached, reasoning=reasoning)
        )
        labels = {
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": request_model,
            "gen_ai.response.model": model,
        }
        if cost is None:
            otel.unpriced.add(1, labels, context)
            return
        attributes["gen_ai.usage.cost.amount"] = cost.total
        attributes["gen_ai.usage.cost.currency"] = cost.currency
        attributes["gen_ai.usage.cost.source"] = cost.source
        otel.cost.add(cost.total, labels, context)


class _Chunks:
    """Reads a stream's chunks as they pass."""

    __slots__ = ("_call", "_ended", "_last", "_reasons", "_stream", "_usage")

    def __init__(self, stream: Any, call: _Call) -> None:
        self._stream = stream
        self._call = call
        self._last: Any = None
        self._usage: Any = None
        self._reasons: list[str] = []
        self._ended = False

    def read(self, chunk: Any) -> None:
        self._call.chunk()
        self._last = chunk
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self._reasons.append(choice.finish_reason)

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._last is None:
            self._call.end(None)
        else:
            self._call.response(self._last, self._reasons, self._usage)

    def failed(self, error: BaseException) -> None:
        if not self._ended:
            self._ended = True
            self._call.failed(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Stream(_Chunks):
    __slots__ = ()

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        try:
            chunk = self._stream.__next__()
        except StopIteration:
            self.end()
            raise
        except BaseException as error:
            self.failed(error)
            raise
        self.read(chunk)
        return chunk

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.end()


class _AsyncStream(_Chunks):
    __slots__ = ()

    def __aiter__(self) -> _AsyncStream:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await self._stream.__anext__()
        except StopAsyncIteration:
            self.end()
            raise
        except BaseException as error:
            self.failed(error)
            raise
        self.read(chunk)
        return chunk

    async def __aenter__(self) -> _AsyncStream:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()

    async def close(self) -> None:
        await self._stream.close()
        self.end()


def _finish(call: _Call, result: Any, watched: Callable[[Any, _Call], Any]) -> Any:
    if "gen_ai.request.stream" in call.attributes:
        return watched(result, call)
    found = result.parse() if isinstance(result, LegacyAPIResponse) else result  # it keeps what it parsed
    call.response(found, [choice.finish_reason for choice in found.choices], found.usage)
    return result


@contextmanager
def instrumented(otel: Handwritten) -> Iterator[None]:
    """Puts the instrumentation into ``openai`` for the block."""
    servers: dict[int, tuple[str, int]] = {}

    def server(resource: Any) -> tuple[str, int]:
        client = resource._client
        known = servers.get(id(client))
        if known is None:
            known = servers[id(client)] = (client.base_url.host, client.base_url.port or 443)
        return known

    create, create_async = Completions.create, AsyncCompletions.create

    @functools.wraps(create)
    def observed(self: Any, **request: Any) -> Any:
        call = _Call(otel, server(self), request)
        token = otel_context.attach(call.context)
        try:
            result = create(self, **request)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            otel_context.detach(token)
        return _finish(call, result, _Stream)

    @functools.wraps(create_async)
    async def observed_async(self: Any, **request: Any) -> Any:
        call = _Call(otel, server(self), request)
        token = otel_context.attach(call.context)
        try:
            result = await create_async(self, **request)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            otel_context.detach(token)
        return _finish(call, result, _AsyncStream)

    Completions.create, AsyncCompletions.create = observed, observed_async  # type: ignore[method-assign]
    try:
        yield
    finally:
        Completions.create, AsyncCompletions.create = create, create_async  # type: ignore[method-assign]
