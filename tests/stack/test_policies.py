"""What the shipped configs do with traces: secrets are masked, runs are judged as a whole, nothing else is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from seatrace.emit import semconv
from setup.receiver import Receiver

from . import foreign
from .collector import Collector, collecting
from .programs import wait_for


def settings(store: Receiver, **more: str) -> dict[str, str]:
    return {
        "SEATRACE_TRACES_ENDPOINT": store.endpoint.removeprefix("http://"),
        "SEATRACE_SAMPLING_WAIT": "3s",
        "SEATRACE_SAMPLING_WAIT_AFTER_ROOT": "1s",
        **more,
    }


# --- redaction --------------------------------------------------------------------------------------------------------


@pytest.fixture
def unsampled(otelcol: str, store: Receiver, tmp_path: Path) -> Iterator[Collector]:
    """A collector that keeps every trace."""
    with collecting(otelcol, tmp_path, "scrape", "unsampled", settings=settings(store)) as collector:
        yield collector


def test_secrets_are_masked_wherever_they_stand(unsampled: Collector, store: Receiver) -> None:
    key = "sk-proj-0123456789abcdefghijklmn"
    attributes: dict[str, foreign.Value] = {
        "http.request.header.authorization": "Bearer whatever",
        "db.password": "hunter2",
        "llm.api_key": "anything",
        "refresh_token": "anything",
        "gen_ai.input.messages": f'[{{"role": "user", "content": "my key is {key}"}}]',
        "note": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s5cr3t-signature",
        "list": ["plain", f"with {key}"],
    }
    sent = foreign.span("call", attributes, event={"exception.message": f"bad {key}"}, failed=f"no such key: {key}")
    plain = foreign.span("plain", failed=f"no such key: {key}")
    foreign.post(unsampled.http, foreign.spans([sent, plain]))
    store.wait_for(lambda: len(store.spans) == 2)
    arrived, other = store.spans
    assert (other.data.status.message, other.attributes.keys()) == ("no such key: ****", {"redaction.masked.count"})
    text = str(arrived.data)
    for secret in (key, "hunter2", "whatever", "anything", "s5cr3t"):
        assert secret not in text
    assert arrived.attributes["gen_ai.input.messages"].startswith('[{"role": "user", "content": "my key is ****')
    assert arrived.attributes["list"] == '["plain","with ****"]'
    assert arrived.data.status.message == "no such key: ****"
    assert arrived.attributes["redaction.masked.count"] >= 6
    assert "seatrace.status.message" not in arrived.attributes


def test_what_the_conventions_name_is_no_secret(unsampled: Collector, store: Receiver) -> None:
    names = [value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)]
    sent: dict[str, foreign.Value] = {name: "plain text" for name in names if not name.startswith("https:")}
    sent |= {name: 1234 for name in names if name.endswith("tokens") or "token" in name}
    sent |= {semconv.USAGE_COST_AMOUNT: 0.25, "gen_ai.request.max_tokens": 100, "session.id": "1", "user.id": "u"}
    sent |= {
        "words": "a task-management-system and a risk-assessment-for-the-department",
        "list": ["a", "b"],
        "flag": True,
    }
    foreign.post(unsampled.http, foreign.spans([foreign.span("call", sent)]))
    store.wait_for(lambda: store.spans)
    assert store.spans[0].attributes == sent


# --- sampling ---------------------------------------------------------------------------------------------------------

KEPT: dict[str, list[foreign.Span]] = {
    "errors": [foreign.span("failed", failed=True)],
    "slow": [foreign.span("slow", seconds=31.0)],
    "an expensive call": [foreign.span("call", {semconv.USAGE_COST_AMOUNT: 0.11})],
    "an expensive run": [foreign.span("run", {semconv.RUN_COST: 0.6})],
    "looping": [foreign.span("run", {semconv.LOOP_REASON: "repetition"})],
}
"""One trace for each reason to keep it."""


def with_children(root: foreign.Span) -> list[foreign.Span]:
    """A trace: the reason may stand on any one span."""
    others = [foreign.span("child", trace=root.trace_id, parent=root.span_id) for _ in range(3)]
    return [*others, root]


def test_what_matters_is_kept_whole_and_the_rest_is_dropped_and_counted(
    otelcol: str, store: Receiver, tmp_path: Path
) -> None:
    traces = [with_children(root) for roots in KEPT.values() for root in roots]
    boring = [with_children(foreign.span("fine", {semconv.USAGE_COST_AMOUNT: 0.01})) for _ in range(50)]
    with collecting(otelcol, tmp_path, "scrape", settings=settings(store, SEATRACE_SAMPLING_PERCENT="0")) as collector:
        for trace in [*traces, *boring]:
            foreign.post(collector.http, foreign.spans(trace))
        name = "otelcol_processor_tail_sampling_global_count_traces_sampled(?:_total)?"
        collector.wait_for_count(len(boring), name, sampled="false")
        collector.wait_for_count(len(traces), name, sampled="true")
        store.wait_for(lambda: len(store.spans) >= 4 * len(traces))
        late = foreign.span("late", trace=traces[0][0].trace_id, parent=traces[0][-1].span_id)
        dropped = foreign.span("late", trace=boring[0][0].trace_id, parent=boring[0][-1].span_id)
        foreign.post(collector.http, foreign.spans([dropped, late]))
        store.wait_for(lambda: any(each.name == "late" for each in store.spans))
        assert collector.counted(name, sampled="false") == len(boring)
    by_trace = Counter(each.data.trace_id for each in store.spans)
    assert by_trace == {trace[0].trace_id: 5 if trace is traces[0] else 4 for trace in traces}


def test_a_share_of_the_rest_is_kept(otelcol: str, store: Receiver, tmp_path: Path) -> None:
    with collecting(otelcol, tmp_path, "scrape", settings=settings(store, SEATRACE_SAMPLING_PERCENT="25")) as collector:
        foreign.post(collector.http, foreign.spans(foreign.span("fine") for _ in range(1000)))
        name = "otelcol_processor_tail_sampling_global_count_traces_sampled(?:_total)?"
        wait_for(lambda: collector.counted(name) >= 1000, "all traces are judged")
        kept = int(collector.counted(name, sampled="true"))
        assert 170 < kept < 330
        store.wait_for(lambda: len(store.spans) >= kept)


# --- two tiers --------------------------------------------------------------------------------------------------------


def test_the_spans_of_a_trace_meet_in_one_collector_of_the_second_tier(
    otelcol: str, store: Receiver, tmp_path: Path
) -> None:
    common = settings(store, SEATRACE_SAMPLING_PERCENT="0")
    with (
        collecting(otelcol, tmp_path / "judge-1", "scrape", "tier-2", settings=common) as one,
        collecting(otelcol, tmp_path / "judge-2", "scrape", "tier-2", settings=common) as two,
    ):
        both = {"SEATRACE_TIER_2": f"[{one.grpc}, {two.grpc}]", **common}
        with (
            collecting(otelcol, tmp_path / "door-1", "scrape", "tier-1", settings=both) as left,
            collecting(otelcol, tmp_path / "door-2", "scrape", "tier-1", settings=both) as right,
        ):
            traces = [with_children(foreign.span("run", failed=number % 2 == 0)) for number in range(40)]
            for trace in traces:  # each half of a trace comes in by another door
                foreign.post(left.http, foreign.spans(trace[:2]))
                foreign.post(right.http, foreign.spans(trace[2:]))
            store.wait_for(lambda: len(store.spans) >= 4 * 20)
            name = "otelcol_processor_tail_sampling_new_trace_id_received(?:_total)?"
            seen = [judge.counted(name) for judge in (one, two)]
    assert sum(seen) == 40  # nobody saw half a trace
    assert min(seen) > 0
    by_trace = Counter(each.data.trace_id for each in store.spans)
    assert by_trace == {trace[0].trace_id: 4 for trace in traces[::2]}
