"""Prepared statements that are there on a new link before anybody asks: which ones, and that nobody waits for it."""

import pytest
from harness import wait_until
from harness.wire import bind, errors, execute, kinds, parse, query, rows

@pytest.fixture
def start(make_proxy, closing):
    """start(statements, ...): a proxy with one worker and two links, of which one is held. So there is one for all others;
    when it is gone a new one is opened by the tick, when nobody waits."""
    def make(count, postgres=None, **pool):
        settings = {"prewarm_statements": count, "min_connections": 2, "max_connections": 2, "max_lifetime": "0s",
                    "idle_timeout": "0s", **pool}
        more = {"postgres": postgres} if postgres else {}
        proxy = make_proxy({"proxy": {"workers": 1}, "pool": settings}, **more)
        proxy.holder = closing(proxy.wire())
        proxy.holder.query("BEGIN")
        client = closing(proxy.wire())
        assert client.value("SELECT 1") == "1"
        return proxy, client
    return make


def prepare(client, name, sql):
    assert kinds(client.batch(parse(name, sql))) == "1Z"


def call(client, name):
    return rows(client.batch(bind("", name), execute()))


def end_link(proxy, pid, postgres):
    """The link is ended by the server, and the proxy has seen it."""
    closed = proxy.metric("links_closed_total")
    postgres.sql("SELECT pg_terminate_backend(%s)", [int(pid)])
    wait_until(lambda: proxy.metric("links_closed_total") == closed + 1)


def renew_link(proxy, client, postgres, pid=None):
    """It is ended, and the next tick (maybe one that comes by itself) opens a new one."""
    opened = proxy.metric("links_opened_total")
    end_link(proxy, pid or client.server_pid(), postgres)
    proxy.advance(1)
    wait_until(lambda: proxy.metric("links_opened_total") == opened + 1)


def is_idle(proxy):
    """A new link is there, and ready."""
    return [pool["idle_connections"] for pool in proxy.pools()] == [1]


def prewarmed(proxy):
    return proxy.metric("statements_prewarmed_total")


def known(client):
    """Texts of what the server has prepared on the link."""
    found = client.query("SELECT statement FROM pg_prepared_statements ORDER BY statement")
    return [row[0] for row in rows(found)]


@pytest.fixture
def lock(postgres, table):
    """lock() takes the table for itself: nobody may look at it until .execute("ROLLBACK")."""
    db = postgres.admin("app")

    def take():
        db.execute("BEGIN")
        db.execute(f"LOCK TABLE {table}")
        return db
    yield take
    db.close()


def is_blocked(postgres):
    return bool(postgres.sql("SELECT 1 FROM pg_locks WHERE locktype = 'relation' AND NOT granted", database="app"))


def blocked_link(proxy, client, postgres, lock):
    """A new link, on which a Parse waits for the lock."""
    held = lock()
    renew_link(proxy, client, postgres)
    wait_until(lambda: is_blocked(postgres))
    return held


def test_what_is_used_most_is_there_on_a_new_link(start, postgres):
    proxy, client = start(2)
    for name in "abc":
        prepare(client, name, f"SELECT '{name}'")
    for _ in range(3):
        assert call(client, "a") == [["a"]] and call(client, "b") == [["b"]]
        proxy.advance(1)
    renew_link(proxy, client, postgres)
    wait_until(lambda: prewarmed(proxy) == 2 and is_idle(proxy))
    assert known(client) == ["SELECT 'a'", "SELECT 'b'"]
    sent = proxy.metric("statements_prepared_total")
    assert call(client, "a") == [["a"]] and call(client, "b") == [["b"]]
    assert proxy.metric("statements_prepared_total") == sent
    assert call(client, "c") == [["c"]]
    assert proxy.metric("statements_prepared_total") == sent + 1


def test_off_by_default(start, postgres):
    proxy, client = start(None)
    prepare(client, "a", "SELECT 'a'")
    renew_link(proxy, client, postgres)
    wait_until(lambda: is_idle(proxy))
    assert known(client) == [] and prewarmed(proxy) == 0
    assert call(client, "a") == [["a"]]


def test_not_in_session_mode(start, closing, postgres):
    """What a client sees of its server connection is its own there."""
    proxy, client = start(10)
    prepare(client, "a", "SELECT 'a'")
    proxy.advance(1)
    pid = client.server_pid()
    proxy.reload({"pool": {"mode": "session"}})
    renew_link(proxy, client, postgres, pid)
    wait_until(lambda: is_idle(proxy))
    assert known(closing(proxy.wire())) == [] and prewarmed(proxy) == 0


