"""``opentelemetry-instrument python app.py``: nothing in the program, everything in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from seatrace.instrumentor import SeatraceInstrumentor

from .receiver import SOURCE, Receiver, environment, grpc_receiver, http_receiver, points

AGENT = """
from model import ask, client
import seatrace

@seatrace.tool
def look(): pass

@seatrace.agent("clerk")
def serve():
    ask(client())
    look()

serve()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the program finds seatrace, our fake model, and seatrace's entry point if it is not installed."""
    if not entry_points(group="opentelemetry_instrumentor", name="seatrace"):
        information = tmp_path / "seatrace-0.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: seatrace\nVersion: 0.0\n")
        declared = "[opentelemetry_instrumentor]\nseatrace = seatrace.instrumentor:SeatraceInstrumentor\n"
        (information / "entry_points.txt").write_text(declared)
    return os.pathsep.join((str(SOURCE), str(SOURCE.parent / "tests"), str(tmp_path)))


@pytest.fixture
def http() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


def instrumented(program: str, path: str, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "app.py"
    script.write_text(textwrap.dedent(program))
    start = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
    return subprocess.run(
        [sys.executable, "-c", start, sys.executable, str(script)],
        env={**environment(**variables), "PYTHONPATH": path, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_everything_arrives_without_a_line_of_code(protocol: str, path: str, tmp_path: Path) -> None:
    with grpc_receiver() if protocol == "grpc" else http_receiver() as receiver:
        ended = instrumented(
            AGENT,
            path,
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_SERVICE_NAME="zero",
            OTEL_METRIC_EXPORT_INTERVAL="inf",
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY",
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert receiver.span_names() == ["chat gpt-4o-mini", "execute_tool look", "invoke_agent clerk"]
    assert [item.name for item in receiver.logs] == ["gen_ai.client.inference.operation.details"]
    [chat] = [item for item in receiver.spans if item.name.startswith("chat")]
    assert "hello" in chat.attributes["gen_ai.input.messages"]
    durations = [point for item in receiver.metrics("gen_ai.client.inference.duration") for point in points(item)]
    assert durations
    assert {point.count for point in durations} == {1}
    assert {item.resource["service.name"] for item in receiver.items} == {"zero"}


def test_instrument_in_the_program_as_well_is_no_second_set_up(http: Receiver, path: str, tmp_path: Path) -> None:
    program = """
    import threading
    from opentelemetry import trace
    provider, threads = trace.get_tracer_provider(), threading.active_count()
    import seatrace
    seatrace.instrument(service_name="other")
    assert trace.get_tracer_provider() is provider
    assert threading.active_count() == threads
    """
    ended = instrumented(
        textwrap.dedent(program) + AGENT,
        path,
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=http.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert http.span_names() == ["chat gpt-4o-mini", "execute_tool look", "invoke_agent clerk"]


def test_a_wrong_setting_is_told_and_the_program_runs(http: Receiver, path: str, tmp_path: Path) -> None:
    ended = instrumented(
        "print('runs')",
        path,
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=http.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        SEATRACE_SEMCONV="classic",
    )
    assert (ended.returncode, ended.stdout) == (0, "runs\n")
    said = "seatrace is not switched on. SEATRACE_SEMCONV: expected one of latest, legacy, both, got 'classic'"
    assert ended.stderr.strip().endswith(said)
    assert "Traceback" not in ended.stderr


def test_it_can_be_left_out(http: Receiver, path: str, tmp_path: Path) -> None:
    ended = instrumented(
        AGENT,
        path,
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=http.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="seatrace",
    )
    assert ended.returncode == 0
    assert http.span_names() == []


def test_the_instrumentor_takes_what_distributions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATRACE_EXPORTER", "none")
    instrumentor = SeatraceInstrumentor()
    assert list(instrumentor.instrumentation_dependencies()) == []
    instrumentor.instrument(skip_dep_check=True, raise_exception_on_conflict=True, exporter="ignored")
    instrumentor.instrument()
    SeatraceInstrumentor().uninstrument(something=1)
    instrumentor.uninstrument()
