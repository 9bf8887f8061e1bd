"""Watching streams from the inside, so that the user keeps the very stream object that the library made."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Protocol

from . import guard, pipeline
from .observe import Observation
from .shape import error_word, get

_TAP_LIMIT = 8 * 1024 * 1024
"""Bytes kept of a response that the user reads raw; beyond it the body is not read for telemetry."""


class ObservedIterator:
    """Stands in for a stream's private iterator: passes every chunk on and notes it."""

    __slots__ = ("__weakref__", "_next", "_observation", "_read", "_source")

    def __init__(self, source: Iterator[Any], observation: Observation) -> None:
        self._source = source
        self._next = source.__next__
        self._observation = observation
        self._read = observation.reader.chunk  # type: ignore[union-attr]

    def __iter__(self) -> ObservedIterator:
        return self

    def __next__(self) -> Any:
        observation = self._observation
        observation.pulling = True
        try:
            chunk = self._next()
        except StopIteration:
            observation.finished()
            raise
        except BaseException as error:
            observation.failed(error)
            raise
        finally:
            observation.pulling = False
        try:
            observation.tick()
            self._read(chunk)
        except Exception as error:
            guard.fault("read a chunk", error)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._source.__reduce_ex__(protocol)  # copies and pickles as the library's own iterator, that is not

    def __del__(self) -> None:
        self._observation.abandoned()


class ObservedAsyncIterator:
    """:class:`ObservedIterator` for asynchronous streams."""

    __slots__ = ("__weakref__", "_next", "_observation", "_read", "_source")

    def __init__(self, source: AsyncIterator[Any], observation: Observation) -> None:
        self._source = source
        self._next = source.__anext__
        self._observation = observation
        self._read = observation.reader.chunk  # type: ignore[union-attr]

    def __aiter__(self) -> ObservedAsyncIterator:
        return self

    async def __anext__(self) -> Any:
        observation = self._observation
        observation.pulling = True
        try:
            chunk = await self._next()
        except StopAsyncIteration:
            observation.finished()
            raise
        except BaseException as error:
            observation.failed(error)
            raise
        finally:
            observation.pulling = False
        try:
            observation.tick()
            self._read(chunk)
        except Exception as error:
            guard.fault("read a chunk", error)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._source.__reduce_ex__(protocol)  # copies and pickles as the library's own iterator, that is not

    def __del__(self) -> None:
        self._observation.abandoned()


_closing_classes: dict[type, type] = {}


def watch_close(body: Any, closed: Callable[[], None]) -> None:
    """Calls ``closed()`` before ``body.close()`` or ``body.aclose()`` does its work.

    ``body`` is the byte stream inside an HTTP response: whichever way a stream is left (close, ``with``, the response
    itself), this is what gets closed. It is moved to a subclass of its class, which makes no reference cycle and holds
    while the collector takes the response apart.

    Raises:
        TypeError: The class of ``body`` cannot be exchanged (slots).
    """
    kind = type(body)
    watched = _closing_classes.get(kind)
    if watched is None:
        watched = _closing_classes[kind] = _closing_class(kind)
    body.__class__ = watched
    body._seatrace_closed = closed


def _closing_class(kind: Any) -> type:
    def note(body: Any) -> None:
        try:
            body._seatrace_closed()
        except Exception as error:
            guard.fault("end a stream", error)

    members: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    if hasattr(kind, "close"):

        def close(self: Any) -> None:
            note(self)
            kind.close(self)

        members["close"] = close
    if hasattr(kind, "aclose"):

        async def aclose(self: Any) -> None:
            note(self)
            await kind.aclose(self)

        members["aclose"] = aclose
    return type(kind.__name__, (kind,), members)


# --- responses that the user reads raw ---------------------------------------------------------------------------


class Tap:
    """Keeps what the user pulls from a raw response, and reads it once the response is over."""

    def __init__(
        self, observation: Observation, decode: Callable[[bytes], bytes], *, events: bool, readable: bool
    ) -> None:
        self.observation = observation
        self._decode = decode
        self._events = events
        self._kept: list[bytes] = []
        self._room = _TAP_LIMIT if readable else 0
        if events:
            observation.watch_stream()
        pipeline.still_open.add(observation)

    def pulled(self, data: bytes) -> None:
        """The user got ``data``."""
        if self._events:
            self.observation.tick()
        self._room -= len(data)
        if self._room >= 0:
            self._kept.append(data)
        else:
            self._kept.clear()

    def ended(self, end: Callable[[], None]) -> None:
        """Reads what was kept, then ends the observation with ``end``."""
        if self.observation.call.ended:
            return
        try:
            self._read()
        except Exception as error:
            guard.fault("read a raw response", error)
        end()

    def _read(self) -> None:
        if self._room < 0 or not self._kept:
            return
        body = self._decode(b"".join(self._kept))
        self._kept.clear()
        _read_body(self.observation, body)


