"""The neutral record of one observed call.

Everything seatrace observes (a model call, an agent run, a tool execution, a retrieval) becomes one
:class:`Call`. Shapes fill it from a wire format, ``process/`` prices and redacts it, ``emit/`` turns it into
spans, metrics and events. Nothing in here knows about OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal[
    "inference",
    "embeddings",
    "operation",
    "agent",
    "workflow",
    "plan",
    "tool",
    "retrieval",
    "cached",
    "batch",
    "internal",
    "send",
    "process",
    "mcp_client",
    "mcp_server",
]
"""What was called. ``operation`` is any other call to a provider: images, audio, moderations, token counting. From
``cached`` to ``process`` they are patterns of :mod:`seatrace.runtime`: an answer out of a cache in a model's place, a
batch, any other work of a pattern, a job sent and one worked on. They are spans and nothing else: a pattern records its
own metrics. The last two are a request of the Model Context Protocol, as who sends it sees it and as who answers it
does."""


@dataclass(slots=True)
class Usage:
    """Tokens of one call as the provider billed them. ``None`` means that the provider did not say; it is never 0.

    ``input_tokens`` includes cached and cache-written ones and ``output_tokens`` includes reasoning, whatever the
    provider's own arithmetic is (GenAI semantic conventions v0.1.0, ``gen_ai.usage.*``); the others are parts of
    those two.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    """The part of ``cache_write`` that was stored for one hour (Anthropic bills it higher)."""
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    audio_cache_read: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    text_input: int | None = None
    text_output: int | None = None
    web_searches: int | None = None
    """Server-side searches that the provider bills per request."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call cost, in ``currency`` units.

    ``source`` is ``"provider"`` when the response itself named the amount and ``"local"`` when seatrace computed it
    from the price book (the words of semantic-conventions-genai PR 443).
    """

    total: float
    input: float | None = None
    output: float | None = None
    currency: str = "USD"
    source: Literal["provider", "local"] = "local"
    basis: str = ""
    """Where the prices come from, e.g. ``"genai-prices 0.2.3 (2026-11-22)"`` or ``"custom"``."""


TOOL_ERROR = "tool_error"
"""The conventions' ``error.type`` of a tool that says itself that it failed, without raising anything."""


class RateLimit(NamedTuple):
    """What a provider said of one of its limits: what it allows in its window, and what of that is left."""

    resource: str
    """``requests``, ``tokens``, ``input_tokens`` or ``output_tokens``."""
    limit: int | None
    remaining: int | None


@dataclass(slots=True)
class Exchange:
    """What of a call is the Model Context Protocol's: one JSON-RPC request and its answer."""

    method: str
    request_id: str | None = None
    protocol_version: str | None = None
    session_id: str | None = None
    transport: str | None = None
    """``pipe`` (stdio) or ``tcp`` (HTTP)."""
    resource_uri: str | None = None
    status: int | None = None
    """The JSON-RPC error code of the answer."""
    client_address: str | None = None
    client_port: int | None = None
    counts: bool = False
    """Whether it is a tool call of its run: one that no tool around it counts already."""
    peer: Any = None
    """Whatever the library needs to remember of the other side."""


@dataclass(slots=True)
class Content:
    """Messages of a call in the conventions' form; present only while somebody wants to see content."""

    input_messages: list[dict[str, Any]] | None = None
    output_messages: list[dict[str, Any]] | None = None
    system_instructions: list[dict[str, Any]] | None = None
    tool_definitions: list[dict[str, Any]] | None = None
    tool_arguments: Any = None
    tool_result: Any = None
    query: str | None = None
    documents: list[dict[str, Any]] | None = None

    def detached(self) -> Content:
        """The same in dicts and lists of its own: to change them changes nothing of the program's."""
        made: dict[int, Any] = {}
        return Content(**{name: _detached(getattr(self, name), 0, made) for name in self.__slots__})


_DEPTH = 12
"""As deep as content is recorded (``process/redact.py``)."""


def _detached(value: Any, depth: int, made: dict[int, Any]) -> Any:
    if depth > _DEPTH or not isinstance(value, (dict, list, tuple)):
        return value
    known = made.get(id(value))
    if known is not None:  # a circle, or the same object in two places
        return known
    if isinstance(value, dict):
        fields = made[id(value)] = {}
        fields.update((key, _detached(item, depth + 1, made)) for key, item in value.items())
        return fields
    items = made[id(value)] = []
    items.extend(_detached(item, depth + 1, made) for item in value)
    return items


