"""Streams that are watched or gathered: what comes out is what went in, in order, in time, whatever happens."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from typing import Any

import anthropic
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrace import testing
from seatrace.demo.provider import FakeProvider
from seatrace.errors import ConfigError
from seatrace.runtime import AsyncBufferedStream, BufferedStream, Piece, observe_stream

from .virtual import run

TOOL: Any = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}


async def spaced(*parts: tuple[float, Any]) -> AsyncIterator[Any]:
    """Each part after its time; an exception is raised."""
    for seconds, part in parts:
        await asyncio.sleep(seconds)
        if isinstance(part, BaseException):
            raise part
        yield part


async def timed(stream: Any) -> list[tuple[float, str]]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    return [(round(loop.time() - began, 3), str(piece)) async for piece in stream]


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


# --- observe_stream ---------------------------------------------------------------------------------------------------


def test_an_observed_stream_yields_the_same_objects_lazily() -> None:
    pulled: list[int] = []
    chunks = [object(), object()]

    def source() -> Iterator[object]:
        for number, chunk in enumerate(chunks):
            pulled.append(number)
            yield chunk

    stream = observe_stream(source())
    assert pulled == []
    assert next(stream) is chunks[0]
    assert pulled == [0]
    assert list(stream) == [chunks[1]]


def test_a_finished_stream_tells_how_it_went() -> None:
    with testing.capture() as captured:
        run(timed(observe_stream(spaced((0, "a"), (0, "b")), name="answer")))
        (span,) = captured.spans
        assert span.name == "stream answer"
        first = span.attributes["gen_ai.response.time_to_first_chunk"]
        assert span.attributes == {
            "seatrace.stream.name": "answer",
            "seatrace.stream.outcome": "completed",
            "seatrace.stream.chunk_count": 2,
            "seatrace.stream.stall_count": 0,
            "gen_ai.response.time_to_first_chunk": first,
        }
        assert captured.total("seatrace.stream.time_to_first_chunk") == first
        assert captured.total("seatrace.stream.chunks", seatrace_stream_direction="in") == 2
        assert captured.points("seatrace.stream.duration")[0].attributes["seatrace.stream.outcome"] == "completed"


def test_waiting_for_a_chunk_is_a_stall_and_a_slow_consumer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr("seatrace.runtime._watch.perf_counter_ns", lambda: now)

    def pass_by(milliseconds: int) -> None:
        nonlocal now
        now += milliseconds * 1_000_000

    def source() -> Iterator[int]:
        yield 1
        pass_by(29)
        yield 2
        pass_by(50)
        yield 3

    with testing.capture() as captured:
        stream = observe_stream(source(), stall_after=0.03)
        next(stream)
        pass_by(50)  # the consumer takes its time
        next(stream)
        assert captured.total("seatrace.stream.stalls") == 0
        next(stream)
        stream.close()
        assert captured.total("seatrace.stream.stalls") == 1


class _Mine(Exception):
    pass


@pytest.mark.parametrize("way", ["error", "close", "drop", "with"])
def test_a_stream_ends_once_however_it_does(way: str) -> None:
    closed: list[bool] = []

    def source() -> Iterator[int]:
        try:
            yield 1
            raise _Mine
        finally:
            closed.append(True)

    with testing.capture() as captured:
        stream = observe_stream(source())
        assert next(stream) == 1
        if way == "error":
            with pytest.raises(_Mine):
                next(stream)
        elif way == "close":
            stream.close()
        elif way == "with":
            with stream:
                pass
        del stream
        gc.collect()
        (span,) = captured.spans
        assert span.attributes["seatrace.stream.outcome"] == ("error" if way == "error" else "abandoned")
        assert span.attributes.get("error.type") == ("_Mine" if way == "error" else None)
        assert closed == [True]


def test_a_cancelled_stream_was_abandoned() -> None:
    async def main() -> None:
        async for _ in observe_stream(spaced((0, 1), (60, 2))):
            asyncio.get_running_loop().call_soon(task.cancel)

    async def around() -> None:
        nonlocal task
        task = asyncio.ensure_future(main())
        with pytest.raises(asyncio.CancelledError):
            await task

    task: Any = None
    with testing.capture() as captured:
        run(around())
        assert captured.spans[0].attributes["seatrace.stream.outcome"] == "abandoned"
        assert captured.spans[0].status.status_code.name == "UNSET"


def test_a_client_librarys_stream_keeps_its_face(provider: FakeProvider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
        raw = client.chat.completions.create(
            model="gpt-5-mini", messages=[{"role": "user", "content": "Tide?"}], stream=True
        )
        with observe_stream(raw) as stream:
            assert type(next(stream)).__name__ == "ChatCompletionChunk"
            assert stream.response is raw.response
        assert raw.response.is_closed


# --- what a buffered stream hands out ---------------------------------------------------------------------------------


def test_text_goes_out_in_time_though_no_further_chunk_comes() -> None:
    pieces = run(timed(AsyncBufferedStream(spaced((0, "Hel"), (0.01, "lo"), (60, " there"), (0.01, "!")))))
    assert pieces == [(0.05, "Hello"), (60.06, " there"), (60.06, "!")] or pieces == [
        (0.05, "Hello"),
        (60.02, " there!"),
    ]


def test_text_goes_out_in_time_though_the_source_blocks() -> None:
    release = threading.Event()

    def source() -> Iterator[str]:
        yield "Hel"
        yield "lo"
        assert release.wait(30)
        yield "!"

    stream = BufferedStream(source(), max_delay=0.001)
    first = ""
    while len(first) < 5:
        first += next(stream)
    release.set()  # not before all text so far had come
    assert first + "".join(stream) == "Hello!"


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.floats(0, 0.2), st.one_of(st.text(max_size=30), st.integers())),
        max_size=25,
    ),
    end=st.sampled_from([None, _Mine()]),
    max_delay=st.floats(0, 0.2),
    max_chars=st.integers(1, 40),
    split=st.sampled_from(["char", "word", "sentence", "grapheme"]),
)
def test_nothing_is_lost_reordered_or_held_too_long(
    parts: list[tuple[float, Any]], end: Exception | None, max_delay: float, max_chars: int, split: Any
) -> None:
    arrived: list[tuple[float, Any]] = []
    left: list[tuple[float, Piece]] = []

    async def source() -> AsyncIterator[Any]:
        for gap, part in parts:
            await asyncio.sleep(gap)
            arrived.append((asyncio.get_running_loop().time(), part))
            yield part
        if end is not None:
            raise end

    def words(part: Any) -> str | None:
        return part if isinstance(part, str) else None

    async def main() -> None:
        stream = AsyncBufferedStream(source(), max_delay=max_delay, max_chars=max_chars, split=split, text=words)
        with pytest.raises(_Mine) if end is not None else nullcontext():
            async for piece in stream:
                left.append((asyncio.get_running_loop().time(), piece))

    run(main())
    # The same text, and every other chunk at the same place in it.
    came: list[Any] = []
    for _, piece in left:
        came.extend(piece if piece.chunk is None else [piece.chunk])
        assert len(piece) <= max_chars
    went = [each for _, part in arrived for each in (part if isinstance(part, str) else [part])]
    assert came == went
    # Each character within its time.
    times = [at for at, part in arrived for _ in (part if isinstance(part, str) else [part])]
    out = [at for at, piece in left for _ in (piece if piece.chunk is None else [piece.chunk])]
    assert all(later - earlier <= max_delay + 1e-6 for earlier, later in zip(times, out, strict=True))


def test_pieces_end_behind_words_where_they_can() -> None:
    parts = [(0.02, each) for each in ("The t", "ide tu", "rns at ", "noo", "n")]
    pieces = [text for _, text in run(timed(AsyncBufferedStream(spaced(*parts), split="word")))]
    assert "".join(pieces) == "The tide turns at noon"
    assert pieces == ["The tide turns at ", "noon"]


def test_sentences_go_out_as_soon_as_they_are_whole() -> None:
    parts = [(1, "It rises. It fa"), (1, "lls. 3.5 m"), (1, "etres。引く")]
    pieces = run(timed(AsyncBufferedStream(spaced(*parts), split="sentence", max_delay=60)))
    assert pieces == [(1, "It rises. "), (2, "It falls. "), (3, "3.5 metres。"), (3, "引く")]


@pytest.mark.parametrize(
    "cluster",
    ["e\u0301", "👩‍👩‍👧‍👦", "👍🏽", "🇯🇵", "각", "क्ष", "\r\n", "☺\ufe0f"],
    ids=["accent", "family", "skin tone", "flag", "hangul", "virama", "line end", "variation"],
)
def test_a_character_as_readers_see_it_is_not_cut(cluster: str) -> None:
    parts = [(0, "ab"), *((0.01, each) for each in cluster), (0.01, "z"), (9, "!")]
    pieces = [text for _, text in run(timed(AsyncBufferedStream(spaced(*parts), split="grapheme", max_chars=3)))]
    assert "".join(pieces) == f"ab{cluster}z!"
    if len(cluster) <= 3:
        assert any(cluster in piece for piece in pieces)
    late = [text for _, text in run(timed(AsyncBufferedStream(spaced(*parts), split="grapheme", max_delay=0.5)))]
    assert late == [f"ab{cluster}", "z", "!"]


def test_a_huge_chunk_comes_in_pieces() -> None:
    pieces = list(BufferedStream(["x" * 10_000, "y"], max_chars=256, max_delay=60))
    assert max(map(len, pieces)) == 256
    assert "".join(pieces) == "x" * 10_000 + "y"


def test_what_was_pulled_is_handed_out_after_a_close() -> None:
    async def main() -> None:
        closed = asyncio.Event()

        async def source() -> AsyncIterator[str]:
            try:
                yield "one "
                yield "two"
                await asyncio.sleep(60)
            finally:
                closed.set()

        stream = AsyncBufferedStream(source(), max_delay=30, max_chars=4)
        assert await stream.__anext__() == "one "
        await asyncio.sleep(1)
        await stream.aclose()
        assert closed.is_set()
        assert [piece async for piece in stream] == ["two"]

    run(main())


def test_a_stream_that_was_never_begun_closes_its_source() -> None:
    closed: list[str] = []

    class Source:
        def __iter__(self) -> Iterator[str]:
            return iter("abc")

        def close(self) -> None:
            closed.append("sync")

        def __aiter__(self) -> AsyncIterator[str]:
            return spaced()

        async def aclose(self) -> None:
            closed.append("async")

    with BufferedStream(Source()) as stream:
        pass
    assert list(stream) == []
    run(AsyncBufferedStream(Source()).aclose())
    assert closed == ["sync", "async"]


def test_a_dropped_stream_lets_go_of_its_source() -> None:
    gone = threading.Event()

    def source() -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            gone.set()

    stream = BufferedStream(source(), max_chars=8)
    assert next(stream)
    del stream
    assert gone.wait(30)

    async def main() -> None:
        left = asyncio.Event()

        async def endless() -> AsyncIterator[str]:
            try:
                while True:
                    yield "x"
                    await asyncio.sleep(0)
            finally:
                left.set()

        async for _ in AsyncBufferedStream(endless()):
            break
        await left.wait()

    run(main())


def test_a_slow_consumer_holds_the_source_back() -> None:
    pulled = 0

    async def source() -> AsyncIterator[str]:
        nonlocal pulled
        for _ in range(1_000):
            pulled += 1
            yield "xxxxxxxxxx"

    async def main() -> None:
        stream = AsyncBufferedStream(source(), max_chars=50)
        await stream.__anext__()
        await asyncio.sleep(10)
        assert pulled <= 12
        await stream.aclose()

    run(main())


def test_a_text_function_that_fails_is_the_streams_error_and_closes_it() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    def read(chunk: int) -> str:
        raise _Mine(chunk)

    with pytest.raises(_Mine):
        list(BufferedStream(source(), text=read))
    assert closed.wait(30)


def test_a_generators_context_is_one_throughout() -> None:
    async def source() -> AsyncIterator[str]:
        async with asyncio.timeout(50) if hasattr(asyncio, "timeout") else _nothing():
            for each in "abc":
                await asyncio.sleep(1)
                yield each

    assert "".join(text for _, text in run(timed(AsyncBufferedStream(source())))) == "abc"


class _nothing:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


# --- client libraries -------------------------------------------------------------------------------------------------


def _rest(pieces: list[Piece]) -> list[Any]:
    return [piece.chunk for piece in pieces if piece.chunk is not None]


def test_openai_chat_text_is_gathered_and_the_rest_passes(provider: FakeProvider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:

        def ask(**more: Any) -> Any:
            return client.chat.completions.create(
                model="gpt-5-mini",
                messages=[{"role": "user", "content": "What makes the tide?"}],
                stream=True,
                stream_options={"include_usage": True},
                **more,
            )

        whole = list(ask())
        pieces = list(BufferedStream(ask(), max_delay=60, max_chars=100_000))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in whole if chunk.choices)
    assert "".join(pieces) == text
    assert len(pieces) < len(whole)
    rest = _rest(pieces)
    assert rest[-1].usage is not None
    assert [choice.finish_reason for chunk in rest for choice in chunk.choices][-1] == "stop"


def test_openai_tool_calls_pass_as_they_came() -> None:
    def chunk(**delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    call = chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "tide", "arguments": "{"}}])
    both = chunk(content="!", tool_calls=[{"index": 0}])
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    second = {"choices": [{"index": 1, "delta": {"content": "other"}}]}
    stream = [chunk(role="assistant", content=""), chunk(content="a"), chunk(content="b"), call, both, second, finish]
    pieces = list(BufferedStream(stream, max_delay=60))
    assert [(str(piece), piece.chunk) for piece in pieces] == [
        ("", stream[0]),
        ("ab", None),
        ("", call),
        ("!", both),
        ("", second),
        ("", finish),
    ]


def test_openai_responses_events_keep_their_order(provider: FakeProvider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none") as client:
        whole = list(client.responses.create(model="gpt-5-mini", input="What makes the tide?", stream=True))
        again = client.responses.create(model="gpt-5-mini", input="What makes the tide?", stream=True)
        pieces = list(BufferedStream(again, max_delay=60, max_chars=100_000))
    assert "".join(pieces) == "".join(event.delta for event in whole if event.type == "response.output_text.delta")
    rest = [event.type for event in whole if event.type != "response.output_text.delta"]
    assert [event.type for event in _rest(pieces)] == rest


async def test_anthropic_events_keep_their_order(provider: FakeProvider) -> None:
    question: Any = {"role": "user", "content": "What makes the tide?"}
    async with anthropic.AsyncAnthropic(base_url=provider.second_url, api_key="none") as client:

        async def ask() -> Any:
            return await client.messages.create(
                model="claude-haiku-4-5", max_tokens=300, messages=[question], stream=True
            )

        whole = [event async for event in await ask()]
        pieces = [piece async for piece in AsyncBufferedStream(await ask(), max_delay=60, max_chars=100_000)]
    deltas = [event for event in whole if event.type == "content_block_delta" and event.delta.type == "text_delta"]
    assert "".join(pieces) == "".join(event.delta.text for event in deltas)
    assert [event.type for event in _rest(pieces)] == [event.type for event in whole if event not in deltas]


# --- what is told, and bad input --------------------------------------------------------------------------------------


def test_a_buffered_stream_tells_why_its_pieces_went_out() -> None:
    with testing.capture() as captured:
        parts = [(0, "abcd"), (0.01, "e"), (1, 7), (0, "f"), (0, _Mine())]

        async def main() -> None:
            stream = AsyncBufferedStream(
                spaced(*parts), max_chars=4, name="ui", text=lambda part: part if isinstance(part, str) else None
            )
            with pytest.raises(_Mine):
                async for _ in stream:
                    pass

        run(main())
        reasons = {
            point.attributes["seatrace.flush.reason"]: point.value
            for point in captured.points("seatrace.stream.flushes")
        }
        assert reasons == {"size": 1, "deadline": 1, "passthrough": 1, "error": 1}
        assert captured.total("seatrace.stream.chunks", seatrace_stream_direction="in") == 4
        assert captured.total("seatrace.stream.chunks", seatrace_stream_direction="out") == 4
        (span,) = captured.spans
        assert span.attributes["seatrace.stream.piece_count"] == 4
        assert span.attributes["error.type"] == "_Mine"


@pytest.mark.parametrize(
    "options",
    [
        {"max_delay": -1},
        {"max_delay": math.nan},
        {"max_chars": 0},
        {"split": "token"},
        {"stall_after": 0},
    ],
    ids=repr,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        BufferedStream(["a"], **options)
    with pytest.raises(ConfigError, match=next(iter(options))):
        AsyncBufferedStream(spaced(), **options)


def test_the_wrong_kind_of_stream_is_named() -> None:
    with pytest.raises(TypeError, match="AsyncBufferedStream takes"):
        BufferedStream(spaced())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="BufferedStream takes"):
        AsyncBufferedStream(["a"])  # type: ignore[arg-type]


def test_a_clock_that_jumps_delays_nothing_for_good() -> None:
    times = iter([100.0, 5.0, 90.0, 1e9] + [2e9] * 10_000)
    assert "".join(BufferedStream(["a", "b", "c"], clock=lambda: next(times), max_delay=0.01)) == "abc"
