"""The streams of agent-framework: each pull of a value runs within the call, which begins with the first one."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ._models import ModelCall


class Pulls:
    """Stands around the pulls of one stream. The stream refers to it and not the other way, so that one which is
    dropped ends its call."""

    def __init__(self, stream: Any, start: Callable[[], Any], read: Any) -> None:
        self._stream = weakref.ref(stream)
        self._start = start
        self._read = read
        self._step: Any = None

    @classmethod
    def of(cls, stream: Any, start: Callable[[], Any], read: Any) -> Any:
        """Watches ``stream`` and returns it; anything that is not one is returned as it is."""
        if not hasattr(stream, "with_pull_context_manager"):
            return stream
        pulls = cls(stream, start, read)
        stream.with_pull_context_manager(lambda: pulls)  # after the framework's own: inside of its span
        stream._cleanup_hooks.insert(0, pulls.finished)  # before the framework's own, which ends its span
        weakref.finalize(stream, pulls.dropped)
        return stream

    def __enter__(self) -> None:
        if self._step is None:
            self._step = self._start()
        self._step.enter()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        stream = self._stream()
        if kind is None and isinstance(self._step, ModelCall) and stream is not None and stream._iterator is not None:
            self._step.yielded(None)  # a value came; else the stream was only made
        self._step.leave()

    def finished(self) -> None:
        """Ends the call with what the stream has yielded, or with its error."""
        stream, step = self._stream(), self._step
        if stream is None or step is None:
            return
        error = stream._stream_error
        if error is None:
            step.result(list(stream.updates), self._read)
        step.end(error)

    def dropped(self) -> None:
        """Ends the call of a stream that nobody reads any more."""
        if self._step is not None:
            self._step.abandon()
