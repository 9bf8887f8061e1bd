"""What a scrape costs the program: collecting, and writing 1,000 histograms, beside prometheus-client's writer.

python -m benchmarks.scrape [series]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import process_time

from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from seatrace.emit import catalogue, semconv
from seatrace.pull import text
from seatrace.pull.source import ScrapeReader

from ._table import table

_TIMES = 5


def main(series: int = 1_000) -> None:
    reader = ScrapeReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("seatrace")
    metric = catalogue.INFERENCE_DURATION
    histogram = meter.create_histogram(
        metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
    )
    for number in range(series):
        values = ("chat", "openai", f"model-{number}", f"model-{number}-2026", "api.openai.com", 443)
        histogram.record(0.5, dict(zip(catalogue.BASE, values, strict=True)))
    histogram.record(0.5, {semconv.ERROR_TYPE: "429"})
    families = reader.gatherer.gather(reader.read())
    written = text.write(families, openmetrics=True)
    parsed = list(text_string_to_metric_families(written))
    registry = type("Registry", (), {"collect": lambda self: parsed})()
    assert len(generate_latest(registry).splitlines()) == len(written.splitlines())
    rows = [
        ("the SDK collects", _milliseconds(reader.read)),
        ("seatrace gathers", _milliseconds(lambda: reader.gatherer.gather(reader.read()))),
        ("seatrace writes", _milliseconds(lambda: text.write(families, openmetrics=True))),
        ("prometheus-client writes the same", _milliseconds(lambda: generate_latest(registry))),
    ]
    print(f"{len(written.splitlines()):,} lines, {len(written) / 1e6:.1f} MB; ms of CPU time, the best of {_TIMES}")
    print(table(("", "ms"), [(name, f"{value:.1f}") for name, value in rows]))


def _milliseconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(_TIMES):
        before = process_time()
        work()
        taken.append(process_time() - before)
    return min(taken) * 1e3


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
