"""[log] slow_query: which queries get a line, and what is in it. Queries wait at gates while the proxy's clock is moved."""

import json

import pytest
from harness import wait_until
from harness.wire import bind, copy_data, copy_done, copy_fail, errors, execute, parse, query, rows, run, sync

MODES = ["session", "transaction", "statement"]


def through(proxy, client, gate, *parts):
    """Sends it, lets 11 s go by while it waits, and returns the answer."""
    client.send(*parts)
    gate.wait()
    proxy.advance(11)
    gate.open()
    return client.until_ready()


def slow_lines(proxy):
    lines = [json.loads(line) for line in proxy.log_lines() if line.startswith("{")]
    return [line for line in lines if line["msg"] == "slow query"]


def fnv1a(text):
    fingerprint = 0xCBF29CE484222325
    for byte in text.encode():
        fingerprint = (fingerprint ^ byte) * 0x100000001B3 % 2**64
    return f"{fingerprint:016x}"


def wait_for_lines(proxy, count):
    wait_until(lambda: len(slow_lines(proxy)) >= count, 20)
    return slow_lines(proxy)


def config(mode="transaction", **more):
    return {"pool": {"mode": mode, "max_connections": 1}, "log": {"format": "json", "slow_query": "10s", **more}}


@pytest.mark.parametrize("mode", MODES)
def test_slow_queries_are_told_and_others_are_not(make_proxy, closing, gate, mode):
    proxy = make_proxy(config(mode))
    client = closing(proxy.wire(application_name="reports"))
    gates = [gate() for _ in range(3)]
    client.query("SELECT 'fast'")
    through(proxy, client, gates[0], query(f"SELECT 'simple', 42, {gates[0].passage}"))
    client.batch(run("SELECT 'fast', $1::int", [7]))
    through(proxy, client, gates[1], run(f"SELECT 'unnamed', $1::int, {gates[1].passage}", [7]), sync())
    client.batch(parse("s", f"SELECT 'named', {gates[2].passage}"))
    through(proxy, client, gates[2], bind("", "s"), execute(), sync())
    client.query("SELECT 'fast'")
    lines = wait_for_lines(proxy, 3)
    name = "pg_advisory_xact_lock_shared(?)"
    assert [line["query"] for line in lines] == [f"select ?, ?, {name}", f"select ?, ?::int, {name}",
                                                 f"select ?, {name}"]
    assert [line["protocol"] for line in lines] == ["simple", "extended", "extended"]
    for line in lines:
        assert line["user"] == line["database"] == "app" and line["application"] == "reports"
        assert float(line["duration_ms"]) >= 11000 and "sqlstate" not in line
        assert line["fingerprint"] == fnv1a(line["query"])
    assert proxy.metric("slow_queries_total") == 3


def test_literals_when_they_are_wanted(make_proxy, closing, gate):
    proxy = make_proxy(config(slow_query_literals=True, slow_query_length="60B"))
    client = closing(proxy.wire())
    first, second = gate(), gate()
    through(proxy, client, first, query(f"SELECT 'x', {first.passage}"))
    through(proxy, client, second, query(f"SELECT {second.passage}, '{'äöü' * 20}'"))
    lines = wait_for_lines(proxy, 2)
    assert lines[0]["query"] == f"SELECT 'x', {first.passage}" and "cut" not in lines[0]
    assert lines[0]["fingerprint"] == fnv1a("select ?, pg_advisory_xact_lock_shared(?)")
    assert lines[1]["query"].startswith(f"SELECT {second.passage}, 'ä") and lines[1]["cut"] == "yes"


