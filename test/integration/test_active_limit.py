"""
The adaptive limit of links in use, below max_connections. Where it is low from the beginning does not depend on speed:
a pool of two links has a limit of two, and keeps it when a reload lets it have more, until measurements say otherwise.
"""

import threading

import pytest
from harness import wait_until
from harness.wire import errors, query, rows

FEW, MANY = 2, 20


@pytest.fixture
def narrowed(make_proxy, closing):
    """narrowed(workers): a proxy whose pool may have MANY links, of which FEW may be in use at the same time."""
    def make(workers=2, **pool):
        proxy = make_proxy({"proxy": {"workers": workers},
                            "pool": {"max_connections": FEW, "min_active": 1, **pool}})
        closing(proxy.wire()).query("SELECT 1")
        proxy.reload({"pool": {"max_connections": MANY}})
        wait_until(lambda: the_pool(proxy)["max_connections"] == MANY)
        assert the_pool(proxy)["active_limit"] == FEW
        return proxy
    return make


def the_pool(proxy, database="app"):
    return next(p for p in proxy.pools() if (p["user"], p["database"]) == ("app", database))


def all_links_are_free(proxy):
    """What the pool counts is right: nothing is in use or held, and what was opened is idle."""
    def look():
        pool = the_pool(proxy)
        return (pool["active_connections"], pool["held_long"], pool["pending_requests"],
                pool["total_connections_created"] - pool["total_connections_closed"] - pool["idle_connections"]) == (0,) * 4
    wait_until(look, 20, lambda: str(the_pool(proxy)))


# ---------------------------------------------------------------- who holds a link for long

@pytest.mark.parametrize("workers", [1, 2, 4])
def test_waiting_for_each_others_locks_holds_nobody_up(narrowed, closing, table, workers):
    """All links that may be in use wait for a lock, and more clients do before a new one comes: it gets through."""
    proxy = narrowed(workers)
    holder, guest = closing(proxy.wire()), closing(proxy.wire())
    lockers = [closing(proxy.wire()) for _ in range(10)]
    holder.query(f"INSERT INTO {table} (id) VALUES (1)")
    holder.query("BEGIN")
    holder.query(f"UPDATE {table} SET id = id")
    for client in lockers:
        client.send(query(f"UPDATE {table} SET id = id"))
    wait_until(lambda: the_pool(proxy)["active_connections"] == 11, 20, lambda: str(the_pool(proxy)))
    assert guest.value("SELECT 'through'") == "through"
    assert proxy.metric("links_held_long_total") >= 10 - FEW
    assert proxy.metric("active_limit_waits_total") > 0
    holder.query("COMMIT")
    for client in lockers:
        assert not errors(client.until_ready())
    all_links_are_free(proxy)


@pytest.mark.parametrize("workers", [1, 4])
def test_idle_transactions_hold_nobody_up(narrowed, closing, workers):
    """As many as there may be links: each begins though all before it only think; then one in vain, as without a limit."""
    proxy = narrowed(workers)
    thinkers = [closing(proxy.wire()) for _ in range(MANY)]
    for client in thinkers:
        assert not errors(client.query("BEGIN"))
    late = closing(proxy.wire())
    late.send(query("SELECT 'late'"))
    wait_until(lambda: the_pool(proxy)["pending_requests"] == 1)
    assert the_pool(proxy)["active_connections"] == MANY
    thinkers[7].query("COMMIT")
    assert rows(late.until_ready()) == [["late"]]
    for client in thinkers:
        client.query("COMMIT")
    all_links_are_free(proxy)


def test_slow_queries_do_not_starve_fast_ones(narrowed):
    """Six clients that sleep, on two places: a seventh need not wait until they have slept, each time in its turn."""
    proxy = narrowed()
    stop, slept, problems = threading.Event(), [], []

    def sleep():
        try:
            with proxy.wire() as client:
                while not stop.is_set():
                    client.query("SELECT pg_sleep(0.5)")
                    slept.append(1)
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=sleep) for _ in range(6)]
    for t in threads:
        t.start()
    wait_until(lambda: the_pool(proxy)["active_connections"] > FEW)
    try:
        with proxy.wire() as client:
            before = len(slept)
            for i in range(20):
                assert client.value(f"SELECT {i}") == str(i)
            meanwhile = len(slept) - before
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not problems
    assert meanwhile < 20 * 6 / 2, "about six of them slept for each query"


# ---------------------------------------------------------------- parking

