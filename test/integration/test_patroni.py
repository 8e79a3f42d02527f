"""The proxy in front of a Patroni cluster: real members, a real etcd. The proxy is told of no node, only of Patroni."""

import shutil
import threading

import psycopg
import pytest

from harness import patroni
from harness.cluster import standings
from harness.patroni import PatroniCluster
from harness.proxy import Proxy
from harness.wait import wait_until

# Two clusters at a time are more than some machines have the cores for.
pytestmark = [pytest.mark.xdist_group("patroni"), pytest.mark.timeout(240),
              pytest.mark.skipif(patroni.missing() != "", reason="not installed: " + patroni.missing())]

READ = "SELECT whoami()"
WRITE = "WITH w AS (INSERT INTO t VALUES (1)) SELECT whoami()"
NOBODY = "http://127.0.0.1:9"  # the port of discard: nobody listens there


@pytest.fixture(scope="module")
def cluster(request):
    """p3 takes no reads. Each test leaves it healthy, with any leader."""
    made = PatroniCluster(request.config.getoption("--pg-bin"), ({}, {}, {"noloadbalance": True}))
    try:
        yield made.start()
    finally:
        made.remove()


@pytest.fixture
def make(make_proxy):
    def made(urls, topology=None, start=True, **config):
        return make_proxy({"topology": {"provider": "patroni", "patroni_urls": urls, "patroni_interval": "1s",
                                        **(topology or {})},
                           "health": {"user": "postgres", "check_interval": "2s", "check_timeout": "3s"}, **config},
                          postgres=None, start=start)
    return made


def urls(cluster):
    return [m.url for m in cluster.members.values()]


def says(proxy):
    return proxy.json("/topology")["patroni"]


def wait_settled(proxy, cluster):
    """All members are nodes; the leader is the primary."""
    leader = cluster.leader()
    wanted = {name: "primary" if name == leader else "standby" for name in cluster.members}
    wait_until(lambda: standings(proxy) == wanted, 60, lambda: f"{standings(proxy)}\n{cluster.roles()}\n{proxy.log()}")
    return leader


def served_by(db, statement=READ):
    return db.execute(statement).fetchone()[0]


class Load:
    """Clients that write, or read, one statement after the other, each on a connection of its own, until the end."""

    def __init__(self, proxy, statement, clients):
        self.proxy, self.statement = proxy, statement
        self.stop, self.done, self.errors = threading.Event(), [0] * clients, []
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]

    def run(self, i):
        db = None
        while not self.stop.is_set():
            try:
                if db is None or db.closed:
                    db = self.proxy.connect(prepare_threshold=None)
                db.execute(self.statement)
                self.done[i] += 1
            except psycopg.Error as e:
                self.errors.append((i, str(e)))
        db.close()

    def __enter__(self):
        for t in self.threads:
            t.start()
        self.goes_on()
        return self

    def __exit__(self, *unused):
        self.stop.set()
        for t in self.threads:
            t.join()

    def goes_on(self, more=5, timeout=90):
        """Each client has done some more."""
        before = list(self.done)
        wait_until(lambda: all(now >= then + more for now, then in zip(self.done, before)), timeout,
                   lambda: f"{self.done} {self.errors}\n{self.proxy.log()[-5000:]}")


def test_members_are_nodes(make, cluster):
    proxy = make([NOBODY, cluster.members["p2"].url])
    leader = wait_settled(proxy, cluster)
    topology = proxy.json("/topology")
    assert topology["currentPrimary"] == f"127.0.0.1:{cluster.members[leader].port}"
    assert topology["leaderNamed"] == leader
    told = topology["patroni"]
    assert told["state"] == "answers" and told["leader"] == leader and told["pause"] is False
    assert told["url"] == cluster.members["p2"].url and told["scheduledSwitchover"] is None
    assert {m["name"] for m in told["members"]} == set(cluster.members)
    assert next(m for m in told["members"] if m["name"] == "p3")["tags"]["noloadbalance"] is True
    assert {n["source"] for n in proxy.json("/nodes")} == {"patroni"}
    assert proxy.metric("patroni_up") == 1 and proxy.metric("patroni_members") == 3
    assert proxy.metric("patroni_has_leader") == 1
    with proxy.connect() as db:
        assert served_by(db, WRITE) == cluster.members[leader].port


def test_reads_are_spread_but_not_to_whom_is_spared(make, cluster):
    proxy = make(urls(cluster), load_balancer={"read_write_split": True, "strategy": "round_robin"})
    leader = wait_settled(proxy, cluster)
    allowed = {m.port for m in cluster.members.values() if m.name not in (leader, "p3")}
    with proxy.connect() as db:
        wait_until(lambda: served_by(db) in allowed, message=lambda: f"{served_by(db)} {allowed} "
                   f"{proxy.json('/api/routing/explain?query=SELECT%20whoami()&database=app&user=app')}")
        assert {served_by(db) for _ in range(40)} <= allowed


