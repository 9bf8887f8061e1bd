"""The key of a model request: everything that can change the answer, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .canonical import CallIds, digest_plain, is_left_out, plain

IGNORED: frozenset[str] = frozenset(
    {
        "api_key",
        "extra_headers",
        "headers",
        "idempotency_key",
        "max_retries",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "stream",
        "timeout",
        "user",
    }
)
"""Parameters that do not change the answer. Every other one counts, known or not."""

_CONVERSATIONS = frozenset({"messages", "input", "contents"})
"""Parameters in which ids of tool calls stand."""


@dataclass(frozen=True)
class RequestKey:
    """Makes the key of a request.

    The key is the SHA-256 of the canonical JSON of all parameters: their order does not matter; ``1`` and ``1.0`` are
    one number; text is in NFC; bytes count by their digest; ids of tool calls count by their ordinal. A parameter that
    is left out is not the same as one that is given with its default: who knows the provider's defaults?
    """

    ignore: frozenset[str] = IGNORED
    """Parameters that do not count."""
    version: str = "1"
    """Changing it forgets all that was kept: of a prompt template, an index, a tool."""

    def __call__(self, request: Mapping[str, Any], *, origin: object = None) -> str:
        """The key of ``request``, 64 hexadecimal digits.

        Args:
            request: Parameters of the call, as given to the client library.
            origin: What else decides on the answer: provider, address, endpoint, function.

        Raises:
            UnkeyableError: A parameter is no data, an iterator for instance.
        """
        ids = CallIds()
        parameters = {
            name: plain(value, ids if name in _CONVERSATIONS else None, name)
            for name, value in sorted(request.items())
            if name not in self.ignore and not is_left_out(value)
        }
        return digest_plain([self.version, plain(origin, None, "origin"), parameters])
