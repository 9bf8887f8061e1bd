"""Older versions warn of themselves when they are imported."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import strands  # noqa: F401
