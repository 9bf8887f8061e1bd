"""The engine: the record of a call, its life, and how it is watched. Imports nothing else of seatrace."""
