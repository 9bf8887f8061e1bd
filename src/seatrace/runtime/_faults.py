"""What an exception of an agent or a provider says: its HTTP status, how long to stay away, whose fault it is."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Literal

from seatrace.core.pipeline import Refused

Blame = Literal["member", "request"]
"""Who is to blame for an error: the member that worked on the request, or the request itself."""

_ABOUT_THE_MEMBER = frozenset({401, 403, 408, 425, 429})
"""Client errors that another member need not give: a wrong key, a timeout, a limit."""

_ABOUT_THE_CONTENT = ("ContentFilter", "ContentPolicy", "LengthFinish", "ContextWindow", "Guardrail")
"""In names of exceptions that every member would raise for the same request."""


def status_of(error: BaseException) -> int | None:
    """The HTTP status of ``error``, as the provider's clients keep it (``status_code``, ``response.status_code`` …)."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            found = getattr(holder, name, None)
            if isinstance(found, int) and not isinstance(found, bool) and 100 <= found <= 599:
                return int(found)
    return None


def blame(error: BaseException) -> Blame:
    """``"request"`` where another member would fail alike: other client errors (4xx), content filters, limits of
    length, budgets that refuse, and whatever is no ``Exception`` (a cancelled task). Else ``"member"``."""
    if not isinstance(error, Exception) or isinstance(error, Refused):
        return "request"
    if any(word in kind.__name__ for kind in type(error).__mro__ for word in _ABOUT_THE_CONTENT):
        return "request"
    status = status_of(error)
    if status is None or status >= 500 or status in _ABOUT_THE_MEMBER:
        return "member"
    return "request" if status >= 400 else "member"


def retry_after(error: BaseException, *, now: datetime | None = None) -> float | None:
    """Seconds that ``error`` asks to stay away: its ``retry_after``, or the headers ``retry-after-ms`` and
    ``Retry-After`` (seconds or a date, RFC 9110) of its response. ``None`` where it says nothing readable."""
    said = getattr(error, "retry_after", None)
    if isinstance(said, (int, float)) and not isinstance(said, bool):
        return _seconds(said)
    headers = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
    get = getattr(headers, "get", None)
    if get is None:
        return None
    milliseconds, text = get("retry-after-ms"), get("retry-after") or get("Retry-After")
    try:
        if milliseconds:
            return _seconds(float(milliseconds) / 1000)
        if not text:
            return None
        return _until(str(text), now or datetime.now(timezone.utc))
    except (TypeError, ValueError, OverflowError):
        return None


def _until(text: str, now: datetime) -> float | None:
    if text.strip().replace(".", "", 1).isdigit():
        return _seconds(float(text))
    at = parsedate_to_datetime(text)
    if at.tzinfo is None:
        at = at.replace(tzinfo=timezone.utc)
    return max(0.0, (at - now).total_seconds())


def _seconds(value: float) -> float | None:
    return float(value) if isfinite(value) and value >= 0 else None
