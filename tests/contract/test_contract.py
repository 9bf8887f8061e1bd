"""The contract: what holds for every call that a library can make, whatever becomes of it.

Each case runs for every row of ``rows.py``, sync and async, with the oldest and the newest version of the library
(``nox``). Comments name the public issues of other instrumentations that a case guards against.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from typing import Any

import pytest
from opentelemetry import trace

import seatrace

from .rows import ROWS, STREAMS, Row, over
from .watch import close, each, everything, expected, pull, seen, settle, watched, within
from .wire import HANG, Answer, Provider, as_json, http_of

RAW_STREAMS = tuple(row for row in STREAMS if row.raw_stream)
JSON_ROWS = tuple(row for row in ROWS if row.answer.headers["content-type"] == "application/json")
CHAT_ROWS = tuple(row for row in ROWS if row.path == "chat.completions.create")
FAILING_STREAMS = tuple(row for row in STREAMS if row.error_event is not None)


def only(captured: Any) -> dict[str, Any]:
    """The one span."""
    (span,) = captured.spans
    return seen(span)


async def open_stream(row: Row, mode: str, *more: Any) -> Any:
    """A stream of the row, with ``more`` in place of all events but the first."""
    events = (row.events[0], *more) if more else row.events
    return await settle(row.call(row.connect(Provider(row.stream_answer(events)), mode), stream=True))


# --- what comes back -----------------------------------------------------------------------------------------------


@over(ROWS)
async def test_plain_call_becomes_one_whole_span(row: Row, mode: str) -> None:
    with watched() as captured:
        await settle(row.call(row.connect(Provider(row.answer), mode)))
        assert only(captured) == expected(row, {**row.asked, **row.answered})


@over(ROWS)
async def test_raw_response_is_read_as_the_plain_one(row: Row, mode: str) -> None:
    # contrib#4032
    with watched() as captured:
        raw = await settle(row.call(row.connect(Provider(row.answer), mode), variant="with_raw_response"))
        assert only(captured) == expected(row, {**row.asked, **row.answered})
        await settle(raw.parse())
        assert raw.http_response.content == b"".join(row.answer.body)


@over(ROWS)
async def test_call_is_a_child_of_the_callers_span(row: Row, mode: str) -> None:
    # openllmetry#2790, langfuse#2974: orphans
    with watched(calls=None) as captured:
        tracer = captured.tracer_provider.get_tracer("app")
        with tracer.start_as_current_span("app") as outer:
            await settle(row.call(row.connect(Provider(row.answer), mode)))
            assert trace.get_current_span() is outer
        mine = next(span for span in captured.spans if span.name == row.name)
        assert seen(mine) == expected(row, {**row.asked, **row.answered}, parent=outer.get_span_context().span_id)


@over(ROWS)
async def test_copied_client_is_observed(row: Row, mode: str) -> None:
    with watched() as captured:
        client = row.connect(Provider(row.answer), mode)
        # An older AnthropicBedrock forgets its HTTP client when it is copied.
        await settle(row.call(client.with_options(timeout=5, http_client=client._client)))
        assert only(captured) == expected(row, {**row.asked, **row.answered})


# --- streams -------------------------------------------------------------------------------------------------------


@over(STREAMS)
async def test_stream_becomes_one_whole_span(row: Row, mode: str) -> None:
    # openllmetry#627, #2898, openinference#637, logfire#1280: no tokens; openllmetry PR#4377: tokens added up twice;
    # logfire#315: two records of one stream
    with watched() as captured:
        stream = await open_stream(row, mode)
        assert captured.spans == []
        assert len(await everything(stream)) == row.chunks
        assert only(captured) == expected(row, row.stream_attributes)


@over(STREAMS)
async def test_stream_in_a_with_block_becomes_one_whole_span(row: Row, mode: str) -> None:
    # posthog-python#393, braintrust-sdk#680
    with watched() as captured:
        async with within(await open_stream(row, mode)) as stream:
            assert len(await everything(stream)) == row.chunks
        assert only(captured) == expected(row, row.stream_attributes)


@over(STREAMS)
async def test_broken_out_of_with_block_ends_the_span(row: Row, mode: str) -> None:
    # openlit#1454, #1515, #1615; dd-trace-py PR#20390
    with watched() as captured:
        async with within(await open_stream(row, mode)) as stream:
            async for _ in each(stream):
                break
        assert only(captured) == expected(row, row.begun_attributes)


@over(STREAMS)
async def test_closed_stream_ends_the_span(row: Row, mode: str) -> None:
    # agentops: AttributeError, no `.close`
    with watched() as captured:
        stream = await open_stream(row, mode)
        await pull(stream)
        assert captured.spans == []
        await close(stream)
        assert only(captured) == expected(row, row.begun_attributes)


@over(STREAMS)
async def test_closed_response_ends_the_span(row: Row, mode: str) -> None:
    with watched() as captured:
        stream = await open_stream(row, mode)
        await pull(stream)
        await settle(stream.response.close() if mode == "sync" else stream.response.aclose())
        assert only(captured) == expected(row, row.begun_attributes)


@over(STREAMS)
async def test_stream_closed_unread_ends_the_span(row: Row, mode: str) -> None:
    with watched() as captured:
        stream = await open_stream(row, mode)
        await close(stream)
        assert only(captured) == expected(row, {**row.asked, "gen_ai.request.stream": True})


@over(STREAMS)
async def test_dropped_stream_ends_the_span(row: Row, mode: str) -> None:
    # openlit#1460: spans of abandoned streams leak
    with watched() as captured:
        stream = await open_stream(row, mode)
        await pull(stream)
        del stream
        gc.collect()
        await asyncio.sleep(0)
        assert only(captured) == expected(row, row.begun_attributes)


@over(STREAMS)
async def test_stream_dropped_unread_ends_the_span(row: Row, mode: str) -> None:
    with watched() as captured:
        await open_stream(row, mode)
        gc.collect()
        assert only(captured) == expected(row, {**row.asked, "gen_ai.request.stream": True})


@over(STREAMS)
async def test_stream_read_on_after_a_break_is_one_whole_span(row: Row, mode: str) -> None:
    with watched() as captured:
        stream = await open_stream(row, mode)
        async for _ in each(stream):
            break
        assert captured.spans == []
        assert len(await everything(stream)) == row.chunks - 1
        assert await everything(stream) == []
        await close(stream)
        assert only(captured) == expected(row, row.stream_attributes)


@over(STREAMS)
async def test_callers_error_in_the_loop_is_no_error_of_the_call(row: Row, mode: str) -> None:
    mistake = RuntimeError("the caller's")

    async def loop() -> None:
        async with within(await open_stream(row, mode)) as stream:
            async for _ in each(stream):
                raise mistake

    with watched() as captured:
        with pytest.raises(RuntimeError) as caught:
            await loop()
        assert caught.value is mistake
        assert only(captured) == expected(row, row.begun_attributes)


@over(RAW_STREAMS)
async def test_stream_behind_a_raw_response_is_understood(row: Row, mode: str) -> None:
    # contrib#4032
    with watched() as captured:
        client = row.connect(Provider(row.stream_answer(row.events)), mode)
        raw = await settle(row.call(client, stream=True, variant="with_raw_response"))
        assert len(await everything(await settle(raw.parse()))) == row.chunks
        assert only(captured) == expected(row, row.stream_attributes)


# --- with_streaming_response ---------------------------------------------------------------------------------------


@over(ROWS)
@pytest.mark.parametrize("reading", ["read", "iter_bytes", "iter_lines", "parse"])
async def test_streaming_response_is_read_by_the_caller_alone(row: Row, mode: str, reading: str) -> None:
    # langfuse: no span at all; OpenLLMetry and openlit read it themselves
    with watched() as captured:
        client = row.connect(Provider(row.answer), mode)
        async with within(row.call(client, variant="with_streaming_response")) as response:
            assert not response.is_closed
            assert not response.http_response.is_stream_consumed
            if reading.startswith("iter"):
                assert await everything(getattr(response, reading)())
            else:
                await settle(getattr(response, reading)())
        assert only(captured) == expected(row, {**row.asked, **row.answered})


@over(JSON_ROWS)
async def test_streaming_response_as_json(row: Row, mode: str) -> None:
    with watched() as captured:
        client = row.connect(Provider(row.answer), mode)
        async with within(row.call(client, variant="with_streaming_response")) as response:
            assert isinstance(await settle(response.json()), dict)
        assert only(captured) == expected(row, {**row.asked, **row.answered})


@over(ROWS)
async def test_streaming_response_left_unread_ends_the_span(row: Row, mode: str) -> None:
    with watched() as captured:
        provider = Provider(row.answer)
        async with within(row.call(row.connect(provider, mode), variant="with_streaming_response")):
            assert captured.spans == []
        assert provider.pulled == 0
        assert provider.closed == 1
        assert only(captured) == expected(row, row.asked)


@over(RAW_STREAMS)
async def test_events_that_the_caller_reads_as_lines_are_understood(row: Row, mode: str) -> None:
    with watched() as captured:
        client = row.connect(Provider(row.stream_answer(row.events)), mode)
        async with within(row.call(client, stream=True, variant="with_streaming_response")) as response:
            lines = await everything(response.iter_lines())
        assert len([line for line in lines if line.startswith("data:")]) == len(row.events)
        assert only(captured) == expected(row, row.stream_attributes)


@over(RAW_STREAMS)
async def test_events_left_after_the_first_are_understood_so_far(row: Row, mode: str) -> None:
    with watched() as captured:
        client = row.connect(Provider(row.stream_answer(row.events)), mode)
        async with within(row.call(client, stream=True, variant="with_streaming_response")) as response:
            async for _ in each(response.iter_bytes()):
                break
        assert only(captured) == expected(row, row.begun_attributes)


@over(RAW_STREAMS)
async def test_stream_parsed_from_a_streaming_response_is_understood(row: Row, mode: str) -> None:
    with watched() as captured:
        client = row.connect(Provider(row.stream_answer(row.events)), mode)
        async with within(row.call(client, stream=True, variant="with_streaming_response")) as response:
            assert len(await everything(await settle(response.parse()))) == row.chunks
        assert only(captured) == expected(row, row.stream_attributes)


@over(RAW_STREAMS)
async def test_connection_cut_under_raw_events_is_an_error_with_what_was_known(row: Row, mode: str) -> None:
    with watched() as captured:
        cut = http_of(row.library).ReadError("cut")
        client = row.connect(Provider(row.stream_answer([row.events[0], cut])), mode)
        with pytest.raises(type(cut)) as caught:
            async with within(row.call(client, stream=True, variant="with_streaming_response")) as response:
                await everything(response.iter_bytes())
        assert only(captured) == expected(row, row.begun_attributes, error="ReadError", description=str(caught.value))


# --- failures ------------------------------------------------------------------------------------------------------


@over(ROWS)
@pytest.mark.parametrize(
    ("status", "word"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (429, "rate_limit_error"), (500, "api_error")],
)
async def test_providers_refusal_is_the_error_of_the_span(row: Row, mode: str, status: int, word: str) -> None:
    with watched() as captured:
        with pytest.raises(Exception) as caught:
            await settle(row.call(row.connect(Provider(row.failure(status, word)), mode)))
        assert caught.value.status_code == status
        assert only(captured) == expected(row, row.asked, error=word, description=str(caught.value), status_code=status)


@over(STREAMS)
async def test_stream_refused_before_its_first_chunk(row: Row, mode: str) -> None:
    with watched() as captured:
        with pytest.raises(Exception) as caught:
            await settle(row.call(row.connect(Provider(row.failure(429, "rate_limit_error")), mode), stream=True))
        asked = {**row.asked, "gen_ai.request.stream": True}
        assert only(captured) == expected(
            row, asked, error="rate_limit_error", description=str(caught.value), status_code=429
        )


@over(ROWS)
async def test_retries_are_inside_one_span(row: Row, mode: str) -> None:
    with watched() as captured:
        provider = Provider(row.failure(429, "rate_limit_error"), row.failure(500, "api_error"), row.answer)
        await settle(row.call(row.connect(provider, mode, max_retries=2)))
        assert len(provider.sent) == 3
        assert only(captured) == expected(row, {**row.asked, **row.answered, "seatrace.retries": 2})


@over(ROWS)
async def test_no_connection_is_the_error_of_the_span(row: Row, mode: str) -> None:
    with watched() as captured:
        with pytest.raises(Exception) as caught:
            await settle(row.call(row.connect(Provider(http_of(row.library).ConnectError("no route")), mode)))
        assert only(captured) == expected(row, row.asked, error="APIConnectionError", description=str(caught.value))


@over(ROWS)
async def test_time_out_is_the_error_of_the_span(row: Row, mode: str) -> None:
    with watched() as captured:
        with pytest.raises(Exception) as caught:
            await settle(row.call(row.connect(Provider(http_of(row.library).ReadTimeout("slow")), mode)))
        assert only(captured) == expected(row, row.asked, error="APITimeoutError", description=str(caught.value))


@over(FAILING_STREAMS)
async def test_error_event_in_a_stream_is_the_error_of_the_span(row: Row, mode: str) -> None:
    # openlit, OpenLLMetry, logfire: a stream that fails half way looks like a success
    with watched() as captured:
        stream = await open_stream(row, mode, row.error_event)
        with pytest.raises(Exception) as caught:
            await everything(stream)
        wanted = expected(row, row.begun_attributes, error=row.error_event_type, description=str(caught.value))
        assert only(captured) == wanted


@over(ROWS)
async def test_code_beside_the_message_is_the_error_of_the_span(row: Row, mode: str) -> None:
    # xAI's way: the client library keeps the message alone
    with watched() as captured:
        answer = as_json({"code": "invalid-argument", "error": "The brook ran dry."}, 400)
        with pytest.raises(Exception) as caught:
            await settle(row.call(row.connect(Provider(answer), mode)))
        wanted = expected(row, row.asked, error="invalid-argument", description=str(caught.value), status_code=400)
        assert only(captured) == wanted


@over(CHAT_ROWS)
@pytest.mark.parametrize(
    ("code", "word"), [(429, "429"), ("rate_limited", "rate_limited"), (None, "error")], ids=["number", "word", "none"]
)
async def test_error_under_status_200_is_the_error_of_the_span(row: Row, mode: str, code: Any, word: str) -> None:
    # OpenRouter's way: the client library makes an empty answer of it
    with watched() as captured:
        answer = as_json({"error": {"message": "The brook ran dry.", "code": code}})
        await settle(row.call(row.connect(Provider(answer), mode)))
        assert only(captured) == expected(row, row.asked, error=word)


@over(STREAMS)
async def test_connection_cut_in_a_stream_is_the_error_of_the_span(row: Row, mode: str) -> None:
    with watched() as captured:
        stream = await open_stream(row, mode, http_of(row.library).ReadError("cut"))
        await pull(stream)
        with pytest.raises(Exception) as caught:
            await pull(stream)
        wanted = expected(
            row, row.begun_attributes, error=type(caught.value).__qualname__, description=str(caught.value)
        )
        assert only(captured) == wanted


@over(ROWS)
async def test_stop_of_the_program_ends_the_span(row: Row, mode: str) -> None:
    # OpenLLMetry: `except Exception` leaves the span open
    for raised in (KeyboardInterrupt("now"), SystemExit("now")):
        with watched() as captured:
            with pytest.raises(type(raised)) as caught:
                await settle(row.call(row.connect(Provider(raised), mode)))
            assert caught.value is raised
            assert only(captured) == expected(row, row.asked, error=type(raised).__name__, description="now")


@over(STREAMS)
async def test_stop_of_the_program_in_a_stream_ends_the_span(row: Row, mode: str) -> None:
    raised = KeyboardInterrupt("now")
    with watched() as captured:
        stream = await open_stream(row, mode, raised)
        await pull(stream)
        with pytest.raises(KeyboardInterrupt) as caught:
            await pull(stream)
        assert caught.value is raised
        assert only(captured) == expected(row, row.begun_attributes, error="KeyboardInterrupt", description="now")


# --- giving up on an answer, async alone ---------------------------------------------------------------------------

only_async = pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
only_async_streams = pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in STREAMS])


@only_async
async def test_cancelled_call_ends_its_span(row: Row) -> None:
    # OpenLLMetry, openlit: CancelledError leaves the span open or looks like a success
    waiting = asyncio.Event()
    with watched() as captured:
        client = row.connect(Provider(lambda sent: waiting.set() or HANG), "async")
        task = asyncio.ensure_future(row.call(client))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert only(captured) == expected(row, row.asked, error="CancelledError", description="")


@only_async
async def test_call_given_up_by_wait_for_ends_its_span(row: Row) -> None:
    with watched() as captured:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(row.call(row.connect(Provider(HANG), "async")), 0.01)
        assert only(captured) == expected(row, row.asked, error="CancelledError", description="")


@only_async_streams
async def test_cancelled_pull_ends_the_span_of_its_stream(row: Row) -> None:
    waiting = asyncio.Event()
    with watched() as captured:
        stream = await open_stream(row, "async", waiting.set, HANG)
        await pull(stream)
        task = asyncio.ensure_future(pull(stream))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert only(captured) == expected(row, row.begun_attributes, error="CancelledError", description="")


@only_async_streams
async def test_pull_given_up_by_wait_for_ends_the_span_of_its_stream(row: Row) -> None:
    with watched() as captured:
        stream = await open_stream(row, "async", HANG)
        await pull(stream)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pull(stream), 0.01)
        assert only(captured) == expected(row, row.begun_attributes, error="CancelledError", description="")


@only_async
async def test_call_dropped_half_way_ends_its_span_and_leaves_no_context(row: Row) -> None:
    with watched(calls=2) as captured:
        call = row.call(row.connect(Provider(HANG), "async"))
        call.send(None)
        call.close()
        assert trace.get_current_span() is trace.INVALID_SPAN
        await row.call(row.connect(Provider(row.answer), "async"))
        dropped, whole = captured.spans
        assert seen(dropped) == expected(row, row.asked, error="GeneratorExit", description="")
        assert seen(whole) == expected(row, {**row.asked, **row.answered})


@only_async
async def test_call_dropped_in_another_context_ends_its_span_silently(row: Row) -> None:
    # openlit#861, #1369, openinference#1769, langfuse#8780: "created in a different Context"
    with watched() as captured:
        call = row.call(row.connect(Provider(HANG), "async"))
        contextvars.copy_context().run(call.send, None)
        call.close()
        assert only(captured) == expected(row, row.asked, error="GeneratorExit", description="")


# --- switched off --------------------------------------------------------------------------------------------------


@over(ROWS)
async def test_suppressed_call_is_made_and_not_observed(row: Row, mode: str) -> None:
    with watched(calls=0) as captured:
        provider = Provider(row.answer)
        with seatrace.suppress():
            await settle(row.call(row.connect(provider, mode)))
        assert len(provider.sent) == 1
        assert captured.calls == []
        assert captured.points("gen_ai.client.inference.duration") == []


@over(STREAMS)
async def test_stream_opened_unobserved_stays_unobserved(row: Row, mode: str) -> None:
    with watched(calls=0):
        with seatrace.suppress():
            stream = await open_stream(row, mode)
        assert len(await everything(stream)) == row.chunks


@over(ROWS)
async def test_unsampled_call_is_counted_all_the_same(row: Row, mode: str) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    from seatrace.testing import capture

    from .rows import PRICES

    with capture(sampler=ALWAYS_OFF, prices=PRICES) as captured:
        await settle(row.call(row.connect(Provider(row.answer), mode)))
        assert captured.spans == []
        metric = {"inference": "inference", "embeddings": "embeddings", "operation": "operation"}[row.kind]
        (point,) = captured.points(f"gen_ai.client.{metric}.duration")
        assert point.count == 1
        (call,) = captured.calls
        cost = row.answered.get("gen_ai.usage.cost.amount")
        assert (call.cost.total if call.cost is not None else None) == cost


@over(STREAMS)
async def test_unsampled_stream_is_counted_all_the_same(row: Row, mode: str) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    from seatrace.testing import capture

    with capture(sampler=ALWAYS_OFF) as captured:
        assert len(await everything(await open_stream(row, mode))) == row.chunks
        assert captured.spans == []
        (call,) = captured.calls
        assert call.response_id == row.streamed["gen_ai.response.id"]
        (point,) = captured.points("gen_ai.client.inference.duration")
        assert point.count == 1
        assert len(call.gaps) == row.chunks - 1


@over(ROWS)
async def test_second_instrument_changes_nothing(row: Row, mode: str) -> None:
    # openlit: a second init() makes three spans
    with watched() as captured:
        seatrace.instrument()
        await settle(row.call(row.connect(Provider(row.answer), mode)))
        assert only(captured) == expected(row, {**row.asked, **row.answered})


@over(ROWS)
async def test_after_uninstrument_nothing_is_observed(row: Row, mode: str) -> None:
    with watched(calls=0):
        client = row.connect(Provider(row.answer), mode)
        seatrace.uninstrument()
        await settle(row.call(client))


@over(STREAMS)
async def test_stream_open_while_uninstrumented_still_ends_its_span(row: Row, mode: str) -> None:
    with watched() as captured:
        stream = await open_stream(row, mode)
        await pull(stream)
        seatrace.uninstrument()
        await everything(stream)
        assert only(captured) == expected(row, row.stream_attributes)


# --- faults of our own ---------------------------------------------------------------------------------------------


class Broken:
    """A shape with a bug in ``stage``."""

    def __init__(self, shape: Any, stage: str) -> None:
        self._shape = shape
        self._stage = stage

    def __getattr__(self, name: str) -> Any:
        return self._explode if name == self._stage else getattr(self._shape, name)

    def _explode(self, *args: Any) -> Any:
        raise ZeroDivisionError(f"our own bug in {self._stage}")

    def reader(self, call: Any, *, content: bool) -> Any:
        if self._stage == "reader":
            self._explode()
        return Broken(self._shape.reader(call, content=content), self._stage)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a bug into the shapes of a library."""
    import importlib

    def breaking(row: Row, stage: str) -> None:
        endpoints = importlib.import_module(f"seatrace.libraries.{row.library}").ENDPOINTS
        for path, shape in list(endpoints.items()):
            monkeypatch.setitem(endpoints, path, Broken(shape, stage))

    return breaking


