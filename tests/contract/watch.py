"""Looking at what was seen, and driving sync and async objects by one test."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from seatrace.core import guard
from seatrace.testing import Captured, capture

from .rows import PRICES, TIME, Row

_TIMES = ("gen_ai.response.time_to_first_chunk",)


@contextmanager
def watched(calls: int | None = 1, **settings: Any) -> Iterator[Captured]:
    """Captures the block, and checks at its end what must hold in every case: ``calls`` spans, metrics that equal
    them, no fault of ours, nothing logged by us or by OpenTelemetry."""
    strict = settings.get("strict", True)
    before = guard.faults.total()
    heard = _Heard()
    root = logging.getLogger()
    root.addHandler(heard)
    try:
        with capture(prices=PRICES, **settings) as captured:
            yield captured
            spans = captured.spans
            if calls is not None:
                assert len(spans) == calls, [each.name for each in spans]
            metrics_equal_spans(captured)
    finally:
        root.removeHandler(heard)
    if strict:
        assert guard.faults.total() == before
        assert heard.lines == []


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("seatrace", "opentelemetry")):
            self.lines.append(record.getMessage())


def seen(span: Any) -> dict[str, Any]:
    """The whole span, in a form that can be compared; times become :data:`TIME`."""
    attributes = dict(span.attributes)
    for name in _TIMES:
        if attributes.get(name, 0) > 0:
            attributes[name] = TIME
    assert span.end_time >= span.start_time
    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": (span.status.status_code.name, span.status.description),
        "parent": span.parent.span_id if span.parent is not None else None,
        "events": [each.name for each in span.events],
        "scope": span.instrumentation_scope.name,
        "attributes": attributes,
    }


def expected(
    row: Row,
    attributes: dict[str, Any],
    *,
    error: str | None = None,
    description: str | None = None,
    status_code: int | None = None,
    parent: int | None = None,
) -> dict[str, Any]:
    """The whole span that ``row`` wants."""
    attributes = dict(attributes)
    if error is not None:
        attributes["error.type"] = error
    if status_code is not None:
        attributes["http.response.status_code"] = status_code
    return {
        "name": row.name,
        "kind": "CLIENT",
        "status": ("UNSET", None) if error is None else ("ERROR", description),
        "parent": parent,
        "events": [],
        "scope": "seatrace",
        "attributes": attributes,
    }


_DURATIONS = {
    "inference": "gen_ai.client.inference.duration",
    "embeddings": "gen_ai.client.embeddings.duration",
    "operation": "gen_ai.client.operation.duration",
}
_COUNTERS = {
    "gen_ai.client.inference.usage.input_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens": "gen_ai.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens": "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens": "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.client.inference.operation.input_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.client.inference.operation.output_tokens": "gen_ai.usage.output_tokens",
}


def metrics_equal_spans(captured: Captured) -> None:
    """What the metrics sum up to is what the spans say."""
    spans = [span for span in captured.spans if span.instrumentation_scope.name == "seatrace"]
    emitted = captured.metric_names

    def points(metric: str) -> list[Any]:
        return captured.points(metric) if metric in emitted else []  # each look at them collects all metrics

    for kind, metric in _DURATIONS.items():
        found = points(metric)
        of_kind = [span for span in spans if _kind(span) == kind]
        assert sum(point.count for point in found) == len(of_kind), metric
        errors = sum(point.count for point in found if "error.type" in point.attributes)
        assert errors == sum(span.status.status_code.name == "ERROR" for span in of_kind), metric
        took = sum((span.end_time - span.start_time) / 1e9 for span in of_kind)
        assert abs(sum(point.sum for point in found) - took) < 1e-6 * (len(of_kind) + 1), metric
    inferences = [span for span in spans if _kind(span) == "inference"]
    for metric, attribute in _COUNTERS.items():
        total = sum(point.value if hasattr(point, "value") else point.sum for point in points(metric))
        assert total == sum(span.attributes.get(attribute, 0) for span in inferences), metric
    streams = [span for span in inferences if "gen_ai.response.time_to_first_chunk" in span.attributes]
    assert sum(point.count for point in points("gen_ai.client.inference.time_to_first_chunk")) == len(streams)
    cost = sum(span.attributes.get("gen_ai.usage.cost.amount", 0) for span in spans)
    assert abs(sum(point.value for point in points("seatrace.cost")) - cost) < 1e-12
    details = [each for each in captured.events if each.event_name == "gen_ai.client.inference.operation.details"]
    assert len(details) == len(inferences)


def _kind(span: Any) -> str:
    operation = span.attributes["gen_ai.operation.name"]
    if operation in ("chat", "text_completion", "generate_content", "compact"):
        return "inference"
    return "embeddings" if operation == "embeddings" else "operation"


# --- one test for sync and async ----------------------------------------------------------------------------------


async def settle(value: Any) -> Any:
    """``value``, awaited where it can be."""
    return await value if inspect.isawaitable(value) else value


async def pull(stream: Any) -> Any:
    """The next chunk, by the stream's own ``__next__`` or ``__anext__``."""
    return await stream.__anext__() if hasattr(stream, "__anext__") else next(stream)


async def each(iterable: Any) -> AsyncIterator[Any]:
    """A loop over ``iterable`` of either kind."""
    if hasattr(iterable, "__aiter__"):
        async for item in iterable:
            yield item
    else:
        for item in iterable:
            yield item


async def everything(iterable: Any) -> list[Any]:
    """All that ``iterable`` gives, by a ``for`` or ``async for`` loop in place."""
    if hasattr(iterable, "__aiter__"):
        return [item async for item in iterable]
    return list(iterable)


async def close(stream: Any) -> None:
    """``close()`` or ``aclose()``."""
    await settle(stream.aclose() if hasattr(stream, "aclose") else stream.close())


@asynccontextmanager
async def within(manager: Any) -> AsyncIterator[Any]:
    """``with`` or ``async with``."""
    if hasattr(manager, "__aenter__"):
        async with manager as inside:
            yield inside
    else:
        with manager as inside:
            yield inside
