"""fastmcp: it speaks through mcp, where its requests are observed. Here are its tools' exceptions, and its own spans,
which rest where mcp's requests have ours."""

from __future__ import annotations

import functools
from typing import Any

from seatrace.core.patch import Patches

from ._exchange import noticing, quiet


def patch(module: Any, patches: Patches) -> None:
    """Taps what ``module`` has."""
    if hasattr(module, "FunctionTool") and module.FunctionTool.__module__ == module.__name__:
        patches.replace(module.FunctionTool, "run", noticing)
    if module.__name__ in ("fastmcp.client.telemetry", "fastmcp.server.telemetry"):
        patches.replace(module, "get_tracer", _quiet)


def _quiet(original: Any) -> Any:
    @functools.wraps(original)
    def get_tracer(*args: Any, **kwargs: Any) -> Any:
        return quiet(original(*args, **kwargs))

    return get_tracer
