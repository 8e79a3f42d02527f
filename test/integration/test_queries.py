"""
[analytics]: statistics of queries. What they say is compared with what the test knows that it asked for. Each statement
has a name in it (an alias, or a table), by which the tests find it, whatever its normalized text is.
"""

import json
import random
import re
import threading
from collections import Counter

import pytest

from harness import wait_until
from harness.wire import bind, copy_data, copy_done, describe, errors, execute, parse, query, rows, run, sync

MODES = ["session", "transaction", "statement"]
ON = {"analytics": {"enabled": True}}


def call(proxy, path="", method="GET"):
    status, text = proxy.admin("/api/v1/queries" + path, method=method)
    return status, json.loads(text)


def told(proxy, path="?limit=1000"):
    """All workers have answered, however busy this machine is."""
    def ask():
        status, found = call(proxy, path)
        assert status == 200, found
        return found if found["workers_late"] == 0 else None
    return wait_until(ask)


def named(proxy, name):
    """All statements with this name, or these words, in their text."""
    return [item for item in told(proxy)["items"] if re.search(rf"\b{re.escape(name)}\b", item["query"])]


def of(proxy, name):
    """The same, added up: (calls, errors, rows)."""
    items = named(proxy, name)
    return tuple(sum(item[key] for item in items) for key in ("calls", "errors", "rows"))


def one(proxy, name):
    (item,) = named(proxy, name)
    return item


@pytest.fixture
def counted(make_proxy):
    def make(mode="transaction", **changes):
        config = {"pool": {"mode": mode, "max_connections": 5}, **ON}
        for table, keys in changes.items():
            config[table] = {**config.get(table, {}), **keys}
        return make_proxy(config)
    return make


# ---- what is counted


STEPS = {  # name: (what is sent, with {i} a number; rows and errors that come of it)
    "q_simple": (lambda i: query(f"SELECT {i} AS q_simple"), 1, 0),
    "q_rows": (lambda i: query(f"SELECT generate_series(1, 7) AS q_rows, '{i}'"), 7, 0),
    "q_several": (lambda i: query(f"SELECT {i} AS q_several; SELECT generate_series(1, 3)"), 4, 0),
    "q_fails": (lambda i: query(f"SELECT 1 / ({i} - {i}) AS q_fails"), 0, 1),
    "q_unnamed": (lambda i: run("SELECT $1::int AS q_unnamed", [i]) + sync(), 1, 0),
    "q_unnamed_fails": (lambda i: run("SELECT 1 / ($1::int - $1::int) AS q_unnamed_fails", [i]) + sync(), 0, 1),
    "q_no_such_column": (lambda i: run("SELECT no_such AS q_no_such_column") + sync(), 0, 1),
    "q_bad_value": (lambda i: run("SELECT $1::int AS q_bad_value", ["x"]) + sync(), 0, 1),
    "q_named": (lambda i: run("", [i], name="named", parse_too=False) + sync(), 1, 0),
    "q_nothing": (lambda i: query("DO $$BEGIN PERFORM 1 AS q_nothing; END$$"), 0, 0),
}
NAMED = "SELECT $1::int AS q_named"


