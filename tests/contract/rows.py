"""Every endpoint of every observed library as one row: how it is called, what the wire says, what the span must say.

A new library is new rows here; the cases of ``test_contract.py`` run over all of them.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from .wire import Answer, Provider, as_events, as_json, data, event

PRICES = {"brook-1": {"input": 1, "output": 4}}
"""USD per million tokens: what a call costs is the tests' own, not the bundled price book's."""

MESSAGES = [{"role": "user", "content": "How deep is the brook?"}]
TIME = "<seconds>"
"""Stands for any duration above 0 in expected attributes."""


@dataclass(frozen=True)
class Row:
    """One endpoint. ``asked`` + ``answered`` are the attributes of a plain call's span."""

    id: str
    library: str
    client: str
    """The client class; its async twin is called ``Async…``."""
    options: dict[str, Any]
    path: str
    """From the client to the method: ``chat.completions.create``."""
    arguments: dict[str, Any]
    answer: Answer
    name: str
    """Of the span."""
    asked: dict[str, Any]
    """Attributes that are known before the answer."""
    answered: dict[str, Any]
    """Attributes that a complete answer adds."""
    kind: str = "inference"
    stream: dict[str, Any] | None = None
    """Arguments that make it a stream."""
    events: tuple[bytes, ...] = ()
    """Its packets, one an event."""
    streamed: dict[str, Any] = field(default_factory=dict)
    """What a whole stream adds to ``asked``, apart from what every stream does."""
    begun: dict[str, Any] = field(default_factory=dict)
    """What the first chunk alone adds."""
    chunks: int = 0
    """Chunks that the user gets from ``events``."""
    stream_answer: Callable[[Any], Answer] = as_events
    needs: tuple[str, ...] = ()
    """Modules without which the library's client does not work."""
    error_event: bytes | None = None
    """A failure in the middle of a stream, as the provider writes it."""
    error_event_type: str = ""
    raw_stream: bool = True
    """Whether a stream that the user reads raw can be understood."""

    @property
    def exists(self) -> bool:
        """Whether the installed library still has the endpoint: anthropic 2 dropped its text completions."""
        return importlib.util.find_spec(f"{self.library}.resources.{self.path.split('.')[0]}") is not None

    def connect(self, provider: Provider, mode: str, **options: Any) -> Any:
        """A client on ``provider``, ``mode`` ``sync`` or ``async``."""
        for module in self.needs:
            if importlib.util.find_spec(module) is None:
                pytest.skip(f"{self.id}: {module} is not installed beside this {self.library}")
        name = self.client if mode == "sync" else f"Async{self.client}"
        return provider.client(self.library, name, **{"max_retries": 0, **self.options, **options})

    def method(self, client: Any, variant: str = "") -> Any:
        """The method to call; ``variant`` is ``with_raw_response`` or ``with_streaming_response``."""
        *path, last = self.path.split(".")
        for part in [*path, variant, last] if variant else [*path, last]:
            client = getattr(client, part)
        return client

    def call(self, client: Any, *, stream: bool = False, variant: str = "", **changes: Any) -> Any:
        """Calls it with the row's arguments."""
        extra = self.stream or {} if stream else {}
        return self.method(client, variant)(**{**self.arguments, **extra, **changes})

    def failure(self, status: int, word: str) -> Answer:
        """How the provider says no; retried at once, where it is retried."""
        error: dict[str, Any] = {"type": word, "message": "The brook ran dry."}
        document = {"error": error} if self.library == "openai" else {"type": "error", "error": error}
        return as_json(document, status, **{"retry-after-ms": "1"})

    @property
    def stream_attributes(self) -> dict[str, Any]:
        """Of a whole stream."""
        return {**self.asked, **STREAMED, **self.streamed}

    @property
    def begun_attributes(self) -> dict[str, Any]:
        """Of a stream left after its first chunk."""
        return {**self.asked, **STREAMED, **self.begun}


STREAMED = {"gen_ai.request.stream": True, "gen_ai.response.time_to_first_chunk": TIME}


def _host(address: str, operation: str = "chat", provider: str = "openai", **more: Any) -> dict[str, Any]:
    asked = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": "brook-1",
        "server.address": address,
        "server.port": 443,
    }
    return {**asked, **more}


def _usage(given: int, said: int | None, **more: int) -> dict[str, Any]:
    out: dict[str, Any] = {"gen_ai.usage.input_tokens": given}
    if said is not None:
        out["gen_ai.usage.output_tokens"] = said
    out.update({f"gen_ai.usage.{name.replace('__', '.')}": count for name, count in more.items()})
    return out


