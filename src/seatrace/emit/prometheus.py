"""What a metric of OpenTelemetry is called in Prometheus: one rule for the pull path, the boards and the alerts.

It is the rule ``UnderscoreEscapingWithSuffixes`` of Prometheus's own translator (``otlptranslator``), which is the
default of the OTLP receiver of Prometheus 3 and of the collector's exporters, so that a query holds whichever way a
metric came.
"""

from __future__ import annotations

import re

from .catalogue import Metric

_UNITS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "h": "hours",
    "d": "days",
    "By": "bytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "%": "percent",
}


def metric_name(name: str, unit: str, *, counter: bool = False, gauge: bool = False) -> str:
    """The family's name: ``gen_ai.client.inference.duration`` in ``s`` is ``gen_ai_client_inference_duration_seconds``.

    Args:
        name: The instrument's name.
        unit: Its unit; an annotation in braces is left out.
        counter: A monotonic sum: gets ``_total`` at its end.
        gauge: One with the unit ``1`` gets ``_ratio``.

    Histograms have ``_bucket``, ``_count`` and ``_sum`` behind the family's name.
    """
    tokens = [token for token in re.split(r"[^a-zA-Z0-9:]+", name) if token]
    suffix = unit_word(unit, gauge=gauge)
    if suffix and suffix not in tokens:
        tokens.append(suffix)
    if counter:
        tokens = [token for token in tokens if token != "total"] + ["total"]
    found = "_".join(tokens)
    return f"_{found}" if found[:1].isdigit() else found


def unit_word(unit: str, *, gauge: bool = False) -> str:
    """What a unit is called in a family's name, ``""`` where it is not said: ``s`` is ``seconds``."""
    plain = re.sub(r"\{[^}]*\}", "", unit).strip()
    if plain == "1":
        return "ratio" if gauge else ""
    return _UNITS.get(plain) or re.sub(r"[^a-zA-Z0-9]+", "_", plain.replace("/", "_per_")).strip("_")


def family(metric: Metric) -> str:
    """The name of a row of the catalogue."""
    return metric_name(metric.name, metric.unit, counter=metric.kind == "counter", gauge=metric.kind == "gauge")


def label_name(attribute: str) -> str:
    """``gen_ai.request.model`` is ``gen_ai_request_model``."""
    found = re.sub(r"[^a-zA-Z0-9_]", "_", attribute)
    return f"key_{found}" if found[:1].isdigit() else found
