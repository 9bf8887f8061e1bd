"""Clients whose server is in the same process."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from importlib import import_module
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from frameworks import crew
from frameworks.mcp.harbour import MODERN, build


def connect(library: str, server: Any = None, **options: Any) -> AbstractAsyncContextManager[Any]:
    """A client of ``library`` on ``server``, the harbour by default."""
    server = server or build(library)
    client: Any
    if library == "fastmcp":
        client = import_module("fastmcp").Client(server, **options)
    elif MODERN:
        client = import_module("mcp").Client(server, **options)
    else:
        memory = import_module("mcp.shared.memory")
        client = memory.create_connected_server_and_client_session(server._mcp_server, **options)
    return client  # type: ignore[no-any-return]


async def outcome(asked: Any) -> Any:
    """The result as text, or its error as one."""
    try:
        return repr(await asked)
    except Exception as error:
        return type(error), repr(error)


def tree(spans: Iterable[ReadableSpan]) -> str:
    """The spans without what differs between versions: the handshake and its protocol version, the ids of requests; and
    without the type of tools."""
    told = crew.tree(each for each in spans if each.name not in ("initialize", "server/discover"))
    return re.sub(r" (jsonrpc\.request\.id|mcp\.protocol\.version|tool\.type)='[^']*'", "", told)


@contextmanager
def serving(library: str) -> Iterator[str]:
    """The harbour on a port, in a thread."""
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = build(library)
    application = server.http_app(path="/mcp") if library == "fastmcp" else server.streamable_http_app()
    running = uvicorn.Server(uvicorn.Config(application, port=port, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield str(port)
    finally:
        running.should_exit = True
        thread.join()
