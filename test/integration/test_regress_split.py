"""
PostgreSQL's own regression tests through the proxy, in front of a primary and a standby, beside the same on a server of its
own: each statement ends the same way, and the standby refuses none.
"""

import collections
import os
import re

import psycopg
import pytest

from harness import Postgres, wait_until
from harness.cluster import HEALTH, routed, wait_standings
from harness.proxy import Proxy
from test_regress import ACCESS, SHORT, Understander, execute, files_of, regress_folder, split

pytestmark = [pytest.mark.skipif(not os.access(ACCESS, os.X_OK), reason=f"{ACCESS} was not built"), pytest.mark.slow]

# What may differ between two databases, or two sessions, whatever is between client and server. (Which extensions a server
# process has loaded decides which settings it knows.)
OWN = re.compile(r"pg_stat|xid8|pg_temp_|pg_backend_pid|pg_locks|current_database|pg_database|txid|xact_id|pg_cursors|"
                 r"pg_prepared_xacts|PREPARE TRANSACTION|(COMMIT|ROLLBACK) PREPARED|pg_sleep|random|statement_timeout|SET plpgsql\.", re.I)

WHERE = "/api/routing/explain?database=twice&user=postgres&query=SELECT%201"


class Twice:
    """A session through the proxy, and one without, on servers that are alike."""

    def __init__(self, alone, proxy, understander):
        self.proxy = proxy
        self.understander = understander
        self.proxied = proxy.connect("postgres", "twice")
        self.direct = alone.admin("twice")
        self.changed = True
        self.apart = False
        self.count = collections.Counter()
        self.differences = []

    def close(self):
        for db in (self.proxied, self.direct):
            db.close()

    def ready(self):
        """The catalog is as new as the schema, and the standby as new as the catalog: else all would go to the primary."""
        return self.proxy.json(WHERE)["to"] == "standby"

    def run(self, text):
        level = self.understander.level(text)
        self.count[level] += 1
        if level == "reads" and self.changed and self.status(self.proxied) == "IDLE":
            wait_until(self.ready, 60)
            self.changed = False
        wanted, found = execute(self.direct.pgconn, text), execute(self.proxied.pgconn, text)
        if level not in ("reads", "follows"):
            self.changed = True
            self.understander.forget()
        self.apart = self.apart and {self.status(self.direct), self.status(self.proxied)} != {"IDLE"}
        if found != wanted and OWN.search(text):
            self.apart = True  # of two transactions one may have failed now
        elif found != wanted and not self.apart:
            self.differences.append((text, wanted, found))
        return self.alive(self.direct) and self.alive(self.proxied)

    @staticmethod
    def status(db):
        return db.info.transaction_status.name

    @staticmethod
    def alive(db):
        return db.pgconn.status == psycopg.pq.ConnStatus.OK


def run_file(name, statements, alone, proxy, understander):
    twice = Twice(alone, proxy, understander)
    try:
        understander.forget()
        for text in statements:
            if not twice.run(text):
                break
    finally:
        twice.close()
    print(f"{name}: {len(statements)} statements, {dict(twice.count)}; routed {routed(proxy)}")
    for difference in twice.differences[:10]:
        print("   ", difference)
    return twice.differences


def run_files(template, make_proxy, folder, names, tmp_path):
    primary, alone = Postgres(template, {"synchronous_commit": "on"}), Postgres(template)
    alone.settings.update(logging_collector="on", log_destination="jsonlog", log_directory=alone.root,
                          log_filename="regress", log_statement="all", log_rotation_age=0, log_rotation_size=0,
                          log_min_messages="log")
    alone.write_settings()
    alone.json_log = os.path.join(alone.root, "regress.json")
    differences = []
    try:
        primary.start()
        alone.start()
        for server, database in ((primary, "twice"), (primary, "split"), (alone, "split"), (alone, "twice")):
            server.sql(f"CREATE DATABASE {database}")
        standby = primary.standby(log_min_messages="log", log_line_prefix="%m [%p] %e %q%u@%d ")
        proxy = make_proxy({"nodes": [Proxy.node(primary, "primary", name="a"), Proxy.node(standby, "standby", name="b")],
                            "health": HEALTH, "load_balancer": {"slow_start": "0s"},
                            "lag_routing": {"poll_interval": "5ms"},
                            "read_write_split": {"catalog_refresh": "1s"}}, postgres=primary)
        wait_standings(proxy, a="primary", b="standby")
        understander = Understander(primary, "twice", tmp_path)
        try:
            for name in names:
                if name == "tablespace" or not os.path.exists(f"{folder}/sql/{name}.sql"):
                    continue  # of two servers on one machine
                statements = split(alone, "split", folder, name)
                differences += [(name, *d) for d in run_file(name, statements, alone, proxy, understander)]
        finally:
            understander.close()
        refused = [line for line in standby.log().splitlines() if " 25006 " in line]
        reads = routed(proxy).get("read", 0)
    finally:
        primary.remove()
        alone.remove()
    print(f"together: {reads} reads by the standby, {len(differences)} differences, {len(refused)} refused")
    assert not refused, refused[:20]
    assert not differences, differences[:20]
    return reads


@pytest.mark.timeout(1800)
def test_some_regression_files(template, make_proxy, tmp_path):
    if template.version != 15:
        pytest.skip("the files are of PostgreSQL 15")
    assert run_files(template, make_proxy, regress_folder(cached=False), SHORT, tmp_path) > 200


@pytest.mark.timeout(7200)
def test_all_regression_files(template, make_proxy, tmp_path):
    if template.version != 15:
        pytest.skip("the files are of PostgreSQL 15")
    folder = regress_folder(cached=False)
    assert run_files(template, make_proxy, folder, files_of(folder), tmp_path) > 2000
