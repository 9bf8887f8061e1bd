"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import seatrace
from frozen import collect_little as collect_little
from seatrace import pull


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pull.close()
    assert not pull.open_servers


@pytest.fixture
def server() -> Iterator[seatrace.pull.server.MetricsServer]:
    """A server on a free port."""
    with seatrace.serve_metrics(0) as serving:
        yield serving
