"""The conveniences that the libraries build on top of a call: stream helpers, parsing, tool loops, own requests."""

from __future__ import annotations

import copy
import importlib.util
import json
import tracemalloc
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry import trace
from pydantic import BaseModel

from seatrace.testing import capture

from .rows import (
    ANTHROPIC_ROWS,
    CHAT,
    CHAT_EVENTS,
    DONE,
    MESSAGE,
    MESSAGES,
    MODES,
    OPENAI_ROWS,
    RESPONSE,
    RESPONSE_EVENTS,
    RESPONSE_MESSAGE,
    RESPONSE_TEXT,
    STREAMS,
    Row,
    chat_chunk,
    over,
)
from .watch import each, everything, expected, pull, seen, settle, watched, within
from .wire import Answer, Provider, as_events, as_json, data, http_of

CHAT_ROW = OPENAI_ROWS[0]
RESPONSES_ROW = OPENAI_ROWS[3]
MESSAGES_ROW = ANTHROPIC_ROWS[0]
ANTHROPIC_HELPERS = tuple(row for row in ANTHROPIC_ROWS if row.path.endswith("messages.create") and row.raw_stream)
modes = pytest.mark.parametrize("mode", MODES)


class Depth(BaseModel):
    """What the model is asked to fill in."""

    depth: str


def chat_owner(client: Any) -> Any:
    """Where this openai keeps ``parse`` and ``stream`` of chat completions."""
    return client.chat.completions if hasattr(client.chat.completions, "parse") else client.beta.chat.completions


# --- stream helpers ------------------------------------------------------------------------------------------------


@modes
async def test_chat_stream_helper_is_one_whole_span(mode: str) -> None:
    # agentops: TypeError, 'Omit' not iterable
    row = CHAT_ROW
    with watched() as captured:
        client = row.connect(Provider(as_events(CHAT_EVENTS)), mode)
        manager = chat_owner(client).stream(
            model="brook-1", messages=MESSAGES, max_tokens=50, temperature=0.5, stream_options={"include_usage": True}
        )
        assert captured.calls == []
        async with within(manager) as stream:
            kinds = [event.type async for event in each(stream)]
            assert "content.delta" in kinds
            final = await settle(stream.get_final_completion())
        assert final.choices[0].message.content == "Knee-deep."
        assert seen(captured.spans[0]) == expected(row, row.stream_attributes)


@modes
async def test_chat_stream_helper_left_early_ends_its_span(mode: str) -> None:
    row = CHAT_ROW
    with watched() as captured:
        client = row.connect(Provider(as_events(CHAT_EVENTS)), mode)
        manager = chat_owner(client).stream(model="brook-1", messages=MESSAGES, max_tokens=50, temperature=0.5)
        async with within(manager) as stream:
            async for _ in each(stream):
                break
        assert seen(captured.spans[0]) == expected(row, row.begun_attributes)


@modes
async def test_responses_stream_helper_is_one_whole_span(mode: str) -> None:
    row = RESPONSES_ROW
    with watched() as captured:
        client = row.connect(Provider(as_events(RESPONSE_EVENTS)), mode)
        async with within(client.responses.stream(**row.arguments)) as stream:
            assert len([event async for event in each(stream)]) == row.chunks
            assert (await settle(stream.get_final_response())).id == "resp_1"
        assert seen(captured.spans[0]) == expected(row, row.stream_attributes)


def messages_stream(row: Row, client: Any) -> Any:
    """``….messages.stream(…)``."""
    owner = client.beta.messages if row.path.startswith("beta") else client.messages
    return owner.stream(**row.arguments)


@over(ANTHROPIC_HELPERS)
async def test_messages_stream_helper_is_one_whole_span(row: Row, mode: str) -> None:
    # mlflow, openlit: no span; OpenLLMetry: output tokens added twice, none at all for beta
    with watched() as captured:
        client = row.connect(Provider(row.stream_answer(row.events)), mode)
        manager = messages_stream(row, client)
        assert captured.calls == []
        async with within(manager) as stream:
            assert "".join([text async for text in each(stream.text_stream)]) == "Knee-deep."
            assert (await settle(stream.get_final_message())).usage.output_tokens == 20
        assert seen(captured.spans[0]) == expected(row, row.stream_attributes)