def test_what_is_used_no_more_makes_room(start, postgres):
    """Also when it is prepared ahead itself all the time: that is no use."""
    proxy, client = start(1)
    prepare(client, "old", "SELECT 'old'")
    for _ in range(3):
        call(client, "old")
        proxy.advance(1)
    prepare(client, "new", "SELECT 'new'")
    for _ in range(8):
        call(client, "new")
        proxy.advance(1)
    for turn in range(2):
        renew_link(proxy, client, postgres)
        wait_until(lambda turn=turn: prewarmed(proxy) == turn + 1 and is_idle(proxy))
        assert known(client) == ["SELECT 'new'"]


def test_settings_decide_what_a_text_means(start, closing, postgres, name):
    """Prepared ahead under the settings of those who use it; whoever has others is not misled."""
    postgres.sql(f"CREATE SCHEMA {name}_a; CREATE SCHEMA {name}_b;"
                 f"CREATE TABLE {name}_a.t AS SELECT 'a' AS v; CREATE TABLE {name}_b.t AS SELECT 2 AS v, 3 AS w;"
                 f"GRANT ALL ON SCHEMA {name}_a, {name}_b TO PUBLIC;"
                 f"GRANT ALL ON {name}_a.t, {name}_b.t TO PUBLIC", database="app")
    proxy, _ = start(10)
    first = closing(proxy.wire(search_path=f"{name}_a"))
    second = closing(proxy.wire(search_path=f"{name}_b"))
    for client in (first, second):
        prepare(client, "s", "SELECT * FROM t")
    for _ in range(4):
        assert call(first, "s") == [["a"]]
        proxy.advance(1)
    renew_link(proxy, first, postgres)
    wait_until(lambda: prewarmed(proxy) == 1 and is_idle(proxy))
    sent = proxy.metric("statements_prepared_total")
    assert call(first, "s") == [["a"]]
    assert proxy.metric("statements_prepared_total") == sent
    assert call(second, "s") == [["2", "3"]]
    assert proxy.metric("statements_prepared_total") == sent + 1
    assert closing(proxy.wire()).value("SHOW search_path") == '"$user", public'


def test_what_cannot_be_prepared_is_left_out(start, postgres, table):
    proxy, client = start(10)
    prepare(client, "gone", f"SELECT v FROM {table} WHERE id = 1")
    prepare(client, "stays", "SELECT 'stays'")
    for _ in range(2):
        call(client, "gone"), call(client, "stays")
        proxy.advance(1)
    call(client, "gone")
    proxy.advance(1)  # it is the first of them
    postgres.sql(f"DROP TABLE {table}", database="app")
    renew_link(proxy, client, postgres)
    wait_until(lambda: prewarmed(proxy) == 1 and is_idle(proxy))
    assert known(client) == ["SELECT 'stays'"]
    sent = proxy.metric("statements_prepared_total")
    renew_link(proxy, client, postgres)
    wait_until(lambda: prewarmed(proxy) == 2 and is_idle(proxy))
    assert proxy.metric("statements_prepared_total") == sent + 1  # the other one was not tried again
    assert call(client, "stays") == [["stays"]]
    assert errors(client.batch(bind("", "gone"), execute())) == ["42P01"]


def test_whoever_waits_gets_the_link_as_it_is(start, postgres):
    proxy, client = start(10, min_connections=0)
    prepare(client, "a", "SELECT 'a'")
    prepare(client, "b", "SELECT 'b'")
    for _ in range(3):
        proxy.advance(1)
        end_link(proxy, client.server_pid(), postgres)
        assert call(client, "a") == [["a"]]
    assert prewarmed(proxy) == 0
    assert known(client) == ["SELECT 'a'"]


def test_no_more_than_a_link_may_have(start, postgres):
    proxy, client = start(10, max_prepared_statements=2)
    for i in range(5):
        prepare(client, f"s{i}", f"SELECT {i}")
        proxy.advance(1)
    renew_link(proxy, client, postgres)
    wait_until(lambda: prewarmed(proxy) == 2 and is_idle(proxy))
    assert len(known(client)) == 2
    for i in range(5):
        assert call(client, f"s{i}") == [[str(i)]]
    assert len(known(client)) == 2


