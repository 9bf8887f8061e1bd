"""Choosing a model: by rule or score, among those that can, within the budget, with another one where it fails."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import seatrace
from seatrace import PriceBook, testing
from seatrace.demo.provider import FakeProvider, Fault
from seatrace.errors import ConfigError
from seatrace.runtime import ModelOption, ModelSelector, NoModelError

TIERS = {
    "simple": [ModelOption("gpt-5-nano", "openai", 400_000, frozenset({"tools", "json"}))],
    "complex": [
        ModelOption("gpt-5", "openai", 400_000, frozenset({"tools", "vision", "json"})),
        ModelOption("claude-opus-4-5", "anthropic", 200_000, frozenset({"tools", "vision"})),
    ],
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def ask(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def selector(**options: Any) -> ModelSelector:
    return ModelSelector(TIERS, **{"rules": [(lambda request: len(request.text) < 100, "simple")], **options})


# --- the tier ---------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_fits_decides() -> None:
    choose = selector().choose
    assert (choose(ask()).model, choose(ask()).tier, choose(ask()).reason) == ("gpt-5-nano", "simple", "rule")
    hard = choose(ask("why " * 100))
    assert (hard.model, hard.tier, hard.reason) == ("gpt-5", "complex", "default")


def test_a_score_decides_by_thresholds() -> None:
    scores = iter([0.1, 0.5, 0.9, math.nan])
    choose = ModelSelector(
        TIERS, scorer=lambda _: next(scores), thresholds={"complex": 0.5, "simple": 0.0}, default="simple"
    ).choose
    assert [choose(ask()).tier for _ in range(4)] == ["simple", "complex", "complex", "simple"]


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": [{"role": "user", "content": "Tide?"}]},
        {"input": "Tide?"},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Tide?"}]}]},
        {"contents": [{"role": "user", "parts": [{"text": "Tide?"}]}]},
    ],
    ids=["chat", "responses", "items", "gemini"],
)
def test_rules_see_what_the_user_said_last_in_any_form(request_: dict[str, Any]) -> None:
    seen: list[str] = []
    ModelSelector(TIERS, rules=[(lambda request: bool(seen.append(request.text)), "simple")]).choose(request_)
    assert seen == ["Tide?"]


# --- what a model can -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "model", "reason"),
    [
        (ask(tools=[{"name": "f"}]), "gpt-5-nano", "rule"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, IMAGE]}]}, "gpt-5", "capability"),
        (ask(response_format={"type": "json_object"}), "gpt-5-nano", "rule"),
    ],
    ids=["tools", "image", "json"],
)
def test_a_model_that_can_not_serve_is_passed_over(request_: dict[str, Any], model: str, reason: str) -> None:
    choice = selector().choose(request_)
    assert (choice.model, choice.reason) == (model, reason)


def test_the_answer_must_fit_into_the_context_too() -> None:
    tiers = {"small": [ModelOption("a", context=1_000)], "large": [ModelOption("b", context=100_000)]}
    choose = ModelSelector(tiers, default="small").choose
    assert choose(ask("tide " * 300)).model == "a"
    wide = choose(ask("tide " * 300, max_tokens=900))
    assert (wide.model, wide.tier, wide.reason) == ("b", "large", "context")


def test_a_request_that_no_model_can_serve_says_why() -> None:
    choose = ModelSelector({"only": [ModelOption("a", context=100), ModelOption("b", abilities=frozenset())]}).choose
    with pytest.raises(NoModelError, match=r"a \(context\), b \(capability\)"):
        choose(ask("tide " * 300, tools=[{"name": "f"}]))


# --- money ------------------------------------------------------------------------------------------------------------


class Purse:
    def __init__(self, left: float | None) -> None:
        self.left = left

    def remaining(self) -> float | None:
        return self.left


def test_cost_and_saving_are_estimated_against_the_baseline() -> None:
    choice = selector().choose(ask("tide " * 10))
    dear = selector(rules=()).choose(ask("tide " * 10))
    assert choice.estimated_cost is not None
    assert dear.estimated_cost is not None
    assert choice.estimated_saving == pytest.approx(dear.estimated_cost - choice.estimated_cost)
    assert dear.estimated_saving == 0
    assert ModelSelector({"x": ["no-such-model"]}).choose(ask()).estimated_cost is None


def test_a_budget_that_runs_low_takes_the_cheapest_that_can() -> None:
    purse = Purse(100.0)
    choose = selector(budget=purse).choose
    hard = ask("why " * 100)
    assert choose(hard).model == "gpt-5"
    purse.left = 0.001
    assert (choose(hard).model, choose(hard).reason) == ("gpt-5-nano", "budget")
    purse.left = None
    assert choose(hard).model == "gpt-5"
    purse.left = 0.0
    image = {"messages": [{"role": "user", "content": [IMAGE]}]}
    assert choose(image).model in ("gpt-5", "claude-opus-4-5")  # the cheapest that can see


def test_own_prices_count() -> None:
    book = PriceBook({"acme/a": {"input": 1.0, "output": 1.0}, "acme/b": {"input": 9.0, "output": 9.0}})
    tiers = {"low": [ModelOption("a", "acme")], "high": [ModelOption("b", "acme")]}
    choice = ModelSelector(tiers, default="low", price=book.price).choose(ask(max_tokens=1_000))
    assert choice.estimated_saving == pytest.approx(8 * (choice.estimated_cost or 0))


# --- another one where it fails ---------------------------------------------------------------------------------------


class _Status(Exception):
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


def _go(selector: ModelSelector, way: str, failing: dict[str, Exception]) -> str:
    def make(choice: Any) -> str:
        if choice.model in failing:
            raise failing[choice.model]
        return str(choice.model)

    async def make_async(choice: Any) -> str:
        await asyncio.sleep(0)
        return make(choice)

    if way == "sync":
        return selector.call_sync(ask(), make)
    return asyncio.run(selector.call(ask(), make_async))


both = pytest.mark.parametrize("way", ["sync", "async"])


@both
@pytest.mark.parametrize(
    "error", [_Status(429), _Status(503), _Status(404), ConnectionResetError(), TimeoutError()], ids=repr
)
def test_an_error_that_passes_goes_to_the_next_model(way: str, error: Exception) -> None:
    with testing.capture() as captured:
        assert _go(selector(), way, {"gpt-5-nano": error}) == "gpt-5"
        (point,) = captured.points("seatrace.routing.fallbacks")
        assert point.attributes == {
            "seatrace.routing.name": "models",
            "seatrace.routing.from": "gpt-5-nano",
            "seatrace.routing.to": "gpt-5",
            "error.type": type(error).__qualname__,
        }


@both
@pytest.mark.parametrize("error", [_Status(400), ValueError(), KeyError()], ids=repr)
def test_an_error_of_the_request_is_raised_as_it_is(way: str, error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        _go(selector(), way, {"gpt-5-nano": error})
    assert raised.value is error


@both
def test_the_last_error_is_raised_when_none_is_left(way: str) -> None:
    errors: dict[str, Exception] = {model: _Status(500) for model in ("gpt-5-nano", "gpt-5", "claude-opus-4-5")}
    with pytest.raises(_Status) as raised:
        _go(selector(), way, errors)
    assert raised.value is errors["claude-opus-4-5"]


def test_a_model_that_failed_is_chosen_last_for_a_while() -> None:
    now = 100.0
    tool = selector(cooldown=30, clock=lambda: now)
    assert _go(tool, "sync", {"gpt-5-nano": _Status(503)}) == "gpt-5"
    assert (tool.choose(ask()).model, tool.choose(ask()).reason) == ("gpt-5", "cooldown")
    now = 131.0
    assert tool.choose(ask()).model == "gpt-5-nano"
    assert _go(tool, "sync", {"gpt-5-nano": _Status(503)}) == "gpt-5"
    now = 5.0  # the clock jumps
    assert tool.choose(ask()).model == "gpt-5-nano"


def test_the_program_may_decide_what_passes() -> None:
    tool = selector(falls_back=lambda error: isinstance(error, ValueError))
    assert _go(tool, "sync", {"gpt-5-nano": ValueError()}) == "gpt-5"
    with pytest.raises(_Status):
        _go(tool, "sync", {"gpt-5": _Status(503)})


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(schedule={2: Fault(503)}) as provider:
        yield provider


def test_the_decision_stands_on_the_call_and_the_saving_is_what_it_really_was(provider: FakeProvider) -> None:
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0)
    tool = selector(name="front desk")
    address = provider.url.removeprefix("http://")

    def make(choice: Any) -> Any:
        return client.chat.completions.create(model=choice.model, **ask())

    with client, testing.capture(providers={address: "openai"}) as captured:
        with seatrace.session(tenant="harbour"):
            tool.call_sync(ask(), make)
            tool.call_sync(ask(), make)  # fails, and goes to gpt-5
        first, failed, second = captured.spans
        assert {name: first.attributes[name] for name in first.attributes if "routing" in name} == {
            "seatrace.routing.name": "front desk",
            "seatrace.routing.tier": "simple",
            "seatrace.routing.reason": "rule",
        }
        assert failed.attributes["error.type"]
        assert second.attributes["seatrace.routing.reason"] == "fallback"
        usage = captured.calls[0].usage
        assert usage is not None
        cost = captured.calls[0].cost
        baseline = PriceBook().price_usage("openai", ["gpt-5"], usage)
        assert cost is not None
        assert baseline is not None
        (point,) = captured.points("seatrace.saved.cost")
        assert point.value == pytest.approx(baseline.total - cost.total)
        assert point.attributes == {
            "seatrace.saving.source": "routing",
            "gen_ai.request.model": "gpt-5-nano",
            "seatrace.tenant": "harbour",
        }
        assert captured.total("seatrace.routing.decisions", seatrace_routing_reason="rule") == 2
        assert captured.total("seatrace.routing.decisions", seatrace_routing_reason="fallback") == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tiers": {}}, "tiers"),
        ({"tiers": {"a": []}}, "tiers"),
        ({"default": "middle"}, "default"),
        ({"rules": [(bool, "middle")]}, "rules"),
        ({"scorer": lambda _: 1.0}, "scorer"),
        ({"rules": (), "scorer": lambda _: 1.0, "thresholds": {"middle": 1.0}}, "thresholds"),
        ({"rules": (), "scorer": lambda _: 1.0, "thresholds": {"simple": math.nan}}, "thresholds"),
        ({"output_tokens": 0}, "output_tokens"),
        ({"cooldown": -1}, "cooldown"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ModelSelector(**{"tiers": TIERS, **options})
