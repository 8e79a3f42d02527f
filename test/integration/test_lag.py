"""
Reads that must see what was written: they wait for a standby, and what others have written counts, too. Real servers that
stream; replay stands still, or is late. Each has a setting of its own, helios.node, so a query tells who has answered it.
"""

import asyncio
import threading

import asyncpg
import psycopg
import pytest

from harness.cluster import WHO, merged, node, proxy_for, routed, split_proxy, standings, wait_split, wait_standings, who
from harness.proxy import Proxy
from harness.wait import wait_until
from harness.wire import bind, describe, errors, execute, parse, query, rows, sync, tags

from test_split import cluster, new_cluster  # noqa: F401

PATIENT = {"lag_routing": {"wait": "600s", "max_lag": "600s"}}
COUNT = "SELECT count(*)::int, whoami() FROM items"


class Later:
    """What a function returns, or raises, on a thread of its own."""

    def __init__(self, function, *arguments):
        def run():
            try:
                self.value = function(*arguments)
            except Exception as e:
                self.error = e
        self.value = self.error = None
        self.thread = threading.Thread(target=run)
        self.thread.start()

    @property
    def is_over(self):
        return not self.thread.is_alive()

    def result(self):
        self.thread.join(60)
        assert self.is_over
        if self.error:
            raise self.error
        return self.value


def rows_of(db, sql=COUNT):
    return db.execute(sql).fetchone()


def waiting(proxy):
    return proxy.metric("clients_awaiting_replay")


def pause(*standbys):
    for standby in standbys:
        standby.sql("SELECT pg_wal_replay_pause()")
        wait_until(lambda: standby.value("SELECT pg_get_wal_replay_pause_state()") == "paused")


def resume(*standbys):
    for standby in standbys:
        standby.sql("SELECT pg_wal_replay_resume()")


@pytest.fixture
def patient(make_proxy, new_cluster):  # noqa: F811
    """(proxy, primary, standby): a read waits for as long as it takes."""
    def make(**config):
        primary, standby = new_cluster(1)
        proxy = split_proxy(make_proxy, [primary, standby], merged(PATIENT, config))
        wait_split(proxy, "b")
        return proxy, primary, standby
    return make


def test_a_read_waits_until_its_write_is_replayed(patient):
    proxy, _, standby = patient()
    before = routed(proxy).get("waited", 0), proxy.metric("replay_waits_total")
    with proxy.connect() as db:
        pause(standby)
        db.execute("INSERT INTO items VALUES (1)")
        read = Later(rows_of, db)
        wait_until(lambda: waiting(proxy) == 1)
        assert [s["state"] for s in proxy.sessions()] == ["waiting"]
        resume(standby)
        assert read.result() == (1, "b")
        assert (routed(proxy)["waited"] - 1, proxy.metric("replay_waits_total") - 1) == before and waiting(proxy) == 0
        assert "own_writes" not in routed(proxy)
        assert rows_of(db) == (1, "b") and routed(proxy)["waited"] - 1 == before[0], "what it wrote is known to be there"


def test_who_has_waited_long_enough_goes_to_the_primary(patient):
    proxy, _, standby = patient(lag_routing={"wait": "200ms"})
    with proxy.connect() as db:
        pause(standby)
        db.execute("INSERT INTO items VALUES (1)")
        assert rows_of(db) == (1, "a")
        assert routed(proxy)["own_writes"] >= 1 and waiting(proxy) == 0
        resume(standby)
        wait_split(proxy, "b", db)


@pytest.mark.parametrize("limit", ["200ms", "600s"])
def test_where_the_primary_never_reads(patient, limit):
    """There is nothing else than to wait, for query_wait_timeout."""
    proxy, _, standby = patient(load_balancer={"primary_reads": "never"}, lag_routing={"wait": "0s"},
                                pool={"query_wait_timeout": limit})
    with proxy.connect() as db:
        pause(standby)
        db.execute("INSERT INTO items VALUES (1)")
        read = Later(rows_of, db)
        if limit == "200ms":
            with pytest.raises(psycopg.errors.CannotConnectNow):
                read.result()
            resume(standby)
            wait_until(lambda: Later(rows_of, db).error is None)
        else:
            wait_until(lambda: waiting(proxy) == 1)
            resume(standby)
            assert read.result() == (1, "b")


