"""Which calls may be answered out of a cache, and which answers are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from seatrace.core.record import Call
from seatrace.errors import ConfigError

from .answers import calls_tools, refuses
from .store import at_least_zero

Determinism = Literal["deterministic", "always"]


@dataclass(frozen=True, kw_only=True)
class CachePolicy:
    """What is cached. The default keeps what a second call would say as well, and nothing else."""

    requests: Determinism = "deterministic"
    """``"deterministic"``: requests with ``temperature`` 0 or a ``seed``, said explicitly: a temperature left out is
    the provider's default, not 0; a client's embeddings, moderations and token counts always are. ``"always"``: all
    requests; whoever asks twice then gets the same words twice."""
    finish_reasons: frozenset[str] = frozenset({"stop"})
    """The conventions' words for how a kept answer ended; answers that do not say are kept."""
    tool_turns: bool = False
    """Whether answers that call tools are kept: with them what the agent does next is kept, too."""
    refusals: bool = False
    """Whether answers are kept in which the model declined."""
    max_entry_bytes: int = 1_000_000
    """Larger answers are not kept."""

    def __post_init__(self) -> None:
        if self.requests not in ("deterministic", "always"):
            raise ConfigError(f"requests: expected 'deterministic' or 'always', got {self.requests!r}")
        if isinstance(self.finish_reasons, str):
            raise ConfigError(f"finish_reasons: expected a set of words, got the text {self.finish_reasons!r}")
        at_least_zero("max_entry_bytes", self.max_entry_bytes, whole=True)

    def passes_over(self, request: Mapping[str, Any]) -> str | None:
        """Why ``request`` is not for caching; ``None`` where it is."""
        if request.get("background") or request.get("conversation"):
            return "stateful"  # the Responses API: the call changes something at the provider
        if self.requests == "always" or _is_zero(request.get("temperature")) or _is_given(request.get("seed")):
            return None
        return "not_deterministic"

    def rejects(self, size: int, call: Call | None, answer: Any) -> str | None:
        """Why an answer is not kept; ``None`` where it is.

        Args:
            size: Its bytes.
            call: What it says about itself, where that can be read.
            answer: The answer, or its chunks, as JSON data.
        """
        if size > self.max_entry_bytes:
            return "too_large"
        if call is not None and call.error_type is not None:
            return "failed"
        ended = set(call.finish_reasons or ()) if call is not None else set()
        if not self.tool_turns and ("tool_call" in ended or (call is not None and calls_tools(answer))):
            return "tool_turn"
        if ended - self.finish_reasons - {"tool_call"}:
            return "finish_reason"
        return "refusal" if call is not None and not self.refusals and refuses(answer) else None


def policy_of(policy: CachePolicy | Determinism) -> CachePolicy:
    """A policy, given as such or by its first word."""
    return policy if isinstance(policy, CachePolicy) else CachePolicy(requests=policy)


def _is_zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0


def _is_given(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
