"""``secure.yaml``: the receiver takes TLS only, and only who brings a token; seatrace's own settings get through."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from setup.receiver import Receiver, environment

from . import foreign
from .collector import Collector, collecting
from .programs import wait_for
from .secrets_for_tests import certificate, tokens

PROGRAM = """
import seatrace
seatrace.instrument()

@seatrace.agent("clerk")
def serve() -> None:
    pass

serve()
assert seatrace.flush()
seatrace.shutdown()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secure")


@pytest.fixture(scope="module")
def guarded(otelcol: str, shared_store: Receiver, directory: Path) -> Iterator[Collector]:
    settings = {
        **certificate(directory),
        **tokens(directory, "first-token", "second-token"),
        "SEATRACE_TRACES_ENDPOINT": shared_store.endpoint.removeprefix("http://"),
    }
    with collecting(otelcol, directory, "scrape", "unsampled", "secure", settings=settings) as collector:
        yield collector


def send(collector: Collector, directory: Path, *, token: str | None = None) -> int:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = collector.http.replace("http:", "https:")
    return foreign.post(url, foreign.spans([foreign.span("call")]), headers=headers, authority=directory / "tls.crt")


@pytest.mark.parametrize("token", [None, "wrong", "first-token,second-token"])
def test_without_a_known_token_it_answers_401(guarded: Collector, directory: Path, token: str | None) -> None:
    assert send(guarded, directory, token=token) == 401


def test_each_token_opens(guarded: Collector, directory: Path) -> None:
    assert [send(guarded, directory, token=token) for token in ("first-token", "second-token")] == [200, 200]


def test_plain_text_is_refused(guarded: Collector) -> None:
    # It answers where it expects a handshake, and hangs up: had it not read all by then, the connection would be reset,
    # perhaps before we have read the answer. Without a body the request is one segment, which is read at once.
    connection = HTTPConnection(guarded.http.removeprefix("http://"), timeout=30)
    with closing(connection):
        connection.request("POST", "/v1/traces", headers={"authorization": "Bearer first-token"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (400, b"Client sent an HTTP request to an HTTPS server.\n")


def test_who_does_not_know_the_certificate_does_not_talk(guarded: Collector) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        foreign.post(guarded.http.replace("http:", "https:"), foreign.spans([foreign.span("call")]))


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_seatrace_gets_through_with_the_settings_of_the_docs(
    guarded: Collector, shared_store: Receiver, directory: Path, protocol: str
) -> None:
    address = guarded.grpc if protocol == "grpc" else guarded.http.removeprefix("http://")
    settings = {
        "SEATRACE_ENDPOINT": f"https://{address}",
        "SEATRACE_HEADERS": "authorization=Bearer second-token",
        "SEATRACE_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(directory / "tls.crt"),
    }
    # Where it is set, requests believes REQUESTS_CA_BUNDLE more than the exporter's own setting.
    env = {key: value for key, value in environment(**settings).items() if not key.endswith("_CA_BUNDLE")}
    env["OTEL_SERVICE_NAME"] = protocol
    subprocess.run([sys.executable, "-c", PROGRAM], env=env, check=True, timeout=120)
    shared_store.wait_for(lambda: any(each.resource["service.name"] == protocol for each in shared_store.spans))


def test_a_token_can_be_replaced_while_it_runs(guarded: Collector, directory: Path) -> None:
    tokens(directory, "third-token")
    wait_for(lambda: send(guarded, directory, token="first-token") == 401, "the old token is refused")
    assert send(guarded, directory, token="third-token") == 200
