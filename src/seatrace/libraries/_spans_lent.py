"""Lending our span to a framework that is about to make one of its own for the same call: one span has both's words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from seatrace.core import pipeline
from seatrace.core.step import innermost_mark


def lend(observability: Callable[[], Any], method: Any) -> Any:
    """Makes a replacement for a function that starts the framework's span: within a step of ``method`` (the original)
    it returns that step's span instead, or a context manager that yields it, as the function does.

    ``observability`` gives the framework's module, whose ``trace`` is OpenTelemetry's.
    """

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def span(*args: Any, **kwargs: Any) -> Any:
            mark, module = innermost_mark(), observability()
            if mark is None or mark[1] != id(method) or not module.OBSERVABILITY_SETTINGS.ENABLED:
                return original(*args, **kwargs)
            lent = pipeline.kept("activate a span", lambda: _Lent.of(module.trace))
            if lent is None:
                return original(*args, **kwargs)
            attributes = kwargs.get("attributes") or next((each for each in args if isinstance(each, dict)), None)
            if attributes:
                lent.set_attributes(attributes)
            return lent if original.__name__.startswith("start") else nullcontext(lent)

        return span

    return make


class _Lent:
    """A span that its borrower cannot end."""

    @staticmethod
    def of(trace: Any) -> Any:
        """The current span, lent."""
        span = trace.get_current_span()
        lent = {name: staticmethod(getattr(span, name)) for name in trace.Span.__abstractmethods__}
        return type("Span", (trace.Span,), {**lent, "end": staticmethod(_keep)})()


def _keep(*args: Any, **kwargs: Any) -> None:
    return
