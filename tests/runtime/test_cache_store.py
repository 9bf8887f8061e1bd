"""Stores: what they keep and let go of, shared files and servers, outages."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contract.fresh import run
from seatrace.errors import ConfigError, MissingExtraError
from seatrace.runtime import MemoryStore, RedisStore, ResponseCache, SqliteStore
from seatrace.runtime.cache import Entry, Store

from .clocks import Clock
from .redis_server import RedisServer

REQUEST = {"model": "m", "temperature": 0}


def entry(body: bytes = b"x", *, now: float = 1000.0, ttl: float = 10.0) -> Entry:
    """An entry of some seconds."""
    return Entry(body, now, now + ttl, now + ttl, cost=0.5, tokens=3, link={"traceparent": "00-a-b-01"})


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Makes a store of a kind on a clock."""

    def made(**options: Any) -> Any:
        if request.param == "memory":
            return MemoryStore(**options)
        return SqliteStore(tmp_path / "cache.db", **options)

    return made


def watched(store: Any) -> dict[str, int]:
    """What leaves ``store``, by reason."""
    gone: dict[str, int] = {}
    store.evicted = lambda reason, count: gone.update({reason: gone.get(reason, 0) + count})
    return gone


def test_an_entry_comes_back_as_it_was(make: Callable[..., Any]) -> None:
    store = make(clock=Clock())
    assert store.get("a") is None
    assert store.put("a", entry())
    assert store.get("a") == entry()
    assert store.size() == (1, entry().size)


def test_an_entry_dies_in_its_time(make: Callable[..., Any]) -> None:
    clock = Clock()
    store = make(clock=clock)
    gone = watched(store)
    store.put("a", entry())
    clock.now += 10
    assert store.get("a") is None
    assert store.size() == (0, 0)
    assert gone == {"ttl": 1}


def test_an_entry_from_the_future_is_not_served(make: Callable[..., Any]) -> None:
    clock = Clock()
    store = make(clock=clock)
    store.put("a", entry(ttl=1e6))
    clock.now -= 30  # clocks of machines differ by that much
    assert store.get("a") is not None
    clock.now -= 3600  # the clock was set back: nobody knows how old it is
    assert store.get("a") is None


def test_a_clock_that_jumps_ahead_ends_what_is_there(make: Callable[..., Any]) -> None:
    clock = Clock()
    store = make(clock=clock)
    store.put("a", entry())
    clock.now += 1e9
    assert store.get("a") is None
    assert store.put("a", entry(now=clock.now))
    assert store.get("a") is not None


def test_the_entries_unused_for_longest_go_first(make: Callable[..., Any]) -> None:
    clock = Clock()
    store = make(clock=clock, max_entries=3)
    gone = watched(store)
    for key in "abc":
        store.put(key, entry(ttl=1e6))
        clock.now += 100
    assert store.get("a") is not None
    clock.now += 100
    store.put("d", entry(ttl=1e6))
    assert [key for key in "abcd" if store.get(key)] == ["a", "c", "d"]
    assert gone == {"lru": 1}


def test_all_entries_together_stay_within_their_bytes(make: Callable[..., Any]) -> None:
    clock = Clock()
    store = make(clock=clock, max_bytes=10_000)
    gone = watched(store)
    for at in range(50):
        clock.now += 1
        assert store.put(str(at), entry(b"x" * 1000, ttl=1e6))
        assert store.size()[1] <= 10_000
    assert store.get("49") is not None
    assert gone["size"] + store.size()[0] == 50
    assert not store.put("huge", entry(b"x" * 10_000))
    assert store.get("49") is not None  # nothing has to go for what cannot be kept


def test_a_store_of_no_size_keeps_nothing(make: Callable[..., Any]) -> None:
    for options in ({"max_entries": 0}, {"max_bytes": 0}):
        store = make(clock=Clock(), **options)
        assert not store.put("a", entry())
        assert store.get("a") is None


def test_a_later_entry_takes_the_place_of_an_earlier_one(make: Callable[..., Any]) -> None:
    store = make(clock=Clock())
    store.put("a", entry(b"x" * 100))
    store.put("a", entry(b"y"))
    assert store.get("a") == entry(b"y")
    assert store.size() == (1, entry(b"y").size)


