"""The rules of the official conformance suite (its policies in Rego), for spans made here.

A span type's required attributes, and those recommended without a condition, must be there; names, kinds, status and
content follow the conventions v0.1.0. Attributes of our own are declared here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from seatrace.emit import semconv

_OPERATIONS: dict[str, tuple[str, str, str | None]] = {
    "chat": ("inference", "CLIENT", "gen_ai.request.model"),
    "generate_content": ("inference", "CLIENT", "gen_ai.request.model"),
    "text_completion": ("inference", "CLIENT", "gen_ai.request.model"),
    "embeddings": ("embeddings", "CLIENT", "gen_ai.request.model"),
    "retrieval": ("retrieval", "CLIENT", "gen_ai.data_source.id"),
    "invoke_agent": ("agent", "INTERNAL", "gen_ai.agent.name"),
    "invoke_workflow": ("agent", "INTERNAL", "gen_ai.agent.name"),
    "execute_tool": ("tool", "INTERNAL", "gen_ai.tool.name"),
}

_EXPECTED = {
    "inference": {
        "gen_ai.provider.name",
        "server.address",
        "gen_ai.response.id",
        "gen_ai.response.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
    },
    "embeddings": {
        "gen_ai.provider.name",
        "server.address",
        "gen_ai.response.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.embeddings.dimension.count",
        "gen_ai.request.encoding_formats",
    },
    "retrieval": set(),
    "agent": set(),
    "tool": {"gen_ai.tool.name", "gen_ai.tool.type"},
}

_FORBIDDEN = {
    "agent": {
        "gen_ai.provider.name",
        "server.address",
        "server.port",
        "gen_ai.agent.id",
        "gen_ai.agent.version",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
    },
}

_OURS = {semconv.TENANT, *(value for name, value in vars(semconv).items() if name.startswith("RUN_"))}
_PENDING = {value for name, value in vars(semconv).items() if name.startswith("USAGE_COST_")}
"""Of the conventions' open pull request 443."""

_KNOWN = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
_FINISH_REASONS = {"stop", "length", "content_filter", "tool_call", "compaction", "error"}
_PARTS = {
    "text": {"content"},
    "reasoning": {"content"},
    "tool_call": {"name"},
    "tool_call_response": {"response"},
    "blob": {"modality", "content"},
    "file": {"modality", "file_id"},
    "uri": {"modality", "uri"},
    "generic": set(),
}


def violations(spans: Iterable[Any]) -> list[str]:
    """What the suite would complain of, one line each."""
    return [f"{span.name}: {found}" for span in spans for found in _of(span)]


def _of(span: Any) -> Iterable[str]:
    attributes = dict(span.attributes or {})
    operation = attributes.get("gen_ai.operation.name")
    if operation not in _OPERATIONS:
        yield f"operation {operation!r} is unknown"
        return
    kind, span_kind, subject = _OPERATIONS[operation]
    if span.kind.name != span_kind:
        yield f"span kind is {span.kind.name}"
    named = attributes.get(subject) if subject is not None else None
    if span.name != (f"{operation} {named}" if named else operation):
        yield f"span is named {span.name!r}"
    if span.status.status_code.name == "OK":
        yield "status OK is for applications"
    failed = span.status.status_code.name == "ERROR"
    if failed != ("error.type" in attributes):
        yield f"error.type and status {span.status.status_code.name} do not go together"
    if not failed:
        for name in sorted(_EXPECTED[kind] - set(attributes)):
            yield f"{name} is missing"
    for name in sorted(_FORBIDDEN.get(kind, set()) & set(attributes)):
        yield f"{name} does not belong there"
    for name, value in attributes.items():
        if name not in _KNOWN:
            yield f"{name} is in no registry"
        if name.startswith("seatrace.") and name not in _OURS:
            yield f"{name} is not declared"
        if value is None or value == "":
            yield f"{name} is empty"
    for reason in attributes.get("gen_ai.response.finish_reasons", ()):
        if reason not in _FINISH_REASONS:
            yield f"finish reason {reason!r} is unknown"
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        if name in attributes:
            yield from _messages(name, json.loads(attributes[name]))


def _messages(name: str, messages: Any) -> Iterable[str]:
    for message in messages:
        if not isinstance(message.get("role"), str):
            yield f"{name} has a message without a role"
        for part in message.get("parts", [{}]):
            missing = _PARTS.get(part.get("type"), {"type"}) - set(part)
            if missing:
                yield f"{name} has a part {part.get('type')!r} without {sorted(missing)}"
