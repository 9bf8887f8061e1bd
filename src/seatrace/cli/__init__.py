"""The ``seatrace`` command. It may print; the library never does."""

from __future__ import annotations

import sys

_NEEDED = {"typer", "rich", "click"}


def main() -> None:
    """Run the command line in ``sys.argv`` and exit.

    Exit codes: 2 for wrong usage and for missing extras, 130 after Ctrl-C, else the command's own.
    """
    try:
        from .app import parse
    except ModuleNotFoundError as missing:
        if missing.name not in _NEEDED:
            raise
        sys.stderr.write("seatrace: the command line needs typer and rich: pip install 'seatrace[cli]'\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    program = parse()
    if program is not None:
        # Started out here, where no command-line framework stands between the program and its exceptions.
        program.start()
