"""Grafana boards, built from the metric catalogue.

>>> from seatrace.kit import boards
>>> sorted(boards.files())[0]
'seatrace-agents.json'
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seatrace.kit.conventions import Semconv, conventions

from .agents import agents
from .caches import caches
from .cost import cost
from .grafana import document
from .health import health
from .latency import latency
from .overview import overview
from .panels import Board
from .providers import providers
from .queues import queues
from .tokens import tokens
from .traces import Traces

__all__ = ["Asked", "Board", "Semconv", "Traces", "boards", "documents", "files", "queries"]

_BOARDS = (overview, cost, latency, tokens, caches, agents, providers, queues, health)


def boards(semconv: Semconv = "latest") -> tuple[Board, ...]:
    """All boards, in the order that they are worth reading.

    Args:
        semconv: Whether they read the metrics that the GenAI conventions have since v0.1.0, or those before.
    """
    names = conventions(semconv)
    return tuple(build(names) for build in _BOARDS)


def documents(semconv: Semconv = "latest", *, traces: Traces = "tempo") -> list[dict[str, Any]]:
    """The boards as Grafana's JSON. ``traces`` is the kind of data source that panels lead to."""
    return [document(board, traces=traces) for board in boards(semconv)]


def files(semconv: Semconv = "latest", *, traces: Traces = "tempo") -> dict[str, str]:
    """File names and texts of the boards."""
    return {
        f"{found['uid']}.json": json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        for found in documents(semconv, traces=traces)
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of a board, ready for Prometheus."""

    board: str
    """The uid."""
    panel: str
    """The title of the panel, or ``annotation: `` and the name of the annotation."""
    reference: str
    """``A`` for a panel's first query, and so on."""
    expression: str
    instant: bool
    """Whether Grafana asks for one moment; else for a range."""
    exemplars: bool
    """Whether Grafana also asks for exemplars."""


def queries(
    semconv: Semconv = "latest",
    *,
    values: Mapping[str, str] | None = None,
    rate_interval: str = "5m",
    range: str = "1h",
) -> Iterator[Asked]:
    """Every query of every board, with Grafana's variables replaced.

    Args:
        semconv: See :func:`boards`.
        values: What is chosen: patterns by the name of the variable, such as ``{"job": "api"}``. What is not named
            takes everything.
        rate_interval: For ``$__rate_interval``.
        range: For ``$__range``.
    """
    chosen = {"__rate_interval": rate_interval, "__range": range, **(values or {})}

    def filled(expression: str) -> str:
        return re.sub(r"\$(\w+)", lambda found: chosen.get(found[1], ".*"), expression)

    for found in documents(semconv):
        uid = found["uid"]
        for panel in found["panels"]:
            for target in panel.get("targets", []):
                expression = filled(target["expr"])
                yield Asked(uid, panel["title"], target["refId"], expression, target["instant"], target["exemplar"])
        for each in found["annotations"]["list"]:
            yield Asked(uid, f"annotation: {each['name']}", "A", filled(each["expr"]), False, False)
