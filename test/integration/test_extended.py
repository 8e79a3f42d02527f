"""The extended query protocol: pipelines of any depth and mixture, and what an error in the middle does to them."""

import random
import socket
import threading

import pytest
from harness import wire
from harness.wire import (bind, close, describe, execute, flush, kinds, parse, query, rows, run, summary, sync)

pytestmark = pytest.mark.matrix


def test_one_statement(target):
    client = target.wire()
    messages = client.batch(parse("", "SELECT $1::int + 1"), bind("", "", [41]), describe("P"), execute())
    assert kinds(messages) == "12TDCZ"
    assert rows(messages) == [["42"]]


@pytest.mark.parametrize("depth", [1, 2, 10, 100, 2000])
def test_pipeline_of_batches(target, depth):
    client = target.wire()
    client.send(*(run("SELECT $1::text", [i]) + sync() for i in range(depth)))
    assert rows(client.until_ready(depth)) == [[str(i)] for i in range(depth)]


@pytest.mark.parametrize("depth", [1, 2, 10, 100, 2000])
def test_many_statements_in_one_batch(target, depth):
    client = target.wire()
    messages = client.batch(*(run("SELECT $1::text", [i]) for i in range(depth)))
    assert rows(messages) == [[str(i)] for i in range(depth)]
    assert kinds(messages) == "12TDC" * depth + "Z"


@pytest.mark.parametrize("depth", [10, 1000])
def test_pipeline_over_named_statements(target, depth):
    client = target.wire()
    client.batch(*(parse(f"s{i}", f"SELECT {i} + $1::int") for i in range(10)))
    client.send(*(bind("", f"s{i % 10}", [i]) + execute() + sync() for i in range(depth)))
    assert rows(client.until_ready(depth)) == [[str(i % 10 + i)] for i in range(depth)]


def test_pipeline_larger_than_every_buffer(target):
    """Both sides have more to write than sockets hold: whoever doesn't read while it writes, hangs."""
    client = target.wire()
    text = "x" * 100_000
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sender = threading.Thread(target=lambda: client.send(*[run("SELECT $1::text", [text]) + sync()] * 100))
    sender.start()
    messages = client.until_ready(100)
    sender.join()
    assert all(row == [text] for row in rows(messages)) and len(rows(messages)) == 100


@pytest.mark.parametrize("bad", [
    parse("", "SELEKT"),
    bind("", "unknown"),
    bind("", "", [1, 2, 3, 4]),
    execute("nowhere"),
    describe("S", "nothing"),
    describe("P", "nothing"),
    run("SELECT 1/0"),
    run("SELECT $1::int", ["x"]),
], ids=["parse", "bind-name", "bind-count", "execute", "describe-s", "describe-p", "division", "cast"])
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_error_skips_to_sync(target, bad, before, after):
    parts = [run("SELECT 'before'")] * before + [bad] + [run("SELECT 'after'")] * after
    client, direct = target.wire(), target.oracle()
    assert summary(client.batch(*parts)) == summary(direct.batch(*parts))
    assert rows(client.batch(run("SELECT 'next'"))) == [["next"]]


def test_error_skips_to_its_own_sync_only(target):
    client = target.wire()
    client.send(run("SELECT 1"), sync(), run("SELECT 1/0"), run("SELECT 2"), sync(), run("SELECT 3"), sync(),
                run("SELEKT"), sync(), run("SELECT 4"), sync())
    messages = client.until_ready(5)
    assert rows(messages) == [["1"], ["3"], ["4"]]
    assert wire.errors(messages) == ["22012", "42601"]


def test_close_after_error_is_skipped_too(target):
    client = target.wire()
    client.batch(parse("kept", "SELECT 'kept'"))
    messages = client.batch(run("SELECT 1/0"), close("S", "kept"))
    assert "3" not in kinds(messages)
    assert rows(client.batch(run("", name="kept", parse_too=False))) == [["kept"]]


def test_parse_after_error_is_skipped_too(target):
    client = target.wire()
    messages = client.batch(run("SELECT 1/0"), parse("never", "SELECT 1"))
    assert kinds(messages).count("1") == 1
    assert wire.errors(client.batch(bind("", "never"))) == ["26000"]