def test_where_the_primary_never_reads_and_standbys_lag(patient):
    proxy, primary, standby = patient(load_balancer={"primary_reads": "never"}, lag_routing={"max_lag_bytes": "64kB"})
    with proxy.connect() as db, proxy.connect() as other:
        pause(standby)
        other.execute("INSERT INTO items SELECT g FROM generate_series(1, 20000) g")
        assert primary.value("SELECT count(*) FROM items", database="app") == 20000
        wait_until(lambda: proxy.json("/nodes/b")["replication_lag_bytes"] > 65536)
        read = Later(rows_of, db)
        wait_until(lambda: waiting(proxy) == 1)
        resume(standby)
        assert read.result()[1] == "b", "near enough is not all of it"


def test_a_client_cancels_or_leaves_while_it_waits(patient):
    proxy, _, standby = patient()
    with proxy.wire() as c, proxy.wire() as other:
        pause(standby)
        for client in (c, other):
            assert client.query("INSERT INTO items VALUES (1) ON CONFLICT DO NOTHING")
        for batch in ([query(COUNT)], [parse("", COUNT), bind(), execute(), sync()]):
            c.send(*batch)
            wait_until(lambda: waiting(proxy) == 1)
            c.cancel()
            assert errors(c.until_ready()) == ["57014"]
            assert waiting(proxy) == 0
        assert c.rows("SELECT 1 AS x FROM items FOR UPDATE") == [["1"]], "it goes on"
        other.send(query(COUNT))
        wait_until(lambda: waiting(proxy) == 1)
        other.abort()
        wait_until(lambda: waiting(proxy) == 0)
        resume(standby)
        wait_until(lambda: c.rows(COUNT) == [["1", "b"]])


def test_a_cancel_between_two_decisions(patient):
    """Positions were told while time stood still: it is to be decided anew where it goes, and waits for nothing."""
    proxy, _, standby = patient()
    with proxy.wire() as c:
        pause(standby)
        c.query("INSERT INTO items VALUES (1)")
        for batch in ([query(COUNT)], [parse("", COUNT), bind(), execute(), sync()]):
            c.send(*batch, query("SELECT 7 AS x FROM items FOR UPDATE"))
            wait_until(lambda: waiting(proxy) == 1)
            wait_until(lambda: proxy.admin("/api/v1/suspend", method="POST", body=b"")[0] == 200)
            wait_until(lambda: waiting(proxy) == 0)
            assert proxy.admin(f"/api/v1/sessions/{c.backend_key[0]}/cancel", method="POST", body=b"")[0] == 202
            assert proxy.admin("/api/v1/resume", method="POST", body=b"")[0] == 200
            assert errors(c.until_ready()) == ["57014"]
            assert rows(c.until_ready()) == [["7"]], "the next one is not hit"
        resume(standby)
        wait_until(lambda: c.rows(COUNT) == [["1", "b"]])


def test_all_cancel_while_they_wait(patient):
    """Some will do so in the moment of a new decision."""
    proxy, _, standby = patient(proxy={"workers": 2})
    clients = [proxy.wire() for _ in range(25)]
    try:
        pause(standby)
        for c in clients:
            c.query("INSERT INTO items VALUES (1) ON CONFLICT DO NOTHING")
        for n in range(4):
            for c in clients:
                c.send(query(COUNT) if n % 2 else parse("", COUNT) + bind() + execute() + sync())
            wait_until(lambda: waiting(proxy) == 25)
            for cancel in [Later(c.cancel) for c in clients]:
                cancel.result()
            assert {tuple(errors(c.until_ready())) for c in clients} == {("57014",)}
    finally:
        for c in clients:
            c.close()


