"""Answers of a given shape: asked for in each provider's way, read, put right a bounded number of times."""

from __future__ import annotations

import asyncio
import enum
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import anthropic
import openai
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrace import testing
from seatrace.demo.provider import FakeProvider
from seatrace.errors import ConfigError
from seatrace.runtime import OutputInvalid, StructuredOutput


class Quay(enum.Enum):
    NORTH = "north"
    SOUTH = "south"


@dataclass
class Ship:
    name: str
    draught: float
    crew: int
    kind: Literal["ferry", "freighter"] = "ferry"


@dataclass
class Plan:
    ships: list[Ship]
    quay: Quay
    pilot: str | None = None
    notes: dict[str, int] = field(default_factory=dict)


class Tide(pydantic.BaseModel):
    place: str
    minutes: int = pydantic.Field(ge=0)
    remark: str = "none"


PLAN = {
    "ships": [{"name": "Ada", "draught": 7, "crew": 12, "kind": "freighter"}],
    "quay": "north",
    "pilot": None,
    "notes": {"wind": 4},
}


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_dataclass_is_read_with_all_that_is_in_it() -> None:
    plan = StructuredOutput(Plan).parse(json.dumps(PLAN))
    assert plan == Plan([Ship("Ada", 7.0, 12, "freighter")], Quay.NORTH, None, {"wind": 4})
    assert isinstance(plan.ships[0].draught, float)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Ship,
        name=st.text(),
        draught=st.floats(allow_nan=False, allow_infinity=False),
        crew=st.integers(),
        kind=st.sampled_from(["ferry", "freighter"]),
    )
)
def test_what_fits_the_class_fits_its_schema(ship: Ship) -> None:
    assert StructuredOutput(Ship).parse(json.dumps(vars(ship))) == ship


def test_a_pydantic_model_validates_for_itself() -> None:
    tide = StructuredOutput(Tide)
    assert tide.parse('{"place": "bar", "minutes": 9}') == Tide(place="bar", minutes=9)
    with pytest.raises(OutputInvalid, match=r"\$\.minutes: Input should be greater"):
        tide.parse('{"place": "bar", "minutes": -1}')


