"""Each framework's tests run where it is installed: its folder has its name, ``make frameworks`` has an environment
for each (``noxfile.py``). Elsewhere the folder is left out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of OpenTelemetry 1.42, which some frameworks pin
    import opentelemetry.context  # noqa: F401

from frameworks.crew import captain
from frozen import collect_little as collect_little
from seatrace.demo.provider import FakeProvider
from seatrace.libraries import REGISTRY, installed
from seatrace.testing import Captured, capture

_HERE = {each.name for each in Path(__file__).parent.iterdir() if each.is_dir()}
collect_ignore = [] if installed("openinference.instrumentation.openai") else ["beside"]
collect_ignore += [
    folder for each in REGISTRY if (folder := each.name.replace(".", "_")) in _HERE and not installed(each.name)
]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    """The model: ``f"{provider.url}/v1"`` for OpenAI's clients, ``provider.url`` for Anthropic's."""
    with FakeProvider(model=captain) as provider:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
        yield provider


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got
