"""Tests of pydantic-ai. It is loaded here once, since older ones load what newer OpenTelemetry warns of."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import pydantic_ai.models.openai  # noqa: F401
