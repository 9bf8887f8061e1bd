"""The prompt caches of the two providers: the first request with a long prefix writes it, later ones read it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .fake_model import Piece, count_tokens

_SHORTEST = 1024
"""Tokens; a shorter prefix is cached by neither provider."""
_BLOCK = 128
"""Tokens; OpenAI caches in whole blocks."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Tokens of one prompt that were read from and written to the cache."""

    read: int = 0
    written: int = 0
    written_1h: int = 0
    """The part of ``written`` that is kept for one hour."""


class PromptCache:
    """Remembers the prefixes it was shown, per model, for as long as the provider runs."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def automatic(self, model: str, pieces: Sequence[Piece]) -> Hit:
        """OpenAI: every prompt of at least 1,024 tokens, in blocks of 128, writes unbilled."""
        text = "\0".join(piece.text for piece in pieces)
        prefixes = list(_block_prefixes(text))
        known = 0
        for known, prefix in enumerate(prefixes, start=1):
            if (model, prefix) not in self._seen:
                known -= 1
                break
        if count_tokens(text) >= _SHORTEST:
            self._seen.update((model, prefix) for prefix in prefixes)
        read = known * _BLOCK
        return Hit(read=read if read >= _SHORTEST else 0)

    def marked(self, model: str, pieces: Sequence[Piece]) -> Hit:
        """Anthropic: up to the last piece with a ``cache_control`` mark; what is not read is written."""
        marks = [mark for mark in _marked_prefixes(pieces) if mark[1] >= _SHORTEST]
        if not marks:
            return Hit()
        read = max((tokens for prefix, tokens, _ in marks if (model, prefix) in self._seen), default=0)
        self._seen.update((model, prefix) for prefix, _, _ in marks)
        written = marks[-1][1] - read
        return Hit(read, written, written if marks[-1][2] == "1h" else 0)


def _block_prefixes(text: str) -> Iterator[str]:
    size = 4 * _BLOCK
    digest = hashlib.sha256()
    for start in range(0, len(text) - size + 1, size):
        digest.update(text[start : start + size].encode())
        yield digest.hexdigest()


def _marked_prefixes(pieces: Sequence[Piece]) -> Iterator[tuple[str, int, str]]:
    digest = hashlib.sha256()
    tokens = 0
    for piece in pieces:
        digest.update(piece.text.encode() + b"\0")
        tokens += count_tokens(piece.text)
        if piece.cached is not None:
            yield digest.hexdigest(), tokens, piece.cached
