"""
The proxy in front of a primary and its standbys: what the monitors find out, and what follows from it. Real servers that
stream, are promoted, stopped and taken for one another.
"""

import re
import shutil
import threading

import pytest

from harness.cluster import HEALTH, node, proxy_for, standings, wait_standings
from harness.postgres import PASSWORD, Template
from harness.proxy import Proxy
from harness.wait import wait_until
from harness.wire import ServerError


def address(server):
    return f"127.0.0.1:{server.port}"


def events(proxy):
    """Of the history, the oldest first: [("PRIMARY_IS", "a")]"""
    return [(e["event"], e["node"]) for e in reversed(proxy.json("/topology")["history"])]


def test_a_primary_and_its_standbys_are_told_apart(make_proxy, make_postgres):
    primary = make_postgres()
    standbys = [primary.standby(), primary.standby()]
    proxy = proxy_for(make_proxy, primary, *standbys)
    wait_standings(proxy, a="primary", b="standby", c="standby")
    topology = proxy.json("/topology")
    assert topology["currentPrimary"] == address(primary)
    assert topology["rolesBy"] == "facts" and topology["noPrimaryBecause"] is None
    assert topology["lastFailoverAt"] is None
    assert topology["healthy"] == ["a", "b", "c"] and topology["unhealthy"] == []
    assert topology["timeline"] == 1
    assert topology["systemIdentifier"] == str(primary.value("SELECT system_identifier FROM pg_control_system()"))
    assert events(proxy) == [("PRIMARY_IS", "a")]
    a, b = node(proxy, "a"), node(proxy, "b")
    assert a["in_recovery"] is False and b["in_recovery"] is True
    assert a["latency_ms"] > 0 and b["latency_ms"] > 0
    assert a["server_version_num"] == primary.value("SELECT current_setting('server_version_num')::int")
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", a["current_lsn"]) and b["current_lsn"] is None
    assert b["streaming"] is True and a["replication_lag_bytes"] is None
    wait_until(lambda: node(proxy, "b")["replication_lag_bytes"] == 0)
    wait_until(lambda: node(proxy, "b")["sync_state"] == "async")
    assert abs(b["clock_skew_ms"]) < 60000
    assert proxy.metric("node_primary", node="a") == 1 and proxy.metric("node_primary", node="b") == 0
    assert proxy.metric("node_in_recovery", node="b") == 1
    assert proxy.metric("node_timeline", node="b") == 1
    assert proxy.metric("node_check_latency_seconds", node="c") > 0
    assert proxy.metric("topology_has_primary") == 1


def test_the_topology_follows_a_promotion(make_proxy, make_postgres):
    """The primary dies, a standby is promoted, and the old one comes back as if nothing had happened."""
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary, standby)
    wait_standings(proxy, a="primary", b="standby")
    primary.stop()
    wait_standings(proxy, a="down", b="standby")
    topology = proxy.json("/topology")
    assert topology["currentPrimary"] is None and topology["noPrimaryBecause"] == "the primary is down"
    assert topology["lastFailoverAt"] is None
    proxy.wait_log("there is no primary.*reason=.?the primary is down")
    assert standby.value("SELECT pg_promote()")
    wait_standings(proxy, a="down", b="primary")
    topology = proxy.json("/topology")
    assert topology["currentPrimary"] == address(standby)
    assert topology["lastFailoverAt"] and topology["timeline"] == 2
    assert proxy.metric("topology_failovers_total") == 1
    primary.start()
    wait_standings(proxy, a="old_timeline", b="primary")
    proxy.wait_log("error.*node must not be used.*node=a.*standing=old_timeline")
    assert proxy.metric("node_refused", node="a") == 1
    proxy.wait_log("warning queries do not go to this node any more node=a")
    assert "those for the primary wait until there is one" not in proxy.log(), "there is one, and they go there"
    standby.stop()
    wait_standings(proxy, a="old_timeline", b="down")
    assert proxy.json("/topology")["currentPrimary"] is None, "never used, also when there is no other"
    assert [e for e in events(proxy) if e[0] in ("FAILOVER", "PRIMARY_LOST", "NODE_REFUSED")] == [
        ("PRIMARY_LOST", "a"), ("FAILOVER", "b"), ("NODE_REFUSED", "a"), ("PRIMARY_LOST", "b")]


