"""Spans, metrics and events by the conventions, in every generation of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, SamplingResult

import seatrace
from contract.wire import as_json
from model import COMPLETION, ask, client, completion, failure, stream
from seatrace.core import guard, pipeline
from seatrace.core.record import Call, Exchange, Kind
from seatrace.emit import catalogue
from seatrace.testing import Captured, capture

from .rules import violations

EMBEDDING = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.0, 1.0]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}
TOOL_CALL: dict[str, Any] = {
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}],
            },
        }
    ]
}


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


def everything() -> None:
    """Calls of all kinds, good and bad."""

    @seatrace.tool
    def look(x: int) -> int:
        if x:
            raise ValueError(x)
        return x

    @seatrace.retriever("shelf")
    def find(query: str) -> list[str]:
        return [query]

    @seatrace.workflow
    def flow() -> None:
        find("q")

    @seatrace.agent("clerk")
    def serve() -> None:
        of = client(completion(), stream(), completion(**TOOL_CALL), failure())
        ask(of, temperature=0.5, max_tokens=5, stop=["x"], seed=1, n=2)
        list(ask(of, stream=True))
        ask(of)
        look(0)
        with pytest.raises(Exception, match="no"):
            ask(of)
        with pytest.raises(ValueError):
            look(1)
        flow()

    with seatrace.session("s1", conversation="c1", user="u1", tenant="acme"):
        serve()
    of = client(as_json(EMBEDDING))
    of.embeddings.create(model="text-embedding-3-small", input="x", dimensions=2, encoding_format="float")


@pytest.mark.parametrize("semconv", ["latest", "legacy", "both"])
@pytest.mark.parametrize("content", ["NO_CONTENT", "SPAN_AND_EVENT"])
def test_the_conformance_rules_hold(semconv: str, content: str) -> None:
    with capture(semconv=semconv, capture_content=content) as captured:
        everything()
    assert len(captured.spans) == 10
    assert violations(captured.spans) == []


def test_a_chat_span_is_whole(captured: Captured) -> None:
    with seatrace.session("s1", conversation="c1", user="u1", tenant="acme", attributes={"team": "red"}):
        ask(client(), temperature=0.5, max_tokens=5)
    [span] = captured.spans
    assert span.name == "chat gpt-4o-mini"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.events == ()
    assert (span.status.status_code.name, span.status.description) == ("UNSET", None)
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "seatrace"
    assert span.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/gen-ai/0.1.0"
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "server.address": "api.openai.com",
        "server.port": 443,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 5,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.finish_reasons": ("stop",),
        "openai.api.type": "chat_completions",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cost.amount": pytest.approx(4.5e-6),
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "local",
        "gen_ai.conversation.id": "c1",
        "session.id": "s1",
        "user.id": "u1",
        "seatrace.tenant": "acme",
        "team": "red",
    }


def test_samplers_see_what_is_known_at_the_start() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    class Looking(Sampler):
        def should_sample(self, parent: Any, trace_id: int, name: str, *args: Any, **options: Any) -> SamplingResult:
            seen.append((name, dict(options.get("attributes") or (args[1] if len(args) > 1 else {}))))
            return ALWAYS_OFF.should_sample(parent, trace_id, name)

        def get_description(self) -> str:
            return "Looking"

    with capture(sampler=Looking()) as captured:

        @seatrace.agent("clerk")
        def serve() -> None:
            ask(client())
            with seatrace.tool("look"):
                pass

        serve()
    assert seen == [
        ("invoke_agent clerk", {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"}),
        (
            "chat gpt-4o-mini",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o-mini",
                "server.address": "api.openai.com",
                "server.port": 443,
                "gen_ai.agent.name": "clerk",
            },
        ),
        (
            "execute_tool look",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "look",
                "gen_ai.tool.type": "function",
                "gen_ai.agent.name": "clerk",
            },
        ),
    ]
    assert captured.spans == []
    assert captured.total("gen_ai.client.inference.usage.input_tokens") == 10


# --- generations ----------------------------------------------------------------------------------------------------

CACHED = {
    "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
}

LATEST = {metric.name for metric in catalogue.CATALOGUE if metric.generation == "latest"}
LEGACY = {metric.name for metric in catalogue.CATALOGUE if metric.generation == "legacy"}


@pytest.mark.parametrize("semconv", ["latest", "legacy", "both"])
def test_metrics_of_each_generation(semconv: str) -> None:
    with capture(semconv=semconv) as captured:
        everything()
        names = captured.metric_names
        inference_as_operation = captured.points("gen_ai.client.operation.duration")
    operations = {point.attributes["gen_ai.operation.name"] for point in inference_as_operation}
    assert bool(names & LATEST) == (semconv != "legacy")
    assert bool(names & LEGACY) == (semconv != "latest")
    assert operations == ({"retrieval"} if semconv == "latest" else {"retrieval", "chat", "embeddings"})


def test_legacy_counts_equal_the_latest() -> None:
    with capture(semconv="both") as captured:
        ask(client(completion(**CACHED)))
        list(ask(client(stream()), stream=True))
        total = captured.total
        assert total("gen_ai.client.token.usage", gen_ai_token_type="input") == 20
        assert total("gen_ai.client.token.usage", gen_ai_token_type="output") == 10
        assert total("gen_ai.client.inference.usage.input_tokens") == 20
        assert total("gen_ai.client.inference.usage.cache_read.input_tokens") == 4
        assert total("gen_ai.client.inference.usage.reasoning.output_tokens") == 2
        assert total("gen_ai.client.inference.operation.output_tokens") == 10
        for new, old in (
            ("gen_ai.client.inference.duration", "gen_ai.client.operation.duration"),
            ("gen_ai.client.inference.time_to_first_chunk", "gen_ai.client.operation.time_to_first_chunk"),
            ("gen_ai.client.inference.time_per_output_chunk", "gen_ai.client.operation.time_per_output_chunk"),
        ):
            assert total(new) == total(old) > 0


@pytest.mark.parametrize(
    ("semconv", "names"),
    [
        ("latest", {"gen_ai.usage.cache_write.input_tokens"}),
        ("legacy", {"gen_ai.usage.cache_creation.input_tokens"}),
        ("both", {"gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens"}),
    ],
)
def test_the_cache_write_attribute_has_the_generations_name(semconv: str, names: set[str]) -> None:
    import anthropic

    from contract.wire import Provider

    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "ahoy"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "output_tokens": 5,
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 2,
        },
    }
    assert anthropic.Anthropic
    with capture(semconv=semconv) as captured:
        of = Provider(as_json(message)).client("anthropic", "Anthropic", api_key="x")
        of.messages.create(model="claude-x", max_tokens=5, messages=[{"role": "user", "content": "hi"}])
    attributes = dict(captured.spans[0].attributes or {})
    assert attributes["gen_ai.usage.input_tokens"] == 15
    assert {name for name in attributes if "cache_write" in name or "cache_creation" in name} == names
    assert all(attributes[name] == 3 for name in names)


def exchanges() -> None:
    """Requests and sessions of the Model Context Protocol, of both sides, with all that is known of one."""
    line = pipeline.current
    assert line is not None
    sides: tuple[Kind, Kind] = ("mcp_client", "mcp_server")
    for kind in sides:
        call = Call(kind, "execute_tool", "mcp", name="tide", prompt_name="log", server_address="sea", server_port=443)
        call.exchange = Exchange("tools/call", "7", "2025-11-25", "s1", "tcp", "harbour://plan", -32603, "1.2.3.4", 5)
        call.error_type = "-32603"
        line.begin(call)
        line.end(call)
        line.emitter.session(call, 1.0)


def test_an_mcp_span_is_whole(captured: Captured) -> None:
    exchanges()
    client, server = captured.spans
    assert (client.kind, server.kind) == (trace.SpanKind.CLIENT, trace.SpanKind.SERVER)
    for span in (client, server):
        assert span.name == "tools/call tide"
        assert dict(span.attributes or {}) == {
            "gen_ai.operation.name": "execute_tool",
            "server.address": "sea",
            "server.port": 443,
            "mcp.method.name": "tools/call",
            "gen_ai.tool.name": "tide",
            "gen_ai.prompt.name": "log",
            "jsonrpc.request.id": "7",
            "mcp.protocol.version": "2025-11-25",
            "mcp.session.id": "s1",
            "mcp.resource.uri": "harbour://plan",
            "network.transport": "tcp",
            "network.protocol.name": "http",
            "client.address": "1.2.3.4",
            "client.port": 5,
            "rpc.response.status_code": "-32603",
            "error.type": "-32603",
        }


# --- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_catalogue() -> None:
    with capture(semconv="both") as captured:
        everything()
        ask(client(completion(model="nobody-knows", **CACHED)), model="nobody-knows")
        said = {"x-ratelimit-limit-requests": "9", "x-ratelimit-remaining-requests": "8", "retry-after-ms": "1"}
        ask(client(as_json({}, 429, **said), as_json(COMPLETION, **said), max_retries=1))
        with seatrace.agent("saver") as step:
            step.call.run.saves(0.01, 5)
        exchanges()
        data = captured._reader.get_metrics_data()
    known = {metric.name: metric for metric in catalogue.CATALOGUE}
    seen = set()
    for metric in [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]:
        row = known[metric.name]
        seen.add(metric.name)
        assert (metric.unit, metric.description) == (row.unit, row.description)
        for point in metric.data.data_points:
            assert set(point.attributes) <= set(row.attributes), metric.name
            if row.kind == "histogram":
                assert tuple(point.explicit_bounds) == row.buckets, metric.name
            elif row.kind == "counter":
                assert metric.data.is_monotonic
    missing = {metric.name for metric in catalogue.CALL_METRICS} - seen
    assert missing == {"gen_ai.client.inference.usage.cache_write.input_tokens"}


def test_buckets_and_units_are_the_conventions_advice() -> None:
    rows = {metric.name: (metric.unit, metric.buckets) for metric in catalogue.CATALOGUE}
    seconds = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    tokens = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    agents = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
    calls = (1, 2, 4, 8, 16, 32, 64, 128)
    assert rows["gen_ai.client.inference.duration"] == ("s", seconds)
    assert rows["gen_ai.client.inference.time_to_first_chunk"] == ("s", seconds)
    assert rows["gen_ai.client.inference.usage.input_tokens"] == ("{token}", None)
    assert rows["gen_ai.client.inference.operation.input_tokens"] == ("{token}", tokens)
    assert rows["gen_ai.client.embeddings.duration"] == ("s", seconds)
    assert rows["gen_ai.invoke_agent.duration"] == ("s", agents)
    assert rows["gen_ai.invoke_agent.inference_calls"] == ("{inference_call}", calls)
    assert rows["gen_ai.invoke_agent.tool_calls"] == ("{tool_call}", calls)
    assert rows["gen_ai.execute_tool.duration"] == ("s", seconds)
    requests = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
    for side in ("client", "server"):
        assert rows[f"mcp.{side}.operation.duration"] == ("s", requests)
        assert rows[f"mcp.{side}.session.duration"] == ("s", requests)
    assert rows["gen_ai.client.token.usage"] == ("{token}", tokens)
    assert rows["seatrace.cost"] == ("USD", None)


def test_token_counters_always_have_a_modality(captured: Captured) -> None:
    ask(client())
    [point] = captured.points("gen_ai.client.inference.usage.input_tokens")
    assert dict(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "server.address": "api.openai.com",
        "server.port": 443,
        "gen_ai.token.modality": "unknown",
    }


def test_faults_start_at_zero_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "faults", type(guard.faults)())
    with capture(strict=False) as captured:
        before = {point.attributes["seatrace.stage"]: point.value for point in captured.points("seatrace.faults")}
        assert len(before) > 10
        assert set(before.values()) == {0}
        remove = seatrace.on_call(lambda call: 1 / 0)
        ask(client())
        remove()
        assert captured.total("seatrace.faults") == 1
        assert captured.total("seatrace.faults", seatrace_stage="notify a listener") == 1


def test_exemplars_carry_the_trace(captured: Captured) -> None:
    with seatrace.agent("clerk"):
        ask(client())
    chat, _ = captured.spans
    assert chat.context is not None
    data = captured._reader.get_metrics_data()  # once: collecting empties the reservoirs
    metrics = {m.name: m for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics}
    for name in ("gen_ai.client.inference.duration", "gen_ai.client.inference.usage.input_tokens", "seatrace.cost"):
        [point] = metrics[name].data.data_points
        exemplars = {(exemplar.trace_id, exemplar.span_id) for exemplar in point.exemplars}
        assert exemplars == {(chat.context.trace_id, chat.context.span_id)}, name


def test_label_values_of_the_programs_making_are_bounded(captured: Captured) -> None:
    for number in range(600):
        with seatrace.session(tenant=f"tenant-{number}"), seatrace.agent(f"agent-{number}"):
            pass
    names = {point.attributes["gen_ai.agent.name"] for point in captured.points("gen_ai.invoke_agent.duration")}
    assert len(names) == 501
    assert "_OTHER" in names


# --- events ---------------------------------------------------------------------------------------------------------


def test_the_details_event_is_whole(captured: Captured) -> None:
    ask(client())
    [span], [event] = captured.spans, captured.events
    assert span.context is not None
    assert event.event_name == "gen_ai.client.inference.operation.details"
    assert (event.severity_number.value, event.severity_text) == (5, "DEBUG")
    assert (event.trace_id, event.span_id) == (span.context.trace_id, span.context.span_id)
    assert event.timestamp == span.end_time
    assert dict(event.attributes) == dict(span.attributes or {})


def test_a_failed_call_has_an_exception_event(captured: Captured) -> None:
    with pytest.raises(Exception, match="no") as raised:
        ask(client(failure(429, code="rate_limit_exceeded")))
    [span] = captured.spans
    exception = next(event for event in captured.events if event.event_name == "gen_ai.client.operation.exception")
    assert (exception.severity_number.value, exception.severity_text) == (13, "WARN")
    assert exception.attributes["exception.type"] == "openai.RateLimitError"
    assert exception.attributes["exception.message"] == str(raised.value)
    assert "RateLimitError" in exception.attributes["exception.stacktrace"]
    assert span.status.status_code.name == "ERROR"
    assert span.status.description == str(raised.value)
    assert (span.attributes or {})["error.type"] == "rate_limit_exceeded"
    assert (span.attributes or {})["http.response.status_code"] == 429
    [duration] = captured.points("gen_ai.client.inference.duration")
    assert duration.attributes["error.type"] == "rate_limit_exceeded"


def test_events_can_be_switched_off() -> None:
    with capture(events=False) as captured:
        everything()
    assert captured.events == []
    assert len(captured.spans) == 10


def test_an_error_without_text_or_with_a_broken_one_is_no_trouble(captured: Captured) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError

    for error in (Broken(), ValueError(), KeyError("x" * 5_000_000)):
        with pytest.raises(type(error)):
            with seatrace.tool("broken"):
                raise error
    descriptions = [span.status.description for span in captured.spans]
    assert descriptions[:2] == [
        "test_an_error_without_text_or_with_a_broken_one_is_no_trouble.<locals>.Broken without a text",
        "",
    ]
    assert len(descriptions[2] or "") < 20_000
    assert [event.attributes["exception.type"].rpartition(".")[2] for event in captured.events] == [
        "Broken",
        "ValueError",
        "KeyError",
    ]


# --- faults of others -----------------------------------------------------------------------------------------------


class Boom(Exception):
    pass


@pytest.mark.parametrize("method", ["on_start", "on_end"])
def test_a_span_processor_that_raises_does_not_reach_the_program(method: str) -> None:
    from opentelemetry.sdk.trace import SpanProcessor

    def boom(*args: Any, **kwargs: Any) -> None:
        raise Boom

    with capture(strict=False) as captured:
        captured.tracer_provider.add_span_processor(type("Processor", (SpanProcessor,), {method: boom})())
        assert ask(client()).choices[0].message.content == "ahoy"

        @seatrace.agent
        def run() -> Iterator[int]:
            yield 1

        assert list(run()) == [1]
        if method == "on_end":
            assert captured.total("gen_ai.client.inference.usage.input_tokens") == 10


def test_metrics_that_fail_do_not_cost_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    from seatrace.emit.metrics import Metrics

    def boom(*args: Any, **kwargs: Any) -> None:
        raise Boom

    with capture(strict=False) as captured:
        monkeypatch.setattr(Metrics, "record", boom)
        ask(client())
        [span] = captured.spans
        assert span.end_time is not None


# --- beside an official instrumentation -----------------------------------------------------------------------------


@pytest.mark.parametrize("semconv", ["latest", "both"])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_official_span_is_enriched_and_no_second_one_made(semconv: str, streamed: bool) -> None:
    from opentelemetry import context

    with capture(semconv=semconv, capture_content=True) as captured:
        tracer = captured.tracer_provider.get_tracer("opentelemetry.instrumentation.genai.openai")
        with tracer.start_as_current_span("chat gpt-4o-mini"):
            token = context.attach(context.set_value("opentelemetry.genai.client.inference.context", object()))
            if streamed:
                answer = ask(client(stream()), stream=True)
                context.detach(token)
                assert len(list(answer)) == 4
            else:
                ask(client())
                context.detach(token)
            assert trace.get_current_span().is_recording()
        [span] = captured.spans
        attributes = dict(span.attributes or {})
        assert attributes["gen_ai.usage.cost.amount"] == pytest.approx(4.5e-6)
        assert attributes["gen_ai.usage.input_tokens"] == 10
        assert "gen_ai.input.messages" not in attributes
        assert captured.events == []
        assert captured.total("seatrace.cost") == pytest.approx(4.5e-6)
        assert captured.total("gen_ai.client.inference.usage.input_tokens") == 10
        assert captured.points("gen_ai.client.token.usage") == []
        assert captured.points("gen_ai.client.operation.duration") == []


def test_an_official_span_keeps_its_own_status(captured: Captured) -> None:
    from opentelemetry import context

    tracer = captured.tracer_provider.get_tracer("official")
    with tracer.start_as_current_span("chat gpt-4o-mini", set_status_on_exception=False, record_exception=False):
        token = context.attach(context.set_value("opentelemetry.genai.client.inference.context", object()))
        with pytest.raises(Exception, match="no"):
            ask(client(failure()))
        context.detach(token)
    [span] = captured.spans
    assert span.status.status_code.name == "UNSET"


def test_usage_is_never_made_up(captured: Captured) -> None:
    without = {key: value for key, value in COMPLETION.items() if key != "usage"}
    from model import as_json

    ask(client(as_json(without)))
    [span] = captured.spans
    assert not [name for name in span.attributes or {} if name.startswith("gen_ai.usage")]
    assert captured.points("gen_ai.client.inference.usage.input_tokens") == []
    assert captured.points("seatrace.cost.unpriced") == []
