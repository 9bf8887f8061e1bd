"""Which comes first does not matter: ``instrument()``, ``serve_metrics()``, the program's own MeterProvider."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import seatrace
from model import ask as call_model
from model import client
from seatrace.testing import capture
from setup.receiver import environment, run

from .scrape import ask, read, samples

_PROGRAM = """
import sys, threading, urllib.error, urllib.request
sys.path.insert(0, {tests!r})
import seatrace

def get(server, path="/metrics"):
    try:
        return urllib.request.urlopen(server.url + path, timeout=30).read().decode()
    except urllib.error.HTTPError as error:
        return str(error.code)

def calls(server):
    return sum(float(line.split()[-1]) for line in get(server).splitlines()
               if line.startswith("gen_ai_client_inference_duration_seconds_count"))

def call():
    from model import ask, client
    ask(client())

def own():
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))
    metrics.get_meter("shop").create_counter("orders").add(1)
"""
_TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def program(steps: str, **variables: str) -> str:
    out, err = run(_PROGRAM.format(tests=_TESTS) + steps, **variables)
    assert err == ""
    return out.strip()


_STEPS = {
    "instrument": "seatrace.instrument(service_name='shop')",
    "serve": "server = seatrace.serve_metrics(0)",
    "own": "own()",
}


@pytest.mark.parametrize("exporter", ["none", "otlp"])
@pytest.mark.parametrize("order", [("instrument", "serve"), ("serve", "instrument")], ids="-".join)
def test_with_a_provider_of_seatrace_s(order: tuple[str, ...], exporter: str) -> None:
    steps = "\n".join(_STEPS[each] for each in order)
    steps += "\ncall(); call(); print(calls(server), 'service_name=\"shop\"' in get(server))\nserver.close()"
    variables = {"SEATRACE_EXPORTER": exporter, "SEATRACE_ENDPOINT": "http://127.0.0.1:9"}
    out, _ = run(_PROGRAM.format(tests=_TESTS) + steps, **variables)  # nobody listens there, which is said
    assert out.strip() == "2.0 True"


@pytest.mark.parametrize(
    "order",
    [
        ("own", "instrument", "serve"),
        ("own", "serve", "instrument"),
        ("serve", "own", "instrument"),
    ],
    ids="-".join,
)
def test_with_a_provider_of_the_program_s(order: tuple[str, ...]) -> None:
    steps = "\n".join(_STEPS[each] for each in order)
    steps += "\ncall(); print(calls(server), 'service_name=\"shop\"' in get(server))"
    assert program(steps, SEATRACE_EXPORTER="none") == "1.0 False"


def test_without_instrument_the_program_s_own_metrics_are_served() -> None:
    steps = "own()\nserver = seatrace.serve_metrics(0)\nown2 = __import__('opentelemetry.metrics').metrics\n"
    steps += "own2.get_meter('shop').create_counter('orders').add(2)\nprint('orders_total' in get(server))"
    assert program(steps) == "True"


def test_a_provider_that_is_set_later_is_found_by_the_next_request() -> None:
    steps = (
        "server = seatrace.serve_metrics(0)\nprint(get(server), get(server, '/healthz').strip())\nown()\nget(server)\n"
    )
    steps += "from opentelemetry import metrics\nmetrics.get_meter('shop').create_counter('orders').add(2)\n"
    steps += "print('orders_total' in get(server))"
    assert program(steps) == "503 ok\nTrue"


def test_calls_before_the_server_count_where_a_provider_was_there() -> None:
    steps = """
seatrace.instrument(exporter="none")
call()
server = seatrace.serve_metrics(0)
call()
print(calls(server), "seatrace_faults_total" in get(server))
"""
    assert program(steps) == "1.0 True"  # without an exporter nobody counted before


def test_a_provider_that_is_none_of_the_sdk_s_is_refused_plainly() -> None:
    steps = """
from opentelemetry import metrics
metrics.set_meter_provider(metrics.NoOpMeterProvider())
try:
    seatrace.serve_metrics(0)
except seatrace.ConfigError as error:
    print(error)