def test_entries_are_forgotten_one_by_one_and_by_prefix(make: Callable[..., Any]) -> None:
    store = make(clock=Clock())
    gone = watched(store)
    for key in ("a/1", "a/2", "A/3", "b%/4"):
        store.put(key, entry())
    assert store.delete("a/1")
    assert not store.delete("a/1")
    assert store.clear("b%/") == 1
    assert store.clear("_/") == 0
    assert store.clear("a/") == 1
    assert store.clear() == 1
    assert store.size() == (0, 0)
    assert gone == {"invalidated": 4}


# --- SQLite -------------------------------------------------------------------------------------------------------


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "cache.db").put("a", entry())
    assert stat.S_IMODE((tmp_path / "cache.db").stat().st_mode) == 0o600


def test_answers_outlive_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    first = ResponseCache(url)
    assert first.get_or_call_sync(REQUEST, lambda: {"a": (1, b"2")}) == {"a": (1, b"2")}
    first.close()
    assert ResponseCache(url).get(REQUEST) == {"a": (1, b"2")}


def test_a_closed_store_opens_again(tmp_path: Path) -> None:
    kept = ResponseCache(f"sqlite:///{tmp_path}/cache.db")
    kept.set(REQUEST, 1)
    kept.close()
    assert kept.get(REQUEST) == 1


def _fill(path: str, worker: int, go: Any) -> None:
    store = SqliteStore(path, max_entries=100, timeout=60)
    go.wait()
    for at in range(50):
        assert store.put(
            f"{worker}/{at}", Entry(str(at).encode(), store.clock(), store.clock() + 60, store.clock() + 60)
        )
        store.get(f"{worker}/{at // 2}")


def test_many_processes_share_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.db")
    spawn = multiprocessing.get_context("spawn")
    go = spawn.Event()
    workers = [spawn.Process(target=_fill, args=(path, at, go)) for at in range(4)]
    for worker in workers:
        worker.start()
    go.set()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    with closing(sqlite3.connect(path)) as database:
        entries, size = database.execute("SELECT count(*), sum(size) FROM entry").fetchone()
        assert database.execute("SELECT entries, bytes FROM total").fetchone() == (entries, size)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
    assert 80 <= entries <= 100


def test_a_child_after_a_fork_has_a_connection_of_its_own(tmp_path: Path) -> None:
    run(
        """
        import os
        from seatrace.runtime import ResponseCache
        for url in ("memory://", f"sqlite:///{os.environ['WHERE']}"):
            cache = ResponseCache(url)
            request = {"temperature": 0}
            cache.set(request, 1)
            held = cache._engine.store._lock
            held.acquire()  # as if another thread of the parent worked while it forks
            child = os.fork()
            if child == 0:
                assert cache.get(request) == 1
                assert cache.get_or_call_sync({"seed": 1}, lambda: 2) == 2
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            held.release()
            assert cache.get(request) == 1
            cache.close()
        """,
        WHERE=str(tmp_path / "cache.db"),
    )


def test_a_child_does_not_wait_for_a_call_of_its_parents(tmp_path: Path) -> None:
    run(
        """
        import os, threading
        from seatrace.runtime import ResponseCache
        cache, request = ResponseCache(), {"temperature": 0}
        began, go = threading.Event(), threading.Event()
        def slow():
            began.set()
            go.wait()
            return "parent"
        thread = threading.Thread(target=cache.get_or_call_sync, args=(request, slow))
        thread.start()
        began.wait()
        child = os.fork()
        if child == 0:
            assert cache.get_or_call_sync(request, lambda: "child") == "child"
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        go.set()
        thread.join()
        assert cache.get(request) == "parent"
        """
    )


# --- outages ------------------------------------------------------------------------------------------------------


class Broken:
    """A store that fails where it is told to."""

    blocking = False

    def __init__(self, *failing: str) -> None:
        self._inner = MemoryStore()
        self.failing = set(failing)
        self.clock = self._inner.clock
        self.evicted = self._inner.evicted
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += name in ("get", "put")
        if name in self.failing:
            raise ConnectionError(f"no {name}")
        return getattr(self._inner, name)

    def size(self) -> None:
        """Not known."""


