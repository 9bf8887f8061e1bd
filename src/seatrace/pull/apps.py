"""The endpoint inside a web application of the program's own: ASGI and WSGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from .answer import Answer, Routes
from .source import wanted

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def metrics_asgi_app(token: str | None = None) -> AsgiApp:
    """The same as :func:`serve_metrics` as an ASGI app, to be mounted: ``app.mount("/metrics", …)``.

    What it is mounted at shows ``/metrics`` itself, and has ``metrics``, ``metrics.json`` and ``healthz`` below it. Who
    may reach it is the application's business, unless a ``token`` is given. With several worker processes each request
    sees one of them: use :func:`serve_metrics` there.

    Raises:
        ConfigError: The token is empty, or the program's MeterProvider cannot be read.
    """
    routes = Routes(wanted(), token)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers else text
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root) if root else scope["path"]
        answer = await _beside(routes, scope["method"], _route(path, mounted=bool(root)), headers)
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        await send({"type": "http.response.body", "body": answer.body})

    return app


def metrics_wsgi_app(token: str | None = None) -> WsgiApp:
    """The same as :func:`metrics_asgi_app` for WSGI: ``DispatcherMiddleware(app, {"/metrics": …})``."""
    routes = Routes(wanted(), token)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = _route(environ.get("PATH_INFO", ""), mounted=bool(environ.get("SCRIPT_NAME")))
        answer = routes.answer(
            environ["REQUEST_METHOD"], path, lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}")
        )
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", answer.headers)
        return [answer.body]

    return app


def _route(path: str, *, mounted: bool) -> str:
    return "/metrics" if mounted and path in ("", "/") else path


async def _beside(routes: Routes, method: str, path: str, headers: Mapping[str, str]) -> Answer:
    """In a thread, where asyncio runs: collecting and writing thousands of lines is no work for an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio
        return routes.answer(method, path, headers.get)
    return await asyncio.to_thread(routes.answer, method, path, headers.get)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        phase = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{phase}.complete"})
        if phase == "shutdown":
            return
