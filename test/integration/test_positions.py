"""
Where nodes are in the write-ahead log, asked between the checks while somebody wants to know. Real primaries and standbys;
checks are a day apart where they are to have no part in it.
"""

import time

from harness.cluster import node, proxy_for, standings, wait_standings
from harness.wait import wait_until

RARE = {"check_interval": "86400s", "check_jitter": 0, "failure_threshold": 1}
LAG_ROUTING = {"poll_interval_ms": 20}


def cluster_of_two(make_proxy, make_postgres, health=None, **settings):
    primary = make_postgres()
    standby = primary.standby(**settings)
    proxy = proxy_for(make_proxy, primary, standby, health=health, config={"lag_routing": LAG_ROUTING})
    wait_standings(proxy, a="primary", b="standby")
    return proxy, primary, standby


def want(proxy):
    status, text = proxy.admin("/debug/positions", method="POST", body=b"")
    assert status == 200, text


def questions(proxy, name):
    return proxy.metric("node_position_questions_total", node=name)


def number(lsn):
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def position(proxy, name):
    """Wanted, and asked for after this was called."""
    begun = time.monotonic()

    def told_since():
        want(proxy)
        elapsed = (time.monotonic() - begun) * 1000  # less than it is when the proxy looks at its clock
        found = node(proxy, name)
        return found if found["position"] and found["position_age_ms"] < elapsed else None
    return number(wait_until(told_since)["position"])


def test_nothing_is_asked_while_nobody_wants_to_know(make_proxy, make_postgres):
    proxy, _, _ = cluster_of_two(make_proxy, make_postgres)
    checked = node(proxy, "b")["last_check"]
    wait_until(lambda: node(proxy, "b")["last_check"] != checked)
    assert questions(proxy, "a") == 0 and questions(proxy, "b") == 0
    want(proxy)
    wait_until(lambda: questions(proxy, "a") >= 3 and questions(proxy, "b") >= 3)

    def asked_by_the_next_check():
        asked, checked = questions(proxy, "a"), node(proxy, "a")["last_check"]
        proxy.advance(4)
        wait_until(lambda: node(proxy, "a")["last_check"] != checked)
        return questions(proxy, "a") - asked
    wait_until(lambda: asked_by_the_next_check() == 0)
    want(proxy)
    asked = questions(proxy, "a")
    wait_until(lambda: questions(proxy, "a") > asked)


def test_a_position_lies_behind_what_was_committed_before(make_proxy, make_postgres):
    """Also where a commit is confirmed before it is written."""
    proxy, primary, _ = cluster_of_two(make_proxy, make_postgres)
    primary.sql("CREATE TABLE pairs (v text)")
    for i in range(40):
        with primary.admin() as db:
            db.execute(f"SET synchronous_commit = {'off' if i % 2 else 'on'}")
            with db.transaction():
                db.execute("INSERT INTO pairs VALUES (repeat('x', 100))")
                inserted, = db.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        assert position(proxy, "a") > number(inserted)
    wait_until(lambda: position(proxy, "b") >= number(inserted))


def test_a_standby_reaches_an_idle_primary_at_the_edge_of_a_page(make_proxy, make_postgres):
    """The next record would begin behind the header of the segment that was switched to; replay ends ahead of it."""
    proxy, primary, _ = cluster_of_two(make_proxy, make_postgres)
    segment = primary.value("SELECT pg_size_bytes(current_setting('wal_segment_size'))")

    def insert_offset():
        return number(primary.value("SELECT pg_current_wal_insert_lsn()::text")) % segment

    def both_are_there():
        if insert_offset() != 40:  # something was written in the background
            primary.sql("CREATE TABLE IF NOT EXISTS t (v int); INSERT INTO t VALUES (1)")
            primary.sql("SELECT pg_switch_wal()")
        a, b = position(proxy, "a"), position(proxy, "b")
        return insert_offset() == 40 and a % segment == 0 and b >= a
    wait_until(both_are_there, 60)


