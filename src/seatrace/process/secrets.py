"""Secrets in texts, by their form and by the names they stand behind. Its patterns take some milliseconds to build, so
it is loaded with the first library that is observed, and not when the program starts."""

from __future__ import annotations

import re

REDACTED = "[redacted]"

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


def is_secret_name(name: str) -> bool:
    """Whether what stands behind ``name`` is a secret: ``api_key``, ``authorization`` …"""
    return _SECRET_NAME.fullmatch(name) is not None