@over(ROWS)
@pytest.mark.parametrize("stage", ["request", "response"])
async def test_our_own_bug_costs_the_caller_nothing(row: Row, mode: str, stage: str, broken: Any) -> None:
    # dd-trace-py#15585, #14161, #7737, openllmetry#670, openlit PR#757: crashes of the program by its instrumentation
    from seatrace.core import guard

    broken(row, stage)
    before = guard.faults.total()
    with watched(calls=None, strict=False) as captured:
        result = await settle(row.call(row.connect(Provider(row.answer), mode)))
        assert result is not None
        assert guard.faults.total() == before + (not row.id.endswith("speech") or stage == "request")
        assert len(captured.spans) == (stage != "request")


@over(STREAMS)
@pytest.mark.parametrize("stage", ["request", "reader", "chunk", "finish"])
async def test_our_own_bug_in_a_stream_costs_the_caller_nothing(row: Row, mode: str, stage: str, broken: Any) -> None:
    from seatrace.core import guard

    broken(row, stage)
    before = guard.faults.total()
    with watched(calls=None, strict=False) as captured:
        stream = await open_stream(row, mode)
        assert len(await everything(stream)) == row.chunks
        assert guard.faults.total() == before + (row.chunks if stage == "chunk" else 1)
        assert len(captured.spans) == (stage != "request")


