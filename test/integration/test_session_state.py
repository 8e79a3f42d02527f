"""
What outlives a transaction on a server connection: temporary tables, session advisory locks, LISTEN, WITH HOLD cursors,
SQL PREPARE. In session mode it simply works. Where links are shared it pins the link (default), is refused, or is
logged.
"""

import pytest
from harness import wait_until, wire
from harness.wire import errors, run

pytestmark = pytest.mark.matrix

STATEFUL = {
    "temp table": ("CREATE TEMP TABLE {n} (a int)", "SELECT 1 + count(*) FROM {n}", "DROP TABLE {n}"),
    "temporary as": ("CREATE TEMPORARY TABLE {n} AS SELECT 1 AS a", "SELECT 1 + count(*) FROM {n}", "DROP TABLE {n}"),
    "local temp": ("CREATE LOCAL TEMP TABLE {n} (a int)", "SELECT 1 + count(*) FROM {n}", "DROP TABLE {n}"),
    "select into temp": ("SELECT 1 AS a INTO TEMP {n}", "SELECT 1 + count(*) FROM {n}", "DROP TABLE {n}"),
    "pg_temp": ("CREATE TABLE pg_temp.{n} (a int)", "SELECT 1 + count(*) FROM {n}", "DROP TABLE {n}"),
    "temp view": ("CREATE TEMP VIEW {n} AS SELECT 1", "SELECT 1 + count(*) FROM {n}", "DROP VIEW {n}"),
    "temp sequence": ("CREATE TEMP SEQUENCE {n}", "SELECT nextval('{n}')", "DROP SEQUENCE {n}"),
    "advisory lock": ("SELECT pg_advisory_lock(hashtext('{n}'))", "SELECT count(*) FROM pg_locks WHERE locktype = "
                      "'advisory' AND pid = pg_backend_pid() AND objid = hashtext('{n}')::bit(32)::bigint::oid",
                      "SELECT pg_advisory_unlock(hashtext('{n}'))"),
    "try lock": ("SELECT pg_try_advisory_lock(hashtext('{n}'))", "SELECT count(*) FROM pg_locks WHERE locktype = "
                 "'advisory' AND pid = pg_backend_pid()", "SELECT pg_advisory_unlock_all()"),
    "listen": ("LISTEN {n}", "SELECT count(*) FROM pg_listening_channels()", "UNLISTEN *"),
    "hold cursor": ("DECLARE {n} CURSOR WITH HOLD FOR SELECT * FROM generate_series(1, 1000)", "FETCH 1 FROM {n}",
                    "CLOSE {n}"),
    "prepare": ("PREPARE {n} AS SELECT 1", "EXECUTE {n}", "DEALLOCATE {n}"),
}
CASES = list(STATEFUL.values())
NAMES = [n.replace(" ", "-") for n in STATEFUL]
RELEASED = [n for n in NAMES if n in ("advisory-lock", "try-lock", "listen", "hold-cursor", "prepare")]


@pytest.mark.parametrize("make,use,_", CASES, ids=NAMES)
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_state_stays_with_its_client(target, name, make, use, _, extended):
    client = target.wire()
    neighbours = [target.wire() for _ in range(3)]
    text = make.format(n=name)
    assert not errors(client.batch(run(text)) if extended else client.query(text))
    for _ in range(3):
        for neighbour in neighbours:
            neighbour.query("SELECT 1")
        assert client.rows(use.format(n=name)) not in ([["0"]], [])
    client.close()
    # nothing is left behind on the server
    wait_until(lambda: target.postgres.sql(
        "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), "
        "(SELECT count(*) FROM pg_class WHERE relname = %s)", [name], database="app") == [(0, 0)])
    assert target.wire().value("SELECT 1") == "1"


@pytest.mark.modes("session", "transaction")
@pytest.mark.parametrize("make,use,_", CASES, ids=NAMES)
def test_state_made_in_a_transaction(target, name, make, use, _):
    client, neighbour = target.wire(), target.wire()
    client.query("BEGIN")
    assert not errors(client.query(make.format(n=name)))
    client.query("COMMIT")
    neighbour.query("SELECT 1")
    assert client.rows(use.format(n=name)) not in ([["0"]], [])


