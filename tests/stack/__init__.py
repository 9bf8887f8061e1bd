"""The backend kit against the real programs: collector, Prometheus, Alertmanager, all on loopback.

``make stack`` runs it; a plain ``pytest`` does not, since it takes minutes.
"""
