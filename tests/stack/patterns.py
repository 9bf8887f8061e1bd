"""What the traffic does with the patterns of ``seatrace.runtime``."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from time import sleep
from typing import Any, Protocol

import openai

import seatrace
from seatrace.runtime import (
    AgentPool,
    AnomalyDetector,
    Attempt,
    Batcher,
    BatchOverflow,
    Budget,
    BudgetExceeded,
    BufferedStream,
    Ejection,
    HistorySummarizer,
    ModelSelector,
    PoolError,
    Queue,
    QueueUnavailable,
    ResponseCache,
    SemanticCache,
    Worker,
    cached_tool,
    calibrate_tokens,
    fit_messages,
    measure,
    observe_stream,
    parallel_sync,
)

SMALL, LARGE, BROKEN = "gpt-4o-mini", "gpt-5.4", "gpt-4o"
"""The provider of the traffic refuses every third request for the last one."""

_number = itertools.count()


class World(Protocol):
    """What of the traffic's world is used here."""

    client: openai.OpenAI


def _ask(world: World, model: str, content: str = "When is high water?", **options: Any) -> Any:
    return world.client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}], **options)


def time_operations(world: World) -> None:
    """Operations that go well, and one that fails."""
    with measure("survey"):
        sleep(0.002)
    with suppress(LookupError), measure("survey"):
        raise LookupError("no depth")


@cache
def _answers() -> ResponseCache:
    return ResponseCache("memory://?max_entries=3", name="answers", policy="always", ttl=0.5)


@cached_tool(60, read_only=True, scope="global")
def read_table(day: int) -> str:
    """A page of the tide table."""
    return f"day {day}: 14:20"


def answer_again(world: World) -> None:
    """An agent asks the same twice, others until there is no room; a tool asked twice."""
    _read_up(world)
    read_table(1)


@seatrace.agent("reader")
def _read_up(world: World) -> None:
    kept = _answers()
    for content in ("When?", "When?", f"And on day {next(_number)}?"):
        request = {"model": SMALL, "messages": [{"role": "user", "content": content}]}
        kept.get_or_call_sync(request, lambda content=content: _ask(world, SMALL, content))  # type: ignore[misc]


_VECTORS = {
    "When is high water?": [1.0, 0.0],
    "At what time is high water?": [0.97, 0.24],
    "When is low water?": [0.98, 0.2],
}


def _embed(texts: list[str]) -> list[list[float]]:
    return [_VECTORS.get(text, [0.0, 1.0]) for text in texts]


@cache
def _meanings() -> tuple[SemanticCache, SemanticCache]:
    def verify(*about: Any) -> bool:
        return True

    made = [
        SemanticCache(_embed, name=name, threshold=0.975, band=0.05, scope="global", verify=verify, mode=mode)  # type: ignore[arg-type]
        for name, mode in (("meanings", "serve"), ("shadowed", "shadow"))
    ]
    return made[0], made[1]


def answer_by_meaning(world: World) -> None:
    """A question in other words, one that only looks alike, one that nobody asked."""
    for kept in _meanings():
        for content in (*_VECTORS, f"What of day {next(_number)}?"):
            request = {"model": SMALL, "messages": [{"role": "user", "content": content}]}
            kept.get_or_call_sync(request, lambda content=content: _ask(world, SMALL, content))  # type: ignore[misc]


async def _depths(places: list[str]) -> list[int]:
    await asyncio.sleep(0.002)
    if "reef" in places:
        raise LookupError("nobody sounds there")
    return [len(place) for place in places]


@cache
def _soundings() -> Batcher[str, int]:
    return Batcher(_depths, name="depths", max_size=4, max_wait=0.005)


@cache
def _hasty() -> Batcher[str, int]:
    return Batcher(_depths, name="hasty", max_size=4, max_wait=0.005, max_pending=1, overflow="raise")


def sound_in_batches(world: World) -> None:
    """Batches closed by their size and by their deadline, one that fails, items that are too many."""
    _soundings().map_sync(f"buoy {at}" for at in range(6))
    with suppress(LookupError):
        _soundings().submit_sync("reef")

    async def run() -> None:
        found = await asyncio.gather(*(_hasty().submit("buoy") for _ in range(3)), return_exceptions=True)
        assert any(isinstance(each, BatchOverflow) for each in found)

    asyncio.run(run())


def look_everywhere(world: World) -> None:
    """Tasks side by side: some well, one failing, one too slow."""

    def fail() -> None:
        raise LookupError("no such gauge")

    tasks: list[Callable[[], Any]] = [lambda: sleep(0.005), lambda: sleep(0.005), fail, lambda: sleep(0.2)]
    parallel_sync(tasks, timeout=0.05, mode="settle", name="gauges")


def _tokens(*, stall: bool = False, breaks: bool = False) -> Iterator[str]:
    yield "High water"
    if stall:
        sleep(0.03)
    if breaks:
        raise ConnectionError("the line is cut")
    yield " is at 14:20, and the next one twelve hours later."


def read_aloud(world: World) -> None:
    """Streams read to their end, left early, broken off; gathered into pieces."""
    for _ in observe_stream(_tokens(stall=True), name="answer", stall_after=0.01):
        pass
    for _ in observe_stream(_tokens(), name="answer"):
        break
    with suppress(ConnectionError):
        list(observe_stream(_tokens(breaks=True), name="answer"))
    list(BufferedStream(_tokens(stall=True), max_delay=0.005, max_chars=16, name="spoken"))
    with suppress(ConnectionError):
        list(BufferedStream(_tokens(breaks=True), name="spoken"))


