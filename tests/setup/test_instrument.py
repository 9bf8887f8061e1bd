"""``instrument()`` as a guest: once, quietly, without network, whatever is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import seatrace
from model import ask, client
from seatrace.testing import capture

from .receiver import environment, run


def call(program: str, **variables: str) -> str:
    out, err = run(program, **variables)
    assert err == ""
    return out


# --- a quiet guest --------------------------------------------------------------------------------------------------

WITHOUT_NETWORK = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("network")
for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refuse)
socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_no_network_and_no_library_is_touched(protocol: str) -> None:
    program = """
before = set(sys.modules)
import seatrace
seatrace.instrument()
seatrace.status()
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new & {"openai", "anthropic", "httpx", "httpx2", "requests", "urllib3", "grpc", "google", "pydantic"}))
import threading
seatrace.uninstrument()
import os
os._exit(0) if not sys.stdout.flush() else None
"""
    assert call(WITHOUT_NETWORK + program, SEATRACE_PROTOCOL=protocol) == "[]\n"


def test_the_environment_and_the_warnings_filters_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os, sys, warnings, logging
before = dict(os.environ), list(warnings.filters), list(logging.getLogger().handlers), sys.excepthook
import seatrace
seatrace.instrument(exporter="none")
after = dict(os.environ), list(warnings.filters), list(logging.getLogger().handlers), sys.excepthook
print([a == b for a, b in zip(before, after)])
"""
    assert call(program) == "[True, True, True, True]\n"


def test_a_second_call_does_nothing() -> None:
    program = """
import threading
import openai, seatrace
seatrace.instrument()
from opentelemetry import trace
patched, provider = openai._base_client.SyncAPIClient.request, trace.get_tracer_provider()
threads = threading.active_count()
seatrace.instrument(service_name="other")
seatrace.instrument()
print(patched is openai._base_client.SyncAPIClient.request, provider is trace.get_tracer_provider(),
      threads == threading.active_count())
"""
    assert call(program, SEATRACE_EXPORTER="none") == "True True True\n"
    assert run(program, SEATRACE_ENDPOINT="http://127.0.0.1:1")[0] == "True True True\n"


def test_many_threads_may_call_it_at_once() -> None:
    program = """
import threading
import openai, seatrace
original = vars(openai._base_client.SyncAPIClient)["request"]
together = threading.Barrier(8)
def go():
    together.wait(10); seatrace.instrument(exporter="none")
threads = [threading.Thread(target=go) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(openai._base_client.SyncAPIClient.request.__wrapped__ is original)
seatrace.uninstrument()
print(vars(openai._base_client.SyncAPIClient)["request"] is original)
"""
    assert call(program) == "True\nTrue\n"


def test_uninstrument_restores_the_very_same_objects() -> None:
    import anthropic
    import openai

    owners = [
        (module._base_client, name)
        for module in (openai, anthropic)
        for name in ("SyncAPIClient", "AsyncAPIClient", "BaseClient")
    ]
    before = [dict(vars(getattr(module, name))) for module, name in owners]
    for _ in range(2):
        seatrace.instrument(exporter="none")
        assert [dict(vars(getattr(module, name))) for module, name in owners] != before
        seatrace.uninstrument()
        after = [dict(vars(getattr(module, name))) for module, name in owners]
        for old, new in zip(before, after, strict=True):
            assert old.keys() == new.keys()
            assert all(old[key] is new[key] for key in old)
    seatrace.uninstrument()


def test_a_later_instrument_reads_no_file() -> None:
    """Beside a thread that computes each read waits milliseconds for the interpreter: with a few frameworks imported,
    `instrument()` took seconds."""
    import agents  # noqa: F401

    read: list[str] = []
    listening = True
    sys.addaudithook(lambda event, args: read.append(args[0]) if listening and event == "open" else None)
    seatrace.instrument(exporter="none")
    seatrace.uninstrument()
    read.clear()
    seatrace.instrument(exporter="none")
    seatrace.uninstrument()
    listening = False
    assert read == []


def test_someone_who_patched_on_top_keeps_his_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    import openai

    kind: Any = openai._base_client.SyncAPIClient
    original = vars(kind)["request"]
    with capture() as captured:
        ours = kind.request

        def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
            return ours(self, *args, **kwargs)

        monkeypatch.setattr(kind, "request", theirs)
    ask(client())
    assert kind.request is theirs
    assert captured.spans == []
    monkeypatch.undo()
    kind.request = original


# --- libraries ------------------------------------------------------------------------------------------------------


@pytest.fixture
def too_new(tmp_path: Path) -> Path:
    """Packages called openai and anthropic in which what we look for is gone, each in its own way."""
    for name, files in {
        "openai": {
            "__init__": "from . import _base_client\n__version__ = '99.0'",
            "_base_client": "class NewClient: pass",
        },
        "anthropic": {"__init__": "from . import _base_client", "_base_client": "class SyncAPIClient: pass"},
    }.items():
        (tmp_path / name).mkdir()
        for module, text in files.items():
            (tmp_path / name / f"{module}.py").write_text(text)
        information = tmp_path / f"{name}-99.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    return tmp_path


