"""Where an alert leads: its runbook and its dashboard."""

from __future__ import annotations

from dataclasses import dataclass

from .rule import Alert

_OF_JOB = "{{ with .Labels.job }}?var-job={{ . | urlquery }}{{ end }}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Bases of links."""

    runbooks: str
    """The folder of the runbooks, a URL or a path."""
    grafana: str
    """Where Grafana is."""

    def annotations(self, alert: Alert) -> dict[str, str]:
        """The annotations of an alert, as templates of Prometheus."""
        return {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{self.runbooks.rstrip('/')}/{alert.name}.md",
            "dashboard_url": f"{self.grafana.rstrip('/')}/d/seatrace-{alert.board}{_OF_JOB}",
        }
