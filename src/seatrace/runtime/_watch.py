"""The telemetry of one stream: a span, and its metrics when that has ended, however it did."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter_ns

from seatrace.core import pipeline, signals
from seatrace.core.record import Call
from seatrace.core.step import Step
from seatrace.emit import semconv
from seatrace.emit.catalogue import patterns


class StreamWatch:
    """Times one stream from now on. Gathers, and records once at the end: chunks are many."""

    __slots__ = (
        "_asked",
        "_labels",
        "_step",
        "call",
        "chunks",
        "flushes",
        "outcome",
        "pieces",
        "stall_after",
        "stalls",
    )

    def __init__(self, name: str, stall_after: float) -> None:
        self.stall_after = stall_after * 1e9
        self.chunks = 0
        self.stalls = 0
        self.pieces = 0
        """What went out of a buffer."""
        self.flushes: Counter[str] = Counter()
        """Why it did."""
        self.outcome = "abandoned"
        self._asked = 0
        self._labels = {semconv.STREAM_NAME: name}
        self._step = Step.begin(
            lambda: Call("internal", "stream", "seatrace", name=name, stream=True, on_end=[self._measure])
        )
        self.call = self._step.call
        if pipeline.current is not None:
            pipeline.still_open.add(self)

    def asked(self) -> None:
        """Somebody waits for a chunk."""
        self._asked = perf_counter_ns()

    def came(self) -> None:
        """It came."""
        now = perf_counter_ns()
        self._waited(now)
        self.chunks += 1
        if self.chunks == 1:
            self.call.first_chunk_clock = now

    def raised(self, error: BaseException) -> None:
        """None came."""
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            self.ended("completed")
        elif isinstance(error, (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)):
            self.ended("abandoned")
        else:
            self.ended("error", error)

    def ended(self, outcome: str, error: BaseException | None = None) -> None:
        """The stream is over. Only the first word counts."""
        if self.call.ended:
            return
        self._close(outcome)
        self._step.end(error)

    def abandoned(self) -> None:
        """The stream was closed or dropped before its end; safe in ``__del__``."""
        if self.call.ended:
            return
        self._close("abandoned")
        self._step.abandon()

    def _close(self, outcome: str) -> None:
        pipeline.still_open.discard(self)
        self._waited(perf_counter_ns())
        self.outcome = outcome
        attributes = self.call.attributes
        attributes.update(self._labels)
        attributes[semconv.STREAM_OUTCOME] = outcome
        attributes[semconv.STREAM_CHUNK_COUNT] = self.chunks
        attributes[semconv.STREAM_STALL_COUNT] = self.stalls
        if self.pieces:
            attributes[semconv.STREAM_PIECE_COUNT] = self.pieces
        if self.call.time_to_first_chunk is not None:
            attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = self.call.time_to_first_chunk

    def _waited(self, now: int) -> None:
        if self._asked and now - self._asked > self.stall_after:
            self.stalls += 1
        self._asked = 0

    def _measure(self, call: Call) -> None:
        labels = self._labels
        if call.time_to_first_chunk is not None:
            signals.measure(patterns.STREAM_TIME_TO_FIRST_CHUNK, call.time_to_first_chunk, labels)
        outcome = {**labels, semconv.STREAM_OUTCOME: self.outcome}
        signals.measure(patterns.STREAM_DURATION, call.duration, outcome)
        signals.measure(patterns.STREAM_STALLS, self.stalls, labels)
        signals.measure(patterns.STREAM_CHUNKS, self.chunks, {**labels, semconv.STREAM_DIRECTION: "in"})
        if self.pieces:
            signals.measure(patterns.STREAM_CHUNKS, self.pieces, {**labels, semconv.STREAM_DIRECTION: "out"})
        for reason, count in self.flushes.items():
            signals.measure(patterns.STREAM_FLUSHES, count, {**labels, semconv.FLUSH_REASON: reason})
