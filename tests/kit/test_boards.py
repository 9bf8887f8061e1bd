"""Boards cover the catalogue, name nothing else, and are what is checked in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import promql_parser
import pytest
from typer.testing import CliRunner

from seatrace.cli.app import app
from seatrace.emit.catalogue import CATALOGUE, Metric
from seatrace.emit.prometheus import family, label_name
from seatrace.kit import boards
from seatrace.kit.external import EXTERNAL, OVERFLOW
from seatrace.kit.promql import TARGET_LABELS

ROOT = Path(__file__).resolve().parents[2]
CHECKED_IN = ROOT / "dashboards" / "grafana"

BUILDS: list[boards.Semconv] = ["latest", "legacy"]
every_build = pytest.mark.parametrize("semconv", BUILDS)

UIDS = [
    "seatrace-overview",
    "seatrace-cost",
    "seatrace-latency",
    "seatrace-tokens",
    "seatrace-caches",
    "seatrace-agents",
    "seatrace-providers",
    "seatrace-queues",
    "seatrace-health",
]


def emitted(semconv: str) -> list[Metric]:
    return [metric for metric in CATALOGUE if metric.generation in ("seatrace", semconv)]


def series_names(metric: Metric) -> set[str]:
    parts = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
    return {family(metric) + part for part in parts}


def selectors(expression: str) -> list[Any]:
    found: list[Any] = []

    def note(node: Any) -> bool:
        if type(node).__name__ == "VectorSelector":
            found.append(node)
        if type(node).__name__ == "MatrixSelector":
            found.append(node.vector_selector)
        return True

    promql_parser.walk(promql_parser.parse(expression), pre_visit=note)
    return found


def grouped(expression: str) -> set[str]:
    lists = re.findall(r"(?:by|on|group_left) \(([^)]*)\)", expression)
    return {label for each in lists for label in each.split(", ") if label}


@every_build
def test_there_are_nine_boards_and_all_their_queries_parse(semconv: boards.Semconv) -> None:
    assert [board.uid for board in boards.boards(semconv)] == UIDS
    asked = list(boards.queries(semconv))
    assert len(asked) > 200
    for each in asked:
        promql_parser.parse(each.expression)


@every_build
def test_every_metric_of_the_catalogue_stands_on_a_panel(semconv: boards.Semconv) -> None:
    shown = {
        selector.name
        for asked in boards.queries(semconv)
        if not asked.panel.startswith("annotation: ")
        for selector in selectors(asked.expression)
    }
    assert [metric.name for metric in emitted(semconv) if not series_names(metric) & shown] == []


@every_build
def test_every_attribute_of_the_catalogue_can_be_seen_or_chosen(semconv: boards.Semconv) -> None:
    """A label that no query groups or selects by, and no variable offers, is one that nobody would miss."""
    text = "\n".join(boards.files(semconv).values())
    attributes = {attribute for metric in emitted(semconv) for attribute in metric.attributes}
    assert [each for each in sorted(attributes) if not re.search(rf"\b{label_name(each)}\b", text)] == []


@every_build
def test_boards_name_no_metric_and_no_label_that_nobody_emits(semconv: boards.Semconv) -> None:
    known = {name: metric for metric in (*emitted(semconv), *EXTERNAL) for name in series_names(metric)}
    for asked in boards.queries(semconv):
        found = selectors(asked.expression)
        assert found, asked
        labels = {"le", "__name__", *TARGET_LABELS}
        for selector in found:
            if selector.name is None:
                own = {label_name(OVERFLOW)}
            else:
                assert selector.name in known, asked
                own = set(map(label_name, known[selector.name].attributes))
            named = {matcher.name for matcher in selector.matchers.matchers}
            assert named <= own | {"le", "__name__", *TARGET_LABELS}, asked
            labels |= own
        assert grouped(asked.expression) <= labels, asked


@every_build
def test_variables_ask_for_labels_of_metrics_that_exist(semconv: boards.Semconv) -> None:
    known = {name: metric for metric in (*emitted(semconv), *EXTERNAL) for name in series_names(metric)}
    for board in documents(semconv):
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            (selector,) = selectors(asked[1])
            if selector.name is not None:
                assert asked[2] in {*map(label_name, known[selector.name].attributes), *TARGET_LABELS}


def documents(semconv: boards.Semconv = "latest") -> list[dict[str, Any]]:
    return boards.documents(semconv)


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in document["panels"] if panel["type"] != "row")


def test_queries_come_with_their_variables_filled_in() -> None:
    asked = list(boards.queries(values={"job": "api", "model": "gpt-.+"}, rate_interval="30s", range="2h"))
    assert not [each for each in asked if "$" in each.expression]
    latency = next(each for each in asked if (each.board, each.panel) == ("seatrace-overview", "p95 latency"))
    assert 'job=~"api", gen_ai_provider_name=~".*", gen_ai_request_model=~"gpt-.+"}[30s]' in latency.expression
    spend = next(each for each in asked if (each.board, each.panel) == ("seatrace-overview", "Spend"))
    assert "[2h]" in spend.expression
    assert (spend.instant, latency.instant) == (True, False)
    assert len({(each.board, each.panel, each.reference) for each in asked}) == len(asked)


def test_what_is_checked_in_is_what_the_code_builds() -> None:
    assert {path.name: path.read_text("utf-8") for path in CHECKED_IN.glob("*.json")} == boards.files()


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_build_does_not_depend_on_chance(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seatrace.cli", "dashboards", "build", "--check", "--out", str(CHECKED_IN)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
@every_build
def test_grafanas_own_model_reads_every_field(semconv: boards.Semconv) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("grafana-foundation-sdk needs Python >= 3.11")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    for board in documents(semconv):
        read = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
        assert list(lost(board, read)) == []


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    if isinstance(ours, dict):
        for key, value in ours.items():
            yield from lost(value, theirs[key], f"{path}.{key}") if key in theirs else [f"{path}.{key}"]
    elif isinstance(ours, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{path}[{number}]")
    elif ours != theirs:
        yield path


# --- what leads from a panel to elsewhere -----------------------------------------------------------------------------


def explored(board: str, panel: str, traces: boards.Traces) -> dict[str, Any]:
    """The pane that the link of a panel opens in Grafana's Explore."""
    document = next(each for each in boards.documents(traces=traces) if each["uid"] == board)
    found = next(each for each in panels(document) if each["title"] == panel)
    (link,) = found["fieldConfig"]["defaults"]["links"]
    address = urlsplit(link["url"])
    assert address.path == "/explore"
    (pane,) = json.loads(parse_qs(address.query)["panes"][0]).values()
    assert (pane["datasource"], pane["range"]) == ("${traces}", {"from": "${__from}", "to": "${__to}"})
    (query,) = pane["queries"]
    assert query["datasource"] == {"type": traces, "uid": "${traces}"}
    return dict(query)


