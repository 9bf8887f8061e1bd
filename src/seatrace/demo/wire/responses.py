"""OpenAI ``/v1/responses``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from seatrace.demo.fake_model import Ask, Piece, split

from . import Body, Turn, event, identifier, openai, text_of
from .openai import error, headers, hit, input_tokens

__all__ = ["ask", "error", "events", "headers", "hit", "input_tokens", "stream_error", "whole"]


def ask(body: Body) -> Ask:
    pieces = [Piece(json.dumps(tool, sort_keys=True)) for tool in body.get("tools") or ()]
    if instructions := body.get("instructions"):
        pieces.append(Piece(f"developer: {instructions}"))
    given = openai.required(body, "input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    answered = 0
    for item in items:
        called = item.get("type") == "function_call"
        answered = 0 if item.get("role") == "user" else answered + called
        pieces.append(Piece(_text_of_item(item)))
    form = (body.get("text") or {}).get("format") or {}
    return Ask(
        model=openai.required(body, "model"),
        pieces=pieces,
        tools=openai.offered(body.get("tools")),
        answered=answered,
        tool_choice=openai.tool_choice(body.get("tool_choice")),
        schema=form.get("schema") if form.get("type") == "json_schema" else None,
        max_tokens=body.get("max_output_tokens"),
    )


def whole(turn: Turn) -> Body:
    return _response(turn, f"resp_{identifier(turn.numbers, 50)}", _output(turn))


def events(turn: Turn) -> Iterator[bytes]:
    number = -1
    name = f"resp_{identifier(turn.numbers, 50)}"

    def send(kind: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, **fields, "sequence_number": number}, kind)

    output = _output(turn)
    begun = _response(turn, name, None)
    yield send("response.created", response=begun)
    yield send("response.in_progress", response=begun)
    for index, item in enumerate(output):
        place = {"item_id": item["id"], "output_index": index}
        if item["type"] == "reasoning":
            yield send("response.output_item.added", item=item, output_index=index)
        elif item["type"] == "function_call":
            opened = {**item, "status": "in_progress", "arguments": ""}
            yield send("response.output_item.added", item=opened, output_index=index)
            for part in split(item["arguments"], turn.numbers):
                padding = identifier(turn.numbers, 8)
                yield send("response.function_call_arguments.delta", delta=part, obfuscation=padding, **place)
            yield send("response.function_call_arguments.done", arguments=item["arguments"], **place)
        else:
            opened = {**item, "status": "in_progress", "content": []}
            yield send("response.output_item.added", item=opened, output_index=index)
            place["content_index"] = 0
            (part,) = item["content"]
            yield send("response.content_part.added", part={**part, "text": ""}, **place)
            for delta in split(part["text"], turn.numbers):
                padding = identifier(turn.numbers, 8)
                yield send("response.output_text.delta", delta=delta, logprobs=[], obfuscation=padding, **place)
            yield send("response.output_text.done", text=part["text"], logprobs=[], **place)
            yield send("response.content_part.done", part=part, **place)
        yield send("response.output_item.done", item=item, output_index=index)
    last = "response.incomplete" if turn.reply.finish == "length" else "response.completed"
    yield send(last, response=_response(turn, name, output))


def stream_error(status: int) -> bytes:
    body = error(status, None, "")["error"]
    code = body["code"] or body["type"]
    data = {"type": "error", "code": code, "message": body["message"], "param": None, "sequence_number": 2}
    return event(data, "error")


def _output(turn: Turn) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if turn.reply.reasoning_tokens:
        items.append({"id": f"rs_{identifier(turn.numbers, 50)}", "type": "reasoning", "content": [], "summary": []})
    if turn.reply.text:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": turn.reply.text}
        status = "incomplete" if turn.reply.finish == "length" else "completed"
        message = {"id": f"msg_{identifier(turn.numbers, 50)}", "type": "message", "status": status}
        items.append({**message, "content": [part], "role": "assistant"})
    for call in turn.reply.tool_calls:
        ids = {"id": f"fc_{identifier(turn.numbers, 50)}", "call_id": f"call_{identifier(turn.numbers, 24)}"}
        written = {"type": "function_call", "status": "completed", "arguments": call.arguments, "name": call.name}
        items.append({**ids, **written})
    return items


def _response(turn: Turn, name: str, output: list[dict[str, Any]] | None) -> Body:
    """The response object; without ``output`` the one that opens a stream."""
    body = turn.body
    cut = output is not None and turn.reply.finish == "length"
    done = output is not None and not cut
    return {
        "id": name,
        "object": "response",
        "created_at": turn.created,
        "status": "in_progress" if output is None else "incomplete" if cut else "completed",
        "background": False,
        "completed_at": turn.created if done else None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": turn.model,
        "output": output or [],
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": None,
        "reasoning": {"effort": (body.get("reasoning") or {}).get("effort"), "summary": None},
        "safety_identifier": None,
        "service_tier": "auto" if output is None else "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": (body.get("text") or {}).get("format") or {"type": "text"}, "verbosity": "medium"},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [{"strict": True, "description": None, **tool} for tool in body.get("tools") or ()],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if output is None else _usage(turn),
        "user": None,
        "metadata": body.get("metadata") or {},
    }


def _usage(turn: Turn) -> Body:
    read, written = input_tokens(turn), turn.reply.output_tokens
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": turn.hit.read},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": turn.reply.reasoning_tokens},
        "total_tokens": read + written,
    }


def _text_of_item(item: Body) -> str:
    if item.get("type") == "function_call":
        return f"{item['name']}({item['arguments']})"
    if item.get("type") == "function_call_output":
        return f"tool: {text_of(item['output'])}"
    return f"{item.get('role', item.get('type'))}: {text_of(item.get('content'))}"