def test_lag_is_fresh_between_checks(make_proxy, make_postgres):
    proxy, primary, standby = cluster_of_two(make_proxy, make_postgres, health=RARE)
    checks = node(proxy, "b")["last_check"]
    primary.sql("CREATE TABLE t (v text)")
    standby.sql("SELECT pg_wal_replay_pause()")
    primary.sql("INSERT INTO t SELECT repeat('x', 100) FROM generate_series(1, 10000)")

    def lag(field):
        want(proxy)
        return node(proxy, "b")["replication_lag_" + field]
    wait_until(lambda: (lag("bytes") or 0) > 1000000)
    assert position(proxy, "b") < position(proxy, "a")
    first = lag("ms")
    wait_until(lambda: lag("ms") > first + 300)  # nobody writes, and it still grows
    assert proxy.metric("node_replication_lag_bytes", node="b") > 1000000
    standby.sql("SELECT pg_wal_replay_resume()")
    wait_until(lambda: lag("bytes") == 0 and lag("ms") == 0)
    assert node(proxy, "b")["last_check"] == checks, "no check had a part in it"


def test_a_promotion_is_noticed_by_the_next_question(make_proxy, make_postgres):
    proxy, _, standby = cluster_of_two(make_proxy, make_postgres, health=RARE)
    want(proxy)
    assert standby.value("SELECT pg_promote()")

    def noticed():
        want(proxy)
        return standings(proxy)["b"] == "primary"
    wait_until(noticed)
    assert position(proxy, "b") > 0


def test_a_standby_of_the_new_primary_is_known_soon(make_proxy, make_postgres):
    """Its positions count from when it follows the new timeline, checks or not."""
    primary = make_postgres()
    successor, follower = primary.standby(), primary.standby()
    proxy = proxy_for(make_proxy, primary, successor, follower, health=RARE, config={"lag_routing": LAG_ROUTING})
    wait_standings(proxy, a="primary", b="standby", c="standby")
    primary.stop()
    assert successor.value("SELECT pg_promote()")
    wait_until(lambda: position(proxy, "c") and standings(proxy)["b"] == "primary")
    follower.write_settings(primary_conninfo=f"host={successor.root} port={successor.port} user=postgres")
    follower.sql("SELECT pg_reload_conf()")
    successor.sql("CREATE TABLE t (v int)")
    wait_until(lambda: node(proxy, "c")["timeline"] == 2, 60)
    wait_until(lambda: position(proxy, "c") >= position(proxy, "b"), 60)


def test_a_question_that_is_not_answered_is_a_failed_check(make_proxy, make_postgres):
    health = {**RARE, "check_timeout": "1s", "success_threshold": 1}
    proxy, _, standby = cluster_of_two(make_proxy, make_postgres, health=health)
    assert position(proxy, "b") > 0
    standby.pause()
    try:
        def failed():
            want(proxy)
            return standings(proxy)["b"] == "down"
        wait_until(failed, 60)
        found = node(proxy, "b")
        assert "check_timeout" in found["check_error"]
        assert found["position"] is None and found["replication_lag_ms"] is None
    finally:
        standby.resume()
    proxy.advance(86400)
    wait_standings(proxy, a="primary", b="standby")
    assert position(proxy, "b") > 0


def test_a_connection_that_breaks_is_no_failed_check(make_proxy, make_postgres):
    proxy, primary, _ = cluster_of_two(make_proxy, make_postgres, health=RARE)
    for _ in range(5):
        position(proxy, "a")
        checked = node(proxy, "a")["last_check"]
        for pid in primary.backends("application_name = 'heliosdb-proxy monitor'"):
            primary.sql("SELECT pg_terminate_backend(%s)", (pid,))
        wait_until(lambda: node(proxy, "a")["last_check"] != checked)
        assert node(proxy, "a")["failure_count"] == 0
    assert position(proxy, "a") > 0


def test_who_may_not_ask_is_told_once(make_proxy, make_postgres):
    primary = make_postgres()
    primary.sql("REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC")
    proxy = proxy_for(make_proxy, primary, health={"user": "app"}, config={"lag_routing": LAG_ROUTING})
    wait_standings(proxy, a="primary")
    want(proxy)
    proxy.wait_log("warning.*does not tell where it is.*node=a.*permission denied")
    asked = questions(proxy, "a")

    def asked_again():
        want(proxy)
        return questions(proxy, "a") > asked + 1  # once after each check
    wait_until(asked_again)
    assert proxy.log().count("does not tell where it is") == 1
    assert node(proxy, "a")["failure_count"] == 0 and node(proxy, "a")["position"] is None
    primary.sql("GRANT EXECUTE ON FUNCTION pg_current_wal_insert_lsn() TO PUBLIC")
    assert position(proxy, "a") > 0
