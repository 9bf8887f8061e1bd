"""Alerts, as code: what they are, when they fire, and the files that Prometheus, Grafana and Alertmanager read.

groups(Thresholds(budget_per_day=50.0))     # the rules
prometheus.text(…), grafana.text(…)         # the same rules as files
"""

from __future__ import annotations

from seatrace.kit.conventions import Semconv, conventions

from .agents import agents
from .calls import calls
from .patterns import patterns
from .rule import Alert, Group, Recording
from .spend import spend
from .telemetry import telemetry
from .thresholds import Thresholds

__all__ = ["Alert", "Group", "Recording", "Thresholds", "groups"]


def groups(limits: Thresholds | None = None, *, semconv: Semconv = "latest") -> tuple[Group, ...]:
    """All rules.

    Args:
        limits: When they fire.
        semconv: The generation of the conventions that the programs emit. Those that set ``SEATRACE_SEMCONV=both`` emit
            either.
    """
    limits, names = limits or Thresholds(), conventions(semconv)
    return (spend(limits), calls(limits, names), agents(limits, names), patterns(limits), telemetry(limits, names))
