"""
Names of nodes that come to lead elsewhere, or nowhere, while the proxy runs. Two servers share a port, at two loopback
addresses; the name is in a hosts file that only the proxy sees.
"""

import re

import pytest

from harness.cluster import HEALTH, node, standings
from harness.hosts import Hosts
from harness.postgres import Template
from harness.wait import wait_until
from test_cluster import _copy_of

HERE, THERE, NAME = "127.0.0.1", "127.0.0.2", "db.test"


@pytest.fixture(name="hosts")
def hosts_fixture(tmp_path):
    return Hosts(tmp_path, {NAME: [HERE]})


def proxy_by_name(make_proxy, hosts, port, **health):
    """Names are looked up again when the test says so by moving the clock."""
    health = {**HEALTH, "dns_interval": "10s", **health}
    proxy = make_proxy({"nodes": [{"host": NAME, "port": port, "role": "primary", "name": "a"}], "health": health},
                       start=False)
    hosts.show_to(proxy)
    return proxy.start()


def look_up_again(proxy):
    proxy.advance(11)


def server_at(client):
    return client.value("SELECT host(inet_server_addr())")


def test_a_name_that_leads_elsewhere(make_proxy, make_postgres, closing, hosts):
    """To the standby that was promoted: who is in a transaction ends it where it is, what comes then goes there."""
    primary = make_postgres({"listen_addresses": HERE})
    standby = primary.standby(listen_addresses=THERE, port=primary.port)
    proxy = proxy_by_name(make_proxy, hosts, primary.port)
    wait_until(lambda: standings(proxy) == {"a": "primary"})
    busy, idle = closing(proxy.wire()), closing(proxy.wire())
    assert server_at(idle) == HERE
    busy.value("BEGIN; SELECT 1")
    look_up_again(proxy)
    assert node(proxy, "a")["addresses"] == [HERE] and proxy.metric("node_moves_total", node="a") == 0
    standby.sql("SELECT pg_promote()")
    hosts.set({NAME: [THERE]})
    look_up_again(proxy)
    wait_until(lambda: node(proxy, "a")["addresses"] == [THERE])
    wait_until(lambda: node(proxy, "a")["timeline"] == 2, 60)
    assert server_at(idle) == THERE
    assert server_at(busy) == HERE
    busy.value("COMMIT; SELECT 1")
    assert server_at(busy) == THERE
    assert proxy.metric("node_moves_total", node="a") == 1
    proxy.wait_log("a node's name leads to another address now node=a")


def test_a_name_that_leads_to_another_cluster(make_proxy, make_postgres, hosts, template):
    """It is known by its system identifier."""
    ours = make_postgres({"listen_addresses": HERE})
    other_template = Template(template.bindir)
    try:
        stranger = make_postgres({"listen_addresses": THERE, "port": ours.port}, data=_copy_of(other_template))
        standby = ours.standby()
        health = {**HEALTH, "dns_interval": "10s"}
        proxy = make_proxy({"nodes": [{"host": NAME, "port": ours.port, "role": "primary", "name": "a"},
                                      {"host": HERE, "port": standby.port, "role": "standby", "name": "b"}],
                            "health": health}, start=False)
        hosts.show_to(proxy)
        proxy.start()
        wait_until(lambda: standings(proxy) == {"a": "primary", "b": "standby"})
        hosts.set({NAME: [THERE]})
        look_up_again(proxy)
        wait_until(lambda: standings(proxy) == {"a": "other_cluster", "b": "standby"}, 60)
        assert proxy.json("/topology")["currentPrimary"] is None
        assert node(proxy, "a")["system_identifier"] != node(proxy, "b")["system_identifier"]
        proxy.wait_log("error.*node must not be used.*node=a.*standing=other_cluster")
        stranger.stop()
    finally:
        other_template.remove()


def test_a_name_that_leads_nowhere_any_more(make_proxy, make_postgres, closing, hosts):
    """What is known of it stays; it is said once, and counted."""
    server = make_postgres({"listen_addresses": HERE})
    proxy = proxy_by_name(make_proxy, hosts, server.port)
    wait_until(lambda: standings(proxy) == {"a": "primary"})
    hosts.set({})
    for wanted in (1, 2):
        look_up_again(proxy)
        wait_until(lambda: proxy.metric("node_resolve_failures_total", node="a") >= wanted, 120)  # pylint: disable=W0640
    assert len(re.findall("cannot resolve a node's name; what is known of it stays.*node=a", proxy.log())) == 1
    assert node(proxy, "a")["addresses"] == [HERE] and node(proxy, "a")["last_error"]
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'heliosdb%'")
    assert server_at(closing(proxy.wire())) == HERE
    wait_until(lambda: standings(proxy) == {"a": "primary"})
    hosts.set({NAME: [HERE]})
    look_up_again(proxy)
    proxy.wait_log("a node's name can be resolved again")
    assert proxy.metric("node_moves_total", node="a") == 0


def test_an_address_more_or_less(make_proxy, make_postgres, closing, hosts):
    """As long as the one that worked is among them nothing is closed."""
    server = make_postgres({"listen_addresses": f"{HERE},{THERE}"})
    proxy = proxy_by_name(make_proxy, hosts, server.port)
    client = closing(proxy.wire())
    assert server_at(client) == HERE
    pid = client.server_pid()
    hosts.set({NAME: [THERE, HERE]})
    look_up_again(proxy)
    wait_until(lambda: set(node(proxy, "a")["addresses"]) == {HERE, THERE})
    assert node(proxy, "a")["addresses"][0] == HERE
    assert client.server_pid() == pid
    assert proxy.metric("node_moves_total", node="a") == 0


def test_a_node_that_is_down_is_looked_up_soon(make_proxy, make_postgres, closing, hosts):
    """dns_interval = 0: its name is looked up only then."""
    server = make_postgres({"listen_addresses": HERE})
    other = make_postgres({"listen_addresses": THERE, "port": server.port})
    proxy = proxy_by_name(make_proxy, hosts, server.port, dns_interval="0s", failure_threshold=1)
    wait_until(lambda: standings(proxy) == {"a": "primary"})
    hosts.set({NAME: [THERE]})
    look_up_again(proxy)
    proxy.advance(2)
    assert node(proxy, "a")["addresses"] == [HERE], "nobody asked"
    server.stop()
    wait_until(lambda: node(proxy, "a")["addresses"] == [THERE], 60)
    wait_until(lambda: standings(proxy) == {"a": "primary"}, 60)
    assert server_at(closing(proxy.wire())) == THERE
    other.stop()


def test_a_reload_looks_up_at_once(make_proxy, make_postgres, hosts):
    server = make_postgres({"listen_addresses": HERE})
    proxy = proxy_by_name(make_proxy, hosts, server.port, dns_interval="0s")
    hosts.set({NAME: [HERE, THERE]})
    proxy.reload({"pool": {"max_connections": 7}})
    wait_until(lambda: len(node(proxy, "a")["addresses"]) == 2)
