"""The guard between seatrace and the program it is a guest in.

Every piece of our code that runs inside a user's call stands in a ``try`` whose ``except Exception`` calls
:func:`fault`. In production that counts the fault and logs the first of each kind; under :data:`strict` (our tests)
it raises, so that no fault goes unnoticed.
"""

from __future__ import annotations

import logging
from collections import Counter

logger = logging.getLogger("seatrace")

strict = False
"""Raise faults instead of counting them. For tests."""

faults: Counter[str] = Counter()
"""Faults so far by the stage they happened in. Stages are our own fixed words, so this stays small."""

_logged: set[tuple[str, type[BaseException]]] = set()
_LOGGED_LIMIT = 100


def fault(stage: str, error: BaseException) -> None:
    """Notes that ``error`` happened in our own code at ``stage``; never raises unless :data:`strict`."""
    if strict:
        raise error
    note(stage, error)


def note(stage: str, error: BaseException) -> None:
    """Counts and logs what is nobody's bug and has a fallback: a store that does not answer. Never raises."""
    faults[stage] += 1
    key = (stage, type(error))
    if key in _logged or len(_logged) >= _LOGGED_LIMIT:
        return
    _logged.add(key)
    try:
        logger.warning(
            "seatrace could not %s and left the call alone (logged once per kind, counted in seatrace.faults)",
            stage,
            exc_info=error,
        )
    except Exception:  # a broken log handler is no reason to break the user's call
        pass