def _cost(amount: float) -> dict[str, Any]:
    return {
        "gen_ai.usage.cost.amount": pytest.approx(amount),
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "local",
    }


# --- openai -------------------------------------------------------------------------------------------------------

OPENAI = {"api_key": "sk-test", "base_url": "https://api.openai.com/v1"}
AZURE = {"api_key": "test", "azure_endpoint": "https://brook.openai.azure.com", "api_version": "2025-03-01-preview"}

CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "brook-1-2026",
    "system_fingerprint": "fp_1",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Knee-deep.", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": CHAT_USAGE,
}


def chat_chunk(content: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A ``chat.completion.chunk``."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "brook-1-2026",
        "system_fingerprint": "fp_1",
        "service_tier": "default",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": finish}],
        **more,
    }


DONE = data(b"[DONE]")
CHAT_EVENTS = (
    data(chat_chunk("Knee")),
    data(chat_chunk("-deep.")),
    data(chat_chunk(None, "stop")),
    data(chat_chunk(None, choices=[], usage=CHAT_USAGE)),
    DONE,
)
CHAT_ASKED = {"gen_ai.request.max_tokens": 50, "gen_ai.request.temperature": 0.5, "openai.api.type": "chat_completions"}
CHAT_BEGUN = {
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.model": "brook-1-2026",
    "openai.response.service_tier": "default",
    "openai.response.system_fingerprint": "fp_1",
}
CHAT_ANSWERED = {
    **CHAT_BEGUN,
    "gen_ai.response.finish_reasons": ("stop",),
    **_usage(100, 20, cache_read__input_tokens=64, reasoning__output_tokens=5),
    **_cost(0.00018),
}
OPENAI_ERROR_EVENT = data({"error": {"message": "The brook ran dry.", "type": "server_error", "code": "dry_brook"}})


def _chat(identity: str, client: str, options: dict[str, Any], address: str, provider: str) -> Row:
    return Row(
        id=identity,
        library="openai",
        client=client,
        options=options,
        path="chat.completions.create",
        arguments={"model": "brook-1", "messages": MESSAGES, "max_tokens": 50, "temperature": 0.5},
        answer=as_json(CHAT),
        name="chat brook-1",
        asked=_host(address, provider=provider, **CHAT_ASKED),
        answered=CHAT_ANSWERED,
        stream={"stream": True, "stream_options": {"include_usage": True}},
        events=CHAT_EVENTS,
        streamed=CHAT_ANSWERED,
        begun=CHAT_BEGUN,
        chunks=4,
        error_event=OPENAI_ERROR_EVENT,
        error_event_type="dry_brook",
    )


RESPONSE_USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}
RESPONSE_TEXT = {"type": "output_text", "text": "Knee-deep.", "annotations": []}
RESPONSE_MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [RESPONSE_TEXT],
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000,
    "status": "completed",
    "model": "brook-1-2026",
    "output": [RESPONSE_MESSAGE],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "service_tier": "default",
    "error": None,
    "incomplete_details": None,
    "usage": RESPONSE_USAGE,
}
_PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
_BLANK = {"type": "output_text", "text": "", "annotations": []}
_STARTED = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
RESPONSE_EVENTS = tuple(
    event({**each, "sequence_number": number})
    for number, each in enumerate(
        [
            {"type": "response.created", "response": _STARTED},
            {"type": "response.output_item.added", "output_index": 0, "item": {**RESPONSE_MESSAGE, "content": []}},
            {"type": "response.content_part.added", **_PLACE, "part": _BLANK},
            {"type": "response.output_text.delta", **_PLACE, "delta": "Knee-deep.", "logprobs": []},
            {"type": "response.output_text.done", **_PLACE, "text": "Knee-deep.", "logprobs": []},
            {"type": "response.completed", "response": RESPONSE},
        ]
    )
)
RESPONSE_BEGUN = {"gen_ai.response.id": "resp_1", "gen_ai.response.model": "brook-1-2026"}
RESPONSE_ANSWERED = {
    **RESPONSE_BEGUN,
    "gen_ai.response.finish_reasons": ("stop",),
    "openai.response.service_tier": "default",
    **_usage(100, 20, cache_read__input_tokens=64, reasoning__output_tokens=5),
    **_cost(0.00018),
}

COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1700000000,
    "model": "brook-1-2026",
    "choices": [{"text": "Knee-deep.", "index": 0, "logprobs": None, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
}


def _completion_chunk(text: str, finish: str | None, usage: Any = None) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return data({**COMPLETION, "choices": [choice], "usage": usage})


_COMPLETION_BEGUN = {"gen_ai.response.id": "cmpl-1", "gen_ai.response.model": "brook-1-2026"}
_COMPLETION_ANSWERED = {
    **_COMPLETION_BEGUN,
    "gen_ai.response.finish_reasons": ("length",),
    **_usage(5, 3),
    **_cost(0.000017),
}

IMAGE = {
    "created": 1700000000,
    "data": [{"b64_json": base64.b64encode(b"brook").decode()}],
    "usage": {
        "input_tokens": 12,
        "output_tokens": 30,
        "total_tokens": 42,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 12},
    },
}


def _speech(
    identity: str, path: str, arguments: dict[str, Any], answer: Answer, asked: dict[str, Any], **more: Any
) -> Row:
    return Row(
        id=identity,
        library="openai",
        client="OpenAI",
        options=OPENAI,
        path=path,
        arguments={"model": "brook-1", **arguments},
        answer=answer,
        asked=asked,
        name=f"{asked['gen_ai.operation.name']} brook-1",
        **more,
    )


_MEDIA = "generate_content"

OPENAI_ROWS = (
    _chat("openai-chat", "OpenAI", OPENAI, "api.openai.com", "openai"),
    _chat("openai-azure", "AzureOpenAI", AZURE, "brook.openai.azure.com", "azure.ai.openai"),
    _chat(
        "openai-compatible",
        "OpenAI",
        {**OPENAI, "base_url": "https://api.deepseek.com"},
        "api.deepseek.com",
        "deepseek",
    ),
    Row(
        id="openai-responses",
        library="openai",
        client="OpenAI",
        options=OPENAI,
        path="responses.create",
        arguments={"model": "brook-1", "input": "How deep is the brook?", "max_output_tokens": 50},
        answer=as_json(RESPONSE),
        name="chat brook-1",
        asked=_host("api.openai.com", **{"gen_ai.request.max_tokens": 50, "openai.api.type": "responses"}),
        answered=RESPONSE_ANSWERED,
        stream={"stream": True},
        events=RESPONSE_EVENTS,
        streamed=RESPONSE_ANSWERED,
        begun=RESPONSE_BEGUN,
        chunks=6,
        error_event=data({"error": {"message": "The brook ran dry.", "type": "server_error", "code": "dry_brook"}}),
        error_event_type="dry_brook",
    ),
    Row(
        id="openai-completions",
        library="openai",
        client="OpenAI",
        options=OPENAI,
        path="completions.create",
        arguments={"model": "brook-1", "prompt": "The brook is", "max_tokens": 3},
        answer=as_json(COMPLETION),
        name="text_completion brook-1",
        asked=_host("api.openai.com", "text_completion", **{"gen_ai.request.max_tokens": 3}),
        answered=_COMPLETION_ANSWERED,
        stream={"stream": True},
        events=(
            _completion_chunk("Knee", None),
            _completion_chunk("-deep.", "length"),
            data({**COMPLETION, "choices": []}),
            DONE,
        ),
        streamed=_COMPLETION_ANSWERED,
        begun=_COMPLETION_BEGUN,
        chunks=3,
        error_event=OPENAI_ERROR_EVENT,
        error_event_type="dry_brook",
    ),
    _speech(
        "openai-embeddings",
        "embeddings.create",
        {"input": ["brook", "river"], "encoding_format": "float"},
        as_json(
            {
                "object": "list",
                "model": "brook-1-2026",
                "data": [{"object": "embedding", "index": at, "embedding": [0.1, 0.2, 0.3]} for at in range(2)],
                "usage": {"prompt_tokens": 4, "total_tokens": 4},
            }
        ),
        _host("api.openai.com", "embeddings", **{"gen_ai.request.encoding_formats": ("float",)}),
        kind="embeddings",
        answered={
            "gen_ai.embeddings.dimension.count": 3,
            "gen_ai.response.model": "brook-1-2026",
            **_usage(4, None),
            **_cost(0.000004),
        },
    ),
    _speech(
        "openai-images",
        "images.generate",
        {"prompt": "a brook", "n": 2},
        as_json(IMAGE),
        _host("api.openai.com", _MEDIA, **{"gen_ai.request.choice.count": 2, "gen_ai.output.type": "image"}),
        answered={**_usage(12, 30), **_cost(0.000132)},
    ),
    _speech(
        "openai-speech",
        "audio.speech.create",
        {"input": "The brook is deep.", "voice": "alloy"},
        Answer([b"\xff\xfbmp3", b"\x00\x01"], headers={"content-type": "audio/mpeg"}),
        _host("api.openai.com", _MEDIA, **{"gen_ai.output.type": "speech"}),
        answered={},
    ),
    _speech(
        "openai-transcriptions",
        "audio.transcriptions.create",
        {"file": ("brook.mp3", b"\xff\xfbmp3", "audio/mpeg")},
        as_json(
            {
                "text": "The brook is deep.",
                "usage": {
                    "type": "tokens",
                    "input_tokens": 14,
                    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                    "output_tokens": 6,
                    "total_tokens": 20,
                },
            }
        ),
        _host("api.openai.com", _MEDIA, **{"gen_ai.output.type": "text"}),
        answered={
            **_usage(14, 6, audio__input_tokens=14, text__input_tokens=0),
            **_cost(0.000038),
        },
    ),
    _speech(
        "openai-moderations",
        "moderations.create",
        {"input": "The brook is deep."},
        as_json({"id": "modr-1", "model": "brook-1-2026", "results": []}),
        _host("api.openai.com", "moderation"),
        kind="operation",
        answered={"gen_ai.response.id": "modr-1", "gen_ai.response.model": "brook-1-2026"},
    ),
    _speech(
        "openai-decisions",
        "decisions.create",
        {"input": "The brook is deep.", "questions": [{"type": "predicate", "question": "Is it deep?"}]},
        as_json(
            {
                "model": "brook-1-2026",
                "answers": [{"type": "predicate", "name": None, "probability": 0.9}],
                "usage": {
                    "input_tokens": 9,
                    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
                    "output_tokens": 2,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": 11,
                },
            }
        ),
        _host("api.openai.com", _MEDIA, **{"gen_ai.output.type": "json"}),
        answered={
            "gen_ai.response.model": "brook-1-2026",
            **_usage(9, 2, cache_read__input_tokens=4, cache_write__input_tokens=0, reasoning__output_tokens=0),
            **_cost(0.000017),
        },
    ),
)