@dataclass(slots=True, eq=False)
class Call:
    """One observed call, filled as it proceeds and emitted once when it ends.

    Times are nanoseconds: ``started``/``ended`` since the epoch for spans, ``*_clock`` on the monotonic clock for
    durations.
    """

    kind: Kind
    operation: str
    """``gen_ai.operation.name``."""
    library: str = ""
    """The import name of the observed library, e.g. ``openai``."""
    provider: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    name: str | None = None
    """Agent, workflow, tool or data source name."""
    stream: bool = False

    # request
    request_model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    choice_count: int | None = None
    output_type: str | None = None
    reasoning_level: str | None = None
    previous_response_id: str | None = None
    encoding_formats: list[str] | None = None
    dimension_count: int | None = None
    service_tier: str | None = None
    api_type: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None

    # response
    response_id: str | None = None
    response_model: str | None = None
    finish_reasons: list[str] | None = None
    response_service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: Usage | None = None
    reported_cost: float | None = None
    """USD, when the provider put an amount into its response (OpenRouter does)."""
    advice: list[tuple[str, Usage]] | None = None
    """What other models used within this answer (Anthropic's advisor): no tokens of this call, but part of its cost."""
    compacted: bool = False

    # agents and tools
    description: str | None = None
    tool_type: str | None = None
    tool_call_id: str | None = None
    agent: str | None = None
    """The agent that the call belongs to."""
    max_steps: int | None = None
    max_cost: float | None = None
    """What a run of this agent may take at most, where that is not left to the settings."""
    digest: int | None = None
    """A number for a tool and its arguments, the same for the same ones: nothing of them can be read in it."""

    exchange: Exchange | None = None

    # who and for whom
    conversation_id: str | None = None
    scope: Any = None
    """The :class:`seatrace.core.context.Scope` that the call began in."""

    # outcome
    content: Content | None = None
    error: BaseException | None = None
    error_type: str | None = None
    status_code: int | None = None
    retries: int = 0
    """Attempts of the client within this call after the first one."""
    attempt_status: int | None = None
    """The HTTP status of the attempt that has just failed, while it is judged whether another one follows."""
    cost: Cost | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    """Further attributes for the span alone, in the conventions' names."""
    links: list[Any] | None = None
    """Spans that this one follows from, as ``core.signals.here()`` and ``arrived()`` give them."""
    parent: Mapping[str, str] | None = None
    """Headers of ``core.signals.carrier()``: the span's parent, in place of the current one."""
    request: Mapping[str, Any] | None = None
    """What the library was asked to send, for gates to look at; it is taken away before the call begins."""
    on_end: list[Callable[[Call], None]] | None = None
    """What a gate (``core.pipeline.gates``) wants to know: called once, at the call's end."""

    # time
    started: int = 0
    started_clock: int = 0
    ended_clock: int = 0
    first_chunk_clock: int = 0
    last_chunk_clock: int = 0
    gaps: list[int] | None = None
    """Nanoseconds between consecutive chunks of a stream."""

    # the life of the record
    span: Any = None
    """Whatever ``emit/`` needs to remember between begin and end."""
    run: Any = None
    """The roll-up of an agent run, :class:`seatrace.core.context.Run`."""
    _open: list[bool] = field(default_factory=lambda: [True], repr=False)

    @property
    def ended(self) -> bool:
        """Whether the call was ended."""
        return not self._open

    @property
    def runs_tool(self) -> bool:
        """Whether it counts as a tool call of its run."""
        return self.kind == "tool" or (self.exchange is not None and self.exchange.counts)

    def close(self) -> bool:
        """Marks the call as ended; true for the first caller only. Popping is atomic: no lock, safe in signals."""
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    @property
    def duration(self) -> float:
        """Seconds from begin to end."""
        return (self.ended_clock - self.started_clock) / 1e9

    @property
    def time_to_first_chunk(self) -> float | None:
        """Seconds from begin to the first chunk, ``None`` where nothing was streamed."""
        return (self.first_chunk_clock - self.started_clock) / 1e9 if self.first_chunk_clock else None