def test_the_order_of_a_pipeline_is_kept(patient):
    proxy, _, standby = patient()
    with proxy.wire() as c:
        pause(standby)
        c.query("INSERT INTO items VALUES (1)")
        c.send(query(COUNT), query("INSERT INTO items VALUES (2)"), parse("", COUNT), bind(), execute(), sync(), query("SELECT 7"))
        wait_until(lambda: waiting(proxy) == 1)
        assert c.is_quiet()
        resume(standby)
        answers = [c.until_ready() for _ in range(4)]
        assert rows(answers[0]) == [["1", "b"]] and tags(answers[1]) == ["INSERT 0 1"]
        assert rows(answers[2])[0][0] == "2" and rows(answers[3]) == [["7"]]


def test_a_transaction_that_reads_waits_as_a_whole(patient):
    proxy, _, standby = patient(pool={"defer_begin": True})
    with proxy.wire() as c:
        pause(standby)
        c.query("INSERT INTO items VALUES (1)")
        c.query("BEGIN READ ONLY")
        c.send(query(COUNT))
        wait_until(lambda: waiting(proxy) == 1)
        resume(standby)
        assert rows(c.until_ready()) == [["1", "b"]]
        c.query("COMMIT")


@pytest.mark.parametrize("how", ["no_wait", "no_split", "no_standby"])
def test_what_ends_the_wait_early(patient, how):
    proxy, _, standby = patient()
    with proxy.connect() as db:
        pause(standby)
        db.execute("INSERT INTO items VALUES (1)")
        read = Later(rows_of, db)
        wait_until(lambda: waiting(proxy) == 1)
        if how == "no_standby":
            standby.kill()
        else:
            proxy.reload({"lag_routing": {"wait": "0s"}} if how == "no_wait" else
                         {"load_balancer": {"read_write_split": False}})
        assert read.result() == (1, "a")
        assert waiting(proxy) == 0
        assert rows_of(db) == (1, "a")


def test_a_shutdown_waits_for_who_waits(patient):
    proxy, _, standby = patient()
    with proxy.connect() as db:
        pause(standby)
        db.execute("INSERT INTO items VALUES (1)")
        read = Later(rows_of, db)
        wait_until(lambda: waiting(proxy) == 1)
        stop = Later(proxy.stop)
        proxy.wait_log("shut|drain")
        assert not read.is_over
        resume(standby)
        assert read.result() == (1, "b")
        stop.result()


def test_many_wait_and_all_come_back(patient):
    proxy, _, standby = patient(proxy={"workers": 2})
    clients = [proxy.connect() for _ in range(30)]
    try:
        pause(standby)
        clients[0].execute("INSERT INTO items VALUES (1)")
        for db in clients[1:]:
            db.execute("UPDATE items SET name = 'x' WHERE id = 1")
        reads = [Later(rows_of, db) for db in clients]
        wait_until(lambda: waiting(proxy) == 30)
        resume(standby)
        assert {read.result() for read in reads} == {(1, "b")}
        assert waiting(proxy) == 0
    finally:
        for db in clients:
            db.close()


# ---- whose writes count ----


def test_what_the_same_user_has_written(patient):
    proxy, primary, standby = patient(lag_routing={"read_your_writes": "user"}, proxy={"workers": 2})
    primary.sql("GRANT ALL ON items TO app2", database="app")
    with proxy.connect() as writer, proxy.connect() as reader, proxy.connect(user="app2") as other:
        wait_split(proxy, "b", other)
        pause(standby)
        writer.execute("INSERT INTO items VALUES (1)")
        read = Later(rows_of, reader)
        wait_until(lambda: waiting(proxy) == 1)
        assert rows_of(other) == (0, "b"), "another user"
        late = Later(lambda: rows_of(proxy.connect()))
        wait_until(lambda: waiting(proxy) == 2)
        resume(standby)
        assert read.result() == (1, "b") == late.result()


