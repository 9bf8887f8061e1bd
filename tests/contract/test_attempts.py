"""Retries within one call, and what providers say of their rate limits."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import seatrace
from model import COMPLETION, MODEL
from seatrace.core import pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import RateLimit
from seatrace.emit.rate_limits import RateLimits
from seatrace.shapes.rate_limits import read_limits
from seatrace.testing import Captured, capture

from .wire import Provider, as_events, as_json, data, http_of

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "ahoy"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 5},
}
SOON = {"retry-after-ms": "1"}
OPENAI_LIMITS = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "29985",
    "x-ratelimit-reset-tokens": "30ms",
}
ANTHROPIC_LIMITS = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2026-11-22T10:00:00Z",
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "39000",
    "anthropic-ratelimit-output-tokens-limit": "8000",
    "anthropic-ratelimit-output-tokens-remaining": "8000",
}


@dataclass(frozen=True)
class Library:
    """One of them, and how it is called."""

    name: str
    sync: str
    model: str
    answer: Any
    limits: dict[str, str]
    expected: dict[tuple[str, str], float]
    create: Callable[[Any], Any]
    exceptions: tuple[str, str]
    """What a read timeout and a broken connection are called when they are retried, by newer versions."""


OPENAI = Library(
    "openai",
    "OpenAI",
    MODEL,
    COMPLETION,
    OPENAI_LIMITS,
    {
        ("limit", "requests"): 500,
        ("remaining", "requests"): 499,
        ("limit", "tokens"): 30000,
        ("remaining", "tokens"): 29985,
    },
    lambda client: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}]),
    ("ReadTimeout", "ReadError"),
)
ANTHROPIC = Library(
    "anthropic",
    "Anthropic",
    "claude-x",
    MESSAGE,
    ANTHROPIC_LIMITS,
    {
        ("limit", "requests"): 50,
        ("remaining", "requests"): 49,
        ("limit", "input_tokens"): 40000,
        ("remaining", "input_tokens"): 39000,
        ("limit", "output_tokens"): 8000,
        ("remaining", "output_tokens"): 8000,
    },
    lambda client: client.messages.create(
        model="claude-x", max_tokens=5, messages=[{"role": "user", "content": "hello"}]
    ),
    ("ReadTimeout|APITimeoutError", "ReadError|APIConnectionError"),
)
each = pytest.mark.parametrize("library", [OPENAI, ANTHROPIC], ids=lambda library: library.name)
both = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


def no(status: int, **headers: str) -> Any:
    """A refusal, to be tried again at once."""
    return as_json({"error": {"type": "nope", "message": "no"}}, status, **{**SOON, **headers})


async def call(library: Library, asynchronous: bool, *answers: Any, retries: int = 5) -> Any:
    kind = f"Async{library.sync}" if asynchronous else library.sync
    client = Provider(*answers).client(library.name, kind, api_key="x", max_retries=retries)
    result = library.create(client)
    return await result if asynchronous else result


def by_reason(captured: Captured, metric: str = "seatrace.retries") -> dict[str, Any]:
    return {str(point.attributes["error.type"]): point for point in captured.points(metric)}


def limits(captured: Captured) -> dict[tuple[str, str], float]:
    return {
        (kind, str(point.attributes["seatrace.rate_limit.resource"])): point.value
        for kind in ("limit", "remaining")
        for point in captured.points(f"seatrace.rate_limit.{kind}")
    }


# --- retries --------------------------------------------------------------------------------------------------------


@each
@both
async def test_retries_are_counted_by_what_failed_before(library: Library, asynchronous: bool) -> None:
    answers = [no(429), no(503), no(503), as_json(library.answer)]
    with capture() as captured:
        await call(library, asynchronous, *answers)
        retries = by_reason(captured)
        assert {reason: point.value for reason, point in retries.items()} == {"429": 1, "503": 2}
        assert dict(retries["429"].attributes) == {
            "gen_ai.provider.name": library.name,
            "gen_ai.request.model": library.model,
            "error.type": "429",
        }
        [span] = captured.spans
        assert (span.attributes or {})["seatrace.retries"] == 3
        assert "error.type" not in (span.attributes or {})
        assert captured.calls[0].retries == 3


@each
@both
async def test_the_wait_is_the_one_that_the_client_waits(library: Library, asynchronous: bool) -> None:
    with capture() as captured:
        answers = [no(429, **{"retry-after-ms": "20"}), no(503, **{"retry-after-ms": "40"}), as_json(library.answer)]
        await call(library, asynchronous, *answers)
        waits = by_reason(captured, "seatrace.retry.wait.duration")
        assert {reason: (point.count, point.sum) for reason, point in waits.items()} == {
            "429": (1, pytest.approx(0.02)),
            "503": (1, pytest.approx(0.04)),
        }
        assert captured.calls[0].duration >= 0.06


@each
@both
async def test_attempts_without_an_answer_are_called_after_their_exception(
    library: Library, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = http_of(library.name)
    base = importlib.import_module(f"{library.name}._base_client")
    monkeypatch.setattr(base, "INITIAL_RETRY_DELAY", 0.001)  # nobody says when to try again
    answers = [http.ReadTimeout("late"), http.ReadError("gone"), as_json(library.answer)]
    with capture() as captured:
        try:
            raise KeyError("the program is handling this one")
        except KeyError:
            await call(library, asynchronous, *answers)
        reasons = list(by_reason(captured))
    assert [any(reason in name.split("|") for reason in reasons) for name in library.exceptions] == [True, True]
    assert len(reasons) == 2


@each
@both
async def test_a_status_within_somebody_s_exception_handler_is_the_status(library: Library, asynchronous: bool) -> None:
    with capture() as captured:
        try:
            raise KeyError("the program is handling this one")
        except KeyError:
            await call(library, asynchronous, no(500), as_json(library.answer))
        assert list(by_reason(captured)) == ["500"]


@each
@both
async def test_a_call_that_fails_for_good_counts_its_retries_and_no_more(library: Library, asynchronous: bool) -> None:
    with capture() as captured:
        with pytest.raises(Exception, match="no"):
            await call(library, asynchronous, no(429), retries=2)
        assert captured.total("seatrace.retries") == 2
        assert (captured.spans[0].attributes or {})["seatrace.retries"] == 2
    with capture() as captured:
        with pytest.raises(Exception, match="no"):
            await call(library, asynchronous, no(400))
        assert captured.points("seatrace.retries") == []
        assert "seatrace.retries" not in (captured.spans[0].attributes or {})


@each
async def test_retries_of_calls_at_the_same_time_do_not_mix(library: Library) -> None:
    with capture() as captured:
        await asyncio.gather(
            *[
                call(library, True, *[no(status)] * count, as_json(library.answer))
                for status, count in ((429, 1), (503, 4))
            ]
        )
        assert {reason: point.value for reason, point in by_reason(captured).items()} == {"429": 1, "503": 4}
        assert sorted(each.retries for each in captured.calls) == [1, 4]


@each
@both
async def test_a_retry_is_told_when_it_begins(library: Library, asynchronous: bool) -> None:
    seen: list[float] = []

    def second(sent: Any) -> Any:
        seen.append(captured.total("seatrace.retries"))
        return as_json(library.answer)

    with capture() as captured:
        await call(library, asynchronous, no(429), second)
    assert seen == [1]


@each
@both
async def test_what_is_not_observed_is_not_counted(library: Library, asynchronous: bool) -> None:
    with capture() as captured:
        with seatrace.suppress():
            await call(library, asynchronous, no(429), as_json(library.answer, **library.limits))
        assert captured.points("seatrace.retries") == []
        assert limits(captured) == {}


# --- rate limits ----------------------------------------------------------------------------------------------------


@each
@both
async def test_the_limits_in_a_response_s_headers_are_gauges(library: Library, asynchronous: bool) -> None:
    with capture() as captured:
        await call(library, asynchronous, as_json(library.answer, **library.limits))
        assert limits(captured) == library.expected
        [point] = [
            each
            for each in captured.points("seatrace.rate_limit.limit")
            if each.attributes["seatrace.rate_limit.resource"] == "requests"
        ]
        assert dict(point.attributes) == {
            "gen_ai.provider.name": library.name,
            "gen_ai.request.model": library.model,
            "seatrace.rate_limit.resource": "requests",
        }


@each
async def test_the_latest_response_wins_also_one_that_refuses(library: Library) -> None:
    remaining = next(name for name in library.limits if "remaining" in name and "requests" in name)
    with capture() as captured:
        for left in ("7", "6"):
            await call(library, False, as_json(library.answer, **{**library.limits, remaining: left}))
        assert limits(captured)["remaining", "requests"] == 6
        refusal = no(429, **{**library.limits, remaining: "0"})
        with pytest.raises(Exception, match="no"):
            await call(library, False, refusal, retries=0)
        assert limits(captured)["remaining", "requests"] == 0
        await call(library, False, no(429, **{remaining: "1"}), no(500), as_json(library.answer, **library.limits))
        assert limits(captured) == library.expected
        with pytest.raises(Exception, match="no"):
            await call(library, False, no(500), retries=0)  # says nothing
        assert limits(captured) == library.expected


@each
@both
async def test_streams_and_raw_responses_tell_their_limits_too(library: Library, asynchronous: bool) -> None:
    events = as_events([data({**COMPLETION, "object": "chat.completion.chunk", "choices": []}), b"data: [DONE]\n\n"])
    events.headers.update(library.limits)
    kind = f"Async{library.sync}" if asynchronous else library.sync
    client = Provider(events).client(library.name, kind, api_key="x")
    method = client.chat.completions if library is OPENAI else client.messages
    arguments: dict[str, Any] = {"model": library.model, "messages": [], "max_tokens": 5}
    with capture() as captured:
        for create in (method.create, method.with_raw_response.create):
            stream = create(**arguments, stream=True)
            stream = await stream if inspect.isawaitable(stream) else stream
            assert limits(captured) == library.expected  # before anybody reads it
            closed = stream.close() if hasattr(stream, "close") else stream.http_response.is_closed
            if inspect.isawaitable(closed):
                await closed
            del stream


def test_headers_of_both_providers_are_read() -> None:
    headers = {**OPENAI_LIMITS, "x-ratelimit-limit-requests": "12", "content-type": "x", "x-ratelimit-limit-gpus": "9"}
    assert read_limits(headers) == [RateLimit("requests", 12, 499), RateLimit("tokens", 30000, 29985)]
    assert read_limits(ANTHROPIC_LIMITS)[0] == RateLimit("requests", 50, 49)
    assert read_limits({"x-ratelimit-remaining-tokens": "5"}) == [RateLimit("tokens", None, 5)]


@pytest.mark.parametrize("value", ["", "-1", "1.5", "many", "1e9", "٣x"])
def test_headers_that_are_no_numbers_say_nothing(value: str) -> None:
    assert read_limits({"x-ratelimit-limit-requests": value}) == []


def test_what_was_said_long_ago_is_forgotten() -> None:
    now = 0.0
    kept = RateLimits(clock=lambda: now)
    kept.keep("openai", MODEL, lambda: [RateLimit("requests", 10, 5)])
    now = 299.0
    assert [value for _, value, _ in kept.readings()] == [10, 5]
    now = 301.0
    assert list(kept.readings()) == []


def test_models_without_end_are_bounded() -> None:
    kept = RateLimits()
    for number in range(2000):
        kept.keep("openai", f"model-{number}", lambda: [RateLimit("requests", 10, None)])
    models = [attributes["gen_ai.request.model"] for _, _, attributes in kept.readings()]
    assert (len(models), models[-1]) == (500, "model-1999")


# --- guests' manners ------------------------------------------------------------------------------------------------

_METHODS = (
    ("BaseClient", "_should_retry"),
    ("BaseClient", "_calculate_retry_timeout"),
    ("SyncAPIClient", "_process_response"),
    ("AsyncAPIClient", "_process_response"),
)


@each
def test_the_methods_are_put_back(library: Library) -> None:
    base = importlib.import_module(f"{library.name}._base_client")
    before = [vars(getattr(base, owner))[name] for owner, name in _METHODS]
    with capture():
        during = [vars(getattr(base, owner))[name] for owner, name in _METHODS]
        for old, new in zip(before, during, strict=True):
            assert new is not old
            assert (new.__name__, new.__qualname__, inspect.signature(new)) == (
                old.__name__,
                old.__qualname__,
                inspect.signature(old),
            )
    assert [vars(getattr(base, owner))[name] for owner, name in _METHODS] == before


@each
@both
@pytest.mark.parametrize("method", _METHODS, ids=lambda method: ".".join(method))
async def test_a_version_without_one_of_them_is_observed_all_the_same(
    library: Library,
    asynchronous: bool,
    method: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner, name = method
    replace = Patches.replace

    def lacking(self: Patches, where: Any, wanted: str, make: Any) -> None:
        # The client itself cannot go without: only our look at it finds nothing.
        if (where.__name__, wanted) == method:
            raise AttributeError(wanted)
        replace(self, where, wanted, make)

    monkeypatch.setattr(Patches, "replace", lacking)
    with capture() as captured:
        [status] = [each for each in seatrace.status() if each.name == library.name]
        assert status.state == "observed"
        assert status.detail.endswith(f"{owner}.{name} is missing there")
        await call(library, asynchronous, no(429), as_json(library.answer))
        assert len(captured.spans) == 1
    assert any(status.detail in record.getMessage() for record in caplog.records)


@each
@both
async def test_a_fault_of_ours_is_kept_from_the_call(
    library: Library, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture(strict=False) as captured:
        assert pipeline.current is not None
        for name in ("retried", "limits"):
            monkeypatch.setattr(pipeline.current.emitter, name, lambda *args: 1 / 0)
        await call(library, asynchronous, no(429, **library.limits), as_json(library.answer))
        assert captured.calls[0].error is None
        assert captured.total("seatrace.faults", seatrace_stage="follow an attempt") > 0
