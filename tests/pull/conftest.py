"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import seatrace
from frozen import collect_little as collect_little
from model import ask as call_model
from model import client
from seatrace import pull
from seatrace.testing import capture


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pull.close()
    assert not pull.open_servers


@pytest.fixture
def measured() -> Iterator[None]:
    """One model call, measured after somebody wanted to serve."""
    seatrace.metrics_wsgi_app()
    with capture():
        call_model(client())
        yield


@pytest.fixture
def server() -> Iterator[seatrace.pull.server.MetricsServer]:
    """A server on a free port."""
    with seatrace.serve_metrics(0) as serving:
        yield serving
