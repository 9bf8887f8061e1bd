"""What a crash costs: of the collector, of Prometheus. The promises are those of docs/collector.md."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setup.receiver import Receiver, environment, grpc_receiver

from . import foreign
from .backend import prometheus
from .collector import Collector, collecting
from .programs import free_ports, wait_for

SPANS = 2_000
"""What one program makes."""

PROGRAM = f"""
import sys, time
import seatrace
seatrace.instrument(service_name="steady")

@seatrace.agent("worker")
def work() -> None:
    time.sleep(0.003)

for number in range({SPANS}):
    work()
    if number == 500:
        print("going", flush=True)
        sys.stdin.readline()
seatrace.flush(60)
seatrace.shutdown(60)
"""


def settings(store: Receiver, **more: str) -> dict[str, str]:
    return {"SEATRACE_TRACES_ENDPOINT": store.endpoint.removeprefix("http://"), **more}


def arrived(store: Receiver) -> set[bytes]:
    return {each.data.span_id for each in store.spans}


@contextmanager
def program(text: str, collector: Collector) -> Iterator[subprocess.Popen[str]]:
    env = environment(
        SEATRACE_ENDPOINT=collector.http, OTEL_BSP_SCHEDULE_DELAY="200", OTEL_METRIC_EXPORT_INTERVAL="500"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_collector_that_keeps_every_trace_loses_no_span_to_kill_9(
    otelcol: str, store: Receiver, tmp_path: Path
) -> None:
    with collecting(otelcol, tmp_path, "scrape", "unsampled", settings=settings(store)) as collector:
        store.release.clear()  # so that something is in the queue when it dies
        with program(PROGRAM, collector) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "going\n"
            collector.wait_for_count(1, "otelcol_receiver_accepted_spans(?:_total)?")
            wait_for(lambda: store.asked.is_set(), "a batch is on its way to the store, unanswered")
            process.stdin.write("\n")
            process.stdin.flush()
            collector.kill()
            store.release.set()
            collector.start()
            assert process.wait(120) == 0
        store.wait_for(lambda: len(arrived(store)) >= SPANS)
    assert len(arrived(store)) == SPANS


def test_the_queue_on_disk_outlives_the_collector(otelcol: str, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    nowhere = {"SEATRACE_TRACES_ENDPOINT": f"127.0.0.1:{port}"}
    sent = [foreign.span("call") for _ in range(100)]
    with collecting(otelcol, tmp_path, "scrape", "unsampled", settings=nowhere) as collector:
        for each in sent:
            assert foreign.post(collector.http, foreign.spans([each])) == 200
        collector.kill()
    with grpc_receiver() as store, collecting(otelcol, tmp_path, "scrape", "unsampled", settings=settings(store)):
        store.wait_for(lambda: arrived(store) >= {each.span_id for each in sent})


def test_with_sampling_only_traces_without_a_decision_are_lost_to_kill_9(
    otelcol: str, store: Receiver, tmp_path: Path
) -> None:
    judged = [foreign.span("judged", failed=True) for _ in range(20)]
    waiting = [foreign.span("waiting", failed=True, parent=b"12345678") for _ in range(10)]
    with collecting(
        otelcol, tmp_path, "scrape", settings=settings(store, SEATRACE_SAMPLING_WAIT_AFTER_ROOT="1s")
    ) as collector:
        store.release.clear()
        foreign.post(collector.http, foreign.spans(judged))
        collector.wait_for_count(
            20, "otelcol_processor_tail_sampling_global_count_traces_sampled(?:_total)?", sampled="true"
        )
        foreign.post(collector.http, foreign.spans(waiting))
        wait_for(lambda: store.asked.is_set(), "the judged ones are on their way")
        collector.kill()
        store.release.set()
        collector.start()
        after = foreign.span("after", failed=True)
        foreign.post(collector.http, foreign.spans([after]))
        store.wait_for(lambda: after.span_id in arrived(store))
        store.wait_for(lambda: arrived(store) >= {each.span_id for each in judged})
    assert arrived(store) == {each.span_id for each in [*judged, after]}


def test_a_collector_that_ends_in_order_judges_what_waits(otelcol: str, store: Receiver, tmp_path: Path) -> None:
    waiting = [foreign.span("waiting", failed=True, parent=b"12345678") for _ in range(10)]
    with collecting(otelcol, tmp_path, "scrape", settings=settings(store)) as collector:
        foreign.post(collector.http, foreign.spans(waiting))
        collector.stop()
        collector.start()  # sends what the other left in the queue, if it did
        store.wait_for(lambda: arrived(store) >= {each.span_id for each in waiting})


# --- Prometheus -------------------------------------------------------------------------------------------------------

ENDLESS = """
import json, sys, threading, time
import seatrace
seatrace.instrument(service_name="endless")

@seatrace.agent("worker")
def work() -> None:
    time.sleep(0.0005)

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * 4096

for line in sys.stdin:
    begin = time.process_time()
    for _ in range(int(line)):
        work()
    print(json.dumps({"cpu": time.process_time() - begin, "memory": resident()}), flush=True)
seatrace.shutdown(60)
"""


def test_without_prometheus_the_program_is_no_slower_and_grows_no_larger(
    otelcol: str, store: Receiver, tmp_path: Path
) -> None:
    with collecting(otelcol, tmp_path / "otelcol", "scrape", "unsampled", settings=settings(store)) as collector:
        targets = {"otelcol": collector.scraped}
        with program(ENDLESS, collector) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def work(runs: int) -> dict[str, float]:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{runs}\n")
                process.stdin.flush()
                found: dict[str, float] = json.loads(process.stdout.readline())
                return found

            counted = 'gen_ai_invoke_agent_duration_seconds_count{job="endless"}'
            with prometheus(tmp_path / "prometheus", targets=targets) as running:
                work(1_000)
                wait_for(lambda: running.value(counted) == 1_000, "Prometheus sees the runs")
                before = [work(500) for _ in range(4)]
                running.program.kill()
                after = [work(500) for _ in range(8)]
            assert min(each["cpu"] for each in after) < 2 * min(each["cpu"] for each in before)
            assert after[-1]["memory"] - before[-1]["memory"] < 16 << 20
            with prometheus(tmp_path / "prometheus", targets=targets) as again:
                wait_for(lambda: again.value(counted) == 7_000, "nothing is missing from the counters")
        assert collector.counted("otelcol_receiver_refused_metric_points(?:_total)?") == 0


def test_metrics_that_are_pushed_wait_on_disk_until_prometheus_is_back(
    otelcol: str, store: Receiver, tmp_path: Path
) -> None:
    from setup.receiver import http_receiver, points

    port = free_ports(1)[0]
    down = settings(store, SEATRACE_METRICS_ENDPOINT=f"http://127.0.0.1:{port}/api/v1/otlp")
    with collecting(otelcol, tmp_path, settings=down) as collector:
        assert foreign.post(collector.http, foreign.counter("sales", [({"shop": "a"}, 7.0)], unit="{sale}")) == 200
        collector.wait_for_count(1, "otelcol_receiver_accepted_metric_points(?:_total)?")
        collector.kill()
    with http_receiver() as back:
        up = settings(store, SEATRACE_METRICS_ENDPOINT=back.endpoint)
        with collecting(otelcol, tmp_path, settings=up):
            back.wait_for(lambda: back.metrics("sales"))
    assert points(back.metrics("sales")[0])[0].as_double == 7.0
