"""Microseconds of CPU for a hit in the caches, beside their obvious rivals, in one interleaved run.

    python -m benchmarks.cache [--check] [--rounds 30]

Each round runs all of them in turn; the figure is the best of all rounds, which is what the code costs on a machine
that does nothing else. Like is compared with like: a store with ``cachetools.TTLCache`` under a lock, as threads need
it; a whole hit (key of a request, store, a new object) with the same made of cachetools, ``json``, ``hashlib`` and
``copy.deepcopy``; a hit by meaning, embedding left out, with one product of numpy's. ``--check`` exits 1 above the
reach.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable
from math import inf
from time import process_time_ns
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads that wait for each other count as CPU time

import numpy as np
from cachetools import TTLCache

from seatrace.runtime import MemoryStore, ResponseCache, SemanticCache
from seatrace.runtime.cache import Entry

from ._table import table

ENTRIES = 1000
DIMENSION = 384
KNOWN = 10_000

STORE_REACH = 1.0
"""A store's get, against TTLCache and a lock: lock, lookup, order and clock are the same work."""
HIT_REACH = 3.0
"""A whole hit, against the same by hand. Ours looks at each value for the key (numbers, text, ids), counts, and is told
for whom it works; a key of ``json.dumps`` alone takes ``1`` and ``1.0`` for two requests."""
LOOKUP_REACH = 2.0
"""A hit by meaning, against the bare product with 10,000 vectors: key, choice of the best and guard come on top."""

Work = Callable[[int], None]
"""Does something that many times."""


def request(at: int) -> dict[str, Any]:
    """A request of 2 kB, as the client libraries take it."""
    system = "You answer questions about tides, harbours and the weather at sea. " * 25
    messages = [{"role": "system", "content": system}, {"role": "user", "content": f"When is high water on day {at}?"}]
    return {"model": "gpt-4o-mini", "messages": messages, "temperature": 0, "max_tokens": 200}


def answer(at: int) -> dict[str, Any]:
    """An answer of 2 kB."""
    message = {"role": "assistant", "content": f"High water on day {at} is at noon. " * 45}
    usage = {"prompt_tokens": 480, "completion_tokens": 200, "total_tokens": 680}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return {"id": f"chatcmpl-{at}", "model": "gpt-4o-mini", "choices": choices, "usage": usage}


def stores() -> tuple[Work, Work]:
    """A get of our store, and of cachetools under a lock."""
    ours, theirs, lock = MemoryStore(max_entries=ENTRIES), TTLCache(maxsize=ENTRIES, ttl=3600), threading.Lock()
    keys = [f"{at:064x}" for at in range(ENTRIES)]
    now = ours.clock()
    for at, key in enumerate(keys):
        entry = Entry(json.dumps(answer(at)).encode(), now, now + 3600, now + 3600)
        ours.put(key, entry)
        theirs[key] = entry

    def get_ours(count: int) -> None:
        get = ours.get
        for at in range(count):
            get(keys[at % ENTRIES])

    def get_theirs(count: int) -> None:
        for at in range(count):
            with lock:
                theirs.get(keys[at % ENTRIES])

    return get_ours, get_theirs


def hits() -> tuple[Work, Work]:
    """A hit of the response cache, and of one made by hand."""
    requests = [request(at) for at in range(ENTRIES)]
    ours, theirs, lock = ResponseCache(ttl=3600), TTLCache(maxsize=ENTRIES, ttl=3600), threading.Lock()
    for at, each in enumerate(requests):
        ours.set(each, answer(at))
        theirs[_key(each)] = answer(at)

    def hit_ours(count: int) -> None:
        for at in range(count):
            ours.get_or_call_sync(requests[at % ENTRIES], _never)

    def hit_theirs(count: int) -> None:
        for at in range(count):
            key = _key(requests[at % ENTRIES])
            with lock:
                found = theirs.get(key)
            copy.deepcopy(found)

    return hit_ours, hit_theirs


def _key(each: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(each, sort_keys=True).encode()).hexdigest()


def _never() -> Any:
    raise AssertionError("a call was made")


def lookups() -> tuple[Work, Work]:
    """A hit of the semantic cache among many questions, and one product with all their vectors."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(KNOWN, DIMENSION)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    vectors = {f"question {_word(at)}": vector for at, vector in enumerate(matrix)}
    near = {f"the {text}": vector for text, vector in vectors.items()}
    known = {**vectors, **near}
    cache = SemanticCache(lambda texts: [known[text] for text in texts], embedding_cache=0, max_entries=KNOWN)
    for text in vectors:
        cache.store_sync(_asking(text), {"answer": text})
    asked = [_asking(text) for text in list(near)[:ENTRIES]]
    queries = list(near.values())[:ENTRIES]

    def look_ours(count: int) -> None:
        for at in range(count):
            cache.get_or_call_sync(asked[at % ENTRIES], _never)

    def look_theirs(count: int) -> None:
        for at in range(count):
            int((matrix @ queries[at % ENTRIES]).argmax())

    return look_ours, look_theirs


def _asking(text: str) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}


def _word(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def best(works: tuple[Work, Work], count: int, rounds: int) -> tuple[float, float]:
    """Microseconds of this process's CPU time, each in turn."""
    found = [inf, inf]
    for work in works:
        work(count)  # warm up
    for _ in range(rounds):
        for at, work in enumerate(works):
            started = process_time_ns()
            work(count)
            found[at] = min(found[at], (process_time_ns() - started) / 1e3 / count)
    return found[0], found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--rounds", type=int, default=30)
    chosen = parser.parse_args()

    measured = (
        ("a store's get, cachetools with a lock", stores(), 5000, STORE_REACH),
        ("a hit of 2 kB, cachetools by hand", hits(), 500, HIT_REACH),
        (f"a hit by meaning among {KNOWN:,}, numpy alone", lookups(), 20, LOOKUP_REACH),
    )
    rows, missed = [], False
    for name, works, count, reach in measured:
        ours, theirs = best(works, count, chosen.rounds)
        missed |= ours > reach * theirs
        rows.append([name, f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}", f"{reach:.2f}"])
    print(table(["µs of CPU", "seatrace", "rival", "ratio", "reach"], rows))
    return 1 if chosen.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
