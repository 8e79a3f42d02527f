"""
Members of the cluster that come and go at run time: added and removed over the admin API, enabled and disabled, named as
the primary, discovered; on real servers that stream.
"""

import json
import os
import time

import pytest

from harness.cluster import HEALTH, POOL, make_cluster, merged, node, wait_split, wait_standings, who
from harness.crowd import crowd
from harness.proxy import Proxy
from harness.wait import wait_until


def call(proxy, path, body=None, method="POST", expected=200):
    status, text = proxy.admin(path, method=method, body=b"" if body is None else json.dumps(body).encode())
    assert status == expected, f"{path}: {status} {text}"
    return json.loads(text)


def member(server, name, **more):
    return {"host": server.host, "port": server.port, "name": name, **more}


def names(proxy):
    return [n["name"] for n in proxy.json("/nodes")]


def proxy_of(make_proxy, primary, *standbys, **config):
    nodes = [Proxy.node(primary, name="a")] + [Proxy.node(s, "standby", name=n) for s, n in zip(standbys, "bc")]
    proxy = make_proxy(merged({"nodes": nodes, "health": HEALTH}, POOL, config), postgres=primary)
    wait_standings(proxy, a="primary", **{n: "standby" for n in "bc"[:len(standbys)]})
    return proxy


@pytest.fixture
def servers(make_postgres):
    return lambda standbys=1, **settings: make_cluster(make_postgres({"helios.node": "a"}), standbys, **settings)


@pytest.fixture
def state_file(tmp_path):
    return str(tmp_path / "members.json")


# ---- added and removed


def test_a_standby_is_added_serves_and_is_removed_under_load(make_proxy, servers):
    a, b = servers()
    proxy = proxy_of(make_proxy, a)
    with proxy.connect() as db, crowd(lambda: db.execute("SELECT 1").fetchone(), count=1):
        assert who(proxy_connection := proxy.connect()) == "a"
        proxy_connection.close()
        added = call(proxy, "/nodes", member(b, "b", weight=7, zone="z"), expected=201)
        assert added == {"status": "added", "node": f"127.0.0.1:{b.port}", "name": "b", "persisted": False,
                         "applied": True}
        found = node(proxy, "b")
        assert (found["source"], found["weight"], found["zone"], found["role"]) == ("manual", 7, "z", "standby")
        assert node(proxy, "a")["source"] == "configuration"
        wait_standings(proxy, a="primary", b="standby")
        wait_split(proxy, "b")

    def read():
        with proxy.connect() as db:
            for _ in range(20):
                assert who(db) in "ab"

    with crowd(read, count=3) as readers:
        for _ in range(3):
            readers.goes_on()
            assert proxy.admin("/nodes/b", method="DELETE")[0] in (200, 202)
            assert names(proxy) == ["a"]
            wait_until(lambda: proxy.admin("/nodes/b", method="DELETE")[0] == 404, message="its links leave")
            wait_until(lambda: not b.backends("usename = 'app'"))
            readers.goes_on()
            call(proxy, "/nodes", member(b, "b"), expected=201)
            wait_standings(proxy, a="primary", b="standby")
            wait_split(proxy, "b")
    assert "node added node=127.0.0.1" in proxy.log() and "node removed" in proxy.log()
    assert proxy.metric("members", source="manual") == 1 and proxy.metric("members", source="configuration") == 1
    assert proxy.metric("nodes_known") == 2


def test_a_transaction_on_a_removed_node_may_end_or_is_ended(make_proxy, servers):
    a, b = servers()
    proxy = proxy_of(make_proxy, a)
    call(proxy, "/nodes", member(b, "b"), expected=201)
    wait_standings(proxy, a="primary", b="standby")
    wait_split(proxy, "b")
    with proxy.connect(autocommit=False) as db:
        db.read_only = True
        wait_until(lambda: who(db) == "b" or db.rollback())
        leaving = call(proxy, "/nodes/b", method="DELETE", expected=202)
        assert leaving["status"] == "leaving" and leaving["links_left"] == 1 and not leaving["draining"]["done"]
        assert who(db) == "b", "a transaction goes on where it began"
        assert call(proxy, "/nodes/b", method="DELETE", expected=202)["links_left"] == 1
        assert proxy.admin("/nodes/b?deadline_secs=0", method="DELETE")[0] in (200, 202)
        with pytest.raises(Exception, match="taken out of service"):
            who(db)
    wait_until(lambda: proxy.admin("/nodes/b", method="DELETE")[0] == 404)


