"""Conversations that fit: always what the provider accepts, within the budget, with what must be kept."""

from __future__ import annotations

import copy
import json
import math
from itertools import pairwise
from typing import Any

import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seatrace import testing
from seatrace.errors import ConfigError
from seatrace.runtime import ContextTooSmall, Fit, count_tokens, fit_messages

from .talks import EXCHANGES, FORMS, Exchange, Step, make, said
from .validators import VALID

forms = pytest.mark.parametrize("form", FORMS)


def is_question(message: dict[str, Any]) -> bool:
    return message.get("role") == "user" and '"Q' in json.dumps(message)


# --- properties -------------------------------------------------------------------------------------------------------


@forms
@settings(max_examples=120, deadline=None)
@given(exchanges=EXCHANGES, budget=st.integers(20, 20_000), shorten=st.sampled_from([None, 50, 2_000]))
@example(exchanges=[Exchange(words=20, steps=())], budget=24, shorten=None)  # only the stub of the question fits
def test_what_comes_out_is_valid_fits_and_keeps_what_matters(
    form: Any, exchanges: list[Exchange], budget: int, shorten: int | None
) -> None:
    messages = make(form, exchanges)
    VALID[form](messages)
    before = copy.deepcopy(messages)
    try:
        fit = fit_messages(messages, budget, form=form, reserve_output=0, truncate_tool_results=shorten)
    except ContextTooSmall:
        assert count_tokens(messages).high > budget
        return
    finally:
        assert messages == before
    VALID[form](fit.messages)
    for item, following in pairwise(fit.messages):
        if item.get("type") == "reasoning":
            assert following["of"] == item["id"]
    assert fit.tokens_after.high <= budget
    assert count_tokens(fit.messages).high <= budget + 2  # rounded once more
    assert [each for each in fit.messages if each.get("role") in ("system", "developer")] == [
        each for each in messages if each.get("role") in ("system", "developer")
    ]
    assert is_question(next(each for each in reversed(fit.messages) if is_question(each)))
    kept = [at for at in range(len(messages)) if at not in fit.dropped]
    assert len(kept) == len(fit.messages)
    for at, message in zip(kept, fit.messages, strict=True):
        assert (message is messages[at]) == (at not in fit.truncated)
    newest = max(at for at, each in enumerate(messages) if is_question(each))
    assert newest in kept
    assert len(messages) - 1 in kept
    if count_tokens(messages).high <= budget:
        assert fit.messages == messages


@forms
@settings(max_examples=120, deadline=None)
@given(data=st.data(), exchanges=EXCHANGES, budget=st.integers(500, 20_000))
def test_a_conversation_that_was_cut_anywhere_comes_out_valid(
    form: Any, data: st.DataObject, exchanges: list[Exchange], budget: int
) -> None:
    messages = make(form, exchanges)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(messages) - 1))
        if data.draw(st.booleans()):
            messages.insert(data.draw(st.integers(0, len(messages))), messages[at])
        elif len(messages) > 1:
            del messages[at]
    try:
        fit = fit_messages(messages, budget, form=form, reserve_output=0)
    except ContextTooSmall:
        return
    VALID[form](fit.messages)


@settings(max_examples=60, deadline=None)
@given(exchanges=EXCHANGES, budget=st.integers(200, 20_000))
def test_more_room_never_keeps_fewer_tokens_than_it_must(exchanges: list[Exchange], budget: int) -> None:
    messages = make("openai_chat", exchanges)
    try:
        small = fit_messages(messages, budget, reserve_output=0)
    except ContextTooSmall:
        return
    again = fit_messages(small.messages, budget, reserve_output=0)
    assert again.messages == small.messages  # what fits is left alone
    assert again.dropped == again.truncated == ()


# --- what is kept, dropped, shortened ---------------------------------------------------------------------------------


def fitted(messages: list[Any], budget: int, **options: Any) -> Fit[Any]:
    return fit_messages(messages, budget, reserve_output=0, **options)


def user(mark: str, words: int = 10) -> dict[str, Any]:
    return {"role": "user", "content": said(words, mark)}


def assistant(mark: str, words: int = 10) -> dict[str, Any]:
    return {"role": "assistant", "content": said(words, mark)}


def test_one_large_turn_does_not_take_the_older_ones_with_it() -> None:
    talk = [user("Q0"), assistant("A0"), user("Q1", 5_000), assistant("A1"), user("Q2")]
    fit = fitted(talk, 300)
    assert fit.messages == [talk[0], talk[1], talk[4]]
    assert fit.dropped == (2, 3)


def test_an_old_turn_that_is_too_large_keeps_its_question_and_answer() -> None:
    messages = make("openai_chat", [Exchange(5, (Step((500,) * 20, 1), Step((), 5))), Exchange(5, ())], system=False)
    fit = fitted(messages, 400, truncate_tool_results=None)
    assert [each["role"] for each in fit.messages] == ["user", "assistant", "user"]


def test_long_tool_results_are_shortened_in_the_middle_before_anything_is_dropped() -> None:
    result = "BEGIN " + "x y z " * 3_000 + " END"
    talk = make("openai_chat", [Exchange(5, (Step((1,), 1),))], system=False)
    talk[2]["content"] = result
    fit = fitted(talk, 1_000, truncate_tool_results=200)
    shorter = fit.messages[2]["content"]
    assert shorter.startswith("BEGIN x y z")
    assert shorter.endswith(" END")
    assert "tokens omitted]" in shorter
    assert (fit.dropped, fit.truncated) == ((), (2,))
    assert talk[2]["content"] == result


