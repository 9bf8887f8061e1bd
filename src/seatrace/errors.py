"""The one exception tree of seatrace."""


class SeatraceError(Exception):
    """Base of every error that seatrace raises on purpose."""


class ConfigError(SeatraceError, ValueError):
    """A setting is unknown or malformed. The message names the setting, what was expected and what came."""


class MissingExtraError(SeatraceError, ImportError):
    """A feature needs an optional dependency. The message says which ``pip install`` brings it."""
