"""How many tokens a text has, by what its words look like. No vocabulary: one regular expression and a weight a class.

The weights were fitted to tokenizers on English, Python, Markdown, JSON, logs, base64, hexadecimal and sixteen other
languages: OpenAI's ``o200k_base``, and ``ctok`` 1.3.0 for Claude (its newest family). On samples of 1,500 characters
the error has a standard deviation of 6.5 % against the one and 8 % against the other; it is at most 19 % against the
one, and from -27 % (German) to +24 % (Markdown) against the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PIECES = re.compile(
    r"""
 (?P<opaque>(?=[A-Za-z+/_-]{0,40}\d)[A-Za-z0-9+/_=-]{32,})
|(?P<word>[A-Z]?[a-z]+|[A-Z]+(?![a-z]))
|(?P<latin>[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+)
|(?P<digits>\d+)
|(?P<space>\n\s*|[ \t]{2,})
|(?P<one>[ \t\r])
|(?P<han>[\u3400-\u9fff\uf900-\ufaff]+)
|(?P<kana>[\u3040-\u30ff]+)
|(?P<hangul>[\uac00-\ud7af\u1100-\u11ff]+)
|(?P<cyrillic>[\u0400-\u052f]+)
|(?P<alphabetic>[\u0370-\u03ff\u0530-\u08ff]+)
|(?P<indic>[\u0900-\u0fff]+)
|(?P<mark>[!-/:-@\[-`{-~]+)
|(?P<other>.)
""",
    re.VERBOSE | re.DOTALL,
)

Weights = Mapping[str, float]

OPENAI: Final[Weights] = {
    "opaque": 0.63,
    "word": 0.94,
    "long": 0.165,
    "latin": 0.45,
    "digits": 1.03,
    "space": 0.76,
    "han": 0.78,
    "kana": 0.85,
    "hangul": 0.81,
    "cyrillic": 0.345,
    "alphabetic": 0.425,
    "indic": 0.42,
    "mark": 0.95,
    "more": 0.07,
    "other": 1.6,
}
CLAUDE: Final[Weights] = {
    "opaque": 0.77,
    "word": 1.21,
    "long": 0.54,
    "latin": 1.03,
    "digits": 1.02,
    "space": 1.16,
    "han": 0.93,
    "kana": 0.72,
    "hangul": 1.36,
    "cyrillic": 0.47,
    "alphabetic": 0.78,
    "indic": 0.87,
    "mark": 1.44,
    "more": 0.2,
    "other": 2.96,
}
"""Tokens a character of a class; ``word``, ``digits`` (three to a group), ``space`` and ``mark`` are a piece's,
``long`` a letter's beyond the sixth of a word, ``more`` a mark's beyond the first of a run."""

_WHOLE = 200_000
_SAMPLES = 20
_SAMPLE = 5_000


def count_text(text: str, weights: Weights) -> float:
    """Tokens of ``text``; of one longer than 200,000 characters by twenty samples (5 ms for 40,000 characters)."""
    key = (hash(text), len(text), weights is CLAUDE)
    known = _recent.get(key)
    if known is None:
        known = _former.get(key) or _counted(text, weights)
        _remember(key, known)
    return known


_Key = tuple[int, int, bool]
_REMEMBERED = 4_096
_recent: dict[_Key, float] = {}
_former: dict[_Key, float] = {}
"""Counts by a text's hash, two generations: an agent sends the same messages again and again. No text is kept."""


def _remember(key: _Key, count: float) -> None:
    global _recent, _former
    if len(_recent) >= _REMEMBERED:
        _recent, _former = {}, _recent
    _recent[key] = count


def _counted(text: str, weights: Weights) -> float:
    if len(text) <= _WHOLE:
        return _count(text, weights)
    step = len(text) / _SAMPLES
    sampled = sum(_count(text[int(at * step) : int(at * step) + _SAMPLE], weights) for at in range(_SAMPLES))
    return sampled * len(text) / (_SAMPLES * _SAMPLE)


def _count(text: str, weights: Weights) -> float:
    total = 0.0
    for piece in _PIECES.finditer(text):
        kind = piece.lastgroup or ""
        length = piece.end() - piece.start()
        if kind == "word":
            total += weights["word"] + (weights["long"] * (length - 6) if length > 6 else 0)
        elif kind == "digits":
            total += weights["digits"] * -(-length // 3)
        elif kind == "space":
            total += weights["space"]
        elif kind == "mark":
            total += weights["mark"] + weights["more"] * (length - 1)
        elif kind != "one":
            total += weights[kind] * length
    return total