def test_a_line_leads_to_the_spans_of_its_model() -> None:
    query = explored("seatrace-latency", "p95 latency by model", "tempo")
    assert query["query"] == '{ span.gen_ai.request.model = "${__field.labels.gen_ai_request_model:percentencode}" }'


def test_a_line_of_all_models_leads_to_those_that_are_chosen() -> None:
    query = explored("seatrace-latency", "Latency", "tempo")
    assert query["query"] == '{ span.gen_ai.request.model =~ "${model:regex}" }'


def test_a_row_of_a_table_leads_to_its_spans() -> None:
    query = explored("seatrace-agents", "Agents", "tempo")
    assert query["query"] == '{ span.gen_ai.agent.name = "${__data.fields["Agent"]:percentencode}" }'


def test_boards_for_jaeger_search_by_tags() -> None:
    query = explored("seatrace-latency", "p95 latency by model", "jaeger")
    assert query["tags"] == "gen_ai.request.model=${__field.labels.gen_ai_request_model:percentencode}"
    variables = {each["name"]: each for each in boards.documents(traces="jaeger")[0]["templating"]["list"]}
    assert variables["traces"]["query"] == "jaeger"


# --- the commands -----------------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["dashboards", *arguments])
    return ended.exit_code, " ".join(ended.output.split())


def test_export_needs_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run("export", "grafana/boards", "--semconv", "legacy")
    assert (code, said.count("wrote ")) == (0, 9)
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "grafana/boards").iterdir()}
    assert written == boards.files("legacy")


def test_export_into_what_is_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = run("export", str(tmp_path / "file"))
    assert code == 1
    assert "cannot write to" in said


def test_build_writes_what_has_changed_and_takes_away_what_is_gone(tmp_path: Path) -> None:
    assert run("build", "--out", str(tmp_path))[0] == 0
    (tmp_path / "seatrace-cost.json").write_text("{}")
    (tmp_path / "seatrace-old.json").write_text("{}")
    (tmp_path / "mine.json").write_text("{}")
    code, said = run("build", "--out", str(tmp_path))
    assert (code, said.count("wrote"), said.count("removed")) == (0, 1, 1)
    assert {path.name for path in tmp_path.iterdir()} == {*boards.files(), "mine.json"}
    assert "9 boards in" in run("build", "--out", str(tmp_path))[1]


def test_check_tells_every_difference_and_writes_nothing(tmp_path: Path) -> None:
    assert run("build", "--out", str(tmp_path))[0] == 0
    assert run("build", "--check", "--out", str(tmp_path)) == (0, "")
    (tmp_path / "seatrace-cost.json").write_text("{}")
    (tmp_path / "seatrace-tokens.json").unlink()
    (tmp_path / "seatrace-old.json").write_text("{}")
    code, said = run("build", "--check", "--out", str(tmp_path))
    assert code == 1
    for name, what in (("cost", "out of date"), ("tokens", "missing"), ("old", "no such board")):
        assert f"seatrace-{name}.json: {what}" in said
    assert "3 boards differ: run seatrace dashboards build" in said
    assert (tmp_path / "seatrace-cost.json").read_text() == "{}"
    assert not (tmp_path / "seatrace-tokens.json").exists()
