"""A provider on loopback, and the environment in which the examples find it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from seatrace.demo.provider import FakeProvider


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, str]]:
    """For examples in processes of their own: real clients, no keys, no network."""
    with FakeProvider() as provider:
        addresses = (provider.url.removeprefix("http://"), provider.second_url.removeprefix("http://"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SEATRACE_"))}
        yield {
            **kept,
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "OPENAI_API_KEY": "none",
            "ANTHROPIC_BASE_URL": provider.second_url,
            "ANTHROPIC_API_KEY": "none",
            "NO_PROXY": "127.0.0.1",
            "SEATRACE_EXPORTER": "none",
            "SEATRACE_PROVIDERS": f"{addresses[0]}=openai,{addresses[1]}=anthropic",
            "PYTHONWARNINGS": "error",
        }
