"""Data files that ship with seatrace: the bundled price list."""
