"""A framework's model call where no client that we observe makes it: a model of its own, a client unknown to us.

Most frameworks call their models through clients that are observed themselves; then the client's call is the one that
counts, and the framework's is not told, nor even made. Only when nothing has gone out through one by its end (a stream:
by its first chunk), the framework's call is the call: with the usage that the framework was given.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns, time_ns
from typing import Any

from seatrace.core import context, guard, pipeline
from seatrace.core.context import Run
from seatrace.core.drive import driven
from seatrace.core.observe import CLOCKS_LIMIT, read_clocks
from seatrace.core.pipeline import Pipeline
from seatrace.core.record import Call, Content
from seatrace.core.step import nothing

from ._steps import no_content

Begin = Callable[..., Call]
Read = Callable[[Call, Any], Any]
"""Reads an answer or a chunk. ``True`` of a chunk: nothing is to come after it, the call ends before the framework gets
it (and ends its own span, which ours may be told in)."""


class ModelCall:
    """One such call between begin and end. Behaves like a :class:`~seatrace.core.step.Step`, whose drivers run it."""

    said = None

    def __init__(self, make: Callable[[], Call], line: Pipeline | None, chunk: Read | None) -> None:
        self._make = make
        self._call: Call | None = None
        self._line = line
        self._chunk = chunk
        self._token: Any = None
        self._clocks: list[int] = []
        self._begun = False
        self._at = time_ns(), perf_counter_ns()
        self._run: Run | None = None
        self.over = False

    @classmethod
    def begin(cls, make: Callable[[], Call], content: Callable[[], Content], chunk: Read | None) -> ModelCall:
        """Starts one; within a call that is observed already, or another of this kind, it does nothing.

        Raises:
            Refused: A gate does not let it happen.
        """
        line = pipeline.current
        if line is None or context.observing() is not None or context.outer_call() is not None or line.rests():
            return cls(nothing, None, None)
        try:
            made = cls(make, line, chunk)
            if line.wants_content or pipeline.gates:  # they look at it now
                made._call = call = make()
                if line.wants_content:
                    call.content = content()
                line.admit(call)
            made._run = context.current_scope().run
            if made._run is not None:
                made._run.spends("model", made._at[1])
            return made
        except pipeline.Refused:
            raise
        except Exception as error:
            guard.fault("begin a call", error)
        return cls(nothing, None, None)

    @property
    def call(self) -> Call:
        """What is told, made when it is asked for."""
        if self._call is None:
            try:
                self._call = self._make()
            except Exception as error:
                guard.fault("begin a call", error)
                self._call = nothing()
                self._withdraw()
        return self._call

    def taken(self) -> None:
        """A client that is observed makes the call: it is told there, and the gates are asked there."""
        if not self._begun:
            self._withdraw()

    def _withdraw(self) -> None:
        if self._line is None:
            return
        self._let_go()
        if self._call is not None:
            pipeline.withdraw(self._call)
        if self._run is not None:
            self._run.spent("model", perf_counter_ns())

    def _let_go(self) -> None:
        """Contexts live longer than calls, and must not keep what was asked."""
        self._line, self._make = None, nothing

    def enter(self) -> None:
        """What goes out from here on is a part of this call."""
        if self._line is not None:
            self._token = context.enter_outer(self)

    def leave(self) -> None:
        """Takes that back."""
        token, self._token = self._token, None
        if token is not None:
            try:
                context.leave_outer(token)
            except ValueError:  # entered in one context and left in another
                pass

    def yielded(self, value: Any) -> None:
        """A chunk came, and through no client of ours."""
        if self._line is None:
            return
        self._clocks.append(perf_counter_ns())
        if len(self._clocks) > CLOCKS_LIMIT:
            del self._clocks[-2]
        try:
            if self._tell():
                self.call.stream = True
                if self._chunk is not None and self._chunk(self.call, value):
                    self.end()
        except Exception as error:
            guard.fault("read a stream", error)

    def result(self, value: Any, read: Read | None) -> None:
        """The complete answer."""
        if self._line is None or value is None or read is None:
            return
        try:
            read(self.call, value)
        except Exception as error:
            guard.fault("read a response", error)

    def end(self, error: BaseException | None = None) -> None:
        """Tells the call, if it is this one."""
        self.over = True
        line = self._line
        if line is None:
            return
        if isinstance(error, GeneratorExit):
            self.abandon()
            return
        call = self.call
        if error is not None:
            call.error = error
            call.error_type = type(error).__qualname__
        if self._tell():
            if call.stream:
                read_clocks(call, self._clocks)
            line.end(call)
            self._let_go()
        else:
            self._withdraw()
        call.error = None

    def abandon(self) -> None:
        """Ends a call whose stream was dropped; one without a chunk was none. Safe in ``__del__``."""
        self.over = True
        line = self._line
        if line is None:
            return
        if self._begun:
            self._let_go()
            read_clocks(self.call, self._clocks)
            line.end(self.call)
        else:
            self._withdraw()

    def _tell(self) -> bool:
        call = self.call
        if self._begun or self._line is None:
            return self._begun
        try:
            self._line.begin(call, at=self._at)
            self._begun = True
        except Exception as error:
            guard.fault("begin a call", error)
        return self._begun


def model_call(
    begin: Begin, *, content: Callable[..., Content] = no_content, read: Read | None = None, chunk: Read | None = None
) -> Any:
    """Makes a replacement for the method of a framework that calls a model.

    Args:
        begin: Makes the call (``Call("inference", "chat", library, request_model=…, provider=…)``) from the method's
            arguments, ``self`` first; at its begin, or when it turns out that nobody else tells it.
        content: The request's messages, from the same arguments; asked only where content is captured.
        read: Reads the complete answer: usage, finish reasons, response id and model; where ``call.content`` is not
            ``None`` its ``output_messages``, too.
        chunk: Reads one value of a generator in the same way.
    """

    def make(original: Any) -> Any:
        def starter(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any] | None:
            if pipeline.current is None:
                return None
            return lambda: ModelCall.begin(lambda: begin(*args, **kwargs), lambda: content(*args, **kwargs), chunk)

        return driven(original, starter, read)

    return make
