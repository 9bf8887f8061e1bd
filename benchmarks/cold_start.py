"""CPU time of ``import seatrace; seatrace.instrument()``, beside importing and setting up the bare SDK and exporters.

    python -m benchmarks.cold_start [--check] [--runs 25]

Both end with providers for the three signals that export OTLP over HTTP in batches. Fresh interpreters take turns; what
is compared are medians of their CPU time less that of an interpreter that does nothing. No network is used: processes
end without flushing. The package is compiled before, as pip does with what it installs, whatever the environment says
of bytecode. ``--check`` exits 1 above the reach: by CPU time where the ratio's whole interval is
(``_gauge.py``), and where valgrind is installed by instructions, too.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from compileall import compile_dir
from pathlib import Path

import seatrace

from ._gauge import Sample, counts_instructions, instructions, interval, ratio_of_added
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


def measure(runs: int) -> Sample:
    """Milliseconds of an interpreter that does nothing, one that sets the bare SDK up, and one with seatrace; a row a
    round."""
    programs = (NOTHING, BARE, OURS)
    for program in programs:
        cpu_seconds(program)  # fills the disk cache and writes the .pyc files
    return [[cpu_seconds(program) * 1e3 for program in programs] for _ in range(runs)]


def count() -> Sample:
    """The same in millions of instructions."""
    return [[each / 1e6 for each in instructions([["-c", program + END] for program in (NOTHING, BARE, OURS)])]]


def report(sample: Sample, unit: str, *, above: bool) -> str:
    """A table in markdown."""
    nothing, bare, ours = (statistics.median(row[column] for row in sample) for column in range(3))
    low, high = interval(sample, ratio_of_added)
    spread = f" ({low:.2f} to {high:.2f})" if len(sample) > 1 else ""
    rows = [
        ["an interpreter that does nothing", f"{nothing:.0f}", "", ""],
        ["bare SDK with OTLP exporters adds", f"{bare - nothing:.0f}", "1.00×", ""],
        [
            "seatrace.instrument() adds",
            f"{ours - nothing:.0f}",
            f"{ratio_of_added(sample):.2f}×{spread}",
            f"≤ {REACH}× {'✗' if above else '✓'}",
        ],
    ]
    return table(["cold start", unit, "to the bare SDK", "reach"], rows)


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--runs", type=int, default=25)
    chosen = parser.parse_args()
    compile_dir(Path(seatrace.__file__).parent, quiet=1)
    samples = {"ms of CPU": measure(chosen.runs)}
    if counts_instructions():
        samples["million instructions"] = count()
    missed = False
    for unit, sample in samples.items():
        above = interval(sample, ratio_of_added)[0] > REACH
        missed = missed or above
        print(report(sample, unit, above=above), end="\n\n", flush=True)
    return 1 if chosen.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
