"""Telemetry as somebody else's program sends it: OTLP that was made by hand."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric, NumberDataPoint, Sum
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Value = str | int | float | bool | list[str]


def new_trace() -> bytes:
    """An id for a trace."""
    return secrets.token_bytes(16)


def span(
    name: str,
    attributes: Mapping[str, Value] | None = None,
    *,
    trace: bytes | None = None,
    parent: bytes = b"",
    failed: bool | str = False,
    seconds: float = 0.1,
    event: Mapping[str, Value] | None = None,
) -> Span:
    """A span that ended just now; without ``trace`` the root of one of its own, with ``failed`` as its message."""
    end = time.time_ns()
    return Span(
        trace_id=trace or new_trace(),
        span_id=secrets.token_bytes(8),
        parent_span_id=parent,
        name=name,
        start_time_unix_nano=end - int(seconds * 1e9),
        end_time_unix_nano=end,
        attributes=_pairs(attributes or {}),
        events=[Span.Event(name="event", time_unix_nano=end, attributes=_pairs(event))] if event else [],
        status=Status(
            code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET,
            message=failed if isinstance(failed, str) else "",
        ),
    )


def spans(found: Iterable[Span], *, service: str = "foreign") -> ExportTraceServiceRequest:
    """A request with spans."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(_pairs({"service.name": service, "service.instance.id": "1"}))
    resource.scope_spans.add().spans.extend(found)
    return request


def counter(
    name: str, points: Sequence[tuple[Mapping[str, Value], float]], *, unit: str = "1", service: str = "foreign"
) -> ExportMetricsServiceRequest:
    """A request with a cumulative counter."""
    now = time.time_ns()
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.extend(_pairs({"service.name": service, "service.instance.id": "1"}))
    resource.scope_metrics.add().metrics.append(
        Metric(
            name=name,
            unit=unit,
            sum=Sum(
                is_monotonic=True,
                aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE,
                data_points=[
                    NumberDataPoint(
                        attributes=_pairs(attributes),
                        as_double=value,
                        start_time_unix_nano=now - 10**9,
                        time_unix_nano=now,
                    )
                    for attributes, value in points
                ],
            ),
        )
    )
    return request


def post(url: str, request: Any, *, headers: Mapping[str, str] | None = None, authority: Path | None = None) -> int:
    """Sends a request to a receiver of OTLP over HTTP; returns the status.

    Raises:
        OSError: nobody listens, or the certificate is not one of ``authority``.
    """
    path = "/v1/traces" if isinstance(request, ExportTraceServiceRequest) else "/v1/metrics"
    where = urlsplit(url)
    assert where.hostname is not None
    if where.scheme == "https":
        trusted = ssl.create_default_context(cafile=None if authority is None else str(authority))
        connection: HTTPConnection = HTTPSConnection(where.hostname, where.port, timeout=30, context=trusted)
    else:
        connection = HTTPConnection(where.hostname, where.port, timeout=30)
    with closing(connection):
        told = {"content-type": "application/x-protobuf", **(headers or {})}
        connection.request("POST", path, request.SerializeToString(), told)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def _pairs(attributes: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in attributes.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_any(each) for each in value]))
    return AnyValue(string_value=value)
