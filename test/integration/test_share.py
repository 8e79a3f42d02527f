"""
[pool] share: short reads of several clients on one server connection. Reads wait at a table that is locked while the
proxy's clock is held, so it is known who stands behind whom.
"""

import json
import signal
import threading

import psycopg
import pytest
from harness import wait_until
from harness.wire import (bind, describe, errors, execute, parse, query, rows, run, summary, sync, tags)

MODES = ["transaction", "statement"]
STALL = 60  # [pool] share_stall, in seconds: longer than any test takes


def config(mode="transaction", **pool):
    return {"proxy": {"workers": 1}, "log": {"format": "json"},
            "pool": {"mode": mode, "max_connections": 5, "share": "autocommit", "share_connections": 1,
                     "share_max_cost": "1h", "share_stall": f"{STALL}s", **pool}}


class Gate:
    """A table: whoever reads it waits until the gate opens."""

    def __init__(self, postgres, name):
        self.postgres, self.table = postgres, name
        postgres.sql(f"CREATE TABLE IF NOT EXISTS {name} (v text)", database="app")
        postgres.sql(f"GRANT SELECT ON {name} TO PUBLIC", database="app")
        self.read = f"SELECT 'through', count(*) FROM {name}"
        self.holder = postgres.admin("app")
        self.holder.autocommit = False

    def close(self):
        self.holder.execute(f"LOCK TABLE {self.table} IN ACCESS EXCLUSIVE MODE")

    def open(self):
        self.holder.rollback()

    def waiting(self):
        return self.postgres.sql("SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted",
                                 [self.table], database="app")[0][0]

    def wait(self, count=1):
        wait_until(lambda: self.waiting() == count)


@pytest.fixture
def gate(postgres, closing, name):
    made = Gate(postgres, name)
    closing(made.holder)
    yield made
    made.open()


def learn(client, *texts):
    """Until they are known to be short."""
    for text in texts:
        for _ in range(4):
            client.query(text)


def shared(proxy):
    return proxy.metric("shared_requests_total")


def in_shared(proxy):
    """Sessions whose request is on a shared link, or waits for one."""
    return sum(each["state"] == "shared" for each in proxy.sessions())


def settle(proxy):
    """Nothing is left on shared links, and none of them is left."""
    wait_until(lambda: proxy.metric("links_shared") == 0)


@pytest.fixture
def line(make_proxy, closing, gate):
    """A proxy, and clients of which the first waits at the gate and the others stand behind it on the same link."""
    def make(count, behind="SELECT 'behind', {}", **pool):
        proxy = make_proxy(config(**pool))
        clients = [closing(proxy.wire()) for _ in range(count)]
        learn(clients[0], gate.read, behind.format(0))
        gate.close()
        clients[0].send(query(gate.read))
        gate.wait()
        before = proxy.metric("queries_total")
        for i, client in enumerate(clients[1:], 1):
            client.send(query(behind.format(i)))
        wait_until(lambda: in_shared(proxy) == count)
        assert proxy.metric("links_shared") == 1 and proxy.metric("queries_total") == before
        return proxy, clients
    return make


# ---- what is shared

@pytest.mark.parametrize("mode", MODES)
def test_reads_of_many_clients_on_one_link(make_proxy, closing, mode, postgres):
    proxy = make_proxy(config(mode, max_connections=1))
    clients = [closing(proxy.wire()) for _ in range(30)]
    learn(clients[0], "SELECT 1, 'x'")
    for turn in range(20):
        for i, client in enumerate(clients):
            client.send(query(f"SELECT {turn * 100 + i}, '{turn} {i}'"))
        for i, client in enumerate(clients):
            assert rows(client.until_ready()) == [[str(turn * 100 + i), f"{turn} {i}"]]
    assert shared(proxy) > 500
    settle(proxy)
    assert proxy.metric("links_opened_total") == 1


