"""Fixtures of these tests."""

from .redis_server import redis_url as redis_url
