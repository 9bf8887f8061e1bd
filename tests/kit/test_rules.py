"""Alerts fire when they should and only then, name only what exists, and are what is checked in.

How each alert behaves stands in ``rules/*.test.yaml``, for promtool.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some
from typer.testing import CliRunner

from seatrace.cli.app import app
from seatrace.emit.catalogue import CATALOGUE, Metric
from seatrace.emit.prometheus import family, label_name
from seatrace.kit.conventions import Semconv
from seatrace.kit.external import EXTERNAL, OVERFLOW
from seatrace.kit.promql import TARGET_LABELS
from seatrace.kit.rules import Alert, Recording, Thresholds, groups
from seatrace.kit.rules.rule import Severity, inlined
from seatrace.kit.rules.thresholds import known
from seatrace.kit.yaml import dump

ROOT = Path(__file__).resolve().parents[2]
CHECKED_IN = ROOT / "dashboards"
RUNBOOKS = ROOT / "docs" / "runbooks"
SUITES = sorted(Path(__file__).with_name("rules").glob("*.test.yaml"))
OPTIONS = {
    "budget_per_day": (
        "--budget-per-day",
        "24",
        "--set",
        "budget_per_day_and_tenant=6",
        "--set",
        "budget_per_day_and_agent=4",
    ),
    "legacy": ("--semconv", "legacy"),
}
"""Rule files that are not checked in, by the name that their suites give them."""

BUDGETS = Thresholds(budget_per_day=24.0, budget_per_day_and_tenant=6.0, budget_per_day_and_agent=4.0)
SEMCONVS: tuple[Semconv, ...] = ("latest", "legacy")

every_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name.partition(".")[0])
every_semconv = pytest.mark.parametrize("semconv", SEMCONVS)


def alerts(semconv: Semconv = "latest") -> list[Alert]:
    return [alert for group in groups(BUDGETS, semconv=semconv) for alert in group.alerts]


every_alert = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)


def generated(*options: str) -> str:
    done = CliRunner().invoke(app, ["rules", "generate", *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def run(program: str, *arguments: str | Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


# --- what they do -----------------------------------------------------------------------------------------------------


@every_suite
def test_alerts_fire_when_they_should_and_only_then(suite: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "kit" / "rules"
    folder.mkdir(parents=True)
    shutil.copytree(CHECKED_IN / "rules", tmp_path / "dashboards" / "rules")
    name = suite.name.partition(".")[0]
    if name in OPTIONS:
        (folder / f"{name}.rules.yaml").write_text(generated(*OPTIONS[name]))
    run("promtool", "test", "rules", shutil.copy(suite, folder))


def outcomes() -> Iterator[tuple[str, bool, str]]:
    """Alert, whether it fires, and the test that says so."""
    for suite in SUITES:
        for test in yaml.safe_load(suite.read_text())["tests"]:
            found = defaultdict(set)
            for case in test["alert_rule_test"]:
                found[case["alertname"]].add(bool(case["exp_alerts"]))
            for name, fires in found.items():
                yield name, True in fires, f"{suite.name}: {test['name']}"


def test_every_alert_is_tested_firing_and_in_a_test_of_its_own_not_firing() -> None:
    names = {alert.name for alert in alerts()}
    assert {name for name, fires, _ in outcomes() if fires} == names
    assert {name for name, fires, _ in outcomes() if not fires} == names


# --- what they name ---------------------------------------------------------------------------------------------------


def expressions(semconv: Semconv) -> Iterator[tuple[str, str]]:
    """Name and text of each rule's expression, as Prometheus and as Grafana ask it."""
    for group in groups(BUDGETS, semconv=semconv):
        for recording in group.recordings:
            yield recording.name, recording.expr.text
        for alert in group.alerts:
            yield alert.name, alert.expr.text
            yield f"{alert.name} of Grafana", inlined(alert.expr, group.recordings)


def nodes(expression: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), pre_visit=lambda node: found.append(node) or True)
    return found


def selections(expression: str) -> Iterator[Any]:
    for node in nodes(expression):
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        elif isinstance(node, promql_parser.MatrixSelector):
            yield node.vector_selector


