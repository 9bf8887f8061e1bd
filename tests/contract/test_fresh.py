"""What only a fresh interpreter shows: imports, import order, exits, environment and output."""

from __future__ import annotations

import pytest

from .fresh import run

CALLS = """
from contract.rows import ANTHROPIC_ROWS, OPENAI_ROWS
from contract.wire import Provider
rows = (OPENAI_ROWS[0], ANTHROPIC_ROWS[0])

def call_both():
    for row in rows:
        row.call(row.connect(Provider(row.answer), "sync"))
        list(row.call(row.connect(Provider(row.stream_answer(row.events)), "sync"), stream=True))
"""


def test_instrument_imports_no_library_that_it_observes() -> None:
    # litellm#2677: import time; httpx is loaded by none of ours either
    out = run(
        """
        import sys
        before = set(sys.modules)
        import seatrace
        seatrace.instrument(exporter="none")
        seatrace.status()
        heavy = {"openai", "anthropic", "httpx", "httpx2", "pydantic", "requests", "boto3", "google.auth"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert out == "[]\n"


@pytest.mark.parametrize("order", ["before", "after"])
def test_instrument_works_before_and_after_the_import_of_the_libraries(order: str) -> None:
    # openlit#1536, openinference#2996: a hook that fails silently
    instrument = "from seatrace.testing import capture\nblock = capture()\ncaptured = block.__enter__()\n"
    libraries = "import openai, anthropic\n"
    head = instrument + libraries if order == "before" else libraries + instrument
    out = run(
        head
        + CALLS
        + """
import seatrace
call_both()
print([span.name for span in captured.spans])
print([each.state for each in seatrace.status()[:2]])
block.__exit__(None, None, None)
print([each.state for each in seatrace.status()[:2]])
"""
    )
    assert out.splitlines() == [
        "['chat brook-1', 'chat brook-1', 'chat brook-1', 'chat brook-1']",
        "['observed', 'observed']",
        "['switched off', 'switched off']",
    ]


def test_library_imported_after_uninstrument_is_left_alone() -> None:
    out = run(
        """
        import seatrace
        seatrace.instrument(exporter="none")
        seatrace.uninstrument()
        import openai._base_client as base
        print(base.SyncAPIClient.request.__module__, hasattr(base.SyncAPIClient.request, "__wrapped__"))
        """
    )
    assert out == "openai._base_client False\n"


NEWER = """
import importlib.abc, importlib.machinery, logging, sys
said = []
class Heard(logging.Handler):
    def emit(self, record): said.append(record.getMessage())
logging.getLogger("seatrace").addHandler(Heard())
logging.getLogger("seatrace").propagate = False

class Newer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name in ("openai", "openai._base_client"):
            return importlib.machinery.ModuleSpec(name, self, is_package=name == "openai")
    def create_module(self, spec): return None
    def exec_module(self, module): pass
import seatrace
"""


def test_vanished_target_is_said_and_the_users_import_works() -> None:
    # openllmetry: instrument() raises with mcp 2.3; wrapt: the user's import fails
    out = run(
        NEWER
        + """
sys.meta_path.insert(0, Newer())
seatrace.instrument(exporter="none")
import openai._base_client
print(next((each.name, each.state) for each in seatrace.status()[:2]))
print(len(said), "is missing there" in said[0])
"""
    )
    assert out.splitlines() == ["('openai', 'target missing')", "1 True"]


def test_import_that_goes_past_our_hook_is_not_called_observed() -> None:
    # openlit#1536: post-import hooks that fail silently
    out = run(
        NEWER
        + """
seatrace.instrument(exporter="none")
sys.meta_path.insert(0, Newer())
import openai._base_client
print(next((each.name, each.state, each.detail) for each in seatrace.status()[:2]))
"""
    )
    assert out == "('openai', 'target missing', 'another import hook came first: import it earlier')\n"


@pytest.mark.parametrize("flags", [(), ("-O",)])
def test_nothing_is_printed_and_nothing_else_is_touched(flags: tuple[str, ...]) -> None:
    # openlit: prints every event, sets environment variables, waits for the network
    out = run(
        """
        import os, sys, threading, warnings, logging, socket
        environment, threads = dict(os.environ), threading.active_count()
        filters, handlers = list(warnings.filters), list(logging.getLogger().handlers)
        def refuse(*args, **kwargs): raise SystemExit("the network was asked")
        real, socket.socket.connect = socket.socket.connect, refuse
        import seatrace
        seatrace.instrument(exporter="none")
        seatrace.instrument(exporter="none")
        """
        + CALLS.replace("\n", "\n        ")
        + """
        call_both()
        seatrace.flush()
        seatrace.uninstrument()
        socket.socket.connect = real
        if dict(os.environ) != environment: raise SystemExit("environment")
        if threading.active_count() != threads: raise SystemExit(f"threads: {threading.enumerate()}")
        if warnings.filters[:len(filters)] != filters: raise SystemExit("warning filters")
        if logging.getLogger().handlers != handlers: raise SystemExit("log handlers")
        """,
        *flags,
    )
    assert out == ""


def test_provider_that_does_not_answer_holds_up_neither_start_nor_calls() -> None:
    # cuga-agent PR#513: openlit blocks the start for 90 s; the collector here is a closed port
    out = run(
        """
        import logging
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)
        import seatrace
        seatrace.instrument(endpoint="http://127.0.0.1:9")
        """
        + CALLS.replace("\n", "\n        ")
        + """
        call_both()
        print("called", flush=True)
        import os
        os._exit(0)
        """
    )
    assert out == "called\n"


EXPORT = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter

class Lines(SpanExporter):
    def export(self, spans):
        for span in spans:
            said = span.attributes.get("gen_ai.response.id")
            sys.__stdout__.write(f"{span.name} {span.status.status_code.name} {said}\\n")
        sys.__stdout__.flush()
    def shutdown(self): pass

provider = TracerProvider()
provider.add_span_processor({processor}(Lines()))
trace.set_tracer_provider(provider)
import seatrace
seatrace.instrument(tracer_provider=provider)
"""


def test_exactly_one_span_with_a_global_provider() -> None:
    out = run(EXPORT.replace("{processor}", "SimpleSpanProcessor") + CALLS + "call_both()")
    assert out.splitlines() == ["chat brook-1 UNSET chatcmpl-1"] * 2 + ["chat brook-1 UNSET msg_1"] * 2


@pytest.mark.parametrize("held", ["held", "dropped"])
def test_stream_left_open_at_exit_is_not_lost(held: str) -> None:
    # opentelemetry-python-contrib#4916, langfuse#1307: lost at exit
    out = run(
        EXPORT.replace("{processor}", "BatchSpanProcessor")
        + CALLS
        + f"""
for row in rows:
    stream = row.call(row.connect(Provider(row.stream_answer(row.events)), "sync"), stream=True)
    for chunk in stream:
        break
    if {held == "held"}:
        globals()[row.id] = stream
    del stream
"""
    )
    assert sorted(out.splitlines()) == ["chat brook-1 UNSET chatcmpl-1", "chat brook-1 UNSET msg_1"]


def test_call_running_at_a_keyboard_interrupt_is_not_lost() -> None:
    out = run(
        EXPORT.replace("{processor}", "BatchSpanProcessor")
        + CALLS
        + """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
def answer(sent): os.kill(os.getpid(), signal.SIGINT)
try:
    rows[0].call(rows[0].connect(Provider(answer), "sync"))
except KeyboardInterrupt:
    pass
"""
    )
    assert out.splitlines() == ["chat brook-1 ERROR None"]
