"""Rate limits in response headers: OpenAI's (and of those who speak like it) and Anthropic's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from seatrace.core.record import RateLimit

_HEADER = re.compile(
    r"x-ratelimit-(?P<openai>limit|remaining)-(?P<of>requests|tokens)"
    r"|anthropic-ratelimit-(?P<resource>requests|tokens|input-tokens|output-tokens)-(?P<anthropic>limit|remaining)"
)


def read_limits(headers: Mapping[str, str]) -> list[RateLimit]:
    """What ``headers`` (names in lower case, as HTTP clients give them) say; nothing where they say nothing."""
    found: dict[str, dict[str, int]] = {}
    for name, value in headers.items():
        said = _HEADER.fullmatch(name)
        if said is not None and value.strip().isdecimal():
            resource = (said["of"] or said["resource"]).replace("-", "_")
            found.setdefault(resource, {})[said["openai"] or said["anthropic"]] = int(value)
    return [RateLimit(resource, of.get("limit"), of.get("remaining")) for resource, of in found.items()]
