"""The voyage that every framework's test makes: the same crew, the same tools, the same conversation.

The model is played by ``seatrace.demo.provider.FakeProvider``, which speaks OpenAI's chat completions and responses and
Anthropic's messages; :func:`captain` decides what it says, by the tools that it is offered and the calls that were made
already. So a run of the agent ``captain`` is: ``tide`` and ``chart`` in one turn, ``radio`` (which fails), the pilot
where there is one (a sub-agent as a tool, or a hand-off), and a closing word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from seatrace.demo.fake_model import Ask, Reply, Tool, ToolCall, count_tokens, example_of, seeded

MODEL = "gpt-4o-mini"
QUESTION = "Bring us into port."
CAPTAIN = "You are the captain."
PILOT = "You are the pilot."
"""The system prompts: the model knows by them who speaks."""

ANSWER = "We are moored."
PILOTED = "Steer north."

_TURNS = (("tide", "chart"), ("radio",))


def tide(port: str) -> str:
    """Says when high water is."""
    return f"high at noon in {port}"


def chart(port: str) -> str:
    """Finds the chart of a port."""
    return f"chart 7 shows {port}"


def radio(channel: int) -> str:
    """Calls the harbour master."""
    raise ConnectionError("no signal")


def captain(ask: Ask) -> Reply:
    """What the model says."""
    said = "\n".join(piece.text for piece in ask.pieces)
    if PILOT in said and CAPTAIN not in said:
        return _speak(PILOTED)
    offered = {tool.name: tool for tool in ask.tools}
    for turn in _TURNS:
        wanted = [name for name in turn if name in offered and f"{name}(" not in said]
        if wanted:
            return _call(offered[name] for name in wanted)
    pilots = [tool for name, tool in offered.items() if "pilot" in name and f"{name}(" not in said]
    if pilots and PILOT not in said:
        return _call(pilots[:1])
    if ask.schema is not None:
        return _speak(json.dumps(example_of(ask.schema, seeded(0, "answer"))))
    return _speak(ANSWER)


def _speak(text: str) -> Reply:
    return Reply(text, (), "stop", count_tokens(text), 0)


def _call(tools: Iterable[Tool]) -> Reply:
    calls = [ToolCall(tool.name, json.dumps(example_of(tool.parameters, seeded(0, tool.name)))) for tool in tools]
    return Reply("", calls, "tools", 10 * len(calls), 0)


# --- what was seen --------------------------------------------------------------------------------------------------

_VARIES = {
    "gen_ai.operation.name",
    "gen_ai.tool.call.id",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "seatrace.run.cost",
    "server.port",
}
"""Compared apart (:func:`totals`), or different in each run."""


def _varies(name: str) -> bool:
    return name in _VARIES or name.startswith("seatrace.run.time.")


_MODEL_CALLS = ("chat", "text_completion", "generate_content", "embeddings")


def tree(spans: Iterable[ReadableSpan]) -> str:
    """The spans as an indented text, one a line: name, status where it failed, links, attributes. Model calls are named
    alone, since the contract suite compares them whole. Spans of one parent are in the order of their start, those
    that overlap in that of their names."""
    spans = list(spans)
    ids = {span.context.span_id for span in spans}
    lines: list[str] = []

    def write(parent: int | None, depth: int) -> None:
        for span in _ordered([span for span in spans if _parent(span, ids) == parent]):
            lines.append("  " * depth + _line(span))
            write(span.context.span_id, depth + 1)

    write(None, 0)
    return "\n".join(lines)


def turns(spans: Iterable[ReadableSpan]) -> str:
    """:func:`tree`, where a framework starts the tools of a turn at once: in the model's order, overlap they or not."""
    lines = tree(spans).split("\n")
    for at, (line, after) in enumerate(pairwise(lines)):
        if line.lstrip().startswith("execute_tool chart") and after.lstrip().startswith("execute_tool tide"):
            lines[at : at + 2] = after, line
    return "\n".join(lines)


def _parent(span: ReadableSpan, known: set[int]) -> int | None:
    return span.parent.span_id if span.parent is not None and span.parent.span_id in known else None


def _ordered(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    groups: list[list[ReadableSpan]] = []
    until = 0
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        if groups and (span.start_time or 0) < until:
            groups[-1].append(span)
        else:
            groups.append([span])
        until = max(until, span.end_time or 0)
    return [span for group in groups for span in sorted(group, key=lambda span: span.name)]


def _line(span: ReadableSpan) -> str:
    status = "" if span.status.is_unset else f" {span.status.status_code.name}"
    if span.name.startswith(_MODEL_CALLS):
        return span.name + status
    attributes = {name: value for name, value in sorted((span.attributes or {}).items()) if not _varies(name)}
    told = " ".join(f"{name.removeprefix('gen_ai.')}={value!r}" for name, value in attributes.items())
    return f"{span.name}{status} {told}".rstrip()


def totals(spans: Iterable[ReadableSpan], served: Iterable[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(said, true)``: model calls and tokens by the roots' roll-up, and by what the provider served."""
    spans = list(spans)
    ids = {span.context.span_id for span in spans}
    roots = [dict(span.attributes or {}) for span in spans if _parent(span, ids) is None]
    said = {
        "model_calls": sum(root.get("seatrace.run.model_calls", 0) for root in roots),
        "input_tokens": sum(root.get("gen_ai.usage.input_tokens", 0) for root in roots),
        "output_tokens": sum(root.get("gen_ai.usage.output_tokens", 0) for root in roots),
    }
    answers = [each for each in served if each.status == 200]
    true = {
        "model_calls": len(answers),
        "input_tokens": sum(each.input_tokens or 0 for each in answers),
        "output_tokens": sum(each.output_tokens or 0 for each in answers),
    }
    return said, true