def emitted(semconv: Semconv) -> dict[str, set[str]]:
    """Series that there are, and their labels."""
    rows = [*(row for row in CATALOGUE if row.generation in ("seatrace", semconv)), *EXTERNAL]
    found = {name: set(map(label_name, row.attributes)) for row in rows for name in series(row)}
    recorded = {each.name: set(map(label_name, each.expr.labels)) for each in recordings(semconv)}
    return {name: labels | {*TARGET_LABELS, "le"} for name, labels in found.items()} | recorded


def series(row: Metric) -> list[str]:
    parts = ("_bucket", "_count", "_sum") if row.kind == "histogram" else ("",)
    return [family(row) + part for part in parts]


def recordings(semconv: Semconv) -> list[Recording]:
    return [each for group in groups(BUDGETS, semconv=semconv) for each in group.recordings]


@every_semconv
def test_every_metric_and_label_exists(semconv: Semconv) -> None:
    known = emitted(semconv)
    made_here = {"metric"}  # by label_replace
    for name, text in expressions(semconv):
        labels: set[str] = set(made_here)
        for each in selections(text):
            if each.name is None:
                assert {matcher.name for matcher in each.matchers.matchers} == {"__name__", label_name(OVERFLOW)}, name
                labels |= {*TARGET_LABELS}
                continue
            assert each.name in known, f"{name}: {each.name}"
            assert {matcher.name for matcher in each.matchers.matchers} <= known[each.name], f"{name}: {each}"
            labels |= known[each.name]
        grouped = re.findall(r"(?:by|on|group_left) \(([^)]*)\)", text)
        replaced = set(re.findall(r'", "(\w+)", "\(\.\*\)"\)', text))
        assert {label for each in grouped for label in each.split(", ") if label} | replaced <= labels, name


@every_semconv
def test_grafana_needs_no_recording_rules(semconv: Semconv) -> None:
    recorded = {each.name for each in recordings(semconv)}
    for name, text in expressions(semconv):
        if name.endswith(" of Grafana"):
            assert not recorded & {each.name for each in selections(text)}, name


@every_semconv
def test_nothing_is_divided_by_what_may_be_0(semconv: Semconv) -> None:
    for name, text in expressions(semconv):
        for node in nodes(text):
            if isinstance(node, promql_parser.BinaryExpr) and str(node.op) == "/":
                assert above_zero(node.rhs), f"{name}: {node.prettify()}"


def above_zero(node: Any) -> bool:
    while isinstance(node, promql_parser.ParenExpr):
        node = node.expr
    if isinstance(node, promql_parser.NumberLiteral):
        return bool(node.val > 0)
    if isinstance(node, promql_parser.VectorSelector):  # recorded above zero
        return any(
            each.name == node.name and above_zero(promql_parser.parse(str(each.expr))) for each in recordings("latest")
        )
    return (
        isinstance(node, promql_parser.BinaryExpr) and str(node.op) == ">" and str(node.rhs.prettify()).strip() == "0"
    )


@every_semconv
def test_no_bucket_bound_is_a_whole_number(semconv: Semconv) -> None:
    for name, text in expressions(semconv):
        assert not re.search(r'le="\d+(\.0)?"', text), name


# --- what they say ----------------------------------------------------------------------------------------------------


@every_alert
def test_an_alert_says_what_is_wrong_and_where(alert: Alert) -> None:
    assert re.fullmatch(r"Seatrace([A-Z][a-z]+)+", alert.name)
    assert not alert.summary.endswith(".")
    assert alert.description.endswith((".", "}"))
    labels = set(re.findall(r"\.Labels\.(\w+)", alert.summary + alert.description))
    assert labels, "it does not say where"
    assert labels <= set(map(label_name, alert.expr.labels))
    assert set(alert.tuned_by) <= set(known())


def test_names_are_unique() -> None:
    names = [rule.name for group in groups() for rule in (*group.recordings, *group.alerts)]
    assert len(names) == len(set(names))


def test_every_threshold_decides_about_an_alert() -> None:
    assert {name for alert in alerts() for name in alert.tuned_by} == set(known())


