"""Results of tools, kept for a while."""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from seatrace.emit import semconv as names
from seatrace.errors import ConfigError
from seatrace.own.decorate import name_of_function

from .answers import failed
from .ask import Ask
from .canonical import UnkeyableError, digest
from .codec import bare
from .engine import Engine
from .function import cached
from .scope import CacheScope, Namespace, UnscopedError, checked_scope, prefix_of
from .store import Store, at_least_zero, open_store
from .telemetry import CacheStats, CacheTelemetry

_F = TypeVar("_F", bound=Callable[..., Any])

_ATTRIBUTE = "__seatrace_tool_cache__"
_FAILURES_LIMIT = 1000


def cached_tool(
    ttl: float,
    *,
    read_only: bool,
    scope: CacheScope = "tenant",
    namespace: Namespace = "",
    key: Callable[..., object] | None = None,
    version: str = "1",
    negative_ttl: float = 0.0,
    negative: type[Exception] | tuple[type[Exception], ...] = (),
    name: str | None = None,
    store: Store | str = "memory://",
    stale_while_revalidate: float = 0.0,
    stale_if_error: float = 0.0,
    jitter: float = 0.1,
    single_flight: bool = True,
) -> Callable[[_F], _F]:
    """Decorates a tool, synchronous or not, so that equal arguments get the result of an earlier call.

    Equal are arguments that mean the same (``f(1)``, ``f(a=1)`` and ``f(1.0)``). A result that says that the tool
    failed (``{"error": …}``, ``isError``) is not kept, nor is one that is no data. Goes with ``@seatrace.tool`` in
    either order: outside of it, a hit is no execution of the tool; inside, it is a very short one.

    Args:
        ttl: Seconds that a result is kept; 0 keeps nothing.
        read_only: Say ``True``, which is your word that the tool changes nothing: a call that is answered out of the
            cache does not happen.
        scope: With whom a result is shared: ``"tenant"``, ``"user"`` or ``"session"`` as :func:`seatrace.session` says
            them, or ``"global"``.
        namespace: Keeps results apart that the arguments do not.
        key: Makes what a result is kept under out of the arguments. For methods, whose object is an argument as well,
            and for arguments that are no data.
        version: Change it with the tool's code; with SQLite and Redis, results outlive a deployment.
        negative_ttl: Seconds that a failure is kept; 0 keeps none.
        negative: Exceptions that count as failures. They are remembered in this process alone.
        name: In keys, metrics and spans; the function's name by default.
        store: As of :class:`ResponseCache`; each tool has one of its own.
        stale_while_revalidate: As of :class:`ResponseCache`.
        stale_if_error: As of :class:`ResponseCache`.
        jitter: As of :class:`ResponseCache`.
        single_flight: Whether those who ask for the same thing at once share one call.

    Raises:
        ConfigError: ``read_only`` is not ``True``, or a setting is malformed.
    """
    if read_only is not True:
        raise ConfigError(
            f"read_only: expected True, got {read_only!r}. A tool that changes something must run each time; do not "
            f"cache it"
        )
    at_least_zero("ttl", ttl)
    at_least_zero("negative_ttl", negative_ttl)
    checked_scope(scope)

    def decorate(function: _F) -> _F:
        named: str = name or name_of_function(function)
        opened = open_store(store)
        telemetry = CacheTelemetry(named, "tool", opened)
        engine = Engine(
            opened,
            telemetry,
            stale_while_revalidate=at_least_zero("stale_while_revalidate", stale_while_revalidate),
            stale_if_error=at_least_zero("stale_if_error", stale_if_error),
            jitter=min(1.0, at_least_zero("jitter", jitter)),
            single_flight=single_flight,
        )
        origin = f"{function.__module__}.{getattr(function, '__qualname__', named)} {version}"
        cache = ToolCache(engine, function, origin, scope, namespace, key, ttl, negative_ttl, negative)
        wrapped = cached(function, engine, cache.ask)
        setattr(wrapped, _ATTRIBUTE, cache)
        return wrapped

    return decorate


def tool_cache(tool: Callable[..., Any]) -> ToolCache:
    """The cache of a tool under :func:`cached_tool`: its figures, and how to forget.

    Raises:
        ConfigError: It has none.
    """
    found = getattr(inspect.unwrap(tool, stop=lambda each: hasattr(each, _ATTRIBUTE)), _ATTRIBUTE, None)
    if not isinstance(found, ToolCache):
        raise ConfigError(f"expected a function under @cached_tool, got {tool!r}")
    return found


