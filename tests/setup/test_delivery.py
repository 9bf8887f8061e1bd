"""What reaches a real collector, over HTTP and gRPC, and what becomes of it when there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from .receiver import Receiver, grpc_receiver, http_receiver, points, run, start, total

PROGRAM = """
import seatrace
seatrace.instrument({settings})

@seatrace.tool
def look_up(word): return word

@seatrace.agent("clerk")
def serve():
    try:
        look_up("x"); look_up()
    except TypeError: pass

serve()
"""


def program(settings: str = "") -> str:
    return PROGRAM.format(settings=settings)


@pytest.fixture
def http() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def grpc() -> Iterator[Receiver]:
    with grpc_receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_all_signals_arrive_with_resource_and_schema(protocol: str, request: pytest.FixtureRequest) -> None:
    receiver: Receiver = request.getfixturevalue("grpc" if protocol == "grpc" else "http")
    out, err = run(
        program(),
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_SERVICE_NAME="shop",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,team=a%20b",
        OTEL_METRIC_EXPORT_INTERVAL="inf",
    )
    assert (out, err) == ("", "")
    assert receiver.span_names() == ["execute_tool look_up", "execute_tool look_up", "invoke_agent clerk"]
    assert [log.name for log in receiver.logs] == ["gen_ai.execute_tool.exception"]
    assert sum(point.count for point in points(receiver.metrics("gen_ai.execute_tool.duration")[0])) == 2
    assert {item.signal for item in receiver.items} == {"traces", "metrics", "logs"}
    [instance] = {item.resource["service.instance.id"] for item in receiver.items}
    assert len(instance) == 36
    for item in receiver.items:
        if item.scope == "seatrace":
            assert item.schema_url == "https://opentelemetry.io/schemas/gen-ai/0.1.0"
        assert {key: value for key, value in item.resource.items() if not key.startswith("process.")} == {
            "service.name": "shop",
            "service.instance.id": instance,
            "deployment.environment.name": "test",
            "team": "a b",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": item.resource["telemetry.sdk.version"],
            "telemetry.distro.name": "seatrace",
            "telemetry.distro.version": item.resource["telemetry.distro.version"],
        }


def test_keywords_win_over_the_environment(http: Receiver) -> None:
    settings = f"""endpoint="{http.endpoint}/", headers={{"authorization": "Bearer k"}}, service_name="keyword",
        protocol="http/protobuf", exporter="otlp", resource_attributes={{"team": "keyword"}}, semconv="legacy" """
    run(
        program(settings),
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_TRACES_EXPORTER="none",
        OTEL_SERVICE_NAME="environment",
        SEATRACE_SERVICE_NAME="environment",
        SEATRACE_SEMCONV="latest",
        OTEL_RESOURCE_ATTRIBUTES="team=environment",
    )
    assert {path for path, _ in http.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert {headers["authorization"] for _, headers in http.requests} == {"Bearer k"}
    assert {(item.resource["service.name"], item.resource["team"]) for item in http.items} == {("keyword", "keyword")}
    assert {item.schema_url for item in http.spans} == {"https://opentelemetry.io/schemas/1.37.0"}


def test_headers_reach_a_grpc_collector(grpc: Receiver) -> None:
    run(program('protocol="grpc", headers={"Authorization": "Bearer k"}'), SEATRACE_ENDPOINT=grpc.endpoint)
    assert {headers["authorization"] for _, headers in grpc.requests} == {"Bearer k"}


def test_standard_variables_are_honoured_by_lazy_exporters(http: Receiver, grpc: Receiver) -> None:
    run(
        program(),
        OTEL_EXPORTER_OTLP_ENDPOINT=http.endpoint + "/base",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http.endpoint + "/mine/v1/traces",
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=grpc.endpoint,
        OTEL_EXPORTER_OTLP_HEADERS="x-key=general",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS="x-key=logs",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta",
        OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION="base2_exponential_bucket_histogram",
    )
    arrived = {path: (headers["x-key"], headers.get("content-encoding")) for path, headers in http.requests}
    assert arrived == {"/mine/v1/traces": ("general", "gzip"), "/base/v1/logs": ("logs", "gzip")}
    [duration] = grpc.metrics("gen_ai.execute_tool.duration")
    assert duration.data.WhichOneof("data") == "exponential_histogram"
    assert duration.data.exponential_histogram.aggregation_temporality == 1


def test_the_standard_sampler_decides(http: Receiver) -> None:
    run(program(), SEATRACE_ENDPOINT=http.endpoint, OTEL_TRACES_SAMPLER="always_off")
    assert http.spans == []
    assert sum(point.count for point in points(http.metrics("gen_ai.execute_tool.duration")[0])) == 2


def test_each_signal_has_its_own_exporter(http: Receiver) -> None:
    out, err = run(
        program(),
        SEATRACE_ENDPOINT=http.endpoint,
        OTEL_TRACES_EXPORTER="console,otlp",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="otlp_proto_http",
    )
    assert '"name": "invoke_agent clerk"' in out
    assert err == ""
    assert {path for path, _ in http.requests} == {"/v1/traces", "/v1/logs"}


def test_metrics_go_out_at_the_standard_interval(http: Receiver) -> None:
    endless = start(
        program() + "import sys; sys.stdin.readline()",
        SEATRACE_ENDPOINT=http.endpoint,
        OTEL_METRIC_EXPORT_INTERVAL="50",
    )
    http.wait_for(lambda: len(http.metrics("gen_ai.execute_tool.duration")) > 2)
    assert endless.communicate("\n", timeout=30) == ("", "")


# --- nobody listens -------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> Iterator[str]:
    with socket.socket() as bound:  # not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_without_a_collector_a_program_ends_at_once_with_one_line(nobody: str, protocol: str) -> None:
    # Whatever patience there is: the exporters themselves would try again for longer than `run` waits.
    patient = program() + "import seatrace.ending; seatrace.ending.PATIENCE = 3600"
    out, err = run(patient, SEATRACE_ENDPOINT=nobody, SEATRACE_PROTOCOL=protocol, OTEL_EXPORTER_OTLP_TIMEOUT="3600")
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith(f"seatrace could not deliver telemetry to {nobody if protocol != 'grpc' else nobody[7:]}")


def test_credentials_in_an_endpoint_are_not_told(nobody: str) -> None:
    endpoint = nobody.replace("http://", "http://user:opensesame@")
    _, err = run(program(), SEATRACE_ENDPOINT=endpoint)
    assert "could not deliver telemetry to http://user:[redacted]@127.0.0.1" in err
    assert "opensesame" not in err


def test_a_collector_that_hangs_does_not_hang_the_end() -> None:
    with http_receiver() as receiver:
        receiver.release.clear()  # it never answers, and nobody gives up before `run` does but seatrace
        impatient = program() + "import seatrace.ending; seatrace.ending.PATIENCE = 0.5"
        run(impatient, SEATRACE_ENDPOINT=receiver.endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="3600")
        assert receiver.asked.is_set()


def test_the_end_is_bounded_by_a_few_seconds() -> None:
    from seatrace import ending

    assert ending.PATIENCE <= 5


def test_flush_says_whether_all_went_out(http: Receiver, nobody: str) -> None:
    check = "import sys; print(seatrace.flush(), file=sys.stderr)"
    assert run(program() + check, SEATRACE_ENDPOINT=http.endpoint) == ("", "True\n")
    assert total(http.metrics("gen_ai.invoke_agent.tool_calls")[-1:]) == 2
    with http_receiver() as receiver:
        receiver.release.clear()
        bounded = check.replace("flush()", "flush(0.3)") + "; import seatrace.ending; seatrace.ending.PATIENCE = 0.1"
        assert run(program() + bounded, SEATRACE_ENDPOINT=receiver.endpoint)[1] == "False\n"
    assert run(program() + check, SEATRACE_ENDPOINT=nobody)[1].splitlines()[-1] == "False"


def test_an_exporter_that_cannot_be_made_is_told_once(http: Receiver) -> None:
    out, err = run(
        program() + "seatrace.flush(); serve(); seatrace.flush()",
        SEATRACE_ENDPOINT=http.endpoint,
        OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE="/no/such/file",
        OTEL_EXPORTER_OTLP_TRACES_COMPRESSION="lz4",
    )
    assert out == ""
    assert err.count("\n") <= 1
    assert http.metrics("gen_ai.execute_tool.duration")
