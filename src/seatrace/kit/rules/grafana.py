"""The rules as alert rules that Grafana provisions from a file, and evaluates itself.

Each has the steps of Grafana's own conversion of Prometheus rules: ``A`` asks, ``B`` is 1 for whatever came back, ``C``
fires where that is above 0. Recordings stand in their alerts, so nothing else has to be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from seatrace.kit.yaml import Value, dump

from .links import Links
from .rule import Alert, Group, inlined, lines

_HEAD = """Written by `seatrace rules generate --format grafana`: change the thresholds and generate anew.
For provisioning/alerting of Grafana 11 or newer (keepFiringFor: 12)."""

_EXPRESSIONS = "__expr__"
"""The uid of Grafana's own expressions."""

_LONGEST_LOOK = 3_600
"""Seconds before now that an instant query may name; ranges and offsets within it reach further back."""


def text(groups: Sequence[Group], links: Links, *, datasource: str = "prometheus", folder: str = "seatrace") -> str:
    """The file.

    Args:
        groups: The rules.
        links: Where their annotations lead.
        datasource: The uid of the Prometheus data source in Grafana.
        folder: The folder of the alerts in Grafana.
    """
    found: list[Value] = [
        {
            "orgId": 1,
            "name": group.name,
            "folder": folder,
            "interval": "1m",
            "rules": [_rule(each, group, links, datasource) for each in group.alerts],
        }
        for group in groups
    ]
    return dump({"apiVersion": 1, "groups": found}, head=_HEAD)


def _rule(alert: Alert, group: Group, links: Links, datasource: str) -> Value:
    annotations = {name: _template(value) for name, value in links.annotations(alert).items()}
    return {
        "uid": re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert.name).lower(),
        "title": alert.name,
        "condition": "C",
        "data": [
            _step("A", datasource, expr=lines(inlined(alert.expr, group.recordings)), instant=True, range=False),
            _step("B", _EXPRESSIONS, type="math", expression="is_number($A) || is_nan($A) || is_inf($A)"),
            _step(
                "C",
                _EXPRESSIONS,
                type="threshold",
                expression="B",
                conditions=[{"evaluator": {"type": "gt", "params": [0]}}],
            ),
        ],
        "noDataState": "OK",
        "execErrState": "Error",
        "for": alert.hold,
        **({"keepFiringFor": alert.keep} if alert.keep else {}),
        "labels": {"severity": alert.severity},
        "annotations": annotations,
    }


def _step(name: str, datasource: str, **model: Value) -> Value:
    return {
        "refId": name,
        "datasourceUid": datasource,
        "relativeTimeRange": {"from": _LONGEST_LOOK if name == "A" else 0, "to": 0},
        "model": {"refId": name, **model},
    }


def _template(text: str) -> str:
    """A template of Prometheus as one of Grafana, where the value is that of a step."""
    return text.replace("{{ .Value |", "{{ .Values.A.Value |")