def test_what_anybody_has_written(patient):
    proxy, primary, standby = patient(lag_routing={"read_your_writes": "global"}, proxy={"workers": 2},
                                      users={"app2": {"read_your_writes": "session"}})
    with proxy.connect() as writer, proxy.connect(user="trust_user") as reader, proxy.connect(user="app2") as modest:
        for db in (reader, modest):
            wait_split(proxy, "b", db)
        pause(standby)
        writer.execute("INSERT INTO items VALUES (1)")
        read = Later(rows_of, reader)
        wait_until(lambda: waiting(proxy) == 1)
        assert rows_of(modest) == (0, "b"), "its user has said so"
        resume(standby)
        assert read.result() == (1, "b")


def test_who_writes_all_the_time_keeps_nobody_waiting_for_ever(patient):
    """A read waits for what was written before it came, and not for what comes after."""
    proxy, _, standby = patient(lag_routing={"read_your_writes": "user"}, proxy={"workers": 2})
    stop = threading.Event()

    def write():
        with proxy.connect() as db:
            n = 0
            while not stop.is_set():
                n += 1
                db.execute("INSERT INTO items VALUES (%s)", (n,))
        return n
    writer = Later(write)
    try:
        with proxy.connect() as db:
            assert "b" in [who(db) for _ in range(20)], "or the primary's turn, while the standby is too late"
    finally:
        stop.set()
    assert writer.result() > 0


@pytest.mark.parametrize("how", ["session_mode", "pinned"])
def test_who_keeps_its_connection_is_heard_of_as_well(patient, how):
    """Nothing tells that a server connection is free again: the answer itself has to."""
    config = {"users": {"trust_user": {"mode": "session"}}} if how == "session_mode" else {}
    proxy, _, standby = patient(lag_routing={"read_your_writes": "global"}, **config)
    with proxy.connect(user="trust_user") as writer, proxy.connect() as reader:
        if how == "pinned":
            writer.execute("CREATE TEMP TABLE mine (x int)")
        wait_split(proxy, "b", reader)
        pause(standby)
        for n in range(3):
            writer.execute("INSERT INTO items VALUES (%s)", (n,))
            resume(standby) if n else None
            read = Later(rows_of, reader)
            if n == 0:
                wait_until(lambda: waiting(proxy) == 1)
                resume(standby)
            assert read.result() == (n + 1, "b")
            if n == 0:
                pause(standby)


# ---- helios.lsn ----


def test_a_token_goes_from_one_session_to_another(patient):
    proxy, _, standby = patient()
    with proxy.connect() as writer, proxy.connect() as reader:
        assert writer.execute("SHOW helios.lsn").fetchone() == ("0/0",)
        reader.execute("SET helios.lsn = '0/0'")
        pause(standby)
        writer.execute("INSERT INTO items VALUES (1)")
        cursor = writer.execute("show HELIOS.lsn ;")
        assert cursor.description[0].name == "helios.lsn"
        token, = cursor.fetchone()
        assert rows_of(reader) == (0, "b")
        reader.execute(f"SET helios.lsn = '{token}'")
        assert reader.execute("SHOW helios.lsn").fetchone() == (token,), "it can be handed on"
        read = Later(rows_of, reader)
        wait_until(lambda: waiting(proxy) == 1)
        resume(standby)
        assert read.result() == (1, "b")


def test_a_token_by_any_protocol(patient):
    """Prepared once and executed again behind other writes: each time the newest."""
    proxy, _, _ = patient()
    seen = []
    with proxy.wire() as c:
        for n in range(3):
            assert not errors(c.query(f"INSERT INTO items VALUES ({n})"))
            if n == 0:
                c.send(parse("s", "SHOW helios.lsn"), describe("S", "s"), sync())
                assert not errors(c.until_ready())
            c.send(bind("", "s"), execute(), sync())
            answer = c.until_ready()
            assert not errors(answer), errors(answer)
            seen.append(rows(answer)[0][0])
            c.send(parse("", "/* mine */ show helios.lsn;"), bind(), execute(), sync())
            assert rows(c.until_ready()) == [[seen[-1]]]
    assert len(set(seen)) == 3 and seen == sorted(seen, key=lambda lsn: [int(part, 16) for part in lsn.split("/")])

    async def by_asyncpg():
        db = await asyncpg.connect(host=proxy.address[0], port=proxy.address[1], user="app", database="app")
        try:
            await db.execute("INSERT INTO items VALUES (10)")
            return await db.fetchval("SHOW helios.lsn"), await db.fetchval("SHOW helios.lsn")
        finally:
            await db.close()

    first, second = asyncio.run(by_asyncpg())
    assert first == second != "0/0"


