"""Agents, tools, workflows and retrievers as functions and blocks: ``@seatrace.agent`` and its kin.

Each works bare (``@seatrace.tool``), with arguments (``@seatrace.tool("search")``) and as a block
(``with seatrace.tool("search"):``, ``async with`` alike), on functions, coroutine functions, generators, asynchronous
generators and methods. What the function returns, raises or yields is unchanged; its signature, docstring and pickling
stay as they are.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast, overload

from wrapt import BoundFunctionWrapper, FunctionWrapper

from seatrace.core import pipeline
from seatrace.core.drive import drive_body, driver_of, follow_result
from seatrace.core.record import Call, Content, Kind
from seatrace.core.step import Mark, Step, innermost_mark

_F = TypeVar("_F", bound=Callable[..., Any])


class Observed:
    """A decorator and a block at once. A block may be used again, also within itself and by other threads and tasks."""

    def __init__(self, kind: Kind, operation: str, name: str | None, **details: Any) -> None:
        self._kind: Kind = kind
        self._operation = operation
        self._name = name
        self._details = details
        self._blocks: Blocks[Step] = Blocks()

    def __call__(self, function: _F) -> _F:
        """Decorates ``function``; its name is the default for the call's."""
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        if isinstance(function, type) or not callable(function):
            came = f"the class {function.__name__}" if isinstance(function, type) else repr(function)
            raise TypeError(
                f"@seatrace.{self._word}: expected a function, got {came}. "
                f"Decorate the methods of a class, or watch its objects with seatrace.watch()."
            )
        return cast(_F, observed(function, self))

    def __enter__(self) -> Step:
        if self._kind == "tool" and self._name is None:
            raise TypeError("with seatrace.tool(...): expected the tool's name, as in seatrace.tool('search')")
        step = Step.begin(lambda: self._call(self._name))
        self._blocks.push(step)
        return step.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._blocks.pop().__exit__(kind, error, trace)

    async def __aenter__(self) -> Step:
        return self.__enter__()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.__exit__(kind, error, trace)

    @property
    def _word(self) -> str:
        return "retriever" if self._kind == "retrieval" else self._kind

    def _call(self, name: str | None, description: str | None = None) -> Call:
        call = Call(self._kind, self._operation, "seatrace", name=name, **self._details)
        if call.description is None:
            call.description = description
        return call


_T = TypeVar("_T")


class Blocks(Generic[_T]):
    """What belongs to the runs of one ``with`` block that are open: in threads, in tasks, within itself."""

    def __init__(self) -> None:
        self._open: list[tuple[Any, _T]] = []

    def push(self, one: _T) -> None:
        """A run begins."""
        self._open.append((_here(), one))

    def pop(self) -> _T:
        """The latest run of this thread or task ends; of any, where it was entered in another task."""
        here, taken = _here(), self._open
        place = next((at for at in reversed(range(len(taken))) if taken[at][0] == here), -1)
        return taken.pop(place)[1]


def _here() -> Any:
    """The thread or task that runs."""
    asyncio = sys.modules.get("asyncio")
    try:
        return (asyncio and asyncio.current_task()) or threading.get_ident()
    except RuntimeError:
        return threading.get_ident()


@overload
def agent(name: _F) -> _F: ...
@overload
def agent(
    name: str | None = None,
    *,
    description: str | None = None,
    max_steps: int | None = None,
    max_cost: float | None = None,
) -> Observed: ...
def agent(
    name: Any = None,
    *,
    description: str | None = None,
    max_steps: int | None = None,
    max_cost: float | None = None,
) -> Any:
    """An agent: a model drives the control flow. Span ``invoke_agent {name}``, with the roll-up of its run: model
    calls, tool calls, steps, tokens and cost, sub-agents included (each call is still counted once in the metrics).
    ``max_steps`` (model calls of its own) and ``max_cost`` (USD, sub-agents included) say what a run may take, in place
    of the settings ``max_steps`` and ``max_run_cost``; the setting ``on_runaway`` says what happens beyond."""
    return _made("agent", "invoke_agent", name, description=description, max_steps=max_steps, max_cost=max_cost)


@overload
def workflow(name: _F) -> _F: ...
@overload
def workflow(name: str | None = None, *, description: str | None = None) -> Observed: ...
def workflow(name: Any = None, *, description: str | None = None) -> Any:
    """A workflow: the program drives the control flow. Span ``invoke_workflow {name}``, rolled up like an agent's."""
    return _made("workflow", "invoke_workflow", name, description=description)


@overload
def tool(name: _F) -> _F: ...
@overload
def tool(
    name: str | None = None, *, description: str | None = None, tool_type: str = "function", call_id: str | None = None
) -> Observed: ...
def tool(
    name: Any = None, *, description: str | None = None, tool_type: str = "function", call_id: str | None = None
) -> Any:
    """A tool execution. Span ``execute_tool {name}``. Arguments and result are content: recorded only where content
    is captured. ``description`` defaults to the first paragraph of the docstring; ``call_id`` is the model's id of the
    tool call, for the block form."""
    return _made("tool", "execute_tool", name, description=description, tool_type=tool_type, tool_call_id=call_id)


