"""/api/v1/stats: how long requests take, as histograms, and a row of numbers for each second.

Requests wait at gates while the proxy's clock is moved by STEP, so a time that should be in a histogram is so long at
least, and one that should not be is far below."""

import json

import pytest
from harness import wait_until
from harness.wire import bind, errors, execute, flush, parse, query, run, sync

STEP = 500  # seconds; no test takes so long


def stats(proxy):
    return proxy.json("/api/v1/stats")


class Growth:
    """What has come to the histograms since it was made."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.before = stats(proxy)["latency"]

    def __getitem__(self, kind):
        """How many, and how many STEPs they took together."""
        now, before = stats(self.proxy)["latency"][kind], self.before[kind]
        assert now["counts"] == sorted(now["counts"]) and now["counts"][-1] <= now["count"]
        assert len(now["counts"]) == len(now["le_seconds"])
        seconds = now["sum_seconds"] - before["sum_seconds"]
        assert seconds % STEP < STEP / 2, "nothing takes half of that by itself"
        return now["count"] - before["count"], int(seconds // STEP)


def config(mode="transaction", **pool):
    return {"pool": {"mode": mode, "max_connections": 2, "query_wait_timeout": "0", **pool}}


def pass_gate(proxy, gate):
    gate.wait()
    proxy.advance(STEP)
    gate.open()


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_requests_are_counted_with_their_time(make_proxy, closing, gate, mode):
    proxy = make_proxy(config(mode))
    client = closing(proxy.wire())
    client.query("SELECT 1")
    growth = Growth(proxy)
    for passes in (lambda g: query(f"SELECT {g.passage}"),
                   lambda g: run(f"SELECT $1::int, {g.passage}", [7]) + sync()):
        here = gate()
        client.send(passes(here))
        pass_gate(proxy, here)
        client.until_ready()
    assert growth["query"] == growth["server"] == growth["transaction"] == (2, 2)
    client.query("SELECT 1")
    client.batch(run("SELECT 1"))
    assert growth["query"] == growth["server"] == growth["transaction"] == (4, 2)
    assert growth["wait"] == growth["login"] == (0, 0)
    assert errors(client.query("nonsense"))
    assert growth["query"] == (5, 2)


def test_each_of_a_pipeline_has_its_own_time(make_proxy, closing, gate):
    proxy = make_proxy(config())
    client = closing(proxy.wire())
    client.query("SELECT 1")
    growth, gates = Growth(proxy), [gate() for _ in range(3)]
    client.send(*[query(f"SELECT {g.passage}") for g in gates[:2]], run(f"SELECT {gates[2].passage}"), sync())
    for each in gates:
        pass_gate(proxy, each)
    client.until_ready(3)
    assert growth["query"] == (3, 1 + 2 + 3)
    assert growth["server"] == (3, 1 + 1 + 1)
    assert growth["transaction"] == (3, 1 + 2 + 3)


@pytest.mark.parametrize("defer", [False, True])
def test_a_transaction_lasts_from_its_first_request_to_its_end(make_proxy, closing, defer):
    proxy = make_proxy(config(defer_begin=defer))
    client = closing(proxy.wire())
    client.query("SELECT 1")
    growth = Growth(proxy)
    client.query("BEGIN")
    proxy.advance(STEP)
    client.query("SELECT 1")
    proxy.advance(STEP)
    assert growth["transaction"] == (0, 0)
    client.query("COMMIT")
    assert growth["transaction"] == (1, 2)
    assert growth["query"] == growth["server"] == ((2, 0) if defer else (3, 0))
    client.query("SELECT 1")
    assert growth["transaction"] == (2, 2)
    client.query("BEGIN")
    proxy.advance(STEP)
    assert errors(client.query("nonsense"))
    client.query("ROLLBACK")
    client.query("SELECT 1")
    assert growth["transaction"] == (4, 3)
    client.query("BEGIN")
    proxy.advance(STEP)
    client.query("COMMIT")
    assert growth["transaction"] == (5, 4)


@pytest.mark.parametrize("extended", [False, True])
def test_a_wait_is_part_of_the_query_and_not_of_the_servers_time(make_proxy, closing, extended):
    proxy = make_proxy(config(max_connections=1))
    holder, client = closing(proxy.wire()), closing(proxy.wire())
    client.query("SELECT 1")
    holder.query("BEGIN")
    growth = Growth(proxy)
    client.send(run("SELECT 1") + sync() if extended else query("SELECT 1"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.advance(STEP)
    holder.query("COMMIT")
    client.until_ready()
    wait_until(lambda: growth["query"][0] == 2)
    assert growth["query"] == (2, 1)
    assert growth["wait"] == (1, 1)
    assert growth["server"] == (2, 0)


def test_who_waits_in_vain_has_waited(make_proxy, closing):
    proxy = make_proxy(config(max_connections=1, query_wait_timeout=f"{STEP}s"))
    holder, client = closing(proxy.wire()), closing(proxy.wire())
    client.query("SELECT 1")
    holder.query("BEGIN")
    growth = Growth(proxy)
    client.send(query("SELECT 1"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.advance(STEP)
    assert errors(client.until_ready())
    assert growth["query"] == growth["wait"] == (1, 1)
    assert growth["server"] == (0, 0)
    proxy.advance(STEP / 4)
    holder.query("COMMIT")
    client.query("SELECT 1")
    assert growth["query"] == (3, 1), "the next has not waited"


def test_time_of_a_client_that_asks_nothing_is_nobodys(make_proxy, closing):
    """Neither between requests, nor within a batch whose end has not come."""
    proxy = make_proxy(config())
    client = closing(proxy.wire())
    client.query("SELECT 1")
    growth = Growth(proxy)
    proxy.advance(STEP)
    client.query("SELECT 1")
    proxy.advance(STEP)
    client.send(parse("s", "SELECT 1"), flush())
    client.read_until("1")
    proxy.advance(STEP)
    client.batch(bind("", "s"), execute())
    assert growth["query"] == (2, 0)


def test_a_login_is_counted(make_proxy, closing):
    proxy = make_proxy(config())
    growth = Growth(proxy)
    closing(proxy.wire())
    assert growth["login"] == (1, 0)
    assert growth["query"] == (0, 0)


def test_requests_on_shared_links_are_counted(make_proxy, closing):
    proxy = make_proxy(config(share="autocommit", share_connections=1, share_max_cost="1h"))
    clients = [closing(proxy.wire()) for _ in range(4)]
    growth = Growth(proxy)
    for _ in range(40):
        for client in clients:
            client.send(run("SELECT 1") + sync())
        for client in clients:
            client.until_ready()
    assert proxy.metric("shared_requests_total") > 0
    assert growth["query"] == growth["transaction"] == growth["server"] == (160, 0)


def test_totals(make_proxy, closing):
    proxy = make_proxy(config())
    client = closing(proxy.wire())
    client.query("SELECT 1")
    found = stats(proxy)
    assert found["counters"]["logins_total"] == found["counters"]["queries_total"] == 1
    assert found["gauges"]["clients"] == found["gauges"]["nodes_total"] == found["gauges"]["nodes_healthy"] == 1
    assert found["gauges"]["pools"] >= 1 and found["gauges"]["links_idle"] >= 1
    assert found["uptime_seconds"] > 0 and found["at"].endswith("Z")
    assert set(found["latency"]) == {"query", "transaction", "server", "wait", "login"}


def history(proxy, parameters=""):
    found = proxy.json("/api/v1/stats/history" + parameters)
    assert found["interval_seconds"] == 1
    assert all(len(row) == len(found["columns"]) for row in found["rows"])
    return [dict(zip(found["columns"], row)) for row in found["rows"]]


def test_history(make_proxy, closing):
    proxy = make_proxy(config())
    client = closing(proxy.wire())
    client.query("SELECT 1")
    wait_until(lambda: any(s["queries_per_second"] > 0 for s in history(proxy)))
    wait_until(lambda: any(s["query_p50_ms"] is not None for s in history(proxy)))  # it may be answered a second later
    wait_until(lambda: history(proxy)[-1]["queries_per_second"] == 0 and history(proxy)[-1]["query_p50_ms"] is None)
    seconds = history(proxy)
    assert all(s["query_p50_ms"] is None or 0 < s["query_p50_ms"] <= s["query_p99_ms"] for s in seconds)
    assert seconds[-1]["clients"] == 1 and seconds[-1]["links_idle"] >= 1
    times = [second["at_seconds"] for second in seconds]
    assert times == sorted(times)
    wait_until(lambda: len(history(proxy)) > 2)
    assert len(history(proxy, "?seconds=2")) == 2 and history(proxy, "?seconds=0") == []
    for wrong in ("901", "-1", "x", "1.5", "99999999999999999999"):
        status, text = proxy.admin(f"/api/v1/stats/history?seconds={wrong}")
        assert status == 400 and json.loads(text)
