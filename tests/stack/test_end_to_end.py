"""From an instrumented program through the real collector into Prometheus: every board and rule has its numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from seatrace.emit.catalogue import CATALOGUE, Metric
from seatrace.emit.prometheus import family, label_name
from seatrace.kit import boards
from setup.receiver import Receiver, environment, grpc_receiver

from .backend import Prometheus, Webhook, alertmanager, prometheus, webhook
from .collector import ROOT, Collector, collecting
from .expected import EMPTY, NOT_EMITTED
from .programs import DEADLINE, wait_for

RULES = ROOT / "dashboards/rules/seatrace.rules.yaml"
ROUTES = ROOT / "dashboards/alertmanager/alertmanager.yaml"


@dataclass
class Stack:
    """Everything that runs."""

    collector: Collector
    prometheus: Prometheus
    """With the rules as they are shipped."""
    hurried: Prometheus
    """With rules for the same thresholds whose ranges are seconds, and with the Alertmanager."""
    webhook: Webhook
    store: Receiver
    program: subprocess.Popen[str]

    def command(self, word: str) -> None:
        """Tells the program what to do."""
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.write(f"{word}\n")
        self.program.stdin.flush()
        assert self.program.stdout.readline() == f"{word}\n"


@pytest.fixture(scope="module")
def stack(otelcol: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    with grpc_receiver() as store, webhook() as told:
        settings = {
            "SEATRACE_TRACES_ENDPOINT": store.endpoint.removeprefix("http://"),
            "SEATRACE_SAMPLING_PERCENT": "100",
            "SEATRACE_SAMPLING_WAIT_AFTER_ROOT": "1s",
        }
        with collecting(otelcol, directory / "otelcol", "scrape", settings=settings) as collector:
            targets = {"programs": collector.scraped, "otelcol": collector.own_metrics}
            with program(collector) as running, alertmanager(directory / "alertmanager", routes(told)) as manager:
                assert running.stdout is not None
                pulled = running.stdout.readline().strip().removeprefix("http://")
                with (
                    prometheus(
                        directory / "prometheus", targets={**targets, "pulled": pulled}, rules=[RULES]
                    ) as shipped,
                    prometheus(
                        directory / "hurried",
                        targets=targets,
                        rules=[hurried_rules(directory)],
                        alertmanager=manager,
                    ) as hurried,
                ):
                    found = Stack(collector, shipped, hurried, told, store, running)
                    found.command("fail")
                    yield found


def routes(told: Webhook) -> dict[str, Any]:
    """The shipped routes, with our webhook for everybody, and without the patience."""
    config: dict[str, Any] = yaml.safe_load(ROUTES.read_text())
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": told.url, "send_resolved": True}]
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    return config


def hurried_rules(directory: Path) -> Path:
    """The rules of ``seatrace rules generate`` for a small budget, with every range and pause shortened."""
    command = [sys.executable, "-m", "seatrace.cli", "rules", "generate"]
    command += ["--budget-per-day", "0.5", "--set", "error_ratio=0.005"]
    written = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    found = yaml.safe_load(written)
    for rule in (rule for group in found["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(r"(?<=\[)\d+[smhdw](?=\])|(?<=offset )\d+[smhdw]", _hurried, rule["expr"])
        if "alert" in rule:
            rule["for"] = "1s"
            rule.pop("keep_firing_for", None)
    path = directory / "hurried.rules.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


def _hurried(duration: re.Match[str]) -> str:
    seconds = int(duration[0][:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[duration[0][-1]]
    return f"{min(max(seconds // 120, 10), 60)}s"


@contextmanager
def program(collector: Collector) -> Iterator[subprocess.Popen[str]]:
    """The program of :mod:`.traffic`."""
    env = environment(
        SEATRACE_ENDPOINT=collector.http,
        OTEL_METRIC_EXPORT_INTERVAL="1000",
        OTEL_BSP_SCHEDULE_DELAY="500",
        OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED="true",
        PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'tests'}",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "stack.traffic"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# --- queries ----------------------------------------------------------------------------------------------------------

ASKED = list(boards.queries(rate_interval="10s", range="30s"))


def has_data(stack: Stack, asked: boards.Asked) -> bool:
    """Whether a query of a board shows anything, over the last half minute or now."""
    # The shipped alerts are patient, so those that fire are found at the hurried ones.
    running = stack.hurried if asked.panel == "annotation: Firing alerts" else stack.prometheus
    if asked.instant:
        samples = [each["value"][1] for each in running.query(asked.expression)]
    else:
        now = time.time()
        found = running.query_range(asked.expression, now - 30, now, 2)
        samples = [value for each in found for _, value in each["values"]]
    return any(sample != "NaN" for sample in samples)


def key(asked: boards.Asked) -> tuple[str, str, str]:
    return asked.board, asked.panel, asked.reference


def reads_what_runs_lack(asked: boards.Asked) -> bool:
    """Whether a query reads a metric that the run does not emit."""
    return any(re.search(rf"\b{prefix.replace('.', '_')}", asked.expression) for prefix in NOT_EMITTED)


def test_every_query_of_every_panel_shows_data(stack: Stack) -> None:
    pending = [each for each in ASKED if key(each) not in EMPTY and not reads_what_runs_lack(each)]
    assert len(pending) > 100

    def done() -> bool:
        pending[:] = [each for each in pending if not has_data(stack, each)]
        return not pending

    end = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < end, "no data: " + "\n".join(map(str, pending))
        time.sleep(0.5)


def test_the_other_queries_run_and_are_empty_where_they_are_said_to_be(stack: Stack) -> None:
    others = [each for each in ASKED if key(each) in EMPTY or reads_what_runs_lack(each)]
    assert {key(each) for each in others} >= set(EMPTY)
    filled = {key(each) for each in others if has_data(stack, each)}
    assert filled & set(EMPTY) == set(), "take them off the list"


def test_every_rule_is_evaluated_without_error(stack: Stack) -> None:
    def evaluated() -> bool:
        return all(rule["health"] != "unknown" for rule in stack.prometheus.rules())

    wait_for(evaluated, "every rule was evaluated")
    rules = stack.prometheus.rules()
    assert len(rules) > 30
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []


def test_recording_rules_of_calls_and_cost_have_values(stack: Stack) -> None:
    for name in ("job:seatrace_errors:ratio_rate5m", "job:seatrace_slow:ratio_rate5m"):
        wait_for(lambda name=name: stack.prometheus.query(f'{name}{{job="traffic"}}'), name)
    wait_for(lambda: stack.hurried.value("budget:seatrace_budget_burn:rate5m") > 0, "the budget's pace")


# --- the catalogue ----------------------------------------------------------------------------------------------------


def is_lacking(metric: Metric) -> bool:
    return metric.generation == "legacy" or any(metric.name.startswith(prefix) for prefix in NOT_EMITTED)


def test_the_catalogue_is_emitted_and_what_is_listed_as_lacking_is_not(stack: Stack) -> None:
    wanted = {metric.name: family(metric) for metric in CATALOGUE if not is_lacking(metric)}

    def missing() -> set[str]:
        names = {re.sub("_(bucket|count|sum)$", "", name) for name in stack.prometheus.names()}
        return {name for name, found in wanted.items() if found not in names}

    wait_for(lambda: not missing(), f"all is emitted; missing: {missing()}", deadline=30)
    names = {re.sub("_(bucket|count|sum)$", "", name) for name in stack.prometheus.names()}
    emitted = {metric.name for metric in CATALOGUE if metric.generation != "legacy" and family(metric) in names}
    assert {name for name in emitted if any(name.startswith(prefix) for prefix in NOT_EMITTED)} == set()


def test_series_have_the_labels_of_the_catalogue_and_no_other(stack: Stack) -> None:
    for metric in CATALOGUE:
        suffix = "_count" if metric.kind == "histogram" else ""
        for element in stack.prometheus.query(f'{family(metric)}{suffix}{{job="traffic"}}'):
            labels = set(element["metric"]) - {"__name__", "job", "instance"}
            assert labels <= {label_name(attribute) for attribute in metric.attributes}, metric.name


# --- exemplars --------------------------------------------------------------------------------------------------------


def test_exemplars_lead_to_traces_that_are_kept(stack: Stack) -> None:
    expressions = [each.expression for each in ASKED if each.exemplars and not reads_what_runs_lack(each)]
    assert expressions

    def traces() -> set[str]:
        now = time.time()
        found = [e for asked in expressions for e in stack.prometheus.exemplars(asked, now - 120, now)]
        return {each["labels"]["trace_id"] for each in found}

    def kept() -> set[str]:
        return {each.data.trace_id.hex() for each in list(stack.store.spans)}

    wait_for(lambda: traces() & kept(), "an exemplar leads to a trace")


# --- alerts -----------------------------------------------------------------------------------------------------------


def test_cost_and_error_alerts_reach_the_webhook_and_resolve(stack: Stack) -> None:
    alerts = ("SeatraceBudgetBurnFast", "SeatraceErrorBudgetBurnFast")
    for alert in alerts:
        wait_for(lambda alert=alert: stack.webhook.heard(alert, "firing"), f"{alert} is told")
    told = stack.webhook.heard("SeatraceErrorBudgetBurnFast", "firing")[0]
    assert (told["labels"]["job"], told["labels"]["severity"]) == ("traffic", "critical")
    assert told["annotations"]["runbook_url"]
    assert told["annotations"]["summary"]
    stack.command("rest")
    for alert in alerts:
        wait_for(lambda alert=alert: stack.webhook.heard(alert, "resolved"), f"{alert} is told to be over")
    assert stack.hurried.firing().isdisjoint(alerts)


# --- without the collector --------------------------------------------------------------------------------------------


def test_the_pull_path_gives_the_same_values(stack: Stack) -> None:
    stack.command("rest")

    def values(job: str) -> dict[tuple[tuple[str, str], ...], float]:
        apart = ("job", "instance", "otel_scope_name")
        return {
            tuple(sorted((key, label) for key, label in each["metric"].items() if key not in apart)): float(
                each["value"][1]
            )
            for each in stack.prometheus.query(f'{{job="{job}", __name__=~"(gen_ai|seatrace)_.+"}}')
        }

    wait_for(lambda: values("traffic") == pytest.approx(values("pulled"), rel=1e-12), "both ways tell the same")
    assert len(values("pulled")) > 200


# --- last: the program ends -------------------------------------------------------------------------------------------


def test_prometheus_counts_what_the_provider_served(stack: Stack) -> None:
    assert stack.program.stdin is not None
    assert stack.program.stdout is not None
    stack.program.stdin.close()
    served = json.loads(stack.program.stdout.readline())
    assert stack.program.wait(DEADLINE) == 0
    assert len(served) >= 4
    counted = 'sum(gen_ai_client_inference_usage_%s_tokens_total{job="traffic", gen_ai_request_model="%s"})'
    for model, tokens in served.items():
        for direction, number in tokens.items():
            query = counted % (direction, model)
            wait_for(lambda query=query, number=number: stack.prometheus.value(query) == number, f"{query} is {number}")
