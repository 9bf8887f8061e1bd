"""The end of the process: what was recorded goes out, however the process ends, and nobody waits long for it."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, Protocol

from .core import guard

PATIENCE = 5.0
"""Seconds that the end of the process waits for a collector."""

Task = Callable[[], object]


class Ending(Protocol):
    """What there is to do at the end."""

    def prepare(self) -> None:
        """Comes first."""

    def tasks(self) -> Sequence[Task]:
        """May take their time, and are independent of each other."""

    def close(self) -> None:
        """Comes last, where nothing follows."""


def at_once(tasks: Sequence[Task], timeout: float) -> bool:
    """Runs ``tasks`` beside each other, and goes on without those that take longer than ``timeout`` seconds.

    Returns:
        Whether all ended in time, without an exception and with another result than ``False``.
    """
    return _Crew(len(tasks)).run(tasks, timeout)


class _Crew:
    """Threads that wait for tasks. Made early: from 3.12 on no thread can be started while Python ends."""

    def __init__(self, size: int) -> None:
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._results: SimpleQueue[bool] = SimpleQueue()
        self._size = 0
        try:
            while self._size < size:
                threading.Thread(target=self._work, name="seatrace-flush", daemon=True).start()
                self._size += 1
        except RuntimeError:  # too late for threads: the rest is done without
            pass

    def run(self, tasks: Sequence[Task], timeout: float) -> bool:
        deadline = monotonic() + timeout
        for task in tasks:
            self._tasks.put(task)
        for _ in range(self._size or 1):
            self._tasks.put(None)
        if not self._size:
            self._work()
        done = True
        try:
            for _ in tasks:
                done = self._results.get(timeout=max(0.0, deadline - monotonic())) and done
        except Empty:
            return False
        return done

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                done = task() is not False
            except Exception as error:
                done = False
                guard.logger.warning("seatrace could not flush: %s: %s", type(error).__name__, error)
            self._results.put(done)


_HANDS = 3
"""Threads kept ready for the end: one a signal."""

_ending: Ending | None = None
_crew: _Crew | None = None
_watching = False


def watch(ending: Ending) -> None:
    """Does what ``ending`` says when the process ends: normally, by SIGTERM, or as a worker of multiprocessing.

    The program's own handler of SIGTERM, set before or after, stays; Python's default still ends the process by that
    signal. Only the main thread can set handlers: elsewhere SIGTERM is left alone.
    """
    global _ending, _watching
    _ending = ending
    _watch_sigterm()
    if _watching:
        return
    _watching = True
    atexit.register(_at_exit)
    try:
        threading._register_atexit(_get_ready)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # another Python, or one that ends already
        pass
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    _watch_workers()


def unwatch() -> None:
    """Leaves SIGTERM to Python again, if it is still ours. Exit functions stay and find nothing to do."""
    if _in_main_thread() and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _get_ready() -> None:
    global _crew
    if _ending is not None and sys.version_info >= (3, 12):
        _crew = _Crew(_HANDS)


def _at_exit() -> None:
    global _crew, _ending
    crew, _crew = _crew, None
    _finish(crew)
    ending, _ending = _ending, None  # exit functions of multiprocessing may come later
    if ending is not None:
        ending.close()


def _finish(crew: _Crew | None = None) -> None:
    if _ending is None:
        return
    _ending.prepare()
    tasks = _ending.tasks()
    if tasks:
        (crew or _Crew(len(tasks))).run(tasks, PATIENCE)


# --- SIGTERM --------------------------------------------------------------------------------------------------------


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _watch_sigterm() -> None:
    # A program with a handler ends in its own way and runs the exit functions; only the default would not.
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return
    try:
        signal.signal(signal.SIGTERM, _on_sigterm)
    except (ValueError, OSError):  # a subinterpreter
        pass


_LOCKING = ("opentelemetry.", "seatrace.", "logging", "threading", "queue", "importlib.")
_NOT_LOCKING = ("opentelemetry.instrumentation", "seatrace.own.decorate", "seatrace.own.objects", "seatrace.core.step")
"""These call the program itself, and hold no lock meanwhile."""


_TRIES = 200
_tries = 0


def _on_sigterm(number: int, frame: Any) -> None:
    global _tries
    if _tries < _TRIES and _may_hold_a_lock(frame):
        _tries += 1
        _thread.start_new_thread(_again, (number,))
        return
    # In a thread of its own, since the interrupted code may hold a lock all the same; and by the plainest means,
    # since that code may be threading's.
    done = _thread.allocate_lock()
    done.acquire()
    waits = True

    def work() -> None:
        try:
            _finish()
        finally:
            done.release()
            if not waits:
                _die(number)

    _thread.start_new_thread(work, ())
    try:
        done.acquire(timeout=PATIENCE)
    except Exception:  # gevent's hub, which must not wait: the greenlet that flushes does the rest
        waits = False
        return
    _die(number)


def _die(number: int) -> None:
    global _tries
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # Still here: the first process of a container, whom the default does not end. It goes on as before.
    _tries = 0
    signal.signal(number, _on_sigterm)


def _again(number: int) -> None:
    sleep(0.002)
    os.kill(os.getpid(), number)


def _may_hold_a_lock(frame: Any) -> bool:
    """Whether the interrupted code is in the middle of telemetry or of what that uses: flushing would wait for it, so
    it goes on for a moment, and the signal comes again."""
    while frame is not None:
        name = f"{frame.f_globals.get('__name__', '')}."
        if name.startswith(_NOT_LOCKING):
            return False
        if name.startswith(_LOCKING):
            return True
        frame = frame.f_back
    return False


# --- processes that are made by forking -----------------------------------------------------------------------------


_workers_watched = False


def _after_fork() -> None:
    global _crew
    _crew = None
    _watch_workers()


def _watch_workers() -> None:
    """A worker of multiprocessing ends with ``os._exit``, after exit functions of multiprocessing's own. Its main
    module, and we with it, may be loaded before it begins as a worker."""
    global _workers_watched
    util = sys.modules.get("multiprocessing.util")
    if util is None or _workers_watched:
        return
    _workers_watched = True
    util.register_after_fork(_watch_worker, _watch_worker)
    if sys.modules["multiprocessing.process"].parent_process() is not None:
        _watch_worker(None)


def _watch_worker(_: object) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, _finish, exitpriority=-100)
