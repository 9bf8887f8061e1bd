"""What a rule is, whichever program evaluates it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from seatrace.emit.prometheus import label_name
from seatrace.kit.promql import Query

Severity = Literal["critical", "warning", "info"]
"""``critical`` pages somebody, ``warning`` is for working hours, ``info`` is to be known."""

Board = Literal["overview", "cost", "latency", "tokens", "caches", "agents", "providers", "queues", "health"]
"""The dashboard of that name; its uid is ``seatrace-NAME``."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An expression that Prometheus evaluates ahead, under a name of the form ``level:metric:operations``."""

    name: str
    expr: Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert. Texts may hold :func:`label`, and the value as :data:`PERCENT` and the like."""

    name: str
    severity: Severity
    when: str
    """What holds when it fires, for the table of the documentation."""
    expr: Query
    hold: str
    """The time that ``expr`` must hold before it fires."""
    keep: str | None = None
    """The time that it goes on firing when ``expr`` holds no longer, so that it does not flap."""
    summary: str
    description: str
    board: Board
    tuned_by: tuple[str, ...]
    """The thresholds that decide."""
    quiets: tuple[str, ...] = ()
    """Alerts that say no more than this one does, and are not told while it fires."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, recordings first."""

    name: str
    alerts: tuple[Alert, ...]
    recordings: tuple[Recording, ...] = ()


PERCENT: Final = "{{ .Value | humanizePercentage }}"
DURATION: Final = "{{ .Value | humanizeDuration }}"
NUMBER: Final = "{{ .Value | humanize }}"
COUNT: Final = '{{ .Value | printf "%.0f" }}'
TIMES: Final = '{{ .Value | printf "%.1f" }}'
MONEY: Final = '{{ .Value | printf "%.2f" }} USD'
"""The value of the expression, as texts show it."""


def label(attribute: str) -> str:
    """The value of an alert's label, in a text."""
    return f"{{{{ .Labels.{label_name(attribute)} }}}}"


def percent(share: float) -> str:
    """``0.144`` as a text: ``14.4%``."""
    return f"{100 * share:.4g}%"


def duration(seconds: int) -> str:
    """``600`` as Prometheus writes it: ``10m``."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def spaced(duration: str) -> str:
    """``10m`` as people read it: ``10 min``."""
    unit = {"m": "min"}.get(duration[-1], duration[-1])
    return f"{duration[:-1]} {unit}"


def inlined(expr: Query, recordings: tuple[Recording, ...]) -> str:
    """The text of ``expr`` with the recordings' own expressions in place of their names."""
    text = expr.text
    for each in reversed(recordings):  # a later one may name an earlier one
        text = f"({each.expr})".join(re.split(rf"(?<![\w:]){re.escape(each.name)}(?![\w:])", text))
    return text


_JOINT = re.compile(r" (and|or|unless)(?= )")


def lines(text: str) -> str:
    """An expression with each side of its outermost ``and``, ``or`` and ``unless`` on a line of its own."""
    depth, quoted, begin, found = 0, False, 0, []
    for index, character in enumerate(text):
        if character == '"' and text[index - 1] != "\\":
            quoted = not quoted
        if quoted:
            continue
        depth += (character in "({[") - (character in ")}]")
        if depth == 0 and (joint := _JOINT.match(text, index)):
            found += [text[begin:index]]
            begin = joint.start(1)
    return "\n".join([*found, text[begin:]])
