"""Client libraries that Stainless generates, answered out of a cache.

What is kept is the HTTP response's body. A hit goes through the client's own ``_process_response``, like what comes
from the network: so its types, streams, raw responses and ``parse`` are the library's own, whatever its version.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from time import perf_counter_ns
from typing import Any

from seatrace.core import pipeline
from seatrace.core.record import Call
from seatrace.core.shape import Shape
from seatrace.core.stream import server_sent_events, tap_body
from seatrace.errors import ConfigError
from seatrace.libraries._stainless import Stainless

from . import answers, making
from .ask import Ask
from .codec import UnstorableError
from .engine import Engine
from .making import Making, trace_headers
from .policy import CachePolicy
from .steps import run_async, run_sync

_PACKAGES = ("openai", "anthropic")
_OPERATIONS = frozenset({"chat", "text_completion", "embeddings", "moderation", "count_tokens"})
"""What is cached. Images and audio are not, nor what changes something at the provider."""

_RAW = "x-stainless-raw-response"
_COUNTING_HEADERS = frozenset({"anthropic-beta", "anthropic-version", "openai-beta", "openai-organization"})
"""Headers that change the answer."""
_KEPT_HEADERS = ("content-type", "x-request-id", "request-id")
_INSTANCE = ("request", "_process_response", "copy", "with_options")
"""What is put into the client's own namespace, in front of its class."""

AskClient = Callable[..., "Ask | None"]
"""``ResponseCache._client_ask``."""


def instrument(client: Any, engine: Engine, asking: AskClient, policy: CachePolicy, ttl: float) -> None:
    """Answers ``client``'s calls out of ``engine``'s cache.

    Raises:
        ConfigError: It is no client of a known library, or has a cache already.
    """
    package = next((each for each in map(_package, type(client).__mro__) if each in _PACKAGES), None)
    if package is None or not hasattr(client, "_process_response"):
        raise ConfigError(f"expected a client of {' or '.join(_PACKAGES)}, got {type(client).__qualname__}")
    if "request" in vars(client):
        raise ConfigError(f"expected a client without a cache, this {type(client).__qualname__} has one already")
    cached = _CachedClient(client, package, engine, asking, policy, ttl)
    again = partial(instrument, engine=engine, asking=asking, policy=policy, ttl=ttl)

    def copied(*args: Any, **kwargs: Any) -> Any:
        made = type(client).copy(client, *args, **kwargs)
        again(made)
        return made

    asynchronous = inspect.iscoroutinefunction(type(client).request)
    client.request = cached.request_async if asynchronous else cached.request
    client._process_response = cached.process
    client.copy = client.with_options = copied


def release(client: Any) -> None:
    """Undoes :func:`instrument`; does nothing to other clients."""
    for name in _INSTANCE:
        vars(client).pop(name, None)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


