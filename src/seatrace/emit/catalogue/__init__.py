"""Every metric that seatrace emits: name, unit, attributes, buckets. Docs, dashboards and alerts are generated from it.

:mod:`.calls` has the metrics of observed calls, :mod:`.patterns` those of :mod:`seatrace.runtime`, which are loaded
when one is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .calls import *  # noqa: F403
from .calls import CALL_METRICS as CALL_METRICS
from .metric import *  # noqa: F403
from .metric import Metric as Metric

if TYPE_CHECKING:
    from .patterns import *  # noqa: F403

    CATALOGUE: Final[tuple[Metric, ...]] = ()
    """All of them, in the order of the files."""


def __getattr__(name: str) -> Any:
    if not name.isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import patterns

    return (*CALL_METRICS, *patterns.PATTERN_METRICS) if name == "CATALOGUE" else getattr(patterns, name)