@pytest.mark.parametrize("make,use,_", CASES, ids=NAMES)
def test_pin_is_visible_and_ends_with_the_client(make_proxy, closing, name, make, use, _):
    proxy = make_proxy({"pool": {"max_connections": 2}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    client.query(make.format(n=name))
    wait_until(lambda: proxy.metric("links_pinned") == 1)
    assert proxy.metric("pins_total") >= 1
    for _ in range(3):
        assert other.value("SELECT 1") == "1"
    client.close()
    wait_until(lambda: proxy.metric("links_pinned") == 0)
    third = closing(proxy.wire())
    holders = [other, third]
    for each in holders:
        each.query("BEGIN")
    for each in holders:
        leftovers = each.rows("SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), "
                              "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), "
                              "(SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors WHERE "
                              "is_holdable), (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)")
        assert leftovers == [["0"] * 5]
        each.query("COMMIT")


@pytest.mark.parametrize("make,use,release", [STATEFUL[n.replace("-", " ")] for n in RELEASED], ids=RELEASED)
def test_pin_ends_with_its_reason(make_proxy, closing, name, make, use, release):
    """The link goes back when the state is gone (at the latest with DISCARD ALL)."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    client.query(make.format(n=name))
    client.query(release.format(n=name))
    client.query("DISCARD ALL")
    wait_until(lambda: proxy.metric("links_pinned") == 0)
    assert other.value("SELECT 1") == "1"
    assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("make,use,_", CASES, ids=NAMES)
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_refused_by_policy(make_proxy, closing, postgres, name, make, use, _, extended):
    proxy = make_proxy({"pool": {"session_state": "refuse", "max_connections": 2}})
    client = closing(proxy.wire())
    text = make.format(n=name)
    messages = client.batch(run(text)) if extended else client.query(text)
    assert len(errors(messages)) == 1
    error = next(m for m in messages if m.kind == "E")
    assert error.fields.get("H"), "an error of the proxy tells what to do"
    assert client.status == "I"
    assert client.value("SELECT 1") == "1"
    assert proxy.metric("links_pinned") == 0
    wait_until(lambda: postgres.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0)  # of tests before


def test_refused_inside_a_transaction(make_proxy, closing, name):
    proxy = make_proxy({"pool": {"session_state": "refuse", "max_connections": 1}})
    client = closing(proxy.wire())
    client.query("BEGIN")
    assert len(errors(client.query(f"LISTEN {name}"))) == 1
    assert client.status == "E"
    assert errors(client.query("SELECT 1")) == ["25P02"]
    client.query("ROLLBACK")
    assert client.status == "I" and client.value("SELECT 1") == "1"


def test_transaction_scoped_state_is_not_refused(make_proxy, closing, name):
    proxy = make_proxy({"pool": {"session_state": "refuse", "max_connections": 1}})
    client = closing(proxy.wire())
    for text in ("SELECT pg_advisory_xact_lock(1)", "BEGIN; DECLARE c CURSOR FOR SELECT 1; COMMIT",
                 f"SELECT 'LISTEN {name}; CREATE TEMP TABLE x()'", "SELECT 'pg_advisory_lock(1)'",
                 "-- LISTEN x\nSELECT 1", "SELECT 1 AS \"pg_advisory_lock\"", "SET LOCAL work_mem = '1MB'",
                 f"NOTIFY {name}", "UNLISTEN *"):
        assert not errors(client.query(text)), text
    assert proxy.metric("links_pinned") == 0


@pytest.mark.parametrize("make,use,_", CASES, ids=NAMES)
def test_only_logged_by_policy(make_proxy, closing, name, make, use, _):
    proxy = make_proxy({"pool": {"session_state": "log", "max_connections": 1}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    before = len(proxy.log())
    assert not errors(client.query(make.format(n=name)))
    assert proxy.metric("links_pinned") == 0
    assert other.value("SELECT 1") == "1"
    wait_until(lambda: len(proxy.log()) > before)


def test_pinned_clients_wait_like_others(make_proxy, closing):
    """Two links, two pinned clients: a third waits until one of them leaves, and is served then."""
    proxy = make_proxy({"pool": {"max_connections": 2}})
    pinned = [closing(proxy.wire()) for _ in range(2)]
    for client in pinned:
        client.query("CREATE TEMP TABLE mine (a int)")
    third = closing(proxy.wire())
    third.send(wire.query("SELECT 'served'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    assert pinned[1].value("SELECT count(*) FROM mine") == "0"
    pinned[0].close()
    assert wire.rows(third.until_ready()) == [["served"]]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_reset_runs_only_when_something_changed(make_proxy, mode):
    proxy = make_proxy({"pool": {"mode": mode, "max_connections": 1, "reset": "when_changed"}})
    for _ in range(3):
        client = proxy.wire()
        client.query("SELECT 1")
        client.close()
        wait_until(lambda: proxy.metric("clients") == 0)
    assert proxy.metric("resets_total") == 0
    client = proxy.wire()
    client.query("CREATE TEMP TABLE t (a int)")
    client.close()
    wait_until(lambda: proxy.metric("resets_total") == 1)


def test_reset_query_is_configurable(make_proxy, closing, postgres):
    proxy = make_proxy({"pool": {"mode": "session", "max_connections": 1, "reset": "when_changed",
                                 "reset_query": "DISCARD TEMP; SELECT pg_advisory_unlock_all(); UNLISTEN *"}})
    client = proxy.wire()
    pid = client.server_pid()
    client.query("CREATE TEMP TABLE t (a int); SELECT pg_advisory_lock(77)")
    client.close()
    wait_until(lambda: proxy.metric("resets_total") == 1)
    following = closing(proxy.wire())
    assert following.server_pid() == pid
    assert errors(following.query("SELECT * FROM t")) == ["42P01"]
    assert following.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"


def test_failing_reset_query_closes_the_link(make_proxy, closing):
    proxy = make_proxy({"pool": {"mode": "session", "max_connections": 1, "reset_query": "SELECT 1/0"}})
    client = proxy.wire()
    pid = client.server_pid()
    client.query("CREATE TEMP TABLE t (a int)")
    client.close()
    following = closing(proxy.wire())
    assert following.server_pid() != pid
    assert errors(following.query("SELECT * FROM t")) == ["42P01"]


def test_empty_reset_query_closes_the_link(make_proxy, closing):
    proxy = make_proxy({"pool": {"mode": "session", "max_connections": 1, "reset_query": ""}})
    client = proxy.wire()
    pid = client.server_pid()
    client.query("CREATE TEMP TABLE t (a int)")
    client.close()
    assert closing(proxy.wire()).server_pid() != pid


@pytest.mark.modes("session", "transaction")
def test_client_that_leaves_in_a_transaction(target, table):
    """Its work is rolled back and its locks are gone, however it went."""
    for how in ("close", "abort", "silent"):
        client = target.wire()
        client.query("BEGIN")
        client.query(f"LOCK TABLE {table}; INSERT INTO {table} VALUES (100, 'x')")
        {"close": client.close, "abort": client.abort, "silent": client.socket.close}[how]()
        other = target.wire()
        assert other.value(f"SELECT count(*) FROM {table}") == "10"


@pytest.mark.modes("session", "transaction")
def test_open_cursor_dies_with_its_transaction(target):
    client, other = target.wire(), target.wire()
    client.query("BEGIN")
    client.query("DECLARE c CURSOR FOR SELECT 1")
    client.query("COMMIT")
    other.query("SELECT 1")
    assert errors(client.query("FETCH c")) == ["34000"]
    other.query("BEGIN")
    assert not errors(other.query("DECLARE c CURSOR FOR SELECT 1"))
