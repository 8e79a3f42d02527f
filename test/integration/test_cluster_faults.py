"""
What happens to a cluster while clients are at work: roles that change under an open transaction, a standby that comes and goes,
a node whose clock is wrong. Real servers.
"""

import glob
import threading

import psycopg
import pytest

from harness.cluster import HEALTH, node, split_proxy, wait_split, wait_standings, who
from harness.proxy import Proxy
from harness.wait import wait_until
from harness.wire import query

from test_cluster import events
from test_split import new_cluster  # noqa: F401: a fixture

FAKETIME = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_transaction_on_a_primary_that_is_one_no_more(make_proxy, make_postgres, closing, mode):
    """Another node was promoted while the old primary lives: what it committed now would be lost, so it must not."""
    primary = make_postgres()
    standby = primary.standby()
    primary.sql("CREATE TABLE items (id int); GRANT ALL ON items TO PUBLIC", database="app")
    wait_until(lambda: standby.value("SELECT to_regclass('items') IS NOT NULL", database="app"))
    nodes = [Proxy.node(primary, "primary", name="a"), Proxy.node(standby, "standby", name="b")]
    proxy = make_proxy({"nodes": nodes, "health": HEALTH, "pool": {"mode": mode}}, postgres=primary)
    wait_standings(proxy, a="primary", b="standby")
    client = closing(proxy.wire())
    client.query("BEGIN")
    client.query("INSERT INTO items VALUES (1)")
    assert standby.value("SELECT pg_promote()")
    wait_standings(proxy, a="old_timeline", b="primary")
    messages = client.until_closed()
    assert [m.code for m in messages if m.kind == "E"] == ["57P01"]
    proxy.wait_log("client closed by the proxy.*must not be used any more")
    assert proxy.metric("links_expelled_total") == 1 and proxy.metric("node_refused", node="a") == 1
    wait_until(lambda: not primary.backends("datname = 'app'"))
    assert primary.value("SELECT count(*) FROM items", database="app") == 0
    again = closing(proxy.wire())
    again.query("INSERT INTO items VALUES (2)")
    assert standby.value("SELECT sum(id) FROM items", database="app") == 2


def test_a_standby_is_promoted_under_a_read_only_transaction(make_proxy, new_cluster, closing):  # noqa: F811
    """The transaction goes on where it began; the next one writes there."""
    primary, standby = new_cluster(1)
    proxy = split_proxy(make_proxy, [primary, standby])
    wait_split(proxy, "b")
    client = closing(proxy.wire())
    client.query("BEGIN READ ONLY")
    assert client.value("SELECT whoami()") == "b"
    primary.stop()
    assert standby.value("SELECT pg_promote()")
    wait_standings(proxy, a="down", b="primary")
    assert client.value("SELECT whoami()") == "b"
    client.query("COMMIT")
    wait_until(lambda: not [m for m in client.query("INSERT INTO items VALUES (1)") if m.kind == "E"], 60,
               lambda: proxy.log()[-3000:])
    assert standby.value("SELECT count(*) FROM items", database="app") >= 1


def test_the_primary_dies_in_a_transaction(make_proxy, new_cluster, closing):  # noqa: F811
    """Its client is told, and may go on with the new one by connecting again."""
    primary, standby = new_cluster(1)
    proxy = split_proxy(make_proxy, [primary, standby])
    client = closing(proxy.wire())
    client.query("BEGIN")
    client.query("INSERT INTO items VALUES (1)")
    primary.kill()
    codes = [m.code for m in client.until_closed() if m.kind == "E"]
    assert codes in (["08006"], ["57P01"]), "the server may have had the time to say so itself"
    assert standby.value("SELECT pg_promote()")
    wait_standings(proxy, a="down", b="primary")
    again = closing(proxy.wire())
    again.query("INSERT INTO items VALUES (2)")
    assert standby.value("SELECT sum(id) FROM items", database="app") == 2


