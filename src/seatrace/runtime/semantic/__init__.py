"""Answers found by meaning (:class:`SemanticCache`). Needs ``pip install 'seatrace[semantic]'``."""

from .cache import SemanticCache
from .calibrate import Calibration, Row
from .embedding import Embedder
from .guard import lexical_guard
from .lookup import Lookup
from .telling import Verdicts

__all__ = ["Calibration", "Embedder", "Lookup", "Row", "SemanticCache", "Verdicts", "lexical_guard"]