def read_response(response: Any, observation: Observation) -> None:
    """Reads a response whose body the library has loaded already, and ends the call."""
    if _is_events(response, observation):
        observation.watch_stream()
    try:
        _read_body(observation, response.content)
    except Exception as error:
        guard.fault("read a raw response", error)
    observation.finished()


def _is_events(response: Any, observation: Observation) -> bool:
    # Some servers stream what was asked to be streamed under another content type.
    return observation.call.stream or "event-stream" in response.headers.get("content-type", "")


def _read_body(observation: Observation, body: bytes) -> None:
    reader = observation.reader
    if reader is not None and not body.lstrip().startswith(b"{"):
        for event in server_sent_events(body.decode("utf-8", "replace")):
            if get(event, "error") or get(event, "type") == "error":
                observation.call.error_type = error_word(event) or "error"
            reader.chunk(event)  # an error may come with the usage up to there
        return
    try:
        observation.unparsed = json.loads(body)
        observation.reader = None  # an answer at one go, maybe to a request for a stream
    except ValueError:  # the user stopped half way, or it never was JSON
        return


def server_sent_events(body: str) -> Iterator[Any]:
    """The JSON payloads of an event stream; an unfinished last one is left out."""
    for block in body.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        data = "\n".join(line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:"))
        if data and data != "[DONE]":
            try:
                yield json.loads(data)
            except ValueError:
                continue


class _SyncTap:
    def __init__(self, inner: Any, tap: BodyTap) -> None:
        self._inner = inner
        self._tap = tap

    def __iter__(self) -> Iterator[bytes]:
        tap = self._tap
        try:
            for data in self._inner:
                try:
                    tap.pulled(data)
                except Exception as error:
                    guard.fault("read a chunk", error)
                yield data
        except GeneratorExit:
            raise
        except BaseException as error:
            tap.ended(partial(tap.observation.failed, error))
            raise
        tap.ended(tap.observation.finished)

    def close(self) -> None:
        self._inner.close()
        self._tap.ended(self._tap.observation.finished)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        self._tap.ended(self._tap.observation.abandoned)


class _AsyncTap:
    def __init__(self, inner: Any, tap: BodyTap) -> None:
        self._inner = inner
        self._tap = tap

    async def __aiter__(self) -> AsyncIterator[bytes]:
        tap = self._tap
        source = self._inner.__aiter__()
        try:
            async for data in source:
                try:
                    tap.pulled(data)
                except Exception as error:
                    guard.fault("read a chunk", error)
                yield data
        except GeneratorExit:
            raise
        except BaseException as error:
            tap.ended(partial(tap.observation.failed, error))
            raise
        tap.ended(tap.observation.finished)

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._tap.ended(self._tap.observation.finished)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        self._tap.ended(self._tap.observation.abandoned)


_tap_classes: dict[type, type] = {}


def tap_response(response: Any, observation: Observation) -> None:
    """Watches the body of an unread ``httpx``/``httpx2`` response while the user pulls it, however he does.

    ``response.stream`` gets a wrapper of the same abstract class; compressed bodies are decoded by a second response
    object of the same library when all is over.
    """
    status, headers, kind = response.status_code, response.headers, type(response)
    tap = Tap(
        observation,
        lambda raw: kind(status, headers=headers, content=raw).content,
        events=_is_events(response, observation),
        readable=not headers.get("content-type", "").startswith(("audio/", "image/", "video/")),
    )
    tap_body(response, tap)


class BodyTap(Protocol):
    """Is told what is pulled from the body of a response."""

    @property
    def observation(self) -> Any:
        """What ends: has ``finished()``, ``failed(error)`` and ``abandoned()``."""

    def pulled(self, data: bytes) -> None:
        """The user got ``data``."""

    def ended(self, end: Callable[[], None]) -> None:
        """The body is over, maybe for the second time; ``end`` is one of the three."""


def tap_body(response: Any, tap: BodyTap) -> None:
    """Tells ``tap`` what the user pulls from the unread ``response``, however he does."""
    body = response.stream
    response.stream = _tap_class(type(body))(body, tap)


def _tap_class(body: type) -> type:
    known = _tap_classes.get(body)
    if known is None:
        bases = {base.__name__: base for base in body.__mro__}
        if "AsyncByteStream" in bases and "SyncByteStream" not in bases:
            known = type("TappedStream", (_AsyncTap, bases["AsyncByteStream"]), {})
        else:
            known = type("TappedStream", (_SyncTap, bases["SyncByteStream"]), {})
        _tap_classes[body] = known
    return known