@overload
def retriever(name: _F) -> _F: ...
@overload
def retriever(name: str | None = None, *, top_k: int | None = None) -> Observed: ...
def retriever(name: Any = None, *, top_k: int | None = None) -> Any:
    """A retrieval. Span ``retrieval {name}``; the name is the data source. Query and documents are content."""
    return _made("retrieval", "retrieval", name, top_k=top_k)


def _made(kind: Kind, operation: str, name: Any, **details: Any) -> Any:
    if name is None or isinstance(name, str):
        return Observed(kind, operation, name, **details)
    return Observed(kind, operation, None, **details)(name)


# --- functions ------------------------------------------------------------------------------------------------------


class WrappedMethod(BoundFunctionWrapper):  # type: ignore[type-arg]
    """Copies and pickles as the bound method that it stands for."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        from copy import deepcopy

        return getattr(deepcopy(self.__self__, memo), self.__name__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return getattr, (self.__self__, self.__name__)


class WrappedFunction(FunctionWrapper):  # type: ignore[type-arg]
    """Copies and pickles as the function that it stands for: by name where it has one, else as ``_self_again`` says."""

    # No annotation in here: the class's would stand before the function's.
    __bound_function_wrapper__ = WrappedMethod

    def __init__(self, function: Any, wrapper: Any, again: tuple[Any, ...]) -> None:
        """``again``: a function and its arguments after the wrapped function, which make the wrapper again."""
        super().__init__(function, wrapper)
        self._self_again = again

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        function = self.__wrapped__
        name = getattr(function, "__qualname__", "")
        found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self or found is None:
            return name
        again, *details = self._self_again
        return again, (function, *details)


class ObservedMethod(WrappedMethod):
    """A method that is a step."""


class ObservedFunction(WrappedFunction):
    """A function that is a step."""

    __bound_function_wrapper__ = ObservedMethod


def _again(function: Any, kind: Kind, operation: str, name: str | None, details: dict[str, Any]) -> Any:
    return Observed(kind, operation, name, **details)(function)


Watched = Callable[[Any], "Observed | None"]


def observed(function: Any, observe: Observed, watched: Watched | None = None) -> Any:
    """``function`` observed as ``observe`` says; with ``watched``, where that knows the object whose method it is."""
    name = observe._name or name_of_function(function)
    drive, names, read = driver_of(function), _parameter_names(function), _RESULTS[observe._kind]
    is_method = inspect.isfunction(function)
    described = observe._kind == "tool" and inspect.isroutine(function) and function.__doc__
    description = inspect.cleandoc(function.__doc__).split("\n\n")[0] if described else None

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if pipeline.current is None:
            return wrapped(*args, **kwargs)
        given: Observed | None = observe
        mark: Mark | None = None
        if watched is not None:
            given, mark = watched(instance), (id(instance), id(wrapper))
            around = innermost_mark()
            # A method of the same object that this one is a part of is no run of its own; recursion is.
            if given is None or (around is not None and around[0] == mark[0] and around[1] != mark[1]):
                return wrapped(*args, **kwargs)

        def start() -> Step:
            chosen = given or observe
            bound = is_method and instance is not None
            return Step.begin(
                lambda: chosen._call(chosen._name or name, description),
                lambda: _asked(observe._kind, names, bound, args, kwargs),
                mark,
            )

        if drive is not None:
            return drive_body(drive, wrapped(*args, **kwargs), start, read)
        step = start()
        step.enter()
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            step.leave()
            step.end(error)
            raise
        step.leave()
        return follow_result(result, step, start, read)

    again = (_again, observe._kind, observe._operation, observe._name, observe._details)
    return ObservedFunction(function, wrapper, again)


def name_of_function(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _parameter_names(function: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


# --- what goes in and comes out -------------------------------------------------------------------------------------


def _asked(kind: Kind, names: tuple[str, ...], bound: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Content:
    if bound:
        names = names[1:]
    elif names[:1] == ("cls",):  # from 3.13 on, a classmethod around us passes the class like any argument
        names, args = names[1:], args[1:]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if kind == "tool":
        return Content(tool_arguments=given)
    words = next((value for value in given.values() if isinstance(value, str)), None)
    if kind == "retrieval":
        return Content(query=words)
    if words is None:
        return Content()
    return Content(input_messages=[{"role": "user", "parts": [{"type": "text", "content": words}]}])


def _said(call: Call, value: Any) -> None:
    words = "".join(value) if isinstance(value, list) and all(isinstance(each, str) for each in value) else value
    if isinstance(words, str) and call.content is not None:
        call.content.output_messages = [{"role": "assistant", "parts": [{"type": "text", "content": words}]}]


def _returned(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = value


def _found(call: Call, value: Any) -> None:
    if call.content is not None and isinstance(value, list):
        call.content.documents = [each if isinstance(each, dict) else {"content": str(each)} for each in value]


_RESULTS: dict[str, Any] = {"agent": _said, "workflow": _said, "tool": _returned, "retrieval": _found}
