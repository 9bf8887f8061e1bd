"""Payloads and results as text: JSON of a bounded size, sealed where the queue has a cipher. Nothing is pickled: who
can write into a queue must not be able to run code in its workers."""

from __future__ import annotations

import base64
import json
from typing import Any, Protocol

from .errors import InvalidPayload

SEALED = "\x02sealed:"
"""Before text that a cipher made; no JSON begins so."""


class Cipher(Protocol):
    """Seals payloads and results before they leave the process; ``cryptography.fernet.Fernet`` is one."""

    def encrypt(self, data: bytes, /) -> bytes: ...

    def decrypt(self, token: bytes, /) -> bytes: ...


def to_text(value: Any, what: str, *, limit: int, cipher: Cipher | None) -> str:
    """``value`` as it is stored.

    Raises:
        InvalidPayload: It is no JSON, or longer than ``limit`` bytes.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidPayload(
            f"{what}: expected JSON (text, finite numbers, true, false, null, lists, objects), got a "
            f"{type(value).__name__} that is none: {type(error).__name__}"
        ) from error
    if len(data) > limit:
        raise InvalidPayload(
            f"{what}: expected at most {limit:,} bytes of JSON, got {len(data):,}: put it into a store and queue its "
            "address, or raise max_payload="
        )
    return text if cipher is None else SEALED + base64.b64encode(cipher.encrypt(data)).decode()


def from_text(text: str, cipher: Cipher | None) -> Any:
    """What :func:`to_text` was given.

    Raises:
        InvalidPayload: It is sealed and there is no cipher, or the other way round: who can write into a queue must not
            be able to pass for one who has the key.
    """
    if text.startswith(SEALED) is (cipher is None):
        wanted = "a queue with the cipher that sealed this" if cipher is None else "text that the queue's cipher sealed"
        raise InvalidPayload(f"expected {wanted}")
    return json.loads(text if cipher is None else cipher.decrypt(base64.b64decode(text[len(SEALED) :])))
