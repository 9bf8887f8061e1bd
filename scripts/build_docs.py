"""Writes the tables of README.md and docs/ that the code decides: names, libraries, metrics, settings, alerts.

    python scripts/build_docs.py            # write them
    python scripts/build_docs.py --check    # exit code 1 and a diff if a page is out of date

A table stands between ``<!-- generated: NAME -->`` and ``<!-- end: NAME -->``; everything else on a page is written by
hand.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import seatrace
from seatrace.config import Config
from seatrace.emit import catalogue
from seatrace.emit.faults import STAGES
from seatrace.errors import ConfigError
from seatrace.kit import boards, lint
from seatrace.kit.rules import Alert, groups
from seatrace.kit.rules.rule import lines, spaced
from seatrace.kit.rules.thresholds import known
from seatrace.libraries import REGISTRY, Library, providers

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PINS = ROOT / "requirements" / "ci.txt"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# --- names ----------------------------------------------------------------------------------------------------------


def names() -> str:
    """The public names, each with the first sentence of its docstring."""
    rows = [(f"`seatrace.{name}`", _summary(name)) for name in seatrace.__all__ if name != "__version__"]
    return table(("Name", "What"), rows)


def _summary(name: str) -> str:
    found = getattr(seatrace, name)
    text = inspect.getdoc(found) or ""
    first = re.split(r"(?<=\.)\s|\n\n", text, maxsplit=1)[0].replace("\n", " ")
    first = re.sub(r":\w+:`~?([^`]+)`", lambda role: f"`{role[1].rsplit('.', 1)[-1]}`", first)
    return first.replace("``", "`")


# --- libraries ------------------------------------------------------------------------------------------------------


def libraries(kind: str) -> Callable[[], str]:
    """Those of one kind in the registry, with the versions that the tests run."""

    def rows() -> str:
        rows = [
            (f"`{each.distribution}`", each.oldest, _newest(each), each.observes)
            for each in REGISTRY
            if each.kind == kind
        ]
        return table(("Library", "Oldest tested", "Newest tested", "Observed"), rows)

    return rows


def _newest(library: Library) -> str:
    """The version that the tests run: of clients in the environment of all, of most frameworks in their own."""
    pins = PINS
    if library.kind == "framework":
        name = library.name.replace(".", "_")
        own = (
            path
            for path in (PINS.parent / "frameworks").glob("*-newest.txt")
            if name in path.stem.rpartition("-")[0].split("+")
        )
        pins = next(own, PINS)
    lines = (line.split(" ")[0].split("==", 1) for line in pins.read_text().splitlines() if "==" in line)
    return dict(lines)[library.distribution]


def operations() -> str:
    """The endpoints of each library and what they become."""
    rows = []
    for each in REGISTRY:
        if each.kind != "client":
            continue
        for path, shape in import_module(f"seatrace.libraries.{each.name}").ENDPOINTS.items():
            rows.append((f"`{each.name}`", f"`POST …{path}`", shape.kind, f"`{shape.operation}`"))
    return table(("Library", "Endpoint", "Kind", "`gen_ai.operation.name`"), rows)


def hosts() -> str:
    """Which host is which provider."""
    found: dict[str, list[str]] = defaultdict(list)
    for host, provider in providers._HOSTS.items():
        found[provider].append(host)
    return table(("`gen_ai.provider.name`", "Hosts"), ((f"`{name}`", code(found[name])) for name in sorted(found)))


# --- metrics --------------------------------------------------------------------------------------------------------

_BUCKETS = {
    value: name.removesuffix("_LEGACY")
    for name, value in vars(catalogue.metric).items()
    if isinstance(value, tuple) and value and isinstance(value[0], float)
}


def metrics(of: Sequence[catalogue.Metric], generation: str) -> Callable[[], str]:
    """Those rows ``of`` the catalogue that a generation of the conventions emits."""

    def rows() -> Iterator[Sequence[str]]:
        for each in of:
            if each.generation == generation:
                kind = each.kind if each.buckets is None else f"{each.kind}, {_label(each.buckets)}"
                yield f"`{each.name}`", kind, f"`{each.unit}`", each.description, _attributes(each.attributes)

    return lambda: table(("Metric", "Kind", "Unit", "What", "Attributes"), rows())


def _label(buckets: tuple[float, ...]) -> str:
    return _BUCKETS[buckets].replace("_", " ").lower()


def _attributes(wanted: tuple[str, ...]) -> str:
    if wanted[: len(catalogue.BASE)] == catalogue.BASE:
        rest = wanted[len(catalogue.BASE) :]
        return "base" + (", " + code(rest) if rest else "")
    return code(wanted)


def base() -> str:
    """The attributes that most metrics share."""
    return code(catalogue.BASE)


def buckets() -> str:
    """The bounds of the histograms."""
    used = {each.buckets: None for each in catalogue.CATALOGUE if each.buckets is not None}
    return table(
        ("Buckets", "Upper bounds"), ((_label(each), ", ".join(f"{bound:.12g}" for bound in each)) for each in used)
    )


def stages() -> str:
    """The label values of ``seatrace.faults``."""
    return code(STAGES)


# --- boards ---------------------------------------------------------------------------------------------------------

_PICTURES = {"stat": "number", "timeseries": "graph", "heatmap": "heatmap", "table": "table", "bargauge": "bars"}


def board_list() -> str:
    """The boards and what they answer."""
    rows = [
        (f"[{each.title}](#{_anchor(each.title)})", f"`{each.uid}`", each.description, str(len(each.panels)))
        for each in boards.boards()
    ]
    return table(("Board", "uid", "What it answers", "Panels"), rows)


def panel_list() -> str:
    """The panels of every board."""
    parts = []
    for each in boards.boards():
        rows = [
            (panel.title if place else f"**{row.title}**<br>{panel.title}", _PICTURES[panel.kind], panel.description)
            for row in each.rows
            for place, panel in enumerate(row.panels)
        ]
        parts.append(f"### {each.title}\n\n{table(('Panel', 'Kind', 'What'), rows)}")
    return "\n\n".join(parts)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def lint_rules() -> str:
    """What boards keep to."""
    return table(("Rule", "What"), ((f"`{name}`", what) for name, what in lint.RULES.items()))


# --- settings -------------------------------------------------------------------------------------------------------


def configuration() -> str:
    """The fields of Config."""
    rows = [
        (f"`{each.name}`", _expected(each), _default(each), code(each.metadata["env"]) or "–", each.metadata["doc"])
        for each in fields(Config)
    ]
    return table(("Setting", "Expected", "Default", "Variables", "What"), rows)


def _expected(each: Field[Any]) -> str:
    """What the setting's parser says that it expects."""
    try:
        each.metadata["parse"](each.name, object())
    except ConfigError as error:
        found = re.search(r"expected (.+?)(?:, got| \(not shown)", str(error))
        if found is not None:
            return found[1]
    raise SystemExit(f"{each.name}: its parser does not say what it expects")


