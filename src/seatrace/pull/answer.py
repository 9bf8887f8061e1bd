"""One request, one answer, whatever server it comes through: routes, token, formats."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from seatrace.core import guard
from seatrace.errors import ConfigError, SeatraceError

from . import text
from .source import Source
from .summary import summary

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN = "text/plain; charset=utf-8"

_NOTHING = (
    "Nothing is measured here yet: seatrace.instrument() was not called in this process, and no MeterProvider is set.\n"
)

Header = Callable[[str], "str | None"]
"""The value of a request's header by its lower-case name; several of one name are joined with commas."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Routes:
    """``/metrics``, ``/metrics.json`` and ``/healthz``."""

    def __init__(self, source: Source, token: str | None) -> None:
        if token is not None and (not isinstance(token, str) or not token or token != "".join(token.split())):
            raise ConfigError("token: expected a text without spaces that is not empty (not shown: a secret)")
        self._source = source
        self._token = None if token is None else token.encode()

    def answer(self, method: str, path: str, header: Header) -> Answer:
        """Never raises. ``/healthz`` needs no token, since it says nothing."""
        found = _ROUTES.get(path)
        if self._token is not None and path != "/healthz" and not self._may(header("authorization")):
            return plain(401, "A bearer token is wanted.\n", ("WWW-Authenticate", 'Bearer realm="seatrace"'))
        if found is None:
            return plain(404, f"There are only {', '.join(_ROUTES)}.\n")
        if method not in ("GET", "HEAD"):
            return plain(405, "Only GET and HEAD are answered.\n", ("Allow", "GET, HEAD"))
        try:
            answer = found(self._source, header)
        except SeatraceError as error:
            answer = plain(503, f"{error}\n")
        except Exception as error:
            _note(error)
            answer = plain(500, f"The metrics could not be read: {type(error).__name__}.\n")
        return answer if method == "GET" else Answer(answer.status, answer.headers, b"")

    def _may(self, authorization: str | None) -> bool:
        scheme, _, given = (authorization or "").strip().partition(" ")
        allowed = compare_digest(given.strip().encode("latin-1", "replace"), self._token or b"")
        return allowed and scheme.lower() == "bearer"


def plain(status: int, said: str, *headers: tuple[str, str]) -> Answer:
    """An answer for a person."""
    return _answer(status, _PLAIN, said.encode(), *headers)


def _answer(status: int, kind: str, body: bytes, *headers: tuple[str, str]) -> Answer:
    length = ("Content-Length", str(len(body)))
    return Answer(status, [("Content-Type", kind), length, ("Cache-Control", "no-store"), *headers], body)


def _note(error: Exception) -> None:
    try:
        guard.fault("serve metrics", error)
    except Exception:  # in our tests it raises; a request is answered all the same
        guard.logger.warning("seatrace could not serve metrics", exc_info=error)


def _metrics(source: Source, header: Header) -> Answer:
    found = source.read()
    if found is None:
        return plain(503, _NOTHING)
    openmetrics = wants_openmetrics(header("accept"))
    body = text.write(found[1], openmetrics=openmetrics).encode()
    headers = [("Vary", "Accept, Accept-Encoding")]
    if _quality("gzip", header("accept-encoding")) > 0:
        body = gzip.compress(body, 5, mtime=0)
        headers.append(("Content-Encoding", "gzip"))
    return _answer(200, OPENMETRICS if openmetrics else PROMETHEUS, body, *headers)


def _summary(source: Source, header: Header) -> Answer:
    found = source.read()
    if found is None:
        return plain(503, _NOTHING)
    return _answer(200, "application/json", json.dumps(summary(found[0]), indent=2, allow_nan=False).encode() + b"\n")


def _health(source: Source, header: Header) -> Answer:
    return plain(200, "ok\n")


_ROUTES: dict[str, Callable[[Source, Header], Answer]] = {
    "/metrics": _metrics,
    "/metrics.json": _summary,
    "/healthz": _health,
}


# --- what the client accepts ----------------------------------------------------------------------------------------


def wants_openmetrics(accept: str | None) -> bool:
    """Whether OpenMetrics 1.0 is wanted, and no less than plain text. Who asks for neither gets plain text."""
    openmetrics, other = 0.0, 0.0
    for kind, parameters, quality in _ranges(accept):
        if kind == "application/openmetrics-text":
            if parameters.get("version", "1.0.0") == "1.0.0":
                openmetrics = max(openmetrics, quality)
        elif kind in ("text/plain", "text/*") and parameters.get("version", "0.0.4") == "0.0.4":
            other = max(other, quality)
    return openmetrics > 0 and openmetrics >= other


def _quality(coding: str, accept: str | None) -> float:
    found: dict[str, float] = {kind: quality for kind, _, quality in _ranges(accept)}
    return found.get(coding, found.get("*", 0.0))


def _ranges(accept: str | None) -> Iterator[tuple[str, dict[str, str], float]]:
    for each in (accept or "").split(","):
        kind, *rest = (part.strip() for part in each.split(";"))
        parameters: dict[str, Any] = {}
        for pair in rest:
            name, _, value = pair.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(parameters.pop("q", 1))
        except ValueError:
            quality = 0.0
        yield kind.lower(), parameters, quality