def test_a_client_that_comes_meanwhile_waits_for_one_step_only(start, postgres, table, lock):
    proxy, client = start(40)
    for i in range(40):
        prepare(client, f"s{i}", f"SELECT {i}, v FROM {table} WHERE id = 1")
    proxy.advance(1)
    held = blocked_link(proxy, client, postgres, lock)
    client.send(query("SELECT 'served'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    held.execute("ROLLBACK")
    assert rows(client.until_ready()) == [["served"]]
    assert prewarmed(proxy) in (0, 16)  # 0: the machine is slow, and the client was not let wait
    for i in range(40):
        assert call(client, f"s{i}") == [[str(i), "v1"]]


def test_a_lock_does_not_hold_a_link_up(start, postgres, table, lock):
    """Somebody alters the table: the link is there for what else is asked."""
    proxy, client = start(10)
    prepare(client, "a", f"SELECT v FROM {table} WHERE id = 1")
    proxy.advance(1)
    held = blocked_link(proxy, client, postgres, lock)
    client.send(query("SELECT 'served'"))
    assert rows(client.until_ready()) == [["served"]]
    assert prewarmed(proxy) == 0 and proxy.metric("cancels_forwarded_total") == 1
    held.execute("ROLLBACK")
    assert call(client, "a") == [["v1"]]


def test_the_server_ends_the_link_meanwhile(start, postgres, table, lock):
    """Nobody notices, and what was under way is not tried again: it may have been what ended it."""
    proxy, client = start(10)
    prepare(client, "a", f"SELECT v FROM {table} WHERE id = 1")
    proxy.advance(1)
    held = blocked_link(proxy, client, postgres, lock)
    [(pid,)] = postgres.sql("SELECT pid FROM pg_locks WHERE locktype = 'relation' AND NOT granted", database="app")
    renew_link(proxy, client, postgres, pid)
    wait_until(lambda: is_idle(proxy))
    assert prewarmed(proxy) == 0
    held.execute("ROLLBACK")
    assert call(client, "a") == [["v1"]]


def test_the_whole_server_restarts(start, make_postgres):
    """A link goes to whoever waits for it as it is; what min_connections wants besides is prepared ahead."""
    postgres = make_postgres()
    proxy, client = start(10, postgres=postgres)
    prepare(client, "a", "SELECT 'a'")
    proxy.advance(1)
    proxy.holder.close()
    postgres.restart()
    wait_until(lambda: proxy.metric("links_closed_total") >= 2)
    proxy.advance(6)  # a tick may have tried while it was down: that is remembered for login_retry
    assert call(client, "a") == [["a"]]
    proxy.advance_until(lambda: prewarmed(proxy) >= 1, step=1)
    wait_until(lambda: [pool["idle_connections"] for pool in proxy.pools()] == [2])
    sent = proxy.metric("statements_prepared_total")
    client.query("BEGIN")
    assert call(client, "a") == [["a"]]
    client.query("COMMIT")
    assert proxy.metric("statements_prepared_total") == sent


def test_the_proxy_ends_meanwhile(start, postgres, table, lock):
    proxy, client = start(10)
    prepare(client, "a", f"SELECT v FROM {table} WHERE id = 1")
    proxy.advance(1)
    blocked_link(proxy, client, postgres, lock)
    client.close()
    proxy.holder.close()
    proxy.stop()


def test_a_reload_turns_it_off_meanwhile(start, postgres, table, lock):
    proxy, client = start(10)
    prepare(client, "a", f"SELECT v FROM {table} WHERE id = 1")
    proxy.advance(1)
    held = blocked_link(proxy, client, postgres, lock)
    proxy.reload({"pool": {"prewarm_statements": 0}})
    held.execute("ROLLBACK")
    wait_until(lambda: prewarmed(proxy) == 1 and is_idle(proxy))
    assert call(client, "a") == [["v1"]]
    renew_link(proxy, client, postgres)
    wait_until(lambda: is_idle(proxy))
    assert known(client) == [] and prewarmed(proxy) == 1


def test_a_change_of_the_schema(start, postgres, table):
    """While it is under way nothing is prepared ahead; behind it everything is as it is now."""
    proxy, client = start(10)
    prepare(client, "a", f"SELECT * FROM {table} WHERE id = 1")
    proxy.advance(1)
    proxy.holder.query(f"ALTER TABLE {table} ADD COLUMN more text DEFAULT 'more'")
    renew_link(proxy, client, postgres)
    wait_until(lambda: is_idle(proxy))
    assert prewarmed(proxy) == 0
    proxy.holder.query("COMMIT")
    assert call(client, "a") == [["1", "v1", "more"]]


def test_prepared_ahead_and_then_the_schema_changes(start, postgres, table):
    proxy, client = start(10)
    prepare(client, "a", f"SELECT * FROM {table} WHERE id = 1")
    proxy.advance(1)
    renew_link(proxy, client, postgres)
    wait_until(lambda: prewarmed(proxy) == 1 and is_idle(proxy))
    client.query(f"ALTER TABLE {table} ADD COLUMN more text DEFAULT 'more'")
    assert call(client, "a") == [["1", "v1", "more"]]
    renew_link(proxy, client, postgres)
    wait_until(lambda: prewarmed(proxy) == 2 and is_idle(proxy))
    assert call(client, "a") == [["1", "v1", "more"]]


def test_a_pool_that_nobody_uses_vanishes(make_proxy):
    """What is known of its statements does not hold it for longer than that."""
    proxy = make_proxy({"pool": {"prewarm_statements": 10, "pool_idle_timeout": "100s", "idle_timeout": "10s",
                                 "max_lifetime": 0}})
    with proxy.wire() as client:
        prepare(client, "a", "SELECT 'a'")
        proxy.advance(1)
    wait_until(lambda: proxy.metric("clients") == 0)
    proxy.advance_until(lambda: not proxy.pools(), step=15)
