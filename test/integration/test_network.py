"""
Nodes that the network cuts off: no RST, no FIN, nothing that a process could do. Real servers in network namespaces of
their own; the proxy is outside.
"""

import pytest

from harness.cluster import HEALTH, node, standings, wait_standings
from harness.network import Network
from harness.wait import wait_until
from harness.wire import ServerError, errors, query

CUTS = ["blackhole", "down"]


@pytest.fixture(name="network")
def network_fixture():
    made = Network()
    yield made
    made.remove()


def server_in(network, make_postgres):
    with network.inside():
        return make_postgres({"listen_addresses": network.address})


def standby_in(network, primary):
    with network.inside():
        return primary.standby(listen_addresses=network.address)


def node_in(network, server, role="primary", name="a"):
    return {"host": network.address, "port": server.port, "role": role, "name": name}


def proxy_for(make_proxy, *nodes, **settings):
    health = {**HEALTH, "check_timeout": "1s"}
    proxy = make_proxy({"nodes": list(nodes), "health": health, "proxy": settings})
    wait_until(lambda: standings(proxy)["a"] == "primary", 60)
    return proxy


@pytest.mark.parametrize("cut", CUTS)
def test_a_node_that_is_cut_off_is_noticed_and_comes_back(make_proxy, make_postgres, network, cut):
    """No connection is reset: the checks run into their time-out, those of a new connection as well."""
    primary = make_postgres()
    standby = standby_in(network, primary)
    proxy = proxy_for(make_proxy, {"host": primary.host, "port": primary.port, "role": "primary", "name": "a"},
                      node_in(network, standby, "standby", "b"))
    wait_standings(proxy, a="primary", b="standby")
    proxy.admin("/debug/positions", method="POST", body=b"")
    network.cut(cut)
    wait_standings(proxy, a="primary", b="down")
    found = node(proxy, "b")
    assert found["failure_count"] >= 2 and found["replication_lag_ms"] is None and found["position"] is None
    network.mend(cut)
    wait_standings(proxy, a="primary", b="standby")


@pytest.mark.parametrize("cut", CUTS)
def test_a_query_that_waits_for_its_answer_ends_by_keepalive(make_proxy, make_postgres, closing, network, cut):
    """All that was sent is acknowledged: nothing but probes can tell. (Unless the cut comes before a late acknowledgment:
    for that there is a user timeout, by which an idle connection ends no sooner than a probe has its turn.)"""
    server = server_in(network, make_postgres)
    proxy = proxy_for(make_proxy, node_in(network, server), tcp_keepalive="1s", tcp_user_timeout="5s")
    client = closing(proxy.wire())
    client.send(query("SELECT pg_sleep(3600)"))
    wait_until(lambda: server.backends("wait_event = 'PgSleep'"))
    network.cut(cut)
    wait_until(lambda: not client.is_quiet(), 60)
    assert errors(client.until_ready()) == ["08006"]


@pytest.mark.parametrize("cut", CUTS)
def test_a_query_that_does_not_get_through_ends_by_user_timeout(make_proxy, make_postgres, closing, network, cut):
    """It is sent again and again, unacknowledged; keep-alive has no say meanwhile."""
    server = server_in(network, make_postgres)
    proxy = proxy_for(make_proxy, node_in(network, server), tcp_keepalive="3600s", tcp_user_timeout="2s")
    client = closing(proxy.wire())
    assert client.value("SELECT 1") == "1"
    network.cut(cut)
    client.send(query("SELECT 2"))
    wait_until(lambda: not client.is_quiet(), 60)
    assert errors(client.until_ready()) == ["08006"]
    network.mend(cut)

    def is_served():
        try:
            return closing(proxy.wire()).value("SELECT 3") == "3"
        except ServerError:
            return False
    wait_until(is_served, 60)
