"""The endpoint inside web applications."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import seatrace

from .scrape import OPENMETRICS, PROMETHEUS_ASKS, Reply, read, samples

pytestmark = pytest.mark.usefixtures("measured")


async def _asgi(app: Any, path: str, method: str = "GET", root: str = "", **headers: str) -> Reply:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
        "server": ("testserver", 80),
        "client": ("testclient", 1),
    }
    await app(scope, receive, send)
    start, body = sent
    return Reply(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body["body"])


def _wsgi(app: Any, path: str, method: str = "GET", script: str = "", **headers: str) -> Reply:
    environ: dict[str, Any] = {"PATH_INFO": path, "SCRIPT_NAME": script, "REQUEST_METHOD": method, "QUERY_STRING": ""}
    environ.update({f"HTTP_{name.upper()}": value for name, value in headers.items()})
    setup_testing_defaults(environ)
    started: list[Any] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        started.extend((status, headers))
        return lambda data: None

    result = validator(app)(environ, start_response)
    body = b"".join(result)
    result.close()  # type: ignore[attr-defined]
    return Reply(int(started[0].split()[0]), {k.lower(): v for k, v in started[1]}, body)


async def test_asgi() -> None:
    app = seatrace.metrics_asgi_app()
    reply = await _asgi(app, "/metrics", accept=PROMETHEUS_ASKS, accept_encoding="gzip")
    assert (reply.status, reply.headers["content-type"]) == (200, OPENMETRICS)
    assert any(name == "seatrace_cost_USD_total" for name, _ in samples(read(reply.text, strict=True)))
    assert json.loads((await _asgi(app, "/metrics.json")).body)["model"]["requests"] == 1
    assert (await _asgi(app, "/healthz")).body == b"ok\n"
    assert (await _asgi(app, "/")).status == 404
    assert (await _asgi(app, "/metrics", "POST")).status == 405
    assert (await _asgi(app, "/metrics", "HEAD")).body == b""


def test_wsgi() -> None:
    app = seatrace.metrics_wsgi_app()
    reply = _wsgi(app, "/metrics", accept=PROMETHEUS_ASKS, accept_encoding="gzip")
    assert (reply.status, reply.headers["content-type"]) == (200, OPENMETRICS)
    assert any(name == "seatrace_cost_USD_total" for name, _ in samples(read(reply.text, strict=True)))
    assert json.loads(_wsgi(app, "/metrics.json").body)["model"]["requests"] == 1
    assert _wsgi(app, "/").status == 404
    assert _wsgi(app, "/metrics", "POST").headers["allow"] == "GET, HEAD"
    assert _wsgi(app, "/metrics", "HEAD").body == b""


async def test_a_token_is_wanted_where_one_is_set() -> None:
    for app, ask in (
        (seatrace.metrics_asgi_app(token="t0ken"), _asgi),
        (seatrace.metrics_wsgi_app(token="t0ken"), _wsgi),
    ):
        for given, status in ((None, 401), ("Bearer wrong", 401), ("Bearer t0ken", 200)):
            reply = ask(app, "/metrics", **({} if given is None else {"authorization": given}))
            reply = await reply if asyncio.iscoroutine(reply) else reply
            assert reply.status == status
    with pytest.raises(seatrace.ConfigError, match="token"):
        seatrace.metrics_asgi_app(token="")


@pytest.mark.parametrize(("path", "status"), [("", 200), ("/", 200), ("/metrics", 200), ("/healthz", 200), ("/x", 404)])
async def test_mounted_it_answers_at_its_root_and_below(path: str, status: int) -> None:
    app = Starlette(routes=[Mount("/internal", app=seatrace.metrics_asgi_app())])
    reply = await _asgi(app, f"/internal{path or '/'}")
    assert reply.status == status
    assert _wsgi(seatrace.metrics_wsgi_app(), path, script="/internal").status == status
    assert (await _asgi(seatrace.metrics_asgi_app(), f"/internal{path}", root="/internal")).status == status


async def test_the_event_loop_goes_on_while_the_answer_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    loop_runs = threading.Event()

    def write(*args: Any, **kwargs: Any) -> str:
        assert loop_runs.wait(30)
        return "done"

    monkeypatch.setattr("seatrace.pull.text.write", write)
    asyncio.get_running_loop().call_soon(loop_runs.set)
    assert (await _asgi(seatrace.metrics_asgi_app(), "/metrics")).body == b"done"


def test_it_works_without_asyncio() -> None:
    steps = _asgi(seatrace.metrics_asgi_app(), "/healthz")
    with pytest.raises(StopIteration) as done:
        steps.send(None)
    assert done.value.value.body == b"ok\n"


async def test_alone_under_a_server_it_lives_and_ends_with_it() -> None:
    said = iter(["lifespan.startup", "lifespan.shutdown"])
    answered: list[str] = []

    async def receive() -> Any:
        return {"type": next(said)}

    async def send(message: Any) -> None:
        answered.append(message["type"])

    await seatrace.metrics_asgi_app()({"type": "lifespan"}, receive, send)
    assert answered == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_turned_away() -> None:
    answered: list[Any] = []

    async def send(message: Any) -> None:
        answered.append(message["type"])

    await seatrace.metrics_asgi_app()({"type": "websocket"}, None, send)  # type: ignore[arg-type]
    assert answered == ["websocket.close"]
