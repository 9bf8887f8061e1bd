"""What a run of :mod:`.traffic` does not emit, and which queries are therefore, or by their nature, empty.

Tests hold both ways: what is listed here and does arrive after all must be taken off.
"""

from __future__ import annotations

from typing import Final

NOT_EMITTED: Final[dict[str, str]] = {}
"""Prefixes of names of the catalogue, and why a run has none of these metrics."""

EMPTY: Final[dict[tuple[str, str], str]] = {}
"""Uids of boards and titles of panels whose queries find nothing in a run of some seconds, and why."""
