"""
Nodes that are taken out of service and put back, and circuit breakers: what the person on call does and sees, on real
servers. Mostly with one node, or with databases that name theirs, so that it is known where a query goes.
"""

import json

import pytest

from harness.cluster import node
from harness.proxy import Proxy
from harness.wait import wait_until
from harness.wire import ServerError, query

HEALTH = {"check_interval": "1s", "user": "postgres"}


def post(proxy, path, expected=200):
    status, text = proxy.admin(path, method="POST", body=b"")
    assert status == expected, f"{path}: {status} {text}"
    return json.loads(text)


def one_node(make_proxy, server, **config):
    return make_proxy({"nodes": [Proxy.node(server, name="a")], **config}, postgres=server)


def backends(server):
    return server.backends("usename = 'app'")


def end(server):
    """Its transactions, too; it is gone, and stays so."""
    server.stop("immediate")


# ---- draining


def test_idle_links_leave_at_once_and_nothing_new_begins(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = one_node(make_proxy, server)
    client = closing(proxy.wire())
    assert client.value("SELECT 1") == "1"
    assert len(backends(server)) == 1
    found = post(proxy, "/nodes/a/drain?force=true")
    assert found["status"] == "draining" and found["name"] == "a" and found["node"] == f"127.0.0.1:{server.port}"
    wait_until(lambda: not backends(server))
    assert node(proxy)["draining"] == {"since": node(proxy)["draining"]["since"], "deadline_in_ms": None,
                                       "links_left": 0, "done": True}
    assert proxy.metric("node_draining", node="a") == 1 and proxy.metric("node_links", node="a") == 0
    assert proxy.admin("/readyz")[0] == 503 and proxy.admin("/livez")[0] == 200
    with pytest.raises(ServerError) as e:
        client.value("SELECT 1")
    assert e.value.code == "57P03"
    with pytest.raises(ServerError) as e:  # and the client is still there
        client.value("SELECT 1")
    assert e.value.code == "57P03"
    assert not backends(server)
    assert post(proxy, "/nodes/a/undrain")["status"] == "undrained"
    assert client.value("SELECT 1") == "1"
    assert node(proxy)["draining"] is None and proxy.metric("node_draining", node="a") == 0
    assert proxy.admin("/readyz")[0] == 200


def test_a_transaction_may_end(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = one_node(make_proxy, server)
    busy, idle = closing(proxy.wire()), closing(proxy.wire())
    busy.query("BEGIN")
    assert idle.value("SELECT 1") == "1"
    assert len(backends(server)) == 2
    assert post(proxy, "/nodes/a/drain?force=1&deadline_secs=3600")["draining"]["done"] is False
    wait_until(lambda: len(backends(server)) == 1)
    left = node(proxy)["draining"]
    assert left["links_left"] == 1 and 0 < left["deadline_in_ms"] <= 3600000
    assert busy.value("SELECT 2") == "2"
    busy.query("COMMIT")
    wait_until(lambda: not backends(server))
    assert node(proxy)["draining"]["done"] is True
    assert proxy.metric("links_expelled_total") == 0


@pytest.mark.parametrize("how", ["idle in transaction", "running", "session mode"])
def test_the_deadline_ends_what_is_left(make_proxy, make_postgres, closing, gate, how):
    server = make_postgres()
    proxy = one_node(make_proxy, server, pool={"mode": "session" if how == "session mode" else "transaction"})
    client = closing(proxy.wire())
    if how == "session mode":
        assert client.value("SELECT 1") == "1"
    else:
        client.query("BEGIN")
    if how == "running":
        client.send(query("SELECT pg_sleep(3600)"))
        wait_until(lambda: server.backends("query LIKE 'SELECT pg_sleep%%' AND state = 'active'"))
    post(proxy, "/nodes/a/drain?force=true&deadline_secs=60")
    proxy.advance(50)
    assert len(backends(server)) == 1, "its time is not over"
    proxy.advance(11)
    messages = client.until_closed()
    assert [m.code for m in messages if m.kind == "E"] == ["57P01"]
    wait_until(lambda: not backends(server))  # what ran was cancelled, too
    wait_until(lambda: node(proxy)["draining"]["done"])
    assert proxy.metric("links_expelled_total") == 1
    proxy.wait_log("client closed by the proxy.*taken out of service")


def test_a_deadline_that_comes_later(make_proxy, make_postgres, closing):
    """An operator who has waited long enough asks once more, with one that is over at once."""
    server = make_postgres()
    proxy = one_node(make_proxy, server)
    client = closing(proxy.wire())
    client.query("BEGIN")
    post(proxy, "/nodes/a/drain?force=true")
    proxy.advance(86400)
    assert client.value("SELECT 1") == "1"
    post(proxy, "/nodes/a/drain?force=true&deadline_secs=0")
    assert [m.code for m in client.until_closed() if m.kind == "E"] == ["57P01"]


def test_who_waits_is_told(make_proxy, make_postgres, closing):
    """There is one link, which will not serve him: it is closed when it comes back."""
    server = make_postgres()
    proxy = one_node(make_proxy, server, pool={"mode": "transaction", "max_connections": 1})
    busy, waiting = closing(proxy.wire()), closing(proxy.wire())
    busy.query("BEGIN")
    waiting.send(query("SELECT 1"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    post(proxy, "/nodes/a/drain?force=true")
    assert [m.code for m in waiting.until_ready() if m.kind == "E"] == ["57P03"]
    assert busy.value("SELECT 1") == "1"
    assert post(proxy, "/nodes/a/undrain")["status"] == "undrained"
    busy.query("COMMIT")
    assert waiting.value("SELECT 2") == "2", "at once, for nothing was wrong with it"


def test_links_that_are_shared_leave(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = one_node(make_proxy, server, pool={"mode": "transaction", "share": "autocommit"})
    clients = [closing(proxy.wire()) for _ in range(4)]
    for client in clients:
        assert client.value("SELECT 1") == "1"
    post(proxy, "/nodes/a/drain?force=true")
    wait_until(lambda: not backends(server))


def test_only_links_of_that_node(make_proxy, make_postgres, closing):
    """Each database has its node; a standby needs no force, the primary does."""
    primary = make_postgres()
    standby = primary.standby()
    proxy = make_proxy({"nodes": [Proxy.node(primary, name="a"),
                                  Proxy.node(standby, "standby", name="b", weight=300, zone="west")],
                        "health": HEALTH, "databases": {"app": {}, "reads": {"dbname": "app", "node": "b"}}},
                       postgres=primary)
    wait_until(lambda: proxy.json("/topology")["rolesBy"] == "facts")
    writer, reader = closing(proxy.wire()), closing(proxy.wire(database="reads"))
    assert (writer.value("SELECT pg_is_in_recovery()"), reader.value("SELECT pg_is_in_recovery()")) == ("f", "t")
    found = node(proxy, "b")
    assert found["weight"] == 300 and found["zone"] == "west" and found["draining"] is None
    assert node(proxy, "a")["weight"] == 100 and node(proxy, "a")["zone"] is None
    assert "is the primary" in post(proxy, "/nodes/a/drain", expected=409)["error"]
    post(proxy, "/nodes/b/drain")
    wait_until(lambda: not backends(standby))
    assert backends(primary) and writer.value("SELECT 1") == "1"
    assert proxy.admin("/readyz")[0] == 200
    with pytest.raises(ServerError):
        reader.value("SELECT 1")
    assert node(proxy, "b")["healthy"] is True, "its checks go on"
    proxy.reload({"pool": {"max_connections": 21}})
    assert node(proxy, "b")["draining"] is not None, "a reload changes nothing"


# ---- with reads that are spread


@pytest.fixture(scope="module")
def cluster(template):
    from harness.postgres import Postgres
    primary = Postgres(template, {"helios.node": "a"}).start()
    try:
        primary.sql("CREATE FUNCTION whoami() RETURNS text LANGUAGE sql STABLE AS "
                    "$$ SELECT current_setting('helios.node') $$", database="app")
        yield [primary] + [primary.standby(**{"helios.node": name}) for name in "bc"]
    finally:
        primary.remove()


def split(make_proxy, cluster, **config):
    nodes = [Proxy.node(server, "primary" if i == 0 else "standby", name=name)
             for i, (server, name) in enumerate(zip(cluster, "abc"))]
    proxy = make_proxy({"nodes": nodes, "health": HEALTH, "load_balancer": {"slow_start": "0s"},
                        "lag_routing": {"read_your_writes": False}, **config}, postgres=cluster[0])
    wait_until(lambda: [n["standing"] for n in proxy.json("/nodes")] == ["primary", "standby", "standby"])
    return proxy


def readers(client, times=12):
    """Who has answered so many reads."""
    return {client.value("SELECT whoami()") for _ in range(times)}


def test_reads_leave_a_drained_standby_and_nobody_notices(make_proxy, cluster, closing):
    proxy = split(make_proxy, cluster)
    client = closing(proxy.wire())
    wait_until(lambda: readers(client) == {"b", "c"})
    busy = closing(proxy.wire())
    while busy.query("BEGIN READ ONLY") and busy.value("SELECT whoami()") != "b":
        busy.query("COMMIT")
    post(proxy, "/nodes/b/drain")
    assert readers(client, 50) == {"c"}
    assert busy.value("SELECT whoami()") == "b", "what has begun may end"
    busy.query("COMMIT")
    wait_until(lambda: node(proxy, "b")["draining"]["done"])
    post(proxy, "/nodes/c/drain")
    assert readers(client) == {"a"}, "the last resort"
    post(proxy, "/nodes/b/undrain")
    wait_until(lambda: readers(client) == {"b"})
    post(proxy, "/nodes/c/undrain")
    wait_until(lambda: readers(client) == {"b", "c"})


def test_reads_leave_a_standby_whose_breaker_is_open(make_proxy, cluster, closing):
    """It is up, as far as checks can tell."""
    proxy = split(make_proxy, cluster, circuit_breaker={**BREAKER, "error_codes": ["22012"]})
    client = closing(proxy.wire())
    wait_until(lambda: readers(client) == {"b", "c"})
    wait_until(lambda: (code_of(client, "SELECT 1 / (whoami() <> 'b')::int"), circuit(proxy, "b")["state"])[1] == "open")
    assert circuit(proxy, "c")["state"] == "closed"
    assert readers(client, 50) == {"c"}
    assert node(proxy, "b")["healthy"] is True
    proxy.advance(1001)
    wait_until(lambda: readers(client) == {"b", "c"})
    wait_until(lambda: readers(client) and circuit(proxy, "b")["state"] == "closed")


# ---- circuit breakers

BREAKER = {"enabled": True, "failure_threshold": 3, "open_secs": 1000, "success_threshold": 2}


def circuit(proxy, name="a"):
    return next(c for c in proxy.json("/api/circuit")["circuits"] if c["name"] == name)


def with_breaker(make_proxy, server, **breaker):
    """Pools try again at once, and checks of the node are days apart."""
    return one_node(make_proxy, server, circuit_breaker={**BREAKER, **breaker},
                    pool={"mode": "transaction", "login_retry": "0s"}, health={"check_interval": "86400s"})


def code_of(client, sql="SELECT 1"):
    try:
        client.value(sql)
        return "00000"
    except ServerError as e:
        return e.code


def open_by_logins(proxy, client):
    """Of a server that is gone. What a client hears: that it can't be reached, then that nobody tries."""
    wait_until(lambda: (proxy.advance(1), code_of(client))[1] == "08006")
    assert circuit(proxy)["state"] == "open"


def test_a_breaker_opens_and_nobody_knocks(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = with_breaker(make_proxy, server)
    client = closing(proxy.wire())
    assert code_of(client) == "00000"
    assert proxy.json("/api/circuit")["enabled"] is True
    assert circuit(proxy)["state"] == "closed" and node(proxy)["circuit"] == "closed"
    end(server)
    open_by_logins(proxy, client)
    found = circuit(proxy)
    assert found["node"] == f"127.0.0.1:{server.port}" and found["failures"] >= 3 and found["opened"] == 1
    assert 0 < found["retry_in_ms"] <= 1000000 and found["time_in_ms"]["closed"] > 0
    assert [(c["from"], c["to"], c["reason"]) for c in found["history"]] == [("closed", "open", "too many failures")]
    assert node(proxy)["circuit"] == "open"
    proxy.wait_log("warning circuit breaker.*node=a.*state=open")
    failures, rejected = proxy.metric("node_failures_total", node="a"), found["rejected"]
    for _ in range(5):
        assert code_of(client) == "08006"
    assert proxy.metric("node_failures_total", node="a") == failures, "no connection was tried"
    assert circuit(proxy)["rejected"] == rejected + 5 == proxy.metric("circuit_rejected_total", node="a")
    assert proxy.metric("circuit_state", node="a") == 2 and proxy.metric("circuit_opened_total", node="a") == 1
    with pytest.raises(ServerError) as e:
        client.value("SELECT 1")
    assert "circuit open for node a" in str(e.value)


def test_it_is_half_open_and_closes_when_the_node_is_back(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = with_breaker(make_proxy, server)
    client = closing(proxy.wire())
    assert code_of(client) == "00000"
    end(server)
    open_by_logins(proxy, client)
    proxy.advance(1001)
    wait_until(lambda: circuit(proxy)["state"] == "halfopen")
    assert proxy.metric("circuit_state", node="a") == 1
    wait_until(lambda: code_of(client) == "08006" and circuit(proxy)["state"] == "open")  # a probe found it as before
    assert circuit(proxy)["history"][0]["reason"] == "a probe failed"
    server.start()
    assert code_of(client) == "08006", "it is back, and nobody asks"
    proxy.advance(1001)
    wait_until(lambda: code_of(client) == "00000")
    wait_until(lambda: code_of(client) == "00000" and circuit(proxy)["state"] == "closed")
    assert [c["to"] for c in reversed(circuit(proxy)["history"])] == ["open", "halfopen", "open", "halfopen", "closed"]
    assert circuit(proxy)["time_in_ms"]["open"] >= 2000000


def test_lost_connections_open_it(make_proxy, make_postgres, closing):
    """Of clients that were in the middle of something: their links are lost, and that is enough."""
    server = make_postgres()
    proxy = with_breaker(make_proxy, server)
    clients = [closing(proxy.wire()) for _ in range(3)]
    for client in clients:
        client.query("BEGIN")
    server.kill()
    for client in clients:
        client.until_closed()
    wait_until(lambda: circuit(proxy)["state"] == "open", 20, lambda: f"{circuit(proxy)}\n{proxy.log()}")
    assert circuit(proxy)["failures"] >= 3


def test_only_errors_that_speak_of_the_node(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = with_breaker(make_proxy, server)
    client = closing(proxy.wire())
    client.query("CREATE TEMP TABLE t (v int PRIMARY KEY)")
    client.query("INSERT INTO t VALUES (1)")
    for sql, code in [("SELEC 1", "42601"), ("SELECT 1/0", "22012"), ("INSERT INTO t VALUES (1)", "23505"),
                      ("SELECT * FROM nowhere", "42P01"), ("DO $$BEGIN RAISE 'no'; END$$", "P0001"),
                      ("DO $$BEGIN RAISE 'no' USING ERRCODE = '40P01'; END$$", "40P01")]:
        for _ in range(5):
            assert code_of(client, sql) == code
    client.query("DISCARD ALL")
    assert circuit(proxy)["failures"] == 0 and circuit(proxy)["state"] == "closed"
    for _ in range(3):
        assert code_of(client, "DO $$BEGIN RAISE 'disk' USING ERRCODE = '58030'; END$$") == "58030"
    wait_until(lambda: circuit(proxy)["state"] == "open")
    assert circuit(proxy)["failures"] == 3


@pytest.mark.parametrize("share", ["off", "autocommit"])
def test_slow_calls_open_it(make_proxy, make_postgres, closing, share):
    """By the time from a request to the end of its answer; what a client does in between does not count."""
    server = make_postgres()
    proxy = with_breaker(make_proxy, server, slow_call_rate=60, minimum_calls=20,
                         failure_conditions={"slow_threshold_secs": 5})
    proxy.reload({"pool": {"share": share}})
    client = closing(proxy.wire())
    client.query("BEGIN")
    proxy.advance(60)
    client.query("COMMIT")
    for _ in range(20):
        assert code_of(client) == "00000"
    wait_until(lambda: circuit(proxy)["calls"] >= 20)
    assert circuit(proxy)["state"] == "closed" and circuit(proxy)["slow_calls"] == 0
    proxy.reload({"circuit_breaker": {"failure_conditions": {"slow_threshold_ms": 1}}})
    proxy.reload({"circuit_breaker": {"failure_conditions": {"slow_threshold_secs": None}}})
    for _ in range(100):
        assert code_of(client, "SELECT pg_sleep(0.01)") == "00000"
    wait_until(lambda: circuit(proxy)["state"] == "open")
    assert circuit(proxy)["slow_calls"] >= 20 and circuit(proxy)["failures"] == 0
    assert circuit(proxy)["history"][0]["reason"] == "too many slow calls"


def test_a_wrong_password_is_not_the_nodes_fault(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = one_node(make_proxy, server, circuit_breaker=BREAKER, pool={"login_retry": "0s"},
                     databases={"app": {"user": "scram_user", "password": "wrong"}})
    for _ in range(6):
        with pytest.raises(ServerError):
            closing(proxy.wire())
        proxy.advance(1)
    wait_until(lambda: circuit(proxy)["calls"] >= 5)
    assert circuit(proxy)["state"] == "closed" and circuit(proxy)["failures"] == 0


def test_breakers_follow_a_reload(make_proxy, make_postgres, closing):
    server = make_postgres()
    proxy = with_breaker(make_proxy, server, enabled=False)
    client = closing(proxy.wire())
    assert code_of(client) == "00000"
    end(server)
    for _ in range(5):
        proxy.advance(1)
        assert code_of(client) == "08001" or code_of(client) == "08001"
    found = proxy.json("/api/circuit")
    assert found["enabled"] is False and [c["state"] for c in found["circuits"]] == ["closed"]
    assert node(proxy)["circuit"] is None
    proxy.reload({"circuit_breaker": {"enabled": True}})
    open_by_logins(proxy, client)
    proxy.reload({"circuit_breaker": {"enabled": False}})
    server.start()
    wait_until(lambda: (proxy.advance(1), code_of(client))[1] == "00000")
