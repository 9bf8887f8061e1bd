"""Semantic Kernel's orchestrations: a run begins with ``invoke``, which returns at once, and ends with its result.

In between, a runtime hands messages to actors, in tasks that it started before. An actor belongs to the run in which it
was registered.
"""

from __future__ import annotations

import functools
import re
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from seatrace.core import pipeline
from seatrace.core.patch import Patches
from seatrace.core.pipeline import Pipeline
from seatrace.core.record import Call
from seatrace.core.step import Mark, Result, Step, innermost

from ._kernel_messages import asked, said
from ._steps import step, stepped


class _Run(Step):
    """Ends when its result is there and its actors are through with what they were told."""

    __slots__ = ("_busy", "_outcome", "_over", "_read")

    def __init__(self, call: Call, line: Pipeline | None, mark: Mark | None = None) -> None:
        super().__init__(call, line, mark)
        self._outcome: Any = None
        self._read: Result | None = None
        self._busy = 0
        self._over = False

    def result(self, value: Any, read: Result | None) -> None:
        """``invoke`` has returned ``value``, whose event is set when the run is over, however it ended."""
        if self._line is None:
            return
        self._outcome, self._read = value, read
        tell = value.event.set

        def tell_and_end() -> None:
            tell()
            self._over = True
            self._settle()

        value.event.set = tell_and_end

    def end(self, error: BaseException | None = None) -> None:
        """``invoke`` is over: the run only where that failed."""
        if self._outcome is None:
            super().end(error)

    @contextmanager
    def handling(self) -> Iterator[None]:
        """While an actor of it handles a message."""
        self._busy += 1
        try:
            with self.around():
                yield
        finally:
            self._busy -= 1
            self._settle()

    def _settle(self) -> None:
        if self._over and not self._busy:
            pipeline.kept("end a call", self._conclude)

    def _conclude(self) -> None:
        outcome, error = self._outcome, None
        if outcome.value is not None:
            super().result(outcome.value, self._read)
        else:
            error = outcome.exception or CancelledError()
        super().end(error)

    def __del__(self) -> None:
        self.abandon()


_runs: WeakValueDictionary[str, _Run] = WeakValueDictionary()
"""By the type of actor, which has the run's own id in it."""


def orchestrations(module: Any, patches: Patches) -> None:
    """Taps ``agents.orchestration.orchestration_base``."""
    patches.replace(module.OrchestrationBase, "invoke", stepped(_begin, content=asked, read=said, of=_Run))


def _begin(self: Any, *args: Any, **kwargs: Any) -> Call:
    kind = type(self).__name__
    name = kind if re.fullmatch(f"{kind}_[0-9a-f]{{32}}", self.name) else self.name  # one that was made up
    return step("workflow", "semantic_kernel", name)


def registration(module: Any, patches: Patches) -> None:
    """Taps ``agents.runtime.core.base_agent``."""

    def make(original: Any) -> Any:
        body = original.__func__

        @functools.wraps(body)
        async def register(cls: Any, runtime: Any, type: str, *args: Any, **kwargs: Any) -> Any:
            run = innermost()
            if isinstance(run, _Run) and run.live:
                _runs[type] = run
            return await body(cls, runtime, type, *args, **kwargs)

        return classmethod(register)

    patches.replace(module.BaseAgent, "register", make)


def actors(module: Any, patches: Patches) -> None:
    """Taps ``agents.orchestration.agent_actor_base``."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def on_message_impl(self: Any, *args: Any, **kwargs: Any) -> Any:
            run = _runs.get(self.id.type)
            if run is None:
                return await original(self, *args, **kwargs)
            with run.handling():
                return await original(self, *args, **kwargs)

        return on_message_impl

    patches.replace(module.ActorBase, "on_message_impl", make)
