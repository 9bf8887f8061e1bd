"""The sketch of ``measure()`` beside the library ``ddsketch``, in one interleaved run.

    python -m benchmarks.sketch [--check] [--rounds 15]

The same 50,000 latencies of two kinds (most around 0.6 s, some around 8 s) go into both, at 1 %. Times are CPU; errors
are relative to the exact quantile of the same rank. ``--check`` exits 1 where ours costs more than its reach, or where
an error is above 1 %.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable
from time import process_time_ns
from typing import Any

from ddsketch import DDSketch

from seatrace.runtime.sketch import Sketch

from ._gauge import interval
from ._table import table

VALUES = 50_000
ACCURACY = 0.01
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
REACH = {"add a value": 0.8, "five quantiles": 1.0, "merge into another": 1.5}
"""What ours may cost, as a multiple of ddsketch's."""


def latencies() -> list[float]:
    """Seconds, the same at every run."""
    rng = random.Random(1)
    kinds = ((-0.5, 0.6), (2.0, 0.4))
    return [rng.lognormvariate(*kinds[rng.random() > 0.85]) for _ in range(VALUES)]


def timed(work: Callable[[], Any], times: int) -> float:
    """Microseconds of CPU that one of ``times`` costs."""
    started = process_time_ns()
    for _ in range(times):
        work()
    return (process_time_ns() - started) / 1e3 / times


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    values = latencies()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in REACH}
    for _ in range(chosen.rounds):
        ours, theirs = Sketch(ACCURACY), DDSketch(ACCURACY)

        def fill(sketch: Any) -> None:
            add = sketch.add
            for value in values:
                add(value)

        pair = [timed(lambda each=each: fill(each), 1) / VALUES for each in (theirs, ours)]  # type: ignore[misc]
        taken["add a value"].append((pair[0], pair[1]))
        taken["five quantiles"].append(
            (
                timed(lambda: [theirs.get_quantile_value(q) for q in QUANTILES], 20),  # noqa: B023
                timed(lambda: ours.quantiles(QUANTILES), 20),  # noqa: B023
            )
        )
        into_theirs, into_ours = DDSketch(ACCURACY), Sketch(ACCURACY)
        taken["merge into another"].append(
            (timed(lambda: into_theirs.merge(theirs), 20), timed(lambda: into_ours.merge(ours), 20))  # noqa: B023
        )
    rows, above = [], False
    for name, reach in REACH.items():
        low, high = interval(taken[name], lambda sample: statistics.median(row[1] / row[0] for row in sample))
        above = above or low > reach
        middle = statistics.median(row[1] / row[0] for row in taken[name])
        us, them = (statistics.median(row[place] for row in taken[name]) for place in (1, 0))
        verdict = f"≤ {reach:g}× {'✗' if low > reach else '✓'}"
        rows.append([name, f"{us:.2f}", f"{them:.2f}", f"{middle:.2f}×", f"{low:.2f} to {high:.2f}", verdict])
    print(table(["work", "ours, µs of CPU", "ddsketch", "ratio", "95 %", "reach"], rows), end="\n\n")

    ordered = sorted(values)
    errors = [["quantile", "ours", "ddsketch"]]
    for q in QUANTILES:
        true = ordered[math.floor(q * (VALUES - 1))]
        found = [abs(each / true - 1) for each in (ours.quantile(q) or 0.0, theirs.get_quantile_value(q))]
        above = above or found[0] > ACCURACY * 1.000001
        errors.append([f"p{q * 100:g}", *(f"{error:.2%}" for error in found)])
    print(table(errors[0], errors[1:]))
    print(f"\n{len(ours)} buckets hold {ours.count:,} values")
    return 1 if above and chosen.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
