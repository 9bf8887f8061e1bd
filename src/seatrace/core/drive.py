"""Running a function, a coroutine or a generator as one step (:mod:`seatrace.core.step`), or as what behaves like one.

A generator's body gets span and scope only while it runs: between two values its consumer sees its own context, so
nothing leaks and nothing is detached elsewhere. The body is made when the function is called, so that wrong arguments
fail there, and begins as a step when it first runs: a coroutine or generator that nobody starts is no call.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from .step import Result, Step

Start = Callable[[], Any]
"""Begins a step, or what behaves like one."""


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
    """Awaits a coroutine as a step. One that returns a generator goes on until that ends."""
    step = held.step or start()
    step.enter()
    try:
        result = await held.body
    except BaseException as error:
        step.leave()
        step.end(error)
        raise
    step.leave()
    if type(result) in (GeneratorType, AsyncGeneratorType):
        return follow_result(result, step, start, read)
    step.result(result, read)
    step.end()
    return result


def run_generator(held: Held, start: Start, read: Result | None) -> Generator[Any, Any, Any]:
    """Drives a generator as one step, from its first value to its end."""
    step, body = held.step or start(), held.body
    resume, value = body.send, None
    try:
        while True:
            step.enter()
            try:
                item = resume(value)
            except StopIteration as stop:
                step.leave()
                step.result(step.said, read)
                step.end()
                return stop.value
            finally:
                step.leave()
            step.yielded(item)
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
    resume, value = _first_of(body), None
    try:
        while True:
            step.enter()
            try:
                item = await resume(value)
            except StopAsyncIteration:
                step.leave()
                step.result(step.said, read)
                step.end()
                return
            finally:
                step.leave()
            step.yielded(item)
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


def drive_body(drive: Any, body: Any, start: Callable[[], Any], read: Any = None) -> Any:
    """The coroutine or generator ``body``, driven as the step (or what behaves like one) that ``start`` begins."""
    return _named(drive(Held(body), start, read), body)


def follow_result(result: Any, step: Any, start: Callable[[], Any], read: Any = None) -> Any:
    """Ends ``step`` with what its function returned; or goes on watching that, where it is a body that pauses or a
    future."""
    follow = _FOLLOWED.get(type(result))
    if follow is not None:
        return _named(follow(Held(result, step), start, read), result)
    if hasattr(result, "add_done_callback"):
        _follow_future(result, step, read)
        return result
    step.result(result, read)
    step.end()
    return result


_FOLLOWED: dict[type, Any] = {
    CoroutineType: run_coroutine,
    GeneratorType: run_generator,
    AsyncGeneratorType: run_async_generator,
}
"""What a plain function may return instead of a result, and who goes on watching that."""


def driven(original: Any, starter: Callable[[Any, Any], Start | None], read: Any = None) -> Any:
    """A plain function to stand in the place of ``original``, a method or function: its calls run as steps. Coroutine
    functions get a coroutine function.

    ``starter(args, kwargs)`` returns what begins the step of one call; ``None``: that one is not observed.
    """
    drive = driver_of(original)
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            body = original(*args, **kwargs)  # nothing runs yet: a wrong call fails here, as without us
            start = starter(args, kwargs)
            return await (body if start is None else run_coroutine(Held(body), start, read))

        return call_async

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = starter(args, kwargs)
        if start is None:
            return original(*args, **kwargs)
        if drive is not None:
            return drive_body(drive, original(*args, **kwargs), start, read)
        step = start()
        step.enter()
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            step.leave()
            step.end(error)
            raise
        step.leave()
        return follow_result(result, step, start, read)

    return call


def driver_of(function: Any) -> Any:
    """What runs the bodies that a function makes; ``None`` for a plain function."""
    if inspect.isasyncgenfunction(function):
        return run_async_generator
    if inspect.iscoroutinefunction(function):
        return run_coroutine
    if inspect.isgeneratorfunction(function):
        return run_generator
    return None


def _named(driver: Any, body: Any) -> Any:
    """``driver`` under the name that the program knows: in warnings, tracebacks and ``repr``."""
    try:
        driver.__name__, driver.__qualname__ = body.__name__, body.__qualname__
    except AttributeError:
        pass
    return driver


def _follow_future(future: Any, step: Step, read: Any) -> None:
    def done(future: Any) -> None:
        try:
            error = future.exception()
        except BaseException as cancelled:
            error = cancelled
        if error is None:
            step.result(future.result(), read)
        step.end(error)

    try:
        future.add_done_callback(done)
    except Exception:  # not a future after all
        step.end()