@over(ROWS)
async def test_callers_hook_and_listener_that_raise_cost_the_caller_nothing(row: Row, mode: str) -> None:
    from seatrace.core import guard

    def explode(*args: Any) -> Any:
        raise ZeroDivisionError("in the caller's own hook")

    before = guard.faults.total()
    remove = seatrace.on_call(explode)
    try:
        with watched(calls=None, strict=False, content_hook=explode) as captured:
            await settle(row.call(row.connect(Provider(row.answer), mode)))
            assert guard.faults.total() > before
            assert len(captured.calls) == 1
    finally:
        remove()


# --- answers of every kind -----------------------------------------------------------------------------------------


@over(ROWS)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer([b"{}"], headers={"content-type": "application/json"}), id="empty-object"),
        pytest.param(Answer([b"null"], headers={"content-type": "application/json"}), id="null"),
        pytest.param(Answer([b"<html>brook</html>"], headers={"content-type": "text/html"}), id="html"),
        pytest.param(Answer([], headers={}), id="empty"),
        pytest.param(
            Answer(
                [b'{"id": 7, "model": null, "output": null, "choices": null, "content": null, "usage": null}'],
                headers={"content-type": "application/json"},
            ),
            id="nulls",
        ),
        pytest.param(
            Answer(
                [b'{"usage": "many", "choices": [null, {}], "output": [null, 5], "content": [null], "data": [null]}'],
                headers={"content-type": "application/json"},
            ),
            id="nonsense",
        ),
    ],
)
async def test_odd_answers_are_what_they_are_without_us(row: Row, mode: str, answer: Answer) -> None:
    # openlit, official: TypeError for `output: null`
    async def made() -> Any:
        try:
            return type(await settle(row.call(row.connect(Provider(answer), mode))))
        except Exception as error:
            return type(error), str(error)

    bare = await made()
    with watched(capture_content=True):
        assert await made() == bare
