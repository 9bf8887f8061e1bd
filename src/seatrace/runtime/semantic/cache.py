"""Answers found by meaning: the same question in other words is paid for once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Literal, TypeVar, cast

from seatrace.emit import semconv as names
from seatrace.errors import ConfigError
from seatrace.runtime.cache import answers
from seatrace.runtime.cache.ask import Ask, Near
from seatrace.runtime.cache.canonical import digest
from seatrace.runtime.cache.codec import bare, decode
from seatrace.runtime.cache.engine import Engine
from seatrace.runtime.cache.key import RequestKey
from seatrace.runtime.cache.memory import MemoryStore
from seatrace.runtime.cache.policy import CachePolicy, Determinism, policy_of
from seatrace.runtime.cache.scope import CacheScope, Namespace, UnscopedError, checked_scope, prefix_of
from seatrace.runtime.cache.steps import Flow, Io, Run, run_async, run_sync
from seatrace.runtime.cache.store import Entry, at_least_zero
from seatrace.runtime.cache.telemetry import CacheStats

from . import snapshot
from .calibrate import THRESHOLDS, Calibration, Pair, calibrate, pairs_of
from .embedding import Embedder, Embedding
from .guard import Guard, lexical_guard
from .index import IndexKind
from .lookup import Lookup, Search
from .question import Question, answer_text, question_of
from .shelf import Row, Shelf
from .telling import SemanticTelemetry, Verdicts

_T = TypeVar("_T")

Request = Mapping[str, Any]

Verify = Callable[[str, str, Any], "bool | Awaitable[bool]"]
"""``verify(known, asked, answer)``: whether the answer to ``known`` is right for ``asked``. May be a coroutine
function."""

Agree = Callable[[Any, Any], bool]
"""``agree(kept, new)``: whether two answers say the same."""

_CANDIDATES = 5
_SERVED_LIMIT = 10_000
_AGREEMENT = 0.85
"""Similarity from which on two answers say the same, where nobody says how to tell."""
_QUICK = 5_000
"""Entries up to which an event loop may look at all of them itself, within a millisecond or two."""


class SemanticCache:
    """Answers a question out of what the same question got in other words.

    Only the text of the last user message may differ. All else must be equal: model, instructions, tools, parameters,
    earlier turns, tenant. The nearest known question is served if its similarity reaches ``threshold`` and the guard
    finds nothing that speaks against it. Where the embedder fails, the call is made.

    Args:
        embed: Texts to vectors; a function or a coroutine function. It is called once a lookup at most.
        embedder: Names the embedding model: what another one made is not served (:meth:`load`).
        name: In metrics and spans.
        threshold: Cosine similarity from which on an answer is served. It depends on the embedding model: 0.9 is
            measured with all-MiniLM-L6-v2; :meth:`calibrate` and ``mode="shadow"`` tell for others.
        band: So far below the threshold ``verify`` is asked.
        guard: Compares the two texts; ``None`` trusts the vectors alone, which do not see a "not".
        verify: A second opinion for what lies in the band, a small model for instance. Without it nothing there is
            served; where it fails neither.
        scope: With whom an answer is shared: ``"tenant"``, ``"user"`` or ``"session"``, or ``"global"``.
        namespace: Keeps answers apart that the request does not.
        policy: What is cached. Unlike :class:`ResponseCache` all requests by default: whoever takes this cache accepts
            an answer given once.
        ttl: Seconds that an answer is kept.
        max_entries: How many; 0 keeps none.
        max_bytes: How many bytes of answers.
        index: ``"numpy"`` looks at all vectors, ``"usearch"`` (needs ``pip install 'seatrace[ann]'``) at some;
            ``"auto"`` takes the second one where ``max_entries`` is above 50,000.
        embedding_cache: Vectors that are remembered.
        mode: ``"shadow"`` makes every call and serves nothing similar, but judges what it would have served:
            :meth:`verdicts`.
        agree: Tells for shadow mode whether two answers say the same. By default their texts are compared as questions
            are, with a similarity of 0.85.
        multi_turn: Whether conversations are answered as well. What "and the other one?" asks lies in the turns before;
            those must be equal.

    Raises:
        ConfigError: A setting is malformed.
        MissingExtraError: numpy is missing (``pip install 'seatrace[semantic]'``), or usearch.
    """

    def __init__(
        self,
        embed: Embedder,
        *,
        embedder: str = "",
        name: str = "semantic",
        threshold: float = 0.9,
        band: float = 0.05,
        guard: Guard | None = lexical_guard,
        verify: Verify | None = None,
        scope: CacheScope = "tenant",
        namespace: Namespace = "",
        policy: CachePolicy | Determinism = "always",
        ttl: float = 3600.0,
        max_entries: int = 10_000,
        max_bytes: int = 64_000_000,
        index: IndexKind = "auto",
        embedding_cache: int = 1000,
        mode: Literal["serve", "shadow"] = "serve",
        agree: Agree | None = None,
        multi_turn: bool = False,
    ) -> None:
        if mode not in ("serve", "shadow"):
            raise ConfigError(f"mode: expected 'serve' or 'shadow', got {mode!r}")
        if at_least_zero("threshold", threshold) > 1:
            raise ConfigError(f"threshold: expected a cosine similarity from 0 to 1, got {threshold!r}")
        self.name = name
        self.embedder = embedder
        self._threshold = threshold
        below = max(0.0, threshold - at_least_zero("band", band))
        self._floor = threshold if verify is None else below
        self._guard = guard
        self._verify = verify
        self._scope = checked_scope(scope)
        self._namespace = namespace
        self._policy = policy_of(policy)
        self._ttl: float = at_least_zero("ttl", ttl)
        self._shadow = mode == "shadow"
        self._agree = agree
        self._multi_turn = multi_turn
        self._key = RequestKey()
        self._embedding = Embedding(embed, at_least_zero("embedding_cache", embedding_cache, whole=True))
        store = MemoryStore(max_entries=max_entries, max_bytes=max_bytes)
        self._shelf = Shelf(index, max_entries)
        self._telemetry = SemanticTelemetry(name, store)
        self._engine = Engine(store, self._telemetry)
        self._engine.forked = (self._shelf.after_fork, self._embedding.after_fork)
        self._served: OrderedDict[str, str] = OrderedDict()  # whose answer a question got
        self._wrong: OrderedDict[tuple[str, str], None] = OrderedDict()  # pairs that were reported

    # --- around a call ----------------------------------------------------------------------------------------------

    async def get_or_call(self, request: Request, call: Callable[[], Awaitable[_T]]) -> _T:
        """The answer to an equal or a similar request, or what ``call()`` returns. Its exceptions pass."""
        ask = self._ask(request, call)
        return cast(_T, await (call() if ask is None else self._engine.answer(ask)))

    def get_or_call_sync(self, request: Request, call: Callable[[], _T]) -> _T:
        """:meth:`get_or_call` for synchronous programs; embedder and verifier must be synchronous, too."""
        ask = self._ask(request, call)
        return call() if ask is None else cast(_T, self._engine.answer_sync(ask))

    async def lookup(self, request: Request) -> Lookup:
        """What would be served, without a call; counts nothing."""
        return await run_async(self._look(request))

    def lookup_sync(self, request: Request) -> Lookup:
        """:meth:`lookup` for synchronous programs."""
        return run_sync(self._look(request))

    async def store(self, request: Request, answer: object) -> bool:
        """Keeps ``answer`` as if a call had made it; whether the policy allowed that."""
        return await run_async(self._store(request, answer))

    def store_sync(self, request: Request, answer: object) -> bool:
        """:meth:`store` for synchronous programs."""
        return run_sync(self._store(request, answer))

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def report_wrong(self, request: Request) -> bool:
        """The answer that ``request`` was served was wrong: counts it, and never serves it to this question again.
        Whether one is known to have been served."""
        search = self._search(request)
        known = None if search is None else self._served.pop(search.key, None)
        if search is None or known is None:
            return False
        self._wrong[search.key, known] = None
        if len(self._wrong) > _SERVED_LIMIT:
            self._wrong.popitem(last=False)
        self._telemetry.judged("wrong", "report")
        return True

    def verdicts(self) -> Verdicts:
        """Hits that were judged, and what was held back."""
        return self._telemetry.verdicts()

    async def calibrate(
        self, pairs: Iterable[Pair] | Literal["fow"], thresholds: Sequence[float] = THRESHOLDS
    ) -> Calibration:
        """What thresholds would do with this embedder and guard on ``pairs`` of your own: ``(known, asked, same)``. Or
        on the public ones of ``pip install fow-cache``, given as ``"fow"``: 1,200 texts to embed."""
        return await run_async(self._calibrate(pairs_of(pairs), thresholds))

    def calibrate_sync(
        self, pairs: Iterable[Pair] | Literal["fow"], thresholds: Sequence[float] = THRESHOLDS
    ) -> Calibration:
        """:meth:`calibrate` for synchronous programs."""
        return run_sync(self._calibrate(pairs_of(pairs), thresholds))

    # --- by hand ----------------------------------------------------------------------------------------------------

    def clear(self, *, everything: bool = False) -> int:
        """Forgets all answers of the present scope and namespace, or of this cache; how many there were."""
        prefix = f"{self.name}/" if everything else prefix_of(self.name, self._namespace, self._scope)
        self._shelf.clear(prefix)
        return self._engine.clear(prefix)

    def save(self, path: str) -> int:
        """Writes questions, vectors and answers to a file; how many. They are not encrypted."""
        return snapshot.save(path, self.embedder, self._shelf, self._engine.store)

    def load(self, path: str) -> int:
        """Reads what :meth:`save` wrote: how many are still good. None where another ``embedder`` made the vectors."""
        return snapshot.load(path, self.embedder, self._shelf, self._engine.store)

    def stats(self) -> CacheStats:
        """What happened so far."""
        return self._telemetry.stats()

    # --- requests ---------------------------------------------------------------------------------------------------

    def _ask(self, request: Request, call: Callable[[], Any]) -> Ask | None:
        search = self._search(request, count=True)
        if search is None:
            return None
        model = request.get("model")
        return Ask(
            key=search.key,
            call=call,
            fields={"request_model": model} if isinstance(model, str) else {},
            ttl=lambda value, body: self._ttl_of(body),
            near=partial(self._serve_near, search),
            made=partial(self._made, search),
        )

    def _search(self, request: Request, *, count: bool = False) -> Search | None:
        reason = self._policy.passes_over(request)
        question: Question | None = question_of(request)
        if reason is None and question is None:
            reason = "no_question"
        if reason is None and question is not None and question.turns and not self._multi_turn:
            reason = "multi_turn"
        if reason is None and question is not None:
            try:
                prefix = prefix_of(self.name, self._namespace, self._scope)
                context = prefix + self._key(question.context)
                return Search(f"{context}/{digest(question.text)}", context, question.text)
            except Exception as error:
                reason = "no_scope" if isinstance(error, UnscopedError) else "not_keyable"
        if count and reason is not None:
            self._telemetry.bypassed(reason)
        return None

    def _ttl_of(self, body: bytes) -> float | str:
        answer = bare(body)
        return self._policy.rejects(len(body), answers.read(answer), answer) or self._ttl

    # --- looking ----------------------------------------------------------------------------------------------------

    def _serve_near(self, search: Search) -> Flow[Near | None]:
        yield from self._find(search)
        near = search.near
        if near.similarity is not None:
            self._telemetry.compared(near.similarity, served=near.result == "hit" and not self._shadow)
        if search.entry is None or self._shadow:
            return None
        return Near(search.entry, {names.CACHE_HIT_SIMILARITY: near.similarity})

    def _find(self, search: Search) -> Flow[None]:
        """The best of the nearest questions, into ``search``."""
        try:
            search.vector = vector = yield from self._embedding.vector(search.text)
            slow = self._shelf.size(search.context) > _QUICK
            found, dropped = yield Io(lambda: self._shelf.search(search.context, vector, _CANDIDATES), slow)
        except ConfigError:
            raise
        except Exception as error:
            self._telemetry.passed_over("embedder_failed")
            self._telemetry.tell_once(f"embed {type(error).__name__}", "the embedder failed, the call is made", error)
            return
        self._dropped(dropped)
        for row, similarity in found:
            entry = self._engine.store.get(row.key) if similarity >= self._floor else None
            if entry is None and similarity >= self._floor:  # its time is over, or there was no room
                self._shelf.remove(row.key)
                continue
            if search.near.similarity is None:
                search.near = Lookup("near", similarity, row.text)
            if entry is None:
                return
            reason = yield from self._objection(search, row, entry, similarity)
            if reason is None:
                search.near = Lookup("hit", similarity, row.text, decode(entry.body))
                search.entry = entry
                self._remember_served(search.key, row.key)
                return
            self._telemetry.rejected(reason)
            if search.near.known == row.text:
                search.near = Lookup("near", similarity, row.text, rejection=reason)

    def _objection(self, search: Search, row: Row, entry: Entry, similarity: float) -> Flow[str | None]:
        if (search.key, row.key) in self._wrong:
            return "reported"
        reason = None if self._guard is None else self._guard(row.text, search.text)
        if reason is not None or similarity >= self._threshold or self._verify is None:
            return reason
        verify, started = self._verify, perf_counter()
        try:
            good = yield Run(lambda: verify(row.text, search.text, decode(entry.body)), "verify")
        except ConfigError:
            raise
        except Exception as error:
            self._telemetry.tell_once(f"verify {type(error).__name__}", "the verifier failed, the call is made", error)
            return "verifier_failed"
        finally:
            self._telemetry.verified(perf_counter() - started)
        return None if good is True else "verifier"

    def _remember_served(self, asked: str, known: str) -> None:
        self._served[asked] = known
        if len(self._served) > _SERVED_LIMIT:
            self._served.popitem(last=False)

    def _dropped(self, count: int) -> None:
        if count:
            self._telemetry.evicted("invalidated", count)
            self._telemetry.tell_once("dimension", "the embedder's vectors have another dimension, all were dropped")

    # --- keeping ----------------------------------------------------------------------------------------------------

    def _made(self, search: Search, value: Any, entry: Entry | None) -> Flow[None]:
        """After a call: the question becomes a known one, and what would have been served is judged."""
        if self._shadow and search.entry is not None:
            try:
                verdict = yield from self._same(decode(search.entry.body), value)
            except Exception as error:  # the user's `agree`, or the embedder
                self._telemetry.tell_once(f"agree {type(error).__name__}", "a hit could not be judged", error)
                verdict = None
            if verdict is not None:
                self._telemetry.judged("right" if verdict else "wrong", "shadow")
        if entry is not None and search.vector is not None:
            self._dropped(self._shelf.add(Row(search.context, search.key, search.text, search.vector)))

    def _same(self, kept: Any, new: Any) -> Flow[bool | None]:
        if self._agree is not None:
            return bool(self._agree(kept, new))
        one, two = (answer_text(_plain(each)) for each in (kept, new))
        if one is None or two is None:
            return None
        if one.split() == two.split():
            return True
        if self._guard is not None and self._guard(one, two) is not None:
            return False
        vectors = yield from self._embedding.vectors([one, two])
        return float(vectors[0] @ vectors[1]) >= _AGREEMENT

    def _look(self, request: Request) -> Flow[Lookup]:
        search = self._search(request)
        if search is None:
            return Lookup("miss")
        equal = self._engine.store.get(search.key)
        if equal is not None:
            return Lookup("hit", 1.0, search.text, decode(equal.body))
        yield from self._find(search)
        return search.near

    def _store(self, request: Request, answer: object) -> Flow[bool]:
        ask, search = self._ask(request, lambda: answer), self._search(request)
        if ask is None or search is None or not self._engine.put(ask, answer):
            return False
        search.vector = yield from self._embedding.vector(search.text)
        self._dropped(self._shelf.add(Row(search.context, search.key, search.text, search.vector)))
        return True

    def _calibrate(self, pairs: list[Pair], thresholds: Sequence[float]) -> Flow[Calibration]:
        texts = [known for known, _, _ in pairs] + [asked for _, asked, _ in pairs]
        vectors = yield from self._embedding.vectors(texts)
        return calibrate(pairs, vectors, self._guard, thresholds)


def _plain(answer: Any) -> Any:
    dump = getattr(answer, "model_dump", None)
    return dump(mode="json") if callable(dump) else answer
