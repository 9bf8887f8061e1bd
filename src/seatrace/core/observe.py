"""The life of one observed call, and the wrappers that give it one.

The engine follows the value, not the function: the wrapped function runs, and what comes back decides whether the call
is over (a plain value), goes on inside a stream (:mod:`seatrace.core.stream`), or failed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter_ns
from typing import Any

from . import context, guard, pipeline
from .pipeline import Pipeline
from .record import Call, Content
from .shape import Shape, StreamReader

CLOCKS_LIMIT = 50_000
"""Chunks of one stream whose times are kept; a longer stream's later gaps are not recorded (bounded memory)."""


class Observation:
    """One call between begin and end. Ends exactly once, whatever happens to the stream behind it."""

    __slots__ = ("__weakref__", "_clocks", "call", "error_type", "line", "pulling", "reader", "shape", "unparsed")

    def __init__(
        self, call: Call, shape: Shape, line: Pipeline, error_type: Callable[[Call, BaseException], str]
    ) -> None:
        self.call = call
        self.shape = shape
        self.line = line
        self.error_type = error_type
        self.reader: StreamReader | None = None
        self.pulling = False
        """The consumer is waiting for a chunk: a close of the response now comes from the library itself."""
        self._clocks: list[int] = []
        self.unparsed: Any = None
        """A complete response that was not read yet: the library may still refuse to turn it into what the user asked
        for."""

    def returned(self, result: Any) -> None:
        """Ends the call with a complete result."""
        self.unparsed = result
        self.finished()

    def failed(self, error: BaseException) -> None:
        """Ends the call with the caller's exception, which is only looked at."""
        if self.call.ended:
            return
        try:
            self.call.error = error
            self.call.error_type = self.error_type(self.call, error)
        except Exception as fault:
            self.call.error_type = type(error).__name__
            guard.fault("read an error", fault)
        self._finish()
        self.line.end(self.call)
        self.call.error = None  # the exception's traceback holds the caller's frames

    def finished(self) -> None:
        """Ends the call: its stream is exhausted or closed, or there was none. Safe in ``__del__``."""
        if self.call.ended:
            return
        self._finish()
        self.line.end(self.call)

    def closed(self) -> None:
        """The response behind a stream was closed. Within a pull the pull's own outcome decides how the call ended."""
        if not self.pulling:
            self.finished()

    def abandoned(self) -> None:
        """The stream was dropped."""
        self.finished()

    def watch_stream(self) -> None:
        """Prepares for :meth:`tick` and ``reader.chunk``."""
        self.call.stream = True
        self.reader = self.shape.reader(self.call, content=self.line.wants_content)
        pipeline.still_open.add(self)

    def tick(self) -> None:
        """A chunk came."""
        clocks = self._clocks
        clocks.append(perf_counter_ns())
        if len(clocks) > CLOCKS_LIMIT:
            del clocks[-2]

    def _finish(self) -> None:
        """Reads what there is: the complete response, or what the stream's reader has gathered."""
        pipeline.still_open.discard(self)
        call = self.call
        call.ended_clock = perf_counter_ns()
        try:
            if self.unparsed is not None:
                response, self.unparsed = self.unparsed, None
                self.shape.response(call, response)
                if self.line.wants_content:
                    self._content().output_messages = self.shape.response_content(call, response)
        except Exception as error:
            guard.fault("read a response", error)
        if self.reader is None:
            return
        read_clocks(self.call, self._clocks)
        try:
            self.reader.finish()
        except Exception as error:
            guard.fault("read a stream", error)

    def _content(self) -> Content:
        if self.call.content is None:
            self.call.content = Content()
        return self.call.content


def read_clocks(call: Call, clocks: list[int]) -> None:
    """Writes the times of a stream's chunks into its call."""
    if clocks:
        call.first_chunk_clock = clocks[0]
        call.last_chunk_clock = clocks[-1]
        known = clocks if len(clocks) < CLOCKS_LIMIT else clocks[:-1]  # what lies before the last one is not known
        call.gaps = [later - earlier for earlier, later in pairwise(known)]


Begin = Callable[[Pipeline, Any, tuple[Any, ...], dict[str, Any]], "Observation | None"]
"""Looks at a call about to be made: ``begin(pipeline, self, args, kwargs)``. ``None``: not ours to observe."""

Returned = Callable[[Observation, Any], None]
"""Looks at what came back: ends the observation, or sets out to watch the stream in it."""


def observed(begin: Begin, returned: Returned) -> Callable[[Any], Any]:
    """Makes a replacement for a method: a plain function (bound, inspected, copied and pickled as before) that calls
    the original and returns the very object that it returned. Coroutine functions get a coroutine function."""

    def make(original: Any) -> Any:
        def start(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observation | None:
            line = pipeline.current
            if line is None or context.observing() is not None or line.rests():
                return None
            try:
                return begin(line, self, args, kwargs)
            except pipeline.Refused:
                raise
            except Exception as error:
                guard.fault("begin a call", error)
                return None

        async def awaited(observation: Observation, result: Any) -> Any:
            token = _enter(observation)
            try:
                result = await result
            except BaseException as error:
                _leave(observation, token)
                observation.failed(error)
                raise
            _leave(observation, token)
            _settle(observation, result, returned)
            return result

        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def call_async(self: Any, *args: Any, **kwargs: Any) -> Any:
                result = original(self, *args, **kwargs)  # nothing runs yet: a wrong call fails here, as without us
                try:
                    observation = start(self, args, kwargs)
                except BaseException:
                    result.close()
                    raise
                return await (result if observation is None else awaited(observation, result))

            return call_async

        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            observation = start(self, args, kwargs)
            if observation is None:
                return original(self, *args, **kwargs)
            token = _enter(observation)
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                _leave(observation, token)
                observation.failed(error)
                raise
            _leave(observation, token)
            if hasattr(result, "__await__"):  # somebody wrapped a coroutine function in a plain one
                return awaited(observation, result)
            _settle(observation, result, returned)
            return result

        return call

    return make


def _enter(observation: Observation) -> Any:
    mark = context.enter_call(observation.call)
    try:
        return mark, observation.line.emitter.activate(observation.call)
    except Exception as error:
        guard.fault("activate a span", error)
        return mark, None


def _leave(observation: Observation, token: Any) -> None:
    mark, active = token
    try:
        context.leave_call(mark)
    except ValueError:
        return  # a coroutine that was dropped half way ends wherever that is noticed: nothing to take back there
    if active is None:
        return
    try:
        observation.line.emitter.deactivate(active)
    except Exception as error:
        guard.fault("deactivate a span", error)


def _settle(observation: Observation, result: Any, returned: Returned) -> None:
    try:
        returned(observation, result)
    except Exception as error:
        try:
            guard.fault("look at a result", error)
        finally:
            observation.finished()
