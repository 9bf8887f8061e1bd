"""A real OTLP receiver on loopback, HTTP and gRPC, and programs that are run against it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

SOURCE = Path(__file__).resolve().parents[2] / "src"

_SERVICES: dict[str, tuple[Any, Any]] = {
    "traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
    "logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
}


@dataclass
class Item:
    """A span, a metric or a log record as it arrived."""

    signal: str
    name: str
    data: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str
    schema_url: str


@dataclass
class Receiver:
    """What arrived."""

    endpoint: str = ""
    status: int = 200
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path or method, and headers in lower case."""
    items: list[Item] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    """An answer is not given before this is set."""
    _news: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.release.set()

    @property
    def spans(self) -> list[Item]:
        return [item for item in self.items if item.signal == "traces"]

    @property
    def logs(self) -> list[Item]:
        return [item for item in self.items if item.signal == "logs"]

    def span_names(self, scope: str = "seatrace") -> list[str]:
        return sorted(item.name for item in self.spans if item.scope == scope)

    def metrics(self, name: str) -> list[Item]:
        return [item for item in self.items if item.signal == "metrics" and item.name == name]

    def wait_for(self, what: Callable[[], object]) -> None:
        """Waits until ``what()`` is true of what arrived."""
        with self._news:
            assert self._news.wait_for(what, timeout=30), f"only {[(each.signal, each.name) for each in self.items]}"

    def take(self, path: str, headers: dict[str, str], signal: str, message: Any) -> None:
        self.requests.append((path, headers))
        self.asked.set()
        self.release.wait(20)
        with self._news:
            self._read(signal, message)
            self._news.notify_all()

    def _read(self, signal: str, message: Any) -> None:
        for resource_part in next(iter(message.ListFields()), (None, ()))[1]:
            resource = _attributes(resource_part.resource.attributes)
            for scope_part in next(value for key, value in resource_part.ListFields() if key.name.startswith("scope_")):
                for key, values in scope_part.ListFields():
                    if key.name not in ("spans", "metrics", "log_records"):
                        continue
                    for each in values:
                        attributes = _attributes(each.attributes) if hasattr(each, "attributes") else {}
                        self.items.append(
                            Item(
                                signal,
                                getattr(each, "event_name", None) or each.name,
                                each,
                                attributes,
                                resource,
                                scope_part.scope.name,
                                scope_part.schema_url,
                            )
                        )


def points(item: Item) -> list[Any]:
    """The data points of a metric."""
    return list(getattr(item.data, item.data.WhichOneof("data")).data_points)


def total(items: list[Item]) -> float:
    """The sum over the points of histograms or counters."""
    return sum(
        point.sum if hasattr(point, "sum") else point.as_double or point.as_int
        for item in items
        for point in points(item)
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


@contextmanager
def http_receiver(**options: Any) -> Iterator[Receiver]:
    """OTLP over HTTP on a free port."""
    receiver = Receiver(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            coding = self.headers.get("content-encoding")
            if coding:
                body = gzip.decompress(body) if coding == "gzip" else zlib.decompress(body)
            signal = self.path.rsplit("/", 1)[1]
            request, response = _SERVICES[signal]
            headers = {key.lower(): value for key, value in self.headers.items()}
            receiver.take(self.path, headers, signal, request.FromString(body))
            answer = response().SerializeToString()
            try:
                self.send_response(receiver.status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:  # who asked is gone
                pass

        def log_message(self, *args: Any) -> None:
            pass

    with listening(Handler) as receiver.endpoint:
        try:
            yield receiver
        finally:
            receiver.release.set()


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a server of HTTP on a free loopback port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_receiver(**options: Any) -> Iterator[Receiver]:
    """OTLP over gRPC on a free port."""
    receiver = Receiver(**options)

    class Service:
        def __init__(self, signal: str) -> None:
            self._signal = signal

        def Export(self, request: Any, context: Any) -> Any:
            headers = {key: str(value) for key, value in context.invocation_metadata()}
            receiver.take(self._signal, headers, self._signal, request)
            return _SERVICES[self._signal][1]()

    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service("traces"), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Service("metrics"), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Service("logs"), server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.stop(0).wait()


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without the settings of the test run, with ``variables``. Output is buffered, as it is
    by default."""
    unset = ("OTEL_", "SEATRACE_", "PYTHONUNBUFFERED")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
    return {**kept, "PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "error,ignore::ResourceWarning", **variables}


def start(program: str, **variables: str) -> subprocess.Popen[str]:
    """Starts ``program`` as ``python -c`` in a fresh interpreter."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(program: str, **variables: str) -> tuple[str, str]:
    """Runs ``program`` to its end and returns what it wrote to stdout and stderr."""
    process = start(program, **variables)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err
