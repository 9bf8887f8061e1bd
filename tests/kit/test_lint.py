"""The linter finds nothing on our boards, and every fault that is planted in one."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest

from seatrace.errors import MissingExtraError
from seatrace.kit import boards
from seatrace.kit.lint import RULES, lint

Json = dict[str, Any]
BUILDS: list[tuple[boards.Semconv, boards.Traces]] = [("latest", "tempo"), ("latest", "jaeger"), ("legacy", "tempo")]

DURATION = "gen_ai_client_inference_duration_seconds"
CALLS = f'{DURATION}_count{{job=~"$job"}}'
COST = 'seatrace_cost_USD_total{job=~"$job"}'


@pytest.mark.parametrize(("semconv", "traces"), BUILDS)
def test_our_boards_keep_to_every_rule(semconv: boards.Semconv, traces: boards.Traces) -> None:
    found = {board["uid"]: lint(board) for board in boards.documents(semconv, traces=traces)}
    assert {uid: findings for uid, findings in found.items() if findings} == {}


def the_board(uid: str = "seatrace-overview") -> Json:
    return next(copy.deepcopy(each) for each in boards.documents() if each["uid"] == uid)


def panel(board: Json, title: str) -> Json:
    found: Json = next(each for each in board["panels"] if each["title"] == title)
    return found


def asks(expression: str, *, title: str = "Calls by model", **target: Any) -> Callable[[Json], None]:
    """Another query for a panel; a graph's unless ``title`` names another."""

    def plant(board: Json) -> None:
        panel(board, title)["targets"][0].update(expr=expression, **target)

    return plant


def without(key: str, title: str | None = None) -> Callable[[Json], None]:
    def plant(board: Json) -> None:
        del (board if title is None else panel(board, title))[key]

    return plant


def sets(title: str, *path: Any, value: Any) -> Callable[[Json], None]:
    """``value`` for what is at the end of ``path`` in a panel."""

    def plant(board: Json) -> None:
        part = panel(board, title)
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value

    return plant


def variable(which: str, /, **changed: Any) -> Callable[[Json], None]:
    def plant(board: Json) -> None:
        next(each for each in board["templating"]["list"] if each["name"] == which).update(changed)

    return plant


def no_variable(name: str) -> Callable[[Json], None]:
    def plant(board: Json) -> None:
        found = board["templating"]["list"]
        found[:] = [each for each in found if each["name"] != name]

    return plant


def same_id(board: Json) -> None:
    board["panels"][2]["id"] = board["panels"][1]["id"]


def links_by_another_tag(board: Json) -> None:
    board["links"][0]["tags"] = ["others"]


def links_that_lose_the_time(board: Json) -> None:
    board["links"][0]["keepTime"] = False


def no_mark(number: int) -> Callable[[Json], None]:
    def plant(board: Json) -> None:
        del board["annotations"]["list"][number]

    return plant


def over_another(board: Json) -> None:
    panel(board, "Spend")["gridPos"] = panel(board, "Calls")["gridPos"]


def out_of_the_board(board: Json) -> None:
    panel(board, "Latency")["gridPos"]["x"] = 20


def no_exemplars(board: Json) -> None:
    for target in panel(board, "Latency")["targets"]:
        target["exemplar"] = False


