"""Ctrl-C that waits for a good moment.

Python raises ``KeyboardInterrupt`` wherever it happens to be; below an extension module or in a finalizer it is
dropped or comes out as another error. So the first Ctrl-C only leaves word, and the demo looks before each model call.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Check = Callable[[], None]
"""Raises ``KeyboardInterrupt`` where Ctrl-C was pressed, else does nothing."""


@contextmanager
def patient_interrupts() -> Iterator[Check]:
    """Until the block ends, Ctrl-C raises in the given :data:`Check` only; the second one raises at once."""
    pressed = threading.Event()

    def press(number: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    earlier = signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, earlier)
