"""Prometheus, Alertmanager and somebody who is told."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from setup.receiver import listening

from .programs import Program, free_ports, get, installed, running


@dataclass
class Prometheus:
    """A running Prometheus."""

    url: str
    program: Program

    def query(self, expression: str, *, time: float | None = None) -> list[dict[str, Any]]:
        """The elements of an instant query."""
        asked = {"query": expression} | ({"time": str(time)} if time is not None else {})
        found = self._get("query", asked)
        return list(found["result"]) if found["resultType"] == "vector" else [found["result"]]

    def value(self, expression: str) -> float:
        """The sum of the elements of an instant query, 0 where there are none."""
        return sum(float(each["value"][1]) for each in self.query(expression))

    def query_range(self, expression: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of a range query."""
        found = self._get("query_range", {"query": expression, "start": begin, "end": end, "step": step})
        return list(found["result"])

    def exemplars(self, expression: str, begin: float, end: float) -> list[dict[str, Any]]:
        """The exemplars of the series that an expression reads."""
        series = self._get("query_exemplars", {"query": expression, "start": begin, "end": end})
        return [exemplar for each in series for exemplar in each["exemplars"]]

    def rules(self) -> list[dict[str, Any]]:
        """All rules with their health."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts", {})["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def names(self) -> set[str]:
        """The names of all metrics that it has."""
        return set(self._get("label/__name__/values", {}))

    def _get(self, path: str, asked: Mapping[str, object]) -> Any:
        answer = json.loads(get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(dict(asked))}"))
        assert answer["status"] == "success", answer
        return answer["data"]


@contextmanager
def prometheus(
    directory: Path,
    *,
    targets: Mapping[str, str],
    rules: Sequence[Path] = (),
    alertmanager: str | None = None,
    port: int | None = None,
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes every second.

    Args:
        directory: For its files; one that it used before has its data still.
        targets: Addresses by the name of the job; labels that a target gives itself stay.
        rules: Files of rules.
        alertmanager: Its URL.
        port: The port to listen on, by default a free one.
    """
    program = installed("prometheus")
    directory.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(each) for each in rules],
        "scrape_configs": [
            {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [address]}]}
            for job, address in targets.items()
        ],
    }
    if alertmanager is not None:
        address = alertmanager.removeprefix("http://")
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
    path = directory / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{port or free_ports(1)[0]}"
    command = [
        program,
        f"--config.file={path}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        "--query.lookback-delta=15s",
        "--log.level=warn",
    ]
    with running(command, directory / "prometheus.log", ready=f"http://{address}/-/ready") as process:
        yield Prometheus(f"http://{address}", process)


@dataclass
class Webhook:
    """Who is told about alerts."""

    url: str = ""
    told: list[dict[str, Any]] = field(default_factory=list)
    """The alerts of all notifications, in order."""

    def heard(self, alert: str, status: str) -> list[dict[str, Any]]:
        """The notifications of an alert: ``firing`` or ``resolved``."""
        return [each for each in self.told if each["labels"]["alertname"] == alert and each["status"] == status]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook on loopback."""
    found = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.told.extend(json.loads(self.rfile.read(int(self.headers["content-length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with listening(Handler) as found.url:
        yield found


@contextmanager
def alertmanager(directory: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """The URL of an Alertmanager."""
    program = installed("prometheus-alertmanager")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "alertmanager.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    command = [
        program,
        f"--config.file={path}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with running(command, directory / "alertmanager.log", ready=f"http://{address}/-/ready"):
        yield f"http://{address}"
