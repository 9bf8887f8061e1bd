"""The collector itself finds no fault with any shipped config, and knows no name in them as a former one."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
import yaml

from .collector import CONFIGS, OVERLAYS, ROOT, config_arguments
from .programs import installed
from .secrets_for_tests import certificate, tokens

COMBINATIONS = [(), *itertools.chain.from_iterable(itertools.combinations(OVERLAYS, size) for size in (1, 2))]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What ``secure.yaml`` wants to read."""
    directory = tmp_path_factory.mktemp("validate")
    return {**certificate(directory), **tokens(directory, "one"), "SEATRACE_COLLECTOR_STORAGE": str(directory)}


@pytest.mark.parametrize("overlays", COMBINATIONS, ids="+".join)
def test_a_config_with_overlays_is_valid(overlays: tuple[str, ...], otelcol: str, files: dict[str, str]) -> None:
    found = subprocess.run(
        [otelcol, "validate", *config_arguments(overlays)], env=files, capture_output=True, text=True
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_all_overlays_together_are_valid(otelcol: str, files: dict[str, str]) -> None:
    arguments = config_arguments(tuple(OVERLAYS))
    assert subprocess.run([otelcol, "validate", *arguments], env=files).returncode == 0


def test_the_components_are_asked_for_by_their_present_names(otelcol: str) -> None:
    listed = subprocess.run([otelcol, "components"], capture_output=True, text=True, check=True).stdout
    known = {line.strip().removeprefix("- name: ") for line in listed.splitlines() if "- name:" in line}
    used = {
        name.partition("/")[0]
        for config in map(Path, config_arguments(tuple(OVERLAYS))[1::2])
        for name in _components(config)
    }
    assert used <= known
    assert known - used == {"debug"}  # nothing is built in vain


def _components(config: Path) -> set[str]:
    found = yaml.safe_load(config.read_text())
    kinds = ("receivers", "processors", "exporters", "connectors", "extensions")
    return {name for kind in kinds for name in found.get(kind, {})}


# --- the others of the compose file -----------------------------------------------------------------------------------


def test_prometheus_understands_its_config(tmp_path: Path) -> None:
    config = yaml.safe_load((CONFIGS / "provisioning/prometheus/prometheus.yaml").read_text())
    assert config.pop("otlp")  # Prometheus 3 knows it; here may be an older one
    config["rule_files"] = [str(ROOT / "dashboards/rules" / Path(each).name) for each in config["rule_files"]]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    found = subprocess.run(
        [installed("promtool"), "check", "config", tmp_path / "prometheus.yaml"], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert "rules found" in found.stdout
