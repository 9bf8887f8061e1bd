"""Real tokenizers, where the program has one installed. None of them may reach for the network.

``bpe-openai`` and ``ctok`` carry their vocabulary. ``tiktoken`` downloads its own unless that lies in its cache, so it
is used only where the very file does, by its checksum.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_CHECKSUMS = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
_OLDER = ("gpt-4-", "gpt-3.5", "text-embedding-")
_SLOW = 20_000
"""Characters beyond which ctok, which is plain Python, would take more than about 0.1 s."""


class Tokenizer(NamedTuple):
    """One that is installed."""

    name: str
    count: Callable[[str], int]
    longest: int | None = None
    """Characters beyond which it is not asked."""


def tokenizer_for(model: str) -> Tokenizer | None:
    """The tokenizer of ``model``, where its family is known and one for it is installed."""
    name = model.rpartition("/")[2].lower()
    if name.startswith("claude"):
        return _ctok(_claude_version(name))
    if is_openai(name):
        return _openai("cl100k_base" if name == "gpt-4" or name.startswith(_OLDER) else "o200k_base")
    return None


def is_openai(name: str) -> bool:
    """Whether ``name`` is a model of OpenAI's."""
    return name.removeprefix("ft:").startswith(("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-"))


@lru_cache(maxsize=4)
def _openai(encoding: str) -> Tokenizer | None:
    module = _installed("bpe_openai")
    if module is not None:
        encode = module.get_encoding(encoding).encode_ordinary
        return Tokenizer("bpe-openai", lambda text: len(encode(text)))
    if not _is_cached(encoding):
        return None
    module = _installed("tiktoken")
    if module is None:
        return None
    encode = module.get_encoding(encoding).encode_ordinary
    return Tokenizer("tiktoken", lambda text: len(encode(text)))


@lru_cache(maxsize=4)
def _ctok(version: str) -> Tokenizer | None:
    module = _installed("ctok")
    if module is None:
        return None
    frame = module.token_count("", version=version)
    return Tokenizer("ctok", lambda text: int(module.token_count(text, version=version) - frame), _SLOW)


def _claude_version(name: str) -> str:
    """ctok's word for the family: Claude 3 to 4.6, 4.7, and since."""
    if name.startswith(("claude-3", "claude-2")) or _UP_TO_4_6.search(name):
        return "3.0"
    return "4.7" if "-4-7" in name else "4.8"


_UP_TO_4_6 = re.compile(r"-4(-[0-6])?(-\d{8})?(@|$|-v)")


def _installed(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        return None


def _is_cached(encoding: str) -> bool:
    """Whether tiktoken would find its vocabulary on disk (the rule of its ``load.py``), whole."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder == "":
        return False
    place = Path(folder) if folder is not None else Path(tempfile.gettempdir()) / "data-gym-cache"
    file = place / hashlib.sha1(_URL.format(encoding).encode()).hexdigest()
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == _CHECKSUMS[encoding]
    except OSError:
        return False
