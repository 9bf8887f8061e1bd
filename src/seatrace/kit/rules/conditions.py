"""What several rules ask: what grew, and whether there is enough to judge by."""

from __future__ import annotations

from typing import Final

from seatrace.emit.prometheus import label_name
from seatrace.kit.promql import Query, Series, increase, sum_by

JOB: Final = "job"


def enough(found: Series, range: str, least: int, *by: str) -> Query:
    """Those that counted at least ``least`` in ``range``."""
    return sum_by(increase(found, range), *by) >= least


def grown(found: Series, range: str, *by: str) -> Query:
    """How much counters grew, where they did at all. A counter that was born within ``range`` grew by all that it
    counts: ``increase()`` cannot see that, and the first dead letter of a process would go unseen."""
    born = Query(f"{found} unless {found} offset {range}", found.labels, compound=True)
    return (sum_by(increase(found, range), *by) > 0).either(sum_by(born, *by) > 0)


def labelled(query: Query, attribute: str, value: str) -> Query:
    """``query`` with one label more."""
    return _replaced(query, attribute, value, "")


def copied(query: Query, attribute: str, source: str, prefix: str) -> Query:
    """``query`` with one label more: ``prefix`` and the value of its label ``source``."""
    return _replaced(query, attribute, f"{prefix}$1", label_name(source))


def _replaced(query: Query, attribute: str, value: str, source: str) -> Query:
    text = f'label_replace({query}, "{label_name(attribute)}", "{value}", "{source}", "(.*)")'
    return Query(text, query.labels | {attribute})
