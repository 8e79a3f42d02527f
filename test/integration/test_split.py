"""
Reads go to standbys, all else to the primary: real servers that stream. Each has a setting of its own, helios.node, which a
function returns; so a query tells who has answered it.
"""

import psycopg
import pytest

from harness.wait import wait_until
from harness.wire import Wire, bind, errors, execute, flush, parse, query, rows, sync, tags

from test_cluster import HEALTH, NAMES, wait_standings
from harness.proxy import Proxy

WHO = "SELECT whoami()"


@pytest.fixture(scope="module")
def cluster(template):
    from harness.postgres import Postgres
    primary = Postgres(template, {"helios.node": "a"}).start().create_roles()
    try:
        primary.sql("CREATE FUNCTION whoami() RETURNS text LANGUAGE sql STABLE AS "
                    "$$ SELECT current_setting('helios.node') $$", database="app")
        primary.sql("CREATE TABLE items (id int PRIMARY KEY, name text)", database="app")
        primary.sql("GRANT ALL ON items TO PUBLIC", database="app")
        servers = [primary] + [primary.standby(**{"helios.node": name}) for name in "bc"]
        yield servers
    finally:
        primary.remove()


def split_proxy(make_proxy, servers, config=None, health=None):
    nodes = [Proxy.node(server, "primary" if i == 0 else "standby", name=name)
             for i, (server, name) in enumerate(zip(servers, NAMES))]
    merged = {"nodes": nodes, "health": {**HEALTH, **(health or {})}, **(config or {})}
    proxy = make_proxy(merged, postgres=servers[0])
    wait_standings(proxy, **{name: "primary" if i == 0 else "standby" for i, name in enumerate(NAMES[:len(servers)])})
    return proxy


def who(db):
    return db.execute(WHO).fetchone()[0]


def routed(proxy):
    """{reason: count} of what was routed so far."""
    return {dict(labels)["reason"]: int(value) for (name, labels), value in proxy.metrics().items()
            if name == "routed_total" and value}


def wait_split(proxy):
    """Until reads reach standbys: the catalog has been read."""
    with proxy.connect() as db:
        wait_until(lambda: who(db) != "a", 30, lambda: f"{routed(proxy)}\n{proxy.log()[-3000:]}")


def test_reads_go_to_standbys_in_turn(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    with proxy.connect() as db:
        seen = [who(db) for _ in range(20)]
        assert seen.count("b") == 10 and seen.count("c") == 10
        assert proxy.metric("routed_total", to="standby", reason="read") >= 20