def test_a_thousand_times_the_same_node(make_proxy, servers):
    """Nothing is left of it: the struct is the same each time, and lists of nodes go."""
    a, b = servers()
    proxy = proxy_of(make_proxy, a)

    def rounds(count):
        for _ in range(count):
            call(proxy, "/nodes", member(b, "b"), expected=201)
            status, text = proxy.admin("/nodes/b", method="DELETE")
            assert status in (200, 202), text

    rounds(400)  # what is kept of the log and of events is full by then
    before, files = proxy.rss(), proxy.descriptors()
    rounds(1000)
    assert proxy.metric("nodes_known") == 2
    wait_until(lambda: proxy.metric("node_sets") == 1)
    wait_until(lambda: proxy.descriptors() <= files + 2)
    if proxy.measures_memory:
        assert proxy.rss() < before + (2 << 20)
    call(proxy, "/nodes", member(b, "b"), expected=201)
    wait_standings(proxy, a="primary", b="standby")


def test_what_must_not_be_removed(make_proxy, servers):
    a, b = servers()
    proxy = proxy_of(make_proxy, a, b)
    assert "configuration" in call(proxy, "/nodes/b", method="DELETE", expected=409)["error"]
    call(proxy, "/nodes/x", method="DELETE", expected=404)
    assert "primary" in call(proxy, "/nodes/a/disable", expected=409)["error"]
    call(proxy, "/nodes", member(b, "other"), expected=409)
    call(proxy, "/nodes", {"host": "10.9.9.9", "name": "a"}, expected=409)
    assert names(proxy) == ["a", "b"]


HOSTILE = [b"", b"{", b"[]", b"null", b"1", b'{"host": 1}', b'{"host": ""}', b'{"host": "a b"}', b'{"host": "a\\u0000b"}',
           b'{"host": "' + b"x" * 300 + b'"}', b'{"host": "h", "port": 0}', b'{"host": "h", "port": 99999999999999999999}',
           b'{"host": "h", "port": "5432"}', b'{"host": "h", "weight": -1}', b'{"host": "h", "role": "emperor"}',
           b'{"host": "h", "name": "a/b"}', b'{"host": "h", "name": "\\n"}', b'{"host": "h", "zone": "' + b"z" * 64 + b'"}',
           b'{"host": "h", "host": "i"}', b'{"host": "h", "color": "red"}', b'\xff\xfe{"host": "h"}', b"[" * 60000,
           b'{"host": "h"} x', b'{"port": 5432}', b'{"host": "' + b"/" * 200 + b'"}']


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bodies(make_proxy, postgres, body):
    proxy = make_proxy({"nodes": [Proxy.node(postgres, name="a")]}, postgres=postgres)
    for path in ("/nodes", "/topology/primary"):
        status, text = proxy.admin(path, method="POST", body=body)
        assert status == 400 and json.loads(text)["error"]
    assert names(proxy) == ["a"]


def test_bodies_that_are_too_long(make_proxy, postgres):
    proxy = make_proxy({"nodes": [Proxy.node(postgres, name="a")]}, postgres=postgres)
    status, _ = proxy.admin("/nodes", method="POST", body=b'{"host": "' + b"x" * (65 << 10) + b'"}')
    assert status == 413
    assert names(proxy) == ["a"]


def test_there_is_room_for_so_many(make_proxy, postgres):
    proxy = make_proxy({"nodes": [Proxy.node(postgres, name="a")]}, postgres=postgres)
    for i in range(63):
        call(proxy, "/nodes", {"host": "127.0.0.9", "port": i + 1, "enabled": False}, expected=201)
    assert len(names(proxy)) == 64
    call(proxy, "/nodes", {"host": "127.0.0.9", "port": 64, "enabled": False}, expected=201)
    assert len(names(proxy)) == 64 and proxy.metric("members_refused_total") == 1
    assert "more members than are allowed" in proxy.log()
    assert call(proxy, "/nodes", {"host": "127.0.0.9", "port": 65}, expected=507)["error"]


