"""Plays Claude Code's program: speaks its stream-json on stdin and stdout, and makes the crew's voyage.

Asked ``Bring us into port.`` it calls ``tide`` and ``chart`` at once and then ``radio``, which are tools of the MCP
server ``ship`` in the asking process, then a sub-agent, and says a closing word. ``Fail.`` ends in an error, ``Sink.``
in a crash, ``Wait.`` in nothing at all; ``Bring us into port, and back.`` has a second turn that nobody asks for.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

SONNET = "claude-sonnet-4-5-20250929"
HAIKU = "claude-haiku-4-5-20251001"
READ = {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 5}
WROTE = {"ask": 60, "call": 20, "send": 40, "look": 15, "steer": 25, "close": 30}
"""What each message's answer truly is long, though the messages say 1."""

PARTIAL = "--include-partial-messages" in sys.argv
SESSION = "11111111-2222-3333-4444-555555555555"

_numbers = itertools.count(1)
_spent = 0.0
_used: dict[str, dict[str, int]] = {}
if any(each.startswith("--resume") for each in sys.argv):  # the totals go on where the session was
    _used = {model: {**READ, "output_tokens": 50} for model in (SONNET, HAIKU)}


def tell(kind: str, **fields: Any) -> None:
    told = {"type": kind, "session_id": SESSION, "uuid": f"u{next(_numbers)}", **fields}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def hear() -> Any:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def text(words: str) -> Any:
    return {"type": "text", "text": words}


def use(ident: str, name: str, **given: Any) -> Any:
    return {"type": "tool_use", "id": ident, "name": name, "input": given}


def say(turn: int, word: str, *blocks: Any, model: str = SONNET, parent: str | None = None) -> None:
    """A message of the model, in as many parts as it has blocks."""
    ident = f"msg {turn} {word}"
    usage = {**READ, "output_tokens": 1}
    used = _used.setdefault(model, dict.fromkeys((*READ, "output_tokens"), 0))
    for name, count in {**READ, "output_tokens": WROTE[word]}.items():
        used[name] += count
    message = {"id": ident, "type": "message", "role": "assistant", "model": model, "stop_reason": None, "usage": usage}
    if PARTIAL:
        stream(parent, {"type": "message_start", "message": {**message, "content": []}})
    for block in blocks:
        if PARTIAL:
            stream(parent, {"type": "content_block_start", "index": 0, "content_block": block})
        tell("assistant", message={**message, "content": [block]}, parent_tool_use_id=parent)
    if PARTIAL:
        reason = "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn"
        delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": WROTE[word]}}
        stream(parent, delta)


def stream(parent: str | None, event: Any) -> None:
    tell("stream_event", event=event, parent_tool_use_id=parent)


def answer(ident: str, words: str, *, error: bool = False, parent: str | None = None) -> None:
    """The result of a tool."""
    block = {"type": "tool_result", "tool_use_id": ident, "content": [text(words)], "is_error": error}
    tell("user", message={"role": "user", "content": [block]}, parent_tool_use_id=parent)


def ask_ship(method: str, **params: Any) -> Any:
    return asked_ship([(method, params)])[0]


def asked_ship(requests: list[tuple[str, Any]]) -> list[Any]:
    """Asks the MCP server in the other process, all at once."""
    answers: dict[str, Any] = {}
    idents = [f"request {next(_numbers)}" for _ in requests]
    for ident, (method, params) in zip(idents, requests, strict=True):
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        if not method.startswith("notifications/"):
            message["id"] = next(_numbers)
        asked = {"subtype": "mcp_message", "server_name": "ship", "message": message}
        tell("control_request", request_id=ident, request=asked)
    while len(answers) < len(requests):
        told = hear()
        if told["type"] == "control_response":
            answers[told["response"]["request_id"]] = told["response"].get("response")
    return [answers[ident] for ident in idents]


def call_ship(turn: int, parent: str | None = None, **tools: Any) -> None:
    asked = [("tools/call", {"name": name, "arguments": given}) for name, given in tools.items()]
    for name, told in zip(tools, asked_ship(asked), strict=True):
        result = told["mcp_response"]["result"]
        answer(f"{name} {turn}", result["content"][0]["text"], error=bool(result.get("isError")), parent=parent)


def voyage(turn: int) -> None:
    port = {"port": "Whitby"}
    ask = (text("Let us see."), use(f"tide {turn}", "mcp__ship__tide", **port))
    say(turn, "ask", *ask, use(f"chart {turn}", "mcp__ship__chart", **port))
    call_ship(turn, tide=port, chart=port)
    say(turn, "call", use(f"radio {turn}", "mcp__ship__radio", channel=16))
    call_ship(turn, radio={"channel": 16})
    task = f"task {turn}"
    say(turn, "send", use(task, "Task", subagent_type="pilot", description="d", prompt="Secret harbour."))
    tell("user", message={"role": "user", "content": [text("Secret harbour.")]}, parent_tool_use_id=task)
    say(turn, "look", use(f"read {turn}", "Read", file_path="pilot.txt"), model=HAIKU, parent=task)
    answer(f"read {turn}", "shoals", parent=task)
    say(turn, "steer", text("Steer north."), model=HAIKU, parent=task)
    answer(task, "Steer north.")
    say(turn, "close", text("We are moored."))


def close(**fields: Any) -> None:
    global _spent
    _spent += 0.25
    main = dict.fromkeys((*READ, "output_tokens"), 0)
    if not fields.get("is_error"):
        main = {name: count * 4 for name, count in READ.items()}
        main["output_tokens"] = sum(WROTE[word] for word in ("ask", "call", "send", "close"))
    by_model = {
        model: {
            "inputTokens": used["input_tokens"],
            "outputTokens": used["output_tokens"],
            "cacheReadInputTokens": used["cache_read_input_tokens"],
            "cacheCreationInputTokens": used["cache_creation_input_tokens"],
            "webSearchRequests": 0,
            "costUSD": 0.1,
            "contextWindow": 200000,
        }
        for model, used in _used.items()
    }
    told = {"subtype": "success", "is_error": False, "duration_ms": 9, "duration_api_ms": 8, "num_turns": 5}
    tell("result", **{**told, "total_cost_usd": _spent, "usage": main, "modelUsage": by_model, **fields})


def main() -> None:
    turn = 0
    while True:
        told = hear()
        if told["type"] == "control_request":
            done = {"subtype": "success", "request_id": told["request_id"], "response": {"commands": []}}
            tell("control_response", response=done)
            if told["request"]["subtype"] == "initialize":
                continue
        if told["type"] != "user":
            continue
        words = told["message"]["content"]
        if not turn and "Bring" in words:
            about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
            ask_ship("initialize", **about)
            ask_ship("notifications/initialized")
        turn += 1
        tell("system", subtype="init", model=SONNET, tools=[], mcp_servers=[])
        if words == "Fail.":
            close(subtype="error_during_execution", is_error=True, errors=["storm"])
        elif words in ("Wait.", "Sink."):
            say(turn, "ask", text("Let us see."))
            if words == "Sink.":
                sys.exit(3)
        else:
            voyage(turn)
            close(result="We are moored.")
            if words == "Bring us into port, and back.":
                turn += 1
                voyage(turn)
                close(result="We are moored.")


if __name__ == "__main__":
    main()
