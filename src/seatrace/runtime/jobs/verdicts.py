"""What becomes of a job: before an attempt at it, and after."""

from __future__ import annotations

from random import Random
from typing import Any

from seatrace.core.pipeline import Refused
from seatrace.runtime._faults import retry_after

from .attempt import Attempt
from .errors import Discard, InvalidPayload
from .payload import Cipher, to_text
from .record import Delivery, Verdict

_RETRY_AFTER_LIMIT = 3600.0
"""Seconds of a provider's ``Retry-After`` that are followed."""

_ERROR_LIMIT = 1000
"""Characters of an error that are kept with its job."""


def unfit(delivery: Delivery, now: float, *, handled: bool) -> Verdict | None:
    """Why a job is not to be worked on; ``None`` where it is."""
    envelope = delivery.envelope
    if delivery.cancelled:
        return Verdict("cancelled")
    if delivery.attempt > envelope.max_attempts:
        return Verdict(
            "dead_letter",
            error=f"poison: {envelope.max_attempts} attempts ended without a word, as when they kill their worker",
        )
    if envelope.expires is not None and now > envelope.expires:
        return Verdict("dead_letter", error="expired: its ttl was over before a worker was free")
    if not handled:
        return Verdict("dead_letter", error=f"this worker has no handler for the task {envelope.task!r}")
    return None


def of_result(attempt: Attempt, result: Any, *, limit: int, cipher: Cipher | None) -> Verdict:
    """Of a handler that returned. Done is done, also when it was cancelled or timed out meanwhile: it is paid for."""
    try:
        text = to_text(result, "result", limit=limit, cipher=cipher)
    except InvalidPayload as invalid:
        return Verdict("dead_letter", error=text_of(invalid), cost=attempt.cost)
    return Verdict("completed", result=text, cost=attempt.cost)


def of_error(delivery: Delivery, attempt: Attempt, error: BaseException, random: Random) -> Verdict:
    """Of a handler that raised, or was ended."""
    cost, ended, envelope = attempt.cost, attempt.ended, delivery.envelope
    if ended == "released" or ended == "cancelled":
        return Verdict(ended, cost=cost)
    if ended == "lost":
        return Verdict("retried", cost=cost)  # the fence refuses it; it notes the bill
    text = "timed out" if ended == "timeout" else text_of(error)
    if isinstance(error, (Discard, Refused)) or delivery.attempt >= envelope.max_attempts:
        return Verdict("dead_letter", error=text, cost=cost)
    asked = min(retry_after(error) or 0.0, _RETRY_AFTER_LIMIT)
    return Verdict("retried", error=text, delay=max(asked, envelope.backoff.after(delivery.attempt, random)), cost=cost)


def text_of(error: BaseException) -> str:
    """What is kept of an error."""
    try:
        return f"{type(error).__qualname__}: {error}"[:_ERROR_LIMIT]
    except Exception:
        return type(error).__qualname__