def mixed_load(proxy, seed, count, truth, failures):
    """One client: steps in a random order, some of them several at a time."""
    chosen = random.Random(seed)
    try:
        with proxy.wire() as client:
            client.batch(parse("named", NAMED))
            while count > 0:
                batch = [chosen.choice(list(STEPS)) for _ in range(min(count, chosen.choice([1, 1, 5])))]
                client.send(*(STEPS[name][0](chosen.randrange(1000)) for name in batch))
                found = errors(client.until_ready(len(batch)))
                assert len(found) == sum(STEPS[name][2] for name in batch)
                truth.update(batch)
                count -= len(batch)
    except BaseException as failure:  # noqa: B902 -- of a thread: told by the test's own
        failures.append(failure)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_what_several_clients_do_is_counted_exactly(counted, mode):
    proxy = counted(mode)
    truths, failures = [Counter() for _ in range(4)], []
    threads = [threading.Thread(target=mixed_load, args=(proxy, seed, 60, truths[seed], failures))
               for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    truth = sum(truths, Counter())
    for name, (_, per_call, fails) in STEPS.items():
        if name != "q_nothing":  # its name is in a literal
            assert of(proxy, name) == (truth[name], fails * truth[name], per_call * truth[name]), name
    assert of(proxy, "do") == (truth["q_nothing"], 0, 0)


@pytest.mark.parametrize("mode", MODES)
def test_what_differs_in_literals_is_one_statement(counted, closing, mode):
    proxy = counted(mode)
    client = closing(proxy.wire())
    client.query("select 1 as q_one")
    client.query("SELECT  2 AS q_one -- a comment")
    client.batch(run("Select $1::int as q_one".replace("::int", ""), ["x"]))
    item = one(proxy, "q_one")
    assert (item["calls"], item["errors"], item["rows"]) == (3, 0, 3)
    assert (item["class"], item["database"], item["user"]) == ("retrieval", "app", "app")
    assert len(item["fingerprint"]) == 16 and not item["query_is_cut"]
    assert item["min_ms"] <= item["p50_ms"] <= item["p95_ms"] <= item["p99_ms"] <= item["max_ms"]
    assert item["server_ms"] <= item["total_ms"] and item["first_seen"] <= item["last_seen"]


def test_rows_of_cursors_copies_and_changes(counted, closing):
    proxy = counted()
    client = closing(proxy.wire())
    client.batch(parse("", "SELECT generate_series(1, 10) AS q_cursor"), bind("p"), execute("p", 4), execute("p", 4),
                 execute("p", 4))
    assert of(proxy, "q_cursor") == (3, 0, 10)
    client.query("BEGIN; CREATE TABLE q_rows_of (v int)")
    client.send(query("COPY q_rows_of FROM STDIN"), copy_data("1\n2\n3\n"), copy_done())
    client.until_ready()
    client.query("UPDATE q_rows_of SET v = v + 1")
    client.query("COPY q_rows_of TO STDOUT")
    client.query("ROLLBACK")
    assert of(proxy, "copy q_rows_of from") == of(proxy, "copy q_rows_of to") == (1, 0, 3)
    assert of(proxy, "update q_rows_of") == (1, 0, 3)
    kinds = {item["class"] for item in named(proxy, "q_rows_of")}
    assert kinds == {"retrieval", "storage", "schema"}


@pytest.mark.parametrize("defer", [True, False])
def test_transactions_are_counted_whoever_answers(counted, closing, defer):
    proxy = counted(pool={"defer_begin": defer})
    client = closing(proxy.wire())
    for _ in range(3):
        client.query("BEGIN")
        client.query("SELECT 1 AS q_inside")
        client.query("COMMIT")
    client.query("BEGIN")
    client.query("COMMIT")
    client.batch(run("BEGIN"))
    client.batch(run("COMMIT"))
    assert of(proxy, "begin") == of(proxy, "commit") == (5, 0, 0)
    assert proxy.metric("begins_deferred_total") == (5 if defer else 0)


def test_shared_connections(counted, closing):
    proxy = counted(pool={"share": "autocommit", "share_connections": 1, "share_max_cost": "1h"})
    clients = [closing(proxy.wire()) for _ in range(4)]
    for client in clients:
        client.batch(parse("s", "SELECT generate_series(1, $1::int) AS q_shared_named"))
    for i in range(10):
        for client in clients:
            client.send(query(f"SELECT {i} AS q_shared"))
        for client in clients:
            client.until_ready()
        for client in clients:
            client.send(run("", [2], name="s", parse_too=False), sync())
        for client in clients:
            client.until_ready()
    assert proxy.metric("shared_requests_total") > 0
    assert of(proxy, "q_shared") == (40, 0, 40) and of(proxy, "q_shared_named") == (40, 0, 80)


def test_what_the_proxy_refuses_is_an_error_of_its_statement(counted, closing):
    proxy = counted(pool={"max_connections": 1, "query_wait_timeout": "5s"})
    holder, waiting = closing(proxy.wire()), closing(proxy.wire())
    waiting.batch(parse("s", "SELECT 1 AS q_waits_named"))
    holder.query("BEGIN; SELECT 1")
    for what in (query("SELECT 1 AS q_waits"), run("SELECT 1 AS q_waits") + sync(),
                 run("", name="s", parse_too=False) + sync()):
        waiting.send(what)
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        proxy.advance(6)
        assert len(errors(waiting.until_ready())) == 1
    assert of(proxy, "q_waits_named") == (1, 1, 0)
    item = one(proxy, "q_waits")
    assert (item["calls"], item["errors"]) == (2, 2) and item["min_ms"] >= 5000 and item["server_ms"] < 5000


def test_what_is_refused_before_it_is_executed(counted, closing):
    """By the server when it is prepared, or by the proxy; what is behind it in the batch was never run."""
    proxy = counted(pool={"max_client_prepared_statements": 2, "session_state": "refuse"})
    client = closing(proxy.wire())
    client.batch(parse("a", "SELECT no_such AS q_prepared"), describe("S", "a"))
    assert of(proxy, "q_prepared") == (1, 1, 0)
    client.batch(parse("b", "SELECT no_such AS q_first"), parse("c", "SELECT 1 AS q_second"), bind("", "c"), execute())
    assert of(proxy, "q_first") == (1, 1, 0) and of(proxy, "q_second")[0] == 0
    client.batch(parse("d", "SELECT 1 AS q_fine"), parse("e", "SELECT 2 AS q_fine"))
    assert len(errors(client.batch(parse("f", "SELECT 1 AS q_too_many")))) == 1
    assert of(proxy, "q_too_many") == (1, 1, 0)
    assert errors(client.query("LISTEN q_listen")) and errors(client.batch(run("LISTEN q_listen")))
    assert of(proxy, "q_listen") == (2, 2, 0)
    client.query("BEGIN; SELECT 1")
    assert errors(client.query("LISTEN q_inside")) and errors(client.query("COMMIT")) == []
    assert of(proxy, "q_inside") == (1, 1, 0)


def test_what_the_proxy_does_not_look_into_is_counted_by_its_own_text(counted, closing):
    """Refused for its protocol, inside of a transaction: nothing that was found out of the query before it is of it."""
    proxy = counted(users={"app": {"simple_query": "single"}})
    client = closing(proxy.wire())
    client.query("BEGIN")
    assert rows(client.query("SELECT 1 AS q_allowed")) == [["1"]]
    assert errors(client.query("SELECT 1 AS q_several; SELECT 2")) == ["0A000"]
    assert of(proxy, "q_several") == (1, 1, 0) and of(proxy, "q_allowed") == (1, 0, 1)


# ---- how long


def test_times(counted, closing, gate):
    proxy = counted(analytics={"slow_query": "5s"})
    client = closing(proxy.wire())
    for seconds in (100, 200, 400):
        passage = gate()
        client.send(query(f"SELECT 1 AS q_timed, {passage.passage}"))
        passage.wait()
        proxy.advance(seconds)
        passage.open()
        client.until_ready()
    item = one(proxy, "q_timed")
    assert 700_000 <= item["total_ms"] < 1_000_000 and item["server_ms"] <= item["total_ms"]
    assert abs(item["mean_ms"] - item["total_ms"] / 3) < 1
    assert 100_000 <= item["min_ms"] < 200_000 and 400_000 <= item["max_ms"] < 600_000
    assert 150_000 <= item["p50_ms"] <= 300_000 and 300_000 <= item["p99_ms"] <= item["max_ms"]
    assert proxy.json("/analytics")["slow_query_count"] == proxy.metric("slow_queries_total") == 3


@pytest.mark.parametrize("log, analytics, slow", [("0s", "1s", True), ("0s", "0s", False), ("1h", "1s", False)])
def test_there_is_one_threshold_of_slow_queries(counted, closing, gate, log, analytics, slow):
    proxy = counted(log={"slow_query": log}, analytics={"slow_query": analytics})
    client, passage = closing(proxy.wire()), gate()
    client.send(query(f"SELECT {passage.passage}"))
    passage.wait()
    proxy.advance(5)
    passage.open()
    client.until_ready()
    assert proxy.metric("slow_queries_total") == slow


def test_pipelined_ones_are_at_the_server_one_after_the_other(counted, closing, gate):
    proxy = counted()
    client, first, second = closing(proxy.wire()), gate(), gate()
    client.send(run(f"SELECT 1 AS q_first, {first.passage}"), sync(), run(f"SELECT 1 AS q_second, {second.passage}"), sync())
    for each in (first, second):
        each.wait()
        proxy.advance(100)
        each.open()
    client.until_ready(2)
    assert 100_000 <= one(proxy, "q_first")["server_ms"] < 150_000
    assert 100_000 <= one(proxy, "q_second")["server_ms"] < 150_000 and one(proxy, "q_second")["total_ms"] >= 200_000


# ---- limits


def test_there_are_at_most_so_many(counted, closing):
    proxy = counted(analytics={"max_fingerprints": 20})
    client = closing(proxy.wire())
    for i in range(200):
        client.query(f"SELECT 1 AS q_flood_{i}")
        if i % 5 == 0:
            client.query("SELECT 1 AS q_hot")
    found = told(proxy)
    assert found["fingerprints"] == found["total"] == len(found["items"]) == 20
    assert found["evicted"] == 181 == proxy.metric("query_fingerprints_evicted_total")
    assert proxy.metric("query_fingerprints") == 20 and of(proxy, "q_hot") == (40, 0, 40)
    proxy.wait_log("more statements than .analytics. max_fingerprints")
    proxy.reload({"analytics": {"max_fingerprints": 10}})
    assert told(proxy)["fingerprints"] == 10 == proxy.metric("query_fingerprints")


def test_any_bytes_are_fine(counted, closing):
    proxy = counted()
    client = closing(proxy.wire())
    client.query("")
    client.query("SELECT '" + "x" * (1 << 20) + "' AS q_long")
    client.query("SELECT 1 AS q_wide" + "".join(f", {i} AS äöü{i}" for i in range(1500)))
    client.send(b"Q" + (4 + 25).to_bytes(4, "big") + b"SELECT 1 AS \"q_bad\xff\xfe\xc3\"" + b"\x00" * 3)
    client.until_ready()
    client.query("SELECT 1 AS q_behind, 'not closed")
    assert of(proxy, "q_bad") == (1, 1, 0) and of(proxy, "q_behind") == (1, 1, 0)
    wide = one(proxy, "q_wide")
    assert wide["query_is_cut"] and 1000 < len(wide["query"].encode()) <= 1024 and wide["rows"] == 1
    assert sum(item["calls"] for item in told(proxy)["items"]) == 5


def test_each_database_and_user_has_its_own(counted, closing):
    proxy = counted()
    closing(proxy.wire()).query("SELECT 1 AS q_whose")
    for names in ({"user": "app2"}, {"database": "other"}):
        closing(proxy.wire(**names)).query("SELECT 1 AS q_whose")
    assert {(item["database"], item["user"]): item["calls"] for item in named(proxy, "q_whose")} == {
        ("app", "app"): 1, ("app", "app2"): 1, ("other", "app"): 1}
    assert len({item["fingerprint"] for item in named(proxy, "q_whose")}) == 1
    found = told(proxy, "?database=app&user=app")["items"]
    assert [item["calls"] for item in found] == [1]
    assert told(proxy, "?database=nobodys")["items"] == [] and told(proxy, "?user=nobody")["total"] == 0


# ---- on, off, anew


def test_on_off_and_anew(counted, closing):
    proxy = counted(analytics={"enabled": False})
    client = closing(proxy.wire())
    client.query("SELECT 1 AS q_switched")
    found = told(proxy)
    assert not found["enabled"] and found["since"] is None and found["items"] == [] and found["fingerprints"] == 0
    assert proxy.json("/api/analytics")["top_queries"] == []
    proxy.reload({"analytics": {"enabled": True}})
    client.query("SELECT 1 AS q_switched")
    before = told(proxy)
    assert before["enabled"] and of(proxy, "q_switched") == (1, 0, 1)
    proxy.reload({"pool": {"query_timeout": "1h"}})
    client.query("SELECT 1 AS q_switched")
    assert of(proxy, "q_switched") == (2, 0, 2) and told(proxy)["since"][:19] == before["since"][:19]
    status, found = call(proxy, method="DELETE")
    assert status == 200 and found == {"status": "cleared", "fingerprints": 1}
    assert told(proxy)["items"] == [] and proxy.metric("query_fingerprints") == 0
    client.query("SELECT 1 AS q_switched")
    assert of(proxy, "q_switched") == (1, 0, 1)
    proxy.reload({"analytics": {"enabled": False}})
    assert told(proxy)["items"] == [] and proxy.metric("query_fingerprints") == 0
    client.query("SELECT 1")


def test_a_request_under_way_is_counted_where_it_began(counted, closing, gate):
    proxy = counted()
    client, passage = closing(proxy.wire()), gate()
    client.send(query(f"SELECT 1 AS q_under_way, {passage.passage}"))
    passage.wait()
    proxy.reload({"analytics": {"enabled": False}})
    passage.open()
    assert errors(client.until_ready()) == []
    assert told(proxy)["items"] == []
    assert rows(client.query("SELECT 1")) == [["1"]]


# ---- asking


def test_asking_while_it_is_counted(counted):
    """Nobody who asks, reloads or begins anew disturbs those who count; what comes afterwards is counted exactly."""
    proxy, over, failures = counted(), threading.Event(), []

    def load():
        try:
            with proxy.wire() as client:
                while not over.is_set():
                    client.send(*(query(f"SELECT 1 AS q_load_{i}") for i in range(100)))
                    assert errors(client.until_ready(100)) == []
        except BaseException as failure:  # noqa: B902 -- of a thread: told by the test's own
            failures.append(failure)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for most in (50, 200, 10, 300):
        assert told(proxy)["fingerprints"] <= 2 * 300
        assert call(proxy, method="DELETE")[0] == 200
        proxy.reload({"analytics": {"max_fingerprints": most}})
    over.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert call(proxy, method="DELETE")[0] == 200
    with proxy.wire() as client:
        client.query("SELECT 1 AS q_quiet")
    assert of(proxy, "q_quiet") == (1, 0, 1) and told(proxy)["fingerprints"] == 1


def test_order_and_limit(counted, closing):
    proxy = counted()
    client = closing(proxy.wire())
    for i in range(1, 4):
        for _ in range(i):
            client.query(f"SELECT generate_series(1, {[30, 2, 1][i - 1]}) AS q_order_{i}")
    for sort, best in {"calls": "q_order_3", "rows": "q_order_1"}.items():
        found = told(proxy, f"?sort={sort}&limit=1")
        assert best in found["items"][0]["query"] and found["total"] == 3 and len(found["items"]) == 1
    for sort, key in {"total_time": "total_ms", "mean_time": "mean_ms", "p99_time": "p99_ms",
                      "errors": "errors"}.items():
        values = [item[key] for item in told(proxy, f"?sort={sort}")["items"]]
        assert values == sorted(values, reverse=True) and len(values) == 3
    for path in ("?sort=color", "?limit=0", "?limit=1001", "?limit=x", "?user=" + "x" * 300):
        assert call(proxy, path)[0] == 400, path
    found = proxy.json("/analytics?limit=2")
    assert found["limit"] == 2 and len(found["top_queries"]) == 2
    assert set(found["top_queries"][0]) == {"fingerprint", "normalized", "calls", "avg_ms", "p99_ms", "rows", "errors"}
    assert proxy.admin("/analytics?limit=1025")[0] == 400
