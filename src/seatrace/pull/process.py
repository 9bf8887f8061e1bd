"""What this process is to its system: how old, how big."""

from __future__ import annotations

import os
import time
from typing import Final

_LOADED: Final = time.monotonic()


def uptime() -> float:
    """Seconds since the process began; where the system does not say, since metrics were first served."""
    try:
        with open("/proc/self/stat", "rb") as file:
            began = int(file.read().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began)
    except (AttributeError, OSError, ValueError, IndexError):  # another system than Linux
        return time.monotonic() - _LOADED


def resident_bytes() -> int | None:
    """Memory that the process holds now, ``None`` where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError, IndexError):
        return None