@pytest.mark.parametrize("mode", MODES)
def test_batches_of_many_clients_on_one_link(make_proxy, closing, mode):
    proxy = make_proxy(config(mode, max_connections=1))
    clients = [closing(proxy.wire()) for _ in range(20)]
    for client in clients:
        client.batch(parse("named", "SELECT $1::int + 1, $2::text"))
    for turn in range(20):
        for i, client in enumerate(clients):
            values = [turn * 100 + i, f"{turn} {i}"]
            if (turn + i) % 2:
                client.send(run("SELECT $1::int + 1, $2::text, 'unnamed'", values), sync())
            else:
                client.send(bind("", "named", values), describe("P"), execute(), sync())
        for i, client in enumerate(clients):
            answer = client.until_ready()
            assert rows(answer)[0][:2] == [str(turn * 100 + i + 1), f"{turn} {i}"]
            parsed = ["1"] if (turn + i) % 2 else []
            assert [m[:1] for m in summary(answer)] == parsed + ["2", "T", "D", "C", "Z"]
    assert shared(proxy) > 300
    settle(proxy)
    assert proxy.metric("links_opened_total") == 1
    assert proxy.metric("statements_prepared_total") <= 4


def test_what_is_not_shared(make_proxy, closing, table):
    proxy = make_proxy(config())
    client = closing(proxy.wire())
    texts = ["BEGIN; SELECT 1; COMMIT", f"INSERT INTO {table} SELECT max(id) + 1 FROM {table}", f"SELECT * FROM {table} FOR UPDATE",
             "SELECT pg_backend_pid()", "SELECT random()", "SET application_name TO 'a'", "SHOW search_path",
             "SELECT 1; SELECT 2", f"COPY {table} TO STDOUT", "EXPLAIN SELECT 1", "SELECT set_config('a.b', 'c', true)",
             "SELECT 'now'::timestamptz IS NULL", f"WITH x AS (DELETE FROM {table} RETURNING id) SELECT * FROM x", ""]
    for text in texts:
        for _ in range(5):
            client.query(text)
    learn(client, "SELECT 1")
    before = shared(proxy)
    client.query("BEGIN")
    for _ in range(3):
        client.query("SELECT 1")  # in a transaction
    client.query("COMMIT")
    for _ in range(3):
        client.send(query("SELECT 1"), query("SELECT 1"))  # two at once
        client.until_ready(2)
        client.batch(run("SELECT 1"), run("SELECT 1"))
        client.batch(parse("", "SELECT 1"), bind("p"), execute("p"))
        client.batch(run("SELECT 1", limit=1))
    assert shared(proxy) == before and before > 0


def test_off_by_default_and_in_session_mode(make_proxy, closing):
    for changes in ({"share": None}, {"mode": "session"}, {"track_parameters": ["a.b"]}):
        proxy = make_proxy(config(**changes))
        client = closing(proxy.wire())
        for _ in range(5):
            client.query("SELECT 1")
        assert shared(proxy) == 0


def test_auto_shares_nothing_while_there_are_links_for_all(make_proxy, closing):
    proxy = make_proxy(config(share="auto"))
    clients = [closing(proxy.wire()) for _ in range(5)]
    for turn in range(10):
        for client in clients:
            client.send(query(f"SELECT {turn}"))
        for client in clients:
            assert rows(client.until_ready()) == [[str(turn)]]
    assert shared(proxy) == 0


def test_auto_shares_what_would_have_to_wait(together):
    proxy, holder, clients = together(3, share="auto")
    holder.query("COMMIT")
    for i, client in enumerate(clients):
        assert rows(client.until_ready()) == [["behind", str(i)]]
    assert shared(proxy) == 3
    settle(proxy)
    proxy.advance(2)
    assert rows(clients[0].query("SELECT 'behind', 4")) == [["behind", "4"]]
    assert shared(proxy) == 3