def test_query_in_a_failed_batch_is_skipped(target):
    """A simple Query before the Sync of a failed batch is skipped like everything else."""
    client, direct = target.wire(), target.oracle()
    parts = [run("SELECT 1/0"), query("SELECT 'skipped'"), sync(), query("SELECT 'seen'")]
    for each in (client, direct):
        each.send(*parts)
    assert summary(client.until_ready(2)) == summary(direct.until_ready(2))


def test_sync_alone(target):
    client = target.wire()
    client.send(sync() * 5)
    assert kinds(client.until_ready(5)) == "ZZZZZ"


def test_flush_delivers_at_once(target):
    """Without a Sync: a client that waits for the answer of a Flush must get it."""
    client = target.wire()
    client.send(parse("", "SELECT $1::int"), describe("S"), flush())
    assert kinds(client.read_until("T")) == "1tT"
    client.send(bind("", "", [5]), execute(), flush())
    assert kinds(client.read_until("C")) == "2DC"
    client.send(sync())
    assert kinds(client.until_ready()) == "Z"


def test_flush_of_nothing(target):
    client = target.wire()
    client.send(flush(), flush(), sync())
    assert kinds(client.until_ready()) == "Z"


def test_flush_after_every_message(target):
    client = target.wire()
    for part, answer in ((parse("", "SELECT 1"), "1"), (bind(), "2"), (describe("P"), "T"), (execute(), "C"),
                         (close("P"), "3"), (close("S"), "3")):
        client.send(part, flush())
        assert client.read_until(answer)[-1].kind == answer
    client.send(sync())
    assert client.read().kind == "Z"


def test_flush_after_error(target):
    client = target.wire()
    client.send(run("SELECT 1/0"), flush())
    assert client.read_until("E")[-1].code == "22012"
    client.send(run("SELECT 1"), flush(), sync())
    assert kinds(client.until_ready()) == "Z"


def test_unnamed_statement_stays_across_batches(target):
    client = target.wire()
    client.batch(parse("", "SELECT $1::int * 2"))
    for i in range(5):
        assert rows(client.batch(bind("", "", [i]), execute())) == [[str(i * 2)]]


def test_unnamed_statement_is_lost_by_a_simple_query(target):
    """PostgreSQL drops it. Whoever shares links must not find another client's there."""
    client, direct = target.wire(), target.oracle()
    for each in (client, direct):
        each.batch(parse("", "SELECT 'mine'"))
        each.query("SELECT 1")
    assert summary(client.batch(bind(), execute())) == summary(direct.batch(bind(), execute()))


def test_unnamed_statement_is_replaced(target):
    client = target.wire()
    for i in range(20):
        assert rows(client.batch(run(f"SELECT 'text {i % 3}'"))) == [[f"text {i % 3}"]]


def test_failed_parse_loses_the_unnamed_statement(target):
    client, direct = target.wire(), target.oracle()
    for each in (client, direct):
        each.batch(parse("", "SELECT 1"))
        each.batch(parse("", "SELEKT 1"))
    assert summary(client.batch(bind(), execute())) == summary(direct.batch(bind(), execute()))


def test_unnamed_statements_of_two_clients(target):
    first, second = target.wire(), target.wire()
    for i in range(10):
        first.batch(parse("", "SELECT 'first'"))
        second.batch(parse("", "SELECT 'second'"))
        assert rows(first.batch(bind(), execute())) == [["first"]]
        assert rows(second.batch(bind(), execute())) == [["second"]]


def test_unknown_statement(target):
    client = target.wire()
    messages = client.batch(bind("", "nobody"), execute())
    assert summary(messages) == ['E:ERROR:26000:prepared statement "nobody" does not exist', "ZI"]


def test_unknown_statement_described(target):
    messages = target.wire().batch(describe("S", "nobody"))
    assert summary(messages) == ['E:ERROR:26000:prepared statement "nobody" does not exist', "ZI"]


def test_unknown_unnamed_statement(target):
    client, direct = target.wire(), target.oracle()
    for parts in ([bind()], [describe("S")], [describe("P")], [execute()]):
        assert summary(client.batch(*parts)) == summary(direct.batch(*parts))


