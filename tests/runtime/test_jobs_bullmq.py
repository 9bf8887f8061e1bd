"""Queues in BullMQ."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("bullmq", reason="bullmq is not installed beside this")

from seatrace.runtime.jobs.backend import Backend
from seatrace.runtime.jobs.bullmq import BullmqBackend

from .contract import QueueContract

_numbers = itertools.count()


class TestBullmq(QueueContract):
    system = "bullmq"

    @pytest.fixture(autouse=True)
    def _prefix(self, redis_url: str) -> None:
        self.redis = redis_url
        self.prefix = f"bull-{next(_numbers)}"

    def make_backend(self) -> Backend:
        return BullmqBackend(self.redis, prefix=self.prefix, poll=0.02)
