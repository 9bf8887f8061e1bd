"""Watching a stream, and gathering its crumbs: :func:`observe_stream`, :class:`BufferedStream`.

:func:`observe_stream` changes nothing and tells how a stream went. :class:`BufferedStream` hands out fewer, larger
pieces of text; a timer of its own sends them on, so that a stream that stalls withholds nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from time import monotonic
from typing import Any, Generic, TypeVar, cast, overload

from ._buffer import Buffer, Piece
from ._chunks import SPLITS, Split
from ._feeds import Drained, LoopFeed, ThreadFeed, aclose_all, close_all
from ._options import check_choice, check_count, check_number
from ._watch import StreamWatch

__all__ = ["AsyncBufferedStream", "BufferedStream", "Piece", "observe_stream"]

T = TypeVar("T")


@overload
def observe_stream(
    stream: AsyncIterable[T], *, name: str = ..., stall_after: float = ...
) -> ObservedAsyncStream[T]: ...
@overload
def observe_stream(stream: Iterable[T], *, name: str = ..., stall_after: float = ...) -> ObservedStream[T]: ...
def observe_stream(stream: Any, *, name: str = "stream", stall_after: float = 5.0) -> Any:
    """Hands out what ``stream`` yields, and tells how it went: time to the first chunk, stalls, duration and outcome.

    The time begins now. Chunks are the very same objects, one is pulled when one is asked for, and all else of
    ``stream`` (attributes, ``close``, ``with``) is there. A stream that is left early, closed or cancelled counts as
    abandoned, which is no error.

    Args:
        stream: An iterable or asynchronous iterable.
        name: Stands on span and metrics. Give it one of few values.
        stall_after: Seconds of waiting for a chunk that count as a stall; what the consumer takes does not.
    """
    watch = StreamWatch(name, check_number("stall_after", stall_after, above=True))
    return ObservedAsyncStream(stream, watch) if hasattr(stream, "__aiter__") else ObservedStream(stream, watch)


class _Observed:
    """What both kinds share: the rest of the stream's face."""

    def __init__(self, stream: Any, watch: StreamWatch) -> None:
        self._stream = stream
        self._watch = watch
        self._iterator: Any = None

    def __getattr__(self, name: str) -> Any:
        if name in ("_stream", "_watch", "_iterator"):  # not made yet: a copy
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __del__(self) -> None:
        watch = self.__dict__.get("_watch")
        if watch is not None:
            watch.abandoned()


class ObservedStream(_Observed, Generic[T]):
    """A stream that is watched."""

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        watch = self._watch
        watch.asked()
        try:
            if self._iterator is None:
                self._iterator = iter(self._stream)
            chunk = next(self._iterator)
        except BaseException as error:
            watch.raised(error)
            raise
        watch.came()
        return cast(T, chunk)

    def close(self) -> None:
        """Closes the stream."""
        self._watch.abandoned()
        close_all(self._iterator, self._stream)

    def __enter__(self) -> ObservedStream[T]:
        if hasattr(self._stream, "__enter__"):
            self._stream = self._stream.__enter__()
        return self

    def __exit__(self, *failure: Any) -> Any:
        self._watch.abandoned()
        if hasattr(self._stream, "__exit__"):
            return self._stream.__exit__(*failure)
        return self.close()


class ObservedAsyncStream(_Observed, Generic[T]):
    """An asynchronous stream that is watched."""

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        watch = self._watch
        watch.asked()
        try:
            if self._iterator is None:
                self._iterator = self._stream.__aiter__()
            chunk = await self._iterator.__anext__()
        except BaseException as error:
            watch.raised(error)
            raise
        watch.came()
        return cast(T, chunk)

    async def aclose(self) -> None:
        """Closes the stream."""
        self._watch.abandoned()
        await aclose_all(self._iterator, self._stream)

    def close(self) -> Any:
        """What the stream's own ``close`` is: to be awaited, for the client libraries'."""
        self._watch.abandoned()
        return self._stream.close()

    async def __aenter__(self) -> ObservedAsyncStream[T]:
        if hasattr(self._stream, "__aenter__"):
            self._stream = await self._stream.__aenter__()
        return self

    async def __aexit__(self, *failure: Any) -> Any:
        self._watch.abandoned()
        if hasattr(self._stream, "__aexit__"):
            return await self._stream.__aexit__(*failure)
        return await self.aclose()


