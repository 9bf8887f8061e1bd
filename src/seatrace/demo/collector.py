"""Whether a collector listens where telemetry would go."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from seatrace.config import load
from seatrace.exporters import protocol

_PATIENCE = 0.5
"""Seconds until a silent host counts as not listening."""


@dataclass(frozen=True, slots=True)
class Collector:
    """An OTLP endpoint and whether something accepts connections on it."""

    endpoint: str
    listens: bool


def find_collector() -> Collector:
    """Look for a collector where the settings of the environment say, else at the default address; sends nothing.

    Raises:
        ConfigError: if a setting is malformed.
    """
    config = load({})
    default = "http://localhost:4317" if protocol(config, "traces") == "grpc" else "http://localhost:4318"
    endpoint = config.endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or default
    return Collector(endpoint, _listens(endpoint))


def _listens(endpoint: str) -> bool:
    try:
        address = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        port = address.port or (443 if address.scheme == "https" else 80)
        with socket.create_connection((address.hostname or "127.0.0.1", port), timeout=_PATIENCE):
            return True
    except (OSError, ValueError):
        return False
