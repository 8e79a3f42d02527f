"""
What happens to a cluster while clients are at work: roles that change under an open transaction, a standby that comes and goes,
a node whose clock is wrong. Real servers.
"""

import glob
import os
import signal
import threading

import pytest

from harness.cluster import HEALTH, WHO, make_cluster, node, split_proxy, wait_split, wait_standings, who
from harness.fake import Cutter
from harness.later import Later
from harness.postgres import Postgres
from harness.proxy import Proxy
from harness.signals import stand_still
from harness.wait import wait_until
from harness.wire import bind, describe, errors, execute, parse, query, rows, sync, tags

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
    """It comes and goes five times under reads: none fails, and each time is seen and told."""
    servers = new_cluster(1)
    proxy = split_proxy(make_proxy, servers)
    wait_split(proxy, "b")
    stop, failures, counts = threading.Event(), [], [0] * 4

    def read(i):
        try:
            with proxy.connect() as db:
                while not stop.is_set():
                    assert who(db) in "ab"
                    counts[i] += 1
        except Exception as e:  # noqa: BLE001: whatever it is, the test fails with it
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
    wait_split(proxy, "b")
    seen = [e for e in events(proxy) if e[1] == "b" and e[0] in ("NODE_DOWN", "NODE_UP")]
    assert seen.count(("NODE_DOWN", "b")) == 5, seen
    assert proxy.log().count("node is unhealthy") == 5
    assert proxy.metric("node_up", node="b") == 1 and proxy.metric("topology_failovers_total") == 0


# ---- an answer that a standby does not end ----

MARK = "asked for here"


@pytest.fixture(scope="module")
def pair(template):
    """A primary and a standby, which tests leave as they were."""
    primary = Postgres(template, {"helios.node": "a"})
    try:
        servers = make_cluster(primary.start(), 1)
        primary.sql("CREATE FUNCTION tells() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'so far'; "
                    "RETURN whoami(); END $$", database="app")
        primary.sql("CREATE FUNCTION stands(g int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN IF g = 2 AND whoami() = 'b' "
                    "THEN PERFORM pg_sleep(600); END IF; RETURN whoami(); END $$", database="app")
        primary.sql("CREATE FUNCTION sleeps() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(600); "
                    "RETURN whoami(); END $$", database="app")
        yield servers
    finally:
        primary.remove()


@pytest.fixture
def cut_pair(make_proxy, pair, closing):
    """(proxy, relay): the answers of standby b can be cut."""
    relay = closing(Cutter(pair[1], MARK.encode()))
    proxy = split_proxy(make_proxy, [pair[0], relay])
    wait_split(proxy, "b")
    return proxy, relay


def batch_of(protocol, sql, first):
    """The same statement by any protocol; a prepared one is parsed the first time only."""
    bound = [bind("", "s" if protocol == "prepared" else "", [MARK]), describe("P"), execute(), sync()]
    return {"simple": [query(sql.replace("$1", f"'{MARK}'"))], "extended": [parse("", sql), *bound],
            "prepared": [parse("s", sql), *bound] if first else bound}[protocol]


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_a_short_answer_is_passed_on_when_it_is_whole(cut_pair, protocol):
    """Wherever in it the standby dies, the client has the primary's answer alone."""
    proxy, relay = cut_pair
    sql = "SELECT whoami(), $1::text, g FROM generate_series(1, 3) g"
    with proxy.wire() as c:
        def ask(first=False):
            c.send(*batch_of(protocol, sql, first))
            answer = c.until_ready()
            assert not errors(answer) and len(rows(answer)) == 3, answer
            nodes = {row[0] for row in rows(answer)}
            assert len(nodes) == 1 and tags(answer) == ["SELECT 3"]
            return nodes.pop(), answer

        for n in range(3):  # the long way, and the short one
            whole = ask(first=n == 0)[1]
        size = sum(len(m.body) + 5 for m in whole if m.kind != "1")  # that may be the proxy's own
        for cut_after in {*range(1, size, 12), size - 6, size - 1}:
            wait_until(lambda: ask()[0] == "b")
            repeated, relay.cut_after = proxy.metric("batches_repeated_total"), cut_after
            wait_until(lambda: [ask()[0], relay.cuts][1])
            relay.cuts = 0
            assert proxy.metric("batches_repeated_total") == repeated + 1, cut_after


@pytest.mark.parametrize("how", ["terminated", "stopped"])
def test_a_standby_that_says_good_bye_in_the_middle_of_an_answer(make_proxy, pair, how):
    """What it had made of the answer comes in front of that: rows, and then an error (57P01), or a warning."""
    standby = pair[1]
    proxy = split_proxy(make_proxy, pair)

    def read(c, protocol, first):
        wait_split(proxy, "b")
        c.send(*batch_of(protocol, f"SELECT stands(g), $1::text FROM generate_series(1, 2) g /* {protocol} */", first))
        backend, = wait_until(lambda: standby.backends("wait_event = 'PgSleep'"))
        if how == "terminated":
            standby.sql("SELECT pg_terminate_backend(%s)", [backend])
        else:
            standby.stop("immediate")
        answer = c.until_ready()
        assert rows(answer) == [["a", MARK]] * 2 and not errors(answer), answer

    with proxy.wire() as c:
        try:
            for protocol in ("simple", "extended", "prepared"):
                for first in (True, False) if how == "terminated" else ():
                    read(c, protocol, first)
            if how == "stopped":
                read(c, "simple", True)
        finally:
            if how == "stopped":
                standby.start()


