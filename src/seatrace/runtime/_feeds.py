"""Who pulls a buffered stream's source while its consumer waits for the time: a thread, or a task.

One thread or task for the whole stream, so that a generator runs in one context throughout. It starts when the first
piece is asked for, and holds no reference to the stream: one that is dropped ends it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from ._buffer import Buffer, Piece
from ._threads import Ended, start_thread
from ._watch import StreamWatch


class Drained(Exception):
    """The stream is over."""


class _Feed:
    def __init__(self, source: Any, buffer: Buffer, watch: StreamWatch) -> None:
        self._source = source
        self._buffer = buffer
        self._watch = watch
        self._started = False
        self._closed = False
        self._end: Ended[None] | None = None

    def _next(self, now: float) -> Piece | None:
        """The next piece, ``None`` while none may go out; raises what the source raised, or :class:`Drained`."""
        found = self._buffer.take(now)
        if found is None and (self._closed or self._end is not None):
            failed = self._end is not None and self._end.error is not None
            self._buffer.finish("error" if failed else "end")
            found = self._buffer.take(now)
            if found is None:
                self._over()
        if found is None:
            return None
        piece, reason = found
        self._watch.flushes[reason] += 1
        self._watch.pieces += 1
        return piece

    def _over(self) -> None:
        end, self._end = self._end, Ended(None, None)  # an error is raised once
        if end is None:
            self._watch.abandoned()
        elif end.error is not None:
            self._watch.raised(end.error)
            raise end.error
        else:
            self._watch.ended("completed")
        raise Drained


class ThreadFeed(_Feed):
    """For sources that block. A stream that is closed while its source blocks closes that when it returns."""

    def __init__(self, source: Any, buffer: Buffer, watch: StreamWatch, clock: Callable[[], float]) -> None:
        super().__init__(source, buffer, watch)
        self._clock = clock
        self._change = threading.Condition()

    def next(self) -> Piece:
        """Waits for the next piece."""
        with self._change:
            if not self._started and not self._closed:
                self._started = True
                start_thread(self._pull, self._pulled, name="seatrace-stream")
            while True:
                piece = self._next(self._clock())
                self._change.notify_all()
                if piece is not None:
                    return piece
                self._change.wait(self._buffer.wait(self._clock()))

    def close(self) -> None:
        """Stops pulling. What was pulled can still be taken."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            if not self._started:
                close_all(self._source)

    def _pull(self) -> None:
        iterator = iter(self._source)
        while True:
            self._watch.asked()
            try:
                chunk = next(iterator)
            except StopIteration:
                return
            self._watch.came()
            try:
                going_on = self._took(chunk)
            except BaseException:  # the program's `text` cannot read it
                close_all(iterator, self._source)
                raise
            if not going_on:
                close_all(iterator, self._source)
                return

    def _took(self, chunk: Any) -> bool:
        with self._change:
            self._buffer.add(chunk, self._clock())
            self._change.notify_all()
            while self._buffer.full and not self._closed:
                self._change.wait()
            return not self._closed

    def _pulled(self, end: Ended[None]) -> None:
        with self._change:
            if not self._closed:
                self._end = end
            self._change.notify_all()


class LoopFeed(_Feed):
    """For asynchronous sources."""

    def __init__(self, source: Any, buffer: Buffer, watch: StreamWatch) -> None:
        super().__init__(source, buffer, watch)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    async def next(self) -> Piece:
        """Waits for the next piece."""
        if not self._started and not self._closed:
            self._started = True
            self._loop = asyncio.get_running_loop()
            self._news, self._room = asyncio.Event(), asyncio.Event()
            self._task = self._loop.create_task(self._pull())
        loop = asyncio.get_running_loop()
        while True:
            piece = self._next(loop.time())
            if not self._buffer.full and self._started:
                self._room.set()
            if piece is not None:
                return piece
            self._news.clear()
            wait = self._buffer.wait(loop.time())
            timer = None if wait is None else loop.call_later(wait, self._news.set)
            try:
                await self._news.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    async def aclose(self) -> None:
        """Stops pulling and closes the source. What was pulled can still be taken."""
        self._closed = True
        if self._task is None:
            await aclose_all(self._source)
            return
        self._task.cancel()
        self._news.set()
        await asyncio.wait([self._task])
        if self._task.cancelled():  # before it began
            await aclose_all(self._source)
        elif (error := self._task.exception()) is not None:
            raise error

    def close(self) -> None:
        """:meth:`aclose` for a destructor, in whichever thread that runs."""
        self._closed = True
        if self._task is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _pull(self) -> None:
        iterator = None
        error: BaseException | None = None
        try:
            iterator = self._source.__aiter__()
            while (chunk := await self._chunk(iterator)) is not _NONE:
                try:
                    self._buffer.add(chunk, asyncio.get_running_loop().time())
                except BaseException:  # the program's `text` cannot read it
                    await aclose_all(iterator, self._source)
                    raise
                self._news.set()
                while self._buffer.full:
                    self._room.clear()
                    await self._room.wait()
        except BaseException as failed:
            error = failed
        if self._closed:
            await aclose_all(iterator, self._source)
        else:
            self._end = Ended(None, error)
        self._news.set()

    async def _chunk(self, iterator: Any) -> Any:
        self._watch.asked()
        try:
            chunk = await iterator.__anext__()
        except StopAsyncIteration:
            return _NONE
        self._watch.came()
        return chunk


_NONE: Any = object()


def close_all(*sources: Any) -> None:
    """Closes those that can be."""
    for each in sources:
        if hasattr(each, "close"):
            each.close()


async def aclose_all(*sources: Any) -> None:
    """Closes those that can be."""
    for each in sources:
        close = getattr(each, "aclose", None) or getattr(each, "close", None)
        closing: Any = close() if close is not None else None
        if hasattr(closing, "__await__"):
            await closing
