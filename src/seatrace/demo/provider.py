"""The fake provider: OpenAI and Anthropic on loopback, spoken to by the real client libraries.

::

    with FakeProvider(schedule={2: Fault(429, retry_after=0.1)}) as provider:
        client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none")

Answers, token counts, latencies and faults depend on ``seed`` and on what is asked. ``served`` tells what went over
the wire, independently of any observer.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from types import TracebackType

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from seatrace.errors import SeatraceError

from .fake_model import Ask, Reply, answer, seeded
from .prompt_cache import PromptCache
from .wire import RequestError, Turn, Wire, chat, embeddings, messages, openai, responses

_WIRES: Mapping[str, Wire] = {
    "/v1/chat/completions": chat,
    "/v1/responses": responses,
    "/v1/embeddings": embeddings,
    "/v1/messages": messages,
}
_PACE = {"text-embedding": 0.25, "gpt-5.4": 1.6, "gpt-": 0.9, "claude-haiku": 0.6, "claude-": 1.2}
"""How long a model takes to its first token, relative to ``latency``; the first fitting prefix counts."""


class PortTakenError(SeatraceError):
    """The port that was asked for belongs to another program."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request.

    ``status`` is the HTTP status of the failure; ``None`` cuts the connection. With ``after_chunks`` the answer
    begins as a stream with status 200 and fails after so many events.
    """

    status: int | None
    retry_after: float | None = None
    """Seconds, sent as ``retry-after`` and ``retry-after-ms``."""
    after_chunks: int | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as the schedule sees it. Numbers start at 1; a client's retries are requests of their own."""

    number: int
    model: str
    of_model: int
    """The number among the requests for this model."""
    path: str


@dataclass(frozen=True, slots=True)
class Served:
    """One request as it was answered. Tokens are those of the answer's usage, ``input_tokens`` with cached ones."""

    number: int
    path: str
    model: str
    status: int
    """HTTP status; 0 where the connection was cut before one was sent."""
    stream: bool = False
    response_model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning_tokens: int | None = None
    completed: bool = False
    """Whether the answer was sent to its end."""


Schedule = Callable[[Arrival], "Fault | None"]


