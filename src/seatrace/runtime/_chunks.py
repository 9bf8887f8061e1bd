"""What a stream's chunk says, and where its text may be cut."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

from seatrace.core.shape import get

Split = Literal["char", "word", "sentence", "grapheme"]
SPLITS: tuple[Split, ...] = ("char", "word", "sentence", "grapheme")

_BESIDE_TEXT = ("tool_calls", "function_call", "refusal", "audio", "reasoning_content", "reasoning", "annotations")


def text_of(chunk: Any) -> tuple[str, bool]:
    """The text in ``chunk``, and whether that is all that it carries.

    Reads plain strings, chunks of OpenAI chat and text completions (first choice), events of OpenAI responses and of
    Anthropic messages, as the client libraries' objects or as parsed JSON. A role beside text tells nothing new.
    """
    if isinstance(chunk, str):
        return chunk, True
    kind = get(chunk, "type")
    if kind == "response.output_text.delta":
        return _words(get(chunk, "delta"))
    if kind == "content_block_delta":
        delta = get(chunk, "delta")
        return _words(get(delta, "text")) if get(delta, "type") == "text_delta" else ("", False)
    choices = get(chunk, "choices")
    if not isinstance(choices, Sequence) or len(choices) != 1 or get(choices[0], "index"):
        return "", False
    choice = choices[0]
    delta = get(choice, "delta")
    text, found = _words(get(choice, "text") if delta is None else get(delta, "content"))
    more = get(choice, "finish_reason") or get(choice, "logprobs") or get(chunk, "usage")
    return text, found and not more and not any(get(delta, name) for name in _BESIDE_TEXT)


def _words(value: Any) -> tuple[str, bool]:
    return (value, True) if isinstance(value, str) and value else ("", False)


def cut_at(text: str, split: Split) -> int:
    """How much of ``text`` may go out now: up to its last boundary, 0 where it has none."""
    if split == "char":
        return len(text)
    if split == "grapheme":
        return _last_cluster(text)
    if split == "sentence":
        return max((found.end() for found in _SENTENCE.finditer(text)), default=0)
    return next((at + 1 for at in reversed(range(len(text))) if text[at].isspace() or _is_word(text[at])), 0)


_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？]+[」』”’）]*|\n+")


def _is_word(char: str) -> bool:
    """Whether the character is a word of its own: Chinese and Japanese are written without spaces."""
    return "\u2e80" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff" or "\U00020000" <= char <= "\U0003ffff"


# --- grapheme clusters (Unicode Standard Annex 29) --------------------------------------------------------------------
#
# The rules GB3, GB6 to GB9c and GB11 to GB13, by the properties that `unicodedata` knows. Where these say less than the
# annex, a cluster is taken for longer than it is, and its text waits a moment longer.

_JOINER = "\u200d"


def _last_cluster(text: str) -> int:
    at = len(text) - 1
    while at > 0 and _joined(text, at):
        at -= 1
    return max(at, 0)


def _joined(text: str, at: int) -> bool:
    """Whether ``text[at]`` belongs to the cluster before it."""
    before, char = text[at - 1], text[at]
    if char < "\u0300":
        return before == "\r" and char == "\n"
    if char in ("\u200c", _JOINER) or unicodedata.category(char) in ("Mn", "Mc", "Me"):
        return True
    if "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f":  # skin tones, tags of flags
        return True
    if before == _JOINER or unicodedata.combining(before) == 9:  # emoji sequences; consonants below a virama
        return True
    if _is_flag(char):
        start = at
        while start > 0 and _is_flag(text[start - 1]):
            start -= 1
        return (at - start) % 2 == 1
    return _hangul(before) in _HANGUL_BEFORE.get(_hangul(char), "")


def _is_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


_HANGUL_BEFORE = {"L": "L", "V": "LVS", "T": "VTS", "S": "L"}


def _hangul(char: str) -> str:
    """Leading, vowel, trailing or syllable; a space for all else."""
    if "\u1100" <= char <= "\u115f" or "\ua960" <= char <= "\ua97c":
        return "L"
    if "\u1160" <= char <= "\u11a7" or "\ud7b0" <= char <= "\ud7c6":
        return "V"
    if "\u11a8" <= char <= "\u11ff" or "\ud7cb" <= char <= "\ud7fb":
        return "T"
    return "S" if "\uac00" <= char <= "\ud7a3" else " "
