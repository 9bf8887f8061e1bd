"""Tests of Microsoft's agent-framework. It is loaded here once, since it warns of what is experimental in itself."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import agent_framework.openai  # noqa: F401
