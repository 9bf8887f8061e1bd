"""An example configuration of Alertmanager: who hears of what, and what is not said twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seatrace.emit.prometheus import label_name
from seatrace.kit.yaml import Value, dump

from .rule import Alert, Group

_HEAD = """An example, written by `seatrace rules generate --format alertmanager`. Put your receivers in the places of
the webhooks: pagerduty_configs, slack_configs, email_configs, …"""


def text(groups: Sequence[Group]) -> str:
    """The file."""
    alerts = {alert.name: alert for group in groups for alert in group.alerts}
    return dump(
        {
            "route": {
                "receiver": "tickets",
                "group_by": ["alertname", "job"],
                "group_wait": "30s",
                "group_interval": "5m",
                "repeat_interval": "12h",
                "routes": [
                    _route("critical", "pager", group_wait="10s", repeat_interval="1h"),
                    _route("warning", "tickets"),
                    _route("info", "digest", group_wait="10m", group_interval="1h", repeat_interval="1w"),
                ],
            },
            "inhibit_rules": list(_inhibitions(alerts)),
            "receivers": [
                {"name": name, "webhook_configs": [{"url": f"http://127.0.0.1:9095/{name}"}]}
                for name in ("pager", "tickets", "digest")
            ],
        },
        head=_HEAD,
    )


def _route(severity: str, receiver: str, **timing: str) -> Value:
    return {"matchers": [f'severity="{severity}"'], "receiver": receiver, **timing}


def _inhibitions(alerts: dict[str, Alert]) -> Iterator[Value]:
    for source in alerts.values():
        for name in source.quiets:
            shared = source.expr.labels & alerts[name].expr.labels
            yield {
                "source_matchers": [f'alertname="{source.name}"'],
                "target_matchers": [f'alertname="{name}"'],
                "equal": sorted(map(label_name, shared)),
            }