@pytest.mark.parametrize(
    "order", ["import openai, anthropic\nseatrace.instrument()", "seatrace.instrument()\nimport openai, anthropic"]
)
def test_a_library_that_is_too_new_is_reported_and_works(too_new: Path, order: str) -> None:
    program = f"""
import seatrace
{order}
for each in seatrace.status()[:2]: print(each)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **environment(SEATRACE_EXPORTER="none"),
            "PYTHONPATH": os.pathsep.join((str(too_new), environment()["PYTHONPATH"])),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    rows = ended.stdout.splitlines()
    assert [row.partition(")")[0] for row in rows] == [
        "openai: target missing (99.0",
        "anthropic: target missing (99.0",
    ]
    assert all(len(row) > 40 for row in rows)
    told = [line for line in ended.stderr.splitlines() if line.startswith("seatrace ")]
    assert len(told) == 2
    assert ended.stderr.count("does not observe") == 2
    assert "Traceback" not in ended.stderr


def test_status_tells_every_state() -> None:
    program = """
import seatrace
show = lambda: print(*[f"{each.name}: {each.state}" for each in seatrace.status()[:2]], sep=", ")
show()
seatrace.instrument(exporter="none", disabled_libraries=["anthropic"])
show()
import openai
show()
seatrace.uninstrument()
show()
"""
    assert call(program).splitlines() == [
        "openai: switched off, anthropic: switched off",
        "openai: not imported, anthropic: switched off",
        "openai: observed, anthropic: switched off",
        "openai: switched off, anthropic: switched off",
    ]


def test_only_chosen_libraries_are_observed() -> None:
    program = """
import openai, anthropic, seatrace
seatrace.instrument(exporter="none", libraries="anthropic")
print(*[f"{each.name}: {each.state}" for each in seatrace.status()[:2]], sep=", ")
"""
    assert call(program) == "openai: switched off, anthropic: observed\n"


# --- whose providers ------------------------------------------------------------------------------------------------


def test_providers_that_the_program_has_set_are_used_and_the_others_set_up() -> None:
    program = """
from opentelemetry import metrics, trace, _logs
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
mine = TracerProvider(); kept = InMemorySpanExporter()
mine.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(mine)
import seatrace
seatrace.instrument()
with seatrace.tool("x"): pass
print(trace.get_tracer_provider() is mine, [span.name for span in kept.get_finished_spans()])
print(type(metrics.get_meter_provider()).__name__, type(_logs.get_logger_provider()).__name__)
seatrace.shutdown()
with trace.get_tracer("mine").start_as_current_span("after"): pass
print([span.name for span in kept.get_finished_spans()])
"""
    out, _ = run(program, SEATRACE_ENDPOINT="http://127.0.0.1:1")
    assert out.splitlines() == [
        "True ['execute_tool x']",
        "MeterProvider LoggerProvider",
        "['execute_tool x', 'after']",
    ]


def test_explicit_no_op_providers_of_the_program_stay() -> None:
    program = """
from opentelemetry import metrics, trace
trace.set_tracer_provider(trace.NoOpTracerProvider()); metrics.set_meter_provider(metrics.NoOpMeterProvider())
import seatrace
seatrace.instrument(exporter="console", events=False)
with seatrace.tool("x"): pass
print(type(trace.get_tracer_provider()).__name__, type(metrics.get_meter_provider()).__name__)
"""
    assert call(program) == "NoOpTracerProvider NoOpMeterProvider\n"


def test_passed_providers_are_used_and_nothing_becomes_global() -> None:
    program = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import seatrace
seatrace.instrument(tracer_provider=TracerProvider())
with seatrace.tool("x") as step: print(step.call.span.span.is_recording())
print(type(trace.get_tracer_provider()).__name__, seatrace.flush())
"""
    assert call(program) == "True\nProxyTracerProvider True\n"


def test_exporter_none_sets_nothing_up_and_console_prints() -> None:
    program = """
import seatrace
from opentelemetry import trace
seatrace.instrument(exporter={exporter!r})
with seatrace.tool("x"): pass
print(type(trace.get_tracer_provider()).__name__)
"""
    assert call(program.format(exporter="none")) == "ProxyTracerProvider\n"
    printed = call(program.format(exporter="console"))
    assert '"name": "execute_tool x"' in printed
    assert "gen_ai.execute_tool.duration" in printed


def test_switched_off_by_a_setting_or_by_the_standard_variable() -> None:
    program = """
import openai, seatrace
seatrace.instrument()
print(*[each.state for each in seatrace.status()[:2]])
"""
    assert call(program, OTEL_SDK_DISABLED="true") == "switched off switched off\n"
    assert call(program, SEATRACE_ENABLED="0") == "switched off switched off\n"


def test_flush_shutdown_and_uninstrument_are_harmless_before_and_after() -> None:
    program = """
import seatrace
print(seatrace.flush(), seatrace.shutdown(), seatrace.uninstrument())
seatrace.instrument(exporter="none")
print(seatrace.flush(), seatrace.shutdown(), seatrace.shutdown(), seatrace.uninstrument(), seatrace.flush())
"""
    assert call(program) == "True True None\nTrue True True None True\n"


def test_prices_need_a_running_seatrace() -> None:
    with pytest.raises(seatrace.ConfigError, match=r"call seatrace.instrument\(\) first"):
        seatrace.prices()