def other_than(cluster, leader):
    """One that may be chosen; p3 may, too, but takes no reads meanwhile."""
    return next(name for name in ("p1", "p2") if name != leader)


def wait_primary(proxy, cluster, name):
    address = f"127.0.0.1:{cluster.members[name].port}"
    wait_until(lambda: proxy.json("/topology")["currentPrimary"] == address, 90, lambda: proxy.log()[-5000:])


# What a statement that was under way ends with; whatever comes later waits for the next primary.
UNDER_WAY = ("server closed the connection", "terminating connection due to administrator command",
             "terminating connection due to unexpected postmaster exit", "the connection to the server was lost", "connection to server was lost", "server ended the connection")


def only_what_was_under_way(errors):
    return [e for _, e in errors if not any(text in e for text in UNDER_WAY)]


def test_a_switchover_under_load(make, cluster):
    proxy = make(urls(cluster))
    leader = wait_settled(proxy, cluster)
    candidate = other_than(cluster, leader)
    with proxy.connect() as db:  # reads go to the primary until the catalog of the database is known
        wait_until(lambda: served_by(db) == cluster.members[candidate].port)
    with Load(proxy, "INSERT INTO t VALUES (1)", 4) as writes, Load(proxy, READ, 4) as reads:
        cluster.ctl("switchover", "--master", leader, "--candidate", candidate, "--force")
        wait_primary(proxy, cluster, candidate)
        failed = len(writes.errors)
        writes.goes_on()
        reads.goes_on()
        assert len(writes.errors) == failed  # none since there is a primary
    assert not reads.errors
    assert not only_what_was_under_way(writes.errors)
    cluster.wait_healthy()
    assert wait_settled(proxy, cluster) == candidate
    assert proxy.json("/topology")["leaderNamed"] == candidate


def test_the_leader_is_killed(make, cluster):
    """Patroni and PostgreSQL of one machine at once. The URL that is configured is that of the dead one alone: the others
    were learned. It is a member no more after a while, and then it comes back."""
    leader = cluster.leader()
    proxy = make([cluster.members[leader].url], {"forget": "1s"})
    wait_settled(proxy, cluster)
    with Load(proxy, "INSERT INTO t VALUES (1)", 2) as writes:
        cluster.members[leader].kill()
        wait_until(lambda: says(proxy)["leader"] not in (None, leader), 90, lambda: proxy.log()[-5000:])
        wait_primary(proxy, cluster, cluster.leader())
        failed = len(writes.errors)
        writes.goes_on()
    url = says(proxy)["url"]
    try:
        wait_until(lambda: leader not in {m["name"] for m in says(proxy)["members"]}, 60)
        wait_until(lambda: leader not in standings(proxy), 60)
    finally:
        cluster.members[leader].start()
    cluster.wait_healthy()
    wait_settled(proxy, cluster)
    assert url != cluster.members[leader].url
    assert len(writes.errors) == failed
    assert not only_what_was_under_way(writes.errors)


def test_patroni_does_not_answer(make, cluster):
    """Its API is there and silent, then gone: the members stay, and the nodes themselves say which is the primary."""
    proxy = make(urls(cluster), {"patroni_timeout": "1s"})
    leader = wait_settled(proxy, cluster)
    try:
        for member in cluster.members.values():
            member.pause_patroni()
        wait_until(lambda: says(proxy)["state"] == "silent", 60)
        proxy.wait_log("error Patroni does not answer")
        assert says(proxy)["error"] and proxy.metric("patroni_up") == 0
        assert proxy.metric("patroni_poll_failures_total") >= 2
        assert set(standings(proxy)) == set(cluster.members)
        wait_until(lambda: proxy.json("/topology")["leaderNamed"] is None)
        wait_primary(proxy, cluster, leader)
        with proxy.connect() as db:
            assert served_by(db, WRITE) == cluster.members[leader].port
    finally:
        for member in cluster.members.values():
            member.resume_patroni()
    wait_until(lambda: says(proxy)["state"] == "answers", 60)
    cluster.wait_healthy()
    wait_settled(proxy, cluster)


