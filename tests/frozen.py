"""Looking at spans collects garbage each time: what is long-lived is put out of the collector's way."""

from __future__ import annotations

import gc

import anthropic
import openai
import pytest

_LOADED = (openai.resources, anthropic.resources)


@pytest.fixture(autouse=True)
def collect_little() -> None:
    gc.collect()
    gc.freeze()
