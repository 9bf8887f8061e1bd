"""Answers of models, kept: the same request is paid for once."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

from . import answers, client
from .ask import Ask
from .codec import bare
from .engine import Engine
from .function import cached
from .key import RequestKey
from .policy import CachePolicy, Determinism, policy_of
from .replay import replay, replay_sync
from .scope import CacheScope, Namespace, UnscopedError, checked_scope, prefix_of
from .store import Store, at_least_zero, open_store
from .telemetry import CacheStats, CacheTelemetry

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_Client = TypeVar("_Client")

Request = Mapping[str, Any]
"""Parameters of a call as the client library takes them: ``model``, ``messages``, ``temperature`` …"""


class ResponseCache:
    """Answers a request out of what an equal request got before.

    Equal means: the same in every parameter that can change the answer (:class:`RequestKey`), for the same tenant. What
    is cached at all says the ``policy``; the default takes only requests that are deterministic by their own word. What
    is handed out is a new object each time, of the type that the call returns. Where the store is down, calls are made
    without it.

    Args:
        store: ``"memory://?max_entries=1000&max_bytes=64MB"``, ``"sqlite:///cache.db"``, ``"redis://localhost"`` (needs
            ``pip install 'seatrace[redis]'``), or a store object.
        name: In keys, metrics and spans; one of few, as ``"answers"``.
        ttl: Seconds that an answer is kept; 0 keeps nothing, ``math.inf`` until there is no room.
        scope: With whom an answer is shared: ``"tenant"``, ``"user"`` or ``"session"`` as :func:`seatrace.session` says
            them, or ``"global"``.
        namespace: Keeps answers apart that the request does not: a version of your prompts, an environment.
        key: What counts as the same request.
        policy: What is kept; ``"always"`` takes all requests.
        stale_while_revalidate: Seconds past its time that an answer is still served at once, while a new one is made in
            the background.
        stale_if_error: Seconds past its time that an answer is still served where the call fails.
        jitter: Share of its time, at most, by which an answer ends early, so that not all end at once.
        single_flight: Whether those who ask for the same thing at once share one call.
        lease: With Redis: seconds that one process may take for a call while the others wait for its answer.

    Raises:
        ConfigError: A setting is malformed: a negative or NaN time, an unknown scope, a url that names no store.
        MissingExtraError: The store needs a package that is not installed.
    """

    def __init__(
        self,
        store: Store | str = "memory://",
        *,
        name: str = "default",
        ttl: float = 3600.0,
        scope: CacheScope = "tenant",
        namespace: Namespace = "",
        key: RequestKey | None = None,
        policy: CachePolicy | Determinism = "deterministic",
        stale_while_revalidate: float = 0.0,
        stale_if_error: float = 0.0,
        jitter: float = 0.1,
        single_flight: bool = True,
        lease: float = 60.0,
    ) -> None:
        self.name = name
        self._ttl: float = at_least_zero("ttl", ttl)
        self._scope = checked_scope(scope)
        self._namespace = namespace
        self._key = key or RequestKey()
        self._policy = policy_of(policy)
        opened = open_store(store)
        self._telemetry = CacheTelemetry(name, "exact", opened)
        self._engine = Engine(
            opened,
            self._telemetry,
            stale_while_revalidate=at_least_zero("stale_while_revalidate", stale_while_revalidate),
            stale_if_error=at_least_zero("stale_if_error", stale_if_error),
            jitter=min(1.0, at_least_zero("jitter", jitter)),
            single_flight=single_flight,
            lease=at_least_zero("lease", lease),
        )

    # --- around a call ----------------------------------------------------------------------------------------------

    async def get_or_call(self, request: Request, call: Callable[[], Awaitable[_T]]) -> _T:
        """The answer to ``request``: the one that is kept, or what ``call()`` returns. Its exceptions pass, and reach
        all who wait for it.

        The call runs in a task of its own, which is cancelled once nobody waits for it any more.
        """
        ask = self._ask(request, call)
        return cast(_T, await (call() if ask is None else self._engine.answer(ask)))

    def get_or_call_sync(self, request: Request, call: Callable[[], _T]) -> _T:
        """:meth:`get_or_call` for synchronous programs; the call runs here."""
        ask = self._ask(request, call)
        return call() if ask is None else cast(_T, self._engine.answer_sync(ask))

    def stream(
        self, request: Request, call: Callable[[], AsyncIterator[_T] | Awaitable[AsyncIterator[_T]]]
    ) -> AsyncIterator[_T]:
        """The chunks of the answer to ``request``: replayed, or those of ``call()``, which are kept if they are read to
        the end. Nothing is read ahead."""
        ask = self._ask(request, call, streams=True)
        return replay(self._engine, ask) if ask is not None else _passed(call)

    def stream_sync(self, request: Request, call: Callable[[], Iterator[_T]]) -> Iterator[_T]:
        """:meth:`stream` for synchronous programs."""
        ask = self._ask(request, call, streams=True)
        return replay_sync(self._engine, ask) if ask is not None else iter(call())

    def wrap(self, function: _F) -> _F:
        """Decorates a function, a coroutine function or a generator function: its arguments, defaults included, are the
        request. Whether that is deterministic is told by arguments named ``temperature`` or ``seed``."""
        origin = f"{function.__module__}.{function.__qualname__}"
        streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        return cached(
            function, self._engine, lambda given, call: self._ask(given, call, origin=origin, streams=streams)
        )

    def instrument_client(self, client_object: _Client) -> _Client:
        """Answers the calls of a client of ``openai`` or ``anthropic`` out of this cache: ``create``, ``parse`` and
        streams, synchronous and asynchronous, with results of the same types. Also for what ``with_options`` makes of
        it. Returns the client.

        Raises:
            ConfigError: It is no such client, or has a cache already.
        """
        client.instrument(client_object, self._engine, self._client_ask, self._policy, self._ttl)
        return client_object

    def release_client(self, client_object: object) -> None:
        """Undoes :meth:`instrument_client`."""
        client.release(client_object)

    # --- by hand ----------------------------------------------------------------------------------------------------

    def get(self, request: Request) -> Any:
        """What is kept for ``request``, ``None`` where nothing is. Counts as a lookup. With SQLite or Redis this waits
        for them."""
        ask = self._ask(request, lambda: None)
        return None if ask is None else self._engine.peek(ask)

    def set(self, request: Request, answer: object) -> bool:
        """Keeps ``answer`` as if a call had made it; whether the policy allowed that."""
        ask = self._ask(request, lambda: answer)
        return ask is not None and self._engine.put(ask, answer)

    def invalidate(self, request: Request) -> bool:
        """Forgets the answer to ``request``, streamed or not; one that is being made is not kept. Whether there was
        one.

        Answers of :meth:`wrap` and of clients have keys of their own: :meth:`clear` forgets those.
        """
        keys = [self._key_of(request, "call", streams) for streams in (False, True)]
        return sum(self._engine.forget(key) for key in keys) > 0

    def clear(self, *, everything: bool = False) -> int:
        """Forgets all answers of the present scope and namespace, or of this cache; how many there were."""
        prefix = f"{self.name}/" if everything else prefix_of(self.name, self._namespace, self._scope)
        return self._engine.clear(prefix)

    def stats(self) -> CacheStats:
        """What happened so far."""
        return self._telemetry.stats()

    def close(self) -> None:
        """Lets go of files and connections; a later use opens them again."""
        self._engine.store.close()

    # --- requests ---------------------------------------------------------------------------------------------------

    def _ask(
        self, request: Request, call: Callable[[], Any], *, origin: object = "call", streams: bool = False
    ) -> Ask | None:
        """``None`` where the call goes by the cache, which then has been counted."""
        reason = self._policy.passes_over(request)
        if reason is not None:
            self._telemetry.bypassed(reason)
            return None
        try:
            key = self._key_of(request, origin, streams)
        except Exception as error:  # no data, no scope, a model's own code, the user's namespace function
            self._cannot(error)
            return None
        model = request.get("model")
        return Ask(
            key=key,
            call=call,
            fields={"request_model": model} if isinstance(model, str) else {},
            ttl=lambda value, body: self._ttl_of(body, streams),
        )

    def _client_ask(self, request: Request, ask: Callable[[str], Ask], origin: object, *, always: bool) -> Ask | None:
        """For ``client.py``, which knows more about its requests than we: ``ask`` makes the rest, given the key."""
        reason = None if always else self._policy.passes_over(request)
        if reason is not None:
            self._telemetry.bypassed(reason)
            return None
        try:
            key = self._key_of(request, origin, False)
        except Exception as error:
            self._cannot(error)
            return None
        return ask(key)

    def _cannot(self, error: Exception) -> None:
        reason = "no_scope" if isinstance(error, UnscopedError) else "not_keyable"
        self._telemetry.bypassed(reason)
        self._telemetry.tell_once(f"{reason} {error}", f"a call goes by the cache: {error or type(error).__name__}")

    def _key_of(self, request: Request, origin: object, streams: bool) -> str:
        prefix = prefix_of(self.name, self._namespace, self._scope)
        return prefix + self._key(request, origin=[origin, streams])

    def _ttl_of(self, body: bytes, streams: bool) -> float | str:
        answer = bare(body)
        call = answers.read_chunks(answer) if streams else answers.read(answer)
        if streams and call is not None and not call.finish_reasons:
            return "incomplete"
        return self._policy.rejects(len(body), call, answer) or self._ttl


async def _passed(call: Callable[[], Any]) -> AsyncIterator[Any]:
    source = call()
    async for chunk in await source if inspect.isawaitable(source) else source:
        yield chunk
