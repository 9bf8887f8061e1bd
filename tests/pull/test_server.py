"""The HTTP server: what it answers, to whom, and where it listens."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest

import seatrace
from seatrace.core import guard
from seatrace.pull import server as server_module

from .scrape import OPENMETRICS, PROMETHEUS, PROMETHEUS_ASKS, Reply, ask, read, samples

TOKEN = "s3cret"


pytestmark = pytest.mark.usefixtures("measured")


# --- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, PROMETHEUS),
        ("*/*", PROMETHEUS),
        ("text/html", PROMETHEUS),
        ("text/plain", PROMETHEUS),
        ("text/plain;version=0.0.4", PROMETHEUS),
        (PROMETHEUS_ASKS, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", OPENMETRICS),
        # Prometheus 3
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;"
            "version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,"
            "*/*;q=0.1",
            OPENMETRICS,
        ),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.5", PROMETHEUS),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.9", PROMETHEUS),
        ("application/openmetrics-text;q=0", PROMETHEUS),
        ("application/openmetrics-text;q=nonsense", PROMETHEUS),
        (";;,,=", PROMETHEUS),
    ],
)
def test_the_client_chooses_the_format(server: Any, accept: str | None, expected: str) -> None:
    reply = ask(server) if accept is None else ask(server, accept=accept)
    assert (reply.status, reply.headers["content-type"]) == (200, expected)
    assert reply.headers["vary"] == "Accept, Accept-Encoding"
    assert samples(read(reply.text, strict=expected == OPENMETRICS))


@pytest.mark.parametrize(
    ("accepted", "zipped"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("identity", False),
        ("gzip;q=0, *", False),
        ("", False),
    ],
)
def test_gzip_is_used_where_it_is_accepted(server: Any, accepted: str, zipped: bool) -> None:
    reply = ask(server, accept_encoding=accepted)
    assert (reply.headers.get("content-encoding") == "gzip") is zipped
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert "seatrace_cost_USD_total" in reply.text


@pytest.mark.parametrize("path", ["/metrics", "/metrics.json", "/healthz", "/metrics?name[]=x"])
def test_head_says_what_get_would(server: Any, path: str) -> None:
    get, head = ask(server, path), ask(server, path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert "content-length" in head.headers


def test_what_there_is_not(server: Any) -> None:
    for path in ("/", "/metric", "/metrics/", "/%6detrics", "/../metrics"):
        assert ask(server, path).status == 404, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        reply = ask(server, method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert ask(server, "/nothing", "POST").status == 404


def test_nothing_is_kept_by_caches_and_little_is_said_of_us(server: Any) -> None:
    reply = ask(server)
    assert reply.headers["cache-control"] == "no-store"
    assert "python" not in reply.headers["server"].lower()


def test_health(server: Any) -> None:
    assert ask(server, "/healthz").body == b"ok\n"


def test_json(server: Any) -> None:
    reply = ask(server, "/metrics.json")
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body)["model"]["requests"] == 1


def test_a_fault_of_ours_is_an_answer(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seatrace.pull.text.write", lambda *args, **kwargs: 1 / 0)
    monkeypatch.setattr(guard, "strict", False)
    before = guard.faults["serve metrics"]
    assert ask(server).status == 500
    assert guard.faults["serve metrics"] == before + 1
    assert ask(server, "/healthz").status == 200


# --- who may ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xe9",
        f"Bearer {TOKEN} {TOKEN}",
    ],
)
def test_without_the_token_nothing_is_told(given: str | None) -> None:
    with seatrace.serve_metrics(0, token=TOKEN) as server:
        for path in ("/metrics", "/metrics.json", "/nothing"):
            reply = ask(server, path) if given is None else ask(server, path, authorization=given)
            assert reply.status == 401
            assert reply.headers["www-authenticate"].startswith("Bearer")
            assert "seatrace_" not in reply.text
        assert ask(server, "/healthz").status == 200


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"  Bearer   {TOKEN} "])
def test_with_the_token_everything_is(given: str) -> None:
    with seatrace.serve_metrics(0, token=TOKEN) as server:
        assert ask(server, authorization=given).status == 200
        assert ask(server, method="POST", authorization=given).status == 405


def test_a_token_of_any_letters_works() -> None:
    with seatrace.serve_metrics(0, token="schlüssel") as server:
        assert ask(server, authorization="Bearer schlüssel".encode().decode("latin-1")).status == 200


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", 7])
def test_a_token_that_is_none_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(seatrace.ConfigError, match="token: expected a text") as caught:
        seatrace.serve_metrics(0, token=token)
    assert repr(token) not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_others_can_reach_it_only_with_a_token(host: str) -> None:
    with pytest.raises(seatrace.ConfigError, match="expected a token for an address that other machines can reach"):
        seatrace.serve_metrics(0, host=host)
    with seatrace.serve_metrics(0, host=host, token=TOKEN) as server:
        local = type("Local", (), {"url": f"http://127.0.0.1:{server.port}"})
        assert ask(local, authorization=f"Bearer {TOKEN}", host="shop.example").status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9464", "localhost:1", "LOCALHOST", "[::1]:9464", "[::1]"])
def test_requests_to_this_machine_are_answered(server: Any, host: str) -> None:
    assert ask(server, host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "localhost.evil.example", "10.0.0.1", "[fe80::1]"]
)
def test_a_page_that_lets_its_name_point_here_gets_nothing(server: Any, host: str) -> None:
    reply = ask(server, host=host)
    assert reply.status == 421
    assert "seatrace_" not in reply.text


# --- where it listens -------------------------------------------------------------------------------------------------


def test_it_says_where_it_listens() -> None:
    with seatrace.serve_metrics(0) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert ask(server).status == 200


def test_ipv6() -> None:
    try:
        server = seatrace.serve_metrics(0, host="::1")
    except seatrace.ConfigError as error:
        pytest.skip(f"IPv6 is not to be had: {error}")
    with server:
        assert server.url == f"http://[::1]:{server.port}"
        assert ask(server).status == 200


def test_a_port_that_is_taken_is_said_plainly(server: Any) -> None:
    with pytest.raises(
        seatrace.ConfigError, match=f"{server.port} on 127.0.0.1 taken, by another program or by another"
    ):
        seatrace.serve_metrics(server.port)


def test_the_next_free_one_of_several_is_taken() -> None:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        taken, free = one.getsockname()[1], other.getsockname()[1]
        other.close()
        with seatrace.serve_metrics([taken, free]) as server:
            assert server.port == free
            with pytest.raises(seatrace.ConfigError, match="all of"):
                seatrace.serve_metrics([taken, free])


@pytest.mark.parametrize("port", [-1, 65536, [], ["9464"], "9464"])
def test_a_port_that_is_none_is_refused(port: Any) -> None:
    with pytest.raises(seatrace.ConfigError, match="expected a port from 0 to 65535"):
        seatrace.serve_metrics(port)


@pytest.mark.parametrize("host", ["not.a.host.invalid", "192.0.2.1", "x" * 300])
def test_a_host_that_is_not_this_one_is_refused(host: str) -> None:
    with pytest.raises(seatrace.ConfigError, match="serve_metrics"):
        seatrace.serve_metrics(0, host=host, token=TOKEN)


def test_closing_frees_the_port_and_may_be_said_twice() -> None:
    server = seatrace.serve_metrics(0)
    server.close()
    server.close()
    with seatrace.serve_metrics(server.port) as again:
        assert ask(again).status == 200


# --- clients of every kind --------------------------------------------------------------------------------------------


def _send(server: Any, raw: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(raw)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", b" 200 "),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n", b" 421 "),
    ],
    ids=["bare", "nonsense", "version", "long", "many", "two hosts"],
)
def test_requests_that_are_malformed_get_their_status(server: Any, raw: bytes, status: bytes) -> None:
    assert status in _send(server, raw)


def test_clients_that_say_nothing_do_not_keep_the_others_out_for_long(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_PATIENCE", 0.2)
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(8)]
    for each in silent:
        assert each.recv(1) == b""  # hung up on
        each.close()
    assert ask(server, "/healthz").status == 200


def test_more_requests_than_there_is_room_for_are_turned_away(server: Any) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(8)]
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as one_more:
            assert one_more.recv(1) == b""
    finally:
        for each in silent:
            each.close()


def test_many_may_ask_at_once(server: Any) -> None:
    replies: list[Reply] = []

    def go() -> None:
        for _ in range(10):
            replies.append(ask(server, accept=PROMETHEUS_ASKS))

    threads = [threading.Thread(target=go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [200] * 60
    assert len({reply.body for reply in replies}) == 1
