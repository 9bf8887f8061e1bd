"""Streams: recorded while their first consumer reads them, replayed chunk by chunk to the later ones.

Those who ask while a stream is being read make calls of their own: to wait for somebody else's reader could be for
ever.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from inspect import isawaitable
from time import perf_counter_ns
from typing import Any

from .ask import Ask
from .engine import Engine
from .making import Making
from .steps import Flow, run_async, run_sync

_CHUNKS_LIMIT = 100_000
"""Chunks of one stream that are recorded; a longer one is not kept."""

_END = object()


class _Recording:
    """The chunks of one stream, as they come."""

    def __init__(self) -> None:
        self._began = perf_counter_ns()
        self._chunks: list[Any] | None = []
        self.made = Making()

    def note(self, chunk: Any) -> None:
        if self._chunks is None:
            return
        self._chunks.append(chunk)
        if len(self._chunks) > _CHUNKS_LIMIT:
            self._chunks = None

    def keep(self, engine: Engine, ask: Ask) -> Flow[None]:
        if self._chunks is None:
            engine.telemetry.passed_over("too_large")
            return
        yield from engine.keep(ask, self._chunks, self.made, (perf_counter_ns() - self._began) / 1e9)


async def replay(engine: Engine, ask: Ask) -> AsyncGenerator[Any, None]:
    """The chunks of the stream that ``ask.call`` makes, or those that an earlier one had."""
    known = await run_async(engine.recorded(ask))
    if known is not None:
        for chunk in known:
            yield chunk
        return
    recording = _Recording()
    with recording.made.noticing():
        source = ask.call()
        if isawaitable(source):
            source = await source
    try:
        chunks = aiter(source)
        while True:
            with recording.made.noticing():
                chunk = await anext(chunks, _END)
            if chunk is _END:
                break
            recording.note(chunk)
            yield chunk
    finally:
        close = getattr(source, "aclose", None) or getattr(source, "close", None)
        if close is not None:
            await close()
    await run_async(recording.keep(engine, ask))


def replay_sync(engine: Engine, ask: Ask) -> Generator[Any, None, None]:
    """:func:`replay` for synchronous programs."""
    known = run_sync(engine.recorded(ask))
    if known is not None:
        yield from known
        return
    recording = _Recording()
    with recording.made.noticing():
        source = ask.call()
    try:
        chunks = iter(source)
        while True:
            with recording.made.noticing():
                chunk = next(chunks, _END)
            if chunk is _END:
                break
            recording.note(chunk)
            yield chunk
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()
    run_sync(recording.keep(engine, ask))
