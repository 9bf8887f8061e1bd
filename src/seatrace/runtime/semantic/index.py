"""The nearest of many vectors: plain numpy, exact; or usearch, approximate and fast where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from seatrace.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Vector = NDArray[float32]
else:
    Vector = Any

IndexKind = Literal["auto", "numpy", "usearch"]

NUMPY_LIMIT = 50_000
"""Entries up to which ``"auto"`` takes numpy: beyond, one look at all of them takes tens of milliseconds."""

_FIRST_ROOM = 64


class Index(Protocol):
    """Vectors of length 1 under numbers."""

    def add(self, number: int, vector: Vector) -> None:
        """Adds a vector; ``number`` is a new one."""

    def remove(self, number: int) -> None:
        """Takes a vector out."""

    def search(self, vector: Vector, count: int) -> Sequence[tuple[int, float]]:
        """The nearest, nearest first, each with its cosine similarity."""

    def __len__(self) -> int:
        """How many there are."""


def numpy_module() -> Any:
    """The package numpy.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import numpy
    except ImportError as error:
        raise MissingExtraError(
            "a semantic cache needs the package numpy, which is not installed: pip install 'seatrace[semantic]'"
        ) from error
    return numpy


def index_maker(kind: IndexKind, max_entries: int) -> type[NumpyIndex] | type[UsearchIndex]:
    """The class of indexes for up to ``max_entries``.

    Raises:
        ConfigError: ``kind`` is none.
        MissingExtraError: It needs a package that is not installed.
    """
    if kind not in ("auto", "numpy", "usearch"):
        raise ConfigError(f"index: expected 'auto', 'numpy' or 'usearch', got {kind!r}")
    numpy_module()
    if kind == "numpy" or (kind == "auto" and max_entries <= NUMPY_LIMIT):
        return NumpyIndex
    _usearch_module()
    return UsearchIndex


def unit(vector: Any) -> Vector:
    """``vector`` as 32-bit floats of length 1.

    Raises:
        ValueError: It is no vector of finite numbers, or has no direction.
    """
    numpy = numpy_module()
    array = numpy.asarray(vector, numpy.float32)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"expected one vector of numbers a text, got an array of shape {array.shape}")
    length = float(numpy.linalg.norm(array))
    if not 0 < length < float("inf"):  # a NaN is neither
        raise ValueError(f"expected a vector with a direction, got one of length {length}")
    result: Vector = array / numpy.float32(length)
    return result


class NumpyIndex:
    """All vectors as one matrix."""

    def __init__(self, dimension: int) -> None:
        self._numpy = numpy_module()
        self._matrix = self._numpy.empty((_FIRST_ROOM, dimension), self._numpy.float32)
        self._numbers: list[int] = []
        self._places: dict[int, int] = {}

    def add(self, number: int, vector: Vector) -> None:
        """Writes it behind the last one."""
        place = len(self._numbers)
        if place == len(self._matrix):
            larger = self._numpy.empty((2 * place, self._matrix.shape[1]), self._numpy.float32)
            larger[:place] = self._matrix
            self._matrix = larger
        self._matrix[place] = vector
        self._numbers.append(number)
        self._places[number] = place

    def remove(self, number: int) -> None:
        """Puts the last one in its place."""
        place, last = self._places.pop(number), self._numbers.pop()
        if last != number:
            self._matrix[place] = self._matrix[len(self._numbers)]
            self._numbers[place] = last
            self._places[last] = place

    def search(self, vector: Vector, count: int) -> Sequence[tuple[int, float]]:
        """Looks at all."""
        total = len(self._numbers)
        if not total:
            return ()
        similarities = self._matrix[:total] @ vector
        found = []
        for _ in range(min(count, total)):  # for a few, faster than any sorting
            place = int(similarities.argmax())
            found.append((self._numbers[place], float(similarities[place])))
            similarities[place] = -self._numpy.inf
        return found

    def __len__(self) -> int:
        return len(self._numbers)


def _usearch_module() -> Any:
    try:
        from usearch import index
    except ImportError as error:
        raise MissingExtraError(
            f"a semantic cache of more than {NUMPY_LIMIT} entries needs the package usearch, which is not installed: "
            f"pip install 'seatrace[ann]'"
        ) from error
    return index


class UsearchIndex:
    """A graph of near neighbours (HNSW). Adding one takes milliseconds where there are many."""

    def __init__(self, dimension: int) -> None:
        self._index = _usearch_module().Index(ndim=dimension, metric="cos", dtype="f16")

    def add(self, number: int, vector: Vector) -> None:
        """Into the graph."""
        self._index.add(number, vector)

    def remove(self, number: int) -> None:
        """Marks it as gone."""
        self._index.remove(number)

    def search(self, vector: Vector, count: int) -> Sequence[tuple[int, float]]:
        """Follows the graph."""
        if not len(self):
            return ()
        found = self._index.search(vector, count)
        return [(int(key), 1.0 - float(away)) for key, away in zip(found.keys, found.distances, strict=True)]

    def __len__(self) -> int:
        return len(self._index)
