"""What happens within one call of a Stainless-generated client: attempts that fail, waits, limits that are told.

``request`` hides its retries, so three methods that it calls on itself are replaced as well. They are the same from the
oldest supported versions to the newest: ``_should_retry`` judges a response with an error status,
``_calculate_retry_timeout`` is asked once before each wait, and ``_process_response`` gets the response that is
returned.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from seatrace.core import context, guard, pipeline
from seatrace.core.patch import Patches
from seatrace.core.record import Call
from seatrace.shapes.rate_limits import read_limits

_STAGE = "follow an attempt"
_OTHER = "_OTHER"


def follow_attempts(module: Any, patches: Patches) -> None:
    """Replaces them in the loaded ``package._base_client``. Calls are observed without, too: where another version
    lacks one, ``patches.lost`` says what is not seen."""
    for owner, name, make, lost in (
        ("BaseClient", "_should_retry", _judged, "the status before a retry is not known"),
        ("BaseClient", "_calculate_retry_timeout", _waits, "retries are not counted"),
        ("SyncAPIClient", "_process_response", _answered, "rate limits are not read"),
        ("AsyncAPIClient", "_process_response", _answered, "rate limits are not read"),
    ):
        try:
            patches.replace(getattr(module, owner), name, make)
        except AttributeError:
            patches.lost.append(f"{lost}: {owner}.{name} is missing there")


def failed_for_good(call: Call, error: BaseException) -> None:
    """The limits in a response that ``error`` was made of."""
    line, headers = pipeline.current, getattr(getattr(error, "response", None), "headers", None)
    if line is not None and headers is not None:
        _limited(line, call, headers)


def _judged(original: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(original)
    def should_retry(self: Any, response: Any, *args: Any, **kwargs: Any) -> bool:
        call = context.observing()
        if call is not None:
            call.attempt_status = getattr(response, "status_code", None)
        return original(self, response, *args, **kwargs)

    return should_retry


def _waits(original: Callable[..., float]) -> Callable[..., float]:
    @functools.wraps(original)
    def calculate_retry_timeout(
        self: Any, remaining_retries: Any, options: Any, response_headers: Any = None, *args: Any, **kwargs: Any
    ) -> float:
        seconds = original(self, remaining_retries, options, response_headers, *args, **kwargs)
        call, line = context.observing(), pipeline.current
        if call is not None and line is not None:
            try:
                line.retried(call, _reason(call, answered=response_headers is not None), seconds)
                if response_headers is not None:
                    _limited(line, call, response_headers)
            except Exception as error:
                guard.fault(_STAGE, error)
        return seconds

    return calculate_retry_timeout


def _answered(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        call, line, response = context.observing(), pipeline.current, kwargs.get("response")
        if call is not None and line is not None and response is not None:
            pipeline.tell(_STAGE, line.emitter.limits, call, partial(read_limits, response.headers))
        return original(self, *args, **kwargs)

    return process_response


def _limited(line: pipeline.Pipeline, call: Call, headers: Any) -> None:
    """An error's headers often say nothing, which is no reason to forget what was said before."""
    found = read_limits(headers)
    if found:
        pipeline.tell(_STAGE, line.emitter.limits, call, lambda: found)


def _reason(call: Call, *, answered: bool) -> str:
    """Without an answer the client is handling the exception of its HTTP library, or its own that it made of it."""
    status, call.attempt_status = call.attempt_status, None
    if answered:
        return _OTHER if status is None else str(status)
    failed = sys.exc_info()[0]
    return _OTHER if failed is None else failed.__qualname__
