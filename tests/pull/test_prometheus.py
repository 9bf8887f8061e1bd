"""A real Prometheus scrapes a real program."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import seatrace
from model import ask as call_model
from model import client
from seatrace.testing import capture

_NASTY = 'a "quoted" \\ back\\nslash\nline\ttab {}#,= é 日本 \0 \ud800'
TOKEN = "s3cret"


class Prometheus:
    """One on loopback that scrapes ``ports``, with exemplars."""

    def __init__(self, directory: Path, *ports: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        config = directory / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
                    "scrape_configs": [
                        {
                            "job_name": "shop",
                            "authorization": {"credentials": TOKEN},
                            "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
                        }
                    ],
                }
            )
        )
        self._log = (directory / "log").open("w+b")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={self._url.removeprefix('http://')}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def get(self, path: str, **query: str) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as reply:
            return json.load(reply)["data"]

    def values(self, query: str) -> dict[str, float]:
        """The values of an instant query by instance."""
        found = self.get("query", query=query)["result"]
        return {each["metric"].get("instance", ""): float(each["value"][1]) for each in found}

    def wait_for(self, what: Callable[[], Any]) -> Any:
        """Asks until there is something."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if found := what():
                    return found
            except OSError:  # it starts
                pass
            time.sleep(0.1)
        self._log.seek(0)
        raise AssertionError(f"nothing came: {self.get('targets')}\n{self._log.read().decode()}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Starts a Prometheus that scrapes the given ports."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    started: list[Prometheus] = []

    def go(*ports: int) -> Prometheus:
        started.append(Prometheus(tmp_path, *ports))
        return started[-1]

    yield go
    for each in started:
        each.stop()


def test_values_and_exemplars_arrive(start: Callable[..., Prometheus]) -> None:
    with seatrace.serve_metrics(0, token=TOKEN) as server, capture() as captured:
        model = client()
        for _ in range(3):
            with seatrace.session(tenant=_NASTY):
                call_model(model)
        prometheus = start(server.port)
        instance = f"127.0.0.1:{server.port}"
        count = "gen_ai_client_inference_duration_seconds_count"
        assert prometheus.wait_for(lambda: prometheus.values(count)) == {instance: 3}
        assert prometheus.values("seatrace_cost_USD_total")[instance] == pytest.approx(captured.total("seatrace.cost"))
        total = captured.total("gen_ai.client.inference.duration")
        sums = prometheus.values("gen_ai_client_inference_duration_seconds_sum")
        assert sums[instance] == pytest.approx(total)
        [cost] = prometheus.get("query", query="seatrace_cost_USD_total")["result"]
        assert cost["metric"]["seatrace_tenant"] == _NASTY.replace("\ud800", "?")
        assert prometheus.values('up{job="shop"}') == {instance: 1}
        assert prometheus.values("count by (instance) (target_info)") == {instance: 1}

        spans = {f"{span.context.trace_id:032x}": f"{span.context.span_id:016x}" for span in captured.spans}
        for query in ("gen_ai_client_inference_duration_seconds_bucket", "seatrace_cost_USD_total"):
            when = {"start": str(time.time() - 300), "end": str(time.time() + 300)}
            found = prometheus.wait_for(
                lambda query=query, when=when: prometheus.get("query_exemplars", query=query, **when)
            )
            exemplars = [each for series in found for each in series["exemplars"]]
            assert exemplars
            for each in exemplars:
                assert spans[each["labels"]["trace_id"]] == each["labels"]["span_id"]
        metadata = prometheus.get("metadata", metric="gen_ai_client_inference_duration_seconds")
        [told] = metadata["gen_ai_client_inference_duration_seconds"]
        assert (told["type"], told["unit"]) == ("histogram", "seconds")


def test_a_quantile_and_a_rate_can_be_asked_for(start: Callable[..., Prometheus]) -> None:
    with seatrace.serve_metrics(0, token=TOKEN) as server, capture():
        model = client()
        call_model(model)
        prometheus = start(server.port)
        prometheus.wait_for(lambda: prometheus.values("gen_ai_client_inference_duration_seconds_count"))
        for _ in range(5):
            call_model(model)
        buckets = "sum by (le, instance) (rate(gen_ai_client_inference_duration_seconds_bucket[30s]))"
        quantile = f"histogram_quantile(0.95, {buckets}) > 0"
        assert 0 < prometheus.wait_for(lambda: prometheus.values(quantile))[f"127.0.0.1:{server.port}"] < 82
        assert prometheus.wait_for(lambda: prometheus.values("increase(seatrace_cost_USD_total[30s]) > 0"))
