"""Settings: where they come from, what they may be, and what is said of wrong ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import seatrace
from seatrace.config import Config, load


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("SEATRACE_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("field", "keyword", "variables"),
    [
        ("service_name", "k", {"SEATRACE_SERVICE_NAME": "s", "OTEL_SERVICE_NAME": "o"}),
        (
            "capture_content",
            "SPAN_ONLY",
            {
                "SEATRACE_CAPTURE_CONTENT": "EVENT_ONLY",
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT",
            },
        ),
        ("events", True, {"SEATRACE_EVENTS": "false", "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true"}),
    ],
)
def test_keywords_win_over_ours_over_the_standard_ones(
    field: str, keyword: Any, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, standard = variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    as_said = {"true": True, "false": False}
    assert getattr(load({field: keyword}), field) == keyword
    assert getattr(load({field: None}), field) == as_said.get(variables[ours], variables[ours])
    monkeypatch.setenv(ours, " ")
    assert getattr(load({}), field) == as_said.get(variables[standard], variables[standard])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"capture_contents": True},
            "instrument() got an unknown setting 'capture_contents'. Did you mean 'capture_content'?",
        ),
        ({"zzz": 1}, "instrument() got an unknown setting 'zzz'. Known are: capture_content, "),
        ({"exporter": "oltp"}, "exporter: expected one of otlp, console, none, got 'oltp'"),
        ({"semconv": 3}, "semconv: expected one of latest, legacy, both, got 3"),
        ({"max_items": 0}, "max_items: expected a whole number above 0, got 0"),
        ({"max_items": float("inf")}, "max_items: expected a whole number above 0, got inf"),
        ({"max_items": float("nan")}, "max_items: expected a whole number above 0, got nan"),
        ({"max_items": True}, "max_items: expected a whole number above 0, got True"),
        ({"max_text_length": "many"}, "max_text_length: expected a whole number above 0, got 'many'"),
        ({"events": "perhaps"}, "events: expected true or false, got 'perhaps'"),
        ({"events": 3}, "events: expected true or false, got 3"),
        ({"endpoint": "localhost:4318"}, "endpoint: expected a URL that starts with http:// or https://"),
        ({"service_name": ""}, "service_name: expected a text that is not empty"),
        (
            {"capture_content": "all"},
            "capture_content: expected one of NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT",
        ),
        ({"content_hook": "print"}, "content_hook: expected a function of (call, content)"),
        ({"libraries": ["opnai"]}, "libraries: expected names out of ag2, agent_framework, agents, "),
        ({"libraries": 3}, "libraries: expected names, as a list or separated by commas, got 3"),
        ({"providers": "localhost"}, "providers: expected key=value pairs separated by commas, got 'localhost'"),
        ({"prices": 3}, "prices: expected the path of a TOML file, or a mapping"),
        ({"prices": "/no/such/file.toml"}, "/no/such/file.toml"),
        ({"protocol": "http/json"}, "protocol: expected one of http/protobuf, grpc, got 'http/json'"),
        ({"resource_attributes": 5}, "resource_attributes: expected key=value pairs separated by commas, got 5"),
        ({"providers": 5}, "providers: expected key=value pairs separated by commas, got 5"),
        ({"endpoint": 4318}, "endpoint: expected a URL that starts with http:// or https://, got 4318"),
    ],
)
def test_wrong_settings_are_told_by_name_and_switch_nothing_on(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(seatrace.ConfigError) as told:
        seatrace.instrument(**settings)
    assert message in str(told.value)
    assert {each.state for each in seatrace.status()[:2]} == {"switched off"}


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SEATRACE_SEMCONV", "classic", "one of latest, legacy, both"),
        ("SEATRACE_MAX_ITEMS", "1.5", "a whole number above 0"),
        ("SEATRACE_EVENTS", "2", "true or false"),
        ("SEATRACE_ENDPOINT", "collector", "a URL"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "everything", "one of NO_CONTENT"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console or none"),
        ("OTEL_METRICS_EXPORTER", "otlp,prometheus", "otlp, console or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "one of http/protobuf, grpc"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "thrift", "one of http/protobuf, grpc"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "milliseconds above 0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "often", "milliseconds above 0"),
    ],
)
def test_wrong_variables_are_told_by_name(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(seatrace.ConfigError) as told:
        seatrace.instrument()
    assert str(told.value).startswith(f"{variable}: expected ")
    assert expected in str(told.value)
    assert {each.state for each in seatrace.status()[:2]} == {"switched off"}


def test_what_the_sdk_refuses_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    before = threading.active_count()
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    with pytest.raises(seatrace.ConfigError, match=r"OTEL_.* variables: the OpenTelemetry SDK does not accept them"):
        seatrace.instrument()
    assert threading.active_count() == before


def test_secrets_are_not_shown() -> None:
    config = load({"headers": {"authorization": "Bearer secret-1"}})
    assert "secret-1" not in repr(config)
    for wrong in ("secret-2", ["secret-2"], 3):
        with pytest.raises(seatrace.ConfigError) as told:
            load({"headers": wrong})
        assert "secret-2" not in str(told.value)
        assert str(told.value).startswith("headers: ")


def test_values_take_many_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load({"capture_content": True}).capture_content == "SPAN_AND_EVENT"
    assert load({"capture_content": "FALSE"}).capture_content == "NO_CONTENT"
    assert load({"libraries": "openai, anthropic"}).libraries == ("openai", "anthropic")
    assert load({"libraries": []}).libraries == ()
    assert load({"max_items": "7"}).max_items == 7
    assert load({"headers": "a=b=c, d=e"}).headers == {"a": "b=c", "d": "e"}
    assert load({"providers": {"localhost:8000": "vllm"}}).providers == {"localhost:8000": "vllm"}
    monkeypatch.setenv("SEATRACE_RESOURCE_ATTRIBUTES", "team=red, zone=a")
    assert load({}).resource_attributes == {"team": "red", "zone": "a"}


def test_the_config_is_frozen_and_every_field_is_documented() -> None:
    config = load({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.semconv = "legacy"  # type: ignore[misc]
    for field in dataclasses.fields(Config):
        assert field.metadata["doc"].endswith(".")
        for variable in field.metadata["env"]:
            assert variable.startswith(("SEATRACE_", "OTEL_"))
