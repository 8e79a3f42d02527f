"""
What the proxy knows of databases' catalogs, and when it reads them: from a real primary, on links of clients' pools.
POST /debug/catalogs asks as a client's query on each worker would.
"""

import json

import pytest

from harness import wait_until
from harness.cluster import split_proxy
from harness.wire import bind, errors, execute, parse, query, sync

DATABASE = "app"
WORKERS = 2  # of all proxies here but one


def ask(proxy, database=DATABASE, user="app"):
    """How many of the workers have a catalog that they may use now."""
    status, text = proxy.admin(f"/debug/catalogs?database={database}&user={user}", method="POST", body=b"")
    assert status == 200, text
    return json.loads(text)["known"]


def view(proxy, database=DATABASE):
    found = [entry for entry in proxy.json("/api/routing/catalogs") if entry["database"] == database]
    return found[0] if found else None


def wait_known(proxy, **ask_as):
    """Asks until all have one; what the admin API says of it then."""
    wait_until(lambda: ask(proxy, **ask_as) == WORKERS, message=lambda: f"{view(proxy)}\n{proxy.log()[-3000:]}")
    return view(proxy)


def wait_loads(proxy, count):
    """Until it was read so often; nobody asks meanwhile."""
    wait_until(lambda: view(proxy)["loads"] == count and not view(proxy)["loading"],
               message=lambda: f"{view(proxy)}\n{proxy.log()[-3000:]}")


def refresh(proxy, database=DATABASE):
    return proxy.admin(f"/api/routing/catalogs/{database}/refresh", method="POST", body=b"")[0]


@pytest.fixture
def slow_catalog(make_postgres):
    """A server, and what makes its catalog take until it is let go."""
    server = make_postgres()
    with server.admin(DATABASE) as blocker:
        blocker.autocommit = False

        class Slow:
            postgres = server

            @staticmethod
            def hold():
                blocker.execute("LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE")

            @staticmethod
            def let_go():
                blocker.rollback()

            @staticmethod
            def is_asked():
                return len(server.backends("wait_event_type = 'Lock' AND query LIKE '%trusted%'")) == 1

        yield Slow
        blocker.rollback()


def test_one_load_for_all_workers(make_proxy):
    proxy = make_proxy({"proxy": {"workers": 3}})
    assert view(proxy) is None
    assert ask(proxy) == 0, "nobody waits for it"
    wait_loads(proxy, 1)
    assert ask(proxy) == 3
    known = view(proxy)
    assert known["state"] == "current" and known["generation"] >= 1 and known["error"] is None
    assert known["failures"] == 0 and known["users"] == 0
    assert known["age_ms"] < 60000 and known["position"].count("/") == 1
    assert proxy.metric("catalog_loads_total") == 1
    assert proxy.metric("catalog_load_failures_total") == 0
    assert proxy.metric("catalog_usable", database=DATABASE) == 1
    assert proxy.metric("catalog_names", database=DATABASE) == known["names"]
    assert proxy.metric("catalog_age_seconds", database=DATABASE) < 60


def test_it_is_read_again_when_the_schema_has_changed(make_proxy, make_postgres):
    server = make_postgres()
    proxy = make_proxy(postgres=server)
    before = wait_known(proxy)
    server.sql("CREATE FUNCTION fresh() RETURNS int LANGUAGE sql AS 'SELECT 1'", database=DATABASE)
    assert ask(proxy) == WORKERS, "nobody has told"
    assert refresh(proxy) == 200
    assert view(proxy)["state"] == "outdated"
    assert proxy.metric("catalog_usable", database=DATABASE) == 0
    proxy.advance(30)  # it rests between two loads
    assert ask(proxy) == 0, "what is outdated is not used until it was read again"
    wait_loads(proxy, 2)
    assert ask(proxy) == WORKERS
    after = view(proxy)
    assert after["generation"] > before["generation"] and after["names"] == before["names"] + 1
    assert refresh(proxy, "nobody_asked_for_this") == 404


