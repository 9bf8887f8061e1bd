"""What is asked of a cache, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .codec import decode, encode
from .making import Making
from .steps import Flow
from .store import Entry
from .telemetry import Result


@dataclass(frozen=True)
class Near:
    """An entry that is served although its key is another one."""

    entry: Entry
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request to a cache."""

    key: str
    call: Callable[[], Any]
    """Makes the answer: a function, or a coroutine function where the program is asynchronous."""
    operation: str = "chat"
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What the record of a hit has besides."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Further attributes of its span."""
    ttl: Callable[[Any, bytes], float | str]
    """How long to keep an answer, given as it is and as bytes; or why not at all, in one of our fixed words."""
    encode: Callable[[Any, Making], bytes] = lambda value, made: encode(value)
    decode: Callable[[bytes], Any] = decode
    """May be a coroutine function where the program is asynchronous."""
    near: Callable[[], Flow[Near | None]] | None = None
    """Looks for something similar, after there was nothing equal."""
    made: Callable[[Any, Entry | None], Flow[None]] | None = None
    """Is shown an answer just made, and the entry where it is kept."""


@dataclass
class Outcome:
    """What became of a call, or what stands in for it."""

    result: Result
    value: Any = None
    error: Exception | None = None
    body: bytes | None = None
    entry: Entry | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    looked: int = 0
    """``perf_counter_ns()`` when the lookup was over."""
    fault: Exception | None = None
    """What went wrong in our own code: everybody makes the call for themselves then."""

    def get(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value
