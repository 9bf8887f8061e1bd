"""``python -m seatrace.cli``: the same as ``seatrace``."""

from . import main

main()