class _CachedClient:
    """What stands between one client and its class."""

    def __init__(
        self, client: Any, package: str, engine: Engine, asking: AskClient, policy: CachePolicy, ttl: float
    ) -> None:
        endpoints = importlib.import_module(f"seatrace.libraries.{package}").ENDPOINTS
        self._client = client
        self._class = type(client)
        self._package = package
        self._library = Stainless(package, package, endpoints)
        self._engine = engine
        self._asking = asking
        self._policy = policy
        self._ttl = ttl
        self._http = _http_of(client)
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        """In place of ``SyncAPIClient.request``."""
        call = partial(self._class.request, self._client, cast_to, options, *args, **kwargs)
        ask = self._ask(call, cast_to, options, kwargs)
        if ask is None:
            return call()
        if not kwargs.get("stream"):
            return self._engine.answer_sync(ask)
        known = run_sync(self._engine.recorded(ask))
        if known is not None:
            return known
        with self._recording(ask, options, background=False).noticing():
            return call()

    async def request_async(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        """In place of ``AsyncAPIClient.request``."""
        call = partial(self._class.request, self._client, cast_to, options, *args, **kwargs)
        ask = self._ask(call, cast_to, options, kwargs)
        if ask is None:
            return await call()
        if not kwargs.get("stream"):
            return await self._engine.answer(ask)
        known = await run_async(self._engine.recorded(ask))
        if known is not None:
            return known
        with self._recording(ask, options, background=self._engine.store.blocking).noticing():
            return await call()

    def process(self, *args: Any, **kwargs: Any) -> Any:
        """In place of ``_process_response``: sees the response of a call that is to be kept, within the call's span."""
        made = making.current()
        response = kwargs.get("response")
        if made is not None and made.owner is self._client and response is not None:
            made.link, made.response = trace_headers(), response
            if made.tap is not None and not response.is_closed:
                tap_body(response, made.tap)
        return self._class._process_response(self._client, *args, **kwargs)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _ask(self, call: Callable[[], Any], cast_to: Any, options: Any, kwargs: Mapping[str, Any]) -> Ask | None:
        shape = self._library.shape(options.url) if options.method.lower() == "post" else None
        if shape is None or shape.operation not in _OPERATIONS:
            return None
        body, headers = _body(options), _headers(options)
        if body is None or headers.get(_RAW) == "stream" or getattr(self._client, "_middleware", None):
            self._engine.telemetry.bypassed("raw")
            return None
        stream = bool(kwargs.get("stream"))

        def ask(key: str) -> Ask:
            return Ask(
                key=key,
                call=partial(self._owned, call),
                operation=shape.operation,
                fields=self._fields(shape, body),
                ttl=lambda value, data: self._verdict(shape, data, stream=stream),
                encode=lambda value, made: self._encode(shape, body, made),
                decode=lambda data: self._replay(data, cast_to, options, kwargs),
            )

        origin = [
            self._package,
            str(self._client.base_url),
            options.url,
            dict(options.params or {}),
            {name: value for name, value in headers.items() if name in _COUNTING_HEADERS},
            stream,
        ]
        made: Ask | None = self._asking(body, ask, origin, always=shape.kind != "inference")
        return made

    def _owned(self, call: Callable[[], Any]) -> Any:
        made = making.current()
        if made is not None:
            made.owner = self._client
        return call()

    def _fields(self, shape: Shape, body: Mapping[str, Any]) -> dict[str, Any]:
        call = self._described(shape, body)
        known = ("library", "provider", "server_address", "server_port", "request_model", "stream")
        return {name: getattr(call, name) for name in known}

    def _described(self, shape: Shape, body: Mapping[str, Any]) -> Call:
        call = Call(shape.kind, shape.operation, self._package)
        _, call.server_address, call.server_port, call.provider = self._library.server(self._client)
        shape.request(call, body)
        return call

    # --- answers ----------------------------------------------------------------------------------------------------

    def _encode(self, shape: Shape, body: Mapping[str, Any], made: Making) -> bytes:
        response = made.response
        if response is None:
            raise UnstorableError("no response was seen")
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        content_type = headers.get("content-type", "")
        if response.status_code != 200 or not ("json" in content_type or "event-stream" in content_type):
            raise UnstorableError(f"a response of {content_type or 'no content type'}, status {response.status_code}")
        content = response.content if made.tap is None else made.tap.content()
        data = json.dumps({"headers": headers, "text": content.decode()}, separators=(",", ":"), ensure_ascii=False)
        if not made.observed:  # the stream's call has not ended, or nobody observes
            made.note(self._read(shape, body, data.encode()))
        return data.encode()

    def _read(self, shape: Shape, body: Mapping[str, Any], data: bytes) -> Call:
        call = self._described(shape, body)
        answer = _answer(data)
        if isinstance(answer, list):
            reader = shape.reader(call, content=False)
            for chunk in answer:
                reader.chunk(chunk)
            reader.finish()
        else:
            shape.response(call, answer)
        line = pipeline.current
        if line is not None and line.price is not None and call.usage is not None:
            call.cost = line.price(call)
        return call

    def _verdict(self, shape: Shape, data: bytes, *, stream: bool) -> float | str:
        answer = _answer(data)
        call = Call(shape.kind, shape.operation)
        if isinstance(answer, list):
            call = answers.read_chunks(answer, shape) or call
        else:
            shape.response(call, answer)
        if shape.kind == "inference" and not call.finish_reasons:
            return "incomplete"
        return self._policy.rejects(len(data), call, answer) or self._ttl

    def _replay(self, data: bytes, cast_to: Any, options: Any, kwargs: Mapping[str, Any]) -> Any:
        kept = json.loads(data)
        url = options.url if "://" in options.url else f"{str(self._client.base_url).rstrip('/')}{options.url}"
        request = self._http.Request("POST", url, headers=_headers(options))
        response = self._http.Response(200, headers=kept["headers"], content=kept["text"].encode(), request=request)
        response.elapsed = timedelta(0)
        return self._class._process_response(
            self._client,
            cast_to=self._client._maybe_override_cast_to(cast_to, options),
            options=options,
            response=response,
            stream=kwargs.get("stream", False),
            stream_cls=kwargs.get("stream_cls"),
            retries_taken=0,
        )

    # --- streams ----------------------------------------------------------------------------------------------------

    def _recording(self, ask: Ask, options: Any, *, background: bool) -> Making:
        made = Making()
        made.owner = self._client
        began = perf_counter_ns()

        def keep() -> None:
            flow = self._engine.keep(ask, None, made, (perf_counter_ns() - began) / 1e9)
            if not background:
                run_sync(flow)
                return
            task = asyncio.get_running_loop().create_task(run_async(flow))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        made.tap = _Tape(made, keep, self._policy.max_entry_bytes)
        return made


class _Tape:
    """Keeps what the user pulls of a stream; hands it over if that was all (:class:`seatrace.core.stream.BodyTap`)."""

    def __init__(self, made: Making, keep: Callable[[], None], limit: int) -> None:
        self.observation = self
        self._made = made
        self._keep: Callable[[], None] | None = keep
        self._room = limit
        self._pieces: list[bytes] = []

    def pulled(self, data: bytes) -> None:
        """The user got ``data``."""
        self._room -= len(data)
        if self._room < 0:
            self._keep = None
            self._pieces.clear()
        if self._keep is not None:
            self._pieces.append(data)

    def ended(self, end: Callable[[], None]) -> None:
        """The body is over."""
        end()

    def finished(self) -> None:
        """It was read to its end, or closed: whether that is the end, its last event says."""
        keep, self._keep = self._keep, None
        if keep is not None:
            keep()

    def failed(self, error: BaseException) -> None:
        """It broke off."""
        self._keep = None

    def abandoned(self) -> None:
        """It was dropped."""
        self._keep = None

    def content(self) -> bytes:
        """What was pulled, decompressed."""
        response = self._made.response
        raw = b"".join(self._pieces)
        decoded: bytes = type(response)(response.status_code, headers=response.headers, content=raw).content
        return decoded


def _answer(data: bytes) -> Any:
    """A response's JSON, or the list of its events."""
    kept = json.loads(data)
    if "event-stream" in kept["headers"].get("content-type", ""):
        return list(server_sent_events(kept["text"]))
    return json.loads(kept["text"])


def _body(options: Any) -> dict[str, Any] | None:
    if getattr(options, "files", None) or getattr(options, "content", None) is not None:
        return None
    body = options.json_data
    if not isinstance(body, Mapping):
        return None
    return {**body, **(getattr(options, "extra_json", None) or {})}


def _headers(options: Any) -> dict[str, str]:
    given = options.headers if isinstance(options.headers, Mapping) else {}
    return {name.lower(): value for name, value in given.items() if isinstance(value, str)}


def _http_of(client: Any) -> Any:
    """The HTTP library that the client's own client is of."""
    for kind in type(client._client).__mro__:
        if _package(kind) in ("httpx", "httpx2"):
            return sys.modules[_package(kind)]
    raise ConfigError(f"expected a client on httpx, got one on {type(client._client).__qualname__}")
