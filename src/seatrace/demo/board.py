"""What the demo's tables say, gathered from seatrace's own records as a listener: nothing in them is hand-counted."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from seatrace.core.record import Call, Usage

from .patterns import Gain

_MODEL_KINDS = ("inference", "embeddings")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the board keeps of one ended call."""

    kind: str
    name: str
    """Model, agent or tool."""
    agent: str | None
    failed: bool
    duration: float
    time_to_first_chunk: float | None
    usage: Usage
    usd: float | None
    price_basis: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model's calls. Seconds, tokens, USD; ``None`` where no call said anything."""

    model: str
    calls: int
    errors: int
    durations: tuple[float | None, float | None, float | None]
    """p50, p95 and p99."""
    first_chunk: float | None
    """The median."""
    input_tokens: int | None
    cache_read: int | None
    output_tokens: int | None
    usd: float | None


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent's runs and what was called in them."""

    agent: str
    runs: int
    run_p50: float | None
    model_calls: int
    tool_calls: int
    tool_errors: int
    tokens: int | None
    usd: float | None


class Board:
    """Gathers ended calls; ``listen`` is for :func:`seatrace.on_call` and may be called from any thread."""

    def __init__(self, heard: Callable[[Seen, int], None] | None = None) -> None:
        """``heard`` is told each model call as it ends, and how many there have been."""
        self.gains: list[Gain] = []
        """What patterns said of themselves."""
        self._seen: list[Seen] = []
        self._model_calls = 0
        self._heard = heard
        self._lock = threading.Lock()

    def listen(self, call: Call) -> None:
        seen = _keep(call)
        with self._lock:
            self._seen.append(seen)
            self._model_calls += seen.kind in _MODEL_KINDS
            count = self._model_calls
        if self._heard is not None and seen.kind in _MODEL_KINDS:
            self._heard(seen, count)

    @property
    def model_calls(self) -> int:
        return self._model_calls

    def latest(self, count: int) -> Sequence[Seen]:
        """The last ``count`` model and tool calls, oldest first."""
        with self._lock:
            recent = self._seen[-3 * count :]
        return [seen for seen in recent if seen.kind in (*_MODEL_KINDS, "tool")][-count:]

    def models(self) -> list[ModelRow]:
        """One row a model, in order of appearance, and nothing for models never called."""
        with self._lock:
            calls = [seen for seen in self._seen if seen.kind in _MODEL_KINDS]
        names = dict.fromkeys(seen.name for seen in calls)
        return [_model_row(name, [seen for seen in calls if seen.name == name]) for name in names]

    def total(self) -> ModelRow:
        """All models as one row."""
        with self._lock:
            return _model_row("all", [seen for seen in self._seen if seen.kind in _MODEL_KINDS])

    def agents(self) -> list[AgentRow]:
        """One row an agent, in order of appearance."""
        with self._lock:
            calls = list(self._seen)
        names = dict.fromkeys(seen.name for seen in calls if seen.kind == "agent")
        return [_agent_row(name, calls) for name in names]

    def price_bases(self) -> list[str]:
        """Where the prices came from."""
        with self._lock:
            return sorted({seen.price_basis for seen in self._seen if seen.price_basis})


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of all values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(math.ceil(share * len(ranked)), 1) - 1] if ranked else None


def _keep(call: Call) -> Seen:
    name = call.request_model if call.kind in _MODEL_KINDS else call.name
    return Seen(
        kind=call.kind,
        name=name or "unknown",
        agent=call.agent,
        failed=call.error_type is not None,
        duration=call.duration,
        time_to_first_chunk=call.time_to_first_chunk,
        usage=call.usage or Usage(),
        usd=call.cost.total if call.cost else None,
        price_basis=call.cost.basis if call.cost else "",
    )


def _model_row(name: str, calls: Sequence[Seen]) -> ModelRow:
    durations = [seen.duration for seen in calls]
    firsts = [seen.time_to_first_chunk for seen in calls if seen.time_to_first_chunk is not None]
    return ModelRow(
        model=name,
        calls=len(calls),
        errors=sum(seen.failed for seen in calls),
        durations=(percentile(durations, 0.5), percentile(durations, 0.95), percentile(durations, 0.99)),
        first_chunk=percentile(firsts, 0.5),
        input_tokens=_sum(seen.usage.input_tokens for seen in calls),
        cache_read=_sum(seen.usage.cache_read for seen in calls),
        output_tokens=_sum(seen.usage.output_tokens for seen in calls),
        usd=_sum_usd(calls),
    )


def _agent_row(name: str, calls: Sequence[Seen]) -> AgentRow:
    runs = [seen for seen in calls if seen.kind == "agent" and seen.name == name]
    own = [seen for seen in calls if seen.agent == name and seen.kind in _MODEL_KINDS]
    tools = [seen for seen in calls if seen.agent == name and seen.kind == "tool"]
    return AgentRow(
        agent=name,
        runs=len(runs),
        run_p50=percentile((seen.duration for seen in runs), 0.5),
        model_calls=len(own),
        tool_calls=len(tools),
        tool_errors=sum(seen.failed for seen in tools),
        tokens=_sum(count for seen in own for count in (seen.usage.input_tokens, seen.usage.output_tokens)),
        usd=_sum_usd(own),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    """The sum of what is known; ``None`` where nothing is, since unknown is not 0."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _sum_usd(calls: Iterable[Seen]) -> float | None:
    priced = [seen.usd for seen in calls if seen.usd is not None]
    return math.fsum(priced) if priced else None