_TALK = [
    {"role": ("user", "assistant")[turn % 2], "content": f"Turn {turn}: when is high water? " * 10}
    for turn in range(40)
]


def keep_within_the_window(world: World) -> None:
    """A conversation that is too long, cut and summarized; estimates that are compared with what was billed."""
    messages = [*_TALK, {"role": "user", "content": f"And on day {next(_number)}?"}]
    fit = fit_messages(messages, 2_000, model=SMALL, reserve_output=100)
    world.client.chat.completions.create(model=SMALL, messages=fit.messages)  # type: ignore[arg-type]

    def summarize(prompt: str) -> str:
        return _ask(world, SMALL, prompt).choices[0].message.content or ""

    def refuse(prompt: str) -> str:
        raise ConnectionError("no model")

    for llm in (summarize, refuse):
        summarizer = HistorySummarizer(llm, trigger_tokens=2_000, keep_tokens=500, model=SMALL)
        for _ in range(2):
            summarizer.shorten_sync(messages)


@cache
def _selector() -> ModelSelector:
    return ModelSelector(
        {"simple": [BROKEN, SMALL], "hard": [LARGE]},
        rules=[(lambda request: len(request.text) < 100, "simple")],
        cooldown=0.01,
    )


def choose_a_model(world: World) -> None:
    """Simple questions to a model that is often refused, hard ones to a large one."""
    for content in ("When?", "When, and how do you know? " * 10):
        request = {"messages": [{"role": "user", "content": content}]}
        with suppress(openai.APIError):
            _selector().call_sync(request, lambda choice, content=content: _ask(world, choice.model, content))  # type: ignore[misc]


@cache
def _budget() -> Budget:
    return Budget(3, unit="calls", window="1h", scope="session", name="sessions", thresholds=(0.5, 1.0))


def spend(world: World) -> None:
    """A session that may call three times calls four times."""
    budget = _budget()
    with seatrace.session(f"session-{next(_number) % 50}"), suppress(BudgetExceeded):
        for _ in range(4):
            with budget.reserve(1):
                pass


class _Clerk:
    def run(self, request: int) -> int:
        sleep(0.002)
        if request % 4 == 0:
            raise ConnectionError("the clerk is ill")
        return request


@cache
def _clerks() -> AgentPool[_Clerk]:
    return AgentPool(
        _Clerk, size=2, name="clerks", max_queue=1, queue_timeout=0.05, eject=Ejection(failures=1, base=0.01)
    )


def share_agents(world: World) -> None:
    """More requests than members and places; some members fail and are left alone for a while."""

    def one(request: int) -> None:
        with suppress(PoolError, ConnectionError):
            _clerks().run_sync(request)

    parallel_sync([lambda at=at: one(at) for at in range(1, 7)], mode="settle", name="requests")  # type: ignore[misc]


async def _work(attempt: Attempt) -> int:
    attempt.add_cost(0.002)
    await asyncio.sleep(0.002)
    if attempt.payload % 3 == 0:
        raise ConnectionError("not now")
    return int(attempt.payload)


@cache
def _jobs() -> Queue:
    return Queue("reports")


@cache
def _lost() -> Queue:
    return Queue("lost", "sqlite:////nowhere/jobs.db")


def work_on_jobs(world: World) -> None:
    """Jobs of which some fail for good, one that waits, one that is known already, and one that cannot be sent."""
    queue = _jobs()
    for payload in (1, 2, 3):
        queue.enqueue_sync("report", payload, max_attempts=1)
    for _ in range(2):
        queue.enqueue_sync("report", 5, idempotency_key=f"order {next(_number) // 2}")
    queue.enqueue_sync("report", 4, delay=0.05)
    Worker(queue, _work, concurrency=2).run_sync(until_empty=True)
    with suppress(QueueUnavailable):
        _lost().enqueue_sync("report", 6)


@cache
def _detector() -> AnomalyDetector:
    return AnomalyDetector(bucket=0.2, window=4.0, min_count=1, min_history=2, k=0.5, cooldown=0.2)


def watch_for_anomalies(world: World) -> None:
    """Calls in bursts: what is usual for some buckets is not for the next."""
    _detector()
    for _ in range((next(_number) % 7) ** 2):
        _ask(world, SMALL)


@seatrace.tool
def read_gauge(station: str) -> str:
    """Read a gauge."""
    return f"{station}: 4.31 m"


@seatrace.agent("circler")
def _circle() -> None:
    for _ in range(12):
        read_gauge("breakwater")


def go_in_circles(world: World) -> None:
    """An agent that asks the same tool for the same thing again and again."""
    _circle()


PATTERNS = (
    time_operations,
    answer_again,
    answer_by_meaning,
    sound_in_batches,
    look_everywhere,
    read_aloud,
    keep_within_the_window,
    choose_a_model,
    spend,
    share_agents,
    work_on_jobs,
    watch_for_anomalies,
    go_in_circles,
)


def begin() -> None:
    """What is switched on once."""
    calibrate_tokens()
