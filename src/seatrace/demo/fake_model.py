"""What a fake model says: one deterministic answer per question, whatever wire format asks.

Wire formats read a request into an :class:`Ask` and write a :class:`Reply` back. Everything random comes from the
seed and the text of the prompt, never from ids, order or time: the same conversation costs the same tokens in each run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Schema = Mapping[str, Any]

_SENTENCES = (
    "The harbour gauge shows a slow rise since the new breakwater was finished.",
    "Spring tides exceed the mean by a third of the range, and neap tides fall short by the same share.",
    "A following wind adds a few centimetres for every hour that it blows along the fetch.",
    "Pressure matters as well: one hectopascal less lets the water stand about one centimetre higher.",
    "The tables agree with the gauge to within the error that the station itself reports.",
    "Where two sources differ, the later survey was taken, since it used the corrected datum.",
    "Ships of deep draught should wait for the second half of the flood.",
    "The current turns before high water in the narrows and after it in the outer roads.",
    "In short: plan for the higher figure, and check the gauge on the morning of departure.",
    "Fog is likelier in the weeks when the sea is colder than the air above it.",
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the caller offers; ``parameters`` is its JSON schema."""

    name: str
    parameters: Schema


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a prompt, in the order in which the provider counts and caches it.

    ``cached`` is the time to live of a cache mark set on it (``"5m"`` or ``"1h"``), ``None`` without a mark.
    """

    text: str
    cached: Literal["5m", "1h"] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for, freed of its wire format."""

    model: str
    pieces: Sequence[Piece]
    tools: Sequence[Tool] = ()
    answered: int = 0
    """How many times tools have already answered since the user last spoke."""
    tool_choice: Literal["auto", "none", "required"] = "auto"
    schema: Schema | None = None
    """The JSON schema that the answer must follow."""
    max_tokens: int | None = None

    @property
    def input_tokens(self) -> int:
        return sum(count_tokens(piece.text) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``output_tokens`` includes ``reasoning_tokens``."""

    text: str
    tool_calls: Sequence[ToolCall]
    finish: Literal["stop", "length", "tools"]
    output_tokens: int
    reasoning_tokens: int


def count_tokens(text: str) -> int:
    """About four characters a token, as tokenizers of English do; an empty text has none."""
    return math.ceil(len(text) / 4)


def seeded(seed: int, *parts: str) -> Random:
    """A source of numbers that depends on the seed and the parts alone, on every platform and Python."""
    digest = hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()
    return Random(int.from_bytes(digest[:8], "big"))


def answer(ask: Ask, seed: int) -> Reply:
    """Answer ``ask``: call tools for a round or two where there are some, then speak."""
    numbers = seeded(seed, ask.model, *(piece.text for piece in ask.pieces))
    reasoning = 64 * numbers.randint(0, 5) if _reasons(ask.model) else 0
    if _wants_tools(ask, numbers):
        chosen = numbers.sample(list(ask.tools), k=min(len(ask.tools), numbers.choice((1, 1, 2))))
        calls = [ToolCall(tool.name, json.dumps(example_of(tool.parameters, numbers))) for tool in chosen]
        spoken = sum(count_tokens(call.name + call.arguments) + 5 for call in calls)
        return Reply("", calls, "tools", spoken + reasoning, reasoning)
    if ask.schema is not None:
        text = json.dumps(example_of(ask.schema, numbers))
    else:
        text = " ".join(numbers.choice(_SENTENCES) for _ in range(numbers.randint(2, 7)))
    limit = None if ask.max_tokens is None else max(ask.max_tokens - reasoning, 1)
    if limit is not None and count_tokens(text) > limit:
        return Reply(text[: 4 * limit], (), "length", limit + reasoning, reasoning)
    return Reply(text, (), "stop", count_tokens(text) + reasoning, reasoning)


def split(text: str, numbers: Random) -> list[str]:
    """The parts in which ``text`` is streamed: a few characters each, together the whole."""
    parts = []
    start = 0
    while start < len(text):
        end = start + numbers.randint(4, 24)
        parts.append(text[start:end])
        start = end
    return parts


def example_of(schema: Schema, numbers: Random) -> Any:
    """A value that follows ``schema``; its own ``examples`` are preferred."""
    if examples := schema.get("examples") or schema.get("enum"):
        return numbers.choice(list(examples))
    if options := schema.get("anyOf"):
        return example_of(options[0], numbers)
    if reference := schema.get("$ref"):
        raise NotImplementedError(f"the fake model does not follow references ({reference}); give a flat schema")
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: example_of(part, numbers) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example_of(schema.get("items", {"type": "string"}), numbers) for _ in range(2)]
    if kind in ("integer", "number"):
        return numbers.randint(1, 99)
    if kind == "boolean":
        return numbers.random() < 0.5
    return None if kind == "null" else numbers.choice(_SENTENCES)


def _reasons(model: str) -> bool:
    return model.startswith(("gpt-5", "o1", "o3", "o4"))


def _wants_tools(ask: Ask, numbers: Random) -> bool:
    if not ask.tools or ask.tool_choice == "none":
        return False
    if ask.tool_choice == "required" or ask.answered == 0:
        return True
    return ask.answered == 1 and numbers.random() < 0.5
