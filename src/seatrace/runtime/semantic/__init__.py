"""Answers found by meaning (:class:`SemanticCache`). Needs ``pip install 'seatrace[semantic]'``."""

from .cache import Lookup, SemanticCache
from .calibrate import Calibration, Row
from .embedding import Embedder
from .guard import lexical_guard
from .telling import Verdicts

__all__ = ["Calibration", "Embedder", "Lookup", "Row", "SemanticCache", "Verdicts", "lexical_guard"]
