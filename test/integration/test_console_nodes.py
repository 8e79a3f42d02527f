"""
Nodes on the console: shown, added, removed, enabled, disabled, drained, and the primary named; on real servers that
stream. What the admin API does with them: test_members.py.
"""

import json
import threading

import pytest

from harness.cluster import node, wait_standings, who
from harness.wait import wait_until

from test_console import USERS, Console, row
from test_members import names, proxy_of, servers, state_file  # noqa: F401: fixtures

FORGOTTEN = "it is forgotten at the next start, for there is no [topology] state_file"


@pytest.fixture
def cluster(make_proxy, servers, closing):  # noqa: F811
    """(proxy, console, servers): a proxy of a primary and its standbys, of which the last is not configured"""
    def make(standbys=1, **config):
        found = servers(standbys)
        proxy = proxy_of(make_proxy, *found[:-1], admin=USERS, **config)
        console = closing(Console(proxy.address))
        console.notices = []
        console.db.add_notice_handler(lambda n: console.notices.append(n.message_primary))
        return proxy, console, found
    return make


def reads_from(proxy):
    with proxy.connect() as db:
        return {who(db) for _ in range(20)}


def test_a_node_is_added_serves_and_is_removed(cluster):
    proxy, console, (a, b) = cluster()
    assert console(f"ADD NODE {b.host}:{b.port} name = b weight=50 zone='x y'") == "ADD NODE"
    assert console.notices == [FORGOTTEN]
    wait_standings(proxy, a="primary", b="standby")
    shown = row(console("SHOW NODES"), name="b")
    assert (shown["host"], shown["port"], shown["role"], shown["weight"], shown["zone"], shown["source"]) == (
        b.host, b.port, "standby", 50, "x y", "manual")
    assert (shown["primary"], shown["enabled"], shown["draining"]) == (0, 1, 0)
    assert row(console("SHOW NODES"), name="a")["primary"] == 1
    wait_until(lambda: "b" in reads_from(proxy))
    console.refused(f"ADD NODE {b.host}:{b.port}", "there is")
    console.notices.clear()
    assert console("REMOVE NODE b") == "REMOVE NODE"
    assert FORGOTTEN in console.notices
    assert names(proxy) == ["a"] and len(console("SHOW NODES")) == 1
    assert reads_from(proxy) == {"a"}


def test_disabled_drained_and_back(cluster, state_file):  # noqa: F811
    proxy, console, (_, b, _) = cluster(2, topology={"state_file": state_file})
    wait_until(lambda: "b" in reads_from(proxy))
    for off, on, key in (("DISABLE", "ENABLE", "enabled"), ("DRAIN", "UNDRAIN", "draining")):
        assert console(f"{off} NODE {b.host}:{b.port}") == f"{off} NODE"
        assert row(console("SHOW NODES"), name="b")[key] == (key == "draining")
        wait_until(lambda: row(console("SHOW NODES"), name="b")["links"] == 0)
        assert reads_from(proxy) == {"a"}
        assert console(f"{on} NODE b") == f"{on} NODE"
        assert row(console("SHOW NODES"), name="b")[key] == (key == "enabled")
        wait_until(lambda: "b" in reads_from(proxy))
    console.refused("UNDRAIN NODE b", "does not drain")
    assert not any("forgotten" in text for text in console.notices)
    with open(state_file, encoding="utf-8") as f:
        assert json.load(f)["enabled"] == [] or json.load(f)["enabled"][0]["enabled"]


def test_the_primary_leaves_by_force_alone(cluster):
    proxy, console, _ = cluster()
    for verb in ("DISABLE", "DRAIN"):
        console.refused(f"{verb} NODE a", "FORCE does it all the same")
    assert not node(proxy, "a")["draining"]
    console("DRAIN NODE a FORCE")
    assert node(proxy, "a")["draining"]
    console("UNDRAIN NODE a")
    with proxy.connect() as db:
        assert who(db) == "a"


def test_the_primary_is_named(cluster):
    proxy, console, (_, b, _) = cluster(2, topology={"provider": "manual"})
    assert console("SET primary = 'a'") == "SET"
    wait_until(lambda: proxy.json("/topology")["leaderNamed"] == "a")
    console(f"SET PRIMARY TO '{b.host}:{b.port}'")
    wait_until(lambda: proxy.json("/topology")["leaderNamed"] == "b")
    console("SET primary = none")
    wait_until(lambda: proxy.json("/topology")["leaderNamed"] is None)
    console.refused("SET primary = nobody", "no such node: nobody")


def test_refusals_in_words(cluster, closing):
    proxy, console, _ = cluster()
    console.refused("SET primary = a", "provider")
    console.refused("ENABLE NODE nobody", "no such node: nobody")
    console.refused("REMOVE NODE a FORCE", "was not added by hand (configuration): it can be disabled")
    console.refused("ADD NODE x colour=red", "colour")
    console.refused("ADD NODE x port=99999", "port")
    console.refused("ADD NODE x weight=heavy", "weight")
    console.refused("ADD NODE x name=a", "a")
    console.refused("ADD NODE", "invalid command")
    console.refused("DRAIN NODE a b c", "invalid command")
    assert console("ENABLE node") == "ENABLE"  # a database of that name
    clerk = closing(Console(proxy.address, user="clerk"))
    for command in ("ADD NODE x", "REMOVE NODE a", "DRAIN NODE a", "SET primary = a"):
        clerk.refused(command, "admin access needed")
    assert [n["name"] for n in clerk("SHOW NODES")] == ["a"]
    assert names(proxy) == ["a"]


def test_what_cannot_be_written_is_refused(cluster, tmp_path):
    proxy, console, _ = cluster(topology={"state_file": str(tmp_path / "gone" / "members.json")})
    console.refused("ADD NODE nowhere:1", "gone")
    assert names(proxy) == ["a"]


def test_many_at_once_and_clients_that_leave(cluster, closing):
    """Each waits for the control thread, and some do not wait for their answer."""
    proxy, console, _ = cluster()

    def add(i):
        mine = Console(proxy.address)
        mine(f"ADD NODE nowhere.invalid:{i} name=n{i} enabled=false")
        mine.close()

    threads = [threading.Thread(target=add, args=(i,)) for i in range(1, 13)]
    gone = [closing(proxy.wire(user="boss", database="helios")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for i, client in enumerate(gone):
        client.send(b"Q" + (len(text := f"ADD NODE nowhere.invalid:{i + 50} name=g{i} enabled=false\0".encode()) + 4)
                    .to_bytes(4, "big") + text)
        client.close()
    for thread in threads:
        thread.join()
    assert {f"n{i}" for i in range(1, 13)} <= set(names(proxy))
    for i in range(1, 13):
        assert console(f"REMOVE NODE n{i}") == "REMOVE NODE"
    assert not any(n.startswith("n") for n in names(proxy))