@over(ANTHROPIC_HELPERS)
async def test_messages_stream_helper_left_early_ends_its_span(row: Row, mode: str) -> None:
    with watched() as captured:
        client = row.connect(Provider(row.stream_answer(row.events)), mode)
        async with within(messages_stream(row, client)) as stream:
            await pull(stream)
        assert seen(captured.spans[0]) == expected(row, row.begun_attributes)


@over(ANTHROPIC_HELPERS)
async def test_messages_stream_helper_types_are_those_without_us(row: Row, mode: str) -> None:
    # OpenLLMetry, openlit: isinstance(m, MessageStreamManager) is False
    async def types() -> list[type]:
        client = row.connect(Provider(row.stream_answer(row.events)), mode)
        manager = messages_stream(row, client)
        async with within(manager) as stream:
            return [type(manager), type(stream), type(stream.response), *map(type, await everything(stream))]

    bare = await types()
    with watched():
        assert await types() == bare


@over(ANTHROPIC_HELPERS)
async def test_messages_stream_helper_refused(row: Row, mode: str) -> None:
    async def read(client: Any) -> None:
        async with within(messages_stream(row, client)):
            pass

    with watched() as captured:
        client = row.connect(Provider(row.failure(429, "rate_limit_error")), mode)
        with pytest.raises(anthropic.RateLimitError) as caught:
            await read(client)
        assert seen(captured.spans[0]) == expected(
            row,
            {**row.asked, "gen_ai.request.stream": True},
            error="rate_limit_error",
            description=str(caught.value),
            status_code=429,
        )


# --- parsing -------------------------------------------------------------------------------------------------------


def _parsed_chat(content: str, finish: str = "stop") -> Answer:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}
    return as_json({**CHAT, "choices": [choice]})


@modes
async def test_parsed_chat_is_one_whole_span(mode: str) -> None:
    row = CHAT_ROW
    with watched() as captured:
        client = row.connect(Provider(_parsed_chat('{"depth": "knee"}')), mode)
        answer = await settle(chat_owner(client).parse(**row.arguments, response_format=Depth))
        assert answer.choices[0].message.parsed == Depth(depth="knee")
        assert seen(captured.spans[0]) == expected(row, {**row.asked, "gen_ai.output.type": "json", **row.answered})


@modes
async def test_answer_that_cannot_be_parsed_is_an_error_that_was_paid_for(mode: str) -> None:
    row = CHAT_ROW
    with watched() as captured:
        client = row.connect(Provider(_parsed_chat('{"dep', "length")), mode)
        with pytest.raises(openai.LengthFinishReasonError) as caught:
            await settle(chat_owner(client).parse(**row.arguments, response_format=Depth))
        attributes = {**row.asked, "gen_ai.output.type": "json", **row.answered}
        attributes["gen_ai.response.finish_reasons"] = ("length",)
        wanted = expected(row, attributes, error="LengthFinishReasonError", description=str(caught.value))
        assert seen(captured.spans[0]) == wanted


@modes
async def test_parsed_response_is_one_whole_span(mode: str) -> None:
    row = RESPONSES_ROW
    text = {**RESPONSE_MESSAGE, "content": [{**RESPONSE_TEXT, "text": '{"depth": "knee"}'}]}
    with watched() as captured:
        client = row.connect(Provider(as_json({**RESPONSE, "output": [text]})), mode)
        answer = await settle(client.responses.parse(**row.arguments, text_format=Depth))
        assert answer.output_parsed == Depth(depth="knee")
        assert seen(captured.spans[0]) == expected(row, {**row.asked, "gen_ai.output.type": "json", **row.answered})


