"""The demo's program: four agents that answer questions about tides with tools and the real client libraries.

It is written as a program of its own would be. All that seatrace asks of it are the decorators and the session.
"""

from __future__ import annotations

import ast
import asyncio
import json
import operator
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import anthropic
import openai

import seatrace

from .interrupt import Check
from .provider import Arrival, Fault, Schedule

PLANNER = "gpt-5.4"
RESEARCHER = "gpt-5-mini"
WRITER = "claude-sonnet-5"
REVIEWER = "claude-haiku-4-5"
EMBEDDER = "text-embedding-3-small"

QUESTIONS = (
    "How much earlier does high water come at the inner harbour than at the outer roads?",
    "May a ship of eleven metres draught enter on Thursday's morning tide?",
    "Why did the gauge at the breakwater stand thirty centimetres above the table last week?",
    "Which week of the autumn has the lowest low water for work on the slipway?",
    "How long does slack water last in the narrows at neaps?",
    "Is the berth at the grain quay deep enough for two tides without shifting?",
)
TENANTS = ("harbour-office", "pilots", "salvage")

_STYLE = "\n".join(
    f"Rule {chapter}.{number}: {rule}"
    for chapter in range(1, 13)
    for number, rule in enumerate(
        (
            "Give heights in metres above chart datum and say which datum that is.",
            "Give times in local time with the offset, and never round them to the quarter of an hour.",
            "Name the gauge, the table or the survey that a figure was taken from.",
            "Say what is not known before saying what is likely.",
            "Write for a reader who stands on a bridge at night: short sentences, the answer first.",
            "Leave out what does not change what the reader will do.",
        ),
        start=1,
    )
)
"""Long enough for a prompt cache."""

_Parameters = Mapping[str, Any]


def _takes(**examples: list[str]) -> _Parameters:
    properties = {name: {"type": "string", "examples": values} for name, values in examples.items()}
    return {"type": "object", "properties": properties, "required": list(examples), "additionalProperties": False}


@seatrace.tool
def search(query: str) -> str:
    """Search the archive of the harbour office."""
    return f"3 documents about {query!r}; the newest is the survey of the outer roads."


@seatrace.tool
def calculator(expression: str) -> str:
    """Work out an arithmetic expression."""
    return str(_calculate(ast.parse(expression, mode="eval").body))


@seatrace.tool
def read_gauge(station: str) -> str:
    """Read the tide gauge of a station."""
    if station == "breakwater":
        raise ConnectionError(f"the gauge at the {station} does not answer")
    return f"{station}: 4.31 m above chart datum, rising"


_TOOLS: Mapping[str, tuple[Callable[..., str], _Parameters]] = {
    "search": (search, _takes(query=["high water inner harbour", "draught limits", "neap slack", "slipway works"])),
    "calculator": (calculator, _takes(expression=["11.0 + 0.9", "4.31 - 1.2 * 2", "(6.1 - 0.8) / 6"])),
    "read_gauge": (read_gauge, _takes(station=["inner harbour", "narrows", "breakwater"])),
}


class Clients:
    """The client libraries, each at its provider's address; closed with the ``with`` block.

    ``check`` is called whenever somebody takes a client, that is before each model call.
    """

    def __init__(self, openai_url: str, anthropic_url: str, check: Check) -> None:
        # A proxy of the environment would not find the loopback address.
        self._openai = openai.OpenAI(
            base_url=f"{openai_url}/v1", api_key="demo", http_client=openai.DefaultHttpxClient(trust_env=False)
        )
        self._anthropic = anthropic.Anthropic(
            base_url=anthropic_url, api_key="demo", http_client=anthropic.DefaultHttpxClient(trust_env=False)
        )
        self._anthropic_url = anthropic_url
        self._check = check

    @property
    def openai_client(self) -> openai.OpenAI:
        self._check()
        return self._openai

    @property
    def anthropic_client(self) -> anthropic.Anthropic:
        self._check()
        return self._anthropic

    def async_anthropic(self) -> anthropic.AsyncAnthropic:
        """An async client of its own for each event loop."""
        self._check()
        transport = anthropic.DefaultAsyncHttpxClient(trust_env=False)
        return anthropic.AsyncAnthropic(base_url=self._anthropic_url, api_key="demo", http_client=transport)

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *error: object) -> None:
        self._openai.close()
        self._anthropic.close()


def conversations(clients: Clients) -> Iterator[str]:
    """Answer one question after the other, for ever; yields each report."""
    for number in count(1):
        with seatrace.session(
            conversation=f"conversation-{number}", user=f"user-{number % 5}", tenant=TENANTS[number % len(TENANTS)]
        ):
            yield harbour_report(clients, number)


