"""Setting attributes without the SDK's cleaning of each.

Spans of opentelemetry-sdk look at every attribute one by one, twice a call: is it of a valid type, is
it too long, is there room. What seatrace writes is valid as it is (users' own attributes may not be), so that one look
at all of them together is enough. It relies on internals of the SDK, therefore everything is looked at before it is
used: limits, odd values, another SDK or version get the public call.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from itertools import chain, compress
from operator import is_
from typing import Any, NamedTuple

_PLAIN = frozenset({str, int, float, bool, tuple})
_TEXT = frozenset({str})
_is_tuple = partial(is_, tuple)


def set_attributes(span: Any, attributes: Mapping[str, Any]) -> None:
    """``span.set_attributes(attributes)``, for a span that has not ended."""
    known = _traces()
    if known is None or type(span) is not known.span or not plain(attributes):
        span.set_attributes(attributes)
    else:
        fill(span._attributes, attributes, known.bounded)


def plain(attributes: Mapping[str, Any]) -> bool:
    """Whether the SDK would take them as they are, but for its limits."""
    kinds = [*map(type, attributes.values())]
    if not _PLAIN.issuperset(kinds) or not _TEXT.issuperset(map(type, attributes)) or "" in attributes:
        return False
    in_tuples = chain.from_iterable(compress(attributes.values(), map(_is_tuple, kinds)))
    return _TEXT.issuperset(map(type, in_tuples))


def fill(bounded: Any, attributes: Mapping[str, Any], kind: Any) -> None:
    """Puts plain ``attributes`` into ``bounded``: at one go, where no limit is near."""
    if (
        type(bounded) is kind
        and bounded.max_value_len is None
        and (bounded.maxlen is None or len(bounded._dict) + len(attributes) <= bounded.maxlen)
        and not bounded._immutable
    ):
        with bounded._lock:
            bounded._dict.update(attributes)
        return
    for name, value in attributes.items():
        bounded[name] = value


class _Traces(NamedTuple):
    span: Any
    bounded: Any


@cache
def _traces() -> _Traces | None:
    try:
        from opentelemetry.sdk.trace import _Span
    except ImportError:
        return None
    bounded = _bounded_attributes()
    return bounded and _Traces(_Span, bounded)


def _bounded_attributes() -> Any:
    try:
        from opentelemetry.attributes import BoundedAttributes
    except ImportError:
        return None
    made = BoundedAttributes(immutable=False)
    known = all(hasattr(made, name) for name in ("_dict", "_immutable", "_lock", "max_value_len", "maxlen"))
    return BoundedAttributes if known else None
