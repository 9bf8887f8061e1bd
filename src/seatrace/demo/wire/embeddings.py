"""OpenAI ``/v1/embeddings``. The vectors are noise that depends on the text."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

from seatrace.demo.fake_model import Ask, Piece, seeded

from . import Body, Turn, openai
from .openai import error, headers, hit

__all__ = ["ask", "error", "events", "headers", "hit", "input_tokens", "stream_error", "whole"]

_DIMENSIONS = {"text-embedding-3-large": 3072}


def ask(body: Body) -> Ask:
    given = openai.required(body, "input")
    texts = [given] if isinstance(given, str) else given
    return Ask(model=openai.required(body, "model"), pieces=[Piece(str(text)) for text in texts])


def input_tokens(turn: Turn) -> int:
    return turn.ask.input_tokens


def whole(turn: Turn) -> Body:
    model = turn.ask.model
    size = turn.body.get("dimensions") or _DIMENSIONS.get(model, 1536)
    packed = turn.body.get("encoding_format") == "base64"
    data = []
    for index, piece in enumerate(turn.ask.pieces):
        numbers = seeded(0, model, piece.text)
        vector = [round(numbers.uniform(-0.05, 0.05), 8) for _ in range(size)]
        embedding = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if packed else vector
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    tokens = input_tokens(turn)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": turn.model, "usage": usage}


def events(turn: Turn) -> Iterator[bytes]:
    raise NotImplementedError("embeddings are never streamed")


def stream_error(status: int) -> bytes:
    raise NotImplementedError("embeddings are never streamed")
