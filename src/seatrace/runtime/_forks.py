"""Locks after a fork: another thread of the parent may have held one, and nobody in the child would give it back."""

from __future__ import annotations

import os
import threading
from typing import Any
from weakref import WeakSet

_holders: WeakSet[Any] = WeakSet()


def new_lock(holder: Any) -> threading.Lock:
    """A lock for ``holder._lock``, which a forked child gets anew. ``holder`` must be hashable by identity."""
    _holders.add(holder)
    return threading.Lock()


def _renew() -> None:
    for holder in list(_holders):
        holder._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
