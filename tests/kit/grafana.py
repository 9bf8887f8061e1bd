"""A server on loopback that answers as Grafana's HTTP API does, as far as boards are pushed: documented under
https://grafana.com/docs/grafana/latest/developer-resources/api-reference/http-api/ (dashboard and folder)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]


@dataclass
class FakeGrafana:
    """What it knows, and what it was asked."""

    url: str = ""
    tokens: dict[str, str] = field(default_factory=lambda: {"editor": "Editor", "viewer": "Viewer"})
    root: str = ""
    """The sub-path that it is served under."""
    folders: dict[str, str] = field(default_factory=dict)
    """Titles by uid."""
    boards: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By uid: the document, with Grafana's id and version, and the folder's uid."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    saved: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of the boards that were posted."""
    instead: Answer | bytes | None = None
    """What it answers to posted boards instead: a status and JSON, or bytes."""

    def answer(self, method: str, path: str, token: str | None, body: Any) -> Answer:
        """Grafana's, by path and right."""
        path = path.partition("?")[0]
        role = self.tokens.get(token or "")
        if role is None:
            return 401, {"message": "Unauthorized" if token is None else "Invalid API key"}
        if method == "POST" and role != "Editor":
            return 403, {"message": "You'll need additional permissions to perform this action."}
        if (method, path) == ("GET", "/api/folders"):
            return 200, [{"uid": uid, "title": title} for uid, title in self.folders.items()]
        if (method, path) == ("POST", "/api/folders"):
            uid = f"folder{len(self.folders)}"
            self.folders[uid] = body["title"]
            return 200, {"uid": uid, "title": body["title"]}
        if method == "GET" and path.startswith("/api/dashboards/uid/"):
            found = self.boards.get(path.rsplit("/", 1)[1])
            if found is None:
                return 404, {"message": "Dashboard not found"}
            return 200, {"dashboard": found["dashboard"], "meta": {"folderUid": found["folder"]}}
        if (method, path) == ("POST", "/api/dashboards/db"):
            return self._save(body)
        return 404, {"message": "Not found"}

    def _save(self, body: Any) -> Answer:
        self.saved.append(body)
        board, uid = body["dashboard"], body["dashboard"]["uid"]
        there = self.boards.get(uid)
        version = 0 if there is None else there["dashboard"]["version"]
        if there is not None and not body.get("overwrite") and board.get("version") != version:
            return 412, {
                "status": "version-mismatch",
                "message": "The dashboard has been changed by someone else",
            }
        if body.get("folderUid") and body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        # Grafana keeps what it got, with an id and a version of its own.
        self.boards[uid] = {
            "dashboard": {**board, "id": len(self.boards) + 1, "version": version + 1},
            "folder": body.get("folderUid"),
        }
        return 200, {"status": "success", "uid": uid, "version": version + 1, "url": f"/d/{uid}/x"}


@contextmanager
def grafana(**known: Any) -> Iterator[FakeGrafana]:
    """Serves one until the block ends."""
    fake = FakeGrafana(**known)

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            fake.asked.append((self.command, self.path))
            saving = self.path.endswith("/api/dashboards/db")
            if isinstance(fake.instead, bytes):
                self.send(200, fake.instead, "text/html")
                return
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            if not self.path.startswith(fake.root + "/api/"):
                self.send(404, b"<html>not found</html>", "text/html")
                return
            if fake.instead is not None and saving:
                status, said = fake.instead
            else:
                path = self.path.removeprefix(fake.root)
                status, said = fake.answer(self.command, path, token if scheme == "Bearer" else None, body)
            self.send(status, json.dumps(said).encode(), "application/json")

        do_GET = do_POST = respond

        def send(self, status: int, text: bytes, kind: str) -> None:
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", "https://grafana.example.com/")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}{fake.root}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
