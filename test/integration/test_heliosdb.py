"""The proxy in front of HeliosDB: real servers, a primary and its standby. Only the last tests run where there are none."""

import re
import signal
import threading

import psycopg
import pytest

from harness import heliosdb
from harness.heliosdb import HeliosDB
from harness.wait import wait_until

needs_servers = pytest.mark.skipif(heliosdb.missing() != "", reason="not installed: " + heliosdb.missing())
pytestmark = [pytest.mark.timeout(240)]

WHO = "SELECT role FROM pg_replication_status"


@pytest.fixture
def make_server():
    made = []

    def make(role="standalone", upstream=None):
        server = HeliosDB(role, upstream)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.remove()


@pytest.fixture(scope="module")
def pair():
    """A primary and its standby. Each test leaves them running."""
    primary = HeliosDB("primary")
    standby = HeliosDB("standby", primary)
    try:
        primary.start()
        primary.ask("CREATE TABLE beats (proxy text PRIMARY KEY, beat bigint NOT NULL)")
        yield primary, standby.start()
    finally:
        standby.remove()
        primary.remove()


@pytest.fixture
def make(make_proxy):
    """The first one is said to be the primary: what it is, it says itself."""
    def made(servers, start=True, **config):
        nodes = [{"name": f"n{i}", "host": "127.0.0.1", "port": s.port, "role": "primary" if i == 1 else "standby"}
                 for i, s in enumerate(servers, 1)]
        return make_proxy({"topology": {"provider": "heliosdb"}, "nodes": nodes,
                           "health": {"user": "monitor", "database": "heliosdb", "check_interval": "1s"}, **config},
                          postgres=None, start=start, clock=False)
    return made


def connect(proxy, **more):
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user="app", dbname=more.pop("dbname", "heliosdb"),
                           autocommit=True, connect_timeout=60, **{"prepare_threshold": None, **more})


def one(db, sql, parameters=None):
    return db.execute(sql, parameters).fetchone()[0]


def standings(proxy):
    return [node["standing"] for node in proxy.json("/nodes")]


def wait_standings(proxy, *wanted):
    wait_until(lambda: standings(proxy) == list(wanted), 60, lambda: f"{standings(proxy)}\n{proxy.log()[-4000:]}")


@needs_servers
def test_roles_are_what_the_nodes_say(make, pair):
    proxy = make(reversed(pair), databases={"standby": {"dbname": "heliosdb", "node": "n1"}, "heliosdb": {}})
    wait_standings(proxy, "standby", "primary")
    topology = proxy.json("/topology")
    assert topology["currentPrimary"] == f"127.0.0.1:{pair[0].port}" and topology["rolesBy"] == "facts"
    standby, primary = proxy.json("/nodes")
    assert standby["in_recovery"] is True and primary["in_recovery"] is False
    # what it does not tell is not made up
    for what in "timeline", "current_lsn", "replay_lsn", "replay_paused", "streaming", "clock_skew_ms", "position":
        assert standby[what] is None and primary[what] is None
    assert 'heliosdb_proxy_node_clock_skew_seconds{' not in proxy.admin("/metrics")[1]
    wait_until(lambda: proxy.json("/nodes")[0]["sync_state"] == "async", 30)
    with connect(proxy) as db:
        assert one(db, WHO) == "primary"
        db.execute("CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, v text)")
        db.execute("INSERT INTO t VALUES (1, 'a')")
        assert one(db, "SELECT v FROM t WHERE id = 1") == "a"
        with db.transaction():
            db.execute("UPDATE t SET v = 'b' WHERE id = 1")
            assert one(db, WHO) == "primary"
    with connect(proxy, dbname="standby") as db:
        assert one(db, WHO) == "standby"
        wait_until(lambda: one(db, "SELECT v FROM t WHERE id = 1") == "b", 30)
        with pytest.raises(psycopg.Error, match="standby"):
            db.execute("INSERT INTO t VALUES (2, 'c')")
    assert not re.search("catalog of a database could not be read", proxy.log())


@needs_servers
def test_prepared_statements_of_clients_that_share_a_connection(make, pair):
    proxy = make(pair, pool={"max_connections": 1})
    wait_standings(proxy, "primary", "standby")
    with connect(proxy, prepare_threshold=0) as a, connect(proxy, prepare_threshold=0) as b:
        for i in range(3):
            assert one(a, "SELECT %s::int + 1", (i,)) == i + 1
            assert one(b, "SELECT %s::int + 2", (i,)) == i + 2