# --- anthropic ----------------------------------------------------------------------------------------------------

ANTHROPIC = {"api_key": "sk-ant-test", "base_url": "https://api.anthropic.com"}
BEDROCK = {"aws_access_key": "AKIATEST", "aws_secret_key": "test", "aws_region": "eu-central-1"}
VERTEX = {"region": "europe-west1", "project_id": "brook", "access_token": "test"}

MESSAGE_USAGE = {
    "input_tokens": 30,
    "cache_read_input_tokens": 64,
    "cache_creation_input_tokens": 6,
    "output_tokens": 20,
    "service_tier": "standard",
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "brook-1-2026",
    "content": [{"type": "text", "text": "Knee-deep."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": MESSAGE_USAGE,
}
MESSAGE_DOCUMENTS = (
    {
        "type": "message_start",
        "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": {**MESSAGE_USAGE, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Knee-deep."}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 20},
    },
    {"type": "message_stop"},
)
_MESSAGE_BEGUN = {
    "gen_ai.response.id": "msg_1",
    "gen_ai.response.model": "brook-1-2026",
    **_usage(100, 1, cache_read__input_tokens=64, cache_write__input_tokens=6),
    **_cost(0.000104),
}
_MESSAGE_ANSWERED = {
    **_MESSAGE_BEGUN,
    "gen_ai.response.finish_reasons": ("stop",),
    **_usage(100, 20),
    **_cost(0.00018),
}
ANTHROPIC_ERROR_EVENT = event({"type": "error", "error": {"type": "overloaded_error", "message": "Too many fishers."}})
_MESSAGE_ARGUMENTS = {"model": "brook-1", "messages": MESSAGES, "max_tokens": 50, "stop_sequences": ["END"]}


def aws_message(document: Any) -> bytes:
    """A message of AWS's binary event stream, as Bedrock wraps each event."""
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(document).encode()).decode()}).encode()
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in (
            (":event-type", "chunk"),
            (":content-type", "application/json"),
            (":message-type", "event"),
        )
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + payload
    return head + struct.pack(">I", binascii.crc32(head))


