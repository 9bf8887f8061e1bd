"""Queries say what was meant, and what cannot be right is refused."""

from __future__ import annotations

from collections.abc import Callable

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrace.emit.catalogue import (
    AGENT_INFERENCE_CALLS,
    BUDGET_LIMIT,
    BUDGET_USED,
    COST,
    INFERENCE_DURATION,
    QUEUE_DEPTH,
    TIME_TO_FIRST_CHUNK,
)
from seatrace.emit.semconv import (
    AGENT_NAME,
    BUDGET_NAME,
    BUDGET_SCOPE,
    ERROR_TYPE,
    MESSAGING_DESTINATION,
    PROVIDER_NAME,
    QUEUE_STATE,
    REQUEST_MODEL,
)
from seatrace.kit.conventions import FAILED, LATEST, LEGACY, conventions
from seatrace.kit.promql import (
    Query,
    average,
    bottom,
    buckets,
    count_by,
    counts,
    equal,
    increase,
    matches,
    max_by,
    min_by,
    named,
    now,
    number,
    or_zero,
    over_time,
    present,
    quantile,
    rate,
    ratio,
    recorded,
    series,
    share,
    sum_by,
    sums,
    top,
    unequal,
    within,
)

CALLS = counts(INFERENCE_DURATION)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            rate(series(COST, equal("job", "api")), "5m"),
            'rate(seatrace_cost_USD_total{job="api"}[5m])',
        ),
        (
            sum_by(increase(series(COST), "24h", offset="7d"), AGENT_NAME),
            "sum by (gen_ai_agent_name) (increase(seatrace_cost_USD_total[24h] offset 7d))",
        ),
        (
            now(series(QUEUE_DEPTH, unequal(QUEUE_STATE, "active")), offset="1h"),
            'seatrace_queue_depth{seatrace_queue_state!="active"} offset 1h',
        ),
        (
            max_by(over_time("max", series(BUDGET_USED), "1h"), BUDGET_NAME),
            "max by (seatrace_budget_name) (max_over_time(seatrace_budget_used[1h]))",
        ),
        (
            quantile(0.95, buckets(INFERENCE_DURATION, matches("job", "api|web")), "5m", REQUEST_MODEL),
            "histogram_quantile(0.95, sum by (le, gen_ai_request_model) "
            '(rate(gen_ai_client_inference_duration_seconds_bucket{job=~"api|web"}[5m])))',
        ),
        (
            average(buckets(TIME_TO_FIRST_CHUNK), "5m"),
            "sum(rate(gen_ai_client_inference_time_to_first_chunk_seconds_sum[5m])) / "
            "(sum(rate(gen_ai_client_inference_time_to_first_chunk_seconds_count[5m])) > 0)",
        ),
        (
            rate(within(INFERENCE_DURATION, 10.24), "5m"),
            'rate(gen_ai_client_inference_duration_seconds_bucket{le="10.24"}[5m])',
        ),
        (
            share(sum_by(rate(CALLS.narrowed(present(ERROR_TYPE)), "5m"), "job"), sum_by(rate(CALLS, "5m"), "job")),
            "(sum by (job) (rate(gen_ai_client_inference_duration_seconds_count"
            '{error_type!=""}[5m])) or (sum by (job) (rate(gen_ai_client_inference_duration_seconds_count[5m])) * 0)) '
            "/ (sum by (job) (rate(gen_ai_client_inference_duration_seconds_count[5m])) > 0)",
        ),
        (
            max_by(now(series(BUDGET_USED)), BUDGET_NAME, BUDGET_SCOPE).join(
                "/", max_by(now(series(BUDGET_LIMIT)), BUDGET_NAME) > 0, on=(BUDGET_NAME,), group_left=()
            ),
            "max by (seatrace_budget_name, seatrace_budget_scope) (seatrace_budget_used) "
            "/ on (seatrace_budget_name) group_left () (max by (seatrace_budget_name) (seatrace_budget_limit) > 0)",
        ),
        (
            or_zero(sum_by(rate(sums(INFERENCE_DURATION), "5m"))),
            "sum(rate(gen_ai_client_inference_duration_seconds_sum[5m])) or vector(0)",
        ),
        (top(3, sum_by(rate(CALLS, "5m"), "job")) * 60, f"topk(3, sum by (job) (rate({CALLS}[5m]))) * 60"),
        (bottom(3, min_by(now(series(BUDGET_LIMIT)))), "bottomk(3, min(seatrace_budget_limit))"),
        (
            count_by(named("seatrace_.+", equal("job", "api")), "__name__"),
            'count by (__name__) ({__name__=~"seatrace_.+", job="api"})',
        ),
        (
            recorded("job:errors:ratio_rate5m", equal("job", "api"), labels=("job",)) > 0.01,
            'job:errors:ratio_rate5m{job="api"} > 0.01',
        ),
        (
            (sum_by(rate(CALLS, "5m"), "job") > 1).unless(sum_by(rate(series(COST), "5m"), "job"), on=("job",)),
            "(sum by (job) (rate(gen_ai_client_inference_duration_seconds_count[5m])) > 1) "
            "unless on (job) sum by (job) (rate(seatrace_cost_USD_total[5m]))",
        ),
    ],
)
def test_a_query_reads_as_it_was_built(query: Query, text: str) -> None:
    assert str(query) == text
    promql_parser.parse(text)


