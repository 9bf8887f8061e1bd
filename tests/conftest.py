"""With ``SEATRACE_CI=1`` a test that is skipped for no known reason fails the run: nothing goes missing unseen."""

from __future__ import annotations

import os
import re
import sys
from weakref import WeakSet

import pytest

from seatrace.core import signals
from seatrace.emit import rate_limits

_ALLOWED = {
    r"no recorded traffic": True,  # third-party data that lies beside the repository, not in it
    r"Python >= 3\.11": sys.version_info < (3, 11),
    # The version matrix: an older library without the endpoint, or whose extra is not to be had with it.
    r"this \w+ has no|is not installed beside this": "NOX_CURRENT_SESSION" in os.environ,
}

_unexpected: dict[str, str] = {}


@pytest.fixture
def no_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool or a queue that another test left alive would be measured, too."""
    monkeypatch.setattr(signals, "sources", WeakSet([rate_limits.seen]))


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(allowed and re.search(pattern, reason) for pattern, allowed in _ALLOWED.items()):
        _unexpected[report.nodeid] = reason


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process is left alone with them at the end (``make test`` takes several)."""
    items.sort(key=lambda item: "traffic" not in item.path.parts)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _unexpected and os.environ.get("SEATRACE_CI") == "1" and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _unexpected:
        return
    terminalreporter.section("skipped for no known reason (tests/conftest.py)")
    for test, reason in _unexpected.items():
        terminalreporter.line(f"{test}: {reason}")