def test_it_is_read_again_from_time_to_time(make_proxy):
    proxy = make_proxy({"read_write_split": {"catalog_refresh": "100s"}})
    first = wait_known(proxy)
    proxy.advance(80)
    assert ask(proxy) == WORKERS and view(proxy)["loads"] == 1
    proxy.advance(30)
    assert ask(proxy) == WORKERS, "it is used while it is read again"
    wait_loads(proxy, 2)
    assert view(proxy)["generation"] > first["generation"]
    proxy.advance(250)
    assert view(proxy)["state"] == "old"
    assert ask(proxy) == 0, "nobody has asked for so long that it is not believed any more"
    wait_loads(proxy, 3)
    assert ask(proxy) == WORKERS
    assert view(proxy)["failures"] == 0


def test_a_change_while_it_is_read(make_proxy, slow_catalog):
    proxy = make_proxy(postgres=slow_catalog.postgres)
    slow_catalog.hold()
    assert ask(proxy) == 0
    wait_until(slow_catalog.is_asked)
    assert view(proxy)["loading"]
    assert refresh(proxy) == 200  # as a client whose change has just been committed
    slow_catalog.let_go()
    wait_loads(proxy, 1)
    assert view(proxy)["state"] == "outdated", "what was read may be from before the change"
    proxy.advance(300)
    assert ask(proxy) == 0
    wait_loads(proxy, 2)
    assert ask(proxy) == WORKERS


def test_a_refresh_that_takes_long_does_not_hold_up(make_proxy, slow_catalog):
    proxy = make_proxy(postgres=slow_catalog.postgres)
    first = wait_known(proxy)
    slow_catalog.hold()
    proxy.advance(70)
    assert ask(proxy) == WORKERS
    wait_until(slow_catalog.is_asked)
    assert ask(proxy) == WORKERS and view(proxy)["generation"] == first["generation"]
    assert slow_catalog.is_asked(), "one load at a time"
    slow_catalog.let_go()
    wait_loads(proxy, 2)


def test_one_that_takes_too_long_is_given_up(make_proxy, slow_catalog):
    proxy = make_proxy(postgres=slow_catalog.postgres)
    slow_catalog.hold()
    assert ask(proxy) == 0
    wait_until(slow_catalog.is_asked)
    proxy.advance(31)
    wait_until(lambda: view(proxy)["failures"] == 1)
    assert view(proxy)["error"] == "it took too long" and not view(proxy)["loading"]
    wait_until(lambda: proxy.open_links() == 0, message=lambda: "the link owes an answer: it is closed")
    slow_catalog.let_go()
    proxy.advance(300)
    wait_known(proxy)


def test_the_proxy_ends_while_one_is_read(make_proxy, slow_catalog):
    proxy = make_proxy(postgres=slow_catalog.postgres)
    slow_catalog.hold()
    assert ask(proxy) == 0
    wait_until(slow_catalog.is_asked)
    proxy.stop()


def test_a_server_that_is_gone(make_proxy, make_postgres):
    """Who can't be asked changes nothing either: what is known stays good."""
    server = make_postgres()
    proxy = make_proxy(postgres=server)
    wait_known(proxy)
    server.stop()
    proxy.advance(70)
    assert ask(proxy) == WORKERS
    wait_until(lambda: view(proxy)["failures"] > 0 and not view(proxy)["loading"])
    for _ in range(5):
        proxy.advance(100)
        assert ask(proxy) == WORKERS
        wait_until(lambda: not view(proxy)["loading"])
    failures = view(proxy)["failures"]
    assert failures > 2 and view(proxy)["state"] == "current"
    assert proxy.metric("catalog_load_failures_total") == failures
    server.start()
    for _ in range(10):
        proxy.advance(100)
        assert ask(proxy) == WORKERS
        wait_until(lambda: not view(proxy)["loading"])
        if view(proxy)["loads"] == 2:
            break
    assert view(proxy)["error"] is None and view(proxy)["failures_in_row"] == 0
    proxy.wait_log("the catalog of a database could be read again")