# ---- enabled and disabled


def test_disabling_acts(make_proxy, servers, state_file):
    a, b = servers()
    proxy = proxy_of(make_proxy, a, b, topology={"state_file": state_file})
    wait_split(proxy, "b")
    with proxy.connect() as db:
        assert who(db) == "b"
        answer = call(proxy, "/nodes/b/disable")
        assert answer["status"] == "disabled" and answer["persisted"] and answer["applied"]
        assert who(db) == "a"
        wait_until(lambda: not b.backends("usename = 'app'"))
        found = node(proxy, "b")
        assert found["enabled"] is False and found["standing"] == "disabled"
        proxy.reload()
        assert node(proxy, "b")["enabled"] is False, "the operator's word counts more than the file"
        wait_until(lambda: node(proxy, "b")["draining"] is None, message="done with that")
        assert call(proxy, "/nodes/b/enable")["status"] == "enabled"
        wait_standings(proxy, a="primary", b="standby")
        wait_split(proxy, "b", db=db)
    assert json.load(open(state_file, encoding="utf-8"))["enabled"] == []


def test_what_is_disabled_and_drained_stays_drained(make_proxy, servers):
    a, b = servers()
    proxy = proxy_of(make_proxy, a, b)
    call(proxy, "/nodes/b/drain")
    call(proxy, "/nodes/b/disable")
    call(proxy, "/nodes/b/enable")
    assert node(proxy, "b")["draining"] is not None
    call(proxy, "/nodes/b/undrain")
    assert node(proxy, "b")["draining"] is None
    wait_split(proxy, "b")


def test_a_node_that_is_gone_keeps_nobody_awake(make_proxy, servers):
    """The thread that checks the nodes sleeps when there is nothing to check."""
    a, b = servers()
    proxy = proxy_of(make_proxy, a, b, health={"check_interval": "60s"})
    call(proxy, "/nodes/b/disable")
    proxy.advance(61)  # its next check would be due

    def wakes():
        for task in os.listdir(f"/proc/{proxy.process.pid}/task"):
            with open(f"/proc/{proxy.process.pid}/task/{task}/status", encoding="utf-8") as f:
                fields = dict(line.split(":", 1) for line in f.read().splitlines())
            if fields["Name"].strip() == "cluster":
                return int(fields["voluntary_ctxt_switches"])
        raise AssertionError("no thread checks the nodes")

    wait_until(lambda: node(proxy, "b")["draining"] is None)
    before = wakes()
    time.sleep(2)  # a slow machine wakes less often
    assert wakes() - before < 500


# ---- the primary that is named


def insert(db, number):
    db.execute("INSERT INTO items VALUES (%s)", [number])


def test_the_primary_is_who_is_named(make_proxy, servers):
    a, b = servers()
    proxy = proxy_of(make_proxy, a, b, topology={"provider": "manual"})
    assert proxy.json("/topology")["leaderNamed"] is None
    named = call(proxy, "/topology/primary", {"node": "a"})
    assert named == {"status": "named", "primary": "a", "persisted": False, "applied": True}
    wait_until(lambda: proxy.json("/topology")["leaderNamed"] == "a")
    with proxy.connect() as db:
        insert(db, 1)
        b.sql("SELECT pg_promote()")
        wait_standings(proxy, a="primary", b="not_named")
        insert(db, 2)
        assert a.value("SELECT count(*) FROM items WHERE id = 2", database="app") == 1, "whatever b says"
        assert proxy.metric("node_refused", node="b") == 1
        call(proxy, "/topology/primary", {"node": f"127.0.0.1:{b.port}"})
        wait_standings(proxy, a="not_named", b="primary")
        insert(db, 3)
        assert b.value("SELECT count(*) FROM items WHERE id = 3", database="app") == 1
        assert a.value("SELECT count(*) FROM items WHERE id = 3", database="app") == 0
    call(proxy, "/topology/primary", {"node": "x"}, expected=404)


