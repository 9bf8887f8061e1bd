"""Fixtures of these tests."""

from frozen import collect_little as collect_little
