"""Running a function, a coroutine, a generator or a block as one call: agents, tools, workflows, retrievers.

Inside, the call's span is the current one and the call's scope is in force. A generator's body gets both only while it
runs: between two values its consumer sees its own context, so nothing leaks and nothing is detached elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from types import CoroutineType
from typing import Any

from . import context, guard, pipeline
from .context import Run, Scope
from .pipeline import Pipeline
from .record import Call, Content

Result = Callable[[Call, Any], None]
"""Reads what a step returned into its call; ``None`` where nobody wants to see content."""

Mark = tuple[int, int]
"""A watched object and the method of it that runs."""

_mark: ContextVar[Mark | None] = ContextVar("seatrace_step", default=None)

innermost_mark = _mark.get
"""The mark of the step that runs here, ``None`` where that has none."""


class Step:
    """One call of the program's own code. Enter and leave it as often as its body pauses; end it once."""

    __slots__ = ("_active", "_line", "_mark", "_scope", "_state", "_tokens", "call")

    def __init__(self, call: Call, line: Pipeline | None, mark: Mark | None = None) -> None:
        self.call = call
        self._line = line
        self._mark = mark
        self._scope: Scope | None = None
        self._tokens: Any = None
        self._active: Any = None
        self._state: Any = None

    @classmethod
    def begin(
        cls, make: Callable[[], Call], content: Callable[[], Content] = Content, mark: Mark | None = None
    ) -> Step:
        """Starts a step; one that is not observed (switched off, suppressed) does nothing."""
        line = pipeline.current
        if line is None:
            return cls(make(), None)
        try:
            call = make()
            if line.rests():
                return cls(call, None)
            outer = context.current_scope()
            if call.kind in ("agent", "workflow"):
                call.run = run = Run(call.name, outer.run)
                if line.watch_run is not None:
                    run.watch = line.watch_run(call)
                call.agent = call.name
            if line.wants_content:
                call.content = content()
            line.begin(call)
            if call.kind == "tool" and outer.run is not None and outer.run.watch is not None:
                outer.run.watch.asked(call, call.content or content())
            step = cls(call, line, mark)
            step._scope = context.narrowed(agent=call.name, run=call.run) if call.run is not None else outer
            return step
        except pipeline.Refused:
            raise
        except Exception as error:
            guard.fault("begin a call", error)
            return cls(Call("tool", ""), None)

    def enter(self) -> None:
        """Puts scope and span in force."""
        if self._line is None:
            return
        try:
            self._tokens = context.enter_scope(self._scope), _mark.set(self._mark)  # type: ignore[arg-type]
            emitter = self._line.emitter
            self._active = emitter.activate(self.call) if self._state is None else emitter.reactivate(self._state)
        except Exception as error:
            guard.fault("activate a span", error)

    def leave(self) -> None:
        """Takes them back, remembering what the body made current in between."""
        if self._line is None or self._tokens is None:
            return
        (scope, mark), active, self._tokens, self._active = self._tokens, self._active, None, None
        current = context.current_scope()
        try:
            context.leave_scope(scope)
            _mark.reset(mark)
        except ValueError:
            return  # entered in one context and left in another: there is nothing of ours to take back there
        self._scope = current
        try:
            if active is not None:
                self._state = self._line.emitter.deactivate(active)
        except Exception as error:
            guard.fault("deactivate a span", error)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the call. One whose generator or coroutine was closed or dropped ends without error; that may be
        noticed by the garbage collector."""
        if self._line is None or self.call.ended:
            return
        if isinstance(error, GeneratorExit):
            pipeline.abandon(self._line, self.call)
            return
        if error is not None:
            self.call.error = error
            self.call.error_type = type(error).__qualname__
        self._line.end(self.call)
        self.call.error = None

    def abandon(self) -> None:
        """Ends the call of a generator that was dropped; safe in ``__del__``."""
        if self._line is not None:
            pipeline.abandon(self._line, self.call)

    def result(self, value: Any, read: Result | None) -> None:
        """Shows the result to ``read``, where content is wanted."""
        if read is None or self._line is None or self.call.content is None:
            return
        try:
            read(self.call, value)
        except Exception as error:
            guard.fault("read a response", error)

    def __enter__(self) -> Step:
        self.enter()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.leave()
        self.end(error)


# --- bodies that pause ------------------------------------------------------------------------------------------------
#
# The body is made when the function is called, so that wrong arguments fail there, and begins as a step when it first
# runs: a coroutine or generator that nobody starts is no call.

Start = Callable[[], Step]

_SAID_LIMIT = 1000
"""Values of a generator that are kept for its content."""


class Held:
    """The body of a driver. If that is dropped before it ran, a coroutine is closed (one warning of a coroutine that
    was never awaited is enough) and a step that has begun already ends."""

    __slots__ = ("body", "step")

    def __init__(self, body: Any, step: Step | None = None) -> None:
        self.body = body
        self.step = step

    def __del__(self) -> None:
        if isinstance(self.body, CoroutineType):
            self.body.close()
        if self.step is not None:
            self.step.abandon()


async def run_coroutine(held: Held, start: Start, read: Result | None) -> Any:
    """Awaits a coroutine as a step."""
    step = held.step or start()
    step.enter()
    try:
        result = await held.body
    except BaseException as error:
        step.leave()
        step.end(error)
        raise
    step.leave()
    step.result(result, read)
    step.end()
    return result


def run_generator(held: Held, start: Start, read: Result | None) -> Generator[Any, Any, Any]:
    """Drives a generator as one step, from its first value to its end."""
    step, body = held.step or start(), held.body
    said: list[Any] | None = [] if read is not None and step.call.content is not None else None
    resume, value = body.send, None
    try:
        while True:
            step.enter()
            try:
                item = resume(value)
            except StopIteration as stop:
                step.leave()
                step.result(said, read)
                step.end()
                return stop.value
            finally:
                step.leave()
            if said is not None and len(said) < _SAID_LIMIT:
                said.append(item)
            try:
                value = yield item
                resume = body.send
            except BaseException as error:  # thrown in, or GeneratorExit of a close: the body decides
                resume, value = body.throw, error
    except BaseException as error:
        value = None  # its traceback holds this frame
        _let_go(error)
        step.end(error)
        raise


async def run_async_generator(held: Held, start: Start, read: Result | None) -> AsyncGenerator[Any, Any]:
    """Drives an asynchronous generator as one step."""
    step, body = held.step or start(), held.body
    said: list[Any] | None = [] if read is not None and step.call.content is not None else None
    resume, value = _first_of(body), None
    try:
        while True:
            step.enter()
            try:
                item = await resume(value)
            except StopAsyncIteration:
                step.leave()
                step.result(said, read)
                step.end()
                return
            finally:
                step.leave()
            if said is not None and len(said) < _SAID_LIMIT:
                said.append(item)
            try:
                value = yield item
                resume = body.asend
            except BaseException as error:
                resume, value = body.athrow, error
    except BaseException as error:
        value = None
        _let_go(error)
        step.end(error)
        raise


def _let_go(error: BaseException) -> None:
    """A body that is closed lets go of its streams before its own call ends, so that they still count into it."""
    if isinstance(error, GeneratorExit):
        error.__traceback__ = None


def _first_of(body: Any) -> Callable[[Any], Any]:
    """``body.asend`` for the first time, without the event loop's hooks: the loop knows the driver alone, and would
    else close the body behind its back when it ends."""

    def asend(value: Any) -> Any:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            return body.asend(value)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    return asend
