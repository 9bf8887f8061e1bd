"""What makes two requests the same, and what does not."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seatrace.errors import SeatraceError
from seatrace.runtime import RequestKey, UnkeyableError

KEY = RequestKey()

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine

texts = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=10
)
requests = st.dictionaries(
    st.sampled_from(["model", "messages", "temperature", "seed", "stop", "tools", "response_format", "something_new"]),
    values,
    max_size=6,
)


def shuffled(value: Any, rng: random.Random) -> Any:
    """``value`` with the keys of all mappings in another order."""
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name], rng) for name in names}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


def same(one: Any, two: Any) -> bool:
    """Whether JSON would say the same: ``1`` is ``1.0`` and not ``True``."""
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    numbers = isinstance(one, (int, float)) and isinstance(two, (int, float))
    return one == two and (numbers or type(one) is type(two))


@unhurried
@given(requests, st.randoms(use_true_random=False))
def test_the_order_of_parameters_does_not_matter(request_: dict[str, Any], rng: random.Random) -> None:
    assert KEY(request_) == KEY(shuffled(request_, rng)) == KEY(copy.deepcopy(request_))


@unhurried
@given(requests, requests)
def test_requests_that_differ_have_different_keys(one: dict[str, Any], two: dict[str, Any]) -> None:
    ascii_only = all(text.isascii() for text in (repr(one), repr(two)))
    if ascii_only:  # beyond ASCII, two ways to write one text are one text
        assert (KEY(one) == KEY(two)) == same(one, two)


@unhurried
@given(requests.filter(bool), values, st.data())
def test_a_change_of_any_parameter_changes_the_key(request_: dict[str, Any], value: Any, data: Any) -> None:
    name = data.draw(st.sampled_from(sorted(request_)))
    changed = {**request_, name: [request_[name], value]}
    without = {each: request_[each] for each in request_ if each != name}
    assert len({KEY(request_), KEY(changed), KEY(without)}) == 3


@pytest.mark.parametrize(
    "name", ["stream", "timeout", "user", "metadata", "extra_headers", "api_key", "idempotency_key", "max_retries"]
)
def test_what_does_not_change_the_answer_does_not_change_the_key(name: str) -> None:
    request = {"model": "m", "messages": []}
    assert KEY(request) == KEY({**request, name: "whatever"}) == KEY({**request, name: object()})


def test_parameters_nobody_knows_yet_count() -> None:
    assert KEY({"model": "m"}) != KEY({"model": "m", "next_years_idea": 1})


def test_version_and_origin_count() -> None:
    request = {"model": "m"}
    keys = {KEY(request), RequestKey(version="2")(request), KEY(request, origin="a"), KEY(request, origin="b")}
    assert len(keys) == 4


def test_one_text_written_in_two_ways_is_one_text() -> None:
    assert KEY({"prompt": "caf\u00e9"}) == KEY({"prompt": "cafe\u0301"})
    assert KEY({"prompt": "\ud800"}) != KEY({"prompt": "?"})  # a lone surrogate is no reason to fail


def test_numbers_are_equal_as_numbers() -> None:
    assert KEY({"temperature": 0}) == KEY({"temperature": 0.0}) == KEY({"temperature": -0.0})
    assert KEY({"logprobs": True}) != KEY({"logprobs": 1})
    assert KEY({"seed": 2**60}) != KEY({"seed": 2**60 + 1})
    assert KEY({"x": math.nan}) == KEY({"x": float("nan")})
    assert (
        len({KEY({"x": value}) for value in (math.nan, math.inf, -math.inf, "nan", "inf", None, {"~float": "nan"})})
        == 7
    )


def test_bytes_count_by_what_they_are() -> None:
    assert KEY({"file": b"a" * 10_000_000}) == KEY({"file": bytearray(b"a" * 10_000_000)})
    assert KEY({"file": b"a"}) != KEY({"file": b"b"}) != KEY({"file": "b"})


def test_a_model_is_what_it_says() -> None:
    class Message(pydantic.BaseModel):
        role: str
        content: str
        name: str | None = None

    said = {"role": "user", "content": "hi"}
    assert KEY({"messages": [Message(role="user", content="hi")]}) == KEY({"messages": [said]})


@dataclass
class Point:
    """A dataclass is told from a mapping, and from another class with the same fields."""

    x: int
    y: int


@dataclass
class Size:
    """Such another class."""

    x: int
    y: int


def test_data_of_many_types_has_a_key() -> None:
    items = [
        Point(1, 2), Size(1, 2), {"x": 1, "y": 2}, date(2026, 1, 1), "2026-01-01", Decimal("1.10"), Decimal("1.1"),
        PurePosixPath("a"), "a", {1, 2}, [1, 2], {1: 2}, {"1": 2}, {True: 2}, Point, np.array([1, 2]),
        np.array([1.0, 2.0]), complex(1, 2),
    ]  # fmt: skip
    assert len({KEY({"x": item}) for item in items}) == len(items)
    assert KEY({"x": {1, 2, 3}}) == KEY({"x": {3, 2, 1}})
    assert KEY({"x": (1, 2)}) == KEY({"x": [1, 2]})
    assert KEY({"x": np.float32(0.5)}) == KEY({"x": 0.5})


def test_what_is_no_data_has_no_key_and_is_not_consumed() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    iterator = numbers()
    with pytest.raises(UnkeyableError, match=r"got builtins.generator at 'messages\[1\].content'") as raised:
        KEY({"messages": ["a", {"content": iterator}]})
    assert next(iterator) == 1
    assert isinstance(raised.value, (SeatraceError, TypeError))
    with pytest.raises(UnkeyableError, match="expected text as the keys"):
        KEY({"x": {(1, 2): 3}})


def test_data_without_an_end_has_no_key() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnkeyableError, match="more than 100 levels"):
        KEY({"x": endless})


def conversation(first: str, second: str) -> dict[str, Any]:
    """Two tool calls and their results, in OpenAI's form."""
    calls = [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in (first, second)]
    results = [{"role": "tool", "tool_call_id": first, "content": "1"}, {"role": "tool", "tool_call_id": second}]
    return {"messages": [{"role": "assistant", "tool_calls": calls}, *results]}