def test_reload_turns_it_on_and_off(make_proxy, closing):
    proxy = make_proxy(config(share="off"))
    client = closing(proxy.wire())
    learn(client, "SELECT 1")
    proxy.reload({"pool": {"share": "autocommit"}})
    learn(client, "SELECT 1")
    before = shared(proxy)
    assert before > 0
    proxy.reload({"pool": {"share": "off"}})
    learn(client, "SELECT 1")  # until the worker has seen it
    before = shared(proxy)
    learn(client, "SELECT 1")
    assert shared(proxy) == before


def test_settings_are_never_mixed(make_proxy, closing):
    proxy = make_proxy(config(max_connections=3))
    zones = ["UTC", "Asia/Tokyo", "America/New_York"]
    clients = [closing(proxy.wire(TimeZone=zones[i % 3], application_name=f"app {i % 2}")) for i in range(12)]
    text = "SELECT to_char('2026-01-01 00:00Z'::timestamptz, 'HH24')"
    for _ in range(20):
        for client in clients:
            client.send(query(text))
        for i, client in enumerate(clients):
            assert rows(client.until_ready()) == [[["00", "09", "19"][i % 3]]]
        # In the crowd it is luck whether anybody finds a link with his settings. Whoever asks twice does.
        for i, client in enumerate(clients):
            assert client.value(text) == client.value(text) == ["00", "09", "19"][i % 3]
    assert shared(proxy) >= 200
    settle(proxy)


def test_errors_are_their_own(make_proxy, closing):
    proxy = make_proxy(config(max_connections=1))
    clients = [closing(proxy.wire()) for _ in range(9)]
    learn(clients[0], "SELECT 1 / 1")
    for client in clients:
        client.batch(parse("s", "SELECT 10 / $1::int"))
    for i in range(1, 5):
        clients[0].batch(bind("", "s", [i]), execute())
    for _ in range(5):
        before = shared(proxy)
        for i, client in enumerate(clients):
            client.send(query(f"SELECT 1 / {i % 3}") if i < 5 else
                        bind("", "s", [i % 3]) + execute() + sync())
        for i, client in enumerate(clients):
            answer = client.until_ready()
            assert errors(answer) == ([] if i % 3 else ["22012"]) and client.status == "I"
    assert shared(proxy) - before >= 8
    settle(proxy)


def test_drivers(make_proxy):
    proxy = make_proxy(config())
    with psycopg.connect(proxy.dsn(), autocommit=True) as one, psycopg.connect(proxy.dsn(), autocommit=True) as two:
        for i in range(30):
            assert one.execute("SELECT %s::int + 1", [i]).fetchone() == (i + 1,)
            assert two.execute("SELECT %s::int + 1", [i + 100]).fetchone() == (i + 101,)
    assert shared(proxy) > 20


# ---- who stands behind a request that takes long

def test_those_behind_get_links_of_their_own(line, gate):
    proxy, clients = line(4)
    proxy.advance(STALL)
    for i, client in enumerate(clients[1:], 1):
        assert rows(client.until_ready()) == [["behind", str(i)]]
    assert proxy.metric("shared_stalls_total") == 1 and proxy.metric("shared_returned_total") == 3
    assert gate.waiting() == 1
    assert clients[1].value("SELECT 'more'") == "more"
    gate.open()
    assert rows(clients[0].until_ready()) == [["through", "0"]]
    settle(proxy)


def test_nobody_is_put_behind_one_that_takes_long(line, gate):
    proxy, clients = line(1)
    proxy.advance(STALL)
    other = proxy.wire()
    assert rows(other.query("SELECT 'behind', 7")) == [["behind", "7"]]
    other.close()
    assert proxy.metric("shared_stalls_total") == 0
    gate.open()
    assert rows(clients[0].until_ready()) == [["through", "0"]]


