"""Every metric that seatrace emits: name, unit, attributes, buckets. Docs, dashboards and alerts are generated from it.

:mod:`.calls` has the metrics of observed calls, :mod:`.patterns` those of :mod:`seatrace.runtime`.
"""

from typing import Final

from .calls import *  # noqa: F403
from .calls import CALL_METRICS
from .metric import *  # noqa: F403
from .metric import Metric
from .patterns import *  # noqa: F403
from .patterns import PATTERN_METRICS

CATALOGUE: Final[tuple[Metric, ...]] = (*CALL_METRICS, *PATTERN_METRICS)
"""All of them, in the order of the files."""
