"""What needs the primary waits for the next one ([proxy] write_timeout): a restart, a promotion, or nobody comes."""

import pytest

from harness import Later
from harness.wait import wait_until
from harness.wire import ServerError, query
from test_cluster import address, proxy_for, wait_standings
from test_split import new_cluster, split_proxy, wait_split  # noqa: F401

WRITE = "WITH w AS (INSERT INTO t VALUES (1)) SELECT inet_server_port()"


def writes(proxy):
    return proxy.json("/topology")["writes"]


def served_by(db, statement="SELECT whoami()"):
    return db.execute(statement).fetchone()[0]


def cluster(make_proxy, make_postgres, standbys=1, config=None):
    primary = make_postgres()
    primary.sql("CREATE TABLE t (i int); GRANT ALL ON t TO PUBLIC", database="app")
    primary.sql("CHECKPOINT")
    others = [primary.standby() for _ in range(standbys)]
    proxy = proxy_for(make_proxy, primary, *others, config=config)
    wait_standings(proxy, **dict(zip("abc", ["primary"] + ["standby"] * standbys)))
    return proxy, primary, *others


def wait_held(proxy, waiting):
    wait_until(lambda: writes(proxy) == "held" and proxy.metric("clients_waiting") >= waiting,
               message=lambda: f"{writes(proxy)} {proxy.metric('clients_waiting')}\n{proxy.log()[-4000:]}")


@pytest.mark.parametrize("standbys,how", [(0, "immediate"), (0, "fast"), (1, "fast")])
def test_a_restart_is_waited_for(make_proxy, make_postgres, closing, standbys, how):
    """Also when there is no other node; by those who were there, and by those who come meanwhile."""
    proxy, primary, *_ = cluster(make_proxy, make_postgres, standbys)
    clients = [closing(proxy.wire()) for _ in range(4)]
    assert {c.value(WRITE) for c in clients} == {str(primary.port)}
    primary.stop(how)
    asked = [Later(lambda c=c: c.value(WRITE)) for c in clients]
    asked.append(Later(lambda: closing(proxy.wire()).value(WRITE)))
    wait_held(proxy, 4)
    proxy.wait_log("there is no primary now, or not yet")
    primary.start()
    assert [a.result() for a in asked] == [str(primary.port)] * 5
    wait_until(lambda: writes(proxy) == "go")
    if how == "fast":  # else it may lose what was not flushed
        assert primary.value("SELECT count(*) FROM t", database="app") == 9, "each once"
    assert proxy.metric("topology_writes_held") == 0


@pytest.mark.parametrize("share", ["off", "autocommit"])
def test_a_promotion_is_waited_for(make_proxy, make_postgres, closing, share):
    proxy, primary, standby = cluster(make_proxy, make_postgres, config={"pool": {"share": share}})
    clients = [closing(proxy.wire()) for _ in range(4)]
    for client in clients:
        client.value(WRITE)
    primary.stop()
    asked = [Later(lambda c=c: c.value(WRITE)) for c in clients]
    with_driver = Later(lambda: proxy.connect().execute("SELECT inet_server_port()").fetchone()[0])
    wait_held(proxy, 4)
    assert proxy.json("/topology")["currentPrimary"] in (None, address(primary))
    assert standby.value("SELECT pg_promote()")
    assert [a.result() for a in asked] == [str(standby.port)] * 4
    assert with_driver.result() == standby.port
    wait_standings(proxy, a="down", b="primary")
    assert writes(proxy) == "go"


def test_reads_go_on_meanwhile(make_proxy, new_cluster):
    primary, _ = servers = new_cluster()
    proxy = split_proxy(make_proxy, servers, {"load_balancer": {"read_write_split": True}})
    wait_split(proxy, "b")
    write = "WITH w AS (INSERT INTO items VALUES (1)) SELECT whoami()"
    with proxy.connect() as reader, proxy.connect() as writer:
        assert served_by(reader) == "b"
        primary.stop()
        asked = Later(lambda: served_by(writer, write))
        wait_held(proxy, 1)
        assert served_by(reader) == "b"
        assert not asked.is_over
        primary.start()
        assert asked.result() == "a"


