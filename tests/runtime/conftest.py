"""Fixtures of these tests."""

from frozen import collect_little as collect_little

from .redis_server import redis_server as redis_server
from .redis_server import redis_url as redis_url
