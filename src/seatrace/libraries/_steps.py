"""A framework's own methods as steps: agents' runs, workflows, plans, tools, retrievals.

Each is tapped at one method through which every use of it goes. The method is replaced by a plain function on its class
(:mod:`seatrace.core.patch`); what it returns, raises or yields stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seatrace.core import guard, pipeline
from seatrace.core.drive import driven
from seatrace.core.record import Call, Content, Kind
from seatrace.core.step import Result, Step, innermost_mark

Begin = Callable[..., "Call | None"]
"""Is given the very arguments of the method, ``self`` first; ``None``: this one is not observed."""

_OPERATIONS: dict[Kind, str] = {
    "agent": "invoke_agent",
    "workflow": "invoke_workflow",
    "plan": "plan",
    "tool": "execute_tool",
    "retrieval": "retrieval",
}


def step(kind: Kind, library: str, name: Any, **details: Any) -> Call:
    """A call of a framework: agent, workflow, plan, tool or retrieval. Only a ``name`` that is a string is one."""
    if kind == "tool":
        details.setdefault("tool_type", "function")
    return Call(kind, _OPERATIONS[kind], library, name=name if isinstance(name, str) and name else None, **details)


def no_content(*args: Any, **kwargs: Any) -> Content:
    """Nothing, whatever the arguments are."""
    return Content()


class _Judged(Step):
    """A step whose framework may keep a failure to itself: at its end it is asked what became of it."""

    __slots__ = ("outcome", "value")

    outcome: Callable[[Call, Any], None]

    def result(self, value: Any, read: Result | None) -> None:
        """Keeps it for the end."""
        self.value = value
        super().result(value, read)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the call."""
        kept_back = error is None or isinstance(error, GeneratorExit)
        if kept_back and self._line is not None and not self.call.ended:
            try:
                self.outcome(self.call, getattr(self, "value", None))
            except Exception as fault:
                guard.fault("read a response", fault)
        super().end(error)


def stepped(
    begin: Begin,
    *,
    content: Callable[..., Content] = no_content,
    read: Result | None = None,
    of: type[Step] = Step,
    own: bool = False,
    outcome: Callable[..., None] | None = None,
) -> Any:
    """Makes a replacement for a method, static method, class method or function, which runs as the step that ``begin``
    makes a call for.

    A method of the same object within it is a part of it (``run_sync`` that calls ``run``) and no step of its own; the
    same method again is (recursion).

    Args:
        begin: Makes the call.
        content: The messages, arguments or query of the call, from the same arguments; asked only where content is
            captured or loops are looked for.
        read: Reads what the method returned, of a generator the list of its values, into the call; asked only where
            content is captured. It sets ``call.content.output_messages``, ``tool_result`` or ``documents``.
        own: A step of its own within another method of the same object, too: an agent's plan within its run.
    """

    def make(original: Any) -> Any:
        if isinstance(original, (staticmethod, classmethod)):
            return type(original)(make(original.__func__))

        def starter(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Step] | None:
            if pipeline.current is None:
                return None
            mark = (id(args[0]) if args else 0, id(original))
            around = None if own else innermost_mark()
            if around is not None and around[0] == mark[0] and around[1] != mark[1]:
                return None

            def start() -> Step:
                kind = of if outcome is None else _Judged
                step = kind.begin(lambda: begin(*args, **kwargs), lambda: content(*args, **kwargs), mark)
                if outcome is not None and isinstance(step, _Judged):
                    step.outcome = lambda call, value: outcome(call, value, *args, **kwargs)
                return step

            return start

        return driven(original, starter, read)

    return make
