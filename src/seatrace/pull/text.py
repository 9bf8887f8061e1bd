"""Families as text: Prometheus 0.0.4 and OpenMetrics 1.0.

A writer of our own: that of prometheus-client takes 20 µs a line and this one 1 µs, in a program that has other
things to do while it is scraped. ``tests/pull`` reads every answer with prometheus-client's parsers.

Neither timestamps nor ``_created`` are written: a sample's time is the scrape's, so that series end when their program
does, and ``_created`` would be one series more for each counter and histogram in a Prometheus that does not ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import inf, isinf, isnan

from .families import Family, Series, escaped


def write(families: Iterable[Family], *, openmetrics: bool) -> str:
    """The answer. Exemplars and units are OpenMetrics' alone."""
    lines = [line for family in families for line in _family(family, openmetrics)]
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines)


_ENDINGS = {"counter": "_total", "info": "_info"}


def _family(family: Family, openmetrics: bool) -> Iterator[str]:
    name, kind = family.name, family.kind
    sample = name + _ENDINGS.get(kind, "")
    if openmetrics:
        unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
        yield f"# HELP {name} {escaped(family.help)}\n# TYPE {name} {kind}\n{unit}"
    else:
        description = escaped(family.help).replace('\\"', '"')
        yield f"# HELP {sample} {description}\n# TYPE {sample} {'gauge' if kind == 'info' else kind}\n"
    for labels, series in family.series.items():
        exemplars = series.exemplars if openmetrics else {}
        if kind == "histogram":
            yield from _histogram(name, labels, series, exemplars)
        else:
            yield f"{sample}{_braced(labels)} {number(series.value)}{exemplars.get(inf, '')}\n"


def _histogram(name: str, labels: str, series: Series, exemplars: dict[float, str]) -> Iterator[str]:
    before = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    total = 0
    for bound, total in zip((*series.bounds, inf), accumulate(series.counts), strict=True):
        yield f'{before}le="{go_float(bound)}"}} {total}{exemplars.get(bound, "")}\n'
    yield f"{name}_count{_braced(labels)} {total}\n{name}_sum{_braced(labels)} {number(series.value)}\n"


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def number(value: float) -> str:
    """A sample's value."""
    value = float(value)
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def go_float(value: float) -> str:
    """As Go writes it in OpenMetrics, and Prometheus 3 and the collector therefore call a bucket: from a million on
    with an exponent, sooner than Python."""
    text = number(value)
    if not 1e6 <= abs(value) < 1e16:
        return text
    whole, _, fraction = text.lstrip("-").partition(".")
    mantissa = f"{whole[0]}.{(whole[1:] + fraction).rstrip('0')}".rstrip(".")
    return f"{'-' if value < 0 else ''}{mantissa}e+{len(whole) - 1:02}"