def test_a_promotion_while_the_primary_lives(make_proxy, make_postgres):
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary, standby)
    wait_standings(proxy, a="primary", b="standby")
    assert standby.value("SELECT pg_promote()")
    wait_standings(proxy, a="old_timeline", b="primary")
    proxy.wait_log("the configured role is not what the node is.*node=b")


def test_two_primaries_on_one_timeline(make_proxy, make_postgres):
    """Two clusters that were copied from one: nobody can tell which is the right one."""
    first, second = make_postgres(), make_postgres()
    proxy = proxy_for(make_proxy, first, second)
    wait_standings(proxy, a="contested", b="contested")
    topology = proxy.json("/topology")
    assert topology["currentPrimary"] is None
    assert topology["noPrimaryBecause"] == "several nodes are read-write on one timeline"
    assert topology["unhealthy"] == ["a", "b"]
    assert topology["healthyNodes"] == 0 and topology["unhealthyNodes"] == 2 == topology["totalNodes"]
    proxy.wait_log("error.*node must not be used.*node=b.*standing=contested")
    written = []

    def write():
        with proxy.connect() as db:
            written.append(db.execute("CREATE TABLE held (x int)"))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        assert not written and not first.backends("datname = 'app'") and not second.backends("datname = 'app'")
    finally:
        second.stop()
        wait_standings(proxy, a="primary", b="down")
        thread.join(60)
    assert written and first.value("SELECT count(*) FROM held", database="app") == 0


def test_no_node_is_configured_as_the_primary(make_proxy, make_postgres):
    """They say themselves which one it is: who comes before that waits."""
    primary = make_postgres()
    standby = primary.standby()
    primary.pause()
    try:
        proxy = proxy_for(make_proxy, standby, primary, roles=["standby", "standby"])
        answers = []

        def write():
            with proxy.connect() as db:
                answers.append(db.execute("CREATE TABLE found (x int)"))

        thread = threading.Thread(target=write)
        thread.start()
        wait_until(lambda: proxy.metric("clients_waiting") == 1, 30, lambda: proxy.log()[-3000:])
        assert not answers
    finally:
        primary.resume()
    wait_standings(proxy, a="standby", b="primary")
    thread.join(60)
    assert answers and primary.value("SELECT count(*) FROM found", database="app") == 0


def test_a_standby_of_another_cluster(make_proxy, make_postgres, template):
    primary = make_postgres()
    standby = primary.standby()
    other = Template(template.bindir)  # initdb once more: another system identifier
    try:
        stranger = make_postgres(data=_copy_of(other))
        proxy = proxy_for(make_proxy, primary, standby, stranger)
        wait_standings(proxy, a="primary", b="standby", c="other_cluster")
        proxy.wait_log("error.*node must not be used.*node=c.*standing=other_cluster")
        assert proxy.json("/topology")["unhealthy"] == ["c"]
        assert node(proxy, "c")["system_identifier"] != node(proxy, "a")["system_identifier"]
        primary.stop()
        wait_standings(proxy, a="down", b="standby", c="other_cluster")
        assert proxy.json("/topology")["currentPrimary"] is None
    finally:
        other.remove()


def _copy_of(template):
    return lambda to: shutil.copytree(template.path, to)


@pytest.mark.parametrize("which", ["primary", "standby"])
def test_a_node_that_accepts_and_never_answers(make_proxy, make_postgres, which):
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary, standby, health={"check_timeout": "1s"})
    wait_standings(proxy, a="primary", b="standby")
    stopped, name = (primary, "a") if which == "primary" else (standby, "b")
    stopped.pause()
    try:
        wait_until(lambda: standings(proxy)[name] == "down", 60)
        found = node(proxy, name)
        assert found["healthy"] is False and found["check_error"] and found["failure_count"] >= 2
        assert proxy.metric("node_up", node=name, role=which) == 0
    finally:
        stopped.resume()
    wait_standings(proxy, a="primary", b="standby")
    assert node(proxy, name)["healthy"] is True and node(proxy, name)["check_error"] is None


