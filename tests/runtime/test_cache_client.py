"""Clients of openai and anthropic answered out of a cache: what comes back is of the library's own types."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import inspect
import math
from typing import Any

import anthropic
import openai
import pydantic
import pytest

import seatrace
from contract.rows import ANTHROPIC_ROWS, OPENAI_ROWS, Row
from contract.wire import Answer, Provider, as_json
from model import CHUNKS, COMPLETION, ask, client, completion, stream
from seatrace.errors import ConfigError
from seatrace.runtime import CachePolicy, ResponseCache
from seatrace.testing import capture

ALL = CachePolicy(
    requests="always", tool_turns=True, refusals=True, finish_reasons=frozenset({"stop", "length", "content_filter"})
)
KEPT = ("chat ", "text_completion ", "embeddings ", "moderation ", "count_tokens ")
ROWS = [row for row in (*OPENAI_ROWS, *ANTHROPIC_ROWS) if row.name.startswith(KEPT) and row.exists]
STREAMS = [row for row in ROWS if row.stream is not None and row.raw_stream]
each_row = pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
each_stream = pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in STREAMS])
observed_or_not = pytest.mark.parametrize("on", [True, False], ids=["observed", "not observed"])


def observation(on: bool) -> Any:
    """seatrace on, or not."""
    return capture() if on else contextlib.nullcontext()


@observed_or_not
@each_row
def test_a_second_call_gets_an_equal_answer_of_the_same_type(row: Row, on: bool) -> None:
    with observation(on):
        provider, cache = Provider(row.answer), ResponseCache(policy=ALL)
        cached = cache.instrument_client(row.connect(provider, "sync"))
        first, second = row.call(cached), row.call(cached)
        assert type(first) is type(second) is type(row.call(row.connect(Provider(row.answer), "sync")))
        assert first == second
        assert first is not second
        assert len(provider.sent) == 1
        assert cache.stats().hits == 1


@each_row
async def test_asynchronous_clients_are_answered_as_well(row: Row) -> None:
    provider, cache = Provider(row.answer), ResponseCache(policy=ALL)
    cached = cache.instrument_client(row.connect(provider, "async"))
    found = await asyncio.gather(*(row.call(cached) for _ in range(20)))
    assert found == [found[0]] * 20
    assert len({id(each) for each in found}) == 20
    assert len({type(each) for each in found}) == 1
    assert len(provider.sent) == 1


@observed_or_not
@each_stream
def test_a_stream_is_replayed_chunk_by_chunk(row: Row, on: bool) -> None:
    with observation(on):
        provider, cache = Provider(row.stream_answer(row.events)), ResponseCache(policy=ALL)
        cached = cache.instrument_client(row.connect(provider, "sync"))
        first = row.call(cached, stream=True)
        chunks = list(first)
        second = row.call(cached, stream=True)
        assert type(first) is type(second)
        assert next(iter(second)) == chunks[0]
        assert list(row.call(cached, stream=True)) == chunks
        assert len(chunks) == row.chunks
        assert len(provider.sent) == 1


@each_stream
async def test_asynchronous_streams_are_replayed_as_well(row: Row) -> None:
    provider, cache = Provider(row.stream_answer(row.events)), ResponseCache(policy=ALL)
    cached = cache.instrument_client(row.connect(provider, "async"))
    first = [chunk async for chunk in await row.call(cached, stream=True)]
    assert [chunk async for chunk in await row.call(cached, stream=True)] == first
    assert len(provider.sent) == 1


async def test_a_stream_that_goes_to_a_file_is_kept_from_an_event_loop(tmp_path: Any) -> None:
    cache = ResponseCache(f"sqlite:///{tmp_path}/cache.db")
    provider = Provider(stream())
    cached = cache.instrument_client(provider.client("openai", "AsyncOpenAI", api_key="x"))
    first = [chunk async for chunk in await ask(cached, temperature=0, stream=True)]
    while cache.stats().entries != 1:
        await asyncio.sleep(0.001)
    assert [chunk async for chunk in await ask(cached, temperature=0, stream=True)] == first
    assert len(provider.sent) == 1
    cache.close()


@pytest.mark.parametrize("leave", ["break", "close", "drop"])
def test_a_stream_that_was_left_early_is_not_kept(leave: str) -> None:
    cache = ResponseCache()
    cached = cache.instrument_client(client(stream()))
    for _ in range(2):
        chunks = ask(cached, temperature=0, stream=True)
        next(iter(chunks))
        if leave == "close":
            chunks.close()
        del chunks
    assert (cache.stats().misses, cache.stats().entries) == (2, 0)


def test_a_stream_is_not_waited_for() -> None:
    cached = ResponseCache().instrument_client(client(stream()))
    one = ask(cached, temperature=0, stream=True)
    next(iter(one))
    assert len(list(ask(cached, temperature=0, stream=True))) == len(CHUNKS)
    assert len(list(one)) == len(CHUNKS) - 1


def test_compressed_answers_are_kept() -> None:
    packed = [gzip.compress(b"".join(stream().body))]
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    provider = Provider(Answer(packed, headers=headers))
    cached = ResponseCache().instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    replays = [list(ask(cached, temperature=0, stream=True)) for _ in range(2)]
    assert replays[0] == replays[1]
    assert len(provider.sent) == 1


def test_a_stream_and_a_plain_answer_are_kept_apart() -> None:
    provider = Provider(completion(), stream())
    cached = ResponseCache().instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    for _ in range(2):
        assert ask(cached, temperature=0).choices[0].message.content == "ahoy"
        assert len(list(ask(cached, temperature=0, stream=True))) == len(CHUNKS)
    assert len(provider.sent) == 2


# --- parse, helpers, raw responses --------------------------------------------------------------------------------


class Greeting(pydantic.BaseModel):
    """What a model is to answer."""

    word: str


def parse_of(of: Any) -> Any:
    """The method, which older versions have in another place."""
    return getattr(of.chat.completions, "parse", None) or of.beta.chat.completions.parse


def test_parse_gives_parsed_answers() -> None:
    words = {"role": "assistant", "content": '{"word": "ahoy"}'}
    provider = Provider(completion(choices=[{"index": 0, "finish_reason": "stop", "message": words}]))
    cached = ResponseCache().instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    options: Any = {"model": "m", "messages": [], "temperature": 0, "response_format": Greeting}
    first, second = (parse_of(cached)(**options) for _ in range(2))
    assert type(first) is type(second)
    assert second.choices[0].message.parsed == Greeting(word="ahoy")
    assert len(provider.sent) == 1


def test_parse_refuses_a_kept_answer_as_it_would_a_new_one() -> None:
    cached = ResponseCache(policy=ALL).instrument_client(client(completion()))
    ask(cached, response_format={"type": "json_object"})

    class Other(pydantic.BaseModel):
        word: str

    for _ in range(2):
        with pytest.raises(pydantic.ValidationError):
            parse_of(cached)(model="m", messages=[], response_format=Other)


def test_the_stream_helper_of_anthropic_is_replayed() -> None:
    row = ANTHROPIC_ROWS[0]
    provider = Provider(row.stream_answer(row.events))
    cached = ResponseCache(policy=ALL).instrument_client(row.connect(provider, "sync"))
    said = []
    for _ in range(2):
        with cached.messages.stream(**row.arguments) as helper:
            said.append((list(helper.text_stream), helper.get_final_message()))
    assert said[0] == said[1]
    assert len(provider.sent) == 1


def test_raw_responses_are_answered_too() -> None:
    provider = Provider(as_json(COMPLETION, **{"x-request-id": "r1", "x-ratelimit-remaining": "5"}))
    cached = ResponseCache().instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    options: Any = {"model": "m", "messages": [], "temperature": 0}
    first, second = (cached.chat.completions.with_raw_response.create(**options) for _ in range(2))
    assert type(first) is type(second)
    assert first.parse() == second.parse()
    assert second.request_id == "r1"
    assert "x-ratelimit-remaining" not in second.headers  # of another time
    assert cached.chat.completions.create(**options) == second.parse()
    assert second.http_request.url == first.http_request.url
    assert second.elapsed.total_seconds() == 0
    assert len(provider.sent) == 1


def test_a_response_that_is_read_raw_as_it_comes_goes_by_the_cache() -> None:
    cache, provider = ResponseCache(), Provider(completion())
    cached = cache.instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    for _ in range(2):
        with cached.chat.completions.with_streaming_response.create(model="m", messages=[], temperature=0) as raw:
            assert b"ahoy" in raw.read()
    assert len(provider.sent) == 2
    assert cache.stats().reasons == {"raw": 2}


def test_images_go_by_the_cache() -> None:
    [row] = [row for row in OPENAI_ROWS if row.path == "images.generate"][:1]
    cache, provider = ResponseCache(policy="always"), Provider(row.answer)
    cached = cache.instrument_client(row.connect(provider, "sync"))
    for _ in range(2):
        row.call(cached)
    assert len(provider.sent) == 2


# --- what is the same request ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"}, {"seed": 1}, {"top_p": 0.5}, {"extra_body": {"x": 1}}, {"extra_query": {"x": 1}},
        {"tools": []}, {"extra_headers": {"OpenAI-Beta": "x"}}, {"stop": "a"}, {"max_tokens": 1},
    ],
)  # fmt: skip
def test_what_changes_the_answer_is_another_request(change: dict[str, Any]) -> None:
    provider = Provider(completion())
    cached = ResponseCache().instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    ask(cached, temperature=0)
    ask(cached, **{"temperature": 0, **change})
    assert len(provider.sent) == 2


@pytest.mark.parametrize(
    "change", [{"user": "u"}, {"metadata": {"a": "b"}}, {"timeout": 5}, {"extra_headers": {"X-Mine": "1"}}]
)
def test_what_does_not_is_the_same(change: dict[str, Any]) -> None:
    provider = Provider(completion())
    cached = ResponseCache().instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    ask(cached, temperature=0)
    ask(cached, **{"temperature": 0, **change})
    assert len(provider.sent) == 1


def test_betas_of_anthropic_are_another_request() -> None:
    row = ANTHROPIC_ROWS[0]
    provider = Provider(row.answer)
    cached = ResponseCache(policy=ALL).instrument_client(row.connect(provider, "sync"))
    for betas in ([], ["a"], ["a"]):
        cached.beta.messages.create(**row.arguments, betas=betas)
    assert len(provider.sent) == 2


def test_two_addresses_are_two_caches() -> None:
    cache, providers = ResponseCache(), [Provider(completion()), Provider(completion())]
    for at, provider in enumerate(providers):
        cached = cache.instrument_client(
            provider.client("openai", "OpenAI", api_key="x", base_url=f"http://host{at}/v1")
        )
        ask(cached, temperature=0)
    assert [len(provider.sent) for provider in providers] == [1, 1]


def test_an_iterator_of_messages_is_not_consumed_by_the_key() -> None:
    cache, provider = ResponseCache(), Provider(completion())
    cached = cache.instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    cached.chat.completions.create(model="m", messages=iter([{"role": "user", "content": "x"}]), temperature=0)
    assert provider.sent[0].document["messages"] == [{"role": "user", "content": "x"}]


# --- errors ---------------------------------------------------------------------------------------------------------


def test_failures_are_the_clients_own_and_are_not_kept() -> None:
    provider = Provider(as_json({"error": {"message": "no"}}, 400), completion())
    cached = ResponseCache().instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    with pytest.raises(openai.BadRequestError):
        ask(cached, temperature=0)
    assert ask(cached, temperature=0).choices[0].message.content == "ahoy"


def test_a_failure_in_the_middle_of_a_stream_is_not_kept() -> None:
    broken = stream()
    broken.body[2:] = [RuntimeError("cut")]
    provider = Provider(broken, stream())
    cache = ResponseCache()
    cached = cache.instrument_client(provider.client("openai", "OpenAI", api_key="x", max_retries=0))
    with pytest.raises(RuntimeError):
        list(ask(cached, temperature=0, stream=True))
    assert cache.stats().entries == 0
    assert len(list(ask(cached, temperature=0, stream=True))) == len(CHUNKS)


def test_an_old_answer_stands_in_for_a_failed_call() -> None:
    provider = Provider(completion(), as_json({"error": {"message": "no"}}, 500))
    cache = ResponseCache(stale_if_error=math.inf, ttl=1e-9)
    cached = cache.instrument_client(provider.client("openai", "OpenAI", api_key="x", max_retries=0))
    assert ask(cached, temperature=0) == ask(cached, temperature=0)
    assert cache.stats().stale == 1


# --- the client -----------------------------------------------------------------------------------------------------


def test_what_with_options_makes_is_cached_too() -> None:
    provider = Provider(completion())
    cached = ResponseCache().instrument_client(provider.client("openai", "OpenAI", api_key="x"))
    derived = cached.with_options(timeout=5).copy(max_retries=1)
    assert type(derived) is openai.OpenAI
    assert ask(derived, temperature=0) == ask(cached, temperature=0)
    assert len(provider.sent) == 1


def test_a_released_client_is_as_it_was() -> None:
    provider, cache = Provider(completion()), ResponseCache()
    plain = provider.client("openai", "OpenAI", api_key="x")
    before = dict(vars(plain))
    cached = cache.instrument_client(plain)
    assert cached is plain
    ask(cached, temperature=0)
    cache.release_client(cached)
    assert vars(plain).keys() - before.keys() <= {"chat", "_platform"}  # what the library itself keeps there
    ask(plain, temperature=0)
    assert len(provider.sent) == 2


def test_what_is_no_client_is_refused() -> None:
    cache = ResponseCache()
    for other in (object(), openai.OpenAI, None):
        with pytest.raises(ConfigError, match="expected a client of openai or anthropic, got"):
            cache.instrument_client(other)
    cached = cache.instrument_client(client())
    with pytest.raises(ConfigError, match="expected a client without a cache"):
        ResponseCache().instrument_client(cached)


@pytest.mark.skipif(
    "middleware" not in inspect.signature(anthropic.Anthropic).parameters, reason="this anthropic has no middleware"
)
def test_a_client_with_middleware_goes_by_the_cache() -> None:
    row, seen = ANTHROPIC_ROWS[0], []

    def note(request: Any, call_next: Any) -> Any:
        seen.append(request)
        return call_next(request)

    cache = ResponseCache(policy=ALL)
    cached = cache.instrument_client(row.connect(Provider(row.answer), "sync", middleware=[note]))
    for _ in range(2):
        row.call(cached)
    assert len(seen) == 2
    assert cache.stats().reasons == {"raw": 2}


# --- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
def test_a_hit_is_a_span_of_its_own_and_no_use_of_tokens(streams: bool) -> None:
    with capture() as captured:
        cache = ResponseCache(name="answers")
        cached = cache.instrument_client(client(stream() if streams else completion()))
        with seatrace.session(tenant="acme"), seatrace.agent("sailor"):
            for _ in range(2):
                answer = ask(cached, temperature=0, stream=streams)
                assert not streams or list(answer)
        made, hit = (span for span in captured.spans if span.name == "chat gpt-4o-mini")
        attributes = dict(hit.attributes)
        assert attributes.pop("seatrace.cache.saved.cost") == pytest.approx(4.5e-6)
        assert attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.agent.name": "sailor",
            "seatrace.tenant": "acme",
            "server.address": "api.openai.com",
            "server.port": 443,
            "seatrace.cache.name": "answers",
            "seatrace.cache.result": "hit",
            "seatrace.cache.saved.tokens": 15,
        }
        assert [link.context.span_id for link in hit.links] == [made.context.span_id]
        assert captured.total("gen_ai.client.inference.usage.input_tokens") == 10
        assert captured.total("seatrace.cost") == pytest.approx(4.5e-6)
        whose = {"seatrace.saving.source": "cache", "seatrace.tenant": "acme", "gen_ai.agent.name": "sailor"}
        assert captured.total("seatrace.saved.cost", **whose) == pytest.approx(4.5e-6)
        assert captured.total("seatrace.saved.tokens", **whose, **{"gen_ai.request.model": "gpt-4o-mini"}) == 15
        assert len(captured.points("seatrace.saved.time")) == 1  # maybe none: the provider here is as fast as the cache
        [run] = [span for span in captured.spans if span.name == "invoke_agent sailor"]
        assert run.attributes["seatrace.run.model_calls"] == 1
        assert run.attributes["gen_ai.usage.input_tokens"] == 10


def test_lookups_entries_and_evictions_are_counted_from_zero_on() -> None:
    with capture() as captured:
        cache = ResponseCache("memory://?max_entries=1", name="counted")
        results = "hit", "miss", "stale", "coalesced", "bypass", "error"
        label = {"seatrace.cache.name": "counted", "seatrace.cache.kind": "exact"}
        assert {
            dict(point.attributes)["seatrace.cache.result"] for point in captured.points("seatrace.cache.requests")
        } == {*results}
        reasons = {
            dict(point.attributes)["seatrace.cache.eviction.reason"]
            for point in captured.points("seatrace.cache.evictions")
        }
        assert reasons == {"lru", "size", "ttl", "invalidated"}
        assert captured.total("seatrace.cache.requests") == 0
        for request in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {}):
            cache.get_or_call_sync(request, lambda: 1)
        told = {
            result: captured.total("seatrace.cache.requests", **label, **{"seatrace.cache.result": result})
            for result in results
        }
        assert told == {"hit": 1, "miss": 2, "stale": 0, "coalesced": 0, "bypass": 1, "error": 0}
        assert captured.total("seatrace.cache.evictions", **label, **{"seatrace.cache.eviction.reason": "lru"}) == 1
        assert captured.total("seatrace.cache.entries", **label) == 1
        assert captured.total("seatrace.cache.size", **label) == cache.stats().bytes
        [age] = captured.points("seatrace.cache.entry.age")
        [looked] = captured.points("seatrace.cache.lookup.duration")
        assert (age.count, looked.count) == (1, 3)


def test_a_cache_made_before_seatrace_is_switched_on_is_seen() -> None:
    cache = ResponseCache(name="early")
    cache.set({"seed": 1}, 1)
    with capture() as captured:
        assert captured.total("seatrace.cache.entries", **{"seatrace.cache.name": "early"}) == 1


def test_the_cost_of_any_calls_inside_is_what_a_hit_saves() -> None:
    with capture() as captured:
        cache, asked = ResponseCache(), client(completion())

        def twice() -> str:
            return "".join(ask(asked).choices[0].message.content for _ in range(2))

        for _ in range(2):
            cache.get_or_call_sync({"model": "m", "seed": 1}, twice)
        assert captured.total("seatrace.saved.tokens") == 30
        assert cache.stats().saved_cost == pytest.approx(2 * 4.5e-6)
        assert captured.total("seatrace.cost") == pytest.approx(2 * 4.5e-6)


def test_the_cost_of_a_call_without_a_price_is_not_guessed() -> None:
    with capture() as captured:
        cache, asked = ResponseCache(), client(completion(model="nobody-knows"))
        for _ in range(2):
            cache.get_or_call_sync({"seed": 1}, lambda: ask(asked, model="nobody-knows").choices[0].message.content)
        assert captured.points("seatrace.saved.cost") == []
        assert captured.total("seatrace.saved.tokens") == 15
        assert "seatrace.cache.saved.cost" not in captured.spans[-1].attributes


def test_where_observation_is_suppressed_a_hit_has_no_span() -> None:
    with capture() as captured:
        cache = ResponseCache()
        cache.set({"seed": 1}, 1)
        with seatrace.suppress():
            assert cache.get({"seed": 1}) == 1
        assert captured.spans == []
