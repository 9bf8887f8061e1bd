"""Conversations in all forms from one description, for property tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

FORMS = ("openai_chat", "openai_responses", "anthropic", "gemini")


@dataclass(frozen=True)
class Step:
    """One move of the model: tool calls with the sizes of their results, or some words."""

    results: tuple[int, ...]
    words: int


@dataclass(frozen=True)
class Exchange:
    """What a user said, in words, and what the model did."""

    words: int
    steps: tuple[Step, ...]


_STEP = st.builds(
    Step,
    results=st.lists(st.sampled_from([1, 20, 300, 1_500]), max_size=3).map(tuple),
    words=st.sampled_from([1, 30, 400]),
)
EXCHANGES = st.lists(
    st.builds(Exchange, words=st.sampled_from([1, 20, 500]), steps=st.lists(_STEP, max_size=4).map(tuple)),
    min_size=1,
    max_size=6,
)


def said(words: int, mark: str) -> str:
    """A text of about so many words that begins with ``mark``."""
    return " ".join([mark, *["tide"] * words])


def make(form: str, exchanges: list[Exchange], *, system: bool = True) -> list[dict[str, Any]]:
    """The conversation in ``form``."""
    return _MAKERS[form](exchanges, system)


def _steps(exchange: Exchange) -> list[Step]:
    """Without two silent moves in a row, which no provider makes: words end what the model does."""
    steps = list(exchange.steps)
    return [step for at, step in enumerate(steps) if step.results or at == len(steps) - 1]


def _chat(exchanges: list[Exchange], system: bool) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}] if system else []
    for number, exchange in enumerate(exchanges):
        messages.append({"role": "user", "content": said(exchange.words, f"Q{number}")})
        for at, step in enumerate(_steps(exchange)):
            if not step.results:
                messages.append({"role": "assistant", "content": said(step.words, "A")})
                continue
            ids = [f"call_{number}_{at}_{each}" for each in range(len(step.results))]
            calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ids]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            for id_, size in zip(ids, step.results, strict=True):
                messages.append({"role": "tool", "tool_call_id": id_, "content": said(size, "R")})
    return messages


def _responses(exchanges: list[Exchange], system: bool) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [{"role": "developer", "content": "Be brief."}] if system else []
    for number, exchange in enumerate(exchanges):
        items.append({"role": "user", "content": [{"type": "input_text", "text": said(exchange.words, f"Q{number}")}]})
        for at, step in enumerate(_steps(exchange)):
            thought = f"rs_{number}_{at}"
            items.append({"type": "reasoning", "id": thought, "summary": []})
            if not step.results:
                text = {"type": "output_text", "text": said(step.words, "A")}
                items.append({"type": "message", "role": "assistant", "content": [text], "of": thought})
                continue
            ids = [f"call_{number}_{at}_{each}" for each in range(len(step.results))]
            items += [
                {"type": "function_call", "call_id": id_, "name": "f", "arguments": "{}", "of": thought} for id_ in ids
            ]
            items += [
                {"type": "function_call_output", "call_id": id_, "output": said(size, "R")}
                for id_, size in zip(ids, step.results, strict=True)
            ]
    return items


def _anthropic(exchanges: list[Exchange], system: bool) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for number, exchange in enumerate(exchanges):
        messages.append({"role": "user", "content": said(exchange.words, f"Q{number}")})
        for at, step in enumerate(_steps(exchange)):
            if not step.results:
                messages.append({"role": "assistant", "content": [{"type": "text", "text": said(step.words, "A")}]})
                continue
            ids = [f"toolu_{number}_{at}_{each}" for each in range(len(step.results))]
            thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
            uses = [{"type": "tool_use", "id": id_, "name": "f", "input": {}} for id_ in ids]
            results = [
                {"type": "tool_result", "tool_use_id": id_, "content": [{"type": "text", "text": said(size, "R")}]}
                for id_, size in zip(ids, step.results, strict=True)
            ]
            messages += [{"role": "assistant", "content": [thinking, *uses]}, {"role": "user", "content": results}]
    return messages


def _gemini(exchanges: list[Exchange], system: bool) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = []
    for number, exchange in enumerate(exchanges):
        contents.append({"role": "user", "parts": [{"text": said(exchange.words, f"Q{number}")}]})
        for step in _steps(exchange):
            if not step.results:
                contents.append({"role": "model", "parts": [{"text": said(step.words, "A")}]})
                continue
            names = [f"f{each}" for each in range(len(step.results))]
            calls = [{"function_call": {"name": name, "args": {}}} for name in names]
            answers = [
                {"function_response": {"name": name, "response": {"result": said(size, "R")}}}
                for name, size in zip(names, step.results, strict=True)
            ]
            contents += [{"role": "model", "parts": calls}, {"role": "user", "parts": answers}]
    return contents


_MAKERS = {
    "openai_chat": _chat,
    "openai_responses": _responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
