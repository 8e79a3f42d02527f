"""
SET on the console: a key has another value at once, for all workers, until the file is read again; by our names and by
PgBouncer's; whatever is refused changes nothing.
"""

import psycopg
import pytest

from harness.wait import wait_until

from test_console import USERS, Console, row


@pytest.fixture
def consoles(make_proxy, closing):
    def make(config=None, **kwargs):
        proxy = make_proxy({"admin": USERS, **(config or {})}, **kwargs)
        return proxy, closing(Console(proxy.address))
    return make


def value(console, key):
    return row(console("SHOW CONFIG"), key=key)["value"]


def origin(proxy, key):
    return next((i["origin"], i["value"]) for i in proxy.json("/api/v1/config")["items"] if i["key"] == key)


def test_a_limit_counts_at_once_and_until_the_reload(consoles, closing):
    proxy, console = consoles({"pool": {"mode": "transaction", "max_connections": 1}})
    holder, waits = closing(proxy.wire()), closing(proxy.wire())
    holder.query("BEGIN")
    waits.send(b"Q\0\0\0\x0dSELECT 1\0")
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    assert console("SET pool.max_connections = 2") == "SET"
    waits.until_ready()
    assert value(console, "pool.max_connections") == value(console, "default_pool_size") == "2"
    assert origin(proxy, "pool.max_connections") == ("console", "2")
    console("SET default_pool_size = 3")  # PgBouncer's name of the same
    assert value(console, "pool.max_connections") == "3"
    console("SET pool.min_active = 5")  # both count
    assert (value(console, "pool.max_connections"), value(console, "pool.min_active")) == ("3", "5")
    assert "configuration changed" in proxy.log() and "pool.min_active" in proxy.log()
    console("RELOAD")
    assert (value(console, "pool.max_connections"), value(console, "pool.min_active")) == ("1", "16")
    assert origin(proxy, "pool.max_connections")[0] == "file"


def test_times_and_words(consoles, closing):
    proxy, console = consoles()
    for command, key, shown in (("SET query_timeout = 7", "pool.query_timeout", "7s"),
                                ("SET pool.query_timeout = '1500ms'", "pool.query_timeout", "1500ms"),
                                ("SET pool.query_timeout = 9", "pool.query_timeout", "9s"),
                                ("SET pool.query_timeout_secs TO 8", "pool.query_timeout", "8s"),
                                ("SET pool.reset_query = 'DISCARD ALL; SELECT 1'", "pool.reset_query",
                                 "DISCARD ALL; SELECT 1"),
                                ("SET pool_mode = statement", "pool.mode", "statement"),
                                ("SET log.level = debug", "log.level", "debug")):
        assert console(command) == "SET"
        assert value(console, key).strip('"') == shown, command
    with proxy.connect(autocommit=True) as db, pytest.raises(psycopg.Error):
        db.execute("BEGIN")  # statement mode has no transactions


def test_what_is_refused_changes_nothing(consoles, closing):
    proxy, console = consoles()
    before = console("SHOW CONFIG")
    for command, why in (("SET pool.max_connections = many", "max_connections"),
                         ("SET pool.max_connections = 0", "max_connections"),
                         ("SET pool.colour = red", "is no key"),
                         ("SET nonsense.colour = red", "is no key"),
                         ("SET colour = red", "unrecognized configuration parameter"),
                         ("SET proxy.workers = 3", "needs a restart"),
                         ("SET listen_port = 1", "is no one key here"),
                         ("SET \"\" = 1", "unrecognized"), ("SET . = 1", "is no key"), ("SET pool. = 1", "is no key")):
        console.refused(command, why)
    assert console("SHOW CONFIG") == before
    clerk = closing(Console(proxy.address, user="clerk"))
    clerk.refused("SET pool.max_connections = 2", "admin access needed")
    assert console("SET client_encoding = 'UTF8'") == "SET"  # of drivers
    assert console("SHOW CONFIG") == before
    assert proxy.is_live()


def test_the_file_is_not_looked_at(consoles):
    proxy, console = consoles()
    path = proxy.config_path
    with open(path, encoding="utf-8") as f:
        good = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write("half written [")
    assert console("SET pool.max_connections = 9") == "SET"
    console.refused("RELOAD", "RELOAD failed")
    assert value(console, "pool.max_connections") == "9"  # a reload that fails takes nothing back
    with open(path, "w", encoding="utf-8") as f:
        f.write(good)
    console("RELOAD")
    assert value(console, "pool.max_connections") != "9"


def test_secrets_are_not_in_the_log(consoles):
    proxy, console = consoles()
    assert console("SET proxy.admin_token = 'verysecret'") == "SET"
    assert "verysecret" not in proxy.log()
    assert proxy.admin("/nodes")[0] == 401
    console("RELOAD")


def test_many_times(consoles):
    proxy, console = consoles()
    console("SET pool.max_connections = 5")
    for i in range(200):
        console(f"SET pool.max_connections = {i % 7 + 1}")
    assert value(console, "pool.max_connections") == "4"
    assert proxy.is_live()
