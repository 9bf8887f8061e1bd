"""The collector itself finds no fault with any shipped config, and knows no name in them as a former one."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from .collector import OVERLAYS, config_arguments
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
    import yaml

    found = yaml.safe_load(config.read_text())
    kinds = ("receivers", "processors", "exporters", "connectors", "extensions")
    return {name for kind in kinds for name in found.get(kind, {})}