def test_one_that_is_in_recovery_gets_no_writes_until_it_is_promoted(make_proxy, servers):
    a, b = servers()
    proxy = proxy_of(make_proxy, a, b, topology={"provider": "manual"})
    with proxy.connect() as db, proxy.connect() as waits:
        insert(db, 1)
        call(proxy, "/topology/primary", {"node": "b"})
        wait_standings(proxy, a="not_named", b="standby")
        assert proxy.json("/topology")["noPrimaryBecause"] == "the node that was named as the primary is in recovery"
        with crowd(lambda: len(waits.execute("INSERT INTO items VALUES (2) ON CONFLICT DO NOTHING").statusmessage), 1):
            wait_until(lambda: proxy.metric("clients_waiting") == 1)
            b.sql("SELECT pg_promote()")
            wait_standings(proxy, a="not_named", b="primary")
        assert b.value("SELECT count(*) FROM items WHERE id = 2", database="app") == 1
        assert a.value("SELECT count(*) FROM items WHERE id = 2", database="app") == 0


def test_nobody_is_named_with_other_providers(make_proxy, postgres):
    proxy = make_proxy({"nodes": [Proxy.node(postgres, name="a")]}, postgres=postgres)
    assert "provider" in call(proxy, "/topology/primary", {"node": "a"}, expected=409)["error"]
    assert proxy.json("/topology")["leaderNamed"] is None


# ---- what is kept


def test_a_restart_keeps_all(make_proxy, servers, state_file):
    a, b, c = servers(2)
    proxy = proxy_of(make_proxy, a, b, topology={"state_file": state_file, "provider": "manual"})
    assert call(proxy, "/nodes", member(c, "new", weight=5), expected=201)["persisted"]
    call(proxy, "/nodes/b/disable")
    call(proxy, "/topology/primary", {"node": "a"})

    def check():
        wait_standings(proxy, a="primary", b="disabled", new="standby")
        found = node(proxy, "new")
        assert (found["source"], found["weight"]) == ("manual", 5)
        assert proxy.json("/topology")["leaderNamed"] == "a"

    wait_until(lambda: proxy.json("/topology")["leaderNamed"] == "a")
    check()
    proxy.reload()
    check()
    proxy.take_over()
    check()
    proxy.stop()
    proxy.start()
    check()
    call(proxy, "/nodes/new", method="DELETE", expected=200)
    proxy.stop()
    proxy.start()
    assert names(proxy) == ["a", "b"]
    assert sorted(os.listdir(os.path.dirname(state_file))) == ["members.json"], "no temporary file is left"


@pytest.mark.parametrize("text, message", [("{", "line 1"), ('{"version": 99}', "newer proxy"), ("", "line 1"),
                                           ('{"version": 1, "nodes": [{"host": "x", "colour": 1}]}', "colour")])
def test_a_broken_file_stops_the_start_and_stays(make_proxy, postgres, state_file, text, message):
    with open(state_file, "w", encoding="utf-8") as f:
        f.write(text)
    proxy = make_proxy({"nodes": [Proxy.node(postgres, name="a")], "topology": {"state_file": state_file}},
                       postgres=postgres, start=False)
    proxy.expects_failure = True
    proxy.spawn()
    wait_until(lambda: proxy.process.poll() is not None)
    assert proxy.process.poll() != 0
    assert "state_file cannot be used" in proxy.log() and message in proxy.log() and state_file in proxy.log()
    assert open(state_file, encoding="utf-8").read() == text


def test_what_cannot_be_written_is_not_done(make_proxy, postgres, tmp_path):
    folder = tmp_path / "later"
    proxy = make_proxy({"nodes": [Proxy.node(postgres, name="a")], "topology": {"state_file": str(folder / "f")}},
                       postgres=postgres)
    assert str(folder) in call(proxy, "/nodes", {"host": "127.0.0.9"}, expected=500)["error"]
    assert names(proxy) == ["a"]
    folder.mkdir()
    assert call(proxy, "/nodes", {"host": "127.0.0.9", "enabled": False}, expected=201)["persisted"]