@pytest.mark.parametrize("workers", [1, 2])
def test_links_above_the_limit_are_parked_and_come_back(narrowed, closing, workers):
    proxy = narrowed(workers)
    clients = [closing(proxy.wire()) for _ in range(10)]
    for _ in range(3):
        for client in clients:
            client.query("BEGIN")
        for client in clients:
            client.query("COMMIT")
        all_links_are_free(proxy)
    assert proxy.metric("links_opened_total") <= MANY
    opened = proxy.metric("links_opened_total")
    for client in clients:
        assert client.value("SELECT 1") == "1"
    assert proxy.metric("links_opened_total") == opened
    proxy.advance_until(lambda: the_pool(proxy)["idle_connections"] == 0, step=100)  # idle_timeout
    assert clients[0].value("SELECT 1") == "1"


def test_parked_links_make_room_for_other_pools(narrowed, closing):
    proxy = narrowed(max_node_connections=10)
    clients = [closing(proxy.wire()) for _ in range(10)]
    for text in ("BEGIN", "COMMIT"):
        for client in clients:
            client.query(text)
    all_links_are_free(proxy)
    others = [closing(proxy.wire("app2", "other")) for _ in range(6)]
    for client in others:
        assert not errors(client.query("BEGIN"))
    assert the_pool(proxy)["idle_connections"] <= 4


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_nobody_is_forgotten(narrowed, workers):
    """Forty clients that always have a query; all get all their answers, whatever is parked, moved and tried meanwhile."""
    proxy = narrowed(workers)
    problems, done = [], []

    def work(i):
        try:
            with proxy.wire() as client:
                for n in range(40):
                    client.send(query(f"SELECT {i}, {n}"), query("BEGIN"), query(f"SELECT {n}"), query("COMMIT"))
                    got = rows(client.until_ready(4))
                    if got != [[str(i), str(n)], [str(n)]]:
                        problems.append(got)
            done.append(i)
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems and len(done) == 40
    assert proxy.metric("link_waits_total") >= proxy.metric("active_limit_waits_total") > 0
    assert the_pool(proxy)["total_connections_created"] <= MANY
    all_links_are_free(proxy)


# ---------------------------------------------------------------- configuration

def test_a_reload_switches_it(narrowed, closing):
    proxy = narrowed()
    assert proxy.metric("pool_links_active_limit") == FEW
    client = closing(proxy.wire())
    proxy.reload({"pool": {"adaptive": False}})
    wait_until(lambda: the_pool(proxy)["active_limit"] == MANY)
    proxy.advance(100)  # nothing finds another one
    assert client.value("SELECT 1") == "1"
    waits = proxy.metric("active_limit_waits_total")
    thinkers = [closing(proxy.wire()) for _ in range(MANY)]
    for thinker in thinkers:
        assert not errors(thinker.query("BEGIN"))
    assert proxy.metric("links_held_long_total") == 0
    assert proxy.metric("active_limit_waits_total") == waits
    proxy.reload({"pool": {"adaptive": True}})
    wait_until(lambda: proxy.metric("pool_links_active_limit") == MANY)
    for thinker in thinkers:
        thinker.query("COMMIT")
    assert client.value("SELECT 1") == "1"
    all_links_are_free(proxy)


def test_a_reload_lets_those_through_that_wait(narrowed, closing, table):
    """The limit goes while somebody waits for it. (Were it not told, it would be let through as well, but later.)"""
    proxy = narrowed()
    holders = [closing(proxy.wire()) for _ in range(FEW + 1)]
    for holder in holders:
        holder.query("BEGIN")
    proxy.reload({"pool": {"adaptive": False}})
    for holder in holders:
        assert not errors(holder.query("COMMIT"))
    all_links_are_free(proxy)


def test_by_database_and_mode(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": FEW, "min_active": 1},
                        "databases": {"app": {}, "other": {"adaptive": False}, "postgres": {"mode": "session"}}})
    logins = [("app", "app"), ("app2", "other"), ("postgres", "postgres")]
    clients = [closing(proxy.wire(*login)) for login in logins]
    for client in clients:
        client.query("SELECT 1")
    proxy.reload({"pool": {"max_connections": MANY}})
    wait_until(lambda: all(p["max_connections"] == MANY for p in proxy.pools()))
    limits = {p["database"]: p["active_limit"] for p in proxy.pools()}
    assert limits == {"app": FEW, "other": MANY, "postgres": MANY}