def test_a_wrong_password_of_the_monitor(make_proxy, make_postgres, closing):
    """It is said, and it is no reason to think ill of the node; clients notice nothing."""
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary, standby, health={"user": "scram_user", "password": "wrong"})
    proxy.wait_log(r"warning.*does not tell the monitor what it is.*node=a.*password authentication failed")
    proxy.wait_log(r"warning.*does not tell the monitor what it is.*node=b.*password authentication failed")
    wait_until(lambda: proxy.json("/topology")["rolesBy"] == "configuration")
    wait_standings(proxy, a="primary", b="standby")
    for name in "ab":
        found = node(proxy, name)
        assert found["healthy"] is True and found["failure_count"] == 0 and found["in_recovery"] is None
        assert "28P01" in found["check_error"]
    assert closing(proxy.wire()).value("SELECT 1") == "1"
    checks = node(proxy, "a")["last_check"]
    wait_until(lambda: node(proxy, "a")["last_check"] != checks)
    assert len(re.findall("does not tell the monitor.*node=a", proxy.log())) == 1, "once is enough"
    proxy.reload({"health": {"password": PASSWORD}})
    wait_until(lambda: proxy.json("/topology")["rolesBy"] == "facts")
    wait_standings(proxy, a="primary", b="standby")
    assert "wrong" not in proxy.json("/config").get("health", "") and PASSWORD not in proxy.log()


def test_an_ordinary_user_is_enough_for_roles_and_lag(make_proxy, make_postgres):
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary, standby, health={"user": "app"})
    wait_standings(proxy, a="primary", b="standby")
    wait_until(lambda: node(proxy, "b")["replication_lag_bytes"] == 0)
    assert node(proxy, "b")["timeline"] == 1


def test_lag_of_a_standby_that_replays_late(make_proxy, make_postgres):
    primary = make_postgres()
    standby = primary.standby(recovery_min_apply_delay="1h")
    proxy = proxy_for(make_proxy, primary, standby)
    wait_standings(proxy, a="primary", b="standby")
    primary.sql("CREATE TABLE late (v text)")
    primary.sql("INSERT INTO late SELECT repeat('x', 100) FROM generate_series(1, 10000)")
    wait_until(lambda: (node(proxy, "b")["replication_lag_bytes"] or 0) > 1000000, 60)
    first = node(proxy, "b")["replication_lag_ms"]
    assert first > 0
    wait_until(lambda: node(proxy, "b")["replication_lag_ms"] > first + 1000, 60)  # nobody writes, and it still grows
    assert proxy.metric("node_replication_lag_bytes", node="b") > 1000000
    assert proxy.metric("node_replication_lag_seconds", node="b") > 1
    standby.write_settings(recovery_min_apply_delay="0")
    standby.sql("SELECT pg_reload_conf()")
    wait_until(lambda: node(proxy, "b")["replication_lag_bytes"] == 0, 60)
    assert node(proxy, "b")["replication_lag_ms"] == 0


def test_paused_replay_and_a_synchronous_standby(make_proxy, make_postgres):
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary, standby)
    standby.sql("SELECT pg_wal_replay_pause()")
    wait_until(lambda: node(proxy, "b")["replay_paused"] is True)
    standby.sql("SELECT pg_wal_replay_resume()")
    wait_until(lambda: node(proxy, "b")["replay_paused"] is False)
    primary.write_settings(synchronous_standby_names="standby1")
    primary.sql("SELECT pg_reload_conf()")
    wait_until(lambda: node(proxy, "b")["sync_state"] == "sync")


def test_upstreams_are_known_by_their_address(make_proxy, make_postgres):
    primary = make_postgres()
    standby = primary.standby()  # it streams over the unix socket
    nodes = [{"host": primary.root, "port": primary.port, "role": "primary", "name": "a"},
             Proxy.node(standby, "standby", name="b")]
    proxy = make_proxy({"nodes": nodes, "health": HEALTH}, postgres=primary)
    wait_until(lambda: node(proxy, "b")["upstream"] == "a")


