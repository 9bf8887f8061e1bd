"""Telling whether two values are the same, without keeping them."""

from __future__ import annotations

import dataclasses
import gc
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrace.own import digest as digest_module
from seatrace.own.digest import digest

_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5)
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


def _form(value: Any) -> Any:
    """Equal for two values exactly where they are of the same types throughout."""
    if isinstance(value, list):
        return "list", tuple(map(_form, value))
    if isinstance(value, dict):
        return "dict", frozenset((key, _form(item)) for key, item in value.items())
    return type(value), repr(value)


@given(_VALUES, _VALUES)
def test_two_are_alike_exactly_where_they_are_equal(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) is (_form(one) == _form(other))


@given(st.dictionaries(st.text(max_size=3), _SCALARS, max_size=6))
def test_the_order_of_keys_says_nothing(value: dict[str, Any]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("one", "other"),
    [(-1, -2), (1, True), (1, 1.0), (0.0, -0.0), ("1", 1), ([1, 2], [2, 1]), ([], {}), ((1,), [1]), ({1}, {2})],
)
def test_what_python_calls_equal_or_hashes_alike_is_not_always_the_same(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_models_and_data_classes_are_what_is_in_them() -> None:
    class Place(pydantic.BaseModel):
        name: str

    @dataclasses.dataclass
    class Trip:
        to: Place
        stops: set[str] = dataclasses.field(default_factory=set)

    @dataclasses.dataclass
    class Other(Trip):
        pass

    assert digest(Trip(Place(name="a"), {"x", "y"})) == digest(Trip(Place(name="a"), {"y", "x"}))
    assert digest(Trip(Place(name="a"))) != digest(Trip(Place(name="b")))
    assert digest(Trip(Place(name="a"))) != digest(Other(Place(name="a")))


def test_other_objects_are_only_like_themselves_even_at_the_same_address() -> None:
    class Ship:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("nobody asked for that")

        def __hash__(self) -> int:
            raise AssertionError("nobody asked for that")

        def __repr__(self) -> str:
            raise AssertionError("nobody asked for that")

    ship = Ship()
    assert digest([ship]) == digest([ship])
    seen = [digest([Ship()]) for _ in range(20)]  # each takes the place of the one before
    assert len(set(seen)) == 20
    del ship
    gc.collect()
    assert not digest_module._known


def test_objects_that_cannot_be_followed_are_like_nothing() -> None:
    class Bare:
        __slots__ = ()

    bare = Bare()
    assert digest(bare) != digest(bare)

    @dataclasses.dataclass(slots=True)
    class Slotted:
        a: int

    slotted = Slotted(1)
    assert digest(slotted) != digest(slotted)


def test_what_is_endless_or_huge_is_like_nothing() -> None:
    endless: list[Any] = []
    endless.append(endless)
    huge = list(range(20_000))
    for value in (endless, huge, {"a": huge}):
        assert digest(value) != digest(value)
