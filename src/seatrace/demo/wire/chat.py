"""OpenAI ``/v1/chat/completions``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from seatrace.demo.fake_model import Ask, Piece, split

from . import Body, Turn, event, identifier, openai, text_of
from .openai import error, headers, hit, input_tokens

__all__ = ["ask", "error", "events", "headers", "hit", "input_tokens", "stream_error", "whole"]

_FINISH = {"stop": "stop", "length": "length", "tools": "tool_calls"}


def ask(body: Body) -> Ask:
    messages = openai.required(body, "messages")
    pieces = [Piece(json.dumps(tool, sort_keys=True)) for tool in body.get("tools") or ()]
    answered = 0
    for message in messages:
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        answered = 0 if message["role"] == "user" else answered + bool(calls)
        said = [text_of(message.get("content")), *(f"{call['name']}({call['arguments']})" for call in calls)]
        pieces.append(Piece(f"{message['role']}: " + "\n".join(said)))
    form = body.get("response_format") or {}
    return Ask(
        model=openai.required(body, "model"),
        pieces=pieces,
        tools=openai.offered(body.get("tools")),
        answered=answered,
        tool_choice=openai.tool_choice(body.get("tool_choice")),
        schema=form["json_schema"].get("schema") if form.get("type") == "json_schema" else None,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
    )


def whole(turn: Turn) -> Body:
    message: dict[str, Any] = {"role": "assistant", "content": turn.reply.text or None}
    if turn.reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{identifier(turn.numbers, 24)}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in turn.reply.tool_calls
        ]
    message |= {"refusal": None, "annotations": []}
    finish = _FINISH[turn.reply.finish]
    return {
        **_head(turn, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _usage(turn),
    }


def events(turn: Turn) -> Iterator[bytes]:
    with_usage = bool((turn.body.get("stream_options") or {}).get("include_usage"))
    head = _head(turn, "chat.completion.chunk")

    def chunk(delta: Body | None, finish: str | None = None, usage: Body | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        data = {**head, "choices": [] if delta is None else [choice]}
        if with_usage:
            data["usage"] = usage
        return event({**data, "obfuscation": identifier(turn.numbers, turn.numbers.randint(2, 14))})

    yield chunk({"role": "assistant", "content": None if turn.reply.tool_calls else "", "refusal": None})
    for part in split(turn.reply.text, turn.numbers):
        yield chunk({"content": part})
    for index, call in enumerate(turn.reply.tool_calls):
        opened = {"index": index, "id": f"call_{identifier(turn.numbers, 24)}", "type": "function"}
        yield chunk({"tool_calls": [{**opened, "function": {"name": call.name, "arguments": ""}}]})
        for part in split(call.arguments, turn.numbers):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield chunk({}, _FINISH[turn.reply.finish])
    if with_usage:
        yield chunk(None, usage=_usage(turn))
    yield b"data: [DONE]\n\n"


def stream_error(status: int) -> bytes:
    return event(error(status, None, ""))


def _head(turn: Turn, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{identifier(turn.numbers, 29)}",
        "object": kind,
        "created": turn.created,
        "model": turn.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _usage(turn: Turn) -> Body:
    prompt, completion = input_tokens(turn), turn.reply.output_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": turn.hit.read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": turn.reply.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
