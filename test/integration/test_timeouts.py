"""Time-outs, lifetimes and what is kept warm, by a clock that tests move."""

import os
import signal

import pytest
from harness import Proxy, ServerError, wait_until, wire
from harness.postgres import PASSWORD
from harness.wire import Closed, errors, query, rows, run, sync


def test_min_connections_are_kept_warm(make_proxy, closing, postgres):
    proxy = make_proxy({"pool": {"min_connections": 3, "idle_timeout": "10s", "max_lifetime": "0s"}})
    client = closing(proxy.wire())
    client.query("SELECT 1")
    proxy.advance_until(lambda: proxy.open_links() == 3, step=1)
    for _ in range(5):
        proxy.advance(11)
    wait_until(lambda: proxy.open_links() == 3)


def test_min_connections_come_back_with_the_server(make_proxy, make_postgres, closing):
    """All are lost, and nobody asks for one: they are there again when the server is."""
    server = make_postgres()
    proxy = make_proxy({"pool": {"min_connections": 3, "login_retry": "1s"}}, postgres=server)
    client = closing(proxy.wire())
    client.query("SELECT 1")
    proxy.advance_until(lambda: proxy.open_links() == 3, step=1)
    server.stop()
    wait_until(lambda: proxy.open_links() == 0)
    server.start()
    proxy.advance_until(lambda: proxy.open_links() == 3, step=2)
    proxy.reload({"pool": {"min_connections": 0, "idle_timeout": "10s"}})
    proxy.advance_until(lambda: proxy.open_links() == 0, step=5)
    server.stop()
    server.start()
    proxy.advance(100)
    assert proxy.open_links() == 0, "not any more"
    assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("user,password,database,code", [
    ("scram_user", "wrong", "app", "28P01"), ("stranger", "any", "app", "28000"),
    ("scram_user", PASSWORD, "absent", "3D000")])
def test_nothing_is_kept_warm_for_a_stranger(make_proxy, closing, user, password, database, code):
    """Who was refused once is not tried again and again at the server, nor as often as min_connections says."""
    proxy = make_proxy({"pool": {"min_connections": 3, "login_retry": "1s"}, "auth": {"mode": "passthrough"}})
    with pytest.raises(ServerError) as refused:
        proxy.wire(user=user, database=database, password=password).query("SELECT 1")
    assert refused.value.code == code
    failed = proxy.metric("link_login_failures_total")
    assert 1 <= failed <= 2, "to learn that a password is needed, and with it"
    for _ in range(10):
        proxy.advance(2)
    known = closing(proxy.wire(user="md5_user", password=PASSWORD))
    assert known.value("SELECT 1") == "1"
    proxy.advance_until(lambda: proxy.open_links() >= 3, step=1)
    assert proxy.metric("link_login_failures_total") <= failed + 1


def test_nothing_is_kept_warm_for_one_who_was_shut_out(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = make_proxy({"pool": {"min_connections": 3, "login_retry": "1s"}}, postgres=server)
    client = closing(proxy.wire())
    assert client.value("SELECT 1") == "1"
    proxy.advance_until(lambda: proxy.open_links() == 3, step=1)
    server.sql("ALTER ROLE app NOLOGIN")
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    wait_until(lambda: proxy.open_links() == 0)
    proxy.advance_until(lambda: proxy.metric("link_login_failures_total") >= 1, step=2)
    for _ in range(5):
        proxy.advance(2)
    assert proxy.metric("link_login_failures_total") <= 3, "those that were under way together"
    server.sql("ALTER ROLE app LOGIN")
    proxy.advance(2)
    wait_until(lambda: client.value("SELECT 1") == "1")
    proxy.advance_until(lambda: proxy.open_links() == 3, step=1)


def test_idle_timeout(make_proxy, closing):
    proxy = make_proxy({"pool": {"idle_timeout": "60s", "max_lifetime": "0s"}})
    clients = [closing(proxy.wire()) for _ in range(3)]
    for client in clients:
        client.query("BEGIN")
    for client in clients:
        client.query("COMMIT")
    assert proxy.open_links() == 3
    proxy.advance(30)
    proxy.advance(1)
    assert proxy.open_links() == 3
    proxy.advance_until(lambda: proxy.open_links() == 0, step=5, limit=60)
    assert clients[0].value("SELECT 1") == "1"


def test_idle_timeout_zero_means_never(make_proxy, closing):
    proxy = make_proxy({"pool": {"idle_timeout": 0, "max_lifetime": 0}})
    client = closing(proxy.wire())
    first = client.server_pid()
    for _ in range(5):
        proxy.advance(10000)
    assert client.server_pid() == first


def test_max_lifetime(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1, "max_lifetime": "100s", "idle_timeout": 0}})
    client = closing(proxy.wire())
    first = client.server_pid()
    proxy.advance(50)
    assert client.server_pid() == first
    client.query("BEGIN")
    proxy.advance(101)
    assert client.server_pid() == first, "never in a transaction"
    client.query("COMMIT")
    assert client.server_pid() != first


