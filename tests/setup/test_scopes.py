"""For whom calls are made: sessions, baggage across services, and calls that are not to be observed."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.instrumentation.utils import suppress_instrumentation

import seatrace
from model import ask, client
from seatrace.testing import Captured, capture


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


def who(span: Any) -> dict[str, Any]:
    names = {
        "session.id": "session",
        "gen_ai.conversation.id": "conversation",
        "user.id": "user",
        "seatrace.tenant": "tenant",
        "gen_ai.agent.name": "agent",
        "team": "team",
        "step": "step",
    }
    return {short: span.attributes[name] for name, short in names.items() if name in span.attributes}


def test_sessions_nest(captured: Captured) -> None:
    with seatrace.session("s", user="u", attributes={"team": "red"}):
        with seatrace.session(conversation="c", tenant="t", agent="a", attributes={"step": 1}):
            ask(client())
        with seatrace.session("s2", attributes={"team": "blue"}):
            ask(client())
        ask(client())
    ask(client())
    assert [who(span) for span in captured.spans] == [
        {
            "session": "s",
            "user": "u",
            "conversation": "c",
            "tenant": "t",
            "agent": "a",
            "team": "red",
            "step": 1,
        },
        {"session": "s2", "user": "u", "team": "blue"},
        {"session": "s", "user": "u", "team": "red"},
        {},
    ]


def test_ids_of_other_types_are_text(captured: Captured) -> None:
    number: Any = 42
    identity: Any = uuid.UUID(int=1)
    odd: Any = {"team": object, "step": None}
    with seatrace.session(identity, user=number, attributes=odd):
        ask(client())
    assert who(captured.spans[0]) == {"session": str(identity), "user": "42", "team": "<class 'object'>"}


def test_a_session_holds_for_tasks_and_not_for_other_threads(captured: Captured) -> None:
    async def main() -> None:
        of = client(kind="AsyncOpenAI")

        async def one(name: str) -> None:
            with seatrace.session(user=name):
                await asyncio.gather(ask(of), ask(of))

        await asyncio.gather(one("a"), one("b"))

    asyncio.run(main())
    with seatrace.session(user="c"):
        thread = threading.Thread(target=lambda: ask(client()))
        thread.start()
        thread.join()
    assert sorted(who(span).get("user", "") for span in captured.spans) == ["", "a", "a", "b", "b"]


def test_a_session_left_in_another_context_is_no_trouble(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """As generators that a web framework uses for dependencies are: begun in one thread, ended in another."""
    for enter in (lambda: seatrace.session(user="u", propagate=True), seatrace.suppress):
        manager: Any = enter()
        contextvars.copy_context().run(manager.__enter__)
        manager.__exit__(None, None, None)
    ask(client())
    assert who(captured.spans[0]) == {}
    assert caplog.records == []


def test_the_tenant_is_on_cost_metrics(captured: Captured) -> None:
    with seatrace.session(tenant="acme", user="u"):
        ask(client())
    [cost] = captured.points("seatrace.cost")
    assert dict(cost.attributes) == {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "seatrace.tenant": "acme",
    }


# --- baggage --------------------------------------------------------------------------------------------------------


def test_baggage_goes_out_only_where_it_is_asked_for() -> None:
    def header() -> str | None:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier.get("baggage")

    with seatrace.session("s", user="u"):
        assert header() is None
        with seatrace.session(tenant="a b", propagate=True):
            assert sorted((header() or "").split(",")) == ["seatrace.tenant=a+b", "session.id=s", "user.id=u"]
        assert header() is None
    assert context.get_current() == {}


def test_baggage_from_upstream_is_used_where_nothing_is_said_here(captured: Captured) -> None:
    upstream = propagate.extract(
        {"baggage": "session.id=s,user.id=u%20v,seatrace.tenant=t,gen_ai.conversation.id=c,other=x"}
    )
    token = context.attach(upstream)
    try:
        ask(client())
        with seatrace.session(user="mine"):
            ask(client())
            with seatrace.agent("run"):
                ask(client())
    finally:
        context.detach(token)
    heard = {"session": "s", "user": "u v", "tenant": "t", "conversation": "c"}
    assert [who(span) for span in captured.spans] == [
        heard,
        {**heard, "user": "mine"},
        {**heard, "user": "mine", "agent": "run"},
        {**heard, "user": "mine", "agent": "run"},
    ]
    assert {point.attributes["seatrace.tenant"] for point in captured.points("seatrace.cost")} == {"t"}


def test_what_one_service_propagates_the_next_one_hears(captured: Captured) -> None:
    carrier: dict[str, str] = {}
    with seatrace.session("s", conversation="c", user="u", tenant="t", propagate=True):
        propagate.inject(carrier)
    token = context.attach(propagate.extract(carrier))
    ask(client())
    context.detach(token)
    assert who(captured.spans[0]) == {"session": "s", "user": "u", "tenant": "t", "conversation": "c"}


def test_long_baggage_is_cut(captured: Captured) -> None:
    token = context.attach(baggage.set_baggage("seatrace.tenant", "t" * 10_000))
    ask(client())
    context.detach(token)
    assert len(who(captured.spans[0])["tenant"]) == 256


# --- not to be observed ---------------------------------------------------------------------------------------------


def calls() -> None:
    ask(client())
    with seatrace.agent("run"):
        pass

    @seatrace.agent
    def run() -> Iterator[int]:
        yield 1

    assert list(run()) == [1]

    async def main() -> None:
        await ask(client(kind="AsyncOpenAI"))

    asyncio.run(main())


def test_suppressed_calls_are_made_and_not_observed(captured: Captured) -> None:
    with seatrace.suppress():
        calls()
        with seatrace.suppress():
            calls()
        calls()
    assert captured.spans == []
    assert "gen_ai.client.inference.duration" not in captured.metric_names
    calls()
    assert len(captured.spans) == 4


def test_opentelemetrys_own_switch_is_honoured(captured: Captured) -> None:
    with suppress_instrumentation():
        calls()
    assert captured.spans == []
    for key in (context._SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation"):
        token = context.attach(context.set_value(key, True))
        calls()
        context.detach(token)
    assert captured.spans == []
    calls()
    assert len(captured.spans) == 4


def test_suppressed_around_a_whole_agent_keeps_its_calls_unobserved(captured: Captured) -> None:
    @seatrace.agent
    def run() -> None:
        with seatrace.suppress():
            ask(client())
        ask(client())

    run()
    assert [span.name for span in captured.spans] == ["chat gpt-4o-mini", "invoke_agent run"]
    assert captured.total("gen_ai.invoke_agent.inference_calls") == 1
