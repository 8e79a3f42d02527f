"""N clients on M links: limits that are never passed, waiting that is fair, time-outs by a clock that tests move."""

import concurrent.futures
import contextlib
import selectors
import socket
import statistics
import threading
import time

import psycopg
import pytest
from harness import FakeServer, Proxy, Relay, ServerError, crowd, wait_until
from harness.wire import Closed, errors, query, rows, run, sync


@pytest.fixture
def limited(make_postgres):
    """
    A server whose role `few` may have twenty connections: the twenty-first would be refused, and its client would
    see that. Nothing is sampled, so nothing is missed.
    """
    server = make_postgres({"max_connections": 250})
    server.sql("CREATE ROLE few LOGIN CONNECTION LIMIT 20")
    server.sql("CREATE DATABASE few OWNER few")
    return server


# ---------------------------------------------------------------- the promise

@pytest.mark.parametrize("count", [1000])
def test_a_thousand_logins_take_no_more_than_twenty_links(limited, make_proxy, closing, count):
    proxy = make_proxy(postgres=limited, config={"pool": {"max_connections": 20}})
    clients = [closing(proxy.wire(user="few", database="few")) for _ in range(count)]
    assert proxy.metric("clients") == count
    assert proxy.metric("links_opened_total") <= 20
    for client in clients:
        client.send(query("SELECT 1"))
    for client in clients:
        messages = client.until_ready()
        assert not errors(messages) and rows(messages) == [["1"]]
    assert proxy.metric("links_opened_total") <= 20 + proxy.metric("links_closed_total")
    assert proxy.metric("link_login_failures_total") == 0
    assert len(limited.backends("usename = 'few'")) <= 20


def test_two_hundred_clients_that_run(limited, make_proxy):
    proxy = make_proxy(postgres=limited, config={"pool": {"max_connections": 20}})
    problems, done = [], []

    def work(i):
        try:
            with proxy.wire(user="few", database="few") as client:
                for n in range(20):
                    if n % 3:
                        client.query("BEGIN")
                        got = client.rows(f"SELECT {i}, {n}")
                        client.query("COMMIT")
                    else:
                        got = rows(client.batch(run("SELECT $1::int, $2::int", [i, n])))
                    if got != [[str(i), str(n)]]:
                        problems.append(got)
            done.append(i)
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(200)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems and len(done) == 200
    assert proxy.metric("link_login_failures_total") == 0
    wait_until(lambda: proxy.metric("clients") == 0)


# ---------------------------------------------------------------- modes

