"""The demo's second act: an agent that uses every pattern of :mod:`seatrace.runtime` at the same provider.

Each pattern does its work once, and what it gained is read from itself, not from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import seatrace
from seatrace.runtime import (
    AgentPool,
    AnomalyDetector,
    Attempt,
    Batcher,
    Budget,
    BudgetExceeded,
    BufferedStream,
    CostTracker,
    HistorySummarizer,
    MetricsCollector,
    ModelSelector,
    PerformanceMonitor,
    Queue,
    ResponseCache,
    SemanticCache,
    StructuredOutput,
    Worker,
    cached_tool,
    fit_messages,
    observe_stream,
    parallel_sync,
)

from .agent import EMBEDDER, Clients

SMALL, LARGE = "gpt-4o-mini", "gpt-4.1"
AGENT = "lookout"


@dataclass(frozen=True, slots=True)
class Gain:
    """What one pattern did, and what that was good for."""

    pattern: str
    did: str
    gained: str


@seatrace.agent(AGENT)
def watch(clients: Clients) -> Iterator[Gain]:
    """Uses one pattern after the other, and yields what each gained."""
    monitor, tracker, collector = PerformanceMonitor(), CostTracker(), MetricsCollector()
    detector = AnomalyDetector(bucket=60)
    for use in PATTERNS:
        with monitor.measure(use.__name__):
            gain = use(clients)
        yield gain
    metrics, total = collector.metrics(), tracker.total()
    yield Gain("measure", f"{len(monitor.names)} patterns timed", "their percentiles")
    yield Gain(
        "MetricsCollector, AnomalyDetector", f"{metrics.requests} calls watched", f"{_ms(metrics.latency_p95 or 0)} p95"
    )
    yield Gain("CostTracker", f"{total.tokens:,} tokens", _usd(total.cost))
    for each in (tracker, collector, detector):
        each.close()


def _ask(client: Any, content: str, model: str = SMALL, **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}], **options)


def answer_again(clients: Clients) -> Gain:
    """Three people ask the same three questions."""
    cache = ResponseCache(name="demo answers", policy="always", scope="global")
    client = cache.instrument_client(clients.openai_client.copy())  # the others are to be asked
    for _ in range(3):
        for content in ("When is high water?", "When is low water?", "How deep is the berth?"):
            _ask(client, content)
    stats = cache.stats()
    return Gain(
        "ResponseCache", f"{stats.hits + stats.misses} questions, {stats.hits} answered again", _usd(stats.saved_cost)
    )


_WORDS = ("high", "low", "water", "berth", "deep")


def _embed(texts: list[str]) -> list[list[float]]:
    """A small embedder: which of a few words are in it."""
    return [[1.0 if word in text.lower() else 0.05 for word in _WORDS] for text in texts]


def answer_by_meaning(clients: Clients) -> Gain:
    """The same question in other words, and one that only looks alike."""
    cache = SemanticCache(_embed, name="demo meanings", threshold=0.9, scope="global")
    for content in ("When is high water?", "At what time is high water?", "When is low water?"):
        request = {"model": SMALL, "messages": [{"role": "user", "content": content}]}
        cache.get_or_call_sync(request, lambda content=content: _ask(clients.openai_client, content))  # type: ignore[misc]
    stats = cache.stats()
    return Gain("SemanticCache", f"3 questions, {stats.hits} known in other words", _usd(stats.saved_cost))


@cached_tool(60, read_only=True, scope="global")
def read_table(day: int) -> str:
    """A page of the tide table."""
    time.sleep(0.02)
    return f"day {day}: 14:20"


def look_up_again(clients: Clients) -> Gain:
    """One page of the table, asked for ten times."""
    started = time.perf_counter()
    for _ in range(10):
        read_table(1)
    taken = time.perf_counter() - started
    return Gain("cached_tool", "10 times the same page of a table", f"{_ms(taken)} instead of {_ms(10 * 0.02)}")


def embed_in_batches(clients: Clients) -> Gain:
    """Forty texts, each of them embedded by a caller of its own."""
    calls = []

    async def embed(texts: list[str]) -> list[int]:
        calls.append(len(texts))
        found = await asyncio.to_thread(
            clients.openai_client.embeddings.create, model=EMBEDDER, input=texts, dimensions=64
        )
        return [len(each.embedding) for each in found.data]

    with Batcher(embed, name="demo embeddings", max_size=16, max_wait=0.01) as batcher:
        batcher.map_sync(f"buoy {at}" for at in range(40))
    return Gain("Batcher", f"40 texts in {len(calls)} requests", f"{40 - len(calls)} requests less")


def look_everywhere(clients: Clients) -> Gain:
    """Four gauges at the same time."""
    started = time.perf_counter()
    parallel_sync([lambda: time.sleep(0.05)] * 4, name="demo gauges")
    return Gain("parallel", "4 gauges at the same time", f"{_ms(time.perf_counter() - started)} instead of 200 ms")


def read_aloud(clients: Clients) -> Gain:
    """A streamed answer, gathered into pieces that can be spoken."""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    with _ask(clients.openai_client, "Tell me of the tide.", **options) as chunks:
        observed = observe_stream(chunks, name="demo answer")
        texts = [chunk.choices[0].delta.content or "" for chunk in observed if chunk.choices]
    pieces = list(BufferedStream(iter(texts), max_delay=1.0, max_chars=80, name="demo spoken"))
    return Gain("observe_stream, BufferedStream", f"{len(texts)} chunks read aloud", f"in {len(pieces)} pieces")


def keep_within_the_window(clients: Clients) -> Gain:
    """A conversation that has become too long."""
    talk = [
        {"role": ("user", "assistant")[turn % 2], "content": f"Turn {turn}: when is high water? " * 10}
        for turn in range(31)
    ]
    fit = fit_messages(talk, 1_500, model=SMALL, reserve_output=100)

    def summarize(prompt: str) -> str:
        return _ask(clients.openai_client, prompt).choices[0].message.content or ""

    HistorySummarizer(summarize, trigger_tokens=2_000, keep_tokens=500, model=SMALL).shorten_sync(talk)
    return Gain(
        "fit_messages, HistorySummarizer",
        f"{len(talk)} messages cut to {len(fit.messages)}",
        f"{fit.tokens_before.n:,} tokens become {fit.tokens_after.n:,}",
    )


def choose_a_model(clients: Clients) -> Gain:
    """Simple questions to a small model, hard ones to a large one."""
    selector = ModelSelector(
        {"simple": [SMALL], "hard": [LARGE]}, rules=[(lambda request: len(request.text) < 100, "simple")]
    )
    saving = 0.0
    for content in ("When?", "Where?", "When, and how do you know? " * 10):
        request = {"messages": [{"role": "user", "content": content}]}
        saving += selector.choose(request).estimated_saving or 0.0
        selector.call_sync(request, lambda choice, content=content: _ask(clients.openai_client, content, choice.model))  # type: ignore[misc]
    return Gain("ModelSelector", "3 questions, 2 of them simple", f"about {_usd(saving)} saved")


@dataclass(frozen=True)
class _Berth:
    quay: str
    depth: int


def ask_for_a_shape(clients: Clients) -> Gain:
    """An answer that is an object of the program's own."""
    berth = StructuredOutput(_Berth)
    form: Any = berth.openai_chat()

    def ask(messages: list[Any]) -> Any:
        return clients.openai_client.chat.completions.create(model=SMALL, messages=messages, **form)

    found = berth.ask_sync([{"role": "user", "content": "Which berth?"}], ask)
    return Gain("StructuredOutput", f"an answer as {type(found).__name__.lstrip('_')}", "checked, or asked again")