def test_a_fence_around_the_answer_is_no_matter() -> None:
    assert StructuredOutput({"type": "object"}).parse('```json\n{"a": 1}\n```\n') == {"a": 1}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Sure! Here it is:", "not JSON"),
        ('{"name": "A", "draught": NaN, "crew": 1}', "NaN is no JSON"),
        ('{"name": "A", "draught": 1}', "'crew' is missing"),
        ('{"name": "A", "draught": 1, "crew": 1.5}', r"\$\.crew: expected integer, got float"),
        ('{"name": "A", "draught": 1, "crew": true}', r"\$\.crew: expected integer, got bool"),
        ('{"name": "A", "draught": 1, "crew": 1, "kind": "raft"}', "expected one of"),
        ('{"name": "A", "draught": 1, "crew": 1, "flag": "x"}', "'flag' is not expected"),
        ("[]", r"\$: expected object, got list"),
        ("", "not JSON"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(text: str, fault: str) -> None:
    with pytest.raises(OutputInvalid, match=fault) as raised:
        StructuredOutput(Ship).parse(text)
    assert raised.value.text == text


def test_a_json_schema_is_checked_with_its_references() -> None:
    schema = {
        "title": "Fleet of ships",
        "$defs": {
            "ship": {"type": "object", "required": ["name"], "properties": {"name": {"type": ["string", "null"]}}}
        },
        "type": "object",
        "properties": {
            "ships": {"type": "array", "items": {"$ref": "#/$defs/ship"}},
            "flag": {"anyOf": [{"const": "none"}, {"type": "integer"}]},
        },
    }
    fleet = StructuredOutput(schema)
    assert fleet.name == "Fleet_of_ships"
    assert fleet.parse('{"ships": [{"name": null}], "flag": 3}') == {"ships": [{"name": None}], "flag": 3}
    with pytest.raises(OutputInvalid, match=r"\$\.ships\[1\]: 'name' is missing"):
        fleet.parse('{"ships": [{"name": "A"}, {}]}')
    with pytest.raises(OutputInvalid, match=r"\$\.flag: expected one of 2 alternatives"):
        fleet.parse('{"flag": "some"}')


def test_a_reference_to_itself_comes_to_an_end() -> None:
    schema = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    assert StructuredOutput(schema).parse("1") == 1


# --- asking -----------------------------------------------------------------------------------------------------------


def test_classes_are_asked_for_strictly_and_schemas_as_they_are() -> None:
    form = StructuredOutput(Tide).openai_chat()["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("Tide", True)
    assert form["schema"]["required"] == ["place", "minutes", "remark"]
    assert form["schema"]["additionalProperties"] is False
    assert "default" not in form["schema"]["properties"]["remark"]
    schema = {"type": "object", "properties": {"a": {"default": 1}}}
    form = StructuredOutput(schema, name="my answer").openai_responses()["text"]["format"]
    assert (form["name"], form["strict"], form["schema"]) == ("my_answer", False, schema)


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


QUESTION: Any = [{"role": "user", "content": "Which ship is next?"}]


def test_each_provider_answers_in_the_shape(provider: FakeProvider) -> None:
    ship = StructuredOutput(Ship)
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
        chat = client.chat.completions.create(model="gpt-5-mini", messages=QUESTION, **ship.openai_chat())
        assert isinstance(ship.parse(chat), Ship)
        assert ship.parse(chat.model_dump()) == ship.parse(chat)
        answer = client.responses.create(model="gpt-5-mini", input=QUESTION, **ship.openai_responses())
        assert ship.parse(answer.model_dump()) == ship.parse(answer)
    with anthropic.Anthropic(base_url=provider.second_url, api_key="none") as other:
        message = other.messages.create(model="claude-haiku-4-5", max_tokens=300, messages=QUESTION, **ship.anthropic())
        assert ship.parse(message.model_dump()) == ship.parse(message)


def _ask(way: str, shape: StructuredOutput[Any], answers: list[Any], seen: list[Any]) -> Any:
    def call(messages: list[Any]) -> Any:
        seen.append(messages)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def call_async(messages: list[Any]) -> Any:
        await asyncio.sleep(0)
        return call(messages)

    if way == "sync":
        return shape.ask_sync(QUESTION, call)
    return asyncio.run(shape.ask(QUESTION, call_async))


both = pytest.mark.parametrize("way", ["sync", "async"])


@both
def test_an_answer_that_does_not_fit_is_asked_for_again_with_what_is_wrong(way: str) -> None:
    seen: list[Any] = []
    with testing.capture() as captured:
        tide = _ask(way, StructuredOutput(Tide), ["Soon.", '{"place": "bar"}', '{"place": "bar", "minutes": 1}'], seen)
        (span,) = captured.spans
        assert (span.name, span.attributes["seatrace.structured.tries"]) == ("structured Tide", 3)
    assert tide == Tide(place="bar", minutes=1)
    assert seen[0] == QUESTION
    assert [each["role"] for each in seen[2]] == ["user", "assistant", "user"]  # it does not grow with every try
    assert seen[2][1]["content"] == '{"place": "bar"}'
    assert "$.minutes: Field required" in seen[2][2]["content"]
    assert len(QUESTION) == 1


@both
def test_repairs_are_bounded(way: str) -> None:
    seen: list[Any] = []
    with testing.capture() as captured:
        with pytest.raises(OutputInvalid):
            _ask(way, StructuredOutput(Tide, repairs=1), ["no"] * 9, seen)
        assert captured.spans[0].attributes["error.type"] == "OutputInvalid"
    assert len(seen) == 2
    with pytest.raises(OutputInvalid):
        _ask(way, StructuredOutput(Tide, repairs=0), ["no"], [])


@both
def test_an_error_of_the_call_is_raised_as_it_is(way: str) -> None:
    error = OSError("down")
    with pytest.raises(OSError) as raised:
        _ask(way, StructuredOutput(Tide), ["no", error], [])
    assert raised.value is error


def test_each_try_is_a_call_below_the_span(provider: FakeProvider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
        ship = StructuredOutput(Ship)

        def call(messages: Any) -> Any:
            return client.chat.completions.create(model="gpt-5-mini", messages=messages, **ship.openai_chat())

        with testing.capture() as captured:
            assert isinstance(ship.ask_sync(QUESTION, call), Ship)
            inner, outer = captured.spans
            assert inner.parent.span_id == outer.context.span_id


# --- bad input --------------------------------------------------------------------------------------------------------


@dataclass
class _NotJson:
    when: complex


@pytest.mark.parametrize("shape", [int, "text", None, _NotJson, list[int]], ids=repr)
def test_a_shape_that_json_has_not_is_named(shape: Any) -> None:
    with pytest.raises(ConfigError, match=r"shape|schema"):
        StructuredOutput(shape)


def test_a_class_whose_annotations_only_its_function_knows_is_named() -> None:
    @dataclass
    class Inner:
        a: int

    @dataclass
    class Outer:
        inner: Inner  # a text here, by the future import of this file

    with pytest.raises(ConfigError, match="Define it, and what it names, in a module"):
        StructuredOutput(Outer)


def test_negative_repairs_are_named() -> None:
    with pytest.raises(ConfigError, match="repairs"):
        StructuredOutput(Ship, repairs=-1)


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_other_answer_is_refused(value: Any) -> None:
    with pytest.raises(OutputInvalid) as raised:  # a list, or no object at all: never a plan
        StructuredOutput(Plan).parse(json.dumps(value))
    assert raised.value.faults


def test_numbers_beyond_all_bounds_are_refused() -> None:
    with pytest.raises(OutputInvalid):
        StructuredOutput(Ship).parse('{"name": "A", "draught": 1, "crew": 1e999}')
    assert math.isinf(StructuredOutput({"type": "number"}).parse("1e999"))
