"""The rules as a rule file of Prometheus (and of Mimir, Thanos, VictoriaMetrics)."""

from __future__ import annotations

from collections.abc import Sequence

from seatrace.kit.yaml import Value, dump

from .links import Links
from .rule import Alert, Group, Recording, lines

_HEAD = """Written by `seatrace rules generate`: change the thresholds and generate anew.
Needs Prometheus 2.42 or newer (keep_firing_for)."""


def text(groups: Sequence[Group], links: Links) -> str:
    """The file."""
    return dump({"groups": [_group(each, links) for each in groups]}, head=_HEAD)


def _group(group: Group, links: Links) -> Value:
    rules = [*(_recording(each) for each in group.recordings), *(_alert(each, links) for each in group.alerts)]
    return {"name": group.name, "rules": rules}


def _recording(recording: Recording) -> Value:
    return {"record": recording.name, "expr": lines(recording.expr.text)}


def _alert(alert: Alert, links: Links) -> Value:
    return {
        "alert": alert.name,
        "expr": lines(alert.expr.text),
        "for": alert.hold,
        **({"keep_firing_for": alert.keep} if alert.keep else {}),
        "labels": {"severity": alert.severity},
        "annotations": links.annotations(alert),
    }
