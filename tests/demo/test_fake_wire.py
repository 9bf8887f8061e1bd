"""The fake provider writes what the real ones write: compared with recorded traffic, key by key and event by event."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from seatrace.demo.provider import FakeProvider, Fault

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "exchanges" / "open"
pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded traffic at {RECORDED}")

FREE_FORM = {"parameters", "input_schema", "input", "schema", "metadata"}
"""Keys whose content is the caller's or the tool's own."""
ECHOED = {"text.format", "response.text.format"}

TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": TOOL}}
RESPONSES_TOOL = {"type": "function", "name": "weather", "description": "d", "parameters": TOOL}
CLAUDE_TOOL = {"name": "weather", "description": "d", "input_schema": TOOL}
HELLO = [{"role": "user", "content": "How high is the tide?"}]
CACHED = [{"type": "text", "text": "Answer briefly. " * 400, "cache_control": {"type": "ephemeral"}}]

CHAT = ("openai/chat.completions", "/v1/chat/completions", {"model": "gpt-5-mini", "messages": HELLO})
RESPONSES = ("openai/responses", "/v1/responses", {"model": "gpt-5.4", "input": "How high is the tide?"})
MESSAGES = ("anthropic/messages", "/v1/messages", {"model": "claude-sonnet-5", "max_tokens": 900, "messages": HELLO})
EMBEDDINGS = ("openai/embeddings", "/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]})

# Responses that were cut short are missing: they were hardly ever recorded.
REQUESTS = {
    "chat": (CHAT, {}),
    "chat, tools": (CHAT, {"tools": [CHAT_TOOL]}),
    "chat, cut short": (CHAT, {"max_completion_tokens": 5}),
    "responses": (RESPONSES, {}),
    "responses, tools": (RESPONSES, {"tools": [RESPONSES_TOOL]}),
    "messages": (MESSAGES, {}),
    "messages, tools": (MESSAGES, {"tools": [CLAUDE_TOOL]}),
    "messages, cache": (MESSAGES, {"system": CACHED}),
    "messages, cut short": (MESSAGES, {"max_tokens": 5}),
    "embeddings": (EMBEDDINGS, {}),
    "embeddings, packed": (EMBEDDINGS, {"encoding_format": "base64"}),
}
STREAMED = {name: request for name, request in REQUESTS.items() if not name.startswith("embeddings")}


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.mark.parametrize("name", REQUESTS)
def test_every_key_of_an_answer_was_seen_in_recorded_traffic(name: str, provider: FakeProvider) -> None:
    (folder, path, body), more = REQUESTS[name]
    response = _post(provider, path, {**body, **more})
    assert response.status_code == 200
    assert _unseen(_paths(response.json()), _recorded_paths(folder)) == set()


@pytest.mark.parametrize("usage", [True, False], ids=["with usage", "without usage"])
@pytest.mark.parametrize("name", STREAMED)
def test_every_event_of_a_stream_was_seen_in_recorded_traffic(name: str, usage: bool, provider: FakeProvider) -> None:
    (folder, path, body), more = REQUESTS[name]
    options = {"stream_options": {"include_usage": True}} if usage and "chat" in name else {}
    response = _post(provider, path, {**body, **more, **options, "stream": True})
    events = list(_events(response.text))
    recorded = _recorded_events(folder)
    for event, data in events:
        assert _unseen(_paths(data), recorded[event]) == set(), event
    assert {*pairwise(["begin", *_order(events), "end"])} <= _recorded_orders(folder)
    assert response.text.endswith("data: [DONE]\n\n") == ("chat" in name)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES, MESSAGES, EMBEDDINGS], ids=lambda endpoint: str(endpoint[0]))
def test_error_bodies_have_the_recorded_form(endpoint: tuple[str, str, Mapping[str, Any]], status: int) -> None:
    folder, path, body = endpoint
    with FakeProvider(schedule={1: Fault(status)}) as provider:
        response = _post(provider, path, body)
    assert response.status_code == status
    vendor = folder.partition("/")[0]
    seen = _recorded_paths(f"{vendor}/*", failed=True)
    assert _unseen(_paths(response.json()), seen) == set()


@pytest.mark.parametrize("endpoint", [CHAT, MESSAGES], ids=lambda endpoint: str(endpoint[0]))
def test_header_names_were_seen_in_recorded_traffic(
    endpoint: tuple[str, str, Mapping[str, Any]], provider: FakeProvider
) -> None:
    folder, path, body = endpoint
    seen = {name.lower() for exchange in _exchanges(folder) for name in exchange["response"]["headers"]}
    response = _post(provider, path, body)
    assert {*response.headers} - seen <= {"content-length", "transfer-encoding"}


def _post(provider: FakeProvider, path: str, body: Mapping[str, Any]) -> httpx2.Response:
    with httpx2.Client(trust_env=False) as client:
        return client.post(provider.url + path, json=body, headers={"authorization": "Bearer none"})


def _paths(value: Any, at: str = "") -> set[str]:
    """Every key of a JSON value with the kind of what stands there, e.g. ``usage.total_tokens: number``."""
    if isinstance(value, dict) and at not in ECHOED and at.rpartition(".")[2] not in FREE_FORM:
        return set().union(*(_paths(part, f"{at}.{key}" if at else key) for key, part in value.items()))
    if isinstance(value, list):
        return set().union({f"{at}: list"}, *(_paths(part, f"{at}[]") for part in value))
    kinds: dict[type, str] = {str: "text", bool: "truth", int: "number", float: "number", dict: "object"}
    return {f"{at}: {kinds.get(type(value), 'null')}"}


def _unseen(ours: set[str], theirs: set[str]) -> set[str]:
    return ours - theirs


@cache
def _exchanges(folder: str) -> list[dict[str, Any]]:
    return [json.loads(gzip.decompress(file.read_bytes())) for file in sorted(RECORDED.glob(f"{folder}/*.json.gz"))]


@cache
def _recorded_paths(folder: str, *, failed: bool = False) -> set[str]:
    seen = set()
    for exchange in _exchanges(folder):
        response = exchange["response"]
        if (response["status"] >= 400) == failed and "body_text" in response:
            try:
                seen |= _paths(json.loads(response["body_text"]))
            except ValueError:
                continue
    return seen


@cache
def _streams(folder: str) -> list[list[tuple[str, Any]]]:
    bodies = [exchange["response"].get("body_text", "") for exchange in _exchanges(folder)]
    return [events for body in bodies if (events := list(_events(body)))]


@cache
def _recorded_events(folder: str) -> dict[str, set[str]]:
    seen: dict[str, set[str]] = {}
    for events in _streams(folder):
        for event, data in events:
            seen.setdefault(event, set()).update(_paths(data))
    return seen


@cache
def _recorded_orders(folder: str) -> set[tuple[str, str]]:
    return {pair for events in _streams(folder) for pair in pairwise(["begin", *_order(events), "end"])}


def _events(body: str) -> Iterator[tuple[str, Any]]:
    """The name and data of each server-sent event; chat's have no names."""
    for block in body.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if fields.get("data", "[DONE]").strip() != "[DONE]":
            yield fields.get("event", ""), json.loads(fields["data"])


def _order(events: list[tuple[str, Any]]) -> list[str]:
    """What follows what: the kinds of the events, runs of equal ones as one."""
    kinds = [event or _chunk_kind(data) for event, data in events]
    return [kind for before, kind in pairwise(["", *kinds]) if kind != before]


def _chunk_kind(chunk: Mapping[str, Any]) -> str:
    if not chunk.get("choices"):
        return "usage"
    choice = chunk["choices"][0]
    if choice.get("finish_reason"):
        return "finish"
    keys = ("role", "content", "tool_calls")
    return next((key for key in keys if key in choice["delta"]), "other")
