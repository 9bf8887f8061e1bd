"""The version, in the one place that code reads it from."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("seatrace")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
