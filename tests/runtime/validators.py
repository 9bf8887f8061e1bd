"""What the providers accept, written from their documentation and error messages, apart from the code under test."""

from __future__ import annotations

from typing import Any


def openai_chat(messages: list[dict[str, Any]]) -> None:
    """ "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting, "tool message without its call"
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, "calls without tool messages"
        assert message.get("content") or message.get("tool_calls"), "nothing said"
        waiting = {call["id"] for call in message.get("tool_calls") or ()}
    assert not waiting, "calls without tool messages"


def openai_responses(items: list[dict[str, Any]]) -> None:
    """ "No tool output found for function call", "No tool call found for function call output", "reasoning was provided
    without its required following item"."""
    called: list[str] = []
    answered: list[str] = []
    for at, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "function_call":
            called.append(item["call_id"])
        elif kind == "function_call_output":
            assert item["call_id"] in called, "output without its call"
            answered.append(item["call_id"])
        elif kind == "reasoning":
            following = items[at + 1] if at + 1 < len(items) else {}
            led_to = following.get("type") == "function_call" or following.get("role") == "assistant"
            assert led_to, "reasoning without the item that it led to"
    assert sorted(called) == sorted(answered), "calls without outputs"


def anthropic(messages: list[dict[str, Any]]) -> None:
    """ "tool_use ids were found without tool_result blocks immediately after", "unexpected tool_use_id found", first
    message must use the user role; messages of one role in a row count as one."""
    merged: list[tuple[str, list[dict[str, Any]]]] = []
    for message in messages:
        content = message["content"]
        assert content, "empty content"
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        if merged and merged[-1][0] == message["role"]:
            merged[-1][1].extend(blocks)
        else:
            merged.append((message["role"], blocks))
    assert not merged or merged[0][0] == "user", "begins with the assistant"
    used: list[str] = []
    for role, blocks in merged:
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if role == "user":
            assert sorted(results) == sorted(used), "tool_use and tool_result do not match"
            first_other = next((at for at, block in enumerate(blocks) if block["type"] != "tool_result"), len(blocks))
            assert first_other >= len(results), "tool_result blocks must come first"
            used = []
        else:
            used = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert not used, "tool_use without tool_result"


def gemini(contents: list[dict[str, Any]]) -> None:
    """ "Ensure that function call turn comes immediately after a user turn or after a function response turn", "the
    number of function response parts is equal to the number of function call parts"."""
    assert not contents or contents[0]["role"] == "user", "begins with the model"
    called: list[str] = []
    before = ""
    for content in contents:
        calls = [part["function_call"]["name"] for part in content["parts"] if "function_call" in part]
        responses = [part["function_response"]["name"] for part in content["parts"] if "function_response" in part]
        assert responses == called, "calls and responses do not match"
        assert not calls or before == "user", "a call behind the model's own turn"
        called, before = calls, content["role"]
    assert not called, "calls without responses"


VALID = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
}