def test_the_wait_for_a_server_connection_counts(make_proxy, closing):
    proxy = make_proxy(config())
    holder, client = closing(proxy.wire()), closing(proxy.wire())
    holder.query("BEGIN")
    client.send(query("SELECT 'waited'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.advance(11)
    holder.query("COMMIT")
    assert rows(client.until_ready()) == [["waited"]]
    (line,) = wait_for_lines(proxy, 1)
    assert line["query"] == "select ?" and float(line["waited_ms"]) >= 11000
    assert float(line["duration_ms"]) >= float(line["waited_ms"])


def test_pipelines_and_errors(make_proxy, closing, gate):
    """Each request is told by its own end; what was skipped is not told."""
    proxy = make_proxy(config())
    client = closing(proxy.wire())
    first, second, third = gate(), gate(), gate()
    client.send(run(f"SELECT 'first', {first.passage}"), run(f"SELECT 1 / length(({second.passage})::text)"),
                run("SELECT 'skipped'"), sync(), query("SELECT 'fast'; SELECT 1"),
                run(f"SELECT 'third', {third.passage}"), sync())
    for each in (first, second, third):
        each.wait()
        proxy.advance(11)
        each.open()
    assert errors(client.until_ready(3)) == ["22012"]
    name = "pg_advisory_xact_lock_shared(?)"
    # All went to the server at once: the fast one's time is that of those in front of it, too.
    assert [(line["query"], line.get("sqlstate")) for line in wait_for_lines(proxy, 4)] == [
        (f"select ?, {name}", None), (f"select ? / length(({name})::text)", "22012"), ("select ?; select ?", None),
        (f"select ?, {name}", None)]


@pytest.mark.parametrize("mode", MODES)
def test_the_line_of_requests_stays_in_order(make_proxy, closing, postgres, gate, mode):
    """Failed copies, a client that leaves, a server that ends: the next slow query is told as itself."""
    proxy = make_proxy(config(mode))
    client = closing(proxy.wire())
    client.query("CREATE TABLE IF NOT EXISTS slow_copy (v text)")
    client.send(query("COPY slow_copy FROM STDIN"), copy_data("x\n"), copy_done())
    client.until_ready()
    client.send(query("COPY slow_copy FROM STDIN"), copy_fail("not today"))
    assert errors(client.until_ready()) == ["57014"]
    client.send(run("COPY slow_copy FROM STDIN"), copy_data("x\n"), copy_done(), sync())
    client.until_ready()
    one, two = gate(), gate()
    through(proxy, client, one, query(f"SELECT 'one', {one.passage}"))
    client.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: postgres.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%%'"))
    client.abort()
    client = closing(proxy.wire())
    pid = client.server_pid()
    client.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: postgres.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'", [pid]))
    postgres.sql("SELECT pg_terminate_backend(%s)", [pid])
    assert errors(client.read_until("E")) == ["57P01"]
    client.socket.close()
    client = closing(proxy.wire())
    through(proxy, client, two, run(f"SELECT 'two', 2, {two.passage}"), sync())
    name = "pg_advisory_xact_lock_shared(?)"
    told = [line["query"] for line in wait_for_lines(proxy, 2)]
    assert told[0] == f"select ?, {name}" and told[-1] == f"select ?, ?, {name}"


def test_reload_turns_it_on_and_off(make_proxy, closing, gate):
    proxy = make_proxy({"pool": {"max_connections": 1, "mode": "transaction"}, "log": {"format": "json"}})
    client = closing(proxy.wire())
    before, during, after = gate(), gate(), gate()
    through(proxy, client, before, query(f"SELECT {before.passage}"))
    client.batch(parse("s", f"SELECT 's', {during.passage}"))
    proxy.reload({"log": {"slow_query": "10s"}})
    through(proxy, client, during, bind("", "s"), execute(), sync())
    assert [line["query"] for line in wait_for_lines(proxy, 1)] == ["select ?, pg_advisory_xact_lock_shared(?)"]
    client.send(query(f"SELECT {after.passage}"))  # it began when there was a stage, and ends by it
    after.wait()
    proxy.reload({"log": {"slow_query": "0s"}})
    proxy.advance(11)
    after.open()
    client.until_ready()
    assert len(wait_for_lines(proxy, 2)) == 2
    assert proxy.metric("slow_queries_total") == 2