def test_a_standby_that_flaps(make_proxy, new_cluster):  # noqa: F811
    """It comes and goes five times under reads: none fails, but one whose answer had begun, and each time is seen and told."""
    servers = new_cluster(1)
    proxy = split_proxy(make_proxy, servers)
    wait_split(proxy, "b")
    stop, failures, counts, cut = threading.Event(), [], [0] * 4, []

    def read_on(i):
        with proxy.connect() as db:
            while not stop.is_set():
                assert who(db) in "ab"
                counts[i] += 1

    def read(i):
        while not stop.is_set() and not failures:
            try:
                read_on(i)
            except psycopg.errors.ConnectionFailure as e:  # 08006: it had a part of the answer
                cut.append(e)
            except (psycopg.Error, AssertionError) as e:
                failures.append(e)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(counts))]
    for t in threads:
        t.start()
    try:
        for _ in range(5):
            servers[1].stop("immediate")
            wait_standings(proxy, a="primary", b="down")
            before = list(counts)
            wait_until(lambda: all(c > b + 5 for c, b in zip(counts, before)) or failures)
            servers[1].start()
            wait_standings(proxy, a="primary", b="standby")
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failures, f"{failures}\n{proxy.log()[-3000:]}"
    assert len(cut) <= 2, cut  # of some twenty that were under way
    wait_split(proxy, "b")
    seen = [e for e in events(proxy) if e[1] == "b" and e[0] in ("NODE_DOWN", "NODE_UP")]
    assert seen.count(("NODE_DOWN", "b")) == 5, seen
    assert proxy.log().count("node is unhealthy") == 5
    assert proxy.metric("node_up", node="b") == 1 and proxy.metric("topology_failovers_total") == 0


@pytest.mark.skipif(not FAKETIME, reason="needs the package libfaketime")
@pytest.mark.parametrize("hours", [1, -1])
def test_a_standby_whose_clock_is_wrong(make_proxy, make_postgres, hours):
    """Lag and routing do not go by it; it is shown and told."""
    primary = make_postgres({"helios.node": "a"})
    standby = primary.standby(**{"helios.node": "b"})
    standby.stop("fast")
    standby.wrapper = ["env", f"LD_PRELOAD={FAKETIME[0]}", f"FAKETIME={hours * 3600:+d}",
                       "FAKETIME_DONT_FAKE_MONOTONIC=1"]
    standby.start()
    primary.sql("CREATE FUNCTION whoami() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('helios.node') $$",
                database="app")
    proxy = split_proxy(make_proxy, [primary, standby])
    wait_split(proxy, "b")  # max_lag is 10 s
    found = node(proxy, "b")
    assert abs(found["clock_skew_ms"] - hours * 3600000) < 60000
    assert found["replication_lag_ms"] is not None and found["replication_lag_ms"] < 3000000
    assert abs(proxy.metric("node_clock_skew_seconds", node="b") - hours * 3600) < 60
    proxy.wait_log("the node's clock differs.*node=b")
    assert proxy.log().count("clock differs") == 1, "told once"


def test_all_standbys_are_gone_and_come_back(make_proxy, new_cluster, closing):  # noqa: F811
    """Reads go to the primary meanwhile; nobody hears of it but the person on call."""
    servers = new_cluster(2)
    proxy = split_proxy(make_proxy, servers)
    wait_split(proxy)
    client = closing(proxy.wire())
    for server in servers[1:]:
        server.kill()
    for _ in range(20):
        client.send(query("SELECT whoami()"))
        assert not [m for m in client.until_ready() if m.kind == "E"]
    wait_standings(proxy, a="primary", b="down", c="down")
    assert client.value("SELECT whoami()") == "a"
    assert proxy.metric("routed_total", to="primary", reason="no_standby") >= 1
    assert proxy.log().count("node is unhealthy") >= 2
    for server in servers[1:]:
        server.start()
    wait_standings(proxy, a="primary", b="standby", c="standby")
    wait_split(proxy)
