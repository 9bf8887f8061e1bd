"""Token estimates: bounds that hold, what is no text, tokenizers that are there, and learning from calls."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrace import testing
from seatrace.demo.provider import FakeProvider
from seatrace.runtime import _tokenizers, calibrate_tokens, count_tokens
from seatrace.runtime.tokens import calibration

from .samples import COUNTS, TEXTS


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No tokenizer but those that a test puts there, and nothing learned."""
    for name in ("bpe_openai", "tiktoken", "ctok"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    _forget()
    yield
    _forget()


def _forget() -> None:
    calibration.clear()
    _tokenizers._openai.cache_clear()
    _tokenizers._ctok.cache_clear()


@pytest.mark.parametrize("sample", TEXTS)
def test_the_true_count_lies_within_the_bounds(sample: str) -> None:
    for model, counted in zip(("gpt-5-mini", "claude-opus-5-5"), COUNTS[sample], strict=True):
        estimate = count_tokens(TEXTS[sample], model)
        assert estimate.low <= counted <= estimate.high, model
        assert estimate.n == pytest.approx(counted, rel=0.3)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(_JSON, st.sampled_from([None, "gpt-4o", "claude-haiku-4-5", "mistral-large"]))
def test_any_value_has_an_estimate_between_its_bounds(value: Any, model: str | None) -> None:
    estimate = count_tokens(value, model)
    assert 0 <= estimate.low <= estimate.n <= estimate.high
    assert math.isfinite(estimate.high)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_a_longer_text_has_not_far_fewer_tokens(one: str, other: str) -> None:
    both = count_tokens(one + "\n" + other).n
    assert both >= 0.4 * max(count_tokens(one).n, count_tokens(other).n) - 1


_IMAGE = base64.b64encode(bytes(300_000)).decode()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_IMAGE}"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{_IMAGE}"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _IMAGE}},
        {"inline_data": {"mime_type": "image/png", "data": _IMAGE}},
    ],
    ids=["chat", "responses", "anthropic", "gemini"],
)
def test_an_image_counts_as_an_image_and_not_as_its_text(part: dict[str, Any]) -> None:
    message = {"role": "user", "content": [part]}
    assert 50 < count_tokens([message], "gpt-4o").n < 2_000


def test_low_detail_makes_a_small_image() -> None:
    url = {"url": "https://example.com/a.png", "detail": "low"}
    message = {"role": "user", "content": [{"type": "image_url", "image_url": url}]}
    assert count_tokens([message]).high < 400


def test_a_document_counts_by_its_size_within_wide_bounds() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": _IMAGE}
    estimate = count_tokens([{"role": "user", "content": [{"type": "document", "source": source}]}])
    assert estimate.low < 3_000 < estimate.high < 100_000


def test_a_document_of_text_counts_as_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "tide " * 100}
    message = {"role": "user", "content": [{"type": "document", "source": source}]}
    assert count_tokens([message]).n == pytest.approx(100, rel=0.2)


def test_tool_calls_and_definitions_count() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "tide", "arguments": '{"place": "' + "x " * 99 + '"}'},
    }
    assert count_tokens([{"role": "assistant", "content": None, "tool_calls": [call]}]).n > 90
    use = {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {"place": "x " * 99}}
    assert count_tokens([{"role": "assistant", "content": [use]}]).n > 90
    tool = {"name": "tide", "description": "When the tide turns.", "input_schema": {"type": "object"}}
    without = count_tokens([], "claude-haiku-4-5").n
    assert count_tokens([], "claude-haiku-4-5", tools=[tool]).n > without + 346
    assert 10 < count_tokens([], "gpt-4o", tools=[tool]).n < 60


def test_ids_signatures_and_cache_marks_are_no_text() -> None:
    plain = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}]}
    signed = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "q" * 4_000}]}
    assert count_tokens([plain]) == count_tokens([signed])


def test_objects_of_the_client_libraries_count_like_their_json() -> None:
    message = openai.types.chat.ChatCompletionMessage(role="assistant", content="The tide turns at noon.")
    assert count_tokens([message]).n == count_tokens([message.model_dump(exclude_none=True)]).n


def test_what_nests_without_end_still_has_an_estimate() -> None:
    endless: dict[str, Any] = {"content": "a"}
    endless["more"] = endless
    endless["input"] = {"again": endless}
    assert count_tokens([endless]).n > 0


def test_a_huge_text_is_sampled() -> None:
    text = TEXTS["english"] * 50_000  # 10 million characters
    one = count_tokens(TEXTS["english"] * 100).n
    assert count_tokens(text).n == pytest.approx(one * 500, rel=0.05)


