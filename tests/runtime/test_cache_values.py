"""Answers as bytes and back, functions under ``wrap``, streams of any kind."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from model import CHUNKS, COMPLETION, ask, client, stream
from seatrace.runtime import ResponseCache
from seatrace.runtime.cache.codec import UnstorableError, decode, encode

_T = TypeVar("_T")


class Part(pydantic.BaseModel):
    """A model."""

    name: str
    size: int = 0


class Box(pydantic.BaseModel, Generic[_T]):
    """A model of models."""

    inside: _T


@dataclass
class Reply:
    """What an agent of one's own may return."""

    text: str
    parts: list[Any] = field(default_factory=list)


data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.binary(max_size=8)
    | st.builds(Part, name=st.text(st.characters(exclude_categories=["Cs"]), max_size=5), size=st.integers(0, 9)),
    lambda inner: st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from(["~tuple", "~model", "~", "data"]), inner, max_size=3)
    | st.builds(Reply, text=st.text(max_size=3), parts=st.lists(inner, max_size=2)),
    max_leaves=8,
)  # fmt: skip


def types(value: Any) -> Any:
    """The types of a value and all that is in it."""
    if isinstance(value, dict):
        return {name: types(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [types(item) for item in value]
    return type(value), types(value.parts) if isinstance(value, Reply) else None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data)
def test_a_value_comes_back_equal_and_of_its_types(value: Any) -> None:
    encoded = encode(value)
    assert decode(encoded) == value
    assert types(decode(encoded)) == types(value)


def test_the_models_of_a_client_library_come_back_whatever_a_provider_says() -> None:
    strange = ChatCompletion.construct(**{**COMPLETION, "object": "new.word", "extra": {"a": 1}})
    again = decode(encode(strange))
    assert again == strange
    assert type(again.choices[0]) is type(strange.choices[0])
    assert again.extra == {"a": 1}


@dataclass
class Derived:
    """One field is not for the constructor."""

    a: int
    b: int = field(init=False, default=0)


def test_what_would_come_back_as_something_else_is_not_kept() -> None:
    class Local(pydantic.BaseModel):
        a: int = 1

    values = [
        object(), {1: 2}, {1, 2}, OrderedDict(a=1), float("nan"), type("Text", (str,), {})("a"), Derived(1), Local(),
        Box[Part](inside=Part(name="a")), "\ud800", iter(()),
    ]  # fmt: skip
    endless: list[Any] = []
    endless.append(endless)
    for value in [*values, endless]:
        with pytest.raises(UnstorableError):
            encode(value)


# --- wrap -------------------------------------------------------------------------------------------------------------


def test_a_wrapped_function_is_asked_once() -> None:
    cache, asked = ResponseCache(), []

    @cache.wrap
    def greet(name: str, *, temperature: float = 0, **more: Any) -> str:
        asked.append(name)
        return f"ahoy {name}"

    assert greet("a") == greet(name="a") == greet("a", temperature=0.0)
    assert greet("a", temperature=1) == greet("a", temperature=1)  # not deterministic
    assert greet("a", tone="dry") == greet("a", tone="dry")
    assert greet("a", tone="wry")
    assert len(asked) == 5


async def test_wrapped_coroutine_functions_and_generators() -> None:
    cache, asked = ResponseCache(policy="always"), []

    @cache.wrap
    async def greet(name: str) -> str:
        asked.append(name)
        return f"ahoy {name}"

    @cache.wrap
    def spell(word: str) -> Iterator[str]:
        asked.append(word)
        yield from word

    @cache.wrap
    async def spell_slowly(word: str) -> AsyncIterator[str]:
        asked.append(word)
        for letter in word:
            await asyncio.sleep(0)
            yield letter

    for _ in range(2):
        assert await greet("a") == "ahoy a"
        assert list(spell("bc")) == ["b", "c"]
        assert [letter async for letter in spell_slowly("de")] == ["d", "e"]
    assert asked == ["a", "bc", "de"]


def test_two_functions_do_not_share_answers() -> None:
    cache = ResponseCache(policy="always")
    one = cache.wrap(lambda: 1)

    def two() -> int:
        return 2

    assert (one(), cache.wrap(two)(), one()) == (1, 2, 1)


# --- streams --------------------------------------------------------------------------------------------------------

REQUEST = {"model": "gpt-4o-mini", "temperature": 0}


def test_a_stream_of_models_is_replayed() -> None:
    cache, made = ResponseCache(), []

    def call() -> Any:
        made.append(1)
        return ask(client(stream()), temperature=0, stream=True)

    first, second = (list(cache.stream_sync(REQUEST, call)) for _ in range(2))
    assert first == second
    assert type(first[0]) is type(second[0])
    assert (len(first), len(made)) == (len(CHUNKS), 1)
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)


async def test_an_asynchronous_stream_of_models_is_replayed() -> None:
    cache, made = ResponseCache(), []

    async def call() -> Any:
        made.append(1)
        return await ask(client(stream(), kind="AsyncOpenAI"), temperature=0, stream=True)

    first = [chunk async for chunk in cache.stream(REQUEST, call)]
    assert [chunk async for chunk in cache.stream(REQUEST, call)] == first
    assert len(made) == 1
    assert [chunk async for chunk in cache.stream({"model": "m"}, call)] == first  # by the cache
    assert len(made) == 2


def test_nothing_is_read_ahead_and_a_stream_left_early_is_closed_and_not_kept() -> None:
    cache, read, closed = ResponseCache(), [], []

    def source() -> Iterator[int]:
        try:
            for at in range(5):
                read.append(at)
                yield at
        finally:
            closed.append(1)

    numbers = cache.stream_sync(REQUEST, source)
    assert read == []
    assert [next(numbers), next(numbers)] == [0, 1]
    assert read == [0, 1]
    numbers.close()  # type: ignore[attr-defined]
    assert closed == [1]
    assert list(cache.stream_sync(REQUEST, source)) == [0, 1, 2, 3, 4]
    assert list(cache.stream_sync(REQUEST, source)) == [0, 1, 2, 3, 4]
    assert closed == [1, 1]


def test_a_stream_that_fails_is_not_kept() -> None:
    cache = ResponseCache()

    def source() -> Iterator[int]:
        yield 1
        raise ValueError("cut")

    for _ in range(2):
        numbers = cache.stream_sync(REQUEST, source)
        assert next(numbers) == 1
        with pytest.raises(ValueError, match="cut"):
            next(numbers)
    assert cache.stats().entries == 0


def test_a_stream_that_ended_without_a_finish_reason_is_not_kept() -> None:
    cache = ResponseCache()
    for _ in range(2):
        assert len(list(cache.stream_sync(REQUEST, lambda: iter(CHUNKS[:2])))) == 2
    assert cache.stats().reasons == {"incomplete": 2}


def test_streamed_and_whole_answers_are_kept_apart_and_forgotten_together() -> None:
    cache = ResponseCache()
    assert list(cache.stream_sync(REQUEST, lambda: iter([1, 2]))) == [1, 2]
    assert cache.get(REQUEST) is None
    assert cache.invalidate(REQUEST)
    assert list(cache.stream_sync(REQUEST, lambda: iter([3]))) == [3]