def _aws_stream(events: Any) -> Answer:
    return Answer(list(events), headers={"content-type": "application/vnd.amazon.eventstream"})


def _messages(identity: str, client: str, options: dict[str, Any], address: str, **more: Any) -> Row:
    provider = more.pop("provider", "anthropic")
    return Row(
        **{
            "id": identity,
            "library": "anthropic",
            "client": client,
            "options": options,
            "path": "messages.create",
            "arguments": _MESSAGE_ARGUMENTS,
            "answer": as_json(MESSAGE),
            "name": "chat brook-1",
            "asked": _host(
                address,
                provider=provider,
                **{"gen_ai.request.max_tokens": 50, "gen_ai.request.stop_sequences": ("END",)},
            ),
            "answered": _MESSAGE_ANSWERED,
            "stream": {"stream": True},
            "events": tuple(event(each) for each in MESSAGE_DOCUMENTS),
            "streamed": _MESSAGE_ANSWERED,
            "begun": _MESSAGE_BEGUN,
            "chunks": 6,
            "error_event": ANTHROPIC_ERROR_EVENT,
            "error_event_type": "overloaded_error",
            **more,
        }
    )


def _old_completion(text: str, reason: str | None) -> dict[str, Any]:
    return {"type": "completion", "id": "compl_1", "model": "brook-1-2026", "completion": text, "stop_reason": reason}


_OLD_BEGUN = {"gen_ai.response.id": "compl_1", "gen_ai.response.model": "brook-1-2026"}
_OLD_ANSWERED = {**_OLD_BEGUN, "gen_ai.response.finish_reasons": ("stop",)}

ANTHROPIC_ROWS = (
    _messages("anthropic-messages", "Anthropic", ANTHROPIC, "api.anthropic.com"),
    _messages("anthropic-beta", "Anthropic", ANTHROPIC, "api.anthropic.com", path="beta.messages.create"),
    _messages(
        "anthropic-bedrock",
        "AnthropicBedrock",
        BEDROCK,
        "bedrock-runtime.eu-central-1.amazonaws.com",
        provider="aws.bedrock",
        needs=("boto3",),
        events=tuple(aws_message(each) for each in MESSAGE_DOCUMENTS),
        stream_answer=_aws_stream,
        error_event=None,
        raw_stream=False,
    ),
    _messages(
        "anthropic-vertex",
        "AnthropicVertex",
        VERTEX,
        "europe-west1-aiplatform.googleapis.com",
        provider="gcp.vertex_ai",
        needs=("google.auth",),
    ),
    Row(
        id="anthropic-completions",
        library="anthropic",
        client="Anthropic",
        options=ANTHROPIC,
        path="completions.create",
        arguments={"model": "brook-1", "prompt": "\n\nHuman: How deep?\n\nAssistant:", "max_tokens_to_sample": 50},
        answer=as_json(_old_completion("Knee-deep.", "stop_sequence")),
        name="text_completion brook-1",
        asked=_host("api.anthropic.com", "text_completion", "anthropic", **{"gen_ai.request.max_tokens": 50}),
        answered=_OLD_ANSWERED,
        stream={"stream": True},
        events=(event(_old_completion("Knee", None)), event(_old_completion("-deep.", "stop_sequence"))),
        streamed=_OLD_ANSWERED,
        begun=_OLD_BEGUN,
        chunks=2,
        error_event=ANTHROPIC_ERROR_EVENT,
        error_event_type="overloaded_error",
    ),
    Row(
        id="anthropic-count",
        library="anthropic",
        client="Anthropic",
        options=ANTHROPIC,
        path="messages.count_tokens",
        arguments={"model": "brook-1", "messages": MESSAGES},
        answer=as_json({"input_tokens": 9}),
        name="count_tokens brook-1",
        asked=_host("api.anthropic.com", "count_tokens", "anthropic"),
        answered={},
        kind="operation",
    ),
)

ROWS = tuple(row for row in (*OPENAI_ROWS, *ANTHROPIC_ROWS) if row.exists)
STREAMS = tuple(row for row in ROWS if row.stream is not None)
MODES = ("sync", "async")


def over(rows: tuple[Row, ...]) -> Any:
    """Runs a test for each of ``rows``, sync and async."""
    cases = [pytest.param(row, mode, id=f"{row.id}-{mode}") for row in rows for mode in MODES]
    return pytest.mark.parametrize(("row", "mode"), cases)
