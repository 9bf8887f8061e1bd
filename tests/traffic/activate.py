"""What the replay calls to switch seatrace on, or not: ``--activate activate:activate``, ``activate:baseline``."""

from __future__ import annotations

import gc
from typing import Any

import seatrace
from seatrace.core import pipeline


def baseline(ctx: dict[str, Any]) -> dict[str, Any]:
    """The same without seatrace."""
    gc.freeze()  # the replay collects garbage often: the recordings, loaded by now, are none
    return {}


def activate(ctx: dict[str, Any]) -> dict[str, Any]:
    """Uses the replay's providers; streams that were dropped are emitted before each exchange is looked at."""
    baseline(ctx)
    seatrace.instrument(tracer_provider=ctx["tracer_provider"], meter_provider=ctx["meter_provider"])
    ctx["flush"] = pipeline.drain
    return {}
