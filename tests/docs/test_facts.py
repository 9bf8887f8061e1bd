"""What the documentation says exists, exists: names, variables, settings, files, tables."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from pkgutil import resolve_name

import pytest

from seatrace.config import Config
from seatrace.emit import catalogue, semconv

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page: page.read_text() for page in PAGES}

NAMES = {name: value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
ATTRIBUTES = set(NAMES.values())
METRICS = {metric.name for metric in catalogue.CATALOGUE}
VARIABLES = {variable for field in fields(Config) for variable in field.metadata["env"]}
OF_THE_COLLECTOR = {
    variable
    for config in (ROOT / "collector").glob("*.yaml")
    for variable in re.findall(r"\$\{(?:env:)?(SEATRACE_\w+):-", config.read_text())
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_generated_tables_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/build_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@every_page
def test_names_of_attributes_metrics_and_events_exist(page: Path) -> None:
    named = set(re.findall(r"[`\"]((?:gen_ai|openai\.(?:api|request|response)|seatrace)\.[a-z_.]+)[`\"]", TEXTS[page]))
    assert {name for name in named - ATTRIBUTES - METRICS if not _in_python(name)} == set()


def _in_python(name: str) -> bool:
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@every_page
def test_variables_exist(page: Path) -> None:
    named = set(re.findall(r"SEATRACE_[A-Z0-9_]+", TEXTS[page]))
    assert named - VARIABLES - OF_THE_COLLECTOR - {"SEATRACE_", "SEATRACE_CI"} == set()


@every_page
def test_settings_exist(page: Path) -> None:
    known = {field.name for field in fields(Config)} | {"tracer_provider", "meter_provider", "logger_provider"}
    calls = re.findall(r"seatrace\.instrument\(([^()]*)\)", TEXTS[page])
    named = {name for call in calls for name in re.findall(r"(?:^|[\s,])(\w+)=", re.sub(r"\{.*?\}", "", call))}
    assert named <= known


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", prose):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                target
            )


def test_every_attribute_and_event_is_documented() -> None:
    wanted = {value for name, value in NAMES.items() if name != "SCHEMA_URL" and not name.endswith("_LEGACY")}
    on_spans, on_metrics = (TEXTS[ROOT / "docs" / page] for page in ("spans.md", "metrics.md"))
    labels = {name for metric in catalogue.CATALOGUE for name in metric.attributes if f"`{name}`" in on_metrics}
    assert {name for name in wanted - labels if f"`{name}`" not in on_spans} == set()


def test_make_targets_in_the_text_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in TEXTS.items():
        named = {word for line in re.findall(r"\bmake ([a-z][a-z -]*)", _code(text)) for word in line.split()}
        assert named <= targets, page.name


def _code(text: str) -> str:
    spans = re.findall(r"`(make [^`]+)`", text)
    lines = [line.partition("#")[0] for line in re.findall(r"^(make .+)$", text, re.MULTILINE)]
    return "\n".join([*spans, *lines])