# ---- discovery


def over_tcp(primary):
    return f"host=127.0.0.1 port={primary.port} user=postgres application_name=found"


def discovering(make_proxy, primary, port, **topology):
    proxy = make_proxy(merged({"nodes": [Proxy.node(primary, name="a")], "health": HEALTH}, POOL,
                              {"topology": {"discover": True, "discover_port": port, **topology}}), postgres=primary)
    wait_until(lambda: node(proxy, "a")["standing"] == "primary")
    return proxy


def discovered_cluster(make_postgres, **settings):
    primary = make_postgres({"helios.node": "a"})
    make_cluster(primary, 0)
    return primary, primary.standby(**{"helios.node": "b", "primary_conninfo": over_tcp(primary)}, **settings)


def test_a_standby_is_discovered_and_forgotten(make_proxy, make_postgres):
    a, b = discovered_cluster(make_postgres)
    proxy = discovering(make_proxy, a, b.port, discover_forget="1s")
    name = f"127.0.0.1:{b.port}"
    wait_until(lambda: name in names(proxy))
    assert node(proxy, name)["source"] == "discovered"
    wait_until(lambda: node(proxy, name)["standing"] == "standby")
    wait_split(proxy, "b")
    b.stop()
    proxy.advance_until(lambda: names(proxy) == ["a"], 1)
    b.start()
    proxy.advance_until(lambda: name in names(proxy) and node(proxy, name)["standing"] == "standby", 1)
    wait_split(proxy, "b")
    assert proxy.metric("nodes_known") == 2
    proxy.reload({"topology": {"discover": False}})
    wait_until(lambda: names(proxy) == ["a"])


def test_one_that_is_not_there_is_shown_and_not_used(make_proxy, make_postgres):
    a, b = discovered_cluster(make_postgres)
    proxy = discovering(make_proxy, a, 1)  # nobody listens on that port
    wait_until(lambda: "127.0.0.1:1" in names(proxy))
    proxy.advance_until(lambda: node(proxy, "127.0.0.1:1")["standing"] == "down", 1)
    with proxy.connect() as db:
        assert {who(db) for _ in range(20)} == {"a"}
    assert proxy.json("/topology")["currentPrimary"] == f"127.0.0.1:{a.port}"


def test_a_server_that_is_no_standby_of_ours_is_not_used(make_proxy, make_postgres):
    a, _ = discovered_cluster(make_postgres)
    stranger = make_postgres({"helios.node": "x"})
    proxy = discovering(make_proxy, a, stranger.port)
    name = f"127.0.0.1:{stranger.port}"
    wait_until(lambda: name in names(proxy))
    # the template gives them one system identifier, as a clone would have: it is read-write all the same
    wait_until(lambda: node(proxy, name)["standing"] in ("stranger", "other_cluster"))
    assert node(proxy, name)["takes_reads"] is False
    assert proxy.json("/topology")["currentPrimary"] == f"127.0.0.1:{a.port}"
    with proxy.connect() as db:
        insert(db, 1)
        assert {who(db) for _ in range(20)} == {"a"}
    assert a.value("SELECT count(*) FROM items", database="app") == 1


def test_known_standbys_are_not_discovered_twice(make_proxy, make_postgres):
    a, b = discovered_cluster(make_postgres)
    proxy = make_proxy(merged({"nodes": [Proxy.node(a, name="a"), Proxy.node(b, "standby", name="b")], "health": HEALTH},
                              POOL, {"topology": {"discover": True, "discover_port": 1}}), postgres=a)
    wait_standings(proxy, a="primary", b="standby")
    for _ in range(3):
        proxy.advance(2)
        wait_standings(proxy, a="primary", b="standby")
    assert names(proxy) == ["a", "b"], "by its application_name it is the one that is known"


def test_what_is_no_standby_is_not_discovered(make_proxy, make_postgres):
    primary = make_postgres({"helios.node": "a"})
    make_cluster(primary, 1)  # it streams over a unix socket: nobody knows from where
    proxy = discovering(make_proxy, primary, 0)
    proxy.wait_log("does not tell where a standby is")
    assert names(proxy) == ["a"]
