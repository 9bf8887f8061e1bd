"""The two formats, whatever is in names, labels and values."""

from __future__ import annotations

import math
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client.utils import floatToGoString

from seatrace.emit import catalogue
from seatrace.pull import text
from seatrace.pull.families import labels
from seatrace.pull.source import ScrapeReader

from .scrape import read

_NASTY = [
    '"',
    "\\",
    "\n",
    "\r",
    "\t",
    "\0",
    "\\n",
    '\\"',
    "{",
    "}",
    ",",
    "#",
    "=",
    " ",
    "é",
    "日本",
    "\ud800",
    "\u2028",
    "}",
]
_VALUES = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(_NASTY), max_size=8).map("".join))
_KEYS = st.one_of(
    st.sampled_from(["a", "a.b", "a_b", "a-b", "le", "quantile", "__name__", "job", "9", "日", "_", "otel.scope.name"]),
    st.text(min_size=1, max_size=8),
)
_ATTRIBUTES = st.dictionaries(
    _KEYS, st.one_of(_VALUES, st.booleans(), st.integers(), st.lists(st.text(max_size=3)).map(tuple))
)


def _collected(attributes: Any, description: str = "") -> Any:
    reader = ScrapeReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("shop")
    meter.create_counter("orders", "{order}", description).add(1, attributes)
    meter.create_histogram("wait", "s", description, explicit_bucket_boundaries_advisory=[1, 2.5]).record(2, attributes)
    return reader.gatherer.gather(reader.read())


def _readable(value: str) -> str:
    """What of a text can be told in UTF-8."""
    return value.encode("utf-8", "replace").decode()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(_ATTRIBUTES, _VALUES)
def test_every_answer_can_be_read_and_says_the_same_in_both_formats(attributes: Any, description: str) -> None:
    families = _collected(attributes, description)
    seen = []
    for strict in (True, False):
        answer = text.write(families, openmetrics=strict).encode().decode()
        found = {sample.name: sample for each in read(answer, strict=strict) for sample in each.samples}
        assert found["orders_total"].value == 1
        assert (found["wait_seconds_count"].value, found["wait_seconds_sum"].value) == (1, 2.0)
        seen.append(found["orders_total"].labels)
        assert {**found["wait_seconds_bucket"].labels, "le": None} == {**seen[-1], "le": None}
    assert seen[0] == seen[1]


@settings(deadline=None, max_examples=300)
@given(_VALUES.filter(bool))
def test_a_label_s_value_comes_through_unchanged(value: str) -> None:
    answer = text.write(_collected({"which": value}), openmetrics=True)
    found = {sample.name: sample.labels for each in read(answer, strict=True) for sample in each.samples}
    assert found["orders_total"] == {"which": _readable(value), "otel_scope_name": "shop"}


def test_prometheus_itself_reads_the_worst_of_them() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    everything = {f"n{index}": value for index, value in enumerate([*_NASTY, "".join(_NASTY)])}
    answer = text.write(_collected(everything, "".join(_NASTY)), openmetrics=False)
    done = subprocess.run(["promtool", "check", "metrics"], input=answer.encode(), capture_output=True, timeout=60)
    assert "error while linting" not in done.stderr.decode()
    assert done.returncode in (0, 3), done.stderr.decode()  # 3: it would name things otherwise


def test_attributes_that_are_no_texts_are_written_as_json() -> None:
    assert labels({"a": True, "b": 443, "c": 0.5, "d": ["x", 1]}) == ('a="true",b="443",c="0.5",d="[\\"x\\",1]"')


@pytest.mark.parametrize("bound", sorted({bound for row in catalogue.CATALOGUE for bound in row.buckets or ()}))
def test_a_bound_is_called_what_go_calls_it(bound: float) -> None:
    assert text.go_float(bound) == floatToGoString(bound)


@given(st.floats(min_value=0, max_value=1e15, exclude_min=True))
def test_every_bound_is_the_number_that_it_says(bound: float) -> None:
    assert float(text.go_float(bound)) == bound


def test_numbers_of_every_kind() -> None:
    shown = [text.number(value) for value in (math.nan, math.inf, -math.inf, 10**15, 1e-9, -2, True)]
    assert shown == ["NaN", "+Inf", "-Inf", "1000000000000000.0", "1e-09", "-2.0", "1.0"]


def test_an_answer_without_metrics_is_a_valid_one() -> None:
    assert text.write([], openmetrics=True) == "# EOF\n"
    assert read(text.write([], openmetrics=True), strict=True) == []
    assert text.write([], openmetrics=False) == ""
