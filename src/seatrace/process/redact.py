"""What leaves the process is cleaned first: secrets out, long texts cut."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from seatrace.core.record import Content

REDACTED = "[redacted]"

_ROOM = 4096
"""Characters beyond the limit that are still searched for a secret that begins within it."""

_DEPTH = 12
_NAME = 200
_TOTAL_ITEMS = 20_000
_TOTAL_TEXT = 2_000_000
"""Items and characters kept of one call's content, whatever the limits of its parts allow together."""

# --- secrets --------------------------------------------------------------------------------------------------------
#
# Content is searched in the user's thread, so this is built for texts without secrets: each form has a literal that
# must be in the text (a search of some microseconds), and only then is its pattern tried, which begins with that
# literal wherever possible. One pattern for all of them takes a thousand times as long.


def _form(literal: str, rest: str, before: str = r"\w") -> tuple[str, re.Pattern[str]]:
    """Keys that begin with ``literal``, not in the middle of a word."""
    begin = re.escape(literal)
    return literal, re.compile(f"{begin}(?<!{before}{begin}){rest}")


_FORMS = (
    *(_form(literal, r"[A-Za-z0-9_-]{16,}") for literal in ("sk-", "csk-", "pk-", "rk-")),  # OpenAI, Anthropic …
    *(_form(literal, r"[A-Za-z0-9]{10,}") for literal in ("sk_live_", "sk_test_", "rk_live_", "rk_test_")),  # Stripe
    *(
        _form(literal, r"[A-Za-z0-9_-]{18,}")
        for literal in (
            *("xai-", "gsk_", "hf_", "pplx-", "r8_", "tvly-", "fw_", "nvapi-", "pcsk_", "npm_", "pypi-", "lsv2_"),
            *("ntn_", "dop_v1_", "shpat_", "shpss_", "shpca_", "glpat-", "gldt-", "glptt-", "ya29."),
        )
    ),
    *(_form(literal, r"[A-Za-z0-9]{30,}") for literal in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    _form("github_pat_", r"[A-Za-z0-9_]{30,}"),
    _form("AIza", r"[A-Za-z0-9_-]{30,}"),
    *(_form(literal, r"[A-Z0-9]{16}\b") for literal in ("AKIA", "ASIA")),  # AWS
    _form("ABSK", r"[A-Za-z0-9+/]{30,}=*"),  # Bedrock
    _form("dapi", r"[a-f0-9]{32}\b"),  # Databricks
    _form("xox", r"[abposre](?:\.xox[bp])?-[A-Za-z0-9-]{10,}"),  # Slack
    _form("xapp-", r"[A-Za-z0-9-]{10,}"),
    _form("SG.", r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),  # SendGrid
    _form("eyJ", r"[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),  # JSON web token
    (":AA", re.compile(r"\b\d{8,10}:AA[A-Za-z0-9_-]{32,}")),  # Telegram
    ("-----BEGIN ", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)")),
    ("://", re.compile(r"""://[^\s/:@"']{0,100}:(?P<value>[^\s/@"']{1,200})@""")),
)

_SCHEMES = tuple((word, re.compile(word + r"\s{1,3}(?P<value>[a-z0-9._~+/-]{16,}=*)")) for word in ("bearer", "basic"))
"""On the text in lower case."""

_ENDS = ("key", "token", "secret", "password", "passwd", "pwd", "passphrase", "credential", "signature", "sig=")
"""What the name of a secret ends with."""

_NAMES = re.compile(
    r"(?P<last>key|token|secret|passw(?:or)?d|pwd|passphrase|credentials?|signature|sig)"
    r"""\\?["']?\s{0,3}[:=]\s{0,3}\\?["']?(?P<value>[^\s"'\\,;&}]{6,})"""
)
"""A name and its value, on the text in lower case; what stands before the name's last word decides."""

_NAMED = (
    r"(?:api|access|secret|private|account|subscription|signing|encryption|master|auth|openai)[_-]?key"
    r"|(?:access|refresh|auth|api|id|session|security|bearer|oauth)[_-]?token"
    r"|client[_-]?secret|secret|password|passwd|pwd|passphrase|credentials?|x-amz-signature"
)
_SECRET_NAME = re.compile(rf"(?i)[a-z0-9_-]*?(?:{_NAMED}|authorization|cookie)")
_IN_QUERIES = ("key", "sig", "signature", "token")
"""Names that say enough in the query of a URL."""

_BEFORE = re.compile(r"[a-z0-9_-]{0,60}\Z")


def redact(text: str) -> str:
    """``text`` with API keys, tokens, passwords and private keys replaced by ``[redacted]``.

    By form and by name alone: what does not look like a secret stays.
    """
    found: list[tuple[int, int]] = []
    for literal, form in _FORMS:
        if literal in text:
            found.extend(_spans(form, text))
    lower = text.lower()
    if len(lower) != len(text):  # a letter whose lower case is two
        lower = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    for word, scheme in _SCHEMES:
        if word in lower:
            found.extend(span for span in _spans(scheme, lower) if _is_random(text[span[0] : span[1]]))
    if any(word in lower for word in _ENDS):
        found.extend(_named(lower))
    return _without(text, found) if found else text


def _spans(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    group = "value" if pattern.groups else 0
    return [match.span(group) for match in pattern.finditer(text)]


def _is_random(word: str) -> bool:
    return any(letter.isdigit() or letter.isupper() for letter in word)


def _named(lower: str) -> list[tuple[int, int]]:
    found = []
    for match in _NAMES.finditer(lower):
        value = match.span("value")
        if lower.startswith(("[redacted", "bearer ", "basic "), value[0]):
            continue
        start = match.start()
        before = _BEFORE.findall(lower, max(0, start - 60), start)[0]
        name = before + match["last"]
        sign = lower[max(0, start - len(before) - 1) : start - len(before)]
        if _SECRET_NAME.fullmatch(name) or (sign in ("?", "&") and name in _IN_QUERIES):
            found.append(value)
    return found


def _without(text: str, found: list[tuple[int, int]]) -> str:
    out: list[str] = []
    at = 0
    for begin, end in sorted(found):
        if begin >= at:
            out += text[at:begin], REDACTED
        at = max(at, end)
    return "".join((*out, text[at:]))


# --- limits ---------------------------------------------------------------------------------------------------------


def cutter(limit: int) -> Callable[[str], str]:
    """A function that cuts texts to ``limit`` characters and says how many it left out."""

    def cut(text: str) -> str:
        return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit} characters cut]"

    return cut


def cleaner(
    *, redacting: bool, max_text: int, max_parts: int
) -> tuple[Callable[[Content], Content], Callable[[str], str]]:
    """Functions that clean content and single texts before anything is recorded.

    Args:
        redacting: Replace secrets.
        max_text: Characters kept of each text, binary data included.
        max_parts: Items kept of each list, the newest ones: the last messages of a long conversation.
    """
    cut = cutter(max_text)

    def clean_text(text: str) -> str:
        if not redacting:
            return cut(text)
        if len(text) <= max_text + _ROOM:
            return cut(redact(text))
        # A huge text is not searched to its end; with some room, no secret is cut in two before it is seen.
        kept = redact(text[: max_text + _ROOM])[:max_text]
        return f"{kept}… [{len(text) - max_text} characters cut]"

    def clean_content(content: Content) -> Content:
        cleaning = _Cleaning(clean_text, redacting, max_parts)
        return Content(**{field.name: cleaning.value(getattr(content, field.name)) for field in fields(content)})

    return clean_content, clean_text


class _Cleaning:
    """One call's content, reduced to JSON within the limits."""

    def __init__(self, clean_text: Callable[[str], str], redacting: bool, max_parts: int) -> None:
        self._clean_text = clean_text
        self._redacting = redacting
        self._max_parts = max_parts
        self._items = _TOTAL_ITEMS
        self._text = _TOTAL_TEXT

    def value(self, value: Any, depth: int = 0) -> Any:
        self._items -= 1
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self._string(str(value))
        if depth > _DEPTH:
            return "[nested too deep]"
        if self._items < 0:
            return "[too much]"
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            # The newest first, so that they are kept where there is too much.
            kept = list(value)[-self._max_parts :]
            return [self.value(item, depth + 1) for item in reversed(kept)][::-1]
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"[{len(value)} bytes]"
        return self._object(value, depth)

    def _string(self, text: str) -> str:
        if self._text <= 0:
            return f"[{len(text)} characters cut]"
        text = self._clean_text(text)
        self._text -= len(text)
        return text

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, item in list(value.items())[: self._max_parts]:
            name = self._clean_text(str(key)[:_NAME])
            if self._redacting and isinstance(item, str) and item and _SECRET_NAME.fullmatch(name):
                out[name] = REDACTED
            else:
                out[name] = self.value(item, depth + 1)
        return out

    def _object(self, value: Any, depth: int) -> Any:
        dump = getattr(type(value), "model_dump", None)
        if dump is not None:
            return self.value(value.model_dump(mode="json"), depth + 1)
        named = getattr(type(value), "__dataclass_fields__", None)
        if named is not None:
            return self._mapping({name: getattr(value, name, None) for name in named}, depth)
        try:
            return self._string(repr(value))
        except Exception as error:
            return f"[{type(value).__name__} without repr: {type(error).__name__}]"
