"""The programs that several tests share, and that the suite runs only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.receiver import Receiver, grpc_receiver

from . import collector


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """These tests take minutes: only who names their folder wants them."""
    here = Path(__file__).parent
    asked = [Path(config.invocation_params.dir, each.partition("::")[0]).resolve() for each in config.args]
    return None if any(each == here or here in each.parents for each in asked) else True


@pytest.fixture(scope="session")
def otelcol() -> str:
    """The path of the collector that is built from the manifest."""
    return collector.build()


@pytest.fixture
def store() -> Iterator[Receiver]:
    """Where the traces of one test end up."""
    with grpc_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shared_store() -> Iterator[Receiver]:
    """Where the traces of all tests of a file end up."""
    with grpc_receiver() as receiver:
        yield receiver
