"""A provider on a string: client libraries' real HTTP machinery over a transport that plays a script.

openai 3.x and anthropic 2.x speak through ``httpx2``, older ones through ``httpx``; :func:`http_of` tells which one the
installed library uses, and everything here is made for that one.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

HANG = object()
"""In a body or in place of an answer: the provider says nothing more (async only), until the caller gives up."""


def http_of(library: str) -> ModuleType:
    """The HTTP library that the installed ``library`` is built on."""
    base = importlib.import_module(f"{library}._base_client")
    return getattr(base, "httpx2", None) or base.httpx


@dataclass
class Answer:
    """One HTTP response. Items of ``body``: bytes to give, an exception to raise, a function to call, ``HANG``."""

    body: Iterable[Any] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def as_json(document: Any, status: int = 200, **headers: str) -> Answer:
    """A plain JSON response."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Answer([body], status, {"content-type": "application/json", **headers})


def as_events(events: Iterable[Any]) -> Answer:
    """A ``text/event-stream`` of ``events``, each its own packet."""
    return Answer(list(events), headers={"content-type": "text/event-stream"})


def data(document: Any) -> bytes:
    """A server-sent event as OpenAI writes it."""
    return b"data: " + (document if isinstance(document, bytes) else json.dumps(document).encode()) + b"\n\n"


def event(document: Any) -> bytes:
    """A server-sent event with a name, as Anthropic and the Responses API write it."""
    return f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()


@dataclass
class Sent:
    """A request as it went over the wire."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON in it."""
        return json.loads(self.body)


class Provider:
    """Answers requests with ``answers`` in turn, the last one again and again, and remembers what was ``sent``.

    An answer may be an :class:`Answer`, an exception to raise, ``HANG``, or a function of :class:`Sent` that gives one.
    """

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[Sent] = []
        self.closed = 0
        """Response bodies closed so far."""
        self.pulled = 0
        """Packets handed out so far."""

    def next(self, request: Any, body: bytes) -> Any:
        sent = Sent(request.method, str(request.url), dict(request.headers), body)
        self.sent.append(sent)
        answer = self.answers[min(len(self.sent), len(self.answers)) - 1]
        if not isinstance(answer, Answer) and callable(answer):
            answer = answer(sent)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def client(self, library: str, name: str, **options: Any) -> Any:
        """The library's client class ``name`` on this provider; async where the name says so."""
        http = http_of(library)
        kind = http.AsyncClient if name.startswith("Async") else http.Client
        module = importlib.import_module(library)
        return getattr(module, name)(http_client=kind(transport=self.transport(http)), **options)

    def transport(self, http: ModuleType) -> Any:
        """This provider as a transport of ``http``, for sync and async clients."""
        return _transport_class(http)(self)


@functools.cache
def _transport_class(http: ModuleType) -> Any:
    class Body(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[name-defined,misc]
        def __init__(self, provider: Provider, items: Iterable[Any]) -> None:
            self.provider = provider
            self.items = items

        def __iter__(self) -> Any:
            for item in self.items:
                piece = _play(self.provider, item)
                if piece is not None:
                    yield piece

        async def __aiter__(self) -> Any:
            for item in self.items:
                if item is HANG:
                    await asyncio.Event().wait()
                piece = _play(self.provider, item)
                if piece is not None:
                    yield piece

        def close(self) -> None:
            self.provider.closed += 1

        async def aclose(self) -> None:
            self.provider.closed += 1

    class Transport(http.BaseTransport, http.AsyncBaseTransport):  # type: ignore[name-defined,misc]
        def __init__(self, provider: Provider) -> None:
            self.provider = provider

        def handle_request(self, request: Any) -> Any:
            return self.respond(request, self.provider.next(request, request.read()))

        async def handle_async_request(self, request: Any) -> Any:
            answer = self.provider.next(request, await request.aread())
            if answer is HANG:
                await asyncio.Event().wait()
            return self.respond(request, answer)

        def respond(self, request: Any, answer: Answer) -> Any:
            body = Body(self.provider, answer.body)
            return http.Response(answer.status, headers=answer.headers, stream=body, request=request)

    return Transport


def _play(provider: Provider, item: Any) -> bytes | None:
    if isinstance(item, BaseException):
        raise item
    if isinstance(item, bytes):
        provider.pulled += 1
        return item
    act: Callable[[], None] = item
    act()
    return None
