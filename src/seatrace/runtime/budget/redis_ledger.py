"""Accounts that several processes share, in Redis or Valkey (``pip install 'seatrace[redis]'``)."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import quote
from weakref import WeakKeyDictionary

from seatrace.core import guard
from seatrace.errors import ConfigError, MissingExtraError

from .ledger import RESERVATION_TTL, Account, Answer, Command, LedgerUnreachable, Reserve, Settle

_LATER_LIMIT = 10_000
_LATER_AT_ONCE = 200
_KEPT_MOST = 400 * 86400.0


class RedisLedger:
    """Keeps accounts where every process sees them. One round trip a question, in the thread that makes the call.

    A reservation of a process that died runs out after ``reservation_ttl``, by the server's clock. While the server
    does not answer, budgets do as their ``fail`` says; what was used meanwhile is kept here, up to 10,000 calls, and
    counted with the first question that is answered again, each call once.

    Args:
        url: As in ``redis://localhost:6379/0``. Connections are made with the first question.
        client: A ``redis.Redis`` of your own instead; observed calls, ``with`` and :meth:`Budget.state` use it.
        async_client: A ``redis.asyncio.Redis`` of your own, for ``async with``; it belongs to one event loop.
        prefix: Of all keys.
        timeout: Seconds to wait for a connection or an answer, for clients made from ``url``.
        retry_after: Seconds without a further try after one that failed, so that not every call waits in vain.
        reservation_ttl: Seconds after which a reservation that nobody settles is given back.
        clock: Seconds, monotonic.

    Raises:
        ConfigError: Neither url nor client is given, or a number is not above 0.
        MissingExtraError: The package ``redis`` is not installed.
    """

    local = False

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        async_client: Any = None,
        prefix: str = "seatrace:budget",
        timeout: float = 0.25,
        retry_after: float = 1.0,
        reservation_ttl: float = RESERVATION_TTL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if url is None and client is None and async_client is None:
            raise ConfigError("RedisLedger(): expected a url such as redis://localhost:6379/0, or a client")
        if not all(0 < each < math.inf for each in (timeout, reservation_ttl)) or not 0 <= retry_after < math.inf:
            raise ConfigError(
                f"RedisLedger(): expected times above 0, got {timeout=}, {retry_after=}, {reservation_ttl=}"
            )
        self._redis = _library()
        self._url = url
        self._prefix = prefix
        self._timeout = timeout
        self._retry_after = retry_after
        self._ttl = reservation_ttl
        self._clock = clock
        self._client = client
        self._given_async = async_client
        self._loops: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._rests_until = -math.inf
        self._later: deque[Settle] = deque()

    def do(self, command: Command) -> Answer:
        """Carries out one command.

        Raises:
            LedgerUnreachable: The server does not answer, or not what is expected.
        """
        try:
            self._check()
            if self._client is None:
                self._client = self._connect(self._redis, self._redis.retry)
            given = self._arguments(command)
            try:
                answer = _answer(self._client.evalsha(_script().sha, *given))
            except self._redis.exceptions.NoScriptError:
                answer = _answer(self._client.eval(_script().text, *given))
        except BaseException as error:
            self._missed(command, error)
            if not isinstance(error, Exception) or isinstance(error, (LedgerUnreachable, ConfigError)):
                raise
            raise LedgerUnreachable(f"{type(error).__name__}: {error}") from error
        batch = self._some_later()
        if batch:
            try:
                pipe = self._client.pipeline(transaction=False)
                for each in batch:
                    pipe.evalsha(_script().sha, *self._arguments(each))
                pipe.execute()
            except BaseException as error:
                self._again_later(batch, error)
        return answer

    async def ado(self, command: Command) -> Answer:
        """The same, without blocking the event loop.

        Raises:
            LedgerUnreachable: See :meth:`do`.
        """
        try:
            self._check()
            client = self._async_client()
            given = self._arguments(command)
            try:
                answer = _answer(await client.evalsha(_script().sha, *given))
            except self._redis.exceptions.NoScriptError:
                answer = _answer(await client.eval(_script().text, *given))
        except BaseException as error:
            self._missed(command, error)
            if not isinstance(error, Exception) or isinstance(error, (LedgerUnreachable, ConfigError)):
                raise
            raise LedgerUnreachable(f"{type(error).__name__}: {error}") from error
        batch = self._some_later()
        if batch:
            try:
                pipe = client.pipeline(transaction=False)
                for each in batch:
                    pipe.evalsha(_script().sha, *self._arguments(each))
                await pipe.execute()
            except BaseException as error:
                self._again_later(batch, error)
        return answer

    def close(self) -> None:
        """Closes the connection that was made from the url. A later question makes a new one."""
        client, self._client = self._client, None if self._url is not None else self._client
        if client is not None and self._url is not None:
            client.close()

    async def aclose(self) -> None:
        """The same for this event loop's connection, and :meth:`close`."""
        client = self._loops.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _connect(self, library: Any, retrying: Any) -> Any:
        if self._url is None:
            raise ConfigError("RedisLedger(): expected a url, or both client= and async_client= where both are used")
        # A connection may have been closed while it was idle: once more, and without the default's seconds of waiting.
        retry = retrying.Retry(self._redis.backoff.NoBackoff(), 1)
        return library.Redis.from_url(
            self._url, socket_timeout=self._timeout, socket_connect_timeout=self._timeout, retry=retry
        )

    def _async_client(self) -> Any:
        if self._given_async is not None:
            return self._given_async
        loop = asyncio.get_running_loop()
        client = self._loops.get(loop)
        if client is None:
            from redis import asyncio as library
            from redis.asyncio import retry

            client = self._loops[loop] = self._connect(library, retry)
        return client

    def _check(self) -> None:
        if self._clock() < self._rests_until:
            raise LedgerUnreachable("the ledger did not answer a moment ago")

    def _missed(self, command: Command, error: BaseException) -> None:
        """What is not known to have happened is kept for later: settling twice is settling once."""
        if isinstance(command, Settle):
            self._keep(command)
        elif isinstance(command, Reserve) and not isinstance(error, Exception):
            self._keep(Settle(command.account, command.id, 0))  # a cancelled task, Ctrl-C: nobody will settle it
        if isinstance(error, Exception) and not isinstance(error, LedgerUnreachable):
            self._rests_until = self._clock() + self._retry_after

    def _keep(self, command: Settle) -> None:
        self._later.append(command)
        if len(self._later) > _LATER_LIMIT:
            self._later.popleft()
            guard.note("reach a budget's ledger", LedgerUnreachable("too many calls wait to be counted; one is lost"))

    def _some_later(self) -> list[Settle]:
        batch: list[Settle] = []
        while self._later and len(batch) < _LATER_AT_ONCE:
            try:
                batch.append(self._later.popleft())
            except IndexError:  # another thread was faster
                break
        return batch

    def _again_later(self, batch: list[Settle], error: BaseException) -> None:
        self._later.extend(batch)
        if not isinstance(error, Exception):
            raise error

    def _arguments(self, command: Command) -> list[Any]:
        account = command.account
        operation, id, amount, limit, force = "read", "", 0, 0, False
        if isinstance(command, Reserve):
            operation, id, amount, limit, force = "reserve", command.id, command.amount, command.limit, command.force
        elif isinstance(command, Settle):
            operation, id, amount, limit = "settle", command.id, command.amount, command.deadline
        ttl = math.ceil(self._ttl * 1000)
        keep = math.ceil(min(account.keep, _KEPT_MOST) * 1000) + 2 * ttl
        keys = self._keys(account, id)
        return [
            len(keys), *keys, operation, id, amount, limit, int(force), ttl, keep, account.piece, account.pieces,
        ]  # fmt: skip

    def _keys(self, account: Account, id: str) -> list[str]:
        named = "|".join(quote(part, safe=" @/:=,-") for part in (account.budget, account.scope, account.slot))
        base = f"{self._prefix}:{{{named}}}"  # in braces: all keys of an account stand on one node of a cluster
        return [base, f"{base}:held", f"{base}:pieces", f"{base}:settled:{id}"]


def _answer(reply: Any) -> Answer:
    used, reserved, fits, first, before, refused, oldest, deadline = (int(each) for each in reply)
    return Answer(
        used, reserved, bool(fits), bool(first), before, bool(refused), None if oldest < 0 else oldest, deadline
    )


class _Script(NamedTuple):
    text: str
    sha: str


@cache
def _script() -> _Script:
    text = resources.files(__package__).joinpath("ledger.lua").read_text(encoding="utf-8")
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _library() -> Any:
    try:
        import redis
    except ImportError as error:
        raise MissingExtraError("RedisLedger: expected the package redis: pip install 'seatrace[redis]'") from error
    return redis
