"""What a buffered stream holds back, and when it goes out. No waiting in here: the feeds do that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ._chunks import Split, cut_at, text_of

Read = Callable[[Any], "tuple[str, bool]"]
"""The text in a chunk, and whether that is all that it carries."""

_AHEAD = 64
"""Pieces that may wait for the consumer before the source is left alone."""


class Piece(str):
    """Some text of a stream. ``chunk`` is the stream's own chunk where that carries more than text (tool calls, usage,
    a finish reason); the piece is then the text in it, mostly none."""

    __slots__ = ("chunk",)
    chunk: Any

    def __new__(cls, text: str, chunk: Any = None) -> Piece:
        """A piece of ``text``."""
        piece = super().__new__(cls, text)
        piece.chunk = chunk
        return piece


class Buffer:
    """Text in arrival order and, behind it, pieces that are ready."""

    def __init__(
        self, *, max_delay: float, max_chars: int, split: Split, read: Callable[[Any], str | None] | None
    ) -> None:
        self._max_delay = max_delay
        self._max_chars = max_chars
        self._split = split
        self._read: Read = text_of if read is None else _reader(read)
        self._held: deque[tuple[str, float]] = deque()
        self._size = 0
        self._ready: deque[tuple[Piece, str]] = deque()

    @property
    def full(self) -> bool:
        """Whether the consumer is far enough behind."""
        return self._size >= self._max_chars or len(self._ready) >= _AHEAD

    def add(self, chunk: Any, now: float) -> None:
        """Takes one chunk of the source."""
        text, whole = self._read(chunk)
        if not whole:
            self.finish("passthrough")
            self._ready.append((Piece(text, chunk), "passthrough"))
        elif text:
            self._held.append((text, now))
            self._size += len(text)

    def take(self, now: float) -> tuple[Piece, str] | None:
        """The next piece that may go out at ``now``, and why; ``None`` while there is none."""
        if self._ready:
            return self._ready.popleft()
        if not self._held:
            return None
        if self._size >= self._max_chars:
            return self._cut("size")
        if self._split == "sentence" and cut_at(self._text(), "sentence"):
            return self._cut("boundary")
        return self._cut("deadline") if now >= self._held[0][1] + self._max_delay else None

    def wait(self, now: float) -> float | None:
        """Seconds until :meth:`take` has something by time alone."""
        return max(0.0, self._held[0][1] + self._max_delay - now) if self._held else None

    def finish(self, reason: str) -> None:
        """Makes all that is held ready, whatever its age."""
        while self._held:
            self._ready.append(self._cut(reason, whole=True))

    def _cut(self, reason: str, *, whole: bool = False) -> tuple[Piece, str]:
        text = self._text()
        most = text[: self._max_chars]
        end = len(text) if whole and len(text) <= self._max_chars else cut_at(most, self._split) or len(most)
        self._drop(end)
        return Piece(text[:end]), reason

    def _text(self) -> str:
        if len(self._held) > 1:
            # Joined text keeps the age of each part: what stays after a cut is as old as it is, not older.
            return "".join(text for text, _ in self._held)
        return self._held[0][0]

    def _drop(self, count: int) -> None:
        self._size -= count
        while count:
            text, at = self._held.popleft()
            if len(text) > count:
                self._held.appendleft((text[count:], at))
                return
            count -= len(text)


def _reader(read: Callable[[Any], str | None]) -> Read:
    def text(chunk: Any) -> tuple[str, bool]:
        found = read(chunk)
        return ("", False) if found is None else (found, True)

    return text