def test_query_wait_timeout(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1, "query_wait_timeout": "30s"}})
    holder, waiter = closing(proxy.wire()), closing(proxy.wire())
    holder.query("BEGIN")
    for extended in (False, True):
        waiter.send(run("SELECT 1") + sync() if extended else query("SELECT 1"))
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        proxy.advance(10)
        assert proxy.metric("clients_waiting") == 1
        proxy.advance(21)
        messages = waiter.until_ready()
        assert errors(messages) == ["53300"]
        error = next(m for m in messages if m.kind == "E")
        assert "query_wait_timeout" in error.fields["M"] and error.fields["H"]
    assert proxy.metric("link_wait_timeouts_total") == 2
    holder.query("COMMIT")
    assert waiter.value("SELECT 1") == "1"


def test_query_wait_timeout_in_a_pipeline(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1, "query_wait_timeout": "30s"}})
    holder, waiter = closing(proxy.wire()), closing(proxy.wire())
    holder.query("BEGIN")
    waiter.send(run("SELECT 'a'"), run("SELECT 'b'"), sync(), run("SELECT 'c'"), sync())
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.advance(31)
    assert errors(waiter.until_ready()) == ["53300"]
    holder.query("COMMIT")
    messages = waiter.until_ready()
    assert rows(messages) == [["c"]] or errors(messages) == ["53300"]
    assert waiter.value("SELECT 1") == "1"