@seatrace.workflow("harbour-report")
def harbour_report(clients: Clients, number: int) -> str:
    """Plan, research, write and review the answer to one question."""
    question = f"{QUESTIONS[number % len(QUESTIONS)]} (question {number})"
    topics = plan(clients, question, stream=number % 2 == 1)
    findings = research(clients, question, topics)
    report = write(clients, question, findings)
    asyncio.run(review(clients, report))
    return report


@seatrace.agent("planner")
def plan(clients: Clients, question: str, *, stream: bool) -> list[str]:
    """Split a question into topics: the Responses API with a schema, plain or streamed."""
    topics = {"type": "array", "items": {"type": "string", "examples": ["tables", "gauges", "draught", "weather"]}}
    schema = {"type": "object", "properties": {"topics": topics}, "required": ["topics"], "additionalProperties": False}
    request: dict[str, Any] = {
        "model": PLANNER,
        "instructions": "Name the two topics that an answer needs.",
        "input": question,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "plan", "schema": schema, "strict": True}},
    }
    if stream:
        with clients.openai_client.responses.stream(**request) as events:
            text = events.get_final_response().output_text
    else:
        text = clients.openai_client.responses.create(**request).output_text
    return list(json.loads(text)["topics"])


@seatrace.agent("researcher")
def research(clients: Clients, question: str, topics: list[str]) -> str:
    """Gather facts: embeddings, then chat completions in a loop with tools until the model has enough."""
    known = recall(clients, [question, *topics])
    messages: list[Any] = [
        {"role": "system", "content": f"You research tides. {_STYLE}"},
        {"role": "user", "content": f"{question}\nTopics: {', '.join(topics)}\n{known}"},
    ]
    tools: Any = [
        {"type": "function", "function": {"name": name, "description": tool.__doc__, "parameters": parameters}}
        for name, (tool, parameters) in _TOOLS.items()
    ]
    while True:
        with clients.openai_client.chat.completions.stream(
            model=RESEARCHER, messages=messages, tools=tools, stream_options={"include_usage": True}
        ) as events:
            message = events.get_final_completion().choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append({"role": "assistant", "tool_calls": [call.model_dump() for call in message.tool_calls]})
        for call in message.tool_calls:
            result = _use(call.function.name, json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


@seatrace.retriever("archive")
def recall(clients: Clients, texts: list[str]) -> str:
    """Look for what is known already."""
    found = clients.openai_client.embeddings.create(model=EMBEDDER, input=texts, dimensions=64)
    return f"Known: {len(found.data)} notes."


@seatrace.agent("writer")
def write(clients: Clients, question: str, findings: str) -> str:
    """Write the report as a stream, with the cached style guide; a smaller model stands in when one is overloaded."""
    for model in (WRITER, REVIEWER):
        try:
            with clients.anthropic_client.messages.stream(
                model=model,
                max_tokens=1024,
                system=[{"type": "text", "text": _STYLE, "cache_control": {"type": "ephemeral"}}],
                messages=[{"role": "user", "content": f"{question}\n\nFindings: {findings}"}],
            ) as events:
                return "".join(events.text_stream)
        except anthropic.APIStatusError:
            continue
    return "No model was able to write."


@seatrace.agent("reviewer")
async def review(clients: Clients, report: str) -> list[str]:
    """Check a report twice at the same time."""
    async with clients.async_anthropic() as client:

        async def check(what: str) -> str:
            message = await client.messages.create(
                model=REVIEWER,
                max_tokens=256,
                messages=[{"role": "user", "content": f"Check the {what} of this report:\n{report}"}],
            )
            return "".join(block.text for block in message.content if block.type == "text")

        return list(await asyncio.gather(check("figures"), check("sources")))


def faults(seed: int) -> Schedule:
    """What goes wrong in the demo: nearly all of it is retried by the clients, one stretch of overload is too long."""
    busy, broken, overloaded = Fault(429, 0.15), Fault(500, 0.1), Fault(529, 0.1)
    periods: Mapping[str, tuple[int, Mapping[int, Fault]]] = {
        PLANNER: (7, {4: busy}),
        RESEARCHER: (13, {3: busy, 9: broken}),
        WRITER: (18, {2: overloaded, 6: overloaded, 7: overloaded, 8: overloaded}),
        REVIEWER: (11, {5: busy}),
        EMBEDDER: (9, {5: broken}),
    }

    def fault(arrival: Arrival) -> Fault | None:
        period, table = periods.get(arrival.model, (1, {}))
        return table.get((arrival.of_model + seed) % period)

    return fault


def _use(name: str, arguments: Mapping[str, str]) -> str:
    """What a tool says; a tool's failure is something that the model should hear."""
    try:
        return _TOOLS[name][0](**arguments)
    except ConnectionError as error:
        return f"error: {error}"


_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _calculate(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_calculate(node.left), _calculate(node.right))
    raise ValueError(f"expected numbers and + - * /, got {ast.dump(node)}")