"""
    assert program(steps) == (
        "serving metrics: expected a MeterProvider of the OpenTelemetry SDK, got opentelemetry.metrics."
        "NoOpMeterProvider. Set one up, or let seatrace.instrument() do it."
    )


def test_an_sdk_that_cannot_add_readers_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.metrics import MeterProvider

    for name in ("add_metric_reader", "remove_metric_reader"):  # as before 1.43
        monkeypatch.delattr(MeterProvider, name, raising=False)
    with seatrace.serve_metrics(0) as server:
        for _ in range(2):
            with capture():
                model = client()
                call_model(model)
                ask(server)
                call_model(model)
                found = samples(read(ask(server).text, strict=False))
                assert (
                    sum(of for (name, _), of in found.items() if name.endswith("inference_duration_seconds_count")) == 2
                )


def test_after_another_instrument_the_new_provider_is_served() -> None:
    with seatrace.serve_metrics(0) as server:
        for times in (1, 2):
            with capture():
                for _ in range(times):
                    call_model(client())
                found = samples(read(ask(server).text, strict=False))
                count = [
                    of for (name, _), of in found.items() if name == "gen_ai_client_inference_duration_seconds_count"
                ]
                assert count == [times]


def test_nothing_is_loaded_and_no_thread_runs_before_somebody_serves() -> None:
    steps = """
seatrace.instrument(exporter="none")
print(sorted(name for name in sys.modules if name.startswith("seatrace.pull.") or name == "http.server"))
app = seatrace.metrics_asgi_app(), seatrace.metrics_wsgi_app()
print([thread.name for thread in threading.enumerate()])
server = seatrace.serve_metrics(0)
print([(thread.name, thread.daemon) for thread in threading.enumerate()][1:])
server.close()
print([thread.name for thread in threading.enumerate()])
"""
    assert program(steps) == "[]\n['MainThread']\n[('seatrace-metrics', True)]\n['MainThread']"


def test_shutdown_closes_the_server_and_what_is_set_up_later_serves_again() -> None:
    steps = """
seatrace.instrument(exporter="none")
server = seatrace.serve_metrics(0)
call()
seatrace.shutdown()
try:
    urllib.request.urlopen(server.url + "/healthz", timeout=5)
except urllib.error.URLError as error:
    print(type(error.reason).__name__)
seatrace.instrument(exporter="none")
again = seatrace.serve_metrics(server.port)
call()
print(calls(again))
"""
    assert program(steps) == "ConnectionRefusedError\n1.0"


def test_a_program_that_serves_ends() -> None:
    program("seatrace.instrument(exporter='none')\nserver = seatrace.serve_metrics(0)\nget(server)")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_lets_go_of_the_port_and_counts_from_zero_on_its_own() -> None:
    steps = """
import os
seatrace.instrument(exporter="none")
server = seatrace.serve_metrics(0)
call()
ready, told = os.pipe()
child = os.fork()
if child == 0:
    mine = seatrace.serve_metrics(0)
    call(); call()
    os.write(told, f"{mine.port != server.port} {calls(mine)}".encode())
    os._exit(0)
os.waitpid(child, 0)
print(os.read(ready, 100).decode(), calls(server))
lives, end = os.pipe()
child = os.fork()
if child == 0:
    os.write(told, b".")
    os.read(lives, 1)
    os._exit(0)
os.read(ready, 1)
server.close()
seatrace.serve_metrics(server.port).close()  # which a child that held it would forbid
os.write(end, b".")
os.waitpid(child, 0)
"""
    out, _ = run(_PROGRAM.format(tests=_TESTS) + steps, PYTHONWARNINGS="ignore")
    assert out.strip() == "True 2.0 1.0"


def test_each_of_several_processes_takes_a_port_of_its_own() -> None:
    import socket

    with socket.socket() as probe:  # three free ones in a row are wanted: the first of them is looked for here
        probe.bind(("127.0.0.1", 0))
        base = probe.getsockname()[1]
    steps = f"""
seatrace.instrument(exporter="none")
server = seatrace.serve_metrics(range({base}, {base} + 3))
print(server.port, flush=True)
sys.stdin.read()
"""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(tests=_TESTS) + steps],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        ports = [int(_line(worker)) for worker in workers]
        assert len(set(ports)) == 2
        assert set(ports) <= set(range(base, base + 3))
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=30)


def _line(process: subprocess.Popen[Any]) -> str:
    assert process.stdout is not None
    return str(process.stdout.readline())