class BufferedStream(Generic[T]):
    """Gathers a stream's text into pieces, and passes all else on where it stands: ``for piece in
    BufferedStream(stream)``; :class:`AsyncBufferedStream` for asynchronous streams.

    Each piece is a :class:`Piece`: a ``str``, with the stream's own ``chunk`` where that carries more than text.
    Joined, the pieces are the stream's whole text, whatever happens: before an error of the stream is raised, and after
    :meth:`close`, what was pulled is handed out. The source is pulled in a thread of its own, from the first piece on,
    and no further ahead than ``max_chars``.

    Args:
        stream: Strings, or chunks of a client library (``docs/patterns/streaming.md`` has the list).
        max_delay: Seconds that text is held at most, whether or not another chunk comes.
        max_chars: Characters of a piece at most; as many held go out at once.
        split: Where a piece may end: ``"char"`` anywhere, ``"word"`` and ``"sentence"`` behind one, ``"grapheme"`` not
            within a character as readers see it. Text whose ``max_delay`` is over goes out with or without such a
            place; give sentences a longer one (they go out as soon as they are whole).
        text: Returns the text of a chunk that is nothing but text, and ``None`` for one to pass on, where the chunks
            are of a kind that is not known here.
        name: Stands on span and metrics. Give it one of few values.
        stall_after: As of :func:`observe_stream`.
        clock: Seconds, for the age of text.

    Raises:
        ConfigError: An option makes no sense.
        TypeError: ``stream`` is asynchronous.
    """

    def __init__(
        self,
        stream: Iterable[T],
        *,
        max_delay: float = 0.05,
        max_chars: int = 256,
        split: Split = "char",
        text: Callable[[T], str | None] | None = None,
        name: str = "buffered",
        stall_after: float = 5.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not hasattr(stream, "__iter__"):
            raise TypeError(
                f"BufferedStream: expected an iterable, got {type(stream).__name__}. AsyncBufferedStream takes "
                f"asynchronous ones."
            )
        buffer = _buffer(max_delay, max_chars, split, text)
        self._watch = StreamWatch(name, check_number("stall_after", stall_after, above=True))
        self._feed = ThreadFeed(stream, buffer, self._watch, clock)

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        try:
            return self._feed.next()
        except Drained:
            raise StopIteration from None

    def close(self) -> None:
        """Stops pulling. The source is closed in its thread: at once, or when a chunk that it waits for has come."""
        self._watch.abandoned()
        self._feed.close()

    def __enter__(self) -> BufferedStream[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if "_feed" in self.__dict__:
            self.close()


class AsyncBufferedStream(Generic[T]):
    """:class:`BufferedStream` for asynchronous streams, with a task in place of the thread and the event loop's clock.

    Raises:
        ConfigError: An option makes no sense.
        TypeError: ``stream`` is not asynchronous.
    """

    def __init__(
        self,
        stream: AsyncIterable[T],
        *,
        max_delay: float = 0.05,
        max_chars: int = 256,
        split: Split = "char",
        text: Callable[[T], str | None] | None = None,
        name: str = "buffered",
        stall_after: float = 5.0,
    ) -> None:
        if not hasattr(stream, "__aiter__"):
            raise TypeError(
                f"AsyncBufferedStream: expected an asynchronous iterable, got {type(stream).__name__}. BufferedStream "
                f"takes others."
            )
        buffer = _buffer(max_delay, max_chars, split, text)
        self._watch = StreamWatch(name, check_number("stall_after", stall_after, above=True))
        self._feed = LoopFeed(stream, buffer, self._watch)

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        try:
            return await self._feed.next()
        except Drained:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Stops pulling and returns when the source is closed."""
        self._watch.abandoned()
        await self._feed.aclose()

    async def __aenter__(self) -> AsyncBufferedStream[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if "_feed" in self.__dict__:
            self._watch.abandoned()
            self._feed.close()


def _buffer(max_delay: float, max_chars: int, split: Split, text: Callable[[Any], str | None] | None) -> Buffer:
    check_choice("split", split, SPLITS)
    check_number("max_delay", max_delay)
    return Buffer(max_delay=max_delay, max_chars=check_count("max_chars", max_chars), split=split, read=text)