def spend(clients: Clients) -> Gain:
    """A budget for four calls, and six that want to be made."""
    made = 0
    with Budget(4, unit="calls", window="run", name="demo calls").run(), suppress(BudgetExceeded):
        for _ in range(6):
            _ask(clients.openai_client, "When?")
            made += 1
    return Gain("Budget", "6 calls asked for, 4 allowed", f"{6 - made} not made")


class _Clerk:
    def run(self, request: int) -> int:
        time.sleep(0.01)
        return request


def share_agents(clients: Clients) -> Gain:
    """Nine requests for three agents."""
    pool = AgentPool(_Clerk, size=3, name="demo clerks")
    started = time.perf_counter()
    parallel_sync([lambda at=at: pool.run_sync(at) for at in range(9)], name="demo requests")  # type: ignore[misc]
    taken = time.perf_counter() - started
    return Gain("AgentPool", "9 requests, 3 agents", f"{_ms(taken)} instead of 90 ms")


def work_on_jobs(clients: Clients) -> Gain:
    """Jobs in a queue; one of them fails at first."""
    failed: set[Any] = set()

    async def work(attempt: Attempt) -> str:
        if attempt.payload == 2 and not failed:
            failed.add(attempt.payload)
            raise ConnectionError("not now")
        return str(attempt.payload)

    queue = Queue("demo-reports")
    for payload in range(5):
        queue.enqueue_sync("report", payload, max_attempts=3)
    Worker(queue, work, concurrency=2).run_sync(until_empty=True)
    return Gain("Queue, Worker", f"5 jobs, {len(failed)} tried again", "none lost")


PATTERNS: Sequence[Callable[[Clients], Gain]] = (
    answer_again,
    answer_by_meaning,
    look_up_again,
    embed_in_batches,
    look_everywhere,
    read_aloud,
    keep_within_the_window,
    choose_a_model,
    ask_for_a_shape,
    spend,
    share_agents,
    work_on_jobs,
)


def _usd(amount: float | None) -> str:
    return "an unknown amount" if amount is None else f"{amount:.6f} USD"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