# --- tool loops ----------------------------------------------------------------------------------------------------

TOOL_USE = {
    **MESSAGE,
    "id": "msg_0",
    "stop_reason": "tool_use",
    "content": [{"type": "tool_use", "id": "toolu_1", "name": "depth", "input": {"place": "bridge"}}],
}


@modes
async def test_tool_runner_makes_one_span_a_model_call(mode: str) -> None:
    if not hasattr(anthropic.resources.beta.messages.Messages, "tool_runner"):
        return
    row = ANTHROPIC_ROWS[1]
    asked: list[str] = []

    if mode == "sync":

        def depth(place: str) -> str:
            """How deep the brook is."""
            asked.append(place)
            return "knee"

        tool: Any = anthropic.beta_tool(depth)
    else:

        async def depth_async(place: str) -> str:
            """How deep the brook is."""
            asked.append(place)
            return "knee"

        tool = anthropic.beta_async_tool(depth_async, name="depth")
    with watched(calls=2) as captured:
        client = row.connect(Provider(as_json(TOOL_USE), as_json(MESSAGE)), mode)
        runner = client.beta.messages.tool_runner(**row.arguments, tools=[tool])
        last = await settle(runner.until_done())
        assert last.content[0].text == "Knee-deep."
        assert asked == ["bridge"]
        first, second = map(seen, captured.spans)
        reasons = "gen_ai.response.finish_reasons"
        changed = {**row.asked, **row.answered, "gen_ai.response.id": "msg_0", reasons: ("tool_call",)}
        assert first == expected(row, changed)
        assert second == expected(row, {**row.asked, **row.answered})


# --- own requests --------------------------------------------------------------------------------------------------


@over((CHAT_ROW, MESSAGES_ROW))
async def test_request_by_hand_is_observed_as_the_method_is(row: Row, mode: str) -> None:
    path = "/chat/completions" if row.library == "openai" else "/v1/messages"
    http = http_of(row.library)
    for kind in (object, http.Response):
        with watched() as captured:
            client = row.connect(Provider(row.answer), mode)
            result = await settle(client.post(path, cast_to=kind, body=row.arguments))
            assert isinstance(result, kind)
            assert seen(captured.spans[0]) == expected(row, {**row.asked, **row.answered})


@over((CHAT_ROW, MESSAGES_ROW))
async def test_other_endpoints_are_left_alone(row: Row, mode: str) -> None:
    with watched(calls=0):
        client = row.connect(Provider(as_json({"data": [], "has_more": False})), mode)
        await settle(client.models.list())
        await settle(client.post("/v1/elsewhere", cast_to=object, body={"model": "brook-1"}))


@over((CHAT_ROW, MESSAGES_ROW))
async def test_options_that_the_caller_uses_again_are_observed_again(row: Row, mode: str) -> None:
    models = importlib.import_module(f"{row.library}._models")
    path = "/chat/completions" if row.library == "openai" else "/v1/messages"
    options = models.FinalRequestOptions(method="post", url=path, json_data=row.arguments)
    kept = copy.copy(options)
    with watched(calls=2) as captured:
        client = row.connect(Provider(row.answer), mode)
        for _ in range(2):
            await settle(client.request(object, options))
        assert [seen(span) for span in captured.spans] == [expected(row, {**row.asked, **row.answered})] * 2
    assert options == kept


@over(STREAMS)
async def test_iterator_inside_a_stream_copies_as_without_us(row: Row, mode: str) -> None:
    async def says() -> Any:
        out = []
        for act in (copy.copy, copy.deepcopy):
            stream = await settle(row.call(row.connect(Provider(row.stream_answer(row.events)), mode), stream=True))
            with pytest.raises(TypeError) as caught:
                act(stream._iterator)
            out.append(str(caught.value))
        return out

    bare = await says()
    with watched(calls=2):
        assert await says() == bare


# --- compressed, split and torn bytes ------------------------------------------------------------------------------


