"""Tools whose results are kept."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import seatrace
from seatrace.errors import ConfigError
from seatrace.runtime import MemoryStore, UnkeyableError, cached_tool, tool_cache
from seatrace.testing import capture

from .clocks import Clock


def test_equal_arguments_get_the_result_of_an_earlier_call() -> None:
    asked = []

    @cached_tool(60, read_only=True)
    def search(query: str, limit: int = 5) -> dict[str, Any]:
        """Finds things."""
        asked.append((query, limit))
        return {"found": [query, limit]}

    assert search("a") == search(query="a") == search("a", 5) == search(limit=5.0, query="a")  # type: ignore[arg-type]
    assert search("a", 6) == {"found": ["a", 6]}
    assert asked == [("a", 5), ("a", 6)]
    assert (search.__name__, search.__doc__) == ("search", "Finds things.")
    assert str(inspect.signature(search)) == "(query: 'str', limit: 'int' = 5) -> 'dict[str, Any]'"
    search("a")["found"].append("spoiled")
    assert search("a") == {"found": ["a", 5]}
    assert tool_cache(search).stats().hits == 5


async def test_asynchronous_tools_are_called_once_for_many() -> None:
    asked = []

    @cached_tool(60, read_only=True)
    async def search(query: str) -> str:
        asked.append(query)
        await asyncio.sleep(0)
        return query.upper()

    assert inspect.iscoroutinefunction(search)
    assert await asyncio.gather(*(search("a") for _ in range(100))) == ["A"] * 100
    assert asked == ["a"]


def test_wrong_arguments_are_the_tools_own_error() -> None:
    @cached_tool(60, read_only=True)
    def search(query: str) -> str:
        return query

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'query'"):
        search()  # type: ignore[call-arg]


async def test_generators_are_replayed() -> None:
    runs = []

    @cached_tool(60, read_only=True)
    def lines(name: str) -> Iterator[str]:
        runs.append(name)
        yield from (f"{name} {at}" for at in range(3))

    @cached_tool(60, read_only=True)
    async def pages(name: str) -> AsyncIterator[str]:
        runs.append(name)
        for at in range(3):
            yield f"{name} {at}"

    assert list(lines("a")) == list(lines("a")) == ["a 0", "a 1", "a 2"]
    assert next(lines("b")) == "b 0"  # left early: not kept
    assert len(list(lines("b"))) == 3
    assert [page async for page in pages("c")] == ["c 0", "c 1", "c 2"]
    assert [page async for page in pages("c")] == ["c 0", "c 1", "c 2"]
    assert runs == ["a", "b", "b", "c"]


def test_a_result_ends_with_its_time() -> None:
    clock, calls = Clock(), []

    @cached_tool(10, read_only=True, jitter=0, store=MemoryStore(clock=clock))
    def now() -> int:
        calls.append(1)
        return len(calls)

    assert [now(), now()] == [1, 1]
    clock.now += 10
    assert now() == 2


def test_tenants_sessions_and_everybody() -> None:
    for scope, calls_wanted in (("tenant", 2), ("session", 2), ("global", 1)):
        calls = []

        @cached_tool(60, read_only=True, scope=scope)  # type: ignore[arg-type]
        def whoami(calls: list[int] = calls) -> str:
            calls.append(1)
            return "me"

        del calls[:]
        for who in ("a", "b"):
            with seatrace.session(who, tenant=who):
                whoami([])
        assert tool_cache(whoami).stats().misses == calls_wanted


def test_a_tool_without_a_session_is_not_cached_by_session() -> None:
    @cached_tool(60, read_only=True, scope="session")
    def whoami() -> str:
        return "me"

    assert whoami() == whoami()
    assert tool_cache(whoami).stats().reasons == {"no_scope": 2}


@pytest.mark.parametrize("failure", [{"error": "no"}, {"isError": True, "content": []}, {"is_error": True}])
def test_results_that_say_that_the_tool_failed_are_not_kept(failure: dict[str, Any]) -> None:
    calls = []

    @cached_tool(60, read_only=True)
    def flaky() -> dict[str, Any]:
        calls.append(1)
        return failure if len(calls) == 1 else {"error": None, "found": 1}

    assert flaky() == failure
    assert flaky() == flaky() == {"error": None, "found": 1}


def test_failures_are_kept_for_a_while_where_that_is_wanted() -> None:
    clock, calls = Clock(), []

    @cached_tool(60, read_only=True, negative_ttl=5, negative=KeyError, jitter=0, store=MemoryStore(clock=clock))
    def lookup(name: str) -> dict[str, Any]:
        calls.append(name)
        if name == "missing":
            raise KeyError(name)
        if name == "odd":
            raise ValueError(name)
        return {"error": "none such"}

    for name, error in (("missing", KeyError), ("odd", ValueError)):
        for _ in range(2):
            with pytest.raises(error, match=name):
                lookup(name)
    assert lookup("said") == lookup("said")
    assert calls == ["missing", "odd", "odd", "said"]
    clock.now += 5
    with pytest.raises(KeyError):
        lookup("missing")
    lookup("said")
    assert calls[4:] == ["missing", "said"]


async def test_failures_of_asynchronous_tools_are_kept_as_well() -> None:
    calls = []

    @cached_tool(60, read_only=True, negative_ttl=5, negative=(KeyError,))
    async def lookup(name: str) -> None:
        calls.append(name)
        raise KeyError(name)

    raised = []
    for _ in range(3):
        with pytest.raises(KeyError) as found:
            await lookup("a")
        raised.append(found.value)
    assert calls == ["a"]
    assert raised[1] is not raised[2]
    assert tool_cache(lookup).stats().hits == 2


def test_results_are_forgotten_by_arguments_or_all() -> None:
    calls = []

    @cached_tool(60, read_only=True)
    def search(query: str, limit: int = 5) -> str:
        calls.append(query)
        return query

    search("a"), search("b")
    cache = tool_cache(search)
    assert cache.invalidate(query="a")
    assert not cache.invalidate("a")
    search("a"), search("b")
    assert calls == ["a", "b", "a"]
    assert cache.clear() == 2
    search("b")
    assert calls[3:] == ["b"]
    with pytest.raises(TypeError):
        cache.invalidate()
    with pytest.raises(UnkeyableError):
        cache.invalidate(object())
    with pytest.raises(ConfigError, match="expected a function under @cached_tool"):
        tool_cache(len)


def test_another_version_knows_nothing_of_the_first(tmp_path: Any) -> None:
    def build(version: str) -> Any:
        @cached_tool(60, read_only=True, version=version, store=f"sqlite:///{tmp_path}/tools.db", name="build")
        def tool() -> str:
            return version

        return tool

    first, second = build("1"), build("2")
    assert (first(), second(), build("1")()) == ("1", "2", "1")
    assert tool_cache(first).stats().misses == 1


def test_arguments_that_are_no_data_go_by_the_cache(caplog: pytest.LogCaptureFixture) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name
            self.calls = 0

        @cached_tool(60, read_only=True)
        def price(self, item: str) -> int:
            self.calls += 1
            return self.calls

        @cached_tool(60, read_only=True, key=lambda self, item: [self.name, item])
        def stock(self, item: str) -> int:
            self.calls += 1
            return self.calls

    one, two = Shop("one"), Shop("two")
    assert [one.price("a"), one.price("a")] == [1, 2]
    assert "of a method, with key=lambda self" in caplog.text
    assert [one.stock("a"), one.stock("a"), two.stock("a")] == [3, 3, 1]


def test_a_key_function_that_fails_does_not_fail_the_tool() -> None:
    @cached_tool(60, read_only=True, key=lambda query: 1 / 0)
    def search(query: str) -> str:
        return query

    assert search("a") == "a"
    assert tool_cache(search).stats().reasons == {"not_keyable": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"read_only": False},
        {"read_only": None},
        {"read_only": 1},
        {"ttl": -1},
        {"ttl": math.nan},
        {"negative_ttl": -1},
        {"scope": "world"},
    ],
)
def test_malformed_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        cached_tool(**{"ttl": 1, "read_only": True, **options})


def names(captured: Any) -> list[str]:
    """Names and results of the spans."""
    return [f"{span.name} {span.attributes.get('seatrace.cache.result', '')}".strip() for span in captured.spans]


def test_outside_of_a_tool_a_hit_is_no_execution() -> None:
    with capture() as captured:

        @cached_tool(60, read_only=True)
        @seatrace.tool
        def search(query: str) -> str:
            return query

        assert [search("a"), search("a")] == ["a", "a"]
        assert names(captured) == ["execute_tool search", "execute_tool search hit"]
        made, hit = captured.spans
        assert hit.attributes["gen_ai.tool.name"] == "search"
        assert hit.attributes["seatrace.cache.name"] == "search"
        [executed] = captured.points("gen_ai.execute_tool.duration")
        assert executed.count == 1
        assert captured.total("seatrace.cache.requests", **{"seatrace.cache.kind": "tool"}) == 2
        assert captured.total("seatrace.saved.time", **{"seatrace.saving.source": "tool_cache"}) >= 0
        assert made.context.trace_id != hit.context.trace_id


async def test_inside_of_a_tool_a_hit_is_a_short_one() -> None:
    with capture() as captured:

        @seatrace.tool
        @cached_tool(60, read_only=True)
        async def search(query: str) -> str:
            return query

        assert [await search("a"), await search("a")] == ["a", "a"]
        assert names(captured) == ["execute_tool search", "execute_tool search hit", "execute_tool search"]
        [executed] = captured.points("gen_ai.execute_tool.duration")
        assert executed.count == 2
        first, hit, second = captured.spans
        assert hit.parent.span_id == second.context.span_id
        assert [link.context.span_id for link in hit.links] == [first.context.span_id]
        assert tool_cache(search).stats().hits == 1