def test_session_mode_keeps_the_link(make_proxy, closing):
    proxy = make_proxy({"pool": {"mode": "session", "max_connections": 2}})
    first, second = closing(proxy.wire()), closing(proxy.wire())
    pids = first.server_pid(), second.server_pid()
    for _ in range(5):
        assert (first.server_pid(), second.server_pid()) == pids
    third = closing(proxy.wire())
    third.send(query("SELECT pg_backend_pid()"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    first.close()
    assert rows(third.until_ready()) == [[pids[0]]]


def test_session_mode_reuses_links(make_proxy):
    proxy = make_proxy({"pool": {"mode": "session", "max_connections": 1}})
    pids = set()
    for _ in range(10):
        with proxy.wire() as client:
            pids.add(client.server_pid())
    assert len(pids) == 1


def test_transaction_mode_shares_between_transactions(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    first, second = closing(proxy.wire()), closing(proxy.wire())
    assert first.server_pid() == second.server_pid()
    first.query("BEGIN")
    second.send(query("SELECT 'waited'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    first.query("SELECT 1/0")
    assert proxy.metric("clients_waiting") == 1, "a failed transaction is still a transaction"
    first.query("ROLLBACK")
    assert rows(second.until_ready()) == [["waited"]]


def test_statement_mode(make_proxy, closing):
    proxy = make_proxy({"pool": {"mode": "statement", "max_connections": 1}})
    first, second = closing(proxy.wire()), closing(proxy.wire())
    assert first.server_pid() == second.server_pid()
    for text in ("BEGIN", "SELECT 1; START TRANSACTION", "begin read only"):
        assert errors(first.query(text)) == ["0A000"]
        assert errors(first.batch(run(text))) in (["0A000"], ["42601"])
        assert second.value("SELECT 1") == "1"
    assert first.value("SELECT 2") == "2"


def test_idle_clients_hold_no_link(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 2}})
    clients = [closing(proxy.wire()) for _ in range(50)]
    for client in clients:
        assert client.value("SELECT 1") == "1"
    assert proxy.metric("links_opened_total") <= 2


def test_pipelined_transactions_keep_their_link_to_the_end(make_proxy, closing):
    """Between two transactions of one pipeline the link may change hands, between two statements of one it may not."""
    proxy = make_proxy({"pool": {"max_connections": 2}})
    clients = [closing(proxy.wire()) for _ in range(6)]
    for client in clients:
        client.send(*[query("BEGIN"), query("SELECT pg_backend_pid()"), run("SELECT pg_backend_pid()"), sync(),
                      query("COMMIT")] * 10)
    for client in clients:
        pids = [r[0] for r in rows(client.until_ready(40))]
        assert all(a == b for a, b in zip(pids[::2], pids[1::2]))


@pytest.mark.parametrize("section,key", [("databases", "app"), ("users", "app")])
def test_mode_by_database_or_user(make_proxy, closing, section, key):
    config = {"pool": {"mode": "transaction", "max_connections": 2}, "databases": {"*": {}}}
    config.setdefault(section, {})[key] = {"mode": "session"}
    proxy = make_proxy(config)
    first, second = closing(proxy.wire()), closing(proxy.wire())
    assert first.server_pid() != second.server_pid()
    for _ in range(3):
        assert first.server_pid() == first.server_pid()
    other = {"databases": ("app2", "other"), "users": ("app2", "app")}[section]
    shared = [closing(proxy.wire(*other)) for _ in range(2)]
    assert shared[0].server_pid() == shared[1].server_pid()


def test_user_counts_more_than_database(make_proxy, closing):
    proxy = make_proxy({"databases": {"app": {"mode": "session", "max_connections": 3}},
                        "users": {"app": {"mode": "transaction"}}})
    first, second = closing(proxy.wire()), closing(proxy.wire())
    assert first.server_pid() == second.server_pid()


# ---------------------------------------------------------------- limits

def test_limit_of_a_pool_by_override(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 20}, "databases": {"other": {"max_connections": 1}, "*": {}}})
    holder = closing(proxy.wire(database="other"))
    holder.query("BEGIN")
    waiter = closing(proxy.wire(database="other"))
    waiter.send(query("SELECT 1"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    assert closing(proxy.wire(database="app")).value("SELECT 1") == "1"
    holder.query("COMMIT")
    assert rows(waiter.until_ready()) == [["1"]]


@pytest.mark.parametrize("limit,logins", [
    ("max_database_connections", [("app", "app"), ("app2", "app"), ("postgres", "app")]),
    ("max_user_connections", [("app", "app"), ("app", "other"), ("app", "postgres")]),
    ("max_node_connections", [("app", "app"), ("app2", "other"), ("postgres", "postgres")]),
])
def test_limits_over_pools(make_proxy, closing, limit, logins):
    """Two links over all pools that count: a third transaction waits, whichever pool it is of."""
    proxy = make_proxy({"pool": {limit: 2}})
    clients = [closing(proxy.wire(*login)) for login in logins]
    for client in clients[:2]:
        assert not errors(client.query("BEGIN"))
    clients[2].send(query("SELECT 'third'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    assert proxy.metric("links_opened_total") - proxy.metric("links_closed_total") == 2
    clients[0].query("COMMIT")  # its idle link must make room, though it is of another pool
    assert rows(clients[2].until_ready()) == [["third"]]
    assert proxy.metric("links_opened_total") - proxy.metric("links_closed_total") <= 2


@pytest.mark.parametrize("workers", [1, 3])
def test_the_oldest_idle_link_makes_room(make_proxy, closing, workers):
    """A limit over pools that only idle links reach holds nobody up."""
    proxy = make_proxy({"proxy": {"workers": workers}, "pool": {"max_node_connections": 2}})
    logins = [("app", "app"), ("app2", "other"), ("postgres", "postgres")]
    for login in logins:
        closing(proxy.wire(*login)).query("SELECT 1")
        proxy.advance(1)
    idle = {(p["user"], p["database"]): p["idle_connections"] for p in proxy.pools()}
    assert [idle[login] for login in logins] == [0, 1, 1]
    assert proxy.open_links() == 2


@contextlib.contextmanager
def busy_clients(proxy):
    """Four that always have a query to send."""
    mine = threading.local()

    def work():
        mine.client = getattr(mine, "client", None) or proxy.wire()
        mine.client.send(*[query("SELECT 1")] * 20)
        mine.client.until_ready(20)

    with crowd(work) as clients:
        yield clients


@pytest.mark.parametrize("workers", [1, 2])
def test_a_busy_pool_does_not_starve_another(make_proxy, closing, workers):
    """Four clients that always have a query on two links; a guest in another pool of the same database gets its turn."""
    proxy = make_proxy({"proxy": {"workers": workers}, "pool": {"max_database_connections": 2}})
    with busy_clients(proxy):
        wait_until(lambda: proxy.metric("queries_total") > 100)
        guest = closing(proxy.wire("app2", "app"))
        for i in range(5):
            assert guest.value(f"SELECT {i}") == str(i)
    assert proxy.open_links() <= 2


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_links_than_clients_at_once(make_proxy, workers):
    proxy = make_proxy({"proxy": {"workers": workers}, "pool": {"max_connections": 100}})
    problems = []

    def work():
        try:
            with proxy.wire() as client:
                for _ in range(100):
                    client.query("BEGIN")
                    client.query("SELECT 1")
                    client.query("COMMIT")
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems
    assert proxy.metric("links_opened_total") <= 20


def test_reserve(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1, "reserve_connections": 1, "reserve_timeout": "100s",
                                 "query_wait_timeout": 0}})
    first, second, third = (closing(proxy.wire()) for _ in range(3))
    first.query("BEGIN")
    second.send(query("BEGIN"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.advance(40)
    assert proxy.metric("clients_waiting") == 1
    proxy.advance_until(lambda: proxy.metric("clients_waiting") == 0, step=20, limit=200)
    second.until_ready()
    assert first.server_pid() != second.server_pid()
    third.send(query("SELECT 1"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.advance(120)
    proxy.advance(40)
    assert proxy.metric("clients_waiting") == 1, "the reserve is used up"
    second.query("COMMIT")
    assert rows(third.until_ready()) == [["1"]]
    first.query("COMMIT")


def test_max_clients(make_proxy, closing):
    proxy = make_proxy({"proxy": {"max_clients": 3}})
    kept = [closing(proxy.wire()) for _ in range(3)]
    with pytest.raises((ServerError, Closed)) as e:
        proxy.wire()
    assert getattr(e.value, "code", None) == "53300"
    kept.pop().close()
    wait_until(lambda: proxy.metric("clients") == 2)
    assert closing(proxy.wire()).value("SELECT 1") == "1"


def test_cancel_is_served_at_max_clients(make_proxy, closing, postgres, name):
    proxy = make_proxy({"proxy": {"max_clients": 1}})
    client = closing(proxy.wire())
    client.send(query(f"SELECT pg_sleep(60) /* {name} */"))
    wait_until(lambda: postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    client.cancel()
    assert errors(client.until_ready()) == ["57014"]


def test_max_waiting_clients(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1, "max_waiting_clients": 2}})
    holder = closing(proxy.wire())
    holder.query("BEGIN")
    waiters = [closing(proxy.wire()) for _ in range(2)]
    for waiter in waiters:
        waiter.send(query("SELECT 1"))
    wait_until(lambda: proxy.metric("clients_waiting") == 2)
    refused = closing(proxy.wire())
    assert errors(refused.query("SELECT 1")) == ["53300"]
    holder.query("COMMIT")
    for waiter in waiters:
        assert rows(waiter.until_ready()) == [["1"]]
    assert refused.value("SELECT 1") == "1"


# ---------------------------------------------------------------- fairness

@pytest.mark.parametrize("workers", [1, 2, 4])
def test_all_of_the_waiting_finish(make_proxy, closing, workers):
    proxy = make_proxy({"proxy": {"workers": workers}, "pool": {"max_connections": 2}})
    holders = [closing(proxy.wire()) for _ in range(2)]
    for holder in holders:
        holder.query("BEGIN")
    clients = [closing(proxy.wire()) for _ in range(100)]
    for i, client in enumerate(clients):
        client.send(query(f"SELECT {i}"))
    wait_until(lambda: proxy.metric("clients_waiting") == 100)
    for holder in holders:
        holder.query("COMMIT")
    for i, client in enumerate(clients):
        assert rows(client.until_ready()) == [[str(i)]]
    assert proxy.metric("clients_waiting") == 0
    assert proxy.metric("links_opened_total") <= 2


def test_first_come_first_served(make_proxy, closing, table):
    """With one worker the order is exact: each waiter writes when it gets the link."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"max_connections": 1}})
    holder = closing(proxy.wire())
    holder.query(f"TRUNCATE {table}; ALTER TABLE {table} ADD at serial")
    holder.query("BEGIN")
    clients = []
    for i in range(30):
        client = closing(proxy.wire())
        clients.append(client)
        client.send(query(f"INSERT INTO {table} (id) VALUES ({i})"))
        wait_until(lambda: proxy.metric("clients_waiting") == i + 1)
    holder.query("COMMIT")
    for client in clients:
        assert not errors(client.until_ready())
    assert holder.rows(f"SELECT id FROM {table} ORDER BY at") == [[str(i)] for i in range(30)]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("links", [4, 20])
def test_grants_are_even(make_proxy, closing, workers, links):
    """Two hundred clients, each of which asks again as soon as it has its answer: nobody waits 1.5 times as long as others."""
    count, each = 200, 30
    text = query(f"SELECT pg_sleep({links / 4000})")  # so the links are what is short, not this loop
    proxy = make_proxy({"proxy": {"workers": workers}, "pool": {"max_connections": links}})
    holders = [closing(proxy.wire()) for _ in range(links)]
    clients = [closing(proxy.wire()) for _ in range(count)]
    for holder in holders:
        holder.query("BEGIN")
    for client in clients:
        client.send(text)
    wait_until(lambda: proxy.metric("clients_waiting") == count)
    for holder in holders:
        holder.query("COMMIT")
    answers = [0] * count
    with selectors.DefaultSelector() as selector:
        for i, client in enumerate(clients):
            selector.register(client.socket, selectors.EVENT_READ, i)
        while max(answers) < each:
            for key, _ in selector.select(20):
                assert not errors(clients[key.data].until_ready())
                answers[key.data] += 1
                clients[key.data].send(text)
    assert min(answers) * 1.5 >= statistics.median(answers), f"answers by then: {sorted(answers)}"


def test_busy_clients_do_not_starve_a_waiter(make_proxy, closing):
    """Four clients that always have a query to send on one link; a fifth comes and must be served in its turn."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    with busy_clients(proxy):
        guest = closing(proxy.wire())
        for i in range(50):
            assert guest.value(f"SELECT {i}") == str(i)


def test_waiter_that_leaves_loses_nobody_a_link(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    for _ in range(10):
        holder, quitter, stayer = proxy.wire(), proxy.wire(), proxy.wire()
        holder.query("BEGIN")
        quitter.send(query("SELECT 1"))
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        stayer.send(query("SELECT 'stayer'"))
        wait_until(lambda: proxy.metric("clients_waiting") == 2)
        quitter.abort()
        holder.query("COMMIT")
        assert rows(stayer.until_ready()) == [["stayer"]]
        holder.close()
        stayer.close()
    assert closing(proxy.wire()).value("SELECT 1") == "1"


# ---------------------------------------------------------------- databases

def test_alias(make_proxy, closing):
    proxy = make_proxy({"databases": {"alias": {"dbname": "other"}, "*": {}}})
    client = closing(proxy.wire(database="alias"))
    assert client.value("SELECT current_database()") == "other"
    assert closing(proxy.wire(database="app")).value("SELECT current_database()") == "app"


def test_forced_user(make_proxy, closing):
    proxy = make_proxy({"databases": {"forced": {"dbname": "app", "user": "app2"}}})
    client = closing(proxy.wire(user="somebody", database="forced"))
    assert client.rows("SELECT session_user, current_database()") == [["app2", "app"]]


def test_wildcard(make_proxy, closing):
    proxy = make_proxy({"databases": {"*": {"max_connections": 1}, "app": {"max_connections": 2}}})
    one, two = closing(proxy.wire(database="other")), closing(proxy.wire(database="other"))
    assert one.server_pid() == two.server_pid()
    assert closing(proxy.wire(database="app")).value("SELECT current_database()") == "app"


def test_connect_query(make_proxy, closing):
    proxy = make_proxy({"databases": {"app": {"connect_query": "SET my.greeting = 'hello'"}}})
    client = closing(proxy.wire())
    assert client.value("SHOW my.greeting") == "hello"


def test_connect_query_runs_before_anything_else(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1},
                        "databases": {"app": {"connect_query": "CREATE TEMP TABLE made AS SELECT 7 AS n; SELECT 1"},
                                      "*": {}}})
    for _ in range(3):
        assert closing(proxy.wire()).value("SELECT n FROM made") == "7"
    assert errors(closing(proxy.wire(database="other")).query("SELECT n FROM made")) == ["42P01"]


@pytest.mark.parametrize("text,code", [("SELECT 1/0", "22012"), ("SELECT nothing", "42703"), ("BEGIN", "08"),
                                       ("COPY (SELECT 1) TO STDOUT", "08")])
def test_connect_query_that_fails(make_proxy, text, code):
    """It counts as a failed login: the client gets the error, and the link is closed."""
    proxy = make_proxy({"databases": {"app": {"connect_query": text}}})
    with pytest.raises(ServerError) as e:
        proxy.wire().value("SELECT 1")
    assert e.value.code.startswith(code)
    assert proxy.open_links() == 0
    assert proxy.metric("link_login_failures_total") >= 1


def test_pools_of_users_are_kept_apart(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    first, second = closing(proxy.wire("app")), closing(proxy.wire("app2"))
    assert first.server_pid() != second.server_pid()
    for _ in range(3):
        assert first.value("SELECT session_user") == "app"
        assert second.value("SELECT session_user") == "app2"


# ---------------------------------------------------------------- servers that refuse

def test_login_failure_gives_the_servers_own_error_and_backs_off(make_proxy, closing, postgres):
    """Every waiting client gets the error; meanwhile the server is asked once, not by each of them."""
    relay = Relay(postgres)
    try:
        proxy = make_proxy(postgres=relay, config={"pool": {"login_retry": "500s"}, "health": {"check_interval": "86400s"}})
        before = relay.accepted
        for _ in range(20):
            with pytest.raises(ServerError) as e:
                proxy.wire(user="rejected").value("SELECT 1")
            assert e.value.code == "28000" and "pg_hba.conf" in e.value.message
        assert relay.accepted - before <= 4
        assert proxy.metric("link_login_failures_total") <= 4
        first = relay.accepted
        proxy.advance(501)
        with pytest.raises(ServerError):
            proxy.wire(user="rejected").value("SELECT 1")
        assert relay.accepted > first
    finally:
        relay.close()


def test_dead_server_is_not_hammered(make_proxy):
    """Also with login_retry = 0: who waits is told, and the server is asked ten times a second at most."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    proxy = make_proxy({"nodes": [{"host": "127.0.0.1", "port": port, "role": "primary"}],
                        "pool": {"login_retry": "0s"}}, start=False)
    proxy.spawn()
    Proxy.live.append(proxy)
    wait_until(lambda: proxy.is_live())
    begin = time.monotonic()
    for _ in range(100):
        with pytest.raises(ServerError) as e:
            proxy.wire()
        assert e.value.code == "08001"
    assert proxy.metric("link_login_failures_total") <= 2 + 10 * (time.monotonic() - begin)


def test_strangers_leave_no_pool(make_proxy, closing):
    """Anybody can name a user that does not exist."""
    proxy = make_proxy()
    for i in range(10):
        with pytest.raises(ServerError):
            proxy.wire(user=f"stranger{i}")
    assert any(p["user"] == "stranger0" for p in proxy.pools())
    closing(proxy.wire()).query("SELECT 1")
    proxy.advance_until(lambda: not any("stranger" in p["user"] for p in proxy.pools()), step=5, limit=60)
    assert any(p["user"] == "app" for p in proxy.pools())


def test_strangers_do_not_make_the_proxy_unready(make_proxy):
    proxy = make_proxy({"pool": {"login_retry": "0s"}})
    for user, database in (("nosuch", "app"), ("app", "nosuch"), ("rejected", "app")):
        for _ in range(4):
            with pytest.raises(ServerError):
                proxy.wire(user=user, database=database).value("SELECT 1")
            proxy.advance(1)
    assert proxy.admin("/readyz")[0] == 200
    (node,) = proxy.json("/nodes")
    assert node["healthy"] and node["failure_count"] == 0


def test_recovers_after_login_failures(make_proxy, closing, make_postgres):
    server = make_postgres()
    server.sql("CREATE ROLE late NOLOGIN")
    proxy = make_proxy(postgres=server, config={"pool": {"login_retry": "5s"}})
    with pytest.raises(ServerError) as e:
        proxy.wire(user="late", database="app").value("SELECT 1")
    assert e.value.code == "28000"
    server.sql("ALTER ROLE late LOGIN")
    proxy.advance(6)
    assert closing(proxy.wire(user="late", database="app")).value("SELECT 1") == "1"


def test_server_at_its_connection_limit(make_proxy, closing, make_postgres):
    """Links that could be opened serve; who can't get one of them gets the server's error or waits, and no more."""
    server = make_postgres()
    server.sql("CREATE ROLE few LOGIN CONNECTION LIMIT 3")
    proxy = make_proxy(postgres=server, config={"pool": {"max_connections": 10}})
    clients = [closing(proxy.wire(user="few", database="app")) for _ in range(8)]
    for client in clients:
        client.send(query("SELECT pg_sleep(0.05)"))
    for client in clients:
        assert set(errors(client.until_ready())) <= {"53300"}
    for client in clients:
        wait_until(lambda: not errors(client.query("SELECT 1")))


def test_statistics_add_up(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 2}})
    client = closing(proxy.wire())
    for _ in range(10):
        client.query("SELECT 1")
    client.batch(run("SELECT 1"), run("SELECT 2"))
    client.query("BEGIN")
    client.query("SELECT 1/0")
    client.query("ROLLBACK")
    assert proxy.metric("queries_total") == 15
    assert proxy.metric("query_errors_total") == 1
    assert proxy.metric("transactions_total") == 12
    assert proxy.metric("logins_total") == 1
    pool = next(p for p in proxy.pools() if p["database"] == "app" and p["user"] == "app")
    assert (pool["active_connections"], pool["idle_connections"], pool["pending_requests"]) == (0, 1, 0)
    (session,) = [s for s in proxy.sessions() if s.get("user") == "app"]
    assert session["database"] == "app"


def test_logins_from_many_threads(make_proxy):
    proxy = make_proxy({"pool": {"max_connections": 3}})

    def one(i):
        with psycopg.connect(proxy.dsn(), autocommit=True) as db:
            return db.execute("SELECT %s::int", [i]).fetchone()[0]

    with concurrent.futures.ThreadPoolExecutor(30) as threads:
        assert list(threads.map(one, range(300))) == list(range(300))
    assert proxy.metric("links_opened_total") <= 3


def test_fake_server_is_good_enough(make_proxy, closing):
    """The oracle of test_faults: a fake server that behaves is served like a real one."""
    fake = FakeServer()
    try:
        client = closing(make_proxy(postgres=fake).wire())
        assert client.rows("SELECT 1") == [["1"]]
    finally:
        fake.close()


