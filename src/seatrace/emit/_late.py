"""Attributes that are put together when somebody reads them: an exporter, as a rule, many at once in its own thread.

A call that ends pays for nothing that can be done later. They are the SDK's ``BoundedAttributes``, cleaning and limits
included, but for the time at which they are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from threading import Lock, RLock
from typing import Any

from seatrace.core import guard

from ._bounded import plain

Make = Callable[[], Mapping[str, Any]]
"""Puts attributes together."""

making = RLock()
"""Held while something is made that several threads may ask for."""


@cache
def late_attributes() -> Any:
    """The class of them, made by :func:`late`; ``None`` with an SDK whose attributes are not like those that this was
    written for."""
    try:
        from opentelemetry.attributes import BoundedAttributes

        real = BoundedAttributes(9, {"a": 1}, immutable=False, max_value_len=9, extended_attributes=True)
    except (ImportError, TypeError):
        return None
    if vars(real).keys() != {"_dict", "maxlen", "dropped", "max_value_len", "_lock", "_immutable"}:
        return None

    class LateAttributes(BoundedAttributes):
        def __init__(self, make: Make, maxlen: int | None, max_value_len: int | None, extended: bool) -> None:
            self.make = make
            self.maxlen = maxlen
            self.max_value_len = max_value_len
            self._extended = extended
            self._immutable = False

        def __getattr__(self, name: str) -> Any:
            """Of ``_dict``, ``dropped`` and ``_lock``, which it has not until then."""
            own = vars(self)
            if name == "_lock":
                return own.setdefault(name, Lock())
            if name not in ("_dict", "dropped"):
                raise AttributeError(name)
            with making:
                if "_dict" not in own:
                    own["dropped"], own["_dict"] = self._made()
                    del own["make"]
                return own[name]

        def items(self) -> Any:
            """As an exporter reads them: without a call for each."""
            return self._dict.items() if self._immutable else self._dict.copy().items()

        def _made(self) -> tuple[int, Mapping[str, Any]]:
            try:
                given = self.make()
            except Exception as error:  # the exporter has other spans to send
                guard.fault("emit a call", error)
                return 0, {}
            if self.max_value_len is None and (self.maxlen is None or len(given) <= self.maxlen) and plain(given):
                return 0, given
            real = BoundedAttributes(
                self.maxlen,
                given,
                immutable=False,
                max_value_len=self.max_value_len,
                extended_attributes=self._extended,
            )
            return real.dropped, real._dict

    return LateAttributes


def late(make: Make, maxlen: int | None, max_value_len: int | None, *, extended: bool = False) -> Any:
    """Attributes that are ``make()``, within the limits; they keep that mapping. ``extended``: mappings and lists, too,
    as log records have."""
    return late_attributes()(make, maxlen, max_value_len, extended)


def put_later(attributes: Any, more: Make) -> bool:
    """Adds ``more()`` to attributes that nobody has read yet; false where they cannot wait."""
    if type(attributes) is not late_attributes():
        return False
    with making:
        if "_dict" in vars(attributes):
            return False
        first = attributes.make
        attributes.make = lambda: _both(first(), more())
        return True


def _both(first: Mapping[str, Any], more: Mapping[str, Any]) -> Mapping[str, Any]:
    """In the order in which the SDK, which drops the oldest where there are too many, would have them."""
    if not first.keys().isdisjoint(more):
        first = {name: value for name, value in first.items() if name not in more}
    return {**first, **more}


def _after_fork() -> None:
    global making
    making = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
