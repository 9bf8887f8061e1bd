"""Looking for abandoned streams collects garbage all the time: what is long-lived is put out of the collector's way."""

from __future__ import annotations

import gc

import anthropic
import openai
import pytest

_LOADED = (openai.resources, anthropic.resources)


@pytest.fixture(autouse=True)
def _collect_little() -> None:
    gc.collect()
    gc.freeze()