def test_query_timeout(make_proxy, closing, postgres, name):
    proxy = make_proxy({"pool": {"query_timeout": "60s"}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    client.send(query(f"SELECT pg_sleep(1000) /* {name} */"))
    wait_until(lambda: postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    proxy.advance(30)
    assert postgres.backends("query LIKE %s AND state = 'active'", [f"%{name}%"])
    proxy.advance(31)
    messages = client.until_closed()
    assert [m.code for m in messages if m.kind == "E"][:1] == ["57014"]
    wait_until(lambda: not postgres.backends("query LIKE %s AND state = 'active'", [f"%{name}%"]))
    assert other.value("SELECT 1") == "1"


def test_idle_transaction_timeout(make_proxy, closing, postgres, table):
    proxy = make_proxy({"pool": {"max_connections": 1, "idle_transaction_timeout": "60s"}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    client.query("BEGIN")
    client.query(f"INSERT INTO {table} VALUES (100, 'x')")
    for _ in range(3):  # each statement begins the time anew
        proxy.advance(35)
        assert client.value("SELECT 1") == "1"
    proxy.advance(61)
    (error,) = client.until_closed()
    assert error.code == "25P03"
    assert other.value(f"SELECT count(*) FROM {table}") == "10"


MODES = ["session", "transaction"]


@pytest.mark.parametrize("mode", MODES)
def test_transaction_timeout(make_proxy, closing, table, mode):
    proxy = make_proxy({"pool": {"mode": mode, "transaction_timeout": "60s", "idle_transaction_timeout": "50s"}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    for _ in range(3):  # each has its own time
        client.query("BEGIN")
        proxy.advance(35)
        client.query("COMMIT")
        proxy.advance(35)
    client.query("BEGIN")
    client.query(f"INSERT INTO {table} VALUES (100, 'x')")
    proxy.advance(35)
    assert client.value("SELECT 1") == "1"
    proxy.advance(26)
    (error,) = client.until_closed()
    assert error.code == "25P04"
    assert other.value(f"SELECT count(*) FROM {table}") == "10"
    proxy.advance(61)
    assert other.value("SELECT 1") == "1", "a session without a transaction has time"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("extended", [False, True])
def test_transaction_timeout_of_what_runs(make_proxy, closing, postgres, name, mode, extended):
    """A single statement is a transaction; what runs is cancelled at the server."""
    proxy = make_proxy({"pool": {"mode": mode, "transaction_timeout": "60s", "query_timeout": "1h"}})
    client = closing(proxy.wire())
    assert client.value("SELECT 1") == "1"
    proxy.advance(50)
    text = f"SELECT pg_sleep(1000) /* {name} */"
    client.send(run(text) + sync() if extended else query(text))
    wait_until(lambda: postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    proxy.advance(30)
    assert postgres.backends("query LIKE %s AND state = 'active'", [f"%{name}%"])
    proxy.advance(31)
    assert [m.code for m in client.until_closed() if m.kind == "E"][:1] == ["25P04"]
    wait_until(lambda: not postgres.backends("query LIKE %s AND state = 'active'", [f"%{name}%"]))


@pytest.mark.parametrize("mode", MODES)
def test_transaction_timeout_of_a_pipeline(make_proxy, closing, postgres, name, mode):
    """Its transactions are counted one by one, although it never pauses; the second one sleeps."""
    proxy = make_proxy({"pool": {"mode": mode, "transaction_timeout": "60s"}})
    client = closing(proxy.wire())

    def sleeps(number):
        return postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name} {number}%"])

    client.send(query(f"SELECT pg_sleep(1000) /* {name} 1 */"), query(f"SELECT pg_sleep(1000) /* {name} 2 */"),
                query(f"SELECT pg_sleep(1000) /* {name} 3 */"))
    for number in (1, 2):
        (backend,) = wait_until(lambda: sleeps(number))  # noqa: B023
        proxy.advance(40)
        assert sleeps(number)
        assert postgres.value("SELECT pg_cancel_backend(%s)", [backend])
        assert errors(client.until_ready()) == ["57014"]
    wait_until(lambda: sleeps(3))
    proxy.advance(61)
    assert [m.code for m in client.until_closed() if m.kind == "E"][:1] == ["25P04"]


def test_transaction_timeout_by_user_and_after_a_reload(make_proxy, closing, make_postgres):
    server = make_postgres()
    proxy = make_proxy({"pool": {"mode": "transaction", "login_retry": 0}, "users": {"app": {"transaction_timeout": "60s"}}},
                       postgres=server)
    app, other = closing(proxy.wire()), closing(proxy.wire(user="app2", database="other"))
    for client in (app, other):
        client.query("BEGIN")
    proxy.advance(61)
    assert app.until_closed()[0].code == "25P04"
    assert other.value("SELECT 1") == "1"
    other.query("COMMIT")
    app = closing(proxy.wire())
    app.send(query("SELECT pg_sleep(1000)"))
    (backend,) = wait_until(lambda: server.backends("wait_event = 'PgSleep'"))
    os.kill(backend, signal.SIGKILL)
    assert errors(app.until_ready()) == ["08006"]
    proxy.advance(61)  # what was lost is no transaction any more
    wait_until(lambda: server.log().count("ready to accept connections") == 2)
    wait_until(lambda: not errors(app.query("SELECT 1")))
    app.query("BEGIN")
    proxy.reload({"users": {"app": {"transaction_timeout": 0}}})
    proxy.advance(1000)
    assert app.value("SELECT 1") == "1", "also for one that had begun before"


def test_client_idle_timeout(make_proxy, closing):
    proxy = make_proxy({"pool": {"client_idle_timeout": "60s"}})
    idle, busy, in_transaction = (closing(proxy.wire()) for _ in range(3))
    in_transaction.query("BEGIN")
    for _ in range(3):
        proxy.advance(25)
        assert busy.value("SELECT 1") == "1"
    (error,) = idle.until_closed()
    assert error.code == "57P05"
    assert in_transaction.value("SELECT 1") == "1"


def test_client_login_timeout(make_proxy, closing):
    proxy = make_proxy({"pool": {"client_login_timeout": "60s"}, "auth": {"mode": "scram"},
                        "users": {"app": {"password": "x"}}})
    silent, half, asked = (closing(wire.Wire(proxy.address)) for _ in range(3))
    half.send(wire.startup_packet({"user": "app"})[:11])
    asked.startup({"user": "app", "database": "app"})
    assert asked.read().kind == "R"
    wait_until(lambda: proxy.metric("connections_total") >= 3)
    proxy.advance(30)
    proxy.advance(31)
    for client in (silent, half, asked):
        messages = client.until_closed()
        assert [m.code for m in messages] in (["08006"], ["57014"], [])


def test_connect_timeout(make_proxy, closing):
    """A host that takes the connection and says nothing."""
    import socket as sockets
    from harness import lease_port
    lease = lease_port()
    listener = sockets.create_server(("127.0.0.1", lease.port))
    try:
        proxy = make_proxy(postgres=None, config={"nodes": [Proxy.node(("127.0.0.1", lease.port))],
                                                  "pool": {"connect_timeout": "15s"}}, start=False)
        proxy.spawn()
        Proxy.live.append(proxy)
        wait_until(lambda: proxy.is_live())
        client = closing(wire.Wire(proxy.address))
        client.startup({"user": "app", "database": "app"})

        def fails():
            proxy.advance(16)
            return client.is_quiet(0.05) is False

        wait_until(fails)
        with pytest.raises((ServerError, Closed)) as e:
            client.finish_login({"user": "app"})
            client.rows("SELECT 1")
        assert getattr(e.value, "code", "")[:2] in ("08", "57")
    finally:
        listener.close()
        lease.release()


def test_pools_vanish_when_unused(make_proxy):
    proxy = make_proxy({"pool": {"pool_idle_timeout": "100s", "idle_timeout": "10s", "max_lifetime": 0}})
    client = proxy.wire(user="app2", database="other")
    client.query("SELECT 1")
    assert any(p["database"] == "other" for p in proxy.pools())
    client.close()
    wait_until(lambda: proxy.metric("clients") == 0)
    proxy.advance_until(lambda: not any(p["database"] == "other" for p in proxy.pools()), step=15)
