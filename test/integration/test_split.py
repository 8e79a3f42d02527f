"""
Reads go to standbys, all else to the primary: real servers that stream. Each has a setting of its own, helios.node, which a
function returns; so a query tells who has answered it.
"""

import threading
import urllib.parse

import psycopg
import pytest

from harness.cluster import NAMES, WHO, make_cluster, routed, split_proxy, wait_split, wait_standings, who
from harness.postgres import Postgres
from harness.proxy import Proxy
from harness.wait import wait_until
from harness.wire import bind, describe, errors, execute, flush, kinds, parse, query, rows, sync, tags


@pytest.fixture(scope="module")
def cluster(template):
    primary = Postgres(template, {"helios.node": "a"})
    try:
        yield make_cluster(primary.start(), 2)
    finally:
        primary.remove()


@pytest.fixture
def new_cluster(make_postgres):
    """One that may be broken: a primary and so many standbys."""
    return lambda standbys=1, **settings: make_cluster(make_postgres({"helios.node": "a"}), standbys, **settings)


def test_reads_go_to_standbys_in_turn(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.connect() as db:
        seen = [who(db) for _ in range(20)]
        assert min(seen.count("b"), seen.count("c")) >= 7, "one may be out of rotation for a moment"
    assert proxy.metric("routed_total", to="standby", reason="read") >= 20
    nodes = {pool["node"]: pool for pool in proxy.pools()}
    assert set(nodes) == {"a", "b", "c"}, "a pool on each node"


def test_traces_tell_the_node_and_the_reason(make_proxy, cluster, closing):
    pytest.importorskip("opentelemetry.proto", reason="needs opentelemetry-proto (requirements.txt)")
    from harness.collector import Collector
    collector = closing(Collector())
    proxy = split_proxy(make_proxy, cluster, {"telemetry": {
        "enabled": True, "endpoint": collector.url, "interval": "20ms", "metrics": False}})
    wait_split(proxy)
    with proxy.connect() as db:
        db.execute("SELECT count(*) FROM items")  # the long way, and then the short one
        db.execute("SELECT count(*) FROM items")
        db.execute("DELETE FROM items WHERE id = -1")
    reads = collector.wait_request("SELECT items", 2)
    write = collector.wait_request("DELETE items")
    assert {"helios.node": "a", "helios.node.role": "primary", "helios.route.reason": "write"} == write.events["helios.routed"]
    for read in reads:
        told = read.events["helios.routed"]
        assert told["helios.route.reason"] == "read" and told["helios.node"] in "bc"
        (server,) = [s for s in collector.children(read) if s.kind == "CLIENT"]
        assert server["server.port"] == cluster[NAMES.index(told["helios.node"])].port


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_every_protocol_is_split(make_proxy, cluster, protocol):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.wire() as c:
        seen = []
        for _ in range(8):
            if protocol == "simple":
                c.send(query(WHO))
            elif protocol == "extended":
                c.send(parse("", WHO), bind(), describe("P"), execute(), sync())
            else:
                c.send(*([] if seen else [parse("s", WHO)]), bind("", "s"), execute(), sync())
            answer = c.until_ready()
            assert not errors(answer)
            seen.append(rows(answer)[0][0])
        assert set(seen) == {"b", "c"}


@pytest.mark.parametrize("read", ["SELECT takes($1)", "SELECT count(*) FROM items WHERE id = takes($1)"])
@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_known_reads_that_a_standby_refuses(make_proxy, cluster, protocol, read):
    """They were reads until now. The error comes behind the description of a row, or when it is planned: the client has the
    primary's answer alone, once."""
    cluster[0].sql("CREATE OR REPLACE FUNCTION takes(n int) RETURNS bigint LANGUAGE plpgsql STABLE AS "
                   "$$ BEGIN RETURN CASE WHEN n > 0 THEN nextval('numbers') ELSE n END; END $$", database="app")
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.wire() as c:
        def batch(n):
            bound = [bind("", "s" if protocol == "prepared" else "", [n]), describe("P"), execute(), sync()]
            return {"simple": [query(read.replace("$1", str(n)))], "prepared": bound,
                    "extended": [parse("", read, [23]), *bound]}[protocol]

        def repeated():
            return proxy.metric("routed_total", to="primary", reason="repeated")

        if protocol == "prepared":
            c.send(parse("s", read, [23]), sync())
            c.until_ready()
        for n in (0, 0, 0, 0, 1, 0, 0, 1, 1, 0):
            before = repeated()
            c.send(*batch(n))
            answer = c.until_ready()
            assert kinds(answer) == {"simple": "TDCZ", "prepared": "2TDCZ", "extended": "12TDCZ"}[protocol], answer
            assert (int(rows(answer)[0][0]) > 0) == (n > 0 and "count" not in read) and c.status == "I"
            assert repeated() == before + n
    assert proxy.metric("batches_repeated_total") == 3


WRITES = ["INSERT INTO items VALUES (1000)", "DELETE FROM items WHERE id = 1000", "SELECT nextval('numbers')",
          "WITH w AS (INSERT INTO items VALUES (1001) RETURNING id) SELECT id FROM w", "SELECT adds(1002)",
          "DELETE FROM items WHERE id > 999", "SELECT * FROM items FOR UPDATE", "SELECT 1 AS x INTO made", "DROP TABLE made",
          "EXPLAIN ANALYZE INSERT INTO items VALUES (1003)", "DELETE FROM items WHERE id > 999",
          "SELECT pg_advisory_xact_lock(1)", "NOTIFY x", "SELECT pg_current_wal_lsn()", "LOCK TABLE items",
          "DO $$ BEGIN PERFORM nextval('numbers'); END $$", "CREATE TEMP TABLE t (x int); DROP TABLE t",
          "SELECT whoami(); DELETE FROM items", "TRUNCATE items"]


def test_what_writes_goes_to_the_primary(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.connect() as db, proxy.wire() as c:
        for statement in WRITES:
            if "LOCK TABLE" in statement:
                statement = f"BEGIN; {statement}; COMMIT"
            c.send(query(statement))
            assert not errors(c.until_ready()), statement
        for statement in WRITES:
            if ";" not in statement and "LOCK TABLE" not in statement:
                db.execute(statement, prepare=True)
    assert "read-only" not in proxy.log()


def test_a_read_sees_what_its_session_has_written(make_proxy, new_cluster):
    """A standby that applies half a second late: no read is stale, and after a while it is asked again."""
    primary, standby = new_cluster(1, recovery_min_apply_delay="500ms")
    proxy = split_proxy(make_proxy, [primary, standby])
    wait_split(proxy, "b")
    with proxy.connect() as db:
        db.execute("INSERT INTO items VALUES (1, '')")
        for i in range(300):
            db.execute("UPDATE items SET name = %s WHERE id = 1", (str(i),))
            assert db.execute("SELECT name FROM items WHERE id = 1").fetchone() == (str(i),)
        assert routed(proxy)["own_writes"] >= 100
        wait_split(proxy, "b", db)
        assert db.execute("SELECT name FROM items WHERE id = 1").fetchone() == ("299",)


@pytest.mark.parametrize("defer_begin", [False, True])
def test_reads_in_blocks(make_proxy, cluster, defer_begin):
    proxy = split_proxy(make_proxy, cluster, {"pool": {"defer_begin": defer_begin}})
    wait_split(proxy)
    with proxy.connect() as db:
        db.execute("BEGIN READ ONLY")
        first = who(db)
        assert first in "bc" and all(who(db) == first for _ in range(5)), "one node for all of a transaction"
        db.execute("COMMIT")
        db.execute("BEGIN")
        assert who(db) == "a", "it may write yet"
        db.execute("ROLLBACK")
        db.execute("BEGIN READ ONLY")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            db.execute("DELETE FROM items")
        db.execute("ROLLBACK")
        db.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")

        def reads_away():
            db.execute("BEGIN")
            answered = who(db)
            db.execute("COMMIT")
            return answered in "bc"

        wait_until(reads_away, 30, lambda: f"all of its transactions are READ ONLY now {routed(proxy)}")
        db.execute("BEGIN READ WRITE")
        db.execute("DELETE FROM items")
        db.execute("COMMIT")


def test_pipelines(make_proxy, cluster):
    """Reads and writes sent at once: each answered in its turn, by a node that may."""
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.wire() as c:
        for _ in range(5):
            c.send(query(WHO), query("DELETE FROM items"), query(WHO), query("INSERT INTO items VALUES (7, whoami())"),
                   query("BEGIN READ ONLY"), query(WHO), query("COMMIT"), query("SELECT id FROM items"))
            answer = c.until_ready(8)
            assert not errors(answer)
            assert [t.split()[0] for t in tags(answer)] == ["SELECT", "DELETE", "SELECT", "INSERT", "BEGIN", "SELECT",
                                                            "COMMIT", "SELECT"]
            assert rows(answer)[-1] == ["7"]
        for _ in range(5):  # one batch is one transaction: its read runs where its write does
            c.send(parse("", WHO), bind(), execute(), parse("", "INSERT INTO items VALUES (8, whoami())"), bind(), execute(),
                   parse("", "DELETE FROM items WHERE id = 8 RETURNING name"), bind(), execute(), sync())
            answer = c.until_ready()
            assert not errors(answer) and rows(answer) == [["a"], ["a"]]
        c.send(parse("", WHO), describe("S"), flush())  # answers are wanted before the batch is whole
        c.read_until("T")
        c.send(bind(), execute(), sync())
        answer = c.until_ready()
        assert not errors(answer) and rows(answer) == [["a"]]


def test_settings_go_along(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.wire() as c:
        c.send(query("SET timezone = 'Asia/Tokyo'"), query("SET search_path = pg_catalog, public"))
        c.until_ready(2)
        seen = set()

        def reads_right():
            c.send(query("SELECT whoami(), extract(timezone FROM timestamptz '2026-01-01')::int"))
            answer = c.until_ready()
            assert rows(answer)[0][1] == "32400"
            assert c.parameters["in_hot_standby"] == "off", "the client has nothing to hear of which node it is"
            seen.add(rows(answer)[0][0])
            return {"b", "c"} <= seen

        wait_until(reads_right)


def test_deferred_begin_goes_with_its_first_statement(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster, {"pool": {"defer_begin": True}})
    wait_split(proxy)
    with proxy.connect() as db:
        seen = set()
        for _ in range(4):
            db.execute("BEGIN READ ONLY")
            seen.add(who(db))
            db.execute("COMMIT")
        assert seen == {"b", "c"}, "BEGIN takes no turn of its own"
        for first in (WHO, "DELETE FROM items"):
            db.execute("BEGIN")
            db.execute(first)
            assert who(db) == "a"
            db.execute("ROLLBACK")
    assert proxy.metric("begins_deferred_total") == 6


def test_deferred_begin_goes_home_with_its_first_statement(make_proxy, cluster):
    """The standby's connection is killed before it has answered: both are run again, on the primary."""
    primary, *standbys = cluster
    proxy = split_proxy(make_proxy, cluster, {"pool": {"defer_begin": True}})
    wait_split(proxy)
    locked = "locktype = 'relation' AND relation = 'items'::regclass AND"
    with primary.admin(database="app") as locker, proxy.wire() as client:
        locker.execute("BEGIN; LOCK TABLE items")
        primary.sql("SELECT pg_logical_emit_message(true, '', '')")  # a commit, with which the lock is flushed and sent
        for standby in standbys:
            wait_until(lambda: standby.value(f"SELECT count(*) FROM pg_locks WHERE {locked} granted", database="app"))
        client.query("BEGIN READ ONLY")
        client.send(query("SELECT 'read', count(*) FROM items"))
        killed = "SELECT sum(pg_terminate_backend(pid)::int) FROM pg_locks WHERE " + locked + " NOT granted"
        wait_until(lambda: any(standby.value(killed, database="app") for standby in standbys))
        wait_until(lambda: primary.value(f"SELECT count(*) FROM pg_locks WHERE {locked} NOT granted", database="app"))
        locker.execute("ROLLBACK")
        answer = client.until_ready()
        assert [row[0] for row in rows(answer)] == ["read"] and client.status == "T"
        assert client.value(WHO) == "a" and client.value("SHOW transaction_read_only") == "on"
        assert tags(client.query("COMMIT")) == ["COMMIT"]
    assert proxy.metric("batches_repeated_total") == 1


def test_deferred_begin_that_failed_on_a_standby_leaves_nothing_there(make_proxy, cluster):
    """An error of the standby's own fails the transaction there: nobody may meet that connection again."""
    cluster[0].sql("CREATE OR REPLACE FUNCTION lies() RETURNS int LANGUAGE plpgsql STABLE AS "
                   "$$ BEGIN EXECUTE 'DELETE FROM items'; RETURN 1; END $$", database="app")
    proxy = split_proxy(make_proxy, cluster, {"pool": {"defer_begin": True, "max_connections": 1}})
    wait_split(proxy)
    with proxy.wire() as client:
        for _ in range(4):
            client.query("BEGIN READ ONLY")
            lie = "SELECT id FROM items WHERE id = lies()"  # it is called by the planner, before a row is described
            assert errors(client.query(lie)) == ["0A000"] and client.status == "E"
            assert errors(client.query(WHO)) == ["25P02"]
            assert tags(client.query("ROLLBACK")) == ["ROLLBACK"]
            assert {client.value(WHO) for _ in range(4)} <= set("abc")
    assert proxy.metric("batches_repeated_total") >= 1, routed(proxy)


def test_what_ties_a_session(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.connect() as db:
        db.execute("CREATE TEMP TABLE mine AS SELECT 1 AS x")
        assert who(db) == "a" and db.execute("SELECT x FROM mine").fetchone() == (1,)
        db.execute("DISCARD ALL")
        wait_split(proxy, "bc", db)
        db.execute("BEGIN READ ONLY")
        assert who(db) in "bc"
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="runs on a standby"):
            db.execute("SELECT pg_advisory_lock(1)")
        db.execute("ROLLBACK")


def test_a_standby_dies(make_proxy, new_cluster):
    """Clients read all the time, and one standby is killed, comes back and is killed again: no read fails."""
    servers = new_cluster(2)
    proxy = split_proxy(make_proxy, servers)
    wait_split(proxy)
    stop, failures, counts = threading.Event(), [], [0] * 4

    def read(i):
        try:
            with proxy.connect() as db:
                while not stop.is_set():
                    assert who(db) in "abc"
                    counts[i] += 1
        except Exception as e:  # noqa: BLE001: whatever it is, the test fails with it
            failures.append(e)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(counts))]
    for t in threads:
        t.start()
    try:
        for _ in range(2):
            before = list(counts)
            wait_until(lambda: all(c > b + 20 for c, b in zip(counts, before)) or failures)
            servers[1].kill()
            wait_standings(proxy, a="primary", b="down", c="standby")
            servers[1].start()
            wait_standings(proxy, a="primary", b="standby", c="standby")
            wait_split(proxy, "b")
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failures, f"{failures}\n{proxy.log()[-3000:]}"


def test_a_standby_hangs(make_proxy, new_cluster):
    """Its connections stand, so no read that is under way there would ever end: each runs on the primary, once that is
    known to be down. Not so within a transaction, which waits."""
    primary, standby = new_cluster(1)
    proxy = split_proxy(make_proxy, (primary, standby), {"health": {"check_timeout": "2s"}})
    wait_split(proxy, "b")
    read, locked = "SELECT 'read', count(*) FROM items", "locktype = 'relation' AND relation = 'items'::regclass AND"
    with primary.admin(database="app") as locker, proxy.wire() as simple, proxy.wire() as extended, proxy.wire() as within:
        within.query("BEGIN READ ONLY")
        within.query("SELECT 1")
        locker.execute("BEGIN; LOCK TABLE items")
        primary.sql("SELECT pg_logical_emit_message(true, '', '')")  # a commit, with which the lock is flushed and sent
        wait_until(lambda: standby.value(f"SELECT count(*) FROM pg_locks WHERE {locked} granted", database="app"))
        simple.send(query(read))
        extended.send(parse("s", read) + bind("", "s") + describe("P", "") + execute() + sync())
        within.send(query(read))
        held = f"SELECT count(*) FROM pg_locks WHERE {locked} NOT granted"
        wait_until(lambda: standby.value(held, database="app") == 3)
        standby.pause()
        try:
            wait_until(lambda: primary.value(held, database="app") == 2, 60, lambda: proxy.log()[-2500:])
            locker.execute("ROLLBACK")
            for client in (simple, extended):
                answer = client.until_ready()
                assert not errors(answer) and [row[0] for row in rows(answer)] == ["read"]
                assert client.value(WHO) == "a"
        finally:
            standby.resume()
        assert [row[0] for row in rows(within.until_ready())] == ["read"] and within.status == "T"
    assert proxy.metric("batches_repeated_total") == 2
    proxy.wait_log("its standby is down: a read that has no answer yet is run again")


def test_no_standby_is_left(make_proxy, new_cluster):
    servers = new_cluster(1)
    proxy = split_proxy(make_proxy, servers)
    wait_split(proxy, "b")
    with proxy.connect() as db:
        servers[1].stop()
        wait_standings(proxy, a="primary", b="down")
        assert who(db) == "a"
        assert proxy.metric("routed_total", to="primary", reason="no_standby") >= 1


def test_the_primary_never_reads(make_proxy, new_cluster):
    servers = new_cluster(1)
    proxy = split_proxy(make_proxy, servers, {"load_balancer": {"primary_reads": "never"}})
    wait_split(proxy, "b")
    with proxy.wire() as c:
        servers[1].stop()
        wait_standings(proxy, a="primary", b="down")
        for batch in ([query(WHO)], [parse("", WHO), bind(), execute(), sync()]):
            c.send(*batch)
            answer = c.until_ready()
            assert errors(answer) == ["57P03"]
        c.send(query("DELETE FROM items"))
        assert tags(c.until_ready()) == ["DELETE 0"]


def test_replay_that_stands_still(make_proxy, new_cluster):
    """A standby that lags too far takes no reads, and does again when it has caught up."""
    primary, standby = new_cluster(1)
    proxy = split_proxy(make_proxy, [primary, standby], {"lag_routing": {"max_lag_bytes": "64kB"}})
    wait_split(proxy, "b")
    with proxy.connect() as db:
        standby.sql("SELECT pg_wal_replay_pause()")
        primary.sql("INSERT INTO items SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g", database="app")
        wait_until(lambda: who(db) == "a", 30, lambda: f"{routed(proxy)} {proxy.json('/nodes')}")
        assert db.execute("SELECT count(*) FROM items").fetchone() == (5000,)
        assert proxy.metric("routed_total", to="primary", reason="lag") >= 1
        standby.sql("SELECT pg_wal_replay_resume()")
        wait_split(proxy, "b", db)


def test_split_is_turned_off_and_on(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.connect() as db:
        wait_split(proxy, "bc", db)
        proxy.reload({"load_balancer": {"read_write_split": False}})
        assert {who(db) for _ in range(10)} == {"a"}
        db.execute("INSERT INTO items VALUES (50)")
        proxy.reload({"load_balancer": {"read_write_split": True}})
        assert db.execute("SELECT count(*) FROM items WHERE id = 50").fetchone() == (1,), "nobody looked, and it is not stale"
        db.execute("DELETE FROM items")
        wait_split(proxy, "bc", db)


def test_a_database_on_one_node(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster, {"databases": {"app": {}, "there": {"dbname": "app", "node": "c"}}})
    wait_split(proxy)
    with proxy.connect(database="there") as db:
        assert {who(db) for _ in range(6)} == {"c"}


def test_writes_follow_a_promotion(make_proxy, new_cluster):
    primary, standby = new_cluster(1)
    proxy = split_proxy(make_proxy, [primary, standby])
    with proxy.connect() as db:
        db.execute("INSERT INTO items VALUES (1)")
        wait_until(lambda: standby.value("SELECT count(*) FROM items", database="app") == 1)
        primary.stop()
        assert standby.value("SELECT pg_promote()")
        wait_standings(proxy, a="down", b="primary")
        proxy.wait_log("queries for the primary go to another node.*node=b")

        def writes():
            try:
                return db.execute("INSERT INTO items VALUES (2)").rowcount == 1
            except psycopg.Error:
                return False

        wait_until(writes, 30, lambda: proxy.log()[-3000:])
        assert who(db) == "b"


def test_one_pool_shares_and_splits(make_proxy, cluster):
    """Shared links on the standbys, too."""
    proxy = split_proxy(make_proxy, cluster, {"pool": {"share": "autocommit", "max_connections": 2}})
    wait_split(proxy)
    clients = [proxy.wire() for _ in range(8)]
    try:
        for _ in range(20):
            for i, c in enumerate(clients):
                c.send(query(f"SELECT whoami(), {i}"))
            for i, c in enumerate(clients):
                answer = c.until_ready()
                assert not errors(answer) and rows(answer)[0][0] in "bc" and rows(answer)[0][1] == str(i)
    finally:
        for c in clients:
            c.close()


def test_hints(make_proxy, cluster):
    primary = cluster[0]
    primary.sql("CREATE OR REPLACE FUNCTION vague() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT whoami() $$",
                database="app")
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.wire() as c:
        def ask(text, extended=False):
            c.send(*([parse("", text), bind(), execute(), sync()] if extended else [query(text)]))
            answer = c.until_ready()
            assert not errors(answer), text
            told = [notice.fields["M"] for notice in c.notices]
            c.notices.clear()
            return rows(answer)[0][0], told

        for extended in (False, True):
            for name in "bc":
                wait_until(lambda: ask(f"/*+ node={name} */ {WHO}")[0] == name)  # noqa: B023
            for _ in range(4):
                assert ask(f"/* helios: route=primary */ {WHO}", extended) == ("a", [])
                assert ask(f"-- helios: consistency=strong\n{WHO}", extended) == ("a", [])
                assert ask(f"/*+ node=c */ {WHO}", extended) == ("c", []), str(routed(proxy))
                assert ask(f"/*+ node=a */ {WHO}", extended) == ("a", [])
            assert ask("SELECT vague()", extended) == ("a", []), "it may write"
            wait_until(lambda: ask("/* helios: route=standby */ SELECT vague()", extended)[0] in "bc",  # noqa: B023
                       30, lambda: routed(proxy))
            wait_until(lambda: ask(WHO)[0] in "bc")
            answered, told = ask(f"/* helios: route=nowhere, node=zz */ {WHO}", extended)
            assert answered in "bc" and len(told) == 2 and "zz" in "".join(told) and "nowhere" in "".join(told)
        c.send(query("SET helios.route = 'primary'"))
        c.until_ready()
        assert ask(WHO) == ("a", []) and ask("SHOW helios.route") == ("primary", [])
        assert ask(f"/*+ node=b */ {WHO}") == ("b", []), "a comment counts more"
        c.send(query("RESET helios.route"))
        c.until_ready()
        wait_until(lambda: ask(WHO)[0] in "bc")
        c.send(query("SET helios.lsn = 'FFFFFFFF/0'"))
        c.until_ready()
        assert ask(WHO)[0] == "a", "no standby has replayed as much"
        token = primary.value("SELECT pg_current_wal_insert_lsn()")
        c.send(query(f"SET helios.lsn = '{token}'"))
        c.until_ready()
        wait_until(lambda: ask(WHO)[0] in "bc")
    with proxy.connect(options="-c helios.route=primary") as db:
        assert who(db) == "a"
    proxy.reload({"routing_hints": {"enabled": False}})
    with proxy.connect() as db:
        wait_until(lambda: db.execute(f"/*+ node=a */ {WHO}").fetchone()[0] in "bc")


def test_a_hint_does_not_make_a_write_a_read(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.connect() as db:
        for route in ("standby", "async", "any"):
            db.execute(f"/* helios: route={route} */ INSERT INTO items VALUES (77)")
            db.execute(f"/* helios: route={route} */ DELETE FROM items WHERE id = 77")
    with proxy.connect() as db:
        assert db.execute("/* helios: route=standby */ SELECT adds(78)").fetchone() == (78,), \
            "it said that it reads, the standby refused, and the primary did it"
        assert proxy.metric("routed_total", to="primary", reason="repeated") == 1
        db.execute("DELETE FROM items WHERE id = 78")


def test_explain(make_proxy, cluster):
    """Asked beforehand, the proxy says where a query would go, and why."""
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)

    def explain(text, **more):
        return proxy.json("/api/routing/explain?" + urllib.parse.urlencode(
            {"database": "app", "user": "app", "query": text, **more}))

    read = explain(WHO)
    assert read["to"] == "standby" and read["node"] in "bc" and read["reason"] == "read" and read["catalog_known"]
    assert {n["node"]: n["may_read"] for n in read["standbys"]} == {"a": False, "b": True, "c": True}
    write = explain("SELECT nextval('numbers')")
    assert (write["to"], write["node"], write["reason"]) == ("primary", "a", "write") and write["statement_reason"] == "effects"
    assert explain(WHO, wrote=1)["reason"] == "own_writes"
    assert explain(f"/*+ node=c */ {WHO}")["node"] == "c"
    assert explain("BEGIN")["reason"] == "transaction" and explain("BEGIN", read_only=1)["reason"] == "read_only"
    assert proxy.admin("/api/routing/explain?database=app")[0] == 400
    assert proxy.admin("/api/routing/explain?database=nowhere&user=app&query=x")[0] in (200, 404)


@pytest.mark.parametrize("length", [0, 3])
def test_an_impossible_length_behind_a_known_read(make_proxy, cluster, length):
    """What is known is looked at in a hurry, but not beyond what has come."""
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.wire() as c:
        for _ in range(4):
            c.send(parse("", WHO), bind(), execute(), sync())
            assert not errors(c.until_ready())
        c.send(parse("", WHO), b"B" + length.to_bytes(4, "big"), sync())
        assert errors(c.until_closed()) == ["08P01"]
    with proxy.connect() as db:
        assert who(db) in "abc"