class FakeProvider:
    """A provider on ``http://127.0.0.1:<port>``, running in a thread between ``start`` and ``close``.

    Args:
        port: The port to listen on; 0 takes a free one.
        seed: Decides answers, token counts and latencies.
        latency: Typical seconds until a model's first token; 0 answers at once.
        schedule: The faults, by number of the request or decided by a function.
        model: What the model says to each question, in place of :func:`seatrace.demo.fake_model.answer`.

    Raises:
        PortTakenError: from ``start``, if another program listens on ``port``.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        seed: int = 0,
        latency: float = 0.0,
        schedule: Mapping[int, Fault] | Schedule | None = None,
        model: Callable[[Ask], Reply] | None = None,
    ) -> None:
        self.served: list[Served] = []
        self._port = port
        self._second_port = 0
        self._seed = seed
        self._latency = latency
        self._schedule = _as_function(schedule)
        self._model = model or partial(answer, seed=seed)
        self._cache = PromptCache()
        self._arrived: Counter[str] = Counter()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a path; OpenAI clients take ``f"{url}/v1"``, Anthropic's take it as it is."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def second_url(self) -> str:
        """A second address of the same provider, for programs in which the address tells who answers."""
        return f"http://127.0.0.1:{self._second_port}"

    def start(self) -> None:
        """Listen and answer; returns when the first request can be sent."""
        listeners = [_listen(self._port), _listen(0)]
        self._port, self._second_port = (listener.getsockname()[1] for listener in listeners)
        config = uvicorn.Config(
            self._application(), lifespan="off", ws="none", log_config=None, log_level="critical", access_log=False
        )
        config.timeout_graceful_shutdown = 1
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": listeners}, name="seatrace-fake-provider", daemon=True
        )
        self._thread.start()
        while not server.started:
            if not self._thread.is_alive():
                raise SeatraceError("the fake provider did not start: its server thread ended at once")
            time.sleep(0.005)

    def close(self) -> None:
        """Stop listening. Answers that are being sent get one second."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._server = self._thread = None

    def __enter__(self) -> FakeProvider:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _application(self) -> Starlette:
        routes = [Route(path, self._endpoint(wire), methods=["POST"]) for path, wire in _WIRES.items()]
        routes.append(Route("/v1/messages/count_tokens", self._count_tokens, methods=["POST"]))
        return Starlette(routes=routes)

    def _endpoint(self, wire: Wire) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            arrival, body = await self._arrive(request)
            numbers = seeded(self._seed, "request", str(arrival.number))
            headers = wire.headers(arrival.number, numbers)
            fault = self._schedule(arrival)
            try:
                _authenticate(request)
                if fault is not None and fault.after_chunks is None:
                    return await self._fail(wire, arrival, fault, headers)
                turn = self._answer(wire, body, numbers)
            except RequestError as refused:
                return self._refuse(wire, arrival, refused, headers)
            pace = self._pace(turn.ask)
            served = _record(wire, arrival, turn, stream=bool(body.get("stream")))
            if not served.stream:
                await pace(len(turn.reply.text) // 14)
                self.served.append(replace(served, completed=True))
                return JSONResponse(wire.whole(turn), headers=headers)
            events = self._stream(wire, turn, served, fault, pace)
            return StreamingResponse(events, headers=headers, media_type="text/event-stream")

        return respond

    async def _count_tokens(self, request: Request) -> Response:
        arrival, body = await self._arrive(request)
        headers = messages.headers(arrival.number, seeded(self._seed, "request", str(arrival.number)))
        try:
            _authenticate(request)
            counted = messages.count(messages.ask(body))
        except RequestError as refused:
            return self._refuse(messages, arrival, refused, headers)
        self.served.append(Served(arrival.number, arrival.path, arrival.model, 200, completed=True))
        return JSONResponse(counted, headers=headers)

    async def _arrive(self, request: Request) -> tuple[Arrival, Mapping[str, object]]:
        try:
            body = json.loads(await request.body())
        except ValueError:
            body = {}
        model = str(body.get("model", ""))
        self._arrived[""] += 1
        self._arrived[model] += model != ""
        path = request.url.path
        return Arrival(self._arrived[""], model, self._arrived[model], path), body

    def _answer(self, wire: Wire, body: Mapping[str, object], numbers: Random) -> Turn:
        ask = wire.ask(body)
        dated = messages.dated if wire is messages else openai.dated
        return Turn(
            body=body,
            ask=ask,
            reply=self._model(ask),
            model=dated(ask.model),
            hit=wire.hit(self._cache, ask),
            created=int(time.time()),
            numbers=numbers,
        )

    async def _fail(self, wire: Wire, arrival: Arrival, fault: Fault, headers: dict[str, str]) -> Response:
        if fault.status is None:
            self.served.append(Served(arrival.number, arrival.path, arrival.model, 0))
            raise ConnectionAbortedError("cut by schedule")
        await asyncio.sleep(self._latency / 8)
        if fault.retry_after is not None:
            # Clients obey retry-after-ms first; retry-after is whole seconds, as the providers send it.
            headers["retry-after-ms"] = str(round(fault.retry_after * 1000))
            headers["retry-after"] = str(max(round(fault.retry_after), 1))
        self.served.append(Served(arrival.number, arrival.path, arrival.model, fault.status))
        return JSONResponse(wire.error(fault.status, None, arrival.model), fault.status, headers)

    def _refuse(self, wire: Wire, arrival: Arrival, refused: RequestError, headers: dict[str, str]) -> Response:
        self.served.append(Served(arrival.number, arrival.path, arrival.model, refused.status))
        return JSONResponse(wire.error(refused.status, str(refused), arrival.model), refused.status, headers)

    async def _stream(
        self, wire: Wire, turn: Turn, served: Served, fault: Fault | None, pace: Callable[[int], Awaitable[None]]
    ) -> AsyncIterator[bytes]:
        completed = False
        try:
            await pace(0)
            for number, event in enumerate(wire.events(turn)):
                if fault is not None and number == fault.after_chunks:
                    if fault.status is None:
                        raise ConnectionAbortedError("cut by schedule")
                    yield wire.stream_error(fault.status)
                    return
                yield event
                if self._latency:
                    await pace(-1)
            completed = True
        finally:
            self.served.append(replace(served, completed=completed))

    def _pace(self, ask: Ask) -> Callable[[int], Awaitable[None]]:
        """A function that waits: 0 until the first token, n the first and n more, -1 only the next."""
        numbers = seeded(self._seed, "pace", ask.model, *(piece.text for piece in ask.pieces))
        factor = next((pace for prefix, pace in _PACE.items() if ask.model.startswith(prefix)), 1.0)
        first = self._latency * factor * numbers.lognormvariate(0, 0.4)

        async def wait(chunks: int) -> None:
            more = max(chunks, 1 if chunks < 0 else 0) * self._latency * factor * numbers.uniform(0.01, 0.03)
            if seconds := more + (first if chunks >= 0 else 0):
                await asyncio.sleep(seconds)

        return wait


def _as_function(schedule: Mapping[int, Fault] | Schedule | None) -> Schedule:
    if schedule is None:
        return lambda arrival: None
    if isinstance(schedule, Mapping):
        return lambda arrival: schedule.get(arrival.number)
    return schedule


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the protocol is told, and without it each answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        return listener
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        state = "is taken by another program" if error.errno == errno.EADDRINUSE else "is not allowed for this user"
        raise PortTakenError(
            f"port {port} on 127.0.0.1 {state}: choose another with --port, or leave it out to use a free one"
        ) from error


def _authenticate(request: Request) -> None:
    if "authorization" not in request.headers and "x-api-key" not in request.headers:
        raise RequestError(401, "No API key was provided.")


def _record(wire: Wire, arrival: Arrival, turn: Turn, *, stream: bool) -> Served:
    chats = wire is not embeddings
    return Served(
        number=arrival.number,
        path=arrival.path,
        model=arrival.model,
        status=200,
        stream=stream,
        response_model=turn.model,
        input_tokens=wire.input_tokens(turn),
        output_tokens=turn.reply.output_tokens if chats else None,
        cache_read=turn.hit.read if chats else None,
        cache_write=turn.hit.written if wire is messages else None,
        reasoning_tokens=turn.reply.reasoning_tokens if chats else None,
    )
