"""Metrics that are fetched instead of sent: an endpoint for Prometheus, without a collector.

What set-up code has to know of it stands here and costs nothing where nobody serves; the rest is loaded by the first
:func:`seatrace.serve_metrics` or the first app.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from seatrace.core import guard

if TYPE_CHECKING:
    from .source import Source

served: Source | None = None
"""What is served; ``None`` until somebody wants to serve."""

in_force: Callable[[Callable[[], list[Any]]], Any] | None = None
"""Set by ``setup``: the meter provider in force. Where there is none, it is made with the readers that the argument
returns."""

open_servers: WeakSet[Any] = WeakSet()


def readers() -> list[Any]:
    """The readers that a meter provider about to be made is to have."""
    return [] if served is None else served.readers()


def follow(provider: Any) -> None:
    """From now on ``provider`` is what is served, where anything is."""
    if served is None:
        return
    try:
        served.follow(provider)
    except Exception as error:
        guard.fault("serve metrics", error)


def close() -> None:
    """Closes every server."""
    for each in list(open_servers):
        each.close()