def test_a_monitor_that_is_thrown_out_comes_back(make_proxy, make_postgres):
    """Somebody ends its connection: that says nothing of the node."""
    server = make_postgres()
    proxy = proxy_for(make_proxy, server)
    wait_standings(proxy, a="primary")
    ours = "application_name = 'heliosdb-proxy monitor'"
    pid, = wait_until(lambda: server.backends(ours))
    for _ in range(3):
        before = pid
        server.sql("SELECT pg_terminate_backend(%s)", (pid,))
        pid, = wait_until(lambda: [p for p in server.backends(ours) if p != before])
    checked = node(proxy, "a")["last_check"]
    wait_until(lambda: node(proxy, "a")["last_check"] != checked)
    assert node(proxy, "a")["failure_count"] == 0
    assert [e for e in events(proxy) if e[0] != "PRIMARY_IS"] == []


def test_a_check_query_that_fails(make_proxy, make_postgres):
    server = make_postgres()
    proxy = proxy_for(make_proxy, server, health={"check_query": "SELECT 1"})
    wait_standings(proxy, a="primary")
    proxy.reload({"health": {"check_query": "SELECT 1/0"}})
    wait_standings(proxy, a="down")
    assert "22012" in node(proxy, "a")["check_error"]
    proxy.reload({"health": {"check_query": "BEGIN"}})  # what it leaves behind is the server's, not ours
    wait_standings(proxy, a="primary")
    proxy.reload({"health": {"user": ""}})
    wait_until(lambda: proxy.json("/topology")["rolesBy"] == "configuration")
    wait_until(lambda: not server.backends("application_name = 'heliosdb-proxy monitor'"))


def test_nodes_come_and_go_with_a_reload(make_proxy, make_postgres):
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, primary)
    wait_standings(proxy, a="primary")
    proxy.reload({"nodes": [Proxy.node(primary, name="a"), Proxy.node(standby, "standby", name="b")]})
    wait_standings(proxy, a="primary", b="standby")
    proxy.reload({"nodes": [Proxy.node(primary, name="a"), Proxy.node(standby, "standby", name="b", enabled=False)]})
    wait_standings(proxy, a="primary", b="disabled")
    ours = "application_name = 'heliosdb-proxy monitor'"
    wait_until(lambda: not standby.backends(ours) and len(primary.backends(ours)) == 1)
    proxy.reload({"nodes": [Proxy.node(primary, name="a")]})
    wait_standings(proxy, a="primary")


def test_a_killed_node_is_noticed_by_the_first_client(make_proxy, make_postgres, closing):
    """Checks are days apart: what a client meets has the node checked at once."""
    server = make_postgres()
    proxy = proxy_for(make_proxy, server, health={"check_interval": "86400s", "failure_threshold": 1},
                      config={"proxy": {"write_timeout": 0}})
    proxy.advance(1)
    wait_standings(proxy, a="primary")
    server.stop()
    with pytest.raises(ServerError, match="08001"):
        closing(proxy.wire()).value("SELECT 1")
    wait_until(lambda: node(proxy, "a")["healthy"] is False)
    # while the server stops it may have said so itself (57P03), or closed the connection
    proxy.wait_log(r"node is unhealthy.*node=a.*reason=.*(127\.0\.0\.1|57P03|08001)")
    assert node(proxy, "a")["last_error"]


def test_without_a_user_the_configuration_is_believed(make_proxy, make_postgres):
    primary = make_postgres()
    standby = primary.standby()
    proxy = proxy_for(make_proxy, standby, primary, health={"user": ""})
    wait_standings(proxy, a="primary", b="standby")
    topology = proxy.json("/topology")
    assert topology["rolesBy"] == "configuration" and topology["currentPrimary"] == address(standby)
    assert node(proxy, "a")["in_recovery"] is None and node(proxy, "a")["replication_lag_bytes"] is None
    standby.stop()
    wait_standings(proxy, a="down", b="standby")
