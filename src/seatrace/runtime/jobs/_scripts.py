"""Calls of Redis scripts: those that come while one is under way go together as the next round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from .background import background
from .errors import QueueUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

_MOST = 100
"""Calls of one round trip."""


class Scripts:
    """The scripts ``texts`` on one Redis. Each call may reach it twice, where a connection breaks before the answer."""

    def __init__(self, redis: Redis, texts: Mapping[str, str]) -> None:
        self._redis = redis
        self._texts = texts
        self._shas = {name: sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in texts.items()}
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def call(self, name: str, key: str, *args: Any) -> Any:
        """Runs a script.

        Raises:
            QueueUnavailable: Redis cannot be reached, or refuses.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((("EVALSHA", self._shas[name], 1, key, *args), future))
        if self._flushing is None or self._flushing.done():
            self._flushing = background(self._flush())
        return await future

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                results = await self._run([command for command, _ in batch])
            except Exception as error:
                results = [error] * len(batch)
            except BaseException:
                for _, future in batch + self._waiting:
                    future.cancel()
                raise
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(unreachable(result))
                else:
                    future.set_result(result)

    async def _run(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        from redis.exceptions import NoScriptError

        results = await self._send(commands)
        missing = [at for at, result in enumerate(results) if isinstance(result, NoScriptError)]
        if missing:
            for text in self._texts.values():
                await self._redis.script_load(text)
            again = await self._send([commands[at] for at in missing])
            for at, result in zip(missing, again, strict=True):
                results[at] = result
        return results

    async def _send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        from redis.exceptions import ResponseError

        if len(commands) == 1:
            try:
                return [await self._redis.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
            except ResponseError as error:
                return [error]
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        results: list[Any] = await pipeline.execute(raise_on_error=False)
        return results


def unreachable(error: Exception) -> QueueUnavailable:
    told = QueueUnavailable(f"the ledger cannot be reached: {type(error).__name__}: {error}")
    told.__cause__ = error
    return told