@needs_servers
def test_parameters_of_clients_that_share_a_connection(make, pair):
    """There is no set_config() in HeliosDB: they are given by SET."""
    proxy = make(pair, pool={"max_connections": 1})
    wait_standings(proxy, "primary", "standby")
    names = ["plain", "a; SELECT 1", "ISO, MDY"]
    clients = [connect(proxy, application_name=name) for name in names]
    for _ in range(2):
        for db, name in zip(clients, names):
            assert one(db, "SHOW application_name") == name
    clients[0].execute("SET statement_timeout = '7s'")
    assert one(clients[0], "SHOW statement_timeout") == "7s"
    assert one(clients[1], "SHOW statement_timeout") == "0"
    assert one(clients[0], "SHOW statement_timeout") == "7s"
    for db in clients:
        db.close()
    # quotes and backslashes are left out: that server reads them in more than one way
    for name in "a\\", "a'", "a\\'; DROP TABLE beats; --":
        with connect(proxy, application_name=name) as db:
            assert one(db, "SHOW application_name") == name.replace("\\", "").replace("'", "")
            assert one(db, "SELECT count(*) FROM beats") >= 0


@needs_servers
def test_heartbeats_tell_the_lag(make, pair):
    proxy = make(pair, lag_routing={"heartbeat_table": "beats", "heartbeat_interval": "200ms"})
    wait_standings(proxy, "primary", "standby")
    wait_until(lambda: proxy.json("/nodes")[1]["replication_lag_ms"] is not None, 30, proxy.log)
    assert pair[1].ask("SELECT beat FROM beats") > 0


@needs_servers
def test_the_primary_is_gone_and_comes_back(make, make_server):
    primary = make_server("primary")
    standby = make_server("standby", primary)
    proxy = make([primary, standby], health={"user": "monitor", "database": "heliosdb", "check_interval": "1s",
                                             "check_query": "SELECT 1", "failure_threshold": 1})
    wait_standings(proxy, "primary", "standby")
    primary.stop(signal.SIGKILL)
    wait_standings(proxy, "down", "standby")
    topology = proxy.json("/topology")
    assert topology["currentPrimary"] is None and topology["noPrimaryBecause"] == "the primary is down"
    primary.start()
    wait_standings(proxy, "primary", "standby")
    with connect(proxy) as db:
        assert one(db, WHO) == "primary"


@needs_servers
def test_a_standby_is_made_the_primary(make, make_server):
    """By hand: HeliosDB has no failover. Who waits meanwhile runs there."""
    primary = make_server("primary")
    standby = make_server("standby", primary)
    primary.ask("CREATE TABLE t (id int PRIMARY KEY)")
    proxy = make([primary, standby])
    wait_standings(proxy, "primary", "standby")
    wait_until(lambda: standby.ask("SELECT count(*) FROM pg_class WHERE relname = 't'") == 1, 30)
    with connect(proxy) as db:
        assert one(db, WHO) == "primary"
    primary.stop(signal.SIGKILL)
    standby.stop()
    standby.role, standby.upstream = "standalone", None
    standby.start()
    wait_standings(proxy, "down", "primary")
    with connect(proxy) as db:
        assert one(db, WHO) == "standalone"
        db.execute("INSERT INTO t VALUES (1)")
    topology = proxy.json("/topology")
    assert topology["currentPrimary"] == f"127.0.0.1:{standby.port}" and topology["lastFailoverAt"]


@needs_servers
def test_two_primaries_are_none(make, make_server):
    a, b = make_server("primary"), make_server("standalone")
    proxy = make([a, b])
    wait_standings(proxy, "contested", "contested")
    assert proxy.json("/topology")["writes"] == "held"
    proxy.wait_log("several nodes claim to be the primary")
    found = []
    waits = threading.Thread(target=lambda: found.append(one(connect(proxy), WHO)))
    waits.start()
    b.stop()
    waits.join(120)
    assert found == ["primary"]


@needs_servers
def test_an_observer_gets_no_queries(make, make_server, pair):
    proxy = make([make_server("observer"), *pair])
    wait_standings(proxy, "unknown", "primary", "standby")
    observer = proxy.json("/nodes")[0]
    assert "neither a primary nor a standby" in observer["check_error"] and observer["takes_reads"] is False
    with connect(proxy) as db:
        assert one(db, WHO) == "primary"


@needs_servers
def test_another_provider_after_a_reload(make, pair):
    proxy = make(pair)
    wait_standings(proxy, "primary", "standby")
    proxy.reload({"topology": {"provider": "postgres"}})
    wait_until(lambda: all(n["check_error"] for n in proxy.json("/nodes")), 30, proxy.log)
    proxy.reload({"topology": {"provider": "heliosdb"}})
    wait_until(lambda: not any(n["check_error"] for n in proxy.json("/nodes")), 30, proxy.log)
    wait_standings(proxy, "primary", "standby")


def test_nodes_that_are_no_heliosdb(make_proxy, postgres):
    """They are not taken for one: their roles stay unknown, and that is said."""
    proxy = make_proxy({"topology": {"provider": "heliosdb"},
                        "health": {"user": "postgres", "check_interval": "1s"}})
    proxy.wait_log("does not tell the monitor what it is")
    assert "pg_replication_status" in proxy.json("/nodes")[0]["check_error"]
    assert proxy.json("/topology")["rolesBy"] == "configuration"
