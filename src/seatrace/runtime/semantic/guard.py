"""What an embedding does not see: numbers, negation, opposites, whom and when, names.

A guard compares two texts and says why they may want different answers. The one here knows words, and English ones
alone; in other languages numbers, and names in capital letters, still count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal

from .words import ANTONYMS, CONTRACTIONS, DAYS, LOOSE_SCOPES, MONTHS, NEGATIONS, NUMBERS, SCOPES, UNITS

Rejection = Literal["number", "negation", "antonym", "scope", "entity"]
REJECTIONS: tuple[Rejection, ...] = ("number", "negation", "antonym", "scope", "entity")

Guard = Callable[[str, str], "str | None"]
"""``guard(known, asked)``: why the answer to ``known`` may be wrong for ``asked``, one of few words; ``None`` where
nothing speaks against it."""

_GREETING = re.compile(
    r"^\s*(?:hi|hello|hey|hiya|dear|good (?:morning|afternoon|evening)|morning|evening)\b[^,.!?:]{0,20}[,.!:]\s*", re.I
)
_TOKEN = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*|\d+(?:[.,:/]\d+)*")
_MARKS = str.maketrans({"’": "'", "‘": "'", "–": "-", "—": "-"})
_SENTENCE_ENDS = frozenset(".?!:\n\"'“(")
_FIRST_PERSON = frozenset({"I", "I'm", "I've", "I'd", "I'll", "OK"})
_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "non-", "mis", "de")
_SYMBOLS = {"£": "gbp", "$": "usd", "€": "eur", "%": "%"}
_ENDINGS = ("ing", "ies", "es", "ed", "s")
_ALIKE = 0.85
"""From which ratio on two names are one name and a slip of the finger; "Austria" and "Australia" are less alike."""


@dataclass(frozen=True)
class _Reading:
    """A text as the guard sees it."""

    words: frozenset[str]
    numbers: tuple[str, ...]
    negations: int
    names: tuple[str, ...]
    route: tuple[frozenset[str], frozenset[str]]
    """Words between "from" and "to", and the other way round."""


def lexical_guard(known: str, asked: str) -> Rejection | None:
    """Compares two texts by their words.

    - ``number``: other numbers, dates, times or units, or in another order.
    - ``negation``: one denies more than the other ("is", "isn't"; "safe", "unsafe").
    - ``antonym``: one says the opposite of a word in the other ("arrivals", "departures").
    - ``scope``: for somebody else, another time, another amount ("adults", "children"; "last", "next"; "my", "their").
    - ``entity``: other names, or in another order; from there to here instead of from here to there.
    """
    if known == asked:
        return None
    one, two = _read(known), _read(asked)
    if one.numbers != two.numbers:
        return "number"
    if one.negations != two.negations or _is_denied(one.words, two.words) or _is_denied(two.words, one.words):
        return "negation"
    if _are_opposed(one.words, two.words):
        return "antonym"
    if _scopes_differ(one.words, two.words):
        return "scope"
    if _names_differ(one, two) or _is_reversed(one.route, two.route):
        return "entity"
    return None


@lru_cache(maxsize=4096)
def _read(text: str) -> _Reading:
    text = _GREETING.sub("", text.translate(_MARKS))
    words: list[str] = []
    numbers: list[str] = []
    names: list[str] = []
    counted = False  # whether the token before was a number, to which a unit may belong
    one = False
    for found in _TOKEN.finditer(text):
        token, start = found.group(), found.start()
        lowered = token.lower()
        if token[0].isdigit():
            around = (text[start - 1 : start], text[found.end() : found.end() + 1])
            numbers.extend([_plain(token), *(_SYMBOLS[each] for each in around if each in _SYMBOLS)])
            counted = True
        elif lowered in UNITS and (counted or one):
            numbers.extend([UNITS[lowered]] if counted else ["1", UNITS[lowered]])
            counted = one = False
        elif (lowered in MONTHS or lowered in DAYS) and (token[0].isupper() or len(lowered) > 4):
            numbers.append(lowered[:3])
            counted = False
        elif lowered in NUMBERS and lowered != "one":
            numbers.append(NUMBERS[lowered])
            counted = True
        else:
            counted, one = False, lowered == "one"
            if _is_name(text, start, token):
                names.append(_stem(lowered.removesuffix("'s")))
            words.extend(_expanded(lowered))
    negations = sum(word in NEGATIONS for word in words)
    return _Reading(frozenset(words), tuple(numbers), negations, tuple(names), _route(words))


def _plain(number: str) -> str:
    return number if "/" in number or ":" in number else number.replace(",", "")


def _expanded(word: str) -> Iterable[str]:
    whole = CONTRACTIONS.get(word)
    if whole is not None:
        return whole.split()
    if word.endswith("n't"):
        return word[:-3], "not"
    return (word.partition("'")[0],)


def _is_name(text: str, start: int, token: str) -> bool:
    if not token[0].isupper() or token in _FIRST_PERSON:
        return False
    before = text[:start].rstrip()
    begins = not before or before[-1] in _SENTENCE_ENDS
    return not begins or (len(token) > 1 and token.isupper())


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _is_denied(words: frozenset[str], others: frozenset[str]) -> bool:
    return any(f"{prefix}{word}" in others for word in words - others if len(word) > 2 for prefix in _PREFIXES)


def _are_opposed(one: frozenset[str], two: frozenset[str]) -> bool:
    other = two - one
    return any(not ANTONYMS[word].isdisjoint(other) for word in one - two if word in ANTONYMS)


def _scopes_differ(one: frozenset[str], two: frozenset[str]) -> bool:
    if _meanings(one, SCOPES) != _meanings(two, SCOPES):
        return True
    mine, theirs = _meanings(one, LOOSE_SCOPES), _meanings(two, LOOSE_SCOPES)
    return any(mine[group] != theirs[group] for group in mine.keys() & theirs.keys())


def _meanings(words: frozenset[str], scopes: Mapping[str, frozenset[tuple[int, str]]]) -> dict[int, frozenset[str]]:
    found: dict[int, frozenset[str]] = {}
    for word in words:
        for group, meaning in scopes.get(word, ()):
            found[group] = found.get(group, frozenset()) | {meaning}
    return found


def _names_differ(one: _Reading, two: _Reading) -> bool:
    in_one, in_two = ({_stem(word) for word in each.words} for each in (one, two))
    missing = [name for name in one.names if name not in in_two]
    added = [name for name in two.names if name not in in_one]
    if missing and added:
        ratio = SequenceMatcher(None, " ".join(missing), " ".join(added), autojunk=False).ratio()
        return ratio < _ALIKE
    if missing or added:
        return True
    both = set(one.names) & set(two.names)
    return [name for name in one.names if name in both] != [name for name in two.names if name in both]


def _route(words: list[str]) -> tuple[frozenset[str], frozenset[str]]:
    parts: dict[str, set[str]] = {"from": set(), "to": set()}
    here: set[str] = set()
    for word in words:
        if word in parts:
            here = parts[word]
        else:
            here.add(word)
    if not parts["from"]:
        return frozenset(), frozenset()
    both = parts["from"] & parts["to"]
    return frozenset(parts["from"] - both), frozenset(parts["to"] - both)


def _is_reversed(one: tuple[frozenset[str], frozenset[str]], two: tuple[frozenset[str], frozenset[str]]) -> bool:
    return bool(one[0] & two[1]) and bool(one[1] & two[0])
