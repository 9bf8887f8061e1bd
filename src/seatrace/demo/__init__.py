"""``seatrace demo``: real client libraries, real agents and tools, and a provider that is played on loopback.

The demo needs ``pip install 'seatrace[demo]'``; nothing in the rest of seatrace imports it.
"""
