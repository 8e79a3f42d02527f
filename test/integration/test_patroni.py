"""The proxy in front of a Patroni cluster: real members, a real etcd. The proxy is told of no node, only of Patroni."""

import threading

import psycopg
import pytest

from harness import patroni
from harness.patroni import PatroniCluster
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


def standings(proxy):
    return {node["name"]: node["standing"] for node in proxy.json("/nodes")}


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


def test_a_switchover_under_load(make, cluster):
    proxy = make(urls(cluster))
    leader = wait_settled(proxy, cluster)
    candidate = next(name for name in ("p1", "p2") if name != leader)
    writers, readers = 4, 4
    with Load(proxy, "INSERT INTO t VALUES (1)", writers) as writes, Load(proxy, "SELECT 1", readers) as reads:
        cluster.ctl("switchover", "--master", leader, "--candidate", candidate, "--force")
        wait_until(lambda: proxy.json("/topology")["currentPrimary"] == f"127.0.0.1:{cluster.members[candidate].port}",
                   60, lambda: proxy.log()[-5000:])
        writes.goes_on()
        reads.goes_on()
    print("writes that failed:", writes.errors, "reads that failed:", reads.errors)
    open("/tmp/sw.log", "w").write(proxy.log())
    assert not reads.errors
    assert len(writes.errors) <= writers
    cluster.wait_healthy()
    wait_settled(proxy, cluster)