def test_a_token_that_cannot_be_known(patient):
    """Nobody is asked for positions: an error, and the session goes on."""
    proxy, _, _ = patient(pool={"query_wait_timeout": "200ms"})
    proxy.reload({"lag_routing": {"poll_interval": "0s"}})
    with proxy.connect() as db:
        db.execute("INSERT INTO items VALUES (1)")
        with pytest.raises(psycopg.errors.CannotConnectNow):
            db.execute("SHOW helios.lsn")
        assert rows_of(db)[0] == 1


# ---- how far a standby may lag ----


def test_limits_of_lag_by_user_and_by_node(make_proxy, new_cluster):  # noqa: F811
    """b is late by intention: by its own limit it may be, but not for the user who wants no old rows."""
    primary, standby = new_cluster(1)
    nodes = [Proxy.node(primary, "primary", name="a"), Proxy.node(standby, "standby", name="b", max_lag="1000s")]
    proxy = split_proxy(make_proxy, [primary, standby], {
        "nodes": nodes, "lag_routing": {"max_lag": "200ms"},
        "users": {"app2": {"max_lag": "200ms"}, "trust_user": {"max_lag_bytes": "16kB"}}})
    wait_split(proxy, "b")
    users = {user: proxy.connect(user=user) for user in ("app", "app2", "trust_user")}
    try:
        for db in users.values():
            wait_split(proxy, "b", db)
        pause(standby)
        primary.sql("INSERT INTO items SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g", database="app")
        wait_until(lambda: who(users["app2"]) == "a" and who(users["trust_user"]) == "a")
        assert who(users["app"]) == "b"
        assert users["app"].execute("/*+ lag=10ms */ " + WHO).fetchone() == ("a",)
        explained = proxy.json("/api/routing/explain?database=app&user=app2&query=SELECT+1")
        assert explained["reason"] == "lag" and explained["rules"]["max_lag_ms"] == 200
        assert explained["rules"]["max_lag_is_the_users"] and not explained["standbys"][1]["may_read"]
        explained = proxy.json("/api/routing/explain?database=app&user=app&query=SELECT+1&lsn=FFFFFFFF/0")
        assert explained["reason"] == "own_writes" and explained["waits_first"] is False
        resume(standby)
        for db in users.values():
            wait_split(proxy, "b", db)
    finally:
        for db in users.values():
            db.close()


# ---- several primaries ----


def test_writes_are_refused_when_several_nodes_claim_to_be_the_primary(make_proxy, make_postgres):
    """Two clusters that were copied from one. With the policy to hold, see test_cluster.py."""
    first, second = make_postgres(), make_postgres()
    second.stop()
    proxy = proxy_for(make_proxy, first, second, config={"topology": {"when_contested": "refuse"}})
    wait_standings(proxy, a="primary", b="down")
    assert proxy.json("/topology")["writes"] == "go"
    with proxy.connect() as db:
        db.execute("CREATE TABLE kept (x int)")
        second.start()
        wait_standings(proxy, a="contested", b="contested")
        for prepare in (False, True):
            with pytest.raises(psycopg.errors.CannotConnectNow, match="several nodes claim to be the primary: a, b"):
                db.execute("INSERT INTO kept VALUES (1)", prepare=prepare)
        assert proxy.json("/topology")["writes"] == "refused"
        assert proxy.metric("topology_writes_refused") == 1 and proxy.metric("writes_refused_total") == 2
        proxy.wait_log("error several nodes claim to be the primary.*REFUSED.*nodes=a,b")
        proxy.reload({"topology": {"when_contested": "hold"}})
        write = Later(db.execute, "INSERT INTO kept VALUES (2)")
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        assert proxy.metric("topology_writes_held") == 1
        proxy.reload({"topology": {"when_contested": "refuse"}})
        with pytest.raises(psycopg.errors.CannotConnectNow):
            write.result()
        second.stop()
        wait_standings(proxy, a="primary", b="down")
        db.execute("INSERT INTO kept VALUES (3)")
    assert first.value("SELECT array_agg(x) FROM kept", database="app") == [3]
    assert standings(proxy)["a"] == "primary" and node(proxy, "a")["standing"] == "primary"