def test_what_is_quieted_is_an_alert_of_no_higher_severity_that_shares_a_label() -> None:
    rank: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}
    by_name = {alert.name: alert for alert in alerts()}
    for alert in by_name.values():
        for name in alert.quiets:
            assert rank[by_name[name].severity] <= rank[alert.severity], f"{alert.name} quiets {name}"
            assert by_name[name].expr.labels & alert.expr.labels, f"{alert.name} quiets {name} everywhere"


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {alert.name for alert in alerts()}


@every_alert
def test_a_runbook_has_its_four_parts_and_says_how_to_tune_all_that_decides(alert: Alert) -> None:
    text = (RUNBOOKS / f"{alert.name}.md").read_text()
    assert text.startswith(f"# {alert.name}\n\n<!-- generated: rule {alert.name} -->\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["What it means", "Look at", "Do", "Tune"]
    assert set(re.findall(r"`(\w+)`", text.partition("## Tune")[2])) & set(known()) == set(alert.tuned_by)


@every_alert
def test_the_queries_of_a_runbook_can_be_asked(alert: Alert) -> None:
    known_series = emitted("latest")
    for query in re.findall(
        r"^```promql\n(.*?)^```$", (RUNBOOKS / f"{alert.name}.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        for each in selections(query):
            assert each.name is None or each.name in known_series, query
            assert each.name is None or {it.name for it in each.matchers.matchers} <= known_series[each.name], query


def test_the_panels_that_runbooks_name_exist() -> None:
    boards = [json.loads(file.read_text()) for file in (CHECKED_IN / "grafana").glob("*.json")]
    if not boards:
        pytest.skip("there are no boards in dashboards/grafana")
    panels = {
        f"{board['title'].partition(' / ')[2]} › {panel['title']}" for board in boards for panel in board["panels"]
    }
    for page in RUNBOOKS.glob("*.md"):
        assert set(re.findall(r"\*\*([^*]+ › [^*]+)\*\*", page.read_text())) <= panels, page.name


# --- the files --------------------------------------------------------------------------------------------------------

FILES = {
    "prometheus": CHECKED_IN / "rules" / "seatrace.rules.yaml",
    "grafana": CHECKED_IN / "rules" / "seatrace.grafana-alerts.yaml",
    "alertmanager": CHECKED_IN / "alertmanager" / "alertmanager.yaml",
}


@pytest.mark.parametrize("reader", FILES)
def test_what_is_checked_in_is_what_is_generated(reader: str) -> None:
    done = CliRunner().invoke(
        app, ["rules", "generate", "--format", reader, "--out", str(FILES[reader].parent), "--check"]
    )
    assert done.exit_code == 0, done.output


def test_a_file_that_is_out_of_date_is_shown_and_left_alone(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["rules", "generate", "--out", str(tmp_path)]).exit_code == 0
    file = tmp_path / "seatrace.rules.yaml"
    before = file.read_text()
    done = runner.invoke(app, ["rules", "generate", "--out", str(tmp_path), "--set", "agent_loops=7", "--check"])
    assert done.exit_code == 1
    assert re.search(r"^\+ .*seatrace_agent_loops_total.* >= 7", done.output, re.MULTILINE)
    assert file.read_text() == before


@pytest.mark.parametrize("options", [(), *OPTIONS.values()], ids=["defaults", *OPTIONS])
def test_promtool_accepts_the_rules(options: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "seatrace.rules.yaml"
    file.write_text(generated(*options))
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", file)


def test_amtool_accepts_the_routes() -> None:
    run("amtool", "check-config", FILES["alertmanager"])


@pytest.mark.parametrize(
    ("alert", "receiver"),
    [("SeatraceBudgetExhausted", "pager"), ("SeatraceToolFailing", "tickets"), ("SeatraceUnpricedCalls", "digest")],
)
def test_alerts_go_to_the_receiver_of_their_severity(alert: str, receiver: str) -> None:
    severity = next(each.severity for each in alerts() if each.name == alert)
    labels = (f"alertname={alert}", f"severity={severity}", "job=api")
    config = f"--config.file={FILES['alertmanager']}"
    run("amtool", "config", "routes", "test", config, f"--verify.receivers={receiver}", *labels)


def test_grafana_gets_the_same_alerts() -> None:
    ours = {rule["alert"]: rule for rule in rules(generated()) if "alert" in rule}
    theirs = {rule["title"]: rule for rule in rules(generated("--format", "grafana"))}
    assert set(theirs) == set(ours)
    for name, rule in theirs.items():
        assert rule["for"] == ours[name]["for"]
        assert rule.get("keepFiringFor") == ours[name].get("keep_firing_for")
        assert rule["labels"] == ours[name]["labels"]
        assert set(rule["annotations"]) == set(ours[name]["annotations"])
        assert re.fullmatch(r"[a-z-]{1,40}", rule["uid"])
        assert [step["refId"] for step in rule["data"]] == ["A", "B", "C"]
        assert rule["condition"] == "C"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="grafana-foundation-sdk needs Python >= 3.11")
def test_grafana_knows_what_an_alert_says() -> None:
    from grafana_foundation_sdk.models.alerting import Rule
    from grafana_foundation_sdk.models.expr import TypeMath, TypeThreshold

    for rule in rules(generated("--format", "grafana")):
        kept = Rule.from_json(rule).to_json()
        # Its name in files is not that of the HTTP interface, of which this library is.
        assert set(rule) - set(kept) <= {"keepFiringFor"}
        for key in (kept.keys() & rule.keys()) - {"data"}:
            assert kept[key] == rule[key]
        _, math, threshold = (step["model"] for step in rule["data"])
        assert told(TypeMath.from_json(math)) == math
        assert told(TypeThreshold.from_json(threshold)) == threshold


def told(model: Any) -> Any:
    return json.loads(json.dumps(model.to_json(), default=lambda part: part.to_json()))


def test_grafana_does_not_take_texts_for_variables_of_its_environment() -> None:
    for rule in rules(generated("--format", "grafana")):
        assert "$" not in "".join([*rule["annotations"].values(), *rule["labels"].values()]), rule["title"]
        assert "{{ .Value " not in "".join(rule["annotations"].values()), rule["title"]


def rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def test_links_lead_where_the_options_say() -> None:
    options = ("--runbooks", "https://example.com/books/", "--grafana-url", "https://grafana.example.com/")
    found = {rule["alert"]: rule["annotations"] for rule in rules(generated(*options)) if "alert" in rule}
    assert found["SeatraceToolFailing"]["runbook_url"] == "https://example.com/books/SeatraceToolFailing.md"
    assert found["SeatraceToolFailing"]["dashboard_url"].startswith("https://grafana.example.com/d/seatrace-agents{{")


def test_the_data_source_of_grafana_can_be_named() -> None:
    text = generated("--format", "grafana", "--datasource", "mimir-1")
    assert {rule["data"][0]["datasourceUid"] for rule in rules(text)} == {"mimir-1"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--set", "eror_ratio=0.1"), "there is no threshold 'eror_ratio': did you mean 'error_ratio'?"),
        (("--set", "error_ratio"), "--set: expected NAME=VALUE, got 'error_ratio'"),
        (("--budget-per-day", "lots"), "budget_per_day: expected a number above 0, got 'lots'"),
        (("--thresholds", "missing.toml"), "thresholds missing.toml: expected a readable file, got No such file"),
        (("--check",), "--check compares with the file in a folder: give --out, too"),
    ],
)
def test_what_cannot_be_is_said(options: tuple[str, ...], complaint: str) -> None:
    done = CliRunner().invoke(app, ["rules", "generate", *options])
    assert done.exit_code == 2
    assert complaint in done.output
    assert not done.stdout


# --- YAML -------------------------------------------------------------------------------------------------------------

texts = some.text(some.characters(exclude_categories=["Cs"]), max_size=30)
scalars = texts | some.integers() | some.booleans()
values = some.recursive(
    scalars,
    lambda inner: (
        some.lists(scalars | some.dictionaries(texts, inner, max_size=3), max_size=3)
        | some.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(some.dictionaries(texts, values, max_size=4))
def test_what_is_written_as_yaml_reads_back_the_same(value: dict[str, Any]) -> None:
    assert yaml.safe_load(dump(value)) == (value or None)
