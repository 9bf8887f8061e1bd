"""``normalize.yaml``: spans of OpenInference and OpenLLMetry get the conventions' names, and become metrics, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from setup.receiver import Receiver

from . import foreign
from .backend import Prometheus, prometheus
from .collector import Collector, collecting
from .programs import wait_for

SCENARIO = {
    "openinference": [
        foreign.span(
            "ChatCompletion",
            {
                "openinference.span.kind": "LLM",
                "llm.system": "openai",
                "llm.provider": "azure",
                "llm.model_name": "gpt-4o-mini",
                "llm.token_count.prompt": 120,
                "llm.token_count.completion": 30,
                "llm.token_count.prompt_details.cache_read": 100,
                "llm.token_count.completion_details.reasoning": 10,
                "llm.cost.total": 0.5,
                "session.id": "session-1",
            },
            seconds=0.5,
        ),
        foreign.span("weather", {"openinference.span.kind": "TOOL", "tool.name": "weather"}, failed=True),
        foreign.span("helper", {"openinference.span.kind": "AGENT"}),
        foreign.span(
            "embed", {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "text-embedding-3-small"}
        ),
    ],
    "openllmetry": [
        foreign.span(
            "anthropic.chat",
            {
                "gen_ai.system": "Anthropic",
                "llm.request.type": "chat",
                "gen_ai.request.model": "claude-haiku-4-5",
                "gen_ai.response.model": "claude-haiku-4-5-20251001",
                "gen_ai.usage.prompt_tokens": 50,
                "gen_ai.usage.completion_tokens": 7,
                "gen_ai.usage.cache_read_input_tokens": 20,
                "llm.is_streaming": True,
            },
        ),
        foreign.span("search.tool", {"traceloop.span.kind": "tool", "traceloop.entity.name": "search"}),
    ],
    "of the conventions": [
        foreign.span(
            "chat gpt-5-mini",
            {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 1000},
        )
    ],
}


@pytest.fixture(scope="module")
def collector(otelcol: str, shared_store: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    settings = {"SEATRACE_TRACES_ENDPOINT": shared_store.endpoint.removeprefix("http://")}
    directory = tmp_path_factory.mktemp("normalize")
    with collecting(otelcol, directory, "scrape", "unsampled", "normalize", settings=settings) as running:
        for service, spans in SCENARIO.items():
            foreign.post(running.http, foreign.spans(spans, service=service))
        yield running


@pytest.fixture(scope="module")
def metrics(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), targets={"otelcol": collector.scraped}) as found:
        yield found


def arrived(collector: Collector, shared_store: Receiver) -> dict[str, dict[str, Any]]:
    wanted = sum(map(len, SCENARIO.values()))
    shared_store.wait_for(lambda: len(shared_store.spans) >= wanted)
    return {each.name: each.attributes for each in shared_store.spans}


def test_a_span_of_openinference_gets_the_names_of_the_conventions(
    collector: Collector, shared_store: Receiver
) -> None:
    found = arrived(collector, shared_store)
    sent = {pair.key for pair in SCENARIO["openinference"][0].attributes}
    assert {key: value for key, value in found["ChatCompletion"].items() if key not in sent} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 10,
        "gen_ai.usage.cost.amount": 0.5,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.conversation.id": "session-1",
        "seatrace.normalized": "openinference",
    }
    assert found["weather"]["gen_ai.tool.name"] == "weather"
    assert found["weather"]["error.type"] == "_OTHER"
    assert (found["helper"]["gen_ai.operation.name"], found["helper"]["gen_ai.agent.name"]) == (
        "invoke_agent",
        "helper",
    )
    assert found["embed"]["gen_ai.request.model"] == "text-embedding-3-small"


def test_a_span_of_openllmetry_gets_the_names_of_the_conventions(collector: Collector, shared_store: Receiver) -> None:
    found = arrived(collector, shared_store)
    sent = {pair.key for pair in SCENARIO["openllmetry"][0].attributes}
    assert {key: value for key, value in found["anthropic.chat"].items() if key not in sent} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.request.stream": True,
        "seatrace.normalized": "openllmetry",
    }
    assert found["search.tool"]["gen_ai.tool.name"] == "search"


def test_what_speaks_the_conventions_is_left_alone(collector: Collector, shared_store: Receiver) -> None:
    (span,) = SCENARIO["of the conventions"]
    assert arrived(collector, shared_store)[span.name].keys() == {pair.key for pair in span.attributes}


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ('gen_ai_client_inference_duration_seconds_count{job="openinference", gen_ai_request_model="gpt-4o-mini"}', 1),
        ('gen_ai_client_inference_duration_seconds_sum{job="openinference"}', 0.5),
        (
            'gen_ai_client_inference_duration_seconds_bucket{job="openllmetry", le="0.16"}',
            1,
        ),
        ('gen_ai_client_inference_usage_input_tokens_total{job="openinference"}', 120),
        ('gen_ai_client_inference_usage_output_tokens_total{job="openllmetry"}', 7),
        ('gen_ai_execute_tool_duration_seconds_count{gen_ai_tool_name="weather", error_type="_OTHER"}', 1),
        ('gen_ai_invoke_agent_duration_seconds_count{gen_ai_agent_name="helper"}', 1),
        ("gen_ai_client_embeddings_duration_seconds_count", 1),
        ('seatrace_cost_USD_total{gen_ai_provider_name="azure.ai.openai"}', 0.5),
    ],
)
def test_boards_have_numbers_of_programs_that_send_only_spans(metrics: Prometheus, query: str, value: float) -> None:
    assert wait_for(lambda: metrics.value(query), query) == pytest.approx(value)


def test_what_sends_metrics_of_its_own_is_not_counted_twice(metrics: Prometheus) -> None:
    wait_for(lambda: metrics.query("gen_ai_client_inference_duration_seconds_count"), "metrics are there")
    assert metrics.query('{job="of the conventions", __name__=~"gen_ai.*"}') == []


def test_increments_are_added_up(collector: Collector, metrics: Prometheus) -> None:
    query = 'gen_ai_client_inference_usage_input_tokens_total{job="again"}'
    for _ in range(3):
        call = {"openinference.span.kind": "LLM", "llm.token_count.prompt": 10}
        foreign.post(collector.http, foreign.spans([foreign.span("call", call)], service="again"))
    wait_for(lambda: metrics.value(query) == 30, query)
