"""Semantic Kernel's client of the fake provider, and what of its warnings is its own business."""

from __future__ import annotations

import warnings

import pytest

from frameworks import crew

with warnings.catch_warnings():  # Semantic Kernel's, about its own models
    warnings.simplefilter("ignore")
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

ITS_OWN_WARNINGS = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine method 'aclose' of:RuntimeWarning"),
]


def model() -> OpenAIChatCompletion:
    """Keeps no connection: nobody closes the clients of Semantic Kernel."""
    return OpenAIChatCompletion(ai_model_id=crew.MODEL, default_headers={"Connection": "close"})
