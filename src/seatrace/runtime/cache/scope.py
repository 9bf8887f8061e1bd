"""For whom an answer is kept: what one tenant was told is never told to another one."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Literal

from seatrace.core import signals
from seatrace.errors import ConfigError

CacheScope = Literal["global", "tenant", "user", "session"]
_SCOPES = ("global", "tenant", "user", "session")
_DIGITS = 16

Namespace = str | Callable[[], str]


class UnscopedError(Exception):
    """A cache is kept by user or session, and there is none here."""


def checked_scope(scope: CacheScope) -> CacheScope:
    """``scope``.

    Raises:
        ConfigError: It is none.
    """
    if scope not in _SCOPES:
        raise ConfigError(f"scope: expected one of {', '.join(_SCOPES)}, got {scope!r}")
    return scope


def prefix_of(name: str, namespace: Namespace, scope: CacheScope) -> str:
    """The first part of the keys of what may be shared here. Only digests, so that no store knows anybody's name.

    Raises:
        UnscopedError: There is no user, or no session. No tenant is one tenant.
    """
    whom: str | None = None
    if scope != "global":
        current = signals.scope()
        whom = {"tenant": current.tenant, "user": current.user, "session": current.session}[scope]
        if whom is None and scope != "tenant":
            raise UnscopedError(scope)
    space = namespace if isinstance(namespace, str) else namespace()
    if not space and whom is None:
        return f"{name}/-/"
    return f"{name}/{sha256(repr((space, scope, whom)).encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}/"