def test_a_failure_is_logged_once(make_proxy, make_postgres):
    server = make_postgres()
    with server.admin(DATABASE) as db:
        for i in range(20):
            db.execute(f"CREATE FUNCTION {'long_name_' * 5}{i}() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    proxy = make_proxy({"read_write_split": {"catalog_max_size": 1024}}, postgres=server)
    for failures in (1, 2, 3):
        proxy.advance(300)
        assert ask(proxy) == 0
        wait_until(lambda: view(proxy)["failures"] == failures and not view(proxy)["loading"])
    said = view(proxy)
    assert said["state"] == "none" and "catalog_max_size" in said["error"] and said["failures_in_row"] == 3
    assert proxy.log().count("the catalog of a database could not be read") == 1
    assert ask(proxy) == 0 and view(proxy)["failures"] == 3, "it rests before it tries again"
    proxy.reload({"read_write_split": {"catalog_max_size": "1MB"}})
    proxy.wait_log("configuration reloaded")
    proxy.advance(300)
    assert wait_known(proxy)["names"] > 20


def test_a_standby_is_not_asked(make_proxy, make_postgres):
    """What it says may be old; and its own WAL position says nothing."""
    standby = make_postgres().standby()
    proxy = make_proxy(postgres=standby)
    assert ask(proxy) == 0
    wait_until(lambda: view(proxy)["failures"] == 1)
    assert "recovery" in view(proxy)["error"]
    assert ask(proxy) == 0


def test_a_user_that_cannot_log_in(make_proxy):
    proxy = make_proxy()
    assert ask(proxy, user="nobody_is_called_so") == 0
    wait_until(lambda: view(proxy)["failures"] == 1)
    assert "nobody_is_called_so" in view(proxy)["error"]
    proxy.advance(300)
    wait_known(proxy, user="app")


def test_what_clients_and_roles_have_set_does_not_matter(make_proxy, make_postgres, closing):
    """An operator that stands before PostgreSQL's own in search_path would be called with each row."""
    server = make_postgres()
    with server.admin(DATABASE) as db:
        db.execute("CREATE FUNCTION bad(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$")
        db.execute("CREATE OPERATOR public.= (FUNCTION = bad, LEFTARG = oid, RIGHTARG = oid)")
        db.execute("ALTER ROLE app SET search_path = public, pg_catalog")
        db.execute("ALTER ROLE app SET default_transaction_isolation = 'serializable'")
        db.execute("CREATE ROLE plain")
        db.execute("GRANT plain TO app")
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1}}, postgres=server)
    client = closing(proxy.wire())
    client.query("SET search_path = public, pg_catalog")
    client.query("SET work_mem = '1234kB'")
    client.query("SET ROLE plain")
    wait_known(proxy)
    assert [client.value(f"SHOW {name}") for name in ("search_path", "work_mem", "role")] == \
        ["public, pg_catalog", "1234kB", "plain"]
    assert proxy.metric("links_opened_total") == 1
    assert proxy.metric("catalog_load_failures_total") == 0


def test_it_waits_for_a_connection_like_anybody(make_proxy, closing):
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1}})
    client = closing(proxy.wire())
    client.query("BEGIN")
    assert ask(proxy) == 0
    wait_until(lambda: proxy.metric("pool_links_waiting", database=DATABASE) == 1)
    client.query("COMMIT")
    wait_loads(proxy, 1)
    assert ask(proxy) == WORKERS
    assert client.value("SELECT 7") == "7"


def test_databases_have_their_own(make_proxy):
    """By their names on the server, whatever clients call them."""
    proxy = make_proxy({"databases": {"shop": {"dbname": "app"}, "app": {}, "other": {}}})
    wait_known(proxy)
    assert ask(proxy, database="shop") == WORKERS
    assert ask(proxy, database="other") == 0
    wait_until(lambda: ask(proxy, database="other") == WORKERS)
    assert {entry["database"]: entry["loads"] for entry in proxy.json("/api/routing/catalogs")} == {"app": 1, "other": 1}
    assert view(proxy)["generation"] != view(proxy, "other")["generation"]
    assert refresh(proxy, "other") == 200
    assert view(proxy)["state"] == "current" and view(proxy, "other")["state"] == "outdated"


