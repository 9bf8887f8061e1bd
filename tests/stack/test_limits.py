"""What is too much is bounded and counted, on the way through the SDK and in the collector; nothing crashes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from setup.receiver import Item, Receiver, environment

from . import foreign
from .collector import Collector, collecting
from .programs import DEADLINE, get, wait_for

MIB = 1 << 20


@pytest.fixture(scope="module")
def gateway(otelcol: str, shared_store: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    settings = {
        "SEATRACE_TRACES_ENDPOINT": shared_store.endpoint.removeprefix("http://"),
        "SEATRACE_SAMPLING_WAIT_AFTER_ROOT": "1s",
        "SEATRACE_SAMPLING_PERCENT": "100",
    }
    with collecting(otelcol, tmp_path_factory.mktemp("limits"), "scrape", settings=settings) as collector:
        yield collector
        assert collector.running is not None
        assert collector.running.runs


def series(collector: Collector, name: str) -> dict[str, float]:
    """What Prometheus would get: values by their labels, as text."""
    text = get(f"http://{collector.scraped}/metrics").decode()
    return {found[1]: float(found[2]) for found in re.finditer(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)}


@contextmanager
def going(collector: Collector, program: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that works and then waits for the end of its stdin; until then it exports what it counted."""
    env = environment(SEATRACE_ENDPOINT=collector.http, OTEL_METRIC_EXPORT_INTERVAL="1000", **settings)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], env=env, stdin=pipe, stdout=pipe) as process:
        try:
            yield process
            process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert process.returncode == 0


# --- through the SDK --------------------------------------------------------------------------------------------------

LONG_RUN = """
import sys
import seatrace
seatrace.instrument(service_name="long-run")

@seatrace.tool
def step(number: int) -> int:
    return number

@seatrace.agent("marathon")
def work() -> None:
    for number in range(12_000):
        step(number)

work()
seatrace.flush(60)
print("all is sent", flush=True)
sys.stdin.read()  # goes on exporting its counts
"""

LARGEST_BATCH = 512
"""Spans that the SDK exports at one go; its default."""