def test_nobody_is_there_at_the_start(make, cluster):
    """No node is known and Patroni is not there: the proxy starts, and its clients wait."""
    proxy = make([NOBODY], start=False)
    proxy.spawn()
    Proxy.live.append(proxy)
    wait_until(proxy.is_live)
    proxy.wait_log("error Patroni does not answer")
    assert proxy.admin("/readyz")[0] == 503 and proxy.json("/nodes") == []
    served = []
    waiting = threading.Thread(target=lambda: served.append(served_by(proxy.connect(), WRITE)))
    waiting.start()
    wait_until(lambda: proxy.metric("clients_waiting") >= 1)
    proxy.reload({"topology": {"patroni_urls": [NOBODY, *urls(cluster)]}})
    waiting.join()
    assert served == [cluster.members[cluster.leader()].port]
    proxy.wait_log("info Patroni answers again|info Patroni names its leader")
    wait_until(lambda: proxy.admin("/readyz")[0] == 200)


def test_a_node_that_is_not_the_leader(make, cluster):
    """Read-write behind Patroni's back: it gets nothing, and it is shouted."""
    proxy = make(urls(cluster))
    leader = wait_settled(proxy, cluster)
    rogue = cluster.members[other_than(cluster, leader)]
    rogue.kill_patroni()
    try:
        assert rogue.sql("SELECT pg_promote(true, 60)") == [(True,)]
        wait_until(lambda: standings(proxy)[rogue.name] == "not_named", 60, lambda: proxy.log()[-3000:])
        proxy.wait_log(f"error node must not be used node={rogue.name} standing=not_named")
        assert proxy.metric("node_refused", node=rogue.name) == 1
        wait_primary(proxy, cluster, leader)
        with proxy.connect() as db:
            assert {served_by(db, WRITE) for _ in range(10)} == {cluster.members[leader].port}
    finally:
        rogue.kill()
        shutil.rmtree(rogue.data)  # its history is another one
        rogue.start()
    cluster.wait_healthy()
    wait_settled(proxy, cluster)


def test_pause_and_a_scheduled_switchover_are_shown(make, cluster):
    proxy = make(urls(cluster))
    leader = wait_settled(proxy, cluster)
    cluster.ctl("switchover", "--master", leader, "--candidate", other_than(cluster, leader), "--scheduled",
                "2099-01-01T00:00", "--force")
    wait_until(lambda: says(proxy)["scheduledSwitchover"])
    assert says(proxy)["scheduledSwitchover"]["from"] == leader
    assert says(proxy)["scheduledSwitchover"]["at"].startswith("2099-01-01")
    cluster.ctl("flush", "demo", "switchover", "--force")
    cluster.ctl("pause")
    try:
        wait_until(lambda: says(proxy)["pause"])
        assert proxy.metric("patroni_paused") == 1
    finally:
        cluster.ctl("resume")
    wait_until(lambda: not says(proxy)["pause"])


def test_another_provider_after_a_reload(make, cluster):
    """Patroni's members go with it; the nodes that are configured then stay."""
    proxy = make(urls(cluster), {"forget": "1s"})
    leader = wait_settled(proxy, cluster)
    proxy.reload({"topology": {"provider": "postgres"},
                  "nodes": [Proxy.node(("127.0.0.1", cluster.members[leader].port), name="only")]})
    wait_until(lambda: set(standings(proxy)) == {"only"}, 60, lambda: proxy.log()[-3000:])
    assert says(proxy) is None
    with proxy.connect() as db:
        assert served_by(db, WRITE) == cluster.members[leader].port
    proxy.reload({"topology": {"provider": "patroni"}, "nodes": []})
    wait_settled(proxy, cluster)


def test_https_and_a_client_certificate(make, request, certs):
    """Its REST API asks for a certificate, and for a name that is in its own."""
    client = certs.issue("patroni-client", "patroni-client")
    one = PatroniCluster(request.config.getoption("--pg-bin"), ({},), server=certs.server, client=client, ca=certs.ca)
    try:
        one.start()
        url = one.members["p1"].url
        topology = {"patroni_ca_path": certs.ca, "patroni_cert_path": client.cert,
                    "patroni_key_path": client.key}
        proxy = make([url], topology)
        wait_settled(proxy, one)
        assert says(proxy)["url"] == url
        proxy.reload({"topology": {"patroni_cert_path": None, "patroni_key_path": None}})
        wait_until(lambda: says(proxy)["state"] == "silent", 60)
        proxy.reload({"topology": {"patroni_cert_path": client.cert, "patroni_key_path": client.key}})
        wait_until(lambda: says(proxy)["state"] == "answers", 60)
        proxy.reload({"topology": {"patroni_ca_path": certs.other_ca}})
        wait_until(lambda: says(proxy)["state"] == "silent", 60)
        assert "certificate" in says(proxy)["error"]
    finally:
        one.remove()
