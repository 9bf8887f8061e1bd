"""What is recorded of messages in their rarer forms; streamed and plain answers alike."""

from __future__ import annotations

import json
from typing import Any

from .rows import ANTHROPIC_ROWS, CHAT, OPENAI_ROWS, RESPONSE, Row, chat_chunk
from .watch import watched
from .wire import Provider, as_events, as_json, data

CHAT_ROW, RESPONSES_ROW, MESSAGES_ROW = OPENAI_ROWS[0], OPENAI_ROWS[3], ANTHROPIC_ROWS[0]


def said(row: Row, answer: Any, *, stream: bool = False) -> Any:
    """The output messages of one call."""
    with watched(capture_content="SPAN_ONLY") as captured:
        result = row.call(row.connect(Provider(answer), "sync"), stream=stream)
        if stream:
            list(result)
        (span,) = captured.spans
        return json.loads(span.attributes["gen_ai.output.messages"])


def asked(row: Row, **changes: Any) -> Any:
    """The input messages of one call."""
    with watched(capture_content="SPAN_ONLY") as captured:
        row.call(row.connect(Provider(row.answer), "sync"), **changes)
        (span,) = captured.spans
        return json.loads(span.attributes["gen_ai.input.messages"])


def chat_answer(message: dict[str, Any] | None, finish_reason: str | None = "stop") -> Any:
    return as_json({**CHAT, "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]})


def chat_stream(*deltas: dict[str, Any], finish_reason: str = "stop") -> Any:
    """A stream of ``deltas``."""
    chunks = [{**chat_chunk(""), "choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
    chunks[-1]["choices"][0]["finish_reason"] = finish_reason
    return as_events([data(each) for each in chunks])


def test_custom_tool_call_of_a_chat() -> None:
    tool = {"type": "custom", "id": "call_1", "custom": {"name": "dive", "input": "deep down"}}
    plain = said(
        CHAT_ROW, chat_answer({"role": "assistant", "content": None, "tool_calls": [tool]}, finish_reason="tool_calls")
    )
    first = {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "dive", "input": "deep"}}
    more = {"index": 0, "type": "custom", "custom": {"input": " down"}}
    streamed = said(
        CHAT_ROW, chat_stream({"tool_calls": [first]}, {"tool_calls": [more]}, finish_reason="tool_calls"), stream=True
    )
    part = {"type": "tool_call", "id": "call_1", "name": "dive", "arguments": "deep down"}
    assert plain == streamed == [{"role": "assistant", "parts": [part], "finish_reason": "tool_call"}]


def test_spoken_answer_of_a_chat_is_its_transcript() -> None:
    audio = {"id": "audio_1", "data": "UklGRg==", "transcript": "Knee-deep.", "expires_at": 1}
    plain = said(CHAT_ROW, chat_answer({"role": "assistant", "content": None, "audio": audio}))
    streamed = said(
        CHAT_ROW,
        chat_stream({"audio": {"id": "audio_1", "transcript": "Knee"}}, {"audio": {"transcript": "-deep."}}),
        stream=True,
    )
    part = {"type": "text", "content": "Knee-deep."}
    assert plain == streamed == [{"role": "assistant", "parts": [part], "finish_reason": "stop"}]


def test_choice_without_a_message_says_nothing() -> None:
    with watched(capture_content="SPAN_ONLY") as captured:
        CHAT_ROW.call(CHAT_ROW.connect(Provider(chat_answer(None, finish_reason=None)), "sync"))
        (span,) = captured.spans
        assert "gen_ai.output.messages" not in span.attributes


def test_files_and_documents_of_a_prompt() -> None:
    pdf = "data:application/pdf;base64,JVBERg=="
    blob = {"type": "blob", "modality": "document", "mime_type": "application/pdf", "content": "JVBERg=="}
    content: list[Any] = [
        {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}},
        {"type": "file", "file": {"file_id": "file_1"}},
    ]
    file = {"type": "file", "modality": "document", "file_id": "file_1"}
    assert asked(CHAT_ROW, messages=[{"role": "user", "content": content}])[0]["parts"] == [blob, file]
    content = [
        {"type": "input_file", "filename": "a.pdf", "file_data": pdf},
        {"type": "input_file", "file_url": "https://brook.example/a.pdf"},
        {"type": "input_file", "file_id": "file_1"},
    ]
    uri = {"type": "uri", "modality": "document", "uri": "https://brook.example/a.pdf"}
    assert asked(RESPONSES_ROW, input=[{"role": "user", "content": content}])[0]["parts"] == [blob, uri, file]
    source = {"type": "text", "media_type": "text/plain", "data": "The brook is shallow."}
    parts = asked(MESSAGES_ROW, messages=[{"role": "user", "content": [{"type": "document", "source": source}]}])
    assert parts[0]["parts"] == [{"type": "text", "content": "The brook is shallow."}]


def test_spoken_answer_is_named_where_it_is_sent_back() -> None:
    message = {"role": "assistant", "audio": {"id": "audio_1"}}
    file = {"type": "file", "modality": "audio", "file_id": "audio_1"}
    assert asked(CHAT_ROW, messages=[message]) == [{"role": "assistant", "parts": [file]}]


def test_refusal_of_a_response_is_what_it_said() -> None:
    content = [{"type": "refusal", "refusal": "No."}]
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}
    parts = said(RESPONSES_ROW, as_json({**RESPONSE, "output": [item]}))[0]["parts"]
    assert parts == [{"type": "text", "content": "No."}]