# --- tokenizers -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_is_installed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def get_encoding(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(encode_ordinary=lambda text: [0] * (7 * len(text)))

    monkeypatch.setitem(sys.modules, "bpe_openai", SimpleNamespace(get_encoding=get_encoding))
    estimate = count_tokens("abc", "gpt-5-mini")
    assert (estimate.n, estimate.method) == (21, "bpe-openai")
    assert count_tokens("abc", "gpt-4-turbo").n == 21
    assert asked == ["o200k_base", "cl100k_base"]
    assert count_tokens("abc", "claude-opus-5-5").method == "heuristic"


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-3-5-sonnet-20241022", "3.0"),
        ("claude-sonnet-4-20250514", "3.0"),
        ("claude-haiku-4-5", "3.0"),
        ("anthropic/claude-opus-4-7", "4.7"),
        ("claude-opus-5-5", "4.8"),
    ],
)
def test_each_family_of_claude_has_its_tokenizer(monkeypatch: pytest.MonkeyPatch, model: str, version: str) -> None:
    def token_count(text: str, version: str) -> int:
        return 7 + len(text) * {"3.0": 3, "4.7": 4, "4.8": 5}[version]

    monkeypatch.setitem(sys.modules, "ctok", SimpleNamespace(token_count=token_count))
    estimate = count_tokens("ab", model)
    assert estimate.n == {"3.0": 6, "4.7": 8, "4.8": 10}[version]
    assert estimate.method == "ctok"
    assert count_tokens("a" * 30_000, model).method == "heuristic"  # it would take too long


def test_tiktoken_is_not_asked_where_it_would_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def get_encoding(name: str) -> Any:
        raise AssertionError("would reach for the network")

    monkeypatch.setitem(sys.modules, "tiktoken", SimpleNamespace(get_encoding=get_encoding))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert count_tokens("abc", "gpt-4o").method == "heuristic"
    (tmp_path / "fb374d419588a4632f3f557e76b4b70aebbca790").write_bytes(b"cut off")
    _forget()
    assert count_tokens("abc", "gpt-4o").method == "heuristic"


def test_the_program_may_bring_a_tokenizer() -> None:
    estimate = count_tokens("tide turns", "some-model", tokenizer=lambda text: len(text.split()))
    assert (estimate.n, estimate.method) == (2, "own")


# --- learning ---------------------------------------------------------------------------------------------------------


def test_estimates_of_a_model_come_closer_with_every_call() -> None:
    question = "When does the tide turn in the inner harbour, and how deep is it then? " * 4
    with FakeProvider() as provider, openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
        with testing.capture() as captured:
            stop = calibrate_tokens()
            try:
                counted = 0
                for _ in range(12):
                    messages: Any = [{"role": "user", "content": question}]
                    count_tokens(messages, "gpt-5-mini")
                    answer = client.chat.completions.create(model="gpt-5-mini", messages=messages)
                    counted = answer.usage.prompt_tokens if answer.usage else 0
            finally:
                stop()
            points = captured.points("seatrace.token_estimate.error")
            assert [point.count for point in points] == [12]
            assert points[0].attributes["gen_ai.request.model"] == "gpt-5-mini"
    after = count_tokens([{"role": "user", "content": question}], "gpt-5-mini")
    assert after.method == "calibrated"
    assert after.n == pytest.approx(counted, rel=0.02)
    assert after.low <= counted <= after.high
    assert after.high < count_tokens([{"role": "user", "content": question}], "gpt-4o").high


def test_only_the_call_that_was_counted_teaches() -> None:
    with FakeProvider() as provider, openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:

        def ask(model: str, text: str) -> None:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])

        with testing.capture() as captured:
            count_tokens([{"role": "user", "content": "not on yet " * 20}], "gpt-5-mini")
            stop = calibrate_tokens()
            assert calibrate_tokens() is stop
            ask("gpt-5-mini", "not counted " * 20)
            count_tokens([{"role": "user", "content": "for another model " * 20}], "gpt-4o-mini")
            ask("gpt-5-mini", "not counted " * 20)
            ask("gpt-4o-mini", "counted " * 20)
            ask("gpt-4o-mini", "not counted again " * 20)
            stop()
            assert sum(point.count for point in captured.points("seatrace.token_estimate.error")) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.001, 1_000), max_size=60))
def test_nothing_that_is_learned_breaks_the_order_of_the_bounds(ratios: list[float]) -> None:
    calibration.clear()
    for ratio in ratios:
        calibration.learn(None, "gpt-5-mini", ratio)
    estimate = count_tokens("The tide turns at noon.", "gpt-5-mini")
    assert 0 <= estimate.low <= estimate.n <= estimate.high < 200
