"""However a process ends, what it recorded arrives: exit, SIGTERM, forked and spawned workers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .receiver import Receiver, environment, http_receiver, points, run, start

TOOL = """
import os, signal, sys, threading, time
import seatrace
@seatrace.tool
def work(): pass
"""


@pytest.fixture
def http() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


def go(program: str, receiver: Receiver) -> tuple[str, str]:
    return run(TOOL + program, SEATRACE_ENDPOINT=receiver.endpoint, OTEL_METRIC_EXPORT_INTERVAL="inf")


def tool_calls(receiver: Receiver) -> int:
    """Of the metric, summed over processes: the last export of each is the one that counts."""
    last = {item.resource["service.instance.id"]: item for item in receiver.metrics("gen_ai.execute_tool.duration")}
    return sum(point.count for item in last.values() for point in points(item))


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "threading.Thread(target=lambda: (time.sleep(0.2), work())).start()",
        "import atexit; atexit.register(work)",
        "import gc\nclass Circle: pass\nround = Circle(); round.round = round",
    ],
)
def test_a_short_program_loses_nothing(http: Receiver, ending: str) -> None:
    assert go(f"seatrace.instrument(); work()\n{ending}", http) == ("", "")
    expected = 2 if "work" in ending else 1
    assert http.span_names() == ["execute_tool work"] * expected
    assert tool_calls(http) == expected


def test_a_program_that_fails_loses_nothing(http: Receiver) -> None:
    process = start(TOOL + "seatrace.instrument(); work(); 1 / 0", SEATRACE_ENDPOINT=http.endpoint)
    assert "ZeroDivisionError" in process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert http.span_names() == ["execute_tool work"]


def test_exit_after_uninstrument_still_delivers(http: Receiver) -> None:
    assert go("seatrace.instrument(); work(); seatrace.uninstrument(); work()", http) == ("", "")
    assert http.span_names() == ["execute_tool work"]


def test_instrument_works_again_after_uninstrument_and_after_shutdown(http: Receiver) -> None:
    program = """
for last in (seatrace.uninstrument, seatrace.shutdown, seatrace.shutdown, seatrace.uninstrument):
    seatrace.instrument()
    work()
    last()
work()
"""
    assert go(program, http) == ("", "")
    assert http.span_names() == ["execute_tool work"] * 4


def test_spans_of_the_program_itself_arrive_too(http: Receiver) -> None:
    program = """
from opentelemetry import trace
seatrace.instrument()
with trace.get_tracer("mine").start_as_current_span("outer"): work()
"""
    assert go(program, http) == ("", "")
    [inner] = [item for item in http.spans if item.scope == "seatrace"]
    [outer] = [item for item in http.spans if item.scope == "mine"]
    assert inner.data.parent_span_id == outer.data.span_id


# --- SIGTERM --------------------------------------------------------------------------------------------------------

WAIT = """
print("ready", flush=True)
while True: time.sleep(0.01)
"""


def terminate(program: str, receiver: Receiver, **variables: str) -> tuple[int, str, str]:
    variables = {"SEATRACE_ENDPOINT": receiver.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "inf", **variables}
    process = start(TOOL + program, **variables)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_sigterm_without_a_handler_delivers_and_ends_by_sigterm(http: Receiver) -> None:
    assert terminate("seatrace.instrument(); work()" + WAIT, http) == (-signal.SIGTERM, "", "")
    assert http.span_names() == ["execute_tool work"]
    assert tool_calls(http) == 1


def test_sigterm_in_the_middle_of_a_call_delivers(http: Receiver) -> None:
    program = """
seatrace.instrument()
@seatrace.tool
def busy():
    while True:
        work()
        if not hasattr(busy, "told"):
            busy.told = print("ready", flush=True)
busy()
"""
    # On a busy machine thousands of spans wait for the exporter's thread; the SDK would say that it drops some.
    assert terminate(program, http, OTEL_BSP_MAX_QUEUE_SIZE="1000000") == (-signal.SIGTERM, "", "")
    assert "execute_tool work" in http.span_names()


HANDLER = """
def handle(number, frame):
    os.write(1, b"handled\\n")  # print is not reentrant
    sys.exit(7)
signal.signal(signal.SIGTERM, handle)
"""


@pytest.mark.parametrize(
    "order", [HANDLER + "seatrace.instrument()", "seatrace.instrument()" + HANDLER], ids=["before", "after"]
)
def test_the_programs_own_handler_runs(http: Receiver, order: str) -> None:
    program = order + "\nwork()\nassert signal.getsignal(signal.SIGTERM) is handle" + WAIT
    assert terminate(program, http) == (7, "handled\n", "")
    assert http.span_names() == ["execute_tool work"]


def test_a_handler_may_call_the_one_it_found(http: Receiver) -> None:
    program = """
seatrace.instrument()
found = signal.getsignal(signal.SIGTERM)
def handle(number, frame):
    os.write(1, b"handled\\n")  # print is not reentrant
    found(number, frame)
signal.signal(signal.SIGTERM, handle)
work()
"""
    assert terminate(program + WAIT, http) == (-signal.SIGTERM, "handled\n", "")
    assert http.span_names() == ["execute_tool work"]


def test_an_ignored_sigterm_stays_ignored(http: Receiver) -> None:
    program = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
seatrace.instrument()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
"""
    assert go(program, http) == ("", "")