@over((CHAT_ROW, MESSAGES_ROW))
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_events_split_anywhere_are_understood(row: Row, mode: str, size: int) -> None:
    whole = b"".join(row.events).replace(b"\n", b"\r\n")
    packets = [whole[at : at + size] for at in range(0, len(whole), size)]
    with watched(calls=2) as captured:
        client = row.connect(Provider(row.stream_answer(packets)), mode)
        assert len(await everything(await settle(row.call(client, stream=True)))) == row.chunks
        async with within(row.call(client, stream=True, variant="with_streaming_response")) as response:
            await everything(response.iter_bytes())
        assert [seen(span) for span in captured.spans] == [expected(row, row.stream_attributes)] * 2


@over((CHAT_ROW, MESSAGES_ROW))
@pytest.mark.parametrize("part", [1.0, 0.5])
async def test_compressed_body_that_is_read_raw_is_understood_as_far_as_it_came(
    row: Row, mode: str, part: float
) -> None:
    import gzip

    body = gzip.compress(b"".join(row.answer.body))
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    half = len(body) // 2
    with watched() as captured:
        client = row.connect(Provider(Answer([body[:half], body[half:]], headers=headers)), mode)
        async with within(row.call(client, variant="with_streaming_response")) as response:
            raw = response.http_response.iter_raw() if mode == "sync" else response.http_response.aiter_raw()
            async for _ in each(raw):
                if part < 1:
                    break
        answered = row.answered if part == 1 else {}
        assert seen(captured.spans[0]) == expected(row, {**row.asked, **answered})


@modes
async def test_chat_stream_without_usage_has_no_tokens(mode: str) -> None:
    # openlit invents them; opentelemetry-ebpf#2651: missing is not 0
    row = CHAT_ROW
    with watched() as captured:
        events = [data(chat_chunk("Knee")), data(chat_chunk("-deep.", "stop")), DONE]
        client = row.connect(Provider(as_events(events)), mode)
        await everything(await settle(row.call(client, stream=True)))
        wanted = {**row.begun_attributes, "gen_ai.response.finish_reasons": ("stop",)}
        assert seen(captured.spans[0]) == expected(row, wanted)
        assert captured.points("gen_ai.client.inference.usage.input_tokens") == []


@over((CHAT_ROW, RESPONSES_ROW, MESSAGES_ROW))
async def test_content_of_a_stream_is_that_of_the_plain_answer(row: Row, mode: str) -> None:
    with watched(calls=2, capture_content=True) as captured:
        client = row.connect(Provider(row.answer, row.stream_answer(row.events)), mode)
        await settle(row.call(client))
        await everything(await settle(row.call(client, stream=True)))
        plain, streamed = (json.loads(span.attributes["gen_ai.output.messages"]) for span in captured.spans)
        part = {"type": "text", "content": "Knee-deep."}
        assert plain == streamed == [{"role": "assistant", "parts": [part], "finish_reason": "stop"}]


# --- anthropic's own tracing ---------------------------------------------------------------------------------------

NATIVE = tuple(row for row in ANTHROPIC_ROWS if row.exists)
native = pytest.mark.skipif(
    importlib.util.find_spec("anthropic._tracing") is None, reason="this anthropic has no tracing of its own"
)


@native
@over(NATIVE)
async def test_exactly_one_span_beside_the_librarys_own_tracing(row: Row, mode: str) -> None:
    # openinference PR#2758; measured: five of six instrumentations emit a second span with the same tokens
    with watched(calls=None) as captured:
        options = {"open_telemetry": {"tracer_provider": captured.tracer_provider}}
        client = row.connect(Provider(row.answer), mode, **options)
        await settle(row.call(client))
        assert [seen(span) for span in captured.spans] == [expected(row, {**row.asked, **row.answered})]
        await settle(row.call(client, variant="with_raw_response"))
        async with within(row.call(client, variant="with_streaming_response")) as response:
            await settle(response.read())
        assert len(captured.spans) == 3