def broken(*failing: str) -> tuple[ResponseCache, Any]:
    """A cache on such a store."""
    store: Any = Broken(*failing)
    return ResponseCache(store), store


async def test_where_the_store_is_down_calls_are_made_and_that_is_counted() -> None:
    kept, _ = broken("get", "put")
    assert kept.get_or_call_sync(REQUEST, lambda: 1) == 1

    async def call() -> int:
        return 2

    assert await kept.get_or_call(REQUEST, call) == 2
    assert kept.stats().errors == 2
    assert kept.stats().store_failures > 0


def test_a_store_that_fails_is_left_alone_for_a_while() -> None:
    kept, store = broken("get", "put")
    for _ in range(100):
        kept.get_or_call_sync(REQUEST, lambda: 1)
    assert store.asked == 1
    kept._engine._reach.resting_until = 0
    store.failing.clear()
    kept.get_or_call_sync(REQUEST, lambda: 2)
    assert kept.get(REQUEST) == 2


def test_an_answer_that_cannot_be_written_is_handed_out() -> None:
    kept, _ = broken("put")
    assert kept.get_or_call_sync(REQUEST, lambda: 1) == 1
    assert (kept.stats().misses, kept.stats().store_failures) == (1, 1)


async def test_where_the_store_is_down_many_callers_still_share_one_call() -> None:
    kept, _ = broken("get", "put")
    calls = 0

    async def call() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return calls

    assert await asyncio.gather(*(kept.get_or_call(REQUEST, call) for _ in range(10))) == [1] * 10


@pytest.mark.parametrize("operation", ["delete", "clear"])
def test_forgetting_does_not_raise_where_the_store_is_down(operation: str) -> None:
    kept, _ = broken(operation)
    kept.set(REQUEST, 1)
    assert not kept.invalidate(REQUEST) or operation == "clear"
    assert kept.clear() == 0


def test_a_damaged_entry_is_no_answer(tmp_path: Path) -> None:
    for data in (b"", b"rubbish", b'{"created": 1}\n1', b"{}\n"):
        kept = ResponseCache(f"sqlite:///{tmp_path}/cache.db")
        kept.clear()
        kept.set(REQUEST, 1)
        with closing(sqlite3.connect(tmp_path / "cache.db", isolation_level=None)) as database:
            database.execute("UPDATE entry SET data = ?", (data,))
        assert kept.get_or_call_sync(REQUEST, lambda: 2) == 2
        kept.close()


def test_an_entry_of_a_class_that_is_not_loaded_imports_nothing() -> None:
    kept = ResponseCache()
    kept.set(REQUEST, 1)
    store: Any = kept._engine.store
    (key,) = store._entries
    now = store.clock()
    body = json.dumps({"~model": "this:Zen", "data": {}}).encode()
    store.put(key, Entry(body, now, now + 60, now + 60))
    assert "this" not in sys.modules
    assert kept.get_or_call_sync(REQUEST, lambda: 2) == 2
    assert "this" not in sys.modules
    assert kept.stats().reasons == {"unreadable": 2}


def test_a_file_that_is_no_database_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(b"no database" * 1000)
    kept = ResponseCache(f"sqlite:///{tmp_path}/cache.db")
    assert kept.get_or_call_sync(REQUEST, lambda: 1) == 1
    assert kept.stats().errors == 1
    missing = ResponseCache(f"sqlite:///{tmp_path}/no/folder/cache.db")
    assert missing.get_or_call_sync(REQUEST, lambda: 1) == 1