def test_asyncio_handlers_of_the_program_run(http: Receiver) -> None:
    program = """
import asyncio
async def main():
    seatrace.instrument()
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    work()
    print("ready", flush=True)
    await done.wait()
asyncio.run(main())
"""
    assert terminate(program, http) == (0, "", "")
    assert http.span_names() == ["execute_tool work"]


def test_instrument_outside_of_the_main_thread_leaves_signals_alone(http: Receiver) -> None:
    program = """
thread = threading.Thread(target=seatrace.instrument); thread.start(); thread.join()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
work()
"""
    assert go(program, http) == ("", "")
    assert http.span_names() == ["execute_tool work"]


def test_uninstrument_gives_sigterm_back(http: Receiver) -> None:
    program = """
seatrace.instrument()
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
seatrace.uninstrument()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
    assert go(program, http) == ("", "")


def test_sigterm_does_not_wait_for_a_collector_that_hangs(http: Receiver) -> None:
    http.release.clear()
    program = "seatrace.instrument(); import seatrace.ending; seatrace.ending.PATIENCE = 0.3; work()"
    assert terminate(program + WAIT, http) == (-signal.SIGTERM, "", "")


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
seatrace.instrument()

@seatrace.agent
def run():
    threads = [threading.Thread(target=work) for _ in range(3)]
    [thread.start() for thread in threads]; [thread.join() for thread in threads]

gevent.joinall([gevent.spawn(run) for _ in range(3)])
"""


def test_under_gevent_exit_and_sigterm_deliver(http: Receiver) -> None:
    pytest.importorskip("gevent")
    quiet = "import warnings; warnings.simplefilter('default')"
    assert go(quiet + GEVENT, http) == ("", "")
    wait = "print('ready', flush=True)\nwhile True: gevent.sleep(0.01)"
    assert terminate(quiet + GEVENT + wait, http) == (-signal.SIGTERM, "", "")
    assert http.span_names() == ["execute_tool work"] * 18 + ["invoke_agent run"] * 6


# --- other processes ------------------------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")

FORK = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
"""Python 3.12 warns of forking with threads."""


@needs_fork
def test_a_forked_child_delivers_its_own_and_counts_from_zero(http: Receiver) -> None:
    program = """
seatrace.instrument()
work(); work()
seatrace.flush()
for _ in range(2):
    if not os.fork():
        work()
        sys.exit()
for _ in range(2): os.wait()
work()
"""
    assert go(FORK + program, http) == ("", "")
    assert http.span_names() == ["execute_tool work"] * 5
    assert tool_calls(http) == 5
    processes = {(item.resource["service.instance.id"], item.resource["process.pid"]) for item in http.items}
    assert len(processes) == 3
    assert len({pid for _, pid in processes}) == 3


@needs_fork
def test_a_child_forked_while_the_parent_exports_is_not_stuck(http: Receiver) -> None:
    program = """
seatrace.instrument()
work()
exporting = threading.Thread(target=seatrace.flush); exporting.start()
print("ready", flush=True); sys.stdin.readline()
if not os.fork():
    work()
    sys.exit()
print("forked", flush=True)
os.wait(); exporting.join()
"""
    http.release.clear()
    process = start(FORK + TOOL + program, SEATRACE_ENDPOINT=http.endpoint)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    assert http.asked.wait(30)
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()
    http.release.set()
    assert process.communicate(timeout=30)[1] == ""
    assert http.span_names() == ["execute_tool work"] * 2
    assert tool_calls(http) == 2


MULTIPROCESSING = """
import multiprocessing, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import seatrace
seatrace.instrument()

@seatrace.tool
def work(number=0): return number + 1

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    work()
    child = context.Process(target=work)
    child.start(); child.join()
    assert child.exitcode == 0, child.exitcode
    with context.Pool(2) as pool:
        assert pool.map(work, range(4), chunksize=1) == [1, 2, 3, 4]
        pool.close(); pool.join()
"""


@needs_fork
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_deliver(http: Receiver, method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(MULTIPROCESSING.format(method=method))
    ended = subprocess.run(
        [sys.executable, str(script)],
        env=environment(SEATRACE_ENDPOINT=http.endpoint, OTEL_METRIC_EXPORT_INTERVAL="inf"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert http.span_names() == ["execute_tool work"] * 6
    assert tool_calls(http) == 6


@needs_fork
def test_preforked_workers_that_are_terminated_deliver(http: Receiver) -> None:
    """As gunicorn does with ``preload``: the parent imports, children serve and are ended by SIGTERM."""
    program = """
seatrace.instrument()
read, write = os.pipe()
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        work()
        os.write(write, b"x")
        while True: time.sleep(0.01)
    children.append(child)
for child in children: os.read(read, 1)
for child in children: os.kill(child, signal.SIGTERM)
assert [os.waitpid(child, 0)[1] for child in children] == [signal.SIGTERM] * 2
"""
    assert go(FORK + program, http) == ("", "")
    assert http.span_names() == ["execute_tool work"] * 2
    assert tool_calls(http) == 2