def test_a_cancel_goes_along_when_a_standby_dies(make_proxy, pair):
    """The cancel was on its way there: what it is for is not to begin again elsewhere. What is behind it is not hit."""
    standby = pair[1]
    proxy = split_proxy(make_proxy, pair)
    wait_split(proxy, "b")
    with proxy.wire() as c:
        c.send(query("SELECT sleeps()"), query("SELECT 7"))
        wait_until(lambda: standby.backends("wait_event = 'PgSleep'"))
        standby.pause()
        try:
            cancel = Later(c.cancel)
            wait_until(lambda: proxy.metric("cancels_forwarded_total") == 1)
        finally:
            standby.kill()
            standby.start()
        assert errors(c.until_ready()) == ["57014"]
        assert rows(c.until_ready()) == [["7"]]
        cancel.result()


SHARED = {"proxy": {"workers": 1}, "pool": {"max_connections": 1, "share": "autocommit", "share_connections": 1,
                                            "share_max_cost": "1h", "share_stall": "1h"}}
SHORT = "SELECT datname FROM pg_database WHERE datname = 'app'"  # of the kind that is shared


@pytest.mark.parametrize("cancelled", [False, True])
def test_reads_on_a_shared_connection_go_home_when_their_standby_dies(make_proxy, pair, closing, cancelled):
    """The first of its line, those behind it, and all in turn; each has one answer."""
    standby = pair[1]
    proxy = split_proxy(make_proxy, pair, SHARED)
    clients = [closing(proxy.wire()) for _ in range(4)]

    def learn():
        for client in clients:
            wait_split(proxy, "b")
            client.query(SHORT)
        return proxy.metric("shared_requests_total") > 8
    wait_until(learn)
    backend, = wait_until(lambda: standby.backends("query = %s", [SHORT]))
    stand_still(backend)
    for client in clients:
        client.send(query(SHORT))
    wait_until(lambda: sum(s["state"] == "shared" for s in proxy.sessions()) == len(clients))
    for client in clients:
        client.send(query("SELECT 7"))
    if cancelled:
        cancel = Later(clients[0].cancel)
        wait_until(lambda: proxy.metric("cancels_forwarded_total") == 1)
    os.kill(backend, signal.SIGKILL)
    for i, client in enumerate(clients):
        first = client.until_ready()
        if cancelled and i == 0:
            assert errors(first) == ["57014"]
            cancel.result()
        else:
            assert rows(first) == [["app"]] and not errors(first), first
        assert rows(client.until_ready()) == [["7"]]
    assert proxy.metric("batches_repeated_total") > 0
    wait_split(proxy, "b")


def test_who_waits_for_a_shared_connection_goes_home_when_the_standby_dies(make_proxy, pair, closing):
    standby = pair[1]
    proxy = split_proxy(make_proxy, pair, SHARED)
    holder, *clients = [closing(proxy.wire()) for _ in range(4)]
    wait_split(proxy, "b")

    def learn():
        for client in clients:
            client.query(SHORT)
        return proxy.metric("shared_requests_total") > 8
    wait_until(learn)
    assert not errors(holder.query("BEGIN READ ONLY")) and holder.value(WHO) == "b"
    for client in clients:
        client.send(query(SHORT))
    wait_until(lambda: sum(s["state"] == "shared" for s in proxy.sessions()) == len(clients))
    standby.kill()
    try:
        for client in clients:
            answer = client.until_ready()
            assert rows(answer) == [["app"]] and not errors(answer), answer
    finally:
        standby.start()
    assert not errors(clients[0].query("SELECT 1"))


def test_a_notice_is_passed_on_at_once(cut_pair):
    proxy, relay = cut_pair
    relay.gate = threading.Event()
    sql = f"SELECT tells(), '{MARK}'"
    with proxy.wire() as c:
        wait_until(lambda: rows(c.query(sql)) == [["b", MARK]])
        relay.cut_after = sum(len(m.body) + 5 for m in (c.query(sql)[0], c.notices[-1]))
        c.send(query(sql))
        assert [c.read_raw().kind, c.read_raw().kind] == ["T", "N"]
        relay.gate.set()
        assert rows(c.until_ready()) == [["b", MARK]] and relay.cuts == 1


def test_a_longer_answer_is_passed_on_as_it_comes(cut_pair):
    """What a server sends at once of an answer that goes on is not held back. Then it can't be repeated."""
    proxy, relay = cut_pair
    relay.gate = threading.Event()
    row = "repeat('x', 1000)"
    with proxy.wire() as c:
        wait_until(lambda: c.value("SELECT whoami()") == "b")
        relay.cut_after = 8192
        c.send(query(f"SELECT {row}, whoami() FROM generate_series(1, 100) /* {MARK} */"))
        assert [c.read().kind for _ in range(5)] == list("TDDDD")
        relay.gate.set()
        assert len(rows(c.until_ready())) == 96 and relay.cuts == 1
        relay.gate = None
        relay.cut_after = 10000
        c.send(query(f"SELECT {row}, whoami() FROM generate_series(1, 100) /* {MARK} */"))
        assert 0 < len(rows(c.until_closed())) < 100, "in the middle of a message there is no place for an error"


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