def test_what_takes_long_is_not_shared(make_proxy, closing, gate):
    proxy = make_proxy(config(share_max_cost="100ms"))
    client = closing(proxy.wire())
    learn(client, gate.read)
    before = shared(proxy)
    for _ in range(3):
        gate.close()
        client.send(query(gate.read))
        gate.wait()
        proxy.advance(1)
        gate.open()
        client.until_ready()
    assert shared(proxy) == before + 1  # the second one knew better
    learn(client, gate.read)
    assert shared(proxy) == before + 1


def test_more_than_depth_wait_for_room(line, gate):
    proxy, clients = line(5, share_depth=2, query_wait_timeout="10s")
    assert proxy.metric("shared_waits_total") == 3
    clients[2].cancel()
    assert errors(clients[2].until_ready()) == ["57014"]
    clients[3].abort()
    gate.open()
    assert rows(clients[0].until_ready()) == [["through", "0"]]
    assert rows(clients[1].until_ready()) == [["behind", "1"]]
    assert rows(clients[4].until_ready()) == [["behind", "4"]]
    assert clients[2].value("SELECT 'usable'") == "usable"
    assert proxy.metric("shared_stalls_total") == 0
    settle(proxy)


def test_waiting_for_room_has_an_end(line, gate):
    proxy, clients = line(3, share_depth=1, query_wait_timeout="10s")
    proxy.advance(10)
    for client in clients[1:]:
        assert errors(client.until_ready()) == ["53300"] and client.status == "I"
    assert proxy.metric("link_wait_timeouts_total") == 2
    gate.open()
    clients[0].until_ready()
    settle(proxy)


