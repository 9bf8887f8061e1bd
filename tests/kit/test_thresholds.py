"""Thresholds: defaults, a TOML file, options, and what cannot be."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from seatrace.cli.app import app
from seatrace.emit.catalogue import INFERENCE_DURATION
from seatrace.errors import ConfigError
from seatrace.kit.rules import Thresholds
from seatrace.kit.rules.thresholds import known, template, thresholds


def invoke(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["rules", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def alert(text: str, name: str) -> str:
    groups = yaml.safe_load(text)["groups"]
    return next(str(rule["expr"]) for group in groups for rule in group["rules"] if rule.get("alert") == name)


def test_every_threshold_has_a_unit_and_says_what_it_decides() -> None:
    for name, field in known().items():
        assert field.metadata["unit"], name
        assert field.metadata["doc"].endswith("."), name


def test_they_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Thresholds().error_ratio = 0.5  # type: ignore[misc]


def test_texts_are_read_as_numbers() -> None:
    found = thresholds({"error_ratio": "0.02", "agent_loops": "5", "latency_bound": "5.12"})
    assert (found.error_ratio, found.agent_loops, found.latency_bound) == (0.02, 5, 5.12)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("budget_per_day", 0, "a number above 0"),
        ("budget_per_day", float("inf"), "a number above 0"),
        ("budget_per_day", float("nan"), "a number above 0"),
        ("budget_per_day", "ten", "a number above 0"),
        ("budget_per_day", [1], "a number above 0"),
        ("anomaly_factor", 1, "a number above 1"),
        ("anomaly_factor", None, "a number above 1"),
        ("error_ratio", 0, "a share above 0 and below 1"),
        ("error_ratio", 1, "a share above 0 and below 1"),
        ("error_ratio", True, "a share above 0 and below 1"),
        ("agent_loops", 2.5, "a whole number of at least 1"),
        ("min_calls", 0, "a whole number of at least 1"),
        ("queue_stalled", 90, "whole minutes in seconds, such as 600"),
        ("latency_bound", 10, "a bucket bound of the duration: 0.01, 0.02"),
        ("error_burn_slow", 15, r"less than error_burn_fast \(14.4\)"),
        ("budget_burn_fast", 1.2, r"less than budget_burn_fast \(1.2\)"),
        ("error_ratio", 0.07, r"less than 0.0694, since error_burn_fast \(14.4\) times it"),
        ("slow_ratio", 0.2, r"less than 0.167, since latency_burn \(6\) times it"),
    ],
)
def test_what_cannot_be_says_what_was_expected(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^mine.toml: [a-z_]+: expected {expected}.*, got "):
        thresholds({name: value}, source="mine.toml")
    with pytest.raises(ConfigError):
        Thresholds(**{name: value})


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"^mine.toml: there is no threshold 'latency_bond': did you mean 'latency_b"):
        thresholds({"latency_bond": 5.12}, source="mine.toml")
    with pytest.raises(ConfigError, match="known are budget_per_day, "):
        thresholds({"colour": "red"})


def test_a_bound_of_latency_is_one_that_every_emitter_has() -> None:
    for bound in INFERENCE_DURATION.buckets or ():
        assert thresholds({"latency_bound": bound}).latency_bound == bound


def test_options_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("agent_loops = 5\nagent_steps = 50\n")
    text = invoke("generate", "--thresholds", file, "--set", "agent_loops=7")
    assert ">= 7" in alert(text, "SeatraceAgentLooping")
    assert "> 50" in alert(text, "SeatraceAgentStepsHigh")
    assert "> 0.2" in alert(text, "SeatraceAgentFailing")


def test_a_name_in_the_file_that_is_unknown_is_told_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("agent_loop = 5\n")
    done = CliRunner().invoke(app, ["rules", "generate", "--thresholds", str(file)])
    assert done.exit_code == 2
    assert f"{file}: there is no threshold 'agent_loop': did you mean 'agent_loops'?" in done.output


def test_what_is_no_toml_is_said(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("agent_loops: 5\n")
    done = CliRunner().invoke(app, ["rules", "generate", "--thresholds", str(file)])
    assert done.exit_code == 2
    assert f"thresholds {file}: expected TOML, got " in done.output


def test_the_printed_file_of_thresholds_gives_the_same_thresholds(tmp_path: Path) -> None:
    mine = Thresholds(budget_per_day=50.0, latency_bound=5.12, queue_stalled=1_200)
    file = tmp_path / "mine.toml"
    file.write_text(template(mine))
    assert invoke("thresholds", "--thresholds", file) == template(mine)
    assert invoke("generate", "--thresholds", file) != invoke("generate")


def test_without_a_file_the_defaults_are_printed() -> None:
    assert invoke("thresholds") == template(Thresholds())
    assert all(name in template(Thresholds()) for name in known())
    assert len(known()) == len(fields(Thresholds))


def test_without_a_budget_cost_is_compared_with_none() -> None:
    recorded = "budget:seatrace_budget_used:ratio"
    assert "seatrace_cost_USD_total" not in _recording(invoke("generate"), recorded)
    assert "seatrace_cost_USD_total" in _recording(invoke("generate", "--budget-per-day", "24"), recorded)


def _recording(text: str, name: str) -> str:
    groups = yaml.safe_load(text)["groups"]
    return next(str(rule["expr"]) for group in groups for rule in group["rules"] if rule.get("record") == name)
