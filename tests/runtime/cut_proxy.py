"""A TCP proxy that can lose answers: what was asked is done, and nobody hears of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CutProxy:
    """Between a client and the server on ``port``."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._cuts = 0
        self._word = b""
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, word: bytes, times: int = 1) -> None:
        """The next ``times`` requests with ``word`` in them reach the server; their connections end unanswered."""
        with self._lock:
            self._word, self._cuts = word, times

    @property
    def left(self) -> int:
        """Cuts that did not happen yet."""
        return self._cuts

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            doomed = threading.Event()
            threading.Thread(target=self._forward, args=(client, server, doomed, True), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, doomed, False), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, doomed: threading.Event, asks: bool) -> None:
        try:
            while data := source.recv(65536):
                if asks and self._take_cut(data):
                    doomed.set()
                if not asks and doomed.is_set():
                    break
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def _take_cut(self, data: bytes) -> bool:
        with self._lock:
            if not self._cuts or self._word not in data:
                return False
            self._cuts -= 1
            return True


@contextmanager
def cut_proxy(port: int) -> Iterator[CutProxy]:
    proxy = CutProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
