"""``serve_metrics()``: a small HTTP server in a thread of its own."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from types import TracebackType
from typing import Any

from seatrace import pull
from seatrace.core import guard
from seatrace.errors import ConfigError

from .answer import Answer, Routes, plain
from .source import wanted

_AT_ONCE = 8
"""Requests answered at the same time; further ones are turned away."""

_PATIENCE = 10.0
"""Seconds that a client may take to say what it wants, and to take the answer."""


def serve_metrics(port: int | Iterable[int] = 9464, host: str = "127.0.0.1", token: str | None = None) -> MetricsServer:
    """Serves this process's metrics to Prometheus, without a collector: ``/metrics``, ``/metrics.json``, ``/healthz``.

    May be called before or after :func:`instrument`, and without it for a MeterProvider of the program's own.

    Args:
        port: 0 takes any free one; of several, as ``range(9464, 9472)``, the first free one is taken: one each for the
            worker processes of a server.
        host: The address to listen on. One that other machines can reach needs a ``token``.
        token: What clients must send as ``Authorization: Bearer …``; ``/healthz`` needs none.

    Returns:
        The running server. It ends with :func:`shutdown`, with the process, or with its ``close()``; a forked child
        has none and may call ``serve_metrics()`` itself.

    Raises:
        ConfigError: An argument is wrong, the port is taken, or the program's MeterProvider cannot be read.
    """
    ports = [port] if isinstance(port, int) else list(port)
    if not ports or not all(isinstance(each, int) and 0 <= each < 65536 for each in ports):
        raise ConfigError(f"serve_metrics(port=...): expected a port from 0 to 65535, or several, got {port!r}")
    address = _resolve(host)
    loopback = ip_address(address).is_loopback
    if not loopback and token is None:
        raise ConfigError(
            f"serve_metrics(host={host!r}): expected a token for an address that other machines can reach. "
            f"Pass token=..., or listen on 127.0.0.1."
        )
    routes = Routes(wanted(), token)
    return MetricsServer(_listen(address, ports, host), host, routes, guarded=loopback and token is None)


class MetricsServer:
    """Answers requests until it is closed. A context manager, too."""

    def __init__(self, listener: socket.socket, host: str, routes: Routes, *, guarded: bool) -> None:
        self.port: int = listener.getsockname()[1]
        """The port that it listens on."""
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        """Without a path."""
        self._routes = routes
        self._guarded = guarded
        self._listener = listener
        self._wake, self._woken = socket.socketpair()
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._thread = threading.Thread(target=self._run, name="seatrace-metrics", daemon=True)
        pull.open_servers.add(self)
        if hasattr(os, "register_at_fork"):
            _watch_forks()
        self._thread.start()

    def close(self) -> None:
        """Stops listening; what is being answered is finished. A second call does nothing."""
        if self not in pull.open_servers:
            return
        pull.open_servers.discard(self)
        self._wake.close()
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        with self._listener, self._woken, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._woken for key, _ in selector.select()):
                    return
                try:
                    client, _ = self._listener.accept()
                except OSError:  # gone again, or no file descriptor is left
                    time.sleep(0.1)
                    continue
                if not self._room.acquire(blocking=False):
                    client.close()
                    continue
                threading.Thread(
                    target=self._serve, args=(client,), name="seatrace-metrics-request", daemon=True
                ).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                client.settimeout(_PATIENCE)
                _Handler(client, self._answer)
        except OSError:  # the client is gone
            pass
        except Exception as error:
            guard.logger.debug("seatrace could not answer a request: %s", error)
        finally:
            self._room.release()

    def _answer(self, method: str, path: str, headers: Any) -> Answer:
        if self._guarded and not _names_loopback(headers.get("host")):
            return plain(421, "Without a token, only requests to a loopback address are answered.\n")
        return self._routes.answer(method, path, lambda name: ",".join(headers.get_all(name, [])) or None)

    def _forget(self) -> None:
        """After a fork, in the child: the sockets are the parent's."""
        for each in (self._listener, self._wake, self._woken):
            each.close()


class _Handler(BaseHTTPRequestHandler):
    server_version = "seatrace"
    sys_version = ""

    def __init__(self, client: socket.socket, answer: Any) -> None:
        self._answer = answer
        super().__init__(client, None, None)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # whatever the method is: what becomes of it is said elsewhere
            return self._respond
        raise AttributeError(name)

    def _respond(self) -> None:
        answer = self._answer(self.command, self.path.partition("?")[0], self.headers)
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is nothing to report."""


def _resolve(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"serve_metrics(host={host!r}): expected an address of this machine: {error}") from error


def _listen(address: str, ports: list[int], host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen()
            listener.setblocking(False)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(f"serve_metrics(port={port}, host={host!r}): cannot listen there: {error}") from error
    said = str(ports[0]) if len(ports) == 1 else f"all of {ports[0]}–{ports[-1]}"
    raise ConfigError(
        f"serve_metrics(port=...): {said} on {host} taken, by another program or by another process of this one. "
        f"Pass another port, 0 for any free one, or a range for several processes: port=range(9464, 9472)."
    )


def _names_loopback(host: str | None) -> bool:
    """Whether a ``Host`` header names this machine. A page in somebody's browser can let a name of its own point to
    127.0.0.1, but not send another name than that."""
    if not host:
        return True
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    try:
        return name.lower() == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


_watching = False


def _watch_forks() -> None:
    global _watching
    if not _watching:
        _watching = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for each in list(pull.open_servers):
        pull.open_servers.discard(each)
        each._forget()
