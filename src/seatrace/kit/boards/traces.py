"""Links from a panel to its traces, in Grafana's Explore."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import quote

Traces = Literal["tempo", "jaeger"]
"""The kinds of trace stores that boards can be linked to."""

DATASOURCE = "${traces}"


def link(kind: Traces, known: Mapping[str, str], narrowed: Mapping[str, str], named: Iterable[str]) -> str:
    """The address of a search for spans.

    Args:
        kind: Of the trace store.
        known: Attributes and what Grafana puts in for their value.
        narrowed: Attributes and the name of the variable that their value must match.
        named: Attributes that spans must have.
    """
    query: dict[str, object] = {"refId": "A", "datasource": {"type": kind, "uid": DATASOURCE}}
    if kind == "tempo":
        query |= {
            "queryType": "traceql",
            "query": _traceql(known, narrowed, named),
            "limit": 50,
            "tableType": "traces",
        }
    else:
        # Jaeger knows no patterns, and wants one service.
        tags = " ".join(f"{name}={value}" for name, value in known.items())
        query |= {"queryType": "search", "service": "${job}", "tags": tags, "limit": 50}
    pane = {
        "datasource": DATASOURCE,
        "queries": [query],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = json.dumps({"seatrace": pane}, separators=(",", ":"))
    # Grafana puts its values in before the address is used: what names them must stay as it is.
    return f"/explore?schemaVersion=1&orgId=${{__org.id}}&panes={quote(panes, safe='${}:_.')}"


def _traceql(known: Mapping[str, str], narrowed: Mapping[str, str], named: Iterable[str]) -> str:
    conditions = [f'span.{name} = "{value}"' for name, value in known.items()]
    conditions += [f'span.{name} =~ "${{{variable}:regex}}"' for name, variable in narrowed.items()]
    conditions += [f'span.{name} =~ ".+"' for name in named if name not in known and name not in narrowed]
    return "{ " + " && ".join(conditions) + " }"