def test_duplicate_statement(target):
    client = target.wire()
    messages = client.batch(parse("twice", "SELECT 1"), parse("twice", "SELECT 2"), parse("other", "SELECT 3"))
    assert summary(messages) == ["1", 'E:ERROR:42P05:prepared statement "twice" already exists', "ZI"]
    assert rows(client.batch(run("", name="twice", parse_too=False))) == [["1"]]
    assert wire.errors(client.batch(bind("", "other"))) == ["26000"]


def test_duplicate_with_the_same_text(target):
    client = target.wire()
    messages = client.batch(parse("same", "SELECT 1"), parse("same", "SELECT 1"))
    assert wire.errors(messages) == ["42P05"]


@pytest.mark.modes("session", "transaction")
def test_duplicate_inside_a_transaction_aborts_it(target):
    client = target.wire()
    client.query("BEGIN")
    client.batch(parse("d", "SELECT 1"))
    assert wire.errors(client.batch(parse("d", "SELECT 1"))) == ["42P05"]
    assert client.status == "E"
    client.query("ROLLBACK")
    assert client.status == "I"


@pytest.mark.modes("session", "transaction")
def test_unknown_statement_inside_a_transaction_aborts_it(target):
    client = target.wire()
    client.query("BEGIN")
    client.batch(bind("", "nobody"))
    assert client.status == "E"
    assert wire.errors(client.query("SELECT 1")) == ["25P02"]
    client.query("ROLLBACK")
    assert client.value("SELECT 1") == "1"


def test_close_and_parse_again(target):
    client = target.wire()
    for i in range(20):
        messages = client.batch(parse("again", f"SELECT {i}"), bind("", "again"), execute(), close("S", "again"))
        assert kinds(messages) == "12DC3Z" and rows(messages) == [[str(i)]]


def test_close_of_what_is_not_there(target):
    assert kinds(target.wire().batch(close("S", "nobody"), close("P", "nobody"))) == "33Z"


def test_describe_statement_and_portal(target):
    client, direct = target.wire(), target.oracle()
    parts = [parse("d", "SELECT $1::int AS a, $2::text AS b"), describe("S", "d"), bind("p", "d", [1, "x"]),
             describe("P", "p"), execute("p"), close("P", "p")]
    assert summary(client.batch(*parts)) == summary(direct.batch(*parts))


def test_describe_of_no_data(target, table):
    client = target.wire()
    assert kinds(client.batch(parse("n", f"DELETE FROM {table} WHERE id < 0"), describe("S", "n"))) == "1tnZ"


def test_empty_query(target):
    assert kinds(target.wire().batch(run(""))) == "12nIZ"


def test_binary_formats(target):
    client = target.wire()
    messages = client.batch(parse("", "SELECT $1::int8", [20]),
                            bind("", "", [(77).to_bytes(8, "big")], [1], [1]), execute())
    assert messages[2].values == [(77).to_bytes(8, "big")]


def test_null_and_empty_values(target):
    messages = target.wire().batch(run("SELECT $1::text, $2::text", [None, ""]))
    assert rows(messages) == [[None, ""]]


def test_parameter_count_limits(target):
    count = 32767
    text = "SELECT " + " + ".join(f"${i}::int8" for i in range(1, 101))
    assert rows(target.wire().batch(run(text, range(1, 101)))) == [["5050"]]
    values = ["1"] * count
    text = "SELECT array_length(ARRAY[" + ",".join(f"${i}::int" for i in range(1, count + 1)) + "], 1)"
    assert rows(target.wire().batch(run(text, values))) == [[str(count)]]


# ---------------------------------------------------------------- portals

def test_row_limit_within_a_batch(target):
    client = target.wire()
    messages = client.batch(parse("", "SELECT * FROM generate_series(1, 7)"), bind(), execute("", 3), execute("", 3),
                            execute("", 3))
    assert kinds(messages) == "12DDDsDDDsDCZ"


def test_suspended_portal_ends_with_its_transaction(target):
    client, direct = target.wire(), target.oracle()
    for each in (client, direct):
        each.batch(parse("", "SELECT * FROM generate_series(1, 7)"), bind("p"), execute("p", 3))
    assert summary(client.batch(execute("p", 3))) == summary(direct.batch(execute("p", 3)))


