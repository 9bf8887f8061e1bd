"""The user's embedder: called once a text, its vectors checked, the last ones remembered."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from seatrace.errors import ConfigError
from seatrace.runtime.cache.steps import Flow, Io, Run

from .index import Vector, unit

Embedder = Callable[[list[str]], Any]
"""Texts to vectors, one each, in order: lists of numbers or an array. May be a coroutine function."""


class Embedding:
    """Vectors of length 1 for texts.

    Args:
        embed: The user's.
        remembered: Vectors that are remembered.
    """

    def __init__(self, embed: Embedder, remembered: int) -> None:
        if not callable(embed):
            raise ConfigError(f"embed: expected a function of a list of texts, got {embed!r}")
        self._embed = embed
        self._remembered = remembered
        self._known: OrderedDict[str, Vector] = OrderedDict()
        self._lock = threading.Lock()
        called = embed if inspect.isroutine(embed) else type(embed).__call__
        self._asynchronous = inspect.iscoroutinefunction(called)

    def vector(self, text: str) -> Flow[Vector]:
        """The vector of one text.

        Raises:
            Exception: What the embedder raised; ``ValueError`` where it returned no vectors.
        """
        with self._lock:
            known = self._known.get(text)
            if known is not None:
                self._known.move_to_end(text)
                return known
        (found,) = yield from self.vectors([text])
        with self._lock:
            self._known[text] = found
            while len(self._known) > self._remembered:
                self._known.popitem(last=False)
        return found

    def vectors(self, texts: Sequence[str]) -> Flow[list[Vector]]:
        """The vectors of many texts, in one call."""
        asked = list(texts)
        if self._asynchronous:
            found = yield Run(lambda: self._embed(asked), "embed")
        else:  # computes, or waits for a network: not in the event loop
            found = yield Io(lambda: self._embed(asked), True)
        if len(found) != len(asked):
            raise ValueError(f"embed: expected {len(asked)} vectors for {len(asked)} texts, got {len(found)}")
        return [unit(each) for each in found]

    def after_fork(self) -> None:
        """In the child: the lock may have been held."""
        self._lock = threading.Lock()
