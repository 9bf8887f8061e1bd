"""``seatrace demo`` as a user starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and ports behave differently there")

DEMO = [sys.executable, "-W", "error", "-m", "seatrace.cli", "demo"]
NUMBER = re.compile(r"-?[\d,]+(?:\.\d+)?")


def environment(endpoint: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SEATRACE_"))}
    return {**own, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "COLUMNS": "110"}


@pytest.fixture
def silent() -> str:
    """An endpoint where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[str]]]:
    """An endpoint that accepts all telemetry, and the paths it was sent to."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


def run(*arguments: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *arguments], env=environment(endpoint), capture_output=True, text=True, timeout=120, encoding="utf-8"
    )


MODEL_COLUMNS = ("calls", "errors", "p50", "p95", "p99", "first chunk", "tokens in", "cache reads", "tokens out", "USD")
AGENT_COLUMNS = ("runs", "p50", "model calls", "tool calls", "tool errors", "tokens", "USD")


def table(output: str, title: str) -> dict[str, dict[str, str]]:
    """The rows of the table under ``title``, by model or agent."""
    columns = MODEL_COLUMNS if title == "By model" else AGENT_COLUMNS
    _, _, below = output.partition(title)
    _, _, body = below.partition("── \n")
    rows: dict[str, dict[str, str]] = {}
    for line in body.splitlines():
        cells = line.split()
        if len(cells) != len(columns) + 1:
            if cells:
                break
            continue
        rows[cells[0]] = dict(zip(columns, cells[1:], strict=True))
    return rows


def number(cell: str) -> float | None:
    return float(cell.replace(",", "")) if NUMBER.fullmatch(cell) else None


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """The output of a whole demo and what its provider says it served."""
    log = tmp_path_factory.mktemp("demo") / "served.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ended = run("--calls", "45", "--save-log", str(log), endpoint=endpoint)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout, [json.loads(line) for line in log.read_text().splitlines()]


def test_the_tables_add_up_to_what_the_provider_served(finished: tuple[str, list[dict[str, Any]]]) -> None:
    output, log = finished
    rows = table(output, "By model")
    assert set(rows) == {served["model"] for served in log} | {"all"}
    for model, row in rows.items():
        answered = [served for served in log if served["status"] == 200 and model in (served["model"], "all")]
        assert number(row["calls"]) == len(answered) + int(row["errors"])
        sums = {"tokens in": "input_tokens", "tokens out": "output_tokens", "cache reads": "cache_read"}
        assert {column: number(row[column]) for column in sums} == {
            column: known_sum(answered, key) for column, key in sums.items()
        }


def test_a_call_that_the_clients_gave_up_is_one_error(finished: tuple[str, list[dict[str, Any]]]) -> None:
    output, log = finished
    errors = {model: int(row["errors"]) for model, row in table(output, "By model").items()}
    assert {model: count for model, count in errors.items() if count} == {"claude-sonnet-5": 1, "all": 1}
    assert {served["status"] for served in log} == {200, 429, 500, 529}


def test_usd_is_the_list_price_of_what_was_served(finished: tuple[str, list[dict[str, Any]]]) -> None:
    genai_prices = pytest.importorskip("genai_prices")
    output, log = finished
    rows = table(output, "By model")
    for model in {served["model"] for served in log}:
        price = 0.0
        for served in log:
            if served["model"] == model and served["status"] == 200:
                usage = genai_prices.Usage(
                    input_tokens=served["input_tokens"],
                    output_tokens=served["output_tokens"],
                    cache_read_tokens=served["cache_read"],
                    cache_write_tokens=served["cache_write"],
                )
                provider = "anthropic" if model.startswith("claude") else "openai"
                price += float(genai_prices.calc_price(usage, model, provider_id=provider).total_price)
        assert float(rows[model]["USD"].lstrip("<")) == pytest.approx(price, abs=0.0001)


def test_the_agents_share_all_model_calls(finished: tuple[str, list[dict[str, Any]]]) -> None:
    output, _ = finished
    agents, total = table(output, "By agent"), table(output, "By model")["all"]
    assert set(agents) == {"planner", "researcher", "writer", "reviewer", "lookout"}
    sums = {column: sum(number(row[column]) or 0 for row in agents.values()) for column in AGENT_COLUMNS}
    assert sums["model calls"] == number(total["calls"])
    assert sums["tokens"] == (number(total["tokens in"]) or 0) + (number(total["tokens out"]) or 0)
    assert sums["USD"] == pytest.approx(number(total["USD"]), abs=0.0003)
    assert sums["tool calls"] > sums["tool errors"] > 0


def test_without_a_terminal_each_call_is_one_plain_line(finished: tuple[str, list[dict[str, Any]]]) -> None:
    output, _ = finished
    lines = re.findall(r"^ *\d+(?:/45)?  \w", output, re.MULTILINE)
    assert len(lines) == number(table(output, "By model")["all"]["calls"])
    assert "\x1b" not in output


def test_equal_seeds_make_equal_bills(silent: str) -> None:
    def bill(seed: str) -> dict[str, dict[str, str]]:
        output = run("--calls", "1", "--seed", seed, endpoint=silent).stdout
        timed = ("p50", "p95", "p99", "first chunk")
        rows = table(output, "By model")
        return {model: {at: row[at] for at in row if at not in timed} for model, row in rows.items()}

    with ThreadPoolExecutor(3) as pool:
        first, same, other = pool.map(bill, "334")
    assert first == same != {}
    assert first != other


def test_without_a_collector_it_says_so(silent: str) -> None:
    ended = run("--calls", "1", endpoint=silent)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"No collector listens on {silent}: nothing was sent." in ended.stdout


def test_telemetry_goes_to_a_collector_that_listens(collector: tuple[str, list[str]]) -> None:
    endpoint, paths = collector
    ended = run("--calls", "1", endpoint=endpoint)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"were sent by OTLP to {endpoint}." in ended.stdout
    assert {"/v1/traces", "/v1/metrics"} <= {*paths}


def test_a_taken_port_is_said_plainly(silent: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = run("--port", str(port), endpoint=silent)
    assert ended.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("after", [0.0, 0.3, 1.5])
def test_ctrl_c_is_clean(after: float, silent: str) -> None:
    process = subprocess.Popen(
        [*DEMO, "--calls", "500"],
        env={**environment(silent), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    output = first + rest
    assert "Interrupted" in output
    assert int(table(output, "By model")["all"]["calls"]) >= 1


@pytest.mark.skipif(not Path("/dev/ptmx").exists(), reason="no pseudo terminals")
def test_on_a_terminal_it_shows_progress_and_then_the_tables(silent: str) -> None:
    import pty

    master, slave = pty.openpty()
    with subprocess.Popen(
        [*DEMO, "--calls", "5"], env={**environment(silent), "TERM": "xterm-256color"}, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        output = "".join(_read_all(master))
    os.close(master)
    assert process.returncode == 0
    assert "seatrace demo" in output
    assert "By model" in output
    assert "By agent" in output


def known_sum(log: list[dict[str, Any]], key: str) -> int | None:
    known = [served[key] for served in log if served[key] is not None]
    return sum(known) if known else None


def _read_all(master: int) -> Iterator[str]:
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux says so that the other end is closed.
            return
        if not data:
            return
        yield data.decode(errors="replace")


def test_every_pattern_is_used_and_says_what_it_gained(finished: tuple[str, list[dict[str, Any]]]) -> None:
    output, _ = finished
    _, _, below = output.partition("By pattern")
    rows = dict(re.findall(r"^ {2}([A-Za-z_]\w*(?:, \w+)*) {2,}(\S.*\S) *$", below, re.MULTILINE))
    names = {name for pattern in rows for name in pattern.split(", ")}
    assert names >= {
        "AgentPool",
        "AnomalyDetector",
        "Batcher",
        "Budget",
        "BufferedStream",
        "CostTracker",
        "HistorySummarizer",
        "MetricsCollector",
        "ModelSelector",
        "Queue",
        "ResponseCache",
        "SemanticCache",
        "StructuredOutput",
        "Worker",
        "cached_tool",
        "fit_messages",
        "measure",
        "observe_stream",
        "parallel",
    }
    assert "6 answered again" in rows["ResponseCache"]
    assert "1 known in other words" in rows["SemanticCache"]
    assert "2 not made" in rows["Budget"]
    assert "in 3 requests" in rows["Batcher"]
    assert "none lost" in rows["Queue, Worker"]