@pytest.mark.modes("session", "transaction")
def test_suspended_portals_across_batches_of_a_transaction(target):
    client = target.wire()
    client.query("BEGIN")
    client.batch(parse("", "SELECT * FROM generate_series(1, 5)"), bind("a"), execute("a", 2))
    client.batch(parse("", "SELECT * FROM generate_series(101, 105)"), bind("b"), execute("b", 2))
    seen = {"a": 2, "b": 2}
    for portal, base in (("a", 0), ("b", 100), ("b", 100), ("a", 0)):
        got = [int(r[0]) for r in rows(client.batch(execute(portal, 2)))]
        assert got == [base + n for n in range(seen[portal] + 1, min(seen[portal] + 2, 5) + 1)]
        seen[portal] += 2
    client.query("COMMIT")
    assert wire.errors(client.batch(execute("a"))) == ["34000"]


@pytest.mark.modes("session", "transaction")
def test_portal_fetched_with_flush(target):
    """As pgjdbc does with a fetch size."""
    client = target.wire()
    client.query("BEGIN")
    client.send(parse("", "SELECT * FROM generate_series(1, 10)"), bind("c"), execute("c", 4), flush())
    assert kinds(client.read_until("s")) == "12DDDDs"
    client.send(execute("c", 4), flush())
    assert kinds(client.read_until("s")) == "DDDDs"
    client.send(execute("c", 4), close("P", "c"), sync())
    assert kinds(client.until_ready()) == "DDC3Z"
    client.query("COMMIT")


@pytest.mark.modes("session", "transaction")
def test_duplicate_portal(target):
    client, direct = target.wire(), target.oracle()
    parts = [query("BEGIN"), parse("", "SELECT 1"), bind("p"), bind("p"), sync(), query("ROLLBACK")]
    for each in (client, direct):
        each.send(*parts)
    assert summary(client.until_ready(3)) == summary(direct.until_ready(3))


@pytest.mark.modes("session", "transaction")
def test_transaction_in_one_batch(target, table):
    client = target.wire()
    messages = client.batch(run("BEGIN"), run(f"INSERT INTO {table} VALUES (200, 'x')"), run("COMMIT"),
                            run(f"SELECT count(*) FROM {table}"))
    assert rows(messages) == [["11"]] and client.status == "I"


@pytest.mark.modes("session", "transaction")
def test_transaction_over_batches(target, table):
    client = target.wire()
    client.send(run("BEGIN"), sync(), run(f"INSERT INTO {table} VALUES (201, 'x')"), sync(), run("SELECT 1/0"), sync(),
                run("SELECT 1"), sync(), run("ROLLBACK"), sync(), run(f"SELECT count(*) FROM {table}"), sync())
    messages = client.until_ready(6)
    assert [m.status for m in messages if m.kind == "Z"] == ["T", "T", "E", "E", "I", "I"]
    assert rows(messages) == [["10"]]


def test_implicit_transaction_of_a_batch_rolls_back(target, table):
    client = target.wire()
    client.batch(run(f"INSERT INTO {table} VALUES (202, 'x')"), run("SELECT 1/0"))
    assert client.value(f"SELECT count(*) FROM {table} WHERE id = 202") == "0"


# ---------------------------------------------------------------- anything

NAMES = ["", "s1", "s2", "s3"]
PORTALS = ["", "p1", "p2"]
SQL = ["SELECT 1", "SELECT $1::int", "SELECT 1/0", "SELECT * FROM generate_series(1, 5)", "SELEKT", "",
       "SELECT $1::text, $2::text", "VALUES (1), (2)", "SELECT NULL"]
SQL_IN_TRANSACTIONS = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a"]