def test_a_trace_of_12000_spans_arrives_or_is_counted_as_dropped(gateway: Collector, shared_store: Receiver) -> None:
    def counted(*, dropped: bool) -> int:
        found = series(gateway, "otel_sdk_processor_span_processed_total")
        return int(
            sum(n for labels, n in found.items() if 'job="long-run"' in labels and ("error_type" in labels) == dropped)
        )

    def arrived() -> list[Item]:
        return [each for each in list(shared_store.spans) if each.resource["service.name"] == "long-run"]

    def all_are_known() -> bool:
        """Each span arrived or was counted as dropped. The SDK looks at its queue, says that it is full, and only then
        puts the span in: where a batch was taken out in between, it counts one as dropped that is not."""
        delivered, dropped = counted(dropped=False), counted(dropped=True)
        if len({each.data.span_id for each in arrived()}) != delivered:
            return False
        batches = delivered // LARGEST_BATCH + 1
        return 12_001 <= delivered + dropped <= 12_001 + (batches if dropped else 0)

    with going(gateway, LONG_RUN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"all is sent\n"
        wait_for(all_are_known, "each of 12,001 spans arrives or is counted as dropped")
    assert len({each.data.trace_id for each in arrived()}) == 1


MANY_TENANTS = """
import sys
import seatrace
seatrace.instrument(service_name="many-tenants")

@seatrace.agent("clerk")
def serve() -> None:
    pass

for number in range(20_000):
    with seatrace.session(tenant=f"tenant-{number}", user=f"user-{number}", conversation=f"conversation-{number}"):
        serve()
sys.stdin.read()
"""


def test_20000_tenants_are_500_series_and_a_rest_that_counts_them_all(gateway: Collector) -> None:
    def runs() -> dict[str, float]:
        found = series(gateway, "seatrace_agent_run_steps_count")
        return {labels: number for labels, number in found.items() if 'job="many-tenants"' in labels}

    with going(gateway, MANY_TENANTS, OTEL_TRACES_SAMPLER="always_off"):
        wait_for(lambda: sum(runs().values()) == 20_000, "every run is counted")
    assert len(runs()) == 501
    assert any('seatrace_tenant="_OTHER"' in labels for labels in runs())
    assert not any("user" in labels or "conversation" in labels for labels in runs())


LONG_PROMPT = """
import sys
import seatrace
seatrace.instrument(service_name="long-prompt", capture_content="SPAN_ONLY")

@seatrace.tool
def read(text: str) -> str:
    return text

read("x" * 5_000_000)
seatrace.flush(60)
sys.stdin.read()
"""


def test_an_argument_of_5_mb_is_cut_by_the_sdk(gateway: Collector, shared_store: Receiver) -> None:
    with going(gateway, LONG_PROMPT):
        shared_store.wait_for(
            lambda: any(each.resource["service.name"] == "long-prompt" for each in shared_store.spans)
        )
    (span,) = [each for each in shared_store.spans if each.resource["service.name"] == "long-prompt"]
    texts = {key: len(value) for key, value in span.attributes.items() if isinstance(value, str)}
    assert 10_000 < texts["gen_ai.tool.call.arguments"] < 20_000
    assert max(texts.values()) < 20_000


# --- through the collector alone --------------------------------------------------------------------------------------


def test_a_foreign_attribute_of_5_mb_is_cut_by_the_collector(gateway: Collector, shared_store: Receiver) -> None:
    assert foreign.post(gateway.http, foreign.spans([foreign.span("huge", {"text": "x" * 5_000_000})])) == 200
    shared_store.wait_for(lambda: any(each.name == "huge" for each in shared_store.spans))
    (span,) = [each for each in shared_store.spans if each.name == "huge"]
    assert len(span.attributes["text"]) == MIB


def test_a_request_above_the_limit_is_refused(gateway: Collector) -> None:
    try:
        status = foreign.post(gateway.http, foreign.spans([foreign.span("too much", {"text": "x" * (17 * MIB)})]))
    except OSError:  # it hangs up while we still talk
        return
    assert 400 <= status < 500


def test_20000_users_are_one_series_with_their_sum(gateway: Collector) -> None:
    for begin in range(0, 20_000, 5_000):
        points = [
            ({"user.id": f"user-{number}", "gen_ai.conversation.id": f"{number}", "model": "m" * 1000}, 2.0)
            for number in range(begin, begin + 5_000)
        ]
        request = foreign.counter("calls", points, unit="{call}", service=f"many-users-{begin}")
        assert foreign.post(gateway.http, request) == 200

    def found() -> dict[str, float]:
        return {labels: value for labels, value in series(gateway, "calls_total").items() if "many-users" in labels}

    wait_for(lambda: sum(found().values()) == 40_000, "all is counted")
    assert len(found()) == 4  # one for each process that sent them
    assert all(
        f'model="{"m" * 256}"' in labels and "user" not in labels.replace("many-users", "") for labels in found()
    )


def test_a_metric_without_such_labels_is_not_added_up(gateway: Collector) -> None:
    points: list[tuple[dict[str, foreign.Value], float]] = [({"model": "a"}, 1.0), ({"model": "b"}, 2.0)]
    foreign.post(gateway.http, foreign.counter("plain", points, unit="{call}"))
    wait_for(lambda: sorted(series(gateway, "plain_total").values()) == [1.0, 2.0], "both series")


def test_a_trace_above_64_mb_is_dropped_and_counted(gateway: Collector, shared_store: Receiver) -> None:
    trace = foreign.new_trace()
    for _ in range(9):
        children = [foreign.span("part", {"text": "x" * MIB}, trace=trace, parent=b"12345678") for _ in range(8)]
        assert foreign.post(gateway.http, foreign.spans(children)) == 200
    gateway.wait_for_count(1, "otelcol_processor_tail_sampling_traces_dropped_too_large(?:_total)?")
    assert not [each for each in shared_store.spans if each.name == "part"]


def test_above_its_memory_it_refuses_counts_and_recovers(otelcol: str, shared_store: Receiver, tmp_path: Path) -> None:
    settings = {
        "SEATRACE_TRACES_ENDPOINT": shared_store.endpoint.removeprefix("http://"),
        "SEATRACE_COLLECTOR_MEMORY_MIB": "120",
        "SEATRACE_COLLECTOR_SPIKE_MIB": "40",
        "SEATRACE_SAMPLING_WAIT": "8s",
        "SEATRACE_SAMPLING_PERCENT": "0",
    }
    with collecting(otelcol, tmp_path, "scrape", settings=settings) as collector:

        def send() -> int:
            orphans = [foreign.span("flood", {"text": "x" * MIB}, parent=b"12345678") for _ in range(8)]
            return foreign.post(collector.http, foreign.spans(orphans))

        wait_for(lambda: send() == 503, "it refuses, so that the sender tries again")
        assert collector.counted("otelcol_receiver_refused_spans(?:_total)?") >= 8
        assert collector.memory() < 700 * MIB
        wait_for(lambda: send() == 200, "it takes spans again")
