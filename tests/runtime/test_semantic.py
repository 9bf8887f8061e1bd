"""A cache that finds answers by meaning: what is served, what is not, what is told."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import seatrace
from contract.fresh import run
from model import ask, client, completion
from seatrace.errors import ConfigError, MissingExtraError
from seatrace.runtime import Lookup, ResponseCache, SemanticCache, lexical_guard
from seatrace.testing import capture

VECTORS = {
    "When is high water?": [1.0, 0.0, 0.0],
    "At what time is high water?": [0.95, math.sqrt(1 - 0.95**2), 0.0],
    "When is the water high, roughly?": [0.87, math.sqrt(1 - 0.87**2), 0.0],
    "When is low water?": [0.99, 0.0, math.sqrt(1 - 0.99**2)],
    "Who was Napoleon?": [0.0, 0.0, 1.0],
}
HIGH, SAME, NEAR, LOW, OTHER = VECTORS


class Embedder:
    """Knows the vectors of some texts, and counts how often it is asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.texts += texts
        return [VECTORS[text] for text in texts]

    async def later(self, texts: list[str]) -> list[list[float]]:
        """The same for asynchronous programs."""
        await asyncio.sleep(0)
        return self(texts)


def asking(text: str, **more: Any) -> dict[str, Any]:
    """A request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def answers(cache: SemanticCache, *texts: str, **more: Any) -> list[str]:
    """What each text gets, where a new answer is its number."""
    found: list[str] = []
    for at, text in enumerate(texts):
        found.append(cache.get_or_call_sync(asking(text, **more), lambda at=at: f"answer {at}"))  # type: ignore[misc]
    return found


def test_the_same_question_in_other_words_is_answered() -> None:
    embed = Embedder()
    cache = SemanticCache(embed)
    assert answers(cache, HIGH, SAME, OTHER, HIGH) == ["answer 0", "answer 0", "answer 2", "answer 0"]
    assert embed.texts == [HIGH, SAME, OTHER]  # once a lookup; an equal question needs no vector
    assert (cache.stats().hits, cache.stats().misses) == (2, 2)


async def test_asynchronous_programs_and_embedders() -> None:
    embed = Embedder()
    cache = SemanticCache(embed.later)

    async def call() -> str:
        return "answer"

    async def other() -> str:
        return "other"

    assert await cache.get_or_call(asking(HIGH), call) == "answer"
    assert await cache.get_or_call(asking(SAME), other) == "answer"
    with pytest.raises(ConfigError, match="embed: expected a plain function here, got a coroutine function"):
        SemanticCache(embed.later).lookup_sync(asking(HIGH))


async def test_a_plain_embedder_does_not_hold_up_an_event_loop() -> None:
    import threading

    seen = []

    def embed(texts: list[str]) -> Any:
        seen.append(threading.current_thread())
        return [VECTORS[text] for text in texts]

    await SemanticCache(embed).lookup(asking(HIGH))
    assert seen[0] is not threading.main_thread()


async def test_many_who_ask_the_same_at_once_embed_and_call_once() -> None:
    embed, calls = Embedder(), []
    cache = SemanticCache(embed)

    async def call() -> str:
        calls.append(1)
        await asyncio.sleep(0)
        return "answer"

    assert await asyncio.gather(*(cache.get_or_call(asking(HIGH), call) for _ in range(50))) == ["answer"] * 50
    assert (len(calls), embed.texts) == (1, [HIGH])


def test_a_question_below_the_threshold_is_a_call() -> None:
    assert answers(SemanticCache(Embedder()), HIGH, NEAR) == ["answer 0", "answer 1"]
    assert answers(SemanticCache(Embedder(), threshold=0.85), HIGH, NEAR) == ["answer 0", "answer 0"]


def test_what_the_guard_objects_to_is_a_call() -> None:
    cache = SemanticCache(Embedder())
    assert answers(cache, HIGH, LOW) == ["answer 0", "answer 1"]
    assert cache.verdicts().rejections == {"antonym": 1}
    assert answers(SemanticCache(Embedder(), guard=None), HIGH, LOW) == ["answer 0", "answer 0"]
    assert answers(SemanticCache(Embedder(), guard=lambda known, asked: "mine"), HIGH, SAME) == ["answer 0", "answer 1"]


# --- what must be equal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"model": "n"}, {"tools": [{"name": "f"}]}, {"temperature": 1}, {"top_p": 0.5}])
def test_all_but_the_question_must_be_equal(change: dict[str, Any]) -> None:
    cache = SemanticCache(Embedder())
    answers(cache, HIGH)
    assert cache.lookup_sync(asking(SAME)).result == "hit"
    assert cache.lookup_sync(asking(SAME, **change)) == Lookup("miss")


def test_instructions_must_be_equal() -> None:
    cache = SemanticCache(Embedder())
    for words, at in (("be brief", 0), ("be kind", 1), ("be brief", 2)):
        messages = [{"role": "system", "content": words}, {"role": "user", "content": (HIGH, HIGH, SAME)[at]}]
        found = cache.get_or_call_sync({"model": "m", "messages": messages}, lambda words=words: words)  # type: ignore[misc]
        assert found == words


def test_tenants_do_not_share_answers() -> None:
    cache = SemanticCache(Embedder())
    for tenant in ("a", "b"):
        with seatrace.session(tenant=tenant):
            cache.get_or_call_sync(asking(HIGH), lambda tenant=tenant: tenant)  # type: ignore[misc]
            assert cache.lookup_sync(asking(SAME)).answer == tenant
            assert cache.clear() == 1
            assert cache.lookup_sync(asking(SAME)) == Lookup("miss")


def test_conversations_go_by_the_cache_unless_that_is_wanted() -> None:
    def talk(first: str, last: str) -> dict[str, Any]:
        turns = [{"role": "user", "content": first}, {"role": "assistant", "content": "ok"}]
        return {"messages": [*turns, {"role": "user", "content": last}]}

    cache = SemanticCache(Embedder())
    for _ in range(2):
        cache.get_or_call_sync(talk("hi", HIGH), lambda: 1)
    assert cache.stats().reasons == {"multi_turn": 2}
    willing = SemanticCache(Embedder(), multi_turn=True)
    willing.get_or_call_sync(talk("hi", HIGH), lambda: 1)
    assert willing.lookup_sync(talk("hi", SAME)).result == "hit"
    assert willing.lookup_sync(talk("hello", SAME)).result == "miss"


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "m"},
        {"messages": []},
        {"messages": [{"role": "assistant", "content": HIGH}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": "  "}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": iter([])},
    ],
)
def test_requests_without_a_question_go_by_the_cache(request_: dict[str, Any]) -> None:
    cache = SemanticCache(Embedder())
    assert cache.get_or_call_sync(request_, lambda: 1) == 1
    assert cache.stats().reasons == {"no_question": 1}


@pytest.mark.parametrize(
    "of",
    [
        lambda text: {"prompt": text},
        lambda text: {"input": text},
        lambda text: {"input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]},
        lambda text: {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
    ],
)
def test_questions_are_found_in_all_forms(of: Callable[[str], dict[str, Any]]) -> None:
    cache = SemanticCache(Embedder())
    cache.get_or_call_sync(of(HIGH), lambda: 1)
    assert cache.lookup_sync(of(SAME)).result == "hit"


# --- the band -------------------------------------------------------------------------------------------------------


def test_in_the_band_the_verifier_decides() -> None:
    asked = []

    def verify(known: str, question: str, answer: Any) -> bool:
        asked.append((known, question, answer))
        return question == NEAR

    cache = SemanticCache(Embedder(), verify=verify)
    assert answers(cache, HIGH, NEAR) == ["answer 0", "answer 0"]
    assert answers(cache, SAME) == ["answer 0"]  # above the threshold nobody is asked
    assert asked == [(HIGH, NEAR, "answer 0")]


@pytest.mark.parametrize(
    ("verdict", "reason"), [(False, "verifier"), (None, "verifier"), (ValueError(), "verifier_failed")]
)
async def test_without_a_clear_yes_the_call_is_made(verdict: Any, reason: str) -> None:
    async def verify(known: str, question: str, answer: Any) -> Any:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def call() -> str:
        return "new"

    cache = SemanticCache(Embedder(), verify=verify)
    await cache.store(asking(HIGH), "old")
    assert await cache.get_or_call(asking(NEAR), call) == "new"
    assert cache.verdicts().rejections == {reason: 1}


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [ValueError("down"), [], [[1.0], [2.0]], [[math.nan, 1.0]], [[0.0, 0.0]], [[]], [[[1.0]]], ["words"], None],
    ids=repr,
)
def test_where_the_embedder_fails_the_call_is_made(result: Any) -> None:
    def embed(texts: list[str]) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    cache = SemanticCache(embed)
    assert answers(cache, HIGH, HIGH) == ["answer 0", "answer 0"]  # an equal question needs no vector
    assert cache.stats().reasons == {"embedder_failed": 1}


def test_vectors_of_another_dimension_end_all_that_is_known() -> None:
    embed: Any = lambda texts: [[1.0, 0.0] if text == OTHER else VECTORS[text] for text in texts]  # noqa: E731
    cache = SemanticCache(embed)
    answers(cache, HIGH, OTHER)
    assert cache.stats().evictions == {"invalidated": 1}
    assert cache.lookup_sync(asking(OTHER)).result == "hit"
    assert cache.lookup_sync(asking(SAME)).result == "miss"


def test_the_calls_own_exception_passes_and_is_not_kept() -> None:
    cache = SemanticCache(Embedder())
    with pytest.raises(ZeroDivisionError):
        cache.get_or_call_sync(asking(HIGH), lambda: 1 / 0)
    assert answers(cache, SAME) == ["answer 0"]


def test_answers_that_are_not_worth_keeping_make_no_question_known() -> None:
    cache = SemanticCache(Embedder())
    cut = {"choices": [{"index": 0, "finish_reason": "length", "message": {"content": "x"}}]}
    assert cache.get_or_call_sync(asking(HIGH), lambda: cut) == cut
    assert answers(cache, SAME) == ["answer 0"]


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": -0.1},
        {"threshold": 1.1},
        {"threshold": math.nan},
        {"band": -1},
        {"ttl": -1},
        {"max_entries": -1},
        {"embedding_cache": -1},
        {"mode": "play"},
        {"index": "faiss"},
        {"scope": "world"},
        {"embed": "model"},
    ],
)
def test_malformed_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SemanticCache(**{"embed": Embedder(), **options})


def test_without_numpy_the_error_says_what_to_install() -> None:
    out = run(
        """
        import sys
        sys.modules["numpy"] = None
        from seatrace.runtime import SemanticCache
        try:
            SemanticCache(lambda texts: [])
        except ImportError as error:
            print(type(error).__name__, error)
        sys.modules["usearch"] = None
        del sys.modules["numpy"]
        try:
            SemanticCache(lambda texts: [], max_entries=50_001)
        except ImportError as error:
            print(error)
        """
    )
    assert out.startswith(MissingExtraError.__name__)
    assert "pip install 'seatrace[semantic]'" in out
    assert "pip install 'seatrace[ann]'" in out


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_no_more_questions_are_known_than_there_is_room_for() -> None:
    import random

    rng = random.Random(1)
    vectors = {str(at): [rng.gauss(0, 1) for _ in range(16)] for at in range(200)}
    cache = SemanticCache(lambda texts: [vectors[text] for text in texts], max_entries=10)
    answers(cache, *vectors)
    assert cache.stats().entries == 10
    assert len(list(cache._shelf.rows())) == 10
    assert answers(SemanticCache(Embedder(), max_entries=0), HIGH, HIGH) == ["answer 0", "answer 1"]


def test_a_question_whose_answer_is_gone_is_forgotten() -> None:
    cache = SemanticCache(Embedder(), max_bytes=700)  # room for two
    answers(cache, HIGH, OTHER, NEAR)
    assert cache.lookup_sync(asking(SAME)).known == NEAR
    assert cache.lookup_sync(asking(HIGH)) == Lookup("near", pytest.approx(0.87), NEAR)
    assert {row.text for row in cache._shelf.rows()} == {OTHER, NEAR}


@pytest.mark.parametrize("kind", ["numpy", "usearch"])
def test_both_indexes_find_the_nearest(kind: Any) -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    vectors = {str(at): rng.normal(size=32) for at in range(300)}
    close = {f"{name} again": vector + rng.normal(size=32) * 0.02 for name, vector in vectors.items()}
    known = {**vectors, **close}
    cache = SemanticCache(lambda texts: [known[text] for text in texts], index=kind, guard=None, max_entries=250)
    answers(cache, *vectors)
    found = {name: cache.lookup_sync(asking(f"{name} again")) for name in vectors}
    assert [name for name in vectors if found[name].result == "hit"] == [str(at) for at in range(50, 300)]
    assert all(each.known == name for name, each in found.items() if each.result == "hit")


# --- shadow mode and reports ----------------------------------------------------------------------------------------


def chat(words: str) -> dict[str, Any]:
    """An answer of a model."""
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": words}}]}


def test_in_shadow_mode_every_call_is_made_and_would_be_hits_are_judged() -> None:
    VECTORS.update({"At noon.": [1.0, 0.0, 0.0], "It is at noon.": [0.99, 0.14, 0.0], "Ask a sailor.": [0.0, 1.0, 0.0]})
    for new, verdict in (("At noon.", "right"), ("It is at noon.", "right"), ("Ask a sailor.", "wrong")):
        cache = SemanticCache(Embedder(), mode="shadow")
        cache.get_or_call_sync(asking(HIGH), lambda: chat("At noon."))
        assert cache.get_or_call_sync(asking(SAME), lambda new=new: chat(new)) == chat(new)  # type: ignore[misc]
        judged = cache.verdicts()
        assert (judged.right, judged.wrong) == ((1, 0) if verdict == "right" else (0, 1))
    assert SemanticCache(Embedder()).verdicts().wrong_rate is None


def test_whether_answers_agree_can_be_said_by_the_program() -> None:
    for agrees, rate in ((True, 0.0), (False, 1.0)):
        cache = SemanticCache(Embedder(), mode="shadow", agree=lambda kept, new, agrees=agrees: agrees)  # type: ignore[misc]
        answers(cache, HIGH, SAME)
        assert cache.verdicts().wrong_rate == rate

    def broken(kept: Any, new: Any) -> bool:
        raise ValueError

    cache = SemanticCache(Embedder(), mode="shadow", agree=broken)
    assert answers(cache, HIGH, SAME) == ["answer 0", "answer 1"]
    assert cache.verdicts().wrong_rate is None


def test_an_answer_reported_as_wrong_is_not_served_to_that_question_again() -> None:
    cache = SemanticCache(Embedder())
    assert not cache.report_wrong(asking(SAME))
    assert answers(cache, HIGH, SAME) == ["answer 0", "answer 0"]
    assert cache.report_wrong(asking(SAME))
    assert not cache.report_wrong(asking(SAME))
    assert answers(cache, HIGH, SAME) == ["answer 0", "answer 1"]
    assert cache.verdicts().wrong == 1
    assert cache.verdicts().rejections == {"reported": 1}


# --- calibration, files ---------------------------------------------------------------------------------------------


async def test_calibration_says_what_thresholds_do() -> None:
    cache = SemanticCache(Embedder())
    pairs = [(HIGH, SAME, True), (HIGH, NEAR, True), (HIGH, LOW, False), (NEAR, SAME, False)]
    found = await cache.calibrate(pairs, thresholds=(0.98, 0.9, 0.8))
    assert [(row.threshold, row.served, row.wrong) for row in found.rows] == [
        (0.8, 1.0, 0.5),
        (0.9, 0.5, 0.5),
        (0.98, 0.0, 0.5),
    ]
    assert found.rejected == {"antonym": 1}
    assert (found.same, found.different) == (2, 2)
    assert found.best(0.5) == found.rows[0]
    assert found.best(0.4) is None
    assert "threshold   served    wrong" in str(found)
    with pytest.raises(ConfigError, match="some with the same answer and some with different ones"):
        await cache.calibrate([(HIGH, SAME, True)])


def test_a_saved_cache_is_loaded_where_the_same_model_made_its_vectors(tmp_path: Path) -> None:
    path = str(tmp_path / "questions.jsonl")
    first = SemanticCache(Embedder(), embedder="mini-1", ttl=60)
    answers(first, HIGH, OTHER)
    assert first.save(path) == 2
    second, third = SemanticCache(Embedder(), embedder="mini-1"), SemanticCache(Embedder(), embedder="mini-2")
    assert (second.load(path), third.load(path)) == (2, 0)
    assert second.lookup_sync(asking(SAME)).answer == "answer 0"
    assert third.lookup_sync(asking(SAME)) == Lookup("miss")
    head, *lines = Path(path).read_text().splitlines(keepends=True)
    Path(path).write_text("".join([json.dumps({**json.loads(head), "saved": 0}) + "\n", *lines]))  # long ago
    assert SemanticCache(Embedder(), embedder="mini-1").load(path) == 0
    Path(path).write_text("rubbish")
    with pytest.raises(ConfigError, match=r"expected a file that SemanticCache\.save wrote"):
        second.load(path)


# --- what is told ---------------------------------------------------------------------------------------------------


def test_what_is_served_and_held_back_is_told() -> None:
    with capture() as captured:
        cache = SemanticCache(Embedder(), name="faq")
        label = {"seatrace.cache.name": "faq"}
        told = [
            dict(each.attributes)
            for name in ("rejections", "verdicts")
            for each in captured.points(f"seatrace.cache.{name}")
        ]
        zeros = [each for each in told if label.items() <= each.items()]
        reasons = {"number", "negation", "antonym", "scope", "entity", "verifier", "verifier_failed", "reported"}
        assert {each.get("seatrace.cache.rejection.reason") for each in zeros} == {*reasons, None}
        assert len(zeros) == len(reasons) + 4
        asked = client(completion())

        def call() -> Any:
            return ask(asked, HIGH)

        for text in (HIGH, SAME, LOW):
            cache.get_or_call_sync({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}, call)
        cache.report_wrong({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": SAME}]})
        assert captured.total("seatrace.cache.requests", **label, **{"seatrace.cache.kind": "semantic"}) == 3
        assert captured.total("seatrace.cache.requests", **label, **{"seatrace.cache.result": "hit"}) == 1
        assert (
            captured.total("seatrace.cache.rejections", **label, **{"seatrace.cache.rejection.reason": "antonym"}) == 1
        )
        assert captured.total("seatrace.cache.verdicts", **label, **{"seatrace.cache.verdict.source": "report"}) == 1
        assert captured.total("seatrace.saved.tokens", **{"seatrace.saving.source": "semantic_cache"}) == 15
        [hit] = [span for span in captured.spans if "seatrace.cache.result" in span.attributes]
        assert hit.name == "chat gpt-4o-mini"
        assert hit.attributes["seatrace.cache.hit.similarity"] == pytest.approx(0.95)
        similar = {
            point.attributes["seatrace.cache.result"]: point.count
            for point in captured.points("seatrace.cache.similarity")
        }
        assert similar == {"hit": 1, "miss": 1}


def test_models_of_a_client_library_come_back_as_such() -> None:
    cache, asked = SemanticCache(Embedder()), client(completion())
    first = cache.get_or_call_sync(asking(HIGH), lambda: ask(asked))
    second = cache.get_or_call_sync(asking(SAME), lambda: ask(asked))
    assert first == second
    assert type(first) is type(second)


def test_an_exact_cache_may_stand_in_front() -> None:
    exact, fuzzy, calls = ResponseCache(policy="always"), SemanticCache(Embedder()), []

    def call() -> str:
        calls.append(1)
        return "answer"

    for text in (HIGH, SAME, SAME):
        request = asking(text)
        assert (
            exact.get_or_call_sync(request, lambda request=request: fuzzy.get_or_call_sync(request, call)) == "answer"
        )  # type: ignore[misc]
    assert len(calls) == 1
    assert exact.stats().hits == 1
    assert lexical_guard(HIGH, SAME) is None
