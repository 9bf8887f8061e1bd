"""The names that metrics and labels have in Prometheus."""

from __future__ import annotations

import pytest

from seatrace.emit import catalogue, prometheus


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (catalogue.INFERENCE_DURATION, "gen_ai_client_inference_duration_seconds"),
        (catalogue.INPUT_TOKENS, "gen_ai_client_inference_usage_input_tokens_total"),
        (catalogue.COST, "seatrace_cost_USD_total"),
        (catalogue.UNPRICED, "seatrace_cost_unpriced_total"),
        (catalogue.CACHE_SIZE, "seatrace_cache_size_bytes"),
        (catalogue.CACHE_SIMILARITY, "seatrace_cache_similarity"),
        (catalogue.BUDGET_LIMIT, "seatrace_budget_limit"),
        (catalogue.QUEUE_OLDEST_AGE, "seatrace_queue_oldest_age_seconds"),
        (catalogue.SAVED_TIME, "seatrace_saved_time_seconds_total"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_metric_is_called_what_prometheus_translator_makes_of_it(metric: catalogue.Metric, expected: str) -> None:
    assert prometheus.family(metric) == expected


def test_a_unit_that_the_name_has_already_is_not_said_twice() -> None:
    assert prometheus.metric_name("job.wait.seconds", "s") == "job_wait_seconds"


def test_total_stands_once_and_last() -> None:
    assert prometheus.metric_name("requests.total.size", "By", counter=True) == "requests_size_bytes_total"


def test_ratios_are_named_so_only_where_they_are_gauges() -> None:
    assert prometheus.metric_name("load", "1", gauge=True) == "load_ratio"
    assert prometheus.metric_name("load", "1") == "load"


def test_annotations_are_no_units() -> None:
    assert prometheus.metric_name("9lives", "{cat}") == "_9lives"


def test_labels() -> None:
    assert prometheus.label_name("gen_ai.request.model") == "gen_ai_request_model"


def test_no_row_of_the_catalogue_is_a_gauge_of_unit_one() -> None:
    assert [metric.name for metric in catalogue.CATALOGUE if metric.kind == "gauge" and metric.unit == "1"] == []


def test_families_are_distinct() -> None:
    families = [prometheus.family(metric) for metric in catalogue.CATALOGUE]
    assert len(families) == len(set(families))
