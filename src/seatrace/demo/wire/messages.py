"""Anthropic ``/v1/messages``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from random import Random
from typing import Any, Literal

from seatrace.demo.fake_model import Ask, Piece, Tool, split
from seatrace.demo.prompt_cache import Hit, PromptCache

from . import Body, RequestError, Turn, event, identifier, text_of

_FINISH = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use"}
_DATED = {
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
}
_LIMITS = {"requests": 4_000, "tokens": 480_000, "input-tokens": 400_000, "output-tokens": 80_000}


def dated(model: str) -> str:
    """The name under which ``model`` answers.

    Raises:
        RequestError: if Anthropic has no model of that kind.
    """
    if not model.startswith("claude-"):
        raise RequestError(404, f"model: {model}")
    return _DATED.get(model, model)


def ask(body: Body) -> Ask:
    for name in ("model", "messages"):
        if not body.get(name):
            raise RequestError(400, f"{name}: Field required")
    pieces = [Piece(json.dumps(_unmarked(tool), sort_keys=True), _mark(tool)) for tool in body.get("tools") or ()]
    pieces += _pieces("system", body.get("system"))
    answered = 0
    for message in body["messages"]:
        kinds = [part.get("type") for part in message["content"] if isinstance(part, dict)]
        spoke = message["role"] == "user" and "tool_result" not in kinds
        answered = 0 if spoke else answered + ("tool_result" in kinds)
        pieces += _pieces(message["role"], message["content"])
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return Ask(
        model=body["model"],
        pieces=pieces,
        tools=[Tool(tool["name"], tool["input_schema"]) for tool in body.get("tools") or () if "input_schema" in tool],
        answered=answered,
        tool_choice=_choice(body.get("tool_choice")),
        schema=form.get("schema"),
        max_tokens=body.get("max_tokens"),
    )


def hit(cache: PromptCache, ask: Ask) -> Hit:
    return cache.marked(ask.model, ask.pieces)


def input_tokens(turn: Turn) -> int:
    return turn.ask.input_tokens


def count(ask: Ask) -> Body:
    """The body of ``/v1/messages/count_tokens``."""
    return {"input_tokens": ask.input_tokens}


def whole(turn: Turn) -> Body:
    finish = {"stop_reason": _FINISH[turn.reply.finish], "stop_sequence": None}
    usage = {**_input_usage(turn), "output_tokens": turn.reply.output_tokens, "service_tier": "standard"}
    return {**_head(turn), "content": list(_blocks(turn)), **finish, "usage": usage}


def events(turn: Turn) -> Iterator[bytes]:
    begun = {**_input_usage(turn), "output_tokens": min(2, turn.reply.output_tokens), "service_tier": "standard"}
    message = {**_head(turn), "content": [], "stop_reason": None, "stop_sequence": None, "usage": begun}
    yield event({"type": "message_start", "message": message}, "message_start")
    for index, block in enumerate(_blocks(turn)):
        empty: Body = {"text": ""} if block["type"] == "text" else {"input": {}}
        opened = {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        yield event(opened, "content_block_start")
        if index == 0:
            yield event({"type": "ping"}, "ping")
        for delta in _deltas(block, turn.numbers):
            yield event({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")
        yield event({"type": "content_block_stop", "index": index}, "content_block_stop")
    usage = {name: value for name, value in _input_usage(turn).items() if name != "cache_creation"}
    finish = {"stop_reason": _FINISH[turn.reply.finish], "stop_sequence": None}
    last = {"delta": finish, "usage": {**usage, "output_tokens": turn.reply.output_tokens}}
    yield event({"type": "message_delta", **last}, "message_delta")
    yield event({"type": "message_stop"}, "message_stop")


def stream_error(status: int) -> bytes:
    return event(error(status, None, ""), "error")


def error(status: int, message: str | None, model: str) -> Body:
    kind, default = {
        400: ("invalid_request_error", "messages: Field required"),
        401: ("authentication_error", "invalid x-api-key"),
        404: ("not_found_error", f"model: {model}"),
        429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
        529: ("overloaded_error", "Overloaded"),
    }.get(status, ("api_error", "Internal server error"))
    return {"type": "error", "error": {"type": kind, "message": message or default}}


def headers(number: int, numbers: Random) -> dict[str, str]:
    reset = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    limits = {}
    for name, limit in _LIMITS.items():
        limits[f"anthropic-ratelimit-{name}-limit"] = str(limit)
        limits[f"anthropic-ratelimit-{name}-remaining"] = str(max(limit - number, 0))
        limits[f"anthropic-ratelimit-{name}-reset"] = reset
    return {"request-id": f"req_01{identifier(numbers, 22)}", **limits}


def _head(turn: Turn) -> dict[str, Any]:
    name = f"msg_01{identifier(turn.numbers, 22)}"
    return {"model": turn.model, "id": name, "type": "message", "role": "assistant"}


def _input_usage(turn: Turn) -> dict[str, Any]:
    """``input_tokens`` leaves out what was read from or written to the cache: this is Anthropic's arithmetic."""
    written = turn.hit.written
    return {
        "input_tokens": input_tokens(turn) - turn.hit.read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": turn.hit.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - turn.hit.written_1h,
            "ephemeral_1h_input_tokens": turn.hit.written_1h,
        },
    }


def _blocks(turn: Turn) -> Iterator[dict[str, Any]]:
    if turn.reply.text:
        yield {"type": "text", "text": turn.reply.text}
    for call in turn.reply.tool_calls:
        name = f"toolu_01{identifier(turn.numbers, 22)}"
        yield {"type": "tool_use", "id": name, "name": call.name, "input": json.loads(call.arguments)}


def _deltas(block: Body, numbers: Random) -> Iterator[Body]:
    if block["type"] == "text":
        for part in split(block["text"], numbers):
            yield {"type": "text_delta", "text": part}
        return
    yield {"type": "input_json_delta", "partial_json": ""}
    for part in split(json.dumps(block["input"]), numbers):
        yield {"type": "input_json_delta", "partial_json": part}


def _pieces(role: str, content: Any) -> list[Piece]:
    if not content:
        return []
    if isinstance(content, str):
        return [Piece(f"{role}: {content}")]
    return [Piece(f"{role}: {text_of([part])}", _mark(part)) for part in content]


def _mark(part: Body) -> Literal["5m", "1h"] | None:
    if not part.get("cache_control"):
        return None
    return "1h" if part["cache_control"].get("ttl") == "1h" else "5m"


def _unmarked(tool: Body) -> Body:
    return {name: value for name, value in tool.items() if name != "cache_control"}


def _choice(choice: Any) -> Literal["auto", "none", "required"]:
    kind = (choice or {}).get("type", "auto")
    if kind == "none":
        return "none"
    return "auto" if kind == "auto" else "required"