def test_a_query_in_a_query_keeps_its_meaning() -> None:
    one, two = number(1), number(2)
    assert str((one + two) * 3) == "(vector(1) + vector(2)) * 3"
    assert str(one - (two - one)) == "vector(1) - (vector(2) - vector(1))"
    assert str((one >= 1).both(two <= 2).either(one / 2 < 5)) == (
        "((vector(1) >= 1) and (vector(2) <= 2)) or ((vector(1) / 2) < 5)"
    )


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_value_of_a_label_arrives_as_it_is(value: str) -> None:
    parsed = promql_parser.parse(str(now(series(QUEUE_DEPTH, equal(MESSAGING_DESTINATION, value)))))
    (matcher,) = parsed.matchers.matchers
    assert (matcher.name, matcher.value) == ("messaging_destination_name", value)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: now(series(COST)), "take rate"),
        (lambda: over_time("max", series(COST), "5m"), "take rate"),
        (lambda: rate(series(QUEUE_DEPTH), "5m"), "only what counts up has a rate"),
        (lambda: increase(series(BUDGET_USED), "5m"), "only what counts up has an increase"),
        (lambda: series(INFERENCE_DURATION), "take counts"),
        (lambda: counts(COST), "only a histogram"),
        (lambda: sums(COST), "only a histogram"),
        (lambda: buckets(COST), "only a histogram"),
        (lambda: series(COST).sums(), "only a histogram"),
        (lambda: average(series(COST), "5m"), "only a histogram"),
        (lambda: quantile(0.5, CALLS, "5m"), "needs buckets"),
        (lambda: series(COST, equal(ERROR_TYPE, "timeout")), "has no label 'error.type'"),
        (lambda: CALLS.narrowed(equal(AGENT_NAME, "planner")), "has no label 'gen_ai.agent.name'"),
        (lambda: sum_by(rate(CALLS, "5m"), AGENT_NAME), "no label 'gen_ai.agent.name'"),
        (lambda: sum_by(sum_by(rate(CALLS, "5m"), "job"), PROVIDER_NAME), "no label 'gen_ai.provider.name'"),
        (lambda: within(INFERENCE_DURATION, 10.0), "no bucket bound 10 "),
        (lambda: within(BUDGET_USED, 0.5), "no bucket bound 0.5 "),
        (lambda: ratio(sum_by(rate(CALLS, "5m"), "job"), sum_by(rate(CALLS, "5m"))), "aggregate both by the same"),
        (lambda: recorded("job:x", equal("instance", "a"), labels=("job",)), "no label 'instance'"),
        (lambda: number(1).both(sum_by(rate(CALLS, "5m"), "job"), on=("job",)), "no label 'job'"),
    ],
)
def test_what_cannot_be_right_is_refused(wrong: Callable[[], object], why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("(", r"\(")):
        wrong()


def test_a_whole_number_is_no_bound_since_prometheus_2_and_3_write_it_differently() -> None:
    with pytest.raises(ValueError, match="no bucket bound 8 "):
        within(AGENT_INFERENCE_CALLS, 8.0)


def test_both_generations_of_the_conventions_answer_the_same_questions() -> None:
    assert (conventions("latest"), conventions("legacy")) == (LATEST, LEGACY)
    assert str(LATEST.calls.counts()) == "gen_ai_client_inference_duration_seconds_count"
    assert str(LEGACY.calls.counts()) == (
        "gen_ai_client_operation_duration_seconds_count"
        '{gen_ai_operation_name=~"chat|text_completion|generate_content|compact"}'
    )
    assert str(LATEST.output_tokens) == "gen_ai_client_inference_usage_output_tokens_total"
    assert 'gen_ai_token_type="output"' in str(LEGACY.output_tokens)
    assert LATEST.calls.narrowed(FAILED).labels == LEGACY.calls.narrowed(FAILED).labels