# ---- circuit breakers by kind of standby ----


def test_a_synchronous_standby_has_a_threshold_of_its_own(make_proxy, new_cluster):  # noqa: F811
    primary, standby = new_cluster(1)
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.sql("SELECT pg_reload_conf()")
    proxy = split_proxy(make_proxy, [primary, standby], {
        "circuit_breaker": {"enabled": True, "failure_threshold": 1000, "failure_rate": 1, "open": "600s",
                            "error_codes": ["22012"], "sync_modes": {"sync_threshold": 2}}})
    wait_until(lambda: node(proxy, "b")["sync_state"] == "sync")
    wait_split(proxy, "b")
    with proxy.wire() as c:
        def state():
            c.query("SELECT 1 / (whoami() <> 'b')::int")
            return node(proxy, "b")["circuit"]
        wait_until(lambda: state() == "open")
        for _ in range(5):
            c.query("SELECT 1 / (whoami() <> 'a')::int")
        assert node(proxy, "a")["circuit"] == "closed"


# ---- heartbeats ----

BEATS = {"lag_routing": {"heartbeat_table": "helios.heartbeat", "heartbeat_interval": "100ms"}}
MAKE_BEATS = "CREATE SCHEMA helios; CREATE TABLE helios.heartbeat (proxy text PRIMARY KEY, beat bigint NOT NULL)"


def test_heartbeats_tell_how_far_a_standby_lags(make_proxy, make_postgres):
    """Nobody writes, and nobody asks for positions: only heartbeats show that replay stands still."""
    primary = make_postgres()
    primary.sql(MAKE_BEATS)
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary, standby, health={"check_interval": "86400s", "check_jitter": 0}, config=BEATS)
    wait_standings(proxy, a="primary", b="standby")

    def lag():
        return node(proxy, "b")["replication_lag_ms"]
    for name in "ab":
        wait_until(lambda: proxy.metric("node_heartbeats_total", node=name) > 3)
    pause(standby)
    wait_until(lambda: (lag() or 0) > 1000)
    resume(standby)
    wait_until(lambda: lag() == 0)
    assert proxy.metric("node_position_questions_total", node="b") == 0
    assert primary.value("SELECT count(*) FROM helios.heartbeat") == 1, "one row for each proxy"


def test_a_heartbeat_that_cannot_be_written(make_proxy, make_postgres):
    """Said once; the node is well, and lag is what positions say. It begins by itself when the table is there."""
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary, standby, config=BEATS)
    wait_standings(proxy, a="primary", b="standby")
    wait_until(lambda: all(proxy.metric("node_heartbeat_failures_total", node=name) > 3 for name in "ab"))
    wait_until(lambda: node(proxy, "b")["replication_lag_ms"] == 0)
    for name in "ab":
        assert len([line for line in proxy.log_lines() if "a heartbeat could not be" in line and f"node={name}" in line]) == 1
    assert standings(proxy) == {"a": "primary", "b": "standby"}
    primary.sql(MAKE_BEATS)
    wait_until(lambda: all(proxy.metric("node_heartbeats_total", node=name) > 3 for name in "ab"))
    with primary.admin() as db:
        db.autocommit = False
        db.execute("LOCK TABLE helios.heartbeat")
        failed = proxy.metric("node_heartbeat_failures_total", node="a")
        wait_until(lambda: proxy.metric("node_heartbeat_failures_total", node="a") > failed)
        db.rollback()
    assert standings(proxy)["a"] == "primary"