class ToolCache:
    """The kept results of one tool."""

    def __init__(
        self,
        engine: Engine,
        function: Callable[..., Any],
        origin: str,
        scope: CacheScope,
        namespace: Namespace,
        key: Callable[..., object] | None,
        ttl: float,
        negative_ttl: float,
        negative: type[Exception] | tuple[type[Exception], ...],
    ) -> None:
        self.name = engine.telemetry.name
        self._engine = engine
        self._signature = inspect.signature(function)
        self._origin = origin
        self._scope = scope
        self._namespace = namespace
        self._key = key
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._negative = negative
        self._failures = _Failures(engine.store.clock)

    def stats(self) -> CacheStats:
        """What happened so far."""
        return self._engine.telemetry.stats()

    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forgets the result for these arguments, in the present scope. Whether there was one.

        Raises:
            TypeError: The tool does not take them.
            UnkeyableError: They are no data.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        key = self._key_of(bound.arguments, args, kwargs)
        return sum((self._failures.forget(key), self._engine.forget(key))) > 0

    def clear(self, *, everything: bool = False) -> int:
        """Forgets the results of the present scope, or all of this tool; how many."""
        prefix = f"{self.name}/" if everything else prefix_of(self.name, self._namespace, self._scope)
        return self._failures.clear(prefix) + self._engine.clear(prefix)

    def ask(self, given: Mapping[str, Any], call: functools.partial[Any]) -> Ask | None:
        """For ``function.cached``: the request to the cache; ``None`` where the call goes by it."""
        telemetry = self._engine.telemetry
        try:
            key = self._key_of(given, call.args, call.keywords)
        except Exception as error:  # not data, no scope, or the user's own key function
            reason = "no_scope" if isinstance(error, UnscopedError) else "not_keyable"
            telemetry.bypassed(reason)
            if isinstance(error, UnkeyableError) and "self" in given:
                error = UnkeyableError(f"{error} (of a method, with key=lambda self, ...: ...)")
            telemetry.tell_once(f"{reason} {error}", f"a call goes by the cache: {error or type(error).__name__}")
            return None
        known = self._failures.get(key)
        if known is not None:
            telemetry.looked_up("hit")
            raise known
        remembering = self._negative and self._negative_ttl > 0
        return Ask(
            key=key,
            call=functools.partial(self._remembering, key, call) if remembering else call,
            operation="execute_tool",
            fields={"name": self.name},
            attributes={names.TOOL_NAME: self.name},
            ttl=lambda value, body: self._ttl_of(body),
        )

    def _key_of(self, given: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        subject = given if self._key is None else self._key(*args, **kwargs)
        return prefix_of(self.name, self._namespace, self._scope) + digest([self._origin, subject])

    def _ttl_of(self, body: bytes) -> float | str:
        if not failed(bare(body)):
            return self._ttl
        return self._negative_ttl or "failed"

    def _remembering(self, key: str, call: Callable[[], Any]) -> Any:
        try:
            result = call()
        except self._negative as error:
            self._failures.keep(key, error, self._negative_ttl)
            raise
        return self._remembering_async(key, result) if inspect.isawaitable(result) else result

    async def _remembering_async(self, key: str, result: Any) -> Any:
        try:
            return await result
        except self._negative as error:
            self._failures.keep(key, error, self._negative_ttl)
            raise


class _Failures:
    """Exceptions that calls ended with, for a while."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Exception]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Exception | None:
        """The exception, as a new object where its class allows that."""
        with self._lock:
            found = self._known.get(key)
            if found is not None and self._clock() >= found[0]:
                del self._known[key]
                found = None
        if found is None:
            return None
        try:
            return copy.copy(found[1])
        except Exception:  # a constructor that wants other arguments
            return found[1].with_traceback(None)

    def keep(self, key: str, error: Exception, seconds: float) -> None:
        """Remembers ``error`` without the frames that it went through."""
        try:
            error = copy.copy(error)
        except Exception:
            return
        with self._lock:
            self._known[key] = self._clock() + seconds, error
            self._known.move_to_end(key)
            if len(self._known) > _FAILURES_LIMIT:
                self._known.popitem(last=False)

    def forget(self, key: str) -> bool:
        """Whether there was one."""
        with self._lock:
            return self._known.pop(key, None) is not None

    def clear(self, prefix: str) -> int:
        """How many there were."""
        with self._lock:
            keys = [key for key in self._known if key.startswith(prefix)]
            for key in keys:
                del self._known[key]
        return len(keys)
