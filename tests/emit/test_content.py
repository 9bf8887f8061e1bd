"""Prompts and answers: nowhere unless they are asked for, then where they are asked for, and clean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import seatrace
from model import ask, client, completion, stream
from seatrace.core import guard
from seatrace.core.record import Content
from seatrace.testing import Captured, capture

CANARY = "canary-4711"
KEY = "sk-proj-Zz9Yy8Xx7Ww6Zz9Yy8Xx7Ww6"


def talk() -> None:
    """Says the canary in every place that a prompt, an answer, an argument or a result can be in."""

    @seatrace.tool
    def look(word: str, *, more: dict[str, str]) -> dict[str, str]:
        return {"found": CANARY}

    @seatrace.retriever
    def find(query: str) -> list[dict[str, Any]]:
        return [{"id": CANARY, "content": CANARY}]

    @seatrace.agent
    def run(question: str) -> Iterator[str]:
        answer = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": CANARY}}
        of = client(completion(choices=[answer]), stream())
        tools = [{"type": "function", "function": {"name": "look", "description": CANARY, "parameters": {}}}]
        messages = [{"role": "system", "content": CANARY}, {"role": "user", "content": CANARY}]
        of.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=tools, user=CANARY)
        list(ask(of, CANARY, stream=True))
        look(CANARY, more={CANARY: CANARY})
        find(CANARY)
        yield CANARY

    list(run(CANARY))


def everything_of(captured: Captured) -> dict[str, str]:
    return {
        "spans": " ".join(span.to_json() for span in captured.spans),
        "events": " ".join(repr((event.event_name, dict(event.attributes), event.body)) for event in captured.events),
        "metrics": captured._reader.get_metrics_data().to_json(),
    }


@pytest.mark.parametrize(
    ("mode", "places"),
    [
        (None, set()),
        ("NO_CONTENT", set()),
        (False, set()),
        ("SPAN_ONLY", {"spans"}),
        ("EVENT_ONLY", {"events"}),
        ("SPAN_AND_EVENT", {"spans", "events"}),
        (True, {"spans", "events"}),
        ("span_only", {"spans"}),
    ],
)
@pytest.mark.parametrize(
    "way", ["keyword", "SEATRACE_CAPTURE_CONTENT", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"]
)
def test_content_is_where_it_was_asked_for_and_nowhere_else(
    mode: Any, places: set[str], way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {}
    if way == "keyword":
        settings["capture_content"] = mode
    elif mode is not None:
        monkeypatch.setenv(way, str(mode))
    caplog.set_level(0)
    with capture(**settings) as captured:
        talk()
        assert {place for place, text in everything_of(captured).items() if CANARY in text} == places
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("seatrace", "opentelemetry"))]
    assert CANARY not in " ".join(ours)


def test_content_is_structured_on_events_and_json_on_spans() -> None:
    with capture(capture_content=True) as captured:
        ask(client(), "hello")
    [span], [event] = captured.spans, captured.events
    asked = [{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]
    on_span = (span.attributes or {})["gen_ai.input.messages"]
    assert isinstance(on_span, str)
    assert json.loads(on_span) == asked
    on_event = event.attributes["gen_ai.input.messages"]
    assert not isinstance(on_event, str)
    assert [dict(message, parts=[dict(part) for part in message["parts"]]) for message in on_event] == asked


def test_events_only_where_events_are_on() -> None:
    with capture(capture_content="EVENT_ONLY", events=False) as captured:
        talk()
        assert not any(CANARY in text for text in everything_of(captured).values())


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_huge_prompt_is_cut() -> None:
    with capture(capture_content="SPAN_AND_EVENT", max_text_length=100, max_items=3) as captured:
        of = client()
        messages = [{"role": "user", "content": f"{number} " + "x" * 5_000_000} for number in range(5)]
        of.chat.completions.create(model="gpt-4o-mini", messages=messages)
    [span] = captured.spans
    text = (span.attributes or {})["gen_ai.input.messages"]
    kept = json.loads(str(text))
    assert [message["parts"][0]["content"][:2] for message in kept] == ["2 ", "3 ", "4 "]
    assert len(str(text)) < 1000


def test_secrets_do_not_leave_in_content_errors_or_traces() -> None:
    class Refused(Exception):
        pass

    with capture(capture_content=True) as captured:

        @seatrace.tool
        def call_api(url: str, password: str) -> dict[str, str]:
            return {"authorization": KEY, "text": f"the key is {KEY}"}

        call_api(f"https://u:{KEY}@host/", password="hunter2")
        ask(client(), f"my key: {KEY}")
        with pytest.raises(Refused):
            with seatrace.tool("refused"):
                raise Refused(f"Incorrect API key provided: {KEY}")
        told = " ".join(everything_of(captured).values())
    assert KEY not in told
    assert "hunter2" not in told
    assert "[redacted]" in told
    refused = captured.spans[-1]
    assert refused.status.description == "Incorrect API key provided: [redacted]"
    exception = captured.events[-1]
    assert exception.attributes["exception.message"] == "Incorrect API key provided: [redacted]"
    assert "[redacted]" in exception.attributes["exception.stacktrace"]


def test_redaction_can_be_switched_off() -> None:
    with capture(capture_content=True, redact=False) as captured:
        ask(client(), f"my key: {KEY}")
        assert KEY in everything_of(captured)["spans"]


# --- the hook -------------------------------------------------------------------------------------------------------


def test_the_hook_sees_content_before_anything_is_recorded_and_its_result_is_recorded() -> None:
    seen: list[tuple[str, bool, list[dict[str, Any]] | None]] = []

    def hook(call: seatrace.Call, content: Content) -> Content:
        seen.append((call.operation, call.span.span.is_recording(), content.output_messages))
        return Content(input_messages=[{"role": "user", "parts": [{"type": "text", "content": "[mine]"}]}])

    with capture(capture_content=True, content_hook=hook) as captured:
        ask(client(), CANARY)
        told = everything_of(captured)
    assert [(operation, recording) for operation, recording, _ in seen] == [("chat", True)]
    assert seen[0][2] is not None
    assert CANARY not in " ".join(told.values())
    assert "[mine]" in told["spans"]
    assert "[mine]" in told["events"]
    assert captured.calls[0].content is not None
    assert captured.calls[0].content.output_messages is None


def test_the_hook_is_asked_whatever_is_captured_and_sampled() -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    seen: list[Any] = []

    def hook(call: seatrace.Call, content: Content) -> Content:
        seen.append(content.input_messages)
        return content

    with capture(content_hook=hook, sampler=ALWAYS_OFF) as captured:
        ask(client(), CANARY)
        assert CANARY not in " ".join(everything_of(captured).values())
    assert CANARY in str(seen)


def test_a_hook_that_changes_content_in_place_changes_nothing_of_the_programs() -> None:
    def hook(call: seatrace.Call, content: Content) -> Content:
        if call.kind == "tool":
            content.tool_arguments["who"]["names"][0] = "?"
            content.tool_result["names"].clear()
        return content

    given = {"names": ["Ada"]}
    with capture(capture_content=True, content_hook=hook) as captured:
        returned = seatrace.tool("look")(lambda who: {"names": ["Ada", "Bob"]})(given)
        assert given == {"names": ["Ada"]}
        assert returned == {"names": ["Ada", "Bob"]}
        (span,) = captured.spans
        assert json.loads(span.attributes["gen_ai.tool.call.arguments"]) == {"who": {"names": ["?"]}}
        assert json.loads(span.attributes["gen_ai.tool.call.result"]) == {"names": []}


@pytest.mark.parametrize("wrong", ["raises", "text", "none"])
def test_a_hook_that_fails_drops_the_content_and_nothing_else(wrong: str) -> None:
    def hook(call: seatrace.Call, content: Content) -> Any:
        if wrong == "raises":
            raise ValueError(CANARY)
        return None if wrong == "none" else "not content"

    guard.faults.clear()
    with capture(strict=False, capture_content=True, content_hook=hook) as captured:
        ask(client(), CANARY)
        told = everything_of(captured)
        assert captured.total("seatrace.faults", seatrace_stage="clean content") == (wrong != "none")
    assert CANARY not in " ".join(told.values())
    [span] = captured.spans
    assert (span.attributes or {})["gen_ai.usage.input_tokens"] == 10
    assert [event.event_name for event in captured.events] == ["gen_ai.client.inference.operation.details"]
    assert captured.calls[0].content is None
    guard.faults.clear()


def test_content_that_cannot_be_read_is_dropped() -> None:
    class Odd:
        def model_dump(self, **options: Any) -> None:
            raise RuntimeError

    guard.faults.clear()
    with capture(strict=False, capture_content=True) as captured:

        @seatrace.tool
        def give() -> Any:
            return Odd()

        give()
    [span] = captured.spans
    assert span.name == "execute_tool give"
    assert "gen_ai.tool.call.result" not in (span.attributes or {})
    guard.faults.clear()