@forms
def test_the_result_of_the_running_step_is_shortened_as_far_as_need_be(form: Any) -> None:
    messages = make(form, [Exchange(5, (Step((4_000, 4_000), 1),))], system=False)
    fit = fitted(messages, 400, form=form)
    VALID[form](fit.messages)
    assert len(fit.messages) == len(messages)
    assert fit.truncated


@forms
def test_a_question_that_is_too_large_alone_loses_its_middle(form: Any) -> None:
    messages = make(form, [Exchange(9_000, ())])
    fit = fitted(messages, 500, form=form)
    assert fit.tokens_after.high <= 500
    text = json.dumps(fit.messages[-1])
    assert "Q0 tide" in text
    assert "tokens omitted]" in text
    assert len(text) > 500  # as much as fits is kept


def test_pinned_messages_stay_with_what_belongs_to_them() -> None:
    messages = make("openai_chat", [Exchange(5, (Step((1, 1), 1),)), *[Exchange(300, ())] * 9])
    fit = fitted(messages, 600, pin=lambda message: message.get("tool_call_id") == "call_0_0_1")
    assert [each["role"] for each in fit.messages[:5]] == ["system", "user", "assistant", "tool", "tool"]


def test_what_cannot_be_kept_is_an_error_that_names_the_numbers() -> None:
    with pytest.raises(ContextTooSmall, match=r"at least about 1\d{4} tokens.*got 100"):
        fitted([{"role": "system", "content": "law " * 10_000}, user("Q")], 100)
    with pytest.raises(ContextTooSmall, match="Raise max_tokens"):
        fit_messages([user("Q")], 1_000, reserve_output=1_000)


def test_tools_and_a_system_prompt_beside_the_messages_take_their_room() -> None:
    tools = [{"name": "tide", "description": "d " * 400, "input_schema": {"type": "object"}}]
    talk = [user("Q0", 100), assistant("A0", 100), user("Q1")]
    assert fitted(talk, 500).dropped == ()
    assert fitted(talk, 500, system="law " * 250).dropped == (0, 1)
    assert fitted(talk, 800, tools=tools).dropped == (0, 1)


def test_objects_of_the_client_library_are_kept_as_they_are() -> None:
    answer = openai.types.chat.ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }
    )
    talk: list[Any] = [user("Q0", 900), assistant("A0"), user("Q1"), answer]
    talk.append({"role": "tool", "tool_call_id": "c", "content": "R"})
    fit = fitted(talk, 200)
    assert fit.messages == talk[2:]
    assert fit.messages[1] is answer


def test_a_question_behind_a_stray_result_is_kept_without_it() -> None:
    result = {"type": "tool_result", "tool_use_id": "gone", "content": "R"}
    talk = [{"role": "user", "content": [result, {"type": "text", "text": "And now?"}]}]
    fit = fitted(talk, 200, model="claude-haiku-4-5")
    assert fit.messages == [{"role": "user", "content": [{"type": "text", "text": "And now?"}]}]
    assert fit.truncated == (0,)


# --- the provider's prompt cache --------------------------------------------------------------------------------------


def test_what_lies_before_a_cache_mark_goes_last() -> None:
    manual = {"type": "text", "text": said(300, "manual"), "cache_control": {"type": "ephemeral"}}
    talk: list[Any] = [{"role": "user", "content": [manual]}, assistant("A0")]
    for number in range(1, 9):
        talk += [user(f"Q{number}", 60), assistant(f"A{number}", 60)]
    talk.append(user("Q9"))
    fit = fitted(talk, 1_000, model="claude-haiku-4-5")
    assert fit.messages[:2] == talk[:2]
    assert fit.dropped[0] == 2
    assert not fit.cache_prefix_broken
    assert fitted(talk, 300, model="claude-haiku-4-5").cache_prefix_broken


def test_without_a_mark_all_that_was_sent_before_counts_as_cached() -> None:
    talk = [user("Q0", 200), assistant("A0"), user("Q1")]
    assert fitted(talk, 100).cache_prefix_broken
    assert not fitted(talk, 1_000).cache_prefix_broken
    assert not fitted([user("Q0"), user("Q1", 5_000)], 300).cache_prefix_broken


# --- what is told, and bad input --------------------------------------------------------------------------------------


def test_a_fit_tells_what_became_of_the_messages() -> None:
    talk = make("openai_chat", [Exchange(900, ()), Exchange(5, (Step((4_000,), 1),))])
    with testing.capture() as captured:
        fit = fitted(talk, 700)
        assert captured.total("seatrace.context.tokens", seatrace_context_stage="before") == fit.tokens_before.n
        assert captured.total("seatrace.context.tokens", seatrace_context_stage="after") == fit.tokens_after.n
        actions = {
            point.attributes["seatrace.context.action"]: point.value
            for point in captured.points("seatrace.context.messages")
        }
        assert actions == {"kept": 3, "dropped": 1, "truncated": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": math.nan},
        {"reserve_output": -1},
        {"truncate_tool_results": 0},
        {"stub": "[{tokens}]"},
        {"stub": "{"},
        {"form": "cohere"},
        {"messages": ["just text"]},
    ],
    ids=repr,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any]) -> None:
    arguments = {"messages": [user("Q")], "max_tokens": 1_000, **options}
    with pytest.raises(ConfigError, match=next(iter(options))):
        fit_messages(arguments.pop("messages"), arguments.pop("max_tokens"), **arguments)


def test_no_messages_fit_anywhere() -> None:
    assert fitted([], 10).messages == []


def test_a_huge_conversation_is_cut_without_delay() -> None:
    talk = [each for number in range(500) for each in (user(f"Q{number}", 400), assistant("A", 400))]
    talk.append({"role": "user", "content": "x" * 5_000_000})
    fit = fitted(talk, 4_000)
    assert fit.tokens_after.high <= 4_000