def test_a_link_goes_to_who_needs_one_of_his_own(line, gate, closing):
    proxy, clients = line(3, max_connections=1)
    writer = closing(proxy.wire())
    writer.send(query("BEGIN"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    gate.open()
    assert rows(clients[0].until_ready()) == [["through", "0"]]
    for i, client in enumerate(clients[1:], 1):
        assert rows(client.until_ready()) == [["behind", str(i)]]
    assert tags(writer.until_ready()) == ["BEGIN"]
    clients[0].send(query("SELECT 'behind', 9"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    writer.query("COMMIT")
    assert rows(clients[0].until_ready()) == [["behind", "9"]]


# ---- cancels

def test_a_cancel_hits_its_own_query_only(line, gate, postgres):
    proxy, clients = line(4)
    clients[0].cancel()
    assert errors(clients[0].until_ready()) == ["57014"]
    for i, client in enumerate(clients[1:], 1):
        assert rows(client.until_ready()) == [["behind", str(i)]]
    assert proxy.metric("cancels_forwarded_total") == 1
    gate.open()
    for client in clients:
        assert client.value("SELECT 'usable'") == "usable"
    settle(proxy)


def test_a_cancel_of_one_behind_is_not_the_servers_business(line, gate):
    proxy, clients = line(3)
    clients[1].cancel()
    assert errors(clients[1].until_ready()) == ["57014"]
    assert clients[1].value("SELECT 'usable'") == "usable"  # on another link, or behind
    assert proxy.metric("cancels_forwarded_total") == 0 and gate.waiting() == 1
    gate.open()
    assert rows(clients[0].until_ready()) == [["through", "0"]]
    assert rows(clients[2].until_ready()) == [["behind", "2"]]
    settle(proxy)


def test_query_timeout(line, gate):
    proxy, clients = line(2, query_timeout=f"{STALL + 10}s")
    proxy.advance(STALL)
    assert rows(clients[1].until_ready()) == [["behind", "1"]]
    proxy.advance(10)
    assert errors(clients[0].read_until("E")) == ["57014"]
    wait_until(lambda: gate.waiting() == 0)
    settle(proxy)


# ---- clients that leave

def test_a_client_that_leaves_takes_nothing_from_others(line, gate):
    proxy, clients = line(4)
    clients[0].abort()
    clients[2].abort()
    wait_until(lambda: proxy.metric("clients") == 2)
    proxy.advance(STALL)
    for i in (1, 3):
        assert rows(clients[i].until_ready()) == [["behind", str(i)]]
    wait_until(lambda: gate.waiting() == 0)  # what nobody waits for is cancelled
    gate.open()
    settle(proxy)


def test_a_client_that_leaves_alone_has_its_query_cancelled(line, gate):
    proxy, clients = line(1)
    clients[0].abort()
    wait_until(lambda: gate.waiting() == 0)
    settle(proxy)


def test_a_client_that_sends_no_more_is_answered(line, gate):
    proxy, clients = line(2)
    for client in clients:
        client.socket.shutdown(1)
    gate.open()
    assert rows(clients[0].until_ready()) == [["through", "0"]]
    assert rows(clients[1].until_ready()) == [["behind", "1"]]
    for client in clients:
        client.until_closed()
    settle(proxy)


def test_a_client_that_does_not_read_holds_up_nobody(make_proxy, closing):
    proxy = make_proxy(config())
    reader, other = closing(proxy.wire()), closing(proxy.wire())
    large = "SELECT repeat('x', 1000), g FROM generate_series(1, 40000) g"
    learn(reader, "SELECT repeat('x', 1000), g FROM generate_series(1, 1) g", "SELECT 'behind', 0")
    reader.send(query(large))
    wait_until(lambda: in_shared(proxy) == 1)
    other.send(query("SELECT 'behind', 1"))
    wait_until(lambda: in_shared(proxy) == 2)
    proxy.advance(STALL)
    assert rows(other.until_ready()) == [["behind", "1"]]
    assert len(rows(reader.until_ready())) == 40000
    settle(proxy)


# ---- servers that leave

def test_a_server_that_is_killed_fails_one(line, gate, postgres):
    proxy, clients = line(4)
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = %s AND wait_event_type = 'Lock'",
                 [gate.read])
    answer = clients[0].until_ready()
    assert errors(answer) == ["57P01"] and clients[0].status == "I"
    for i, client in enumerate(clients[1:], 1):
        assert rows(client.until_ready()) == [["behind", str(i)]]
    gate.open()
    assert rows(clients[0].query(gate.read)) == [["through", "0"]]
    settle(proxy)


# ---- statements

def test_a_changed_table_is_no_error_where_the_client_parses(make_proxy, closing, postgres, table):
    """A direct connection would have parsed it anew. The DDL goes around the proxy."""
    proxy = make_proxy(config(max_connections=1))
    client = closing(proxy.wire())
    text = f"SELECT * FROM {table} WHERE id = 1"
    for _ in range(5):
        assert rows(client.batch(run(text))) == [["1", "v1"]]
    before = shared(proxy)
    assert before > 0
    postgres.sql(f"ALTER TABLE {table} ADD b int DEFAULT 2", database="app")
    for _ in range(3):
        answer = client.batch(run(text))
        assert rows(answer) == [["1", "v1", "2"]] and not errors(answer)
    assert shared(proxy) > before


def test_a_text_that_means_something_else_now(make_proxy, closing, postgres, table):
    """The old plan has $1 as an int for ever, and fails otherwise than with 0A000."""
    proxy = make_proxy(config(max_connections=1))
    client = closing(proxy.wire())
    batch = run(f"SELECT v FROM {table} WHERE id = $1", ["1"])
    for _ in range(5):
        assert rows(client.batch(batch)) == [["v1"]]
    before = shared(proxy)
    assert before > 0
    postgres.sql(f"ALTER TABLE {table} ALTER id TYPE text", database="app")
    for _ in range(3):
        answer = client.batch(batch)
        assert rows(answer) == [["v1"]] and not errors(answer)
    assert shared(proxy) > before


@pytest.mark.parametrize("described", [True, False])
def test_a_prepared_statement_whose_result_has_changed(make_proxy, closing, postgres, table, described):
    """Who goes by an older description of the rows hears of it, as from PostgreSQL; nobody else does."""
    proxy = make_proxy(config(max_connections=1))
    client = closing(proxy.wire())
    client.batch(parse("s", f"SELECT * FROM {table} WHERE id = 1"), describe("S", "s"))
    batch = bind("", "s") + (describe("P", "") if described else b"") + execute()
    for _ in range(5):
        assert rows(client.batch(batch)) == [["1", "v1"]]
    assert shared(proxy) > 0
    postgres.sql(f"ALTER TABLE {table} ADD b int DEFAULT 2", database="app")
    if not described:
        assert errors(client.batch(batch)) == ["0A000"] and client.status == "I"
    for _ in range(3):
        answer = client.batch(batch)
        assert rows(answer) == [["1", "v1", "2"]] and not errors(answer)
    assert proxy.metric("shared_returned_total") == described


def test_a_statement_that_cannot_be_prepared(make_proxy, closing, postgres, table):
    proxy = make_proxy(config(max_connections=1))
    client = closing(proxy.wire())
    for _ in range(4):
        client.batch(run(f"SELECT count(*) FROM {table}"))
    postgres.sql(f"DROP TABLE {table}", database="app")
    for _ in range(3):
        answer = client.batch(run(f"SELECT count(*) FROM {table}"))
        assert errors(answer) == ["42P01"] and "hp_" not in answer[-2].fields["M"]
    assert client.value("SELECT 'usable'") == "usable"


def test_errors_name_the_clients_statement(make_proxy, closing):
    proxy = make_proxy(config(max_connections=1))
    client = closing(proxy.wire())
    client.batch(parse("mine", "SELECT $1::int"))
    for _ in range(4):
        client.batch(bind("", "mine", [1]), execute())
    answer = client.batch(bind("", "mine", [1, 2]), execute())
    assert errors(answer) == ["08P01"]
    assert '"mine"' in answer[0].fields["M"] and "hp_" not in answer[0].fields["M"]
    assert rows(client.batch(bind("", "mine", [3]), execute())) == [["3"]]


def test_more_statements_than_a_link_holds(make_proxy, closing):
    proxy = make_proxy(config(max_connections=1, max_prepared_statements=2))
    client = closing(proxy.wire())
    for turn in range(6):
        for i in range(5):
            assert rows(client.batch(run(f"SELECT {i}, $1::int", [turn]))) == [[str(i), str(turn)]]
    assert shared(proxy) > 10 and proxy.metric("statements_evicted_total") > 5
    settle(proxy)


# ---- the end

def test_shutdown_waits_for_shared_requests(line, gate):
    proxy, clients = line(3)
    proxy.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "shut" in proxy.log())
    gate.open()
    for client in clients:
        answer = client.until_closed()
        assert len(rows(answer)) == 1
    proxy.wait_end()


def test_slow_queries_are_told(make_proxy, closing, gate):
    proxy = make_proxy({**config(), "log": {"format": "json", "slow_query": "10s"}})
    client = closing(proxy.wire())
    learn(client, gate.read)
    gate.close()
    client.send(query(gate.read))
    gate.wait()
    proxy.advance(11)
    gate.open()
    client.until_ready()
    assert shared(proxy) > 0
    wait_until(lambda: proxy.metric("slow_queries_total") == 1)
    told = [json.loads(each) for each in proxy.log().splitlines() if "slow query" in each]
    assert [each["query"] for each in told] == [f"select ?, count(*) from {gate.table}"]


def test_as_many_links_are_shared_as_pay(line, gate, closing):
    """Half of share_depth is reached on the only one: another one is opened, and taken by who comes next."""
    proxy, clients = line(3, share_connections=0, share_depth=4)
    wait_until(lambda: proxy.pools()[0]["idle"] == 1)
    more = closing(proxy.wire())
    for i in range(3):
        assert rows(more.query(f"SELECT 'behind', {i + 7}")) == [["behind", str(i + 7)]]
    assert proxy.metric("links_opened_total") == 2
    gate.open()
    assert rows(clients[0].until_ready()) == [["through", "0"]]
    for i, client in enumerate(clients[1:], 1):
        assert rows(client.until_ready()) == [["behind", str(i)]]
    settle(proxy)


def test_no_more_links_are_shared_than_configured(line, gate, closing):
    proxy, clients = line(3, share_connections=1, share_depth=4)
    more = closing(proxy.wire())
    more.send(query("SELECT 'behind', 7"))
    wait_until(lambda: in_shared(proxy) == 4)
    assert proxy.metric("links_opened_total") == 1 and proxy.metric("links_shared") == 1
    gate.open()
    for client in clients:
        client.until_ready()
    assert rows(more.until_ready()) == [["behind", "7"]]
    settle(proxy)


# ---- when links are few

@pytest.fixture
def crowd(closing):
    """Clients that ask one read after the other, so that at every time more of them wait than there are links."""
    def make(proxy, count=20, size=20000):
        ending, failed = threading.Event(), []
        text = f"SELECT {{}}, count(*) FROM generate_series(1, {size})"
        clients = [closing(proxy.wire()) for _ in range(count)]

        def go_on():
            try:
                for i, client in enumerate(clients):
                    client.send(query(text.format(i)))
                while not ending.is_set():
                    for i, client in enumerate(clients):
                        answer = rows(client.until_ready())
                        assert answer == [[str(i), str(size)]]
                        client.send(query(text.format(i)))
                for client in clients:
                    client.until_ready()
            except Exception as error:  # pylint: disable=broad-except
                failed.append(error)

        thread = threading.Thread(target=go_on)
        thread.start()

        def end():
            ending.set()
            thread.join()
            assert not failed
        return end
    return make


@pytest.mark.parametrize("share", ["autocommit", "auto"])
@pytest.mark.parametrize("links", [1, 2])
def test_sharing_begins_and_stays_while_all_links_are_busy(make_proxy, crowd, links, share):
    """Nobody ever finds an idle link: whoever could share one waits in line for it with the others."""
    proxy = make_proxy(config(max_connections=links, share=share))
    end = crowd(proxy)
    try:
        wait_until(lambda: shared(proxy) > 100)
        before = proxy.metric("queries_total"), shared(proxy)
        wait_until(lambda: proxy.metric("queries_total") > before[0] + 100)
        assert shared(proxy) > before[1]
    finally:
        end()
    settle(proxy)
    assert proxy.metric("links_opened_total") == links


def test_transactions_and_shared_reads_take_turns(make_proxy, crowd, closing, table):
    proxy = make_proxy(config(max_connections=1))
    end = crowd(proxy)
    try:
        wait_until(lambda: shared(proxy) > 100)
        writer = closing(proxy.wire())
        for i in range(20):
            assert tags(writer.query("BEGIN")) == ["BEGIN"]
            assert tags(writer.query(f"UPDATE {table} SET v = '{i}' WHERE id = 1")) == ["UPDATE 1"]
            assert tags(writer.query("COMMIT")) == ["COMMIT"]
        before = shared(proxy)
        wait_until(lambda: shared(proxy) > before + 100)
    finally:
        end()
    settle(proxy)


def test_other_settings_have_their_turn(make_proxy, crowd, closing):
    proxy = make_proxy(config(max_connections=1))
    end = crowd(proxy)
    try:
        wait_until(lambda: shared(proxy) > 100)
        other = closing(proxy.wire(TimeZone="Asia/Tokyo"))
        for _ in range(20):
            assert other.value("SELECT to_char('2026-01-01 00:00Z'::timestamptz, 'HH24')") == "09"
        before = shared(proxy)
        wait_until(lambda: shared(proxy) > before + 100)
    finally:
        end()
    settle(proxy)


@pytest.mark.parametrize("share", ["autocommit", "auto"])
@pytest.mark.parametrize("links", [1, 4])
def test_workers_take_turns(make_proxy, crowd, links, share):
    """Each client of a crowd waits for its answer before it goes on, so none may be forgotten."""
    proxy = make_proxy({**config(max_connections=links, share=share), "proxy": {"workers": 2}})
    ends = [crowd(proxy, size=size) for size in (1, 20000)]
    try:
        wait_until(lambda: shared(proxy) > 500)
    finally:
        for end in ends:
            end()
    settle(proxy)


@pytest.fixture
def together(make_proxy, closing):
    """A proxy whose only link a transaction holds, and clients whose reads wait for it together."""
    def make(count, **pool):
        proxy = make_proxy(config(max_connections=1, **pool))
        holder, *clients = [closing(proxy.wire()) for _ in range(count + 1)]
        learn(clients[0], "SELECT 'behind', 0")
        settle(proxy)
        holder.query("BEGIN")
        for i, client in enumerate(clients):
            client.send(query(f"SELECT 'behind', {i}"))
        wait_until(lambda: in_shared(proxy) == count)
        assert proxy.metric("clients_waiting") == count and proxy.metric("links_shared") == 0
        return proxy, holder, clients
    return make


def test_those_who_wait_together_share_the_link(together):
    proxy, holder, clients = together(5)
    before = shared(proxy)
    clients[0].cancel()
    assert errors(clients[0].until_ready()) == ["57014"]
    clients[1].abort()
    wait_until(lambda: proxy.metric("clients_waiting") == 3)
    holder.query("COMMIT")
    for i in (2, 3, 4):
        assert rows(clients[i].until_ready()) == [["behind", str(i)]]
    assert shared(proxy) == before + 3 and proxy.metric("clients_waiting") == 0
    assert clients[0].value("SELECT 'usable'") == "usable"
    settle(proxy)


def test_nobody_is_left_of_those_who_wait_together(together):
    proxy, holder, clients = together(3)
    for client in clients:
        client.abort()
    wait_until(lambda: proxy.metric("clients") == 1 and proxy.metric("clients_waiting") == 0)
    holder.query("COMMIT")
    assert holder.value("SELECT 'usable'") == "usable"


def test_waiting_together_has_an_end(together):
    proxy, holder, clients = together(3, query_wait_timeout="10s")
    proxy.advance(10)
    for client in clients:
        assert errors(client.until_ready()) == ["53300"] and client.status == "I"
    assert proxy.metric("clients_waiting") == 0
    holder.query("COMMIT")
    assert clients[0].value("SELECT 'usable'") == "usable"


def test_those_who_wait_together_and_others_are_served_by_age(together, closing):
    proxy, holder, clients = together(2)
    writer = closing(proxy.wire())
    writer.send(query("BEGIN"))
    wait_until(lambda: proxy.metric("clients_waiting") == 3)
    late = closing(proxy.wire())
    late.send(query("SELECT 'behind', 9"))
    wait_until(lambda: in_shared(proxy) == 3)
    holder.query("COMMIT")
    for i, client in enumerate(clients):
        assert rows(client.until_ready()) == [["behind", str(i)]]
    assert rows(late.until_ready()) == [["behind", "9"]]  # it had room with them
    assert tags(writer.until_ready()) == ["BEGIN"]


def test_there_is_no_server_for_those_who_wait_together(line, gate, postgres):
    """The link is lost, and there will be no other: each is told by the server's own words."""
    _, clients = line(5, share_depth=2, max_connections=1)
    postgres.sql("ALTER DATABASE app ALLOW_CONNECTIONS false")
    try:
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = %s AND wait_event_type = 'Lock'",
                     [gate.read])
        assert errors(clients[0].until_ready()) == ["57P01"]
        for client in clients[1:]:
            assert errors(client.until_ready()) == ["55000"] and client.status == "I"
    finally:
        postgres.sql("ALTER DATABASE app ALLOW_CONNECTIONS true")
    gate.open()
    for client in clients:
        wait_until(lambda client=client: rows(client.query("SELECT 'usable'")) == [["usable"]])