def random_conversation(rng, length, transactions):
    """Well-formed messages in any order. Yields (bytes, expects ReadyForQuery)."""
    sql = SQL + (SQL_IN_TRANSACTIONS if transactions else [])
    for _ in range(length):
        kind = rng.choice("PPPBBBBDDEEEECSSSSQH")
        if kind == "P":
            yield parse(rng.choice(NAMES), rng.choice(sql)), 0
        elif kind == "B":
            values = [str(rng.randrange(9))] * rng.choice([0, 0, 1, 2])
            yield bind(rng.choice(PORTALS), rng.choice(NAMES), values), 0
        elif kind == "D":
            what = rng.choice("SP")
            yield describe(what, rng.choice(NAMES if what == "S" else PORTALS)), 0
        elif kind == "E":
            yield execute(rng.choice(PORTALS), rng.choice([0, 0, 1, 2])), 0
        elif kind == "C":
            what = rng.choice("SP")
            yield close(what, rng.choice(NAMES if what == "S" else PORTALS)), 0
        elif kind == "S":
            yield sync(), 1
        elif kind == "Q":
            yield sync() + query(rng.choice(sql)), 2
        else:
            yield flush(), 0
    yield sync(), 1
    if transactions:
        yield query("ROLLBACK"), 1


def converse(client, parts, chunk):
    """Sends the conversation in pieces of `chunk` messages; the Syncs' answers are awaited at the end of each."""
    messages, waiting, pending = [], 0, []
    for count, (data, ready) in enumerate(parts, 1):
        pending.append(data)
        waiting += ready
        if count % chunk == 0:
            client.send(*pending)
            pending = []
            messages += client.until_ready(waiting)
            waiting = 0
    client.send(*pending)
    return messages + client.until_ready(waiting)


@pytest.mark.modes("session", "transaction")
@pytest.mark.parametrize("seed", range(60))
def test_any_mixture_answers_as_postgres(target, seed):
    rng = random.Random(seed)
    client, direct = target.wire(), target.oracle()
    neighbour = target.wire()
    parts = list(random_conversation(rng, rng.choice([5, 20, 100]), transactions=rng.random() < 0.5))
    chunk = rng.choice([1, 3, 1000])
    expected = summary(converse(direct, parts, chunk), without="SN")
    found = summary(converse(client, parts, chunk), without="SN")
    assert found == expected
    assert rows(neighbour.batch(run("SELECT 'well'"))) == [["well"]]


def without_words_of_failed_transactions(lines):
    """In a transaction that failed, what is wrong with a message may be told otherwise: where the link first has to be
    given the statement, it is that Parse which the server refuses. It is refused in any case."""
    found, status = [], None
    for line in lines:
        found.append("E" if line.startswith("E:ERROR") and status == "ZE" else line)
        status = line if line.startswith("Z") else status
    return found


def straight_to(postgres):
    return wire.Wire(postgres.address).login({"user": "app", "database": "app"})


def converse_at_once(rng, clients):
    """Conversations of all clients, interleaved message by message. clients: (through the proxy, on the server)."""
    parts = [list(random_conversation(rng, 60, transactions=True)) for _ in clients]
    waiting = [0 for _ in clients]
    order = [i for i, messages in enumerate(parts) for _ in messages]
    rng.shuffle(order)
    cursors = [iter(messages) for messages in parts]
    for i in order:
        data, ready = next(cursors[i])
        clients[i][0].send(data)
        waiting[i] += ready
    for i, (client, direct) in enumerate(clients):
        found = client.until_ready(waiting[i])
        direct.send(*(data for data, _ in parts[i]))
        expected = direct.until_ready(waiting[i])
        assert without_words_of_failed_transactions(summary(found, without="SN")) == \
            without_words_of_failed_transactions(summary(expected, without="SN")), f"client {i}"


@pytest.mark.modes("session", "transaction")
@pytest.mark.parametrize("seed", [4711, 4712, 4713])
def test_any_mixture_of_many_clients_at_once(target, seed):
    converse_at_once(random.Random(seed), [(target.wire(), target.oracle()) for _ in range(16)])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("links, limit, workers", [(2, 200, 1), (2, 2, 1), (4, 3, 2)])
def test_any_mixture_on_few_links(make_proxy, postgres, closing, links, limit, workers, seed):
    """Links go from client to client all the time, and lack what the next one needs."""
    proxy = make_proxy({"proxy": {"workers": workers},
                        "pool": {"max_connections": links, "max_prepared_statements": limit}})
    converse_at_once(random.Random(seed), [(closing(proxy.wire()), closing(straight_to(postgres))) for _ in range(12)])
