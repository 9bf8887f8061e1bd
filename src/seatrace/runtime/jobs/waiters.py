"""Who waits for something to happen in a backend: for a job to be settled, for a queue to have news."""

from __future__ import annotations

import asyncio


class Waiters:
    """Futures by name. All of it happens in the engine's loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    async def wait(self, name: str, seconds: float) -> bool:
        """Whether :meth:`tell` was called for ``name`` within ``seconds``."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, set()).add(future)
        try:
            await asyncio.wait({future}, timeout=seconds)
        finally:
            left = self._waiting.get(name, set())
            left.discard(future)
            if not left:
                self._waiting.pop(name, None)
        return future.done()

    def tell(self, name: str) -> None:
        """Wakes those that wait for ``name`` now."""
        for future in self._waiting.get(name, ()):
            if not future.done():
                future.set_result(None)


class Nudges:
    """Lets a waiting ``take`` return with empty hands."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, queue: str) -> int:
        """How often ``queue`` was nudged so far."""
        return self._counts.get(queue, 0)

    def add(self, queue: str) -> None:
        self._counts[queue] = self.count(queue) + 1
