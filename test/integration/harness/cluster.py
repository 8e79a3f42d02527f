"""
A proxy in front of a primary and its standbys, which are called a, b, c: what the monitors find out, and where queries go.
Each server has a setting of its own, helios.node, which a function returns; so a query tells who has answered it.
"""

import psycopg

from .proxy import Proxy
from .wait import wait_until

HEALTH = {"check_interval": "1s", "check_timeout": "3s", "failure_threshold": 2, "user": "postgres"}
NAMES = "abcd"
WHO = "SELECT whoami()"
POOL = {"load_balancer": {"slow_start": "0s"}}


def merged(*tables):
    result = {}
    for table in tables:
        for key, value in table.items():
            result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
    return result


def make_cluster(primary, standbys, **settings):
    primary.sql("CREATE FUNCTION whoami() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('helios.node') $$",
                database="app")
    primary.sql("CREATE TABLE items (id int PRIMARY KEY, name text); GRANT ALL ON items TO PUBLIC; "
                "CREATE SEQUENCE numbers; GRANT ALL ON numbers TO PUBLIC; "
                "CREATE FUNCTION adds(int) RETURNS int LANGUAGE sql AS $$ INSERT INTO items VALUES ($1) RETURNING id $$",
                database="app")
    return [primary] + [primary.standby(**{"helios.node": name}, **settings) for name in NAMES[1:standbys + 1]]


def proxy_for(make_proxy, *servers, health=None, roles=None, config=None):
    """The first is configured as the primary, the others as standbys; they are called a, b, c."""
    roles = roles or ["primary"] + ["standby"] * (len(servers) - 1)
    nodes = [Proxy.node(server, role, name=name) for server, role, name in zip(servers, roles, NAMES)]
    return make_proxy({"nodes": nodes, "health": {**HEALTH, **(health or {})}, **(config or {})}, postgres=servers[0])


def split_proxy(make_proxy, servers, config=None):
    nodes = [Proxy.node(server, "primary" if i == 0 else "standby", name=name)
             for i, (server, name) in enumerate(zip(servers, NAMES))]
    proxy = make_proxy(merged({"nodes": nodes, "health": HEALTH}, POOL, config or {}), postgres=servers[0])
    wait_standings(proxy, **{name: "primary" if i == 0 else "standby" for i, name in enumerate(NAMES[:len(servers)])})
    return proxy


def node(proxy, name="a"):
    return proxy.json(f"/nodes/{name}")


def standings(proxy):
    """{"a": "primary", "b": "standby"}"""
    return {node["name"]: node["standing"] for node in proxy.json("/nodes")}


def wait_standings(proxy, timeout=60, **wanted):
    wait_until(lambda: standings(proxy) == wanted, timeout,
               lambda: f"{standings(proxy)} instead of {wanted}\n{proxy.log()[-3000:]}")


def who(db):
    return db.execute(WHO).fetchone()[0]


def routed(proxy):
    """{reason: count} of what was routed so far."""
    return {dict(labels)["reason"]: int(value) for (name, labels), value in proxy.metrics().items()
            if name == "routed_total" and value}


def wait_split(proxy, nodes="bc", db=None):
    """Until reads reach these standbys: the catalog has been read, and they have replayed what the session wrote."""
    with (proxy.connect() if db is None else db.cursor()) as on:
        seen = set()

        def all_seen():
            try:
                seen.add(who(on))
            except psycopg.errors.CannotConnectNow:
                pass  # the primary never reads, and no standby is fit yet
            return set(nodes) <= seen

        wait_until(all_seen, 60, lambda: f"{seen} {routed(proxy)}\n{proxy.log()[-3000:]}")
