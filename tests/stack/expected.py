"""What a run of :mod:`.traffic` does not emit, and which queries are therefore, or by their nature, empty.

Tests hold it both ways: what is listed here and arrives after all must be taken off.
"""

from __future__ import annotations

from typing import Final

NOT_EMITTED: Final[dict[str, str]] = {"mcp.": "no MCP server is in the traffic: tests/frameworks/mcp has some"}
"""Beginnings of names in the catalogue, and why a run has none of these metrics. Queries that read one are run, and may
be empty."""

_WEEK: Final = "compares with a week ago"
_LOSS: Final = "nothing is lost here; a loss is made in test_limits.py and test_crash.py"

EMPTY: Final[dict[tuple[str, str, str], str]] = {
    ("seatrace-cost", "Against a week ago", "A"): _WEEK,
    ("seatrace-cost", "This week and last week", "B"): _WEEK,
    ("seatrace-health", "Spans", "C"): _LOSS,
    ("seatrace-health", "Spans", "D"): _LOSS,
    ("seatrace-health", "Metrics past the SDK's limit", "A"): "seatrace caps labels before the SDK has to",
    ("seatrace-health", "Spans passed on", "B"): _LOSS,
}
"""Uids of boards, titles of panels and letters of queries that find nothing in a run of some seconds, and why."""
