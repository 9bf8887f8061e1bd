"""What the model calls of Claude Code's program used.

Its messages tell the tokens that a call read; what it wrote is known there only where the program streams
(``include_partial_messages``), else each message repeats the count with which the answer began. The result tells the
sum of it: where that is clearly about these calls (they read as much as it says), it is shared out among them by the
length of what they said, so that the sum is right. ``total_cost_usd`` is no price: the program works it out itself, and
counts on over the whole session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

from seatrace.core.pipeline import Pipeline
from seatrace.core.record import Call
from seatrace.shapes.anthropic_messages import AnthropicMessages

_READ = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_READ_OF_MODEL = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
_SHAPE = AnthropicMessages()


class Said:
    """One message of a model, told in parts."""

    def __init__(self, call: Call, line: Pipeline | None, ident: str, *, main: bool) -> None:
        self.call = call
        self.main = main
        """Whether the agent said it that was asked, and not a sub-agent."""
        self.usage: dict[str, Any] = {}
        self.known = False
        """Whether the message was told to its end, with all that it used."""
        self._line = line
        self._ident = ident
        self._content: list[Any] = []
        self._reason: Any = None
        self._at = perf_counter_ns()

    def began(self) -> None:
        """The first chunk of its stream came."""
        self.call.stream = True
        self.call.first_chunk_clock = perf_counter_ns()

    def add(self, part: Mapping[str, Any]) -> None:
        """Another part was told: blocks, the reason to stop, usage; of counts told twice the later one holds, but none
        gets smaller."""
        self._at = perf_counter_ns()
        self._content += part.get("content") or ()
        for name, value in (part.get("usage") or {}).items():
            if value is not None:
                was = self.usage.get(name)
                self.usage[name] = max(was, value) if isinstance(was, int) and isinstance(value, int) else value
        if part.get("stop_reason"):
            self._reason = part["stop_reason"]
            self.known = True

    @property
    def length(self) -> int:
        """Characters of what was said."""
        return 1 + sum(len(json.dumps(each, default=str)) for each in self._content)

    def end(self) -> None:
        """Ends the call, at the time of its last message."""
        if self._line is None:
            return
        if self._reason is None and self._content:
            used = any(isinstance(each, dict) and each.get("type") == "tool_use" for each in self._content)
            self._reason = "tool_use" if used else "end_turn"
        told = {"id": self._ident, "model": self.call.request_model, "stop_reason": self._reason}
        _SHAPE.response(self.call, {**told, "usage": self.usage or None})
        if self.call.content is not None:
            self.call.content.output_messages = _SHAPE.response_content(self.call, {"content": self._content})
        self.call.ended_clock = self._at
        self._line.end(self.call)


def true_up(said: Sequence[Said], result: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Completes what ``said`` used by what the ``result`` tells; returns its totals by model, which count on."""
    totals: Mapping[str, Any] = result.get("modelUsage") or {}
    usage = result.get("usage") or {}
    main = [each for each in said if each.main]
    if _read(main) == [usage.get(name) or 0 for name in _READ]:
        _share(main, usage.get("output_tokens"))
    for model, now in totals.items():
        was = before.get(model) or {}
        of_model = [each for each in said if each.call.request_model == model]
        if _read(of_model) == [(now.get(name) or 0) - (was.get(name) or 0) for name in _READ_OF_MODEL]:
            _share(of_model, (now.get("outputTokens") or 0) - (was.get("outputTokens") or 0))
    return totals or before


def _read(said: Iterable[Said]) -> list[int]:
    return [sum(each.usage.get(name) or 0 for each in said) for name in _READ]


def _share(said: Sequence[Said], written: int | None) -> None:
    open_ = [each for each in said if not each.known]
    rest = (written or 0) - sum(each.usage.get("output_tokens") or 0 for each in said if each.known)
    if rest < sum(each.usage.get("output_tokens") or 0 for each in open_):
        return
    length = sum(each.length for each in open_)
    for each in open_:
        part = each.length
        each.usage["output_tokens"] = rest * part // length
        rest, length = rest - each.usage["output_tokens"], length - part
        each.known = True
