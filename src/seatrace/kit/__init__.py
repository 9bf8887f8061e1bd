"""The backend kit: Grafana dashboards, Prometheus rules and alerts, built from the metric catalogue."""
