"""From the wire to the bill: what decides a price is read from where the provider says it."""

from __future__ import annotations

from typing import Any

import pytest

from seatrace import PriceBook, Usage
from seatrace.testing import capture

from .rows import ANTHROPIC_ROWS, CHAT, MESSAGE, OPENAI_ROWS, RESPONSE
from .wire import Provider, as_events, as_json, event

CHAT_ROW, RESPONSES_ROW, MESSAGES_ROW = OPENAI_ROWS[0], OPENAI_ROWS[3], ANTHROPIC_ROWS[0]
OPUS = "claude-opus-5-5"
BOOK = PriceBook()


def bill(model: str, usage: Usage, provider: str = "anthropic", **terms: Any) -> float:
    cost = BOOK.price_usage(provider, [model], usage, **terms)
    assert cost is not None
    return cost.total


def message(usage: dict[str, Any], *, stream: bool = False, **asked: Any) -> dict[str, Any]:
    """The attributes of a call of the Messages API whose answer has ``usage``."""
    counts = {"input_tokens": 1000, "output_tokens": 100, **usage}
    answer = {**MESSAGE, "model": OPUS, "usage": counts}
    begin = {**answer, "content": [], "usage": {"input_tokens": 1000, "output_tokens": 1}, "stop_reason": None}
    events = [
        {"type": "message_start", "message": begin},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": counts},
        {"type": "message_stop"},
    ]
    with capture() as captured:
        played = as_events([event(each) for each in events]) if stream else as_json(answer)
        client = MESSAGES_ROW.connect(Provider(played), "sync")
        # Older versions of the method do not know every parameter.
        result = MESSAGES_ROW.call(client, stream=stream, model=OPUS, extra_body=asked)
        if stream:
            list(result)
        (span,) = captured.spans
        return dict(span.attributes)


both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@both
def test_fast_mode_costs_what_it_costs(stream: bool) -> None:
    fast = bill(OPUS, Usage(1000, 100), service_tier="fast")
    assert fast > bill(OPUS, Usage(1000, 100))
    answered = message({"speed": "fast", "service_tier": "standard"}, stream=stream, speed="fast")
    assert answered["gen_ai.usage.cost.amount"] == pytest.approx(fast)
    assert message({}, stream=stream, speed="fast")["gen_ai.usage.cost.amount"] == pytest.approx(fast)


@both
def test_fast_mode_that_was_not_granted_is_not_billed(stream: bool) -> None:
    answered = message({"speed": "standard", "service_tier": "standard"}, stream=stream, speed="fast")
    assert answered["gen_ai.usage.cost.amount"] == pytest.approx(bill(OPUS, Usage(1000, 100)))


@both
def test_one_hour_cache_writes_cost_more(stream: bool) -> None:
    written = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 400}
    answered = message({"cache_creation_input_tokens": 500, "cache_creation": written}, stream=stream)
    usage = Usage(1500, 100, cache_write=500, cache_write_1h=400)
    assert answered["gen_ai.usage.cost.amount"] == pytest.approx(bill(OPUS, usage))
    assert bill(OPUS, usage) > bill(OPUS, Usage(1500, 100, cache_write=500))


@both
def test_compaction_is_paid_for(stream: bool) -> None:
    # "A `compaction` entry's tokens are not included in the top-level `usage` fields" (anthropic, BetaUsage)
    compaction = {
        "type": "compaction",
        "input_tokens": 20_000,
        "output_tokens": 700,
        "cache_read_input_tokens": 5_000,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    }
    answer = {"type": "message", "input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 0}
    answered = message({"iterations": [compaction, {**answer, "cache_creation_input_tokens": 0}]}, stream=stream)
    usage = Usage(26_300, 800, cache_read=5_000, cache_write=300, cache_write_1h=200)
    assert answered["gen_ai.usage.input_tokens"] == 26_300
    assert answered["gen_ai.usage.output_tokens"] == 800
    assert answered["gen_ai.usage.cache_read.input_tokens"] == 5_000
    assert answered["gen_ai.usage.cache_write.input_tokens"] == 300
    assert answered["gen_ai.usage.cost.amount"] == pytest.approx(bill(OPUS, usage))
    assert answered["gen_ai.conversation.compacted"] is True


@both
def test_batch_tier_of_a_message_is_half_the_price(stream: bool) -> None:
    answered = message({"service_tier": "batch"}, stream=stream)
    assert answered["gen_ai.usage.cost.amount"] == pytest.approx(bill(OPUS, Usage(1000, 100)) / 2)


@pytest.mark.parametrize(
    ("asked", "answered", "paid"),
    [("flex", None, "flex"), ("flex", "default", "default"), ("auto", "priority", "priority"), (None, "flex", "flex")],
)
def test_service_tier_of_a_chat_decides_its_price(asked: str | None, answered: str | None, paid: str) -> None:
    document = {**CHAT, "model": "gpt-5", "service_tier": answered}
    counts = CHAT["usage"]
    with capture() as captured:
        more = {} if asked is None else {"service_tier": asked}
        CHAT_ROW.call(CHAT_ROW.connect(Provider(as_json(document)), "sync"), model="gpt-5", **more)
        (span,) = captured.spans
    details = counts.get("prompt_tokens_details") or {}
    usage = Usage(counts["prompt_tokens"], counts["completion_tokens"], cache_read=details.get("cached_tokens"))
    wanted = bill("gpt-5", usage, "openai", service_tier=paid)
    assert span.attributes["gen_ai.usage.cost.amount"] == pytest.approx(wanted)


def test_searches_of_a_response_are_billed_and_opened_pages_are_not() -> None:
    # "Search actions incur a tool call cost" (OpenAI's guide to web search); opening a page is none
    actions = [{"type": "search", "query": "brook"}, {"type": "open_page", "url": "https://brook.example"}, None]
    actions += [{"type": "find_in_page", "pattern": "deep", "url": "https://brook.example"}]
    items = [
        {"type": "web_search_call", "id": f"ws_{at}", "status": "completed", "action": each}
        for at, each in enumerate(actions)
    ]
    document = {**RESPONSE, "model": "gpt-5", "output": [*items, *RESPONSE["output"]]}
    with capture() as captured:
        RESPONSES_ROW.call(RESPONSES_ROW.connect(Provider(as_json(document)), "sync"), model="gpt-5")
        (call,) = captured.calls
    assert call.usage.web_searches == 2
    assert call.cost.total == pytest.approx(bill("gpt-5", call.usage, "openai"))