def test_a_file_that_another_process_holds_is_an_outage(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cache.db", timeout=0.01)
    kept = ResponseCache(store)
    kept.set(REQUEST, 1)
    with closing(sqlite3.connect(tmp_path / "cache.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert kept.get_or_call_sync({"seed": 1}, lambda: 2) == 2
        assert kept.stats().store_failures == 1
        other.execute("ROLLBACK")
    other.close()
    store.close()


async def test_an_event_loop_leaves_files_to_a_thread(tmp_path: Path) -> None:
    seen = []

    class Watched(SqliteStore):
        def get(self, key: str) -> Entry | None:
            seen.append(threading.current_thread())
            return super().get(key)

    kept = ResponseCache(Watched(tmp_path / "cache.db"))

    async def call() -> int:
        return 1

    assert [await kept.get_or_call(REQUEST, call) for _ in range(2)] == [1, 1]
    assert seen
    assert threading.main_thread() not in seen
    kept.close()


# --- Redis --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(redis_server: RedisServer, redis_url: str) -> Any:
    """A client of the running server."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def patient(redis_url: str) -> Iterator[Callable[..., RedisStore]]:
    """Makes stores that do not lose their patience on a busy machine."""
    made = []

    def make(url: str = redis_url, **options: Any) -> RedisStore:
        made.append(RedisStore(url, **{"timeout": 30, **options}))
        return made[-1]

    yield make
    for store in made:
        store.close()


def test_machines_share_answers_on_redis(patient: Callable[..., RedisStore], server: Any) -> None:
    here, there = ResponseCache(patient(), ttl=60, jitter=0), ResponseCache(patient(), ttl=60)
    assert here.get_or_call_sync(REQUEST, lambda: {"a": (1,)}) == {"a": (1,)}
    assert there.get_or_call_sync(REQUEST, lambda: "other") == {"a": (1,)}
    (name,) = server.keys("seatrace:cache:entry:*")
    assert 55_000 < server.pttl(name) <= 60_000
    assert server.keys("*lease*") == []
    assert here.invalidate(REQUEST)
    assert there.get(REQUEST) is None


async def test_redis_serves_asynchronous_programs(patient: Callable[..., RedisStore]) -> None:
    kept = ResponseCache(patient())

    async def call() -> int:
        return 1

    assert [await kept.get_or_call(REQUEST, call) for _ in range(3)] == [1, 1, 1]
    assert (kept.stats().misses, kept.stats().hits) == (1, 2)


def test_processes_share_one_call(patient: Callable[..., RedisStore]) -> None:
    here, there = ResponseCache(patient()), ResponseCache(patient())  # two caches know as little of each other
    began, go, calls = threading.Event(), threading.Event(), []

    def slow() -> str:
        calls.append(1)
        began.set()
        go.wait()
        return "once"

    found: list[str] = []
    first = threading.Thread(target=lambda: found.append(here.get_or_call_sync(REQUEST, slow)))
    first.start()
    began.wait()
    second = threading.Thread(target=lambda: found.append(there.get_or_call_sync(REQUEST, slow)))
    second.start()
    while not there._engine._flights._flights:
        threading.Event().wait(0.001)
    go.set()
    first.join()
    second.join()
    assert found == ["once", "once"]
    assert len(calls) == 1
    assert there.stats().coalesced + there.stats().hits == 1  # it waited, or came just too late for that


def test_the_lease_of_one_who_died_runs_out(patient: Callable[..., RedisStore], server: Any) -> None:
    kept = ResponseCache(patient(), lease=0.3)
    kept.set(REQUEST, 1)
    (name,) = server.keys("*entry*")
    server.delete(name)
    server.set(name.replace(b"entry", b"lease"), "1", px=300)  # somebody took it, and is gone
    assert kept.get_or_call_sync(REQUEST, lambda: 2) == 2


def test_one_who_lost_the_lease_does_not_write(patient: Callable[..., RedisStore]) -> None:
    store = patient()
    now = store.clock()
    slow, fast = entry(b"slow", now=now), entry(b"fast", now=now)
    lease = store.acquire("a", 30)
    assert lease is not None
    assert store.acquire("a", 30) is None
    store.delete("a")  # the lease is gone with it
    later = store.acquire("a", 30)
    assert later is not None
    assert int(later) > int(lease)
    assert not store.put("a", slow, lease)
    store.release("a", lease)  # somebody else's by now
    assert store.put("a", fast, later)
    assert not store.put("a", slow, lease)
    found = store.get("a")
    assert found is not None
    assert found.body == b"fast"


def test_a_failed_call_gives_its_lease_back(patient: Callable[..., RedisStore], server: Any) -> None:
    kept = ResponseCache(patient())
    for error in (ValueError(), KeyboardInterrupt()):

        def call(error: BaseException = error) -> None:
            assert server.keys("*lease*")
            raise error

        with pytest.raises(type(error)):
            kept.get_or_call_sync(REQUEST, call)
        assert server.keys("*lease*") == []
    kept.get_or_call_sync(REQUEST, lambda: object())  # and one that is not kept
    assert server.keys("*lease*") == []


def test_clear_finds_the_keys_of_a_scope_alone(patient: Callable[..., RedisStore], server: Any) -> None:
    one, other = ResponseCache(patient(), name="a*"), ResponseCache(patient(), name="ab")
    foreign = ResponseCache(patient(prefix="else"), name="ab")
    for kept in (one, other, foreign):
        for seed in range(3):
            kept.set({"seed": seed}, seed)
    assert one.clear() == 3
    assert [kept.get({"seed": 1}) for kept in (one, other, foreign)] == [None, 1, 1]
    assert other.clear(everything=True) == 3
    assert len(server.keys("else:entry:*")) == 3


def test_a_redis_that_is_cut_in_mid_operation_is_an_outage_that_ends(
    redis_server: RedisServer, patient: Callable[..., RedisStore]
) -> None:
    kept = ResponseCache(patient(timeout=5))
    kept.get_or_call_sync(REQUEST, lambda: 1)

    def cut() -> int:
        redis_server.stop()  # between the lookup and the write
        return 2

    try:
        assert kept.get_or_call_sync({"seed": 1}, cut) == 2
        assert kept.stats().store_failures > 0
        assert kept.get_or_call_sync(REQUEST, lambda: 3) == 3
        assert kept.stats().errors == 1
        assert not kept.invalidate(REQUEST)
    finally:
        redis_server.start()
    kept._engine._reach.resting_until = 0
    assert kept.get_or_call_sync(REQUEST, lambda: 4) == 4  # all was lost with it
    assert kept.get(REQUEST) == 4


def test_a_redis_that_does_not_answer_is_not_waited_for(patient: Callable[..., RedisStore]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        kept = ResponseCache(patient(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05))
        assert kept.get_or_call_sync(REQUEST, lambda: 1) == 1
        assert kept.stats().errors == 1


def test_rubbish_on_redis_is_no_answer_and_no_outage(patient: Callable[..., RedisStore], server: Any) -> None:
    kept = ResponseCache(patient())
    kept.set(REQUEST, 1)
    (name,) = server.keys("*entry*")
    server.set(name, b"rubbish")
    assert kept.get_or_call_sync(REQUEST, lambda: 2) == 2
    assert kept.get_or_call_sync(REQUEST, lambda: 3) == 2
    assert kept.stats().store_failures == 0


def test_a_url_may_name_the_prefix_and_a_client_may_be_ones_own(redis_url: str, server: Any) -> None:
    import redis

    kept = ResponseCache(f"{redis_url}?prefix=app:one")
    kept._engine.store._client.connection_pool.connection_kwargs["socket_timeout"] = 30  # type: ignore[attr-defined]
    assert kept.set(REQUEST, 1)
    kept.close()
    assert len(server.keys("app:one:entry:*")) == 1
    assert ResponseCache(RedisStore(client=server, prefix="app:one")).get(REQUEST) == 1
    with redis.Redis.from_url(redis_url, decode_responses=True) as decoding:
        with pytest.raises(ConfigError, match="decode_responses=False"):
            RedisStore(client=decoding)


def test_without_the_client_library_the_error_says_what_to_install() -> None:
    out = run(
        """
        import sys
        sys.modules["redis"] = None
        from seatrace.runtime import ResponseCache
        try:
            ResponseCache("redis://localhost")
        except ImportError as error:
            print(type(error).__name__, error)
        """
    )
    assert out.startswith(MissingExtraError.__name__)
    assert "pip install 'seatrace[redis]'" in out


def test_the_stores_are_stores(tmp_path: Path) -> None:
    def takes(store: Store) -> Store:
        return store

    assert takes(MemoryStore())
    assert takes(SqliteStore(tmp_path))
