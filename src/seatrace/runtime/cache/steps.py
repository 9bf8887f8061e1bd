"""A flow of a cache is written once, as a generator of steps; thin drivers take the steps for synchronous and for
asynchronous programs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from seatrace.errors import ConfigError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Io:
    """``work()`` may wait for a disk or a network, or take long: an event loop leaves it to a thread."""

    work: Callable[[], Any]
    blocking: bool


@dataclass(frozen=True)
class Run:
    """``work()`` may be a coroutine function."""

    work: Callable[[], Any]
    what: str
    """What it is, for the error where a synchronous program gave a coroutine function."""


@dataclass(frozen=True)
class Sleep:
    """Nothing for so long."""

    seconds: float


Step = Io | Run | Sleep
Flow = Generator[Step, Any, _T]


def run_sync(flow: Flow[_T]) -> _T:
    """Takes the steps of ``flow`` here."""
    try:
        step = next(flow)
        while True:
            try:
                result = _take(step)
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        value: _T = stop.value
        return value


async def run_async(flow: Flow[_T]) -> _T:
    """Takes the steps of ``flow`` in the running event loop."""
    try:
        step = next(flow)
        while True:
            try:
                result = await _await(step)
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        value: _T = stop.value
        return value


def _take(step: Step) -> Any:
    if isinstance(step, Sleep):
        time.sleep(step.seconds)
        return None
    result = step.work()
    if hasattr(result, "__await__"):
        close = getattr(result, "close", None)
        if close is not None:
            close()
        what = step.what if isinstance(step, Run) else "work"
        raise ConfigError(f"{what}: expected a plain function here, got a coroutine function; use the async method")
    return result


async def _await(step: Step) -> Any:
    if isinstance(step, Sleep):
        await asyncio.sleep(step.seconds)
        return None
    result = await asyncio.to_thread(step.work) if isinstance(step, Io) and step.blocking else step.work()
    if hasattr(result, "__await__"):
        awaited: Awaitable[Any] = result
        return await awaited
    return result