@native
@over(tuple(row for row in NATIVE if row.stream))
async def test_exactly_one_span_of_a_stream_beside_the_librarys_own_tracing(row: Row, mode: str) -> None:
    with watched() as captured:
        options = {"open_telemetry": {"tracer_provider": captured.tracer_provider}}
        client = row.connect(Provider(row.stream_answer(row.events)), mode, **options)
        await everything(await settle(row.call(client, stream=True)))
        assert seen(captured.spans[0]) == expected(row, row.stream_attributes)


@native
@modes
async def test_librarys_own_span_stays_where_we_do_not_observe(mode: str) -> None:
    import seatrace

    row = MESSAGES_ROW
    with watched(calls=2) as captured:
        options = {"open_telemetry": {"tracer_provider": captured.tracer_provider}}
        client = row.connect(Provider(row.answer, as_json({"data": [], "has_more": False})), mode, **options)
        with seatrace.suppress():
            await settle(row.call(client))
        await settle(client.models.list())
        assert {span.instrumentation_scope.name for span in captured.spans} == {"com.anthropic.sdk.python"}
        assert trace.get_current_span() is trace.INVALID_SPAN


@native
@modes
async def test_trace_context_that_the_library_sends_is_that_of_our_span(mode: str) -> None:
    row = MESSAGES_ROW
    with watched(calls=2) as captured:
        provider = Provider(row.answer)
        options = {"tracer_provider": captured.tracer_provider}
        await settle(row.call(row.connect(provider, mode, open_telemetry=options)))
        await settle(row.call(row.connect(provider, mode, open_telemetry={**options, "propagation": False})))
        context = captured.spans[0].context
        sent, unsent = provider.sent
        assert sent.headers["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
        assert "traceparent" not in unsent.headers


# --- beside others -------------------------------------------------------------------------------------------------


@over((CHAT_ROW, MESSAGES_ROW))
async def test_official_instrumentation_around_us_keeps_the_only_span(row: Row, mode: str) -> None:
    # openinference#2101, #2119, dd-trace-js#8936: one call counted by two layers
    from opentelemetry.context import attach, detach, set_value

    with capture() as captured:
        tracer = captured.tracer_provider.get_tracer("opentelemetry.instrumentation.genai")
        with tracer.start_as_current_span("chat brook-1") as theirs:
            token = attach(set_value("opentelemetry.genai.client.inference.context", theirs))
            try:
                await settle(row.call(row.connect(Provider(row.answer), mode)))
            finally:
                detach(token)
            assert theirs.is_recording()
        (span,) = captured.spans
        assert span.attributes["gen_ai.usage.output_tokens"] == 20
        assert len(captured.calls) == 1


@modes
async def test_key_that_is_a_function_is_asked_as_without_us(mode: str) -> None:
    # dd-trace-py#15585: a callable api_key crashes the program
    row = CHAT_ROW

    def key() -> str:
        return "sk-late"

    async def key_async() -> str:
        return "sk-late"

    async def outcome() -> Any:
        provider = Provider(row.answer)
        try:
            client = row.connect(provider, mode, api_key=key if mode == "sync" else key_async)
            await settle(row.call(client))
        except Exception as error:  # an openai too old for it
            return type(error)
        return [sent.headers["authorization"] for sent in provider.sent]

    bare = await outcome()
    with watched(calls=None):
        assert await outcome() == bare


def test_spoken_answer_that_is_streamed_is_not_kept() -> None:
    def pieces() -> Any:
        for _ in range(100):
            yield b"\xff" * 65_536

    row = next(row for row in OPENAI_ROWS if row.id == "openai-speech")
    with watched():
        client = row.connect(Provider(Answer(pieces(), headers={"content-type": "audio/mpeg"})), "sync")
        tracemalloc.start()
        try:
            with row.call(client, variant="with_streaming_response") as response:
                assert sum(map(len, response.iter_bytes())) == 6_553_600
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()
