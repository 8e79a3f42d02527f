"""Programs made for PgBouncer, unchanged, on the console: check_postgres and pgcli. (psql and Prometheus'
exporter: test_console.py. Debian's own exporter, 1.7, reads columns that PgBouncer 1.8 gave up.)"""

import os
import re
import shutil
import subprocess
import sys

import pytest

from harness.terminal import Terminal
from harness.wait import wait_until

USERS = {"users": ["boss"], "stats_users": ["clerk"]}


@pytest.fixture
def proxy(make_proxy, closing):
    proxy = make_proxy({"admin": USERS, "proxy": {"max_clients": 10}})
    assert closing(proxy.wire()).value("SELECT 1") == "1"  # stays: an active client, an idle server connection
    return proxy


def program(name):
    found = shutil.which(name) or shutil.which(os.path.join(os.path.dirname(sys.executable), name))
    if not found:
        pytest.skip(f"no {name} here (scripts/packages.txt)")
    return found


def check(proxy, action, *options):
    return subprocess.run([program("check_postgres"), "--action", action, "--host", "127.0.0.1", "--port", str(proxy.port), "--dbuser",
                           "clerk", *options], capture_output=True, timeout=60, text=True)


def test_check_postgres(proxy):
    for action, limit, status, words in [
            ("pgb_pool_cl_active", 5, 0, "app=1;"), ("pgb_pool_cl_active", 1, 2, "app=1;"), ("pgb_pool_cl_waiting", 5, 0, "app=0;"),
            ("pgb_pool_sv_idle", 5, 0, "app=1;"), ("pgb_pool_sv_login", 5, 0, "app=0;"), ("pgb_pool_maxwait", 5, 0, "app=0;"),
            ("pgbouncer_backends", 9, 0, "2 of 10 connections (20%)"),  # with its own
            ("pgbouncer_backends", 1, 2, "2 of 10 connections (20%)")]:
        done = check(proxy, action, "--warning", str(limit), "--critical", str(limit))
        assert done.returncode == status and words in done.stdout, done


def test_check_postgres_sees_a_changed_setting(proxy):
    first = check(proxy, "pgbouncer_checksum", "--critical", "0" * 32)
    assert re.search(r"[0-9a-f]{32}", first.stdout), first
    known = re.search(r"[0-9a-f]{32}", first.stdout)[0]
    assert check(proxy, "pgbouncer_checksum", "--critical", known).returncode == 0
    proxy.reload({"pool": {"max_connections": 19}})
    assert check(proxy, "pgbouncer_checksum", "--critical", known).returncode == 2


def test_pgcli(proxy, closing, tmp_path):
    terminal = closing(Terminal(program("pgcli"), ["-h", "127.0.0.1", "-p", proxy.port, "-U", "boss", "-d", "pgbouncer", "--less-chatty"],
                                columns=200, lines=60, env={"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "PAGER": "cat"}))
    terminal.wait_for("pgbouncer>", timeout=60)
    terminal.send("SHOW VERSION;\r")
    terminal.wait_for("PgBouncer 1.25", timeout=60)
    terminal.send("PAUSE app;\r")
    wait_until(lambda: proxy.pools()[0]["paused"])
    terminal.send("RESUME app;\r")
    wait_until(lambda: not proxy.pools()[0]["paused"])
    terminal.send("\\x on\r")
    terminal.send("SHOW POOLS;\r")
    terminal.wait_for("RECORD", "cl_active", timeout=60)
    terminal.send("\x04")
    assert terminal.wait_end() == 0
    assert "Traceback" not in terminal.text()