def test_nobody_comes(make_proxy, make_postgres, closing):
    """After write_timeout it fails at once, says why, and goes on by itself when there is one."""
    proxy, primary, standby = cluster(make_proxy, make_postgres, config={"proxy": {"write_timeout": "20s"},
                                                                         "pool": {"login_retry": "1s"}})
    client = closing(proxy.wire())
    client.value(WRITE)
    primary.stop()
    asked = Later(lambda: client.value(WRITE))
    wait_held(proxy, 1)
    wait_until(lambda: proxy.json("/topology")["currentPrimary"] is None)  # it counts from when checks know
    proxy.advance(21)
    with pytest.raises(ServerError) as failed:
        asked.result()
    assert failed.value.code.startswith("08"), failed.value
    wait_until(lambda: writes(proxy) == "failing")
    assert proxy.metric("topology_writes_failing") == 1
    proxy.wait_log("error.*no primary within write_timeout")
    assert "primary.given_up" in {e["kind"] for e in proxy.json("/api/v1/events")["items"]}
    for _ in range(3):
        with pytest.raises(ServerError) as failed:
            client.value(WRITE)
        assert failed.value.code.startswith("08"), failed.value
    assert writes(proxy) == "failing"
    assert standby.value("SELECT pg_promote()")
    wait_until(lambda: writes(proxy) == "go", 60)
    proxy.advance(2)
    assert client.value(WRITE) == str(standby.port)
    # the next loss is a new one
    standby.stop()
    asked = Later(lambda: client.value(WRITE))
    wait_held(proxy, 1)
    standby.start()
    assert asked.result() == str(standby.port)


def test_who_waits_may_cancel_or_leave(make_proxy, make_postgres, closing):
    proxy, primary = cluster(make_proxy, make_postgres, 0)
    client, leaving = closing(proxy.wire()), proxy.wire()
    client.value(WRITE)
    primary.stop("fast")
    asked = Later(lambda: client.value(WRITE))
    leaving.send(query(WRITE))
    wait_held(proxy, 2)
    leaving.close()
    client.cancel()
    with pytest.raises(ServerError) as cancelled:
        asked.result()
    assert cancelled.value.code == "57014"
    wait_until(lambda: proxy.metric("clients_waiting") == 0)
    primary.start()
    assert client.value(WRITE) == str(primary.port)
    assert primary.value("SELECT count(*) FROM t", database="app") == 2


@pytest.mark.parametrize("config", [{"proxy": {"write_timeout": 0}}, {"pool": {"query_wait_timeout": "5s"}}])
def test_what_does_not_wait_is_told(make_proxy, make_postgres, closing, config):
    """Off; or a client's own patience is shorter."""
    proxy, primary = cluster(make_proxy, make_postgres, 0, config=config)
    client = closing(proxy.wire())
    client.value(WRITE)
    primary.stop()
    asked = Later(lambda: client.value(WRITE))
    if "pool" in config:
        wait_held(proxy, 1)
        proxy.advance(6)
    with pytest.raises(ServerError) as failed:
        asked.result()
    assert failed.value.code == ("57P03" if "pool" in config else "08001"), failed.value
    assert (writes(proxy) == "held") == ("pool" in config)


def test_it_may_be_changed_meanwhile(make_proxy, make_postgres, closing):
    proxy, primary = cluster(make_proxy, make_postgres, 0)
    client = closing(proxy.wire())
    client.value(WRITE)
    primary.stop()
    asked = Later(lambda: client.value(WRITE))
    wait_held(proxy, 1)
    proxy.reload({"proxy": {"write_timeout": 0}})
    with pytest.raises(ServerError):
        asked.result()
    assert writes(proxy) == "failing" or proxy.json("/topology")["currentPrimary"], "it may not be known yet"
    primary.start()
    wait_until(lambda: writes(proxy) == "go")
    proxy.advance(6)
    assert client.value(WRITE) == str(primary.port)
