"""CPU time of ``import seatrace; seatrace.instrument()``, beside importing and setting up the bare SDK and exporters.

    python -m benchmarks.cold_start [--check] [--runs 25]

Both end with providers for the three signals that export OTLP over HTTP in batches. Fresh interpreters take turns; what
is compared are medians of their CPU time less that of an interpreter that does nothing. No network is used: processes
end without flushing. ``--check`` exits 1 above the reach.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

from ._table import table

REACH = 1.1

NOTHING = "pass"
BARE = """
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

resource = Resource.create({"service.name": "benchmark"})
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource)
loggers = LoggerProvider(resource)
loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(meters)
set_logger_provider(loggers)
"""
OURS = """
import seatrace

seatrace.instrument(service_name="benchmark")
"""
END = "\nimport os\nos._exit(0)\n"


def cpu_seconds(program: str) -> float:
    """User and system time of a fresh interpreter that runs ``program``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program + END], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(runs: int) -> tuple[float, float, float]:
    """Milliseconds: of an interpreter that does nothing, added by the bare SDK, added by seatrace."""
    taken: dict[str, list[float]] = {NOTHING: [], BARE: [], OURS: []}
    for program in taken:
        cpu_seconds(program)  # fills the disk cache and writes the .pyc files
    for _ in range(runs):
        for program, times in taken.items():
            times.append(cpu_seconds(program) * 1e3)
    nothing, bare, ours = (statistics.median(times) for times in taken.values())
    return nothing, bare - nothing, ours - nothing


def report(nothing: float, bare: float, ours: float) -> str:
    """A table in markdown."""
    ratio = ours / bare
    verdict = f"≤ {REACH}× {'✓' if ratio <= REACH else '✗'}"
    rows = [
        ["an interpreter that does nothing", f"{nothing:.0f}", "", ""],
        ["bare SDK with OTLP exporters adds", f"{bare:.0f}", "1.00×", ""],
        ["seatrace.instrument() adds", f"{ours:.0f}", f"{ratio:.2f}×", verdict],
    ]
    return table(["cold start", "ms of CPU", "to the bare SDK", "reach"], rows)


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--runs", type=int, default=25)
    chosen = parser.parse_args()
    nothing, bare, ours = measure(chosen.runs)
    print(report(nothing, bare, ours))
    return 1 if chosen.check and ours > REACH * bare else 0


if __name__ == "__main__":
    sys.exit(main())
