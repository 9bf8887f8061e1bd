"""One call of the program's own code: agents, tools, workflows, retrievers. ``core/drive.py`` runs functions as one.

Inside, the call's span is the current one and the call's scope is in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import ReferenceType, ref

from . import context, guard, pipeline
from .context import Run, Scope
from .pipeline import Pipeline
from .record import Call, Content, Kind

Result = Callable[[Call, Any], None]
"""Reads what a step returned into its call; ``None`` where nobody wants to see content."""

Mark = tuple[int, int]
"""A watched object and the method of it that runs."""

_running: ContextVar[ReferenceType[Step] | None] = ContextVar("seatrace_step", default=None)
"""Contexts live longer than steps, and must not keep them."""

_SAID_LIMIT = 1000
"""Values of a generator that are kept for its content."""

pauses: set[type[BaseException]] = set()
"""Exceptions by which a framework stops for an answer or hands over: nothing failed that they pass through."""


def innermost_mark() -> Mark | None:
    """The mark of the step that runs here, ``None`` where that has none."""
    step = innermost()
    return None if step is None else step._mark


def innermost_call() -> Call | None:
    """The call of the step that runs here. A task that was started inside a step may outlive it: it is in none then."""
    step = innermost()
    return None if step is None or step.call.ended else step.call


def handled(error: BaseException | str, kind: Kind) -> None:
    """The step that runs here, of this ``kind``, failed with ``error`` (or a word for it), though its function will
    return: the framework makes words for the model of it."""
    step = innermost()
    if step is not None and step.call.kind == kind:
        step.failed(error)


def innermost() -> Step | None:
    """The step that runs here."""
    step = _running.get()
    return None if step is None else step()


class Step:
    """One call of the program's own code. Enter and leave it as often as its body pauses; end it once."""

    __slots__ = ("__weakref__", "_active", "_line", "_mark", "_scope", "_state", "_tokens", "call", "said")

    def __init__(self, call: Call, line: Pipeline | None, mark: Mark | None = None) -> None:
        self.call = call
        self.said: list[Any] | None = None
        """What a generator has yielded; only where content is wanted."""
        self._line = line
        self._mark = mark
        self._scope: Scope | None = None
        self._tokens: Any = None
        self._active: Any = None
        self._state: Any = None

    @classmethod
    def begin(
        cls, make: Callable[[], Call | None], content: Callable[[], Content] = Content, mark: Mark | None = None
    ) -> Step:
        """Starts a step; one that is not observed (switched off, suppressed, no call made for it) does nothing."""
        line = pipeline.current
        if line is None:
            return cls(make() or nothing(), None)
        try:
            call = make()
            if call is None or line.rests():
                return cls(call or nothing(), None)
            outer = context.current_scope()
            if call.kind in ("agent", "workflow"):
                call.run = run = Run(call.name, outer.run)
                if line.watch_run is not None:
                    run.watch = line.watch_run(call)
                call.agent = call.name
            if line.wants_content:
                call.content = content()
            line.begin(call)
            if call.runs_tool and outer.run is not None and outer.run.watch is not None:
                outer.run.watch.asked(call, call.content or content())
            step = cls(call, line, mark)
            step._scope = _within(call) if call.run is not None else outer
            return step
        except pipeline.Refused:
            raise
        except Exception as error:
            guard.fault("begin a call", error)
            return cls(nothing(), None)

    def enter(self) -> None:
        """Puts scope and span in force."""
        if self._line is None:
            return
        try:
            self._tokens = context.enter_scope(self._scope), _running.set(ref(self))  # type: ignore[arg-type]
            emitter = self._line.emitter
            self._active = emitter.activate(self.call) if self._state is None else emitter.reactivate(self._state)
        except Exception as error:
            guard.fault("activate a span", error)

    def leave(self) -> None:
        """Takes them back, remembering what the body made current in between."""
        if self._line is None or self._tokens is None:
            return
        (scope, running), active, self._tokens, self._active = self._tokens, self._active, None, None
        current = context.current_scope()
        try:
            context.leave_scope(scope)
            _running.reset(running)
        except ValueError:
            return  # entered in one context and left in another: there is nothing of ours to take back there
        self._scope = current
        try:
            if active is not None:
                self._state = self._line.emitter.deactivate(active)
        except Exception as error:
            guard.fault("deactivate a span", error)

    @property
    def live(self) -> bool:
        """Whether it is observed and has not ended."""
        return self._line is not None and not self.call.ended

    @contextmanager
    def around(self) -> Iterator[None]:
        """Scope and span in force for code that runs elsewhere: as often as need be, also at the same time."""
        if self._line is None or self.call.ended:
            yield
            return
        scope, running = context.enter_scope(self._scope), _running.set(ref(self))  # type: ignore[arg-type]
        active = self._line.emitter.activate(self.call)
        try:
            yield
        finally:
            self._line.emitter.deactivate(active)
            try:
                _running.reset(running)
                context.leave_scope(scope)
            except ValueError:  # closed in another context
                pass

    def end(self, error: BaseException | None = None) -> None:
        """Ends the call. One whose generator or coroutine was closed or dropped ends without error; that may be
        noticed by the garbage collector."""
        if self._line is None or self.call.ended:
            return
        if isinstance(error, GeneratorExit):
            self._line.end(self.call)
            return
        if error is not None and self.call.error is None:  # else its cause was noted, which says more
            self.failed(error)
        self._line.end(self.call)
        self.call.error = None

    def failed(self, error: BaseException | str) -> None:
        """Notes what the call failed with."""
        if self.call.ended or isinstance(error, tuple(pauses)):
            return
        if isinstance(error, str):
            self.call.error_type = error
            return
        self.call.error = error
        self.call.error_type = type(error).__qualname__

    def abandon(self) -> None:
        """Ends the call of a generator that was dropped; safe in ``__del__``."""
        if self._line is not None:
            self._line.end(self.call)

    def yielded(self, value: Any) -> None:
        """Notes a value of a generator."""
        if self.call.content is None or self._line is None:
            return
        if self.said is None:
            self.said = []
        if len(self.said) < _SAID_LIMIT:
            self.said.append(value)

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


def _within(call: Call) -> Scope:
    return context.narrowed(agent=call.name, run=call.run, conversation=call.conversation_id)


def nothing() -> Call:
    """Stands in the place of a call that is not observed."""
    return Call("tool", "")