FAULTS: list[tuple[str, Callable[[Json], None]]] = [
    ("named", without("description")),
    ("named", without("uid")),
    ("named", without("description", "Latency")),
    ("named", sets("Latency", "title", value="")),
    ("schema", lambda board: board.update(schemaVersion=16)),
    ("uneditable", lambda board: board.update(editable=True)),
    ("links", without("links")),
    ("links", links_by_another_tag),
    ("links", links_that_lose_the_time),
    ("annotations", no_mark(0)),
    ("annotations", no_mark(1)),
    ("ids", same_id),
    ("places", over_another),
    ("places", out_of_the_board),
    ("datasource", no_variable("traces")),
    ("datasource", variable("datasource", query="influxdb")),
    ("datasource", sets("Latency", "datasource", "uid", value="PBFA97CFB590B2093")),
    ("datasource", sets("Latency", "targets", 0, "datasource", "uid", value="PBFA97CFB590B2093")),
    ("job", no_variable("job")),
    ("job", asks(f"sum(rate({DURATION}_count[$__rate_interval]))")),
    ("job", asks(f'sum(rate({DURATION}_count{{job="api"}}[$__rate_interval]))')),
    ("refresh", variable("model", refresh=1)),
    ("all", variable("model", allValue=None)),
    ("all", variable("model", allValue=".+")),
    ("variable", variable("model", definition="metrics(.*)")),
    ("variable", no_variable("model")),
    ("variable", variable("model", name="kind")),
    ("metric", variable("model", definition="label_values(gen_ai_calls_total, gen_ai_request_model)")),
    ("label", variable("model", definition="label_values(seatrace_cost_USD_total, model)")),
    ("targets", sets("Latency", "targets", value=[])),
    ("targets", sets("Latency", "targets", 1, "refId", value="A")),
    ("unit", sets("Latency", "fieldConfig", "defaults", "unit", value="")),
    ("unit", without("fieldConfig", "Latency")),
    ("thresholds", sets("Latency", "fieldConfig", "defaults", "thresholds", "steps", value=[])),
    (
        "thresholds",
        sets(
            "Latency",
            *("fieldConfig", "defaults", "thresholds", "steps"),
            value=[{"color": "green", "value": None}, {"color": "red", "value": 80}],
        ),
    ),
    ("exemplars", no_exemplars),
    ("traces", sets("Latency", "fieldConfig", "defaults", "links", value=[])),
    ("heatmap", sets("Latency", "type", value="heatmap")),
    ("legend", sets("Latency", "targets", 0, "legendFormat", value="")),
    ("promql", asks("sum(rate(")),
    ("metric", asks('sum(rate(llm_calls_total{job=~"$job"}[$__rate_interval]))')),
    ("metric", asks('sum(rate(gen_ai_client_inference_duration_bucket{job=~"$job"}[$__rate_interval]))')),
    ("label", asks(f'sum(rate({DURATION}_count{{job=~"$job", model="a"}}[$__rate_interval]))')),
    ("label", asks(f"sum by (gen_ai_agent_name) (rate({CALLS}[$__rate_interval]))")),
    ("label", asks(f"sum by (le) (rate({CALLS}[$__rate_interval]))")),
    ("selector", asks(f'sum(rate({DURATION}_count{{job=~"$job", service_name="api"}}[$__rate_interval]))')),
    ("counter", asks(f"sum({CALLS})")),
    ("counter", asks(f"sum(max_over_time({COST}[$__rate_interval]))")),
    ("counter", asks('sum(rate(seatrace_cache_entries{job=~"$job"}[$__rate_interval]))')),
    ("range", asks(f"sum(rate({CALLS}[5m]))")),
    ("range", asks(f"sum(rate({CALLS}[2h]))")),
    ("range", asks(f"sum(increase({CALLS}[$__range]))")),
    ("range", asks(f"sum(increase({CALLS}[$__rate_interval]))", title="Spend")),
    ("le", asks(f'sum(rate({DURATION}_bucket{{job=~"$job", le="1"}}[$__rate_interval]))')),
    ("le", asks(f'sum(rate({DURATION}_bucket{{job=~"$job", le="10.0"}}[$__rate_interval]))')),
    ("quantile", asks(f'histogram_quantile(0.9, sum(rate({DURATION}_bucket{{job=~"$job"}}[$__rate_interval])))')),
    ("quantile", asks(f'avg by (le) (rate({DURATION}_bucket{{job=~"$job"}}[$__rate_interval]))')),
    ("guard", asks(f"sum(rate({COST}[$__rate_interval])) / sum(rate({CALLS}[$__rate_interval]))")),
    ("guard", asks(f"sum(rate({COST}[$__rate_interval])) / (sum(rate({CALLS}[$__rate_interval])) >= 0)")),
    ("division", asks(f"rate({COST}[$__rate_interval]) / (rate({CALLS}[$__rate_interval]) > 0)")),
    (
        "division",
        asks(
            f"sum by (gen_ai_request_model) (rate({COST}[$__rate_interval])) "
            f"/ (sum(rate({CALLS}[$__rate_interval])) > 0)"
        ),
    ),
]

TABLE_FAULTS: list[tuple[str, Callable[[Json], None]]] = [
    ("columns", sets("Models", "fieldConfig", "overrides", value=[])),
    ("columns", sets("Models", "transformations", value=[])),
]


@pytest.mark.parametrize(("rule", "plant"), FAULTS)
def test_a_planted_fault_is_found(rule: str, plant: Callable[[Json], None]) -> None:
    board = the_board()
    plant(board)
    assert rule in {finding.rule for finding in lint(board)}


@pytest.mark.parametrize(("rule", "plant"), TABLE_FAULTS)
def test_a_fault_in_a_table_is_found(rule: str, plant: Callable[[Json], None]) -> None:
    board = the_board("seatrace-latency")
    plant(board)
    assert rule in {finding.rule for finding in lint(board)}


def test_every_rule_has_a_fault_that_it_finds() -> None:
    assert {rule for rule, _ in (*FAULTS, *TABLE_FAULTS)} == set(RULES)


def test_a_fault_in_a_folded_row_is_found() -> None:
    board = the_board()
    folded = [each for each in board["panels"] if each["type"] != "row"][-1]
    board["panels"].remove(folded)
    board["panels"][-1]["panels"] = [folded]
    assert lint(board) == lint(the_board())
    folded["description"] = ""
    assert [(found.rule, found.where) for found in lint(board)] == [("named", folded["title"])]


@pytest.mark.parametrize(
    "expression",
    [
        f"sum(rate({CALLS}[$__rate_interval])) / 60",
        f"sum by (gen_ai_request_model) (rate({COST}[$__rate_interval])) "
        f"/ on (gen_ai_request_model) (sum by (gen_ai_request_model) (rate({CALLS}[$__rate_interval])) > 0)",
        "otelcol_exporter_queue_size / on (exporter) (max by (exporter) (otelcol_exporter_queue_capacity) > 0)",
        f'sum(rate({DURATION}_bucket{{job=~"$job", le="10.24"}}[$__rate_interval]))',
    ],
)
def test_what_is_right_passes(expression: str) -> None:
    board = the_board()
    asks(expression)(board)
    assert [found for found in lint(board) if found.where] == []


def test_a_finding_says_where_and_what() -> None:
    board = the_board()
    asks(f"sum({CALLS})")(board)
    (found,) = lint(board)
    assert str(found) == f"Calls by model: {DURATION}_count only counts up: take rate() or increase() of it [counter]"


def test_without_the_parser_the_linter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "promql_parser", None)
    with pytest.raises(MissingExtraError, match="pip install promql-parser"):
        lint(the_board())