ids = st.text("abcdef0123456789", min_size=1, max_size=8)


@unhurried
@given(ids, ids, ids, ids)
def test_ids_of_tool_calls_count_by_their_ordinal(a: str, b: str, c: str, d: str) -> None:
    assert (KEY(conversation(a, b)) == KEY(conversation(c, d))) == ((a == b) == (c == d))


def test_results_of_tool_calls_cannot_be_exchanged() -> None:
    exchanged = conversation("a", "b")
    exchanged["messages"][1]["tool_call_id"], exchanged["messages"][2]["tool_call_id"] = "b", "a"
    assert KEY(conversation("a", "b")) != KEY(exchanged)


def test_ids_of_anthropic_and_responses_count_by_their_ordinal() -> None:
    def messages(identifier: str, argument: str) -> dict[str, Any]:
        used = {"type": "tool_use", "id": identifier, "name": "f", "input": {"call_id": argument}}
        result = {"type": "tool_result", "tool_use_id": identifier, "content": "x"}
        return {"messages": [{"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]}

    def items(identifier: str) -> dict[str, Any]:
        call = {"type": "function_call", "id": f"fc_{identifier}", "call_id": identifier, "name": "f"}
        return {"input": [call, {"type": "function_call_output", "call_id": identifier, "output": "x"}]}

    assert KEY(messages("toolu_1", "x")) == KEY(messages("toolu_2", "x"))
    assert KEY(messages("toolu_1", "x")) != KEY(messages("toolu_1", "y"))  # what a model said is no id of ours
    assert KEY(items("call_1")) == KEY(items("call_2"))


def test_ids_count_as_they_are_outside_of_conversations() -> None:
    assert KEY({"call_id": "a"}) != KEY({"call_id": "b"})
    assert KEY({"extra_body": {"tool_call_id": "a"}}) != KEY({"extra_body": {"tool_call_id": "b"}})


def test_an_argument_left_out_in_the_libraries_words_is_left_out() -> None:
    import anthropic
    import openai

    assert (
        KEY({"model": "m", "top_p": openai.NOT_GIVEN})
        == KEY({"model": "m"})
        == KEY({"model": "m", "top_p": anthropic.NOT_GIVEN})
    )