def _default(each: Field[Any]) -> str:
    value = each.default_factory() if each.default_factory is not MISSING else each.default
    if value is None or value == () or value == {}:
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# --- alerts ---------------------------------------------------------------------------------------------------------

_ALERTS = [alert for group in groups() for alert in group.alerts]


def alerts() -> str:
    """All alerts with the default thresholds."""
    rows = ((_runbook(each), each.severity, each.when, _after(each)) for each in _ALERTS)
    return table(("Alert", "Severity", "When", "For"), rows)


def _runbook(alert: Alert) -> str:
    return f"[{alert.name}](runbooks/{alert.name}.md)"


def _after(alert: Alert) -> str:
    return "at once" if alert.hold == "0m" else spaced(alert.hold)


def thresholds() -> str:
    """What decides when they fire."""
    rows = []
    for name, each in known().items():
        default = "–" if each.default is None else f"{each.default:,g}"
        rows.append((f"`{name}`", default, each.metadata["unit"], each.metadata["doc"]))
    return table(("Threshold", "Default", "Unit", "What"), rows)


def rule(alert: Alert) -> Callable[[], str]:
    """The head of an alert's runbook."""
    after = _after(alert) if alert.hold == "0m" else f"after {_after(alert)}"
    keep = f", and for {spaced(alert.keep)} beyond" if alert.keep else ""
    return lambda: (
        f"**{alert.severity.capitalize()}**: {alert.when}. Fires {after}{keep}. "
        f"Dashboard `seatrace-{alert.board}`.\n\n```promql\n{lines(alert.expr.text)}\n```"
    )


# --- pages ----------------------------------------------------------------------------------------------------------

TABLES: dict[str, Callable[[], str]] = {
    "names": names,
    "libraries": libraries("client"),
    "frameworks": libraries("framework"),
    "operations": operations,
    "hosts": hosts,
    "metrics of seatrace": metrics(catalogue.CALL_METRICS, "seatrace"),
    "metrics of latest": metrics(catalogue.CALL_METRICS, "latest"),
    "metrics of legacy": metrics(catalogue.CALL_METRICS, "legacy"),
    "metrics of patterns": metrics(catalogue.PATTERN_METRICS, "seatrace"),
    "base attributes": base,
    "buckets": buckets,
    "fault stages": stages,
    "boards": board_list,
    "panels": panel_list,
    "lint rules": lint_rules,
    "configuration": configuration,
    "alerts": alerts,
    "thresholds": thresholds,
    **{f"rule {each.name}": rule(each) for each in _ALERTS},
}
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)


def built(page: str) -> str:
    """The text of a page with its tables written anew."""
    return _BLOCK.sub(lambda block: f"{block[1]}{TABLES[block['name']]()}\n{block[3]}", page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is out of date")
    check = parser.parse_args().check
    stale = 0
    for page in PAGES:
        before = page.read_text()
        after = built(before)
        if after == before:
            continue
        stale += 1
        name = str(page.relative_to(ROOT))
        if check:
            sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, name))
        else:
            page.write_text(after)
            print(f"wrote {name}")
    if check and stale:
        print(f"{stale} pages are out of date: run scripts/build_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