def test_another_primary(make_proxy, make_postgres):
    """It may have lost changes that the old one had told of."""
    old = make_postgres()
    new = old.standby()
    proxy = split_proxy(make_proxy, [old, new])
    wait_known(proxy)
    old.stop()
    new.value("SELECT pg_promote()")
    wait_until(lambda: view(proxy)["state"] == "outdated", 60)
    loads = view(proxy)["loads"]
    wait_until(lambda: ask(proxy) == WORKERS, 60)
    assert view(proxy)["loads"] > loads


CHANGES = ["CREATE VIEW v1 AS SELECT nextval('s0')", "CREATE SEQUENCE s1", "CREATE POLICY p1 ON guarded USING (random() > 2)",
           "ALTER POLICY p0 ON guarded USING (random() > 3)", "CREATE UNLOGGED TABLE u1 (a int)",
           "DO $$ BEGIN CREATE TABLE d1 (a int); END $$", "ALTER FUNCTION f0() VOLATILE", "BEGIN; CREATE TABLE b1 (); COMMIT",
           f"/* {'long ' * 100000} */ SELECT 1; CREATE TABLE l1 (a int)", f"SELECT '{'long ' * 400000}'; CREATE TABLE l2 ()"]
OTHERS = ["CREATE INDEX ON guarded (a)", "CREATE TEMP TABLE t1 (a int)", "DROP TABLE gone", "INSERT INTO guarded VALUES (1)",
          "GRANT SELECT ON guarded TO PUBLIC", f"SELECT '{'long ' * 100000}'", "DO $$ BEGIN PERFORM 1; END $$"]


@pytest.fixture
def with_objects(make_postgres):
    server = make_postgres()
    with server.admin(DATABASE) as db:
        db.execute("SET ROLE app")
        for text in ("CREATE SEQUENCE s0", "CREATE TABLE guarded (a int)", "CREATE TABLE gone ()",
                     "CREATE POLICY p0 ON guarded", "CREATE FUNCTION f0() RETURNS int LANGUAGE sql AS 'SELECT 1'"):
            db.execute(text)
    return server


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_what_clients_change(make_proxy, with_objects, mode):
    proxy = make_proxy({"pool": {"mode": mode}, "read_write_split": {"catalog_refresh": "1h"}}, postgres=with_objects)
    wait_known(proxy)
    for text in CHANGES + OTHERS:
        with proxy.wire() as client:
            assert not errors(client.query(text)), text[:80]
        assert view(proxy)["state"] == ("outdated" if text in CHANGES else "current"), text[:80]
        if text in CHANGES:
            proxy.advance(30)  # it rests between two loads
            wait_known(proxy)


def test_a_change_counts_when_it_is_committed(make_proxy, with_objects, closing):
    proxy = make_proxy({"pool": {"mode": "transaction"}}, postgres=with_objects)
    wait_known(proxy)
    client = closing(proxy.wire())
    client.query("BEGIN")
    client.send(parse("", "CREATE VIEW v1 AS SELECT 1"), bind(), execute(), sync())
    client.until_ready()
    assert view(proxy)["state"] == "current", "nobody else sees it yet"
    client.query("COMMIT")
    assert view(proxy)["state"] == "outdated"


def test_a_change_with_something_behind_it(make_proxy, with_objects, closing):
    """Its client may know of it as soon as its ReadyForQuery has come, whatever is still under way."""
    proxy = make_proxy({"pool": {"mode": "transaction"}}, postgres=with_objects)
    wait_known(proxy)
    client = closing(proxy.wire())
    with with_objects.admin(DATABASE) as blocker:
        blocker.execute("SELECT pg_advisory_lock(1)")
        client.send(query("CREATE SEQUENCE s1"), query("SELECT pg_advisory_xact_lock(1)"))
        client.until_ready()
        assert view(proxy)["state"] == "outdated"
    client.until_ready()
