"""COPY in both directions, in both protocols, with failure from either side."""

import socket

import psycopg
import pytest
from harness import wait_until, wire
from harness.wire import (Closed, bind, copy_data, copy_done, copy_fail, describe, errors, execute, flush, kinds, parse,
                          query, rows, run, summary, sync)

pytestmark = pytest.mark.matrix


def count(target, table):
    return target.postgres.value(f"SELECT count(*) FROM {table}", database="app")


def test_copy_out(target):
    client = target.wire()
    messages = client.query("COPY (SELECT i, 'v' || i FROM generate_series(1, 1000) i) TO STDOUT")
    assert kinds(messages) == "H" + "d" * 1000 + "cCZ"
    assert messages[500].body == b"500\tv500\n"


def test_copy_in(target, table):
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN"))
    assert client.read().kind == "G"
    client.send(*(copy_data(f"{i}\tx\n") for i in range(100, 1100)), copy_done())
    assert kinds(client.until_ready()) == "CZ"
    assert count(target, table) == 1010


def test_copy_in_without_waiting_for_the_answer(target, table):
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN"), copy_data("100\tx\n101\ty\n"), copy_done(), query("SELECT 'after'"))
    messages = client.until_ready(2)
    assert kinds(messages) == "GCZTDCZ" and rows(messages) == [["after"]]


def test_copy_in_extended_with_the_early_sync(target, table):
    """libpq sends Parse, Bind, Describe, Execute, Sync at once; the server ignores a Sync during COPY."""
    client = target.wire()
    client.send(run(f"COPY {table} FROM STDIN"), sync())
    assert kinds(client.read_until("G")) == "12nG"
    client.send(copy_data("100\tx\n"), copy_data("101\tx\n"), copy_done(), sync())
    assert kinds(client.until_ready()) == "CZ"
    assert client.is_quiet()
    assert count(target, table) == 12
    assert rows(client.batch(run("SELECT 'next'"))) == [["next"]]


def test_copy_in_extended_all_in_one_packet(target, table):
    client, direct = target.wire(), target.oracle()
    for each, base in ((client, 100), (direct, 200)):
        each.send(run(f"COPY {table} FROM STDIN"), sync(), copy_data(f"{base}\tx\n"), copy_done(), sync(),
                  run("SELECT 'next'"), sync())
    assert summary(client.until_ready(2)) == summary(direct.until_ready(2))


def test_copy_in_extended_flush_during_copy(target, table):
    client = target.wire()
    client.send(run(f"COPY {table} FROM STDIN"), flush())
    client.read_until("G")
    client.send(copy_data("100\tx\n"), flush(), copy_data("101\tx\n"), flush(), copy_done(), sync())
    assert kinds(client.until_ready()) == "CZ"


def test_copy_out_extended(target):
    client = target.wire()
    messages = client.batch(run("COPY (SELECT 1 UNION ALL SELECT 2) TO STDOUT"), run("SELECT 'after'"))
    assert kinds(messages) == "12nHddcC12TDCZ"


def test_copy_in_then_more_in_the_same_batch(target, table):
    client = target.wire()
    client.send(run(f"COPY {table} FROM STDIN"), flush())
    client.read_until("G")
    client.send(copy_data("100\tx\n"), copy_done(), run("SELECT 'same batch'"), sync())
    messages = client.until_ready()
    assert kinds(messages) == "C12TDCZ" and rows(messages) == [["same batch"]]


@pytest.mark.parametrize("extended", [False, True])
def test_copy_fail(target, table, extended):
    client = target.wire()
    text = f"COPY {table} FROM STDIN"
    client.send(run(text) + sync() if extended else query(text))
    client.read_until("G")
    client.send(copy_data("100\tx\n"), copy_fail("changed my mind"))
    if extended:
        client.send(sync())
    messages = client.until_ready()
    assert errors(messages) == ["57014"]
    assert "changed my mind" in messages[0].fields["M"]
    assert count(target, table) == 10
    assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("late", [1, 50, 5000])
def test_server_fails_midway_and_data_goes_on(target, table, extended, late):
    """The client has sent on before it reads the error: what comes late is dropped, and the link isn't lost to it."""
    client = target.wire()
    text = f"COPY {table} FROM STDIN"
    client.send(run(text) + sync() if extended else query(text))
    client.read_until("G")
    client.send(copy_data("100\tx\n"), copy_data("not a number\tx\n"))
    assert client.read().code == "22P02"
    client.send(*[copy_data("101\tx\n")] * late, copy_done())
    if extended:
        client.send(sync())
    client.until_ready()
    assert count(target, table) == 10
    for i in range(3):
        assert client.value(f"SELECT {i}") == str(i)
    assert target.wire().value("SELECT 'others'") == "others"


def test_late_copy_data_behind_the_ready(target, table):
    """In the simple protocol ReadyForQuery comes right behind the error; late data arrives on an idle session."""
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN"), copy_data("bad\tx\n"))
    assert errors(client.until_ready()) == ["22P02"]
    client.send(copy_data("101\tx\n"), copy_data("102\tx\n"), copy_done(), query("SELECT 'alive'"))
    assert rows(client.until_ready()) == [["alive"]]
    client.send(copy_fail("late too"), query("SELECT 'alive'"))
    assert rows(client.until_ready()) == [["alive"]]


def test_late_copy_data_occupies_no_link(make_proxy, closing, table):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    late, other = closing(proxy.wire()), closing(proxy.wire())
    for _ in range(5):
        late.send(query(f"COPY {table} FROM STDIN"), copy_data("bad\tx\n"))
        assert errors(late.until_ready()) == ["22P02"]
        late.send(copy_data("101\tx\n"), copy_done())
        assert other.value("SELECT 1") == "1"


def test_copy_data_sent_ahead_leaves_no_link_behind(make_proxy, closing, table):
    """The end of a copy that the client does not wait for is no beginning of a batch."""
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1}})
    early, other = closing(proxy.wire()), closing(proxy.wire())
    early.send(query(f"COPY {table} FROM STDIN"), copy_data(b"500\tx\n"), copy_done())
    assert not errors(early.until_ready())
    assert other.value("SELECT 1") == "1"


def test_copy_data_without_copy(target):
    client = target.wire()
    client.send(copy_data("x"), copy_done(), copy_fail("x"), query("SELECT 'fine'"))
    assert rows(client.until_ready()) == [["fine"]]


@pytest.mark.modes("session", "transaction")
def test_copy_in_a_transaction(target, table):
    client = target.wire()
    client.query("BEGIN")
    client.send(query(f"COPY {table} FROM STDIN"), copy_data("100\tx\n"), copy_done())
    client.until_ready()
    assert client.status == "T"
    client.send(query(f"COPY {table} FROM STDIN"), copy_data("bad\n"), copy_done())
    assert len(errors(client.until_ready())) == 1
    assert client.status == "E"
    client.query("ROLLBACK")
    assert count(target, table) == 10


def test_copy_among_statements(target, table):
    client = target.wire()
    client.send(query(f"SELECT 'a'; COPY {table} FROM STDIN; SELECT 'b'; COPY (SELECT 1) TO STDOUT; SELECT 'c'"))
    assert kinds(client.read_until("G")) == "TDCG"
    client.send(copy_data("100\tx\n"), copy_done())
    messages = client.until_ready()
    assert kinds(messages) == "CTDCHdcCTDCZ"


def test_two_copies_in_one_query(target, table):
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN; COPY {table} FROM STDIN"), copy_data("100\tx\n"), copy_done())
    assert kinds(client.read_until("G")) == "G"
    assert kinds(client.read_until("G")) == "CG"
    client.send(copy_data("101\tx\n"), copy_done())
    assert kinds(client.until_ready()) == "CZ"
    assert count(target, table) == 12


def test_query_during_copy_in(target, table):
    """A protocol violation of the client. PostgreSQL fails the COPY (and drops the query, or loses the session)."""
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN"))
    client.read_until("G")
    client.send(query("SELECT 1"))
    messages = client.until_closed() if client.read().kind == "E" and not _goes_on(client) else []
    assert all(m.kind in "EZN" for m in messages)
    assert count(target, table) == 10
    assert target.wire().value("SELECT 1") == "1"


def _goes_on(client):
    try:
        client.until_ready()
        return True
    except Closed:
        return False


@pytest.mark.parametrize("how", ["close", "abort", "half"])
def test_client_dies_during_copy_in(target, table, how):
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN"))
    client.read_until("G")
    client.send(copy_data("100\tx\n" * 10), copy_data("200\tx\n")[:7])
    if how == "abort":
        client.abort()
    elif how == "half":
        client.socket.shutdown(socket.SHUT_WR)
    else:
        client.socket.close()
    wait_until(lambda: not target.postgres.backends("query LIKE %s AND state = 'active'", [f"%COPY {table}%"]))
    assert count(target, table) == 10
    assert target.wire().value("SELECT 1") == "1"


@pytest.mark.parametrize("how", ["close", "abort"])
def test_client_dies_during_copy_out(target, how):
    client = target.wire(application_name="dies")
    client.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"))
    client.read_until("d")
    (client.abort if how == "abort" else client.socket.close)()
    wait_until(lambda: not target.postgres.backends("query LIKE 'COPY (SELECT repeat%%' AND state = 'active'"))
    assert target.wire().value("SELECT 1") == "1"


def test_terminate_during_copy_in(target, table):
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN"))
    client.read_until("G")
    client.send(copy_data("100\tx\n"))
    client.close()
    wait_until(lambda: not target.postgres.backends("query LIKE %s AND state = 'active'", [f"%COPY {table}%"]))
    assert count(target, table) == 10


def test_server_error_during_copy_out(target):
    client = target.wire()
    messages = client.query("COPY (SELECT 10 / (5 - i) FROM generate_series(1, 10) i) TO STDOUT")
    assert errors(messages) == ["22012"] and kinds(messages).startswith("Hdddd")
    assert client.value("SELECT 1") == "1"


def test_copy_of_a_large_value(target, table):
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN"))
    client.read_until("G")
    client.send(copy_data("100\t" + "x" * 5_000_000 + "\n"), copy_done())
    assert kinds(client.until_ready()) == "CZ"
    messages = client.query(f"COPY (SELECT v FROM {table} WHERE id = 100) TO STDOUT")
    assert len(messages[1].body) == 5_000_001


def test_copy_binary(target, table):
    client = target.wire()
    messages = client.query(f"COPY {table} TO STDOUT (FORMAT binary)")
    data = [m.body for m in messages if m.kind == "d"]
    client.query(f"DELETE FROM {table}")
    client.send(query(f"COPY {table} FROM STDIN (FORMAT binary)"))
    client.read_until("G")
    client.send(copy_data(b"".join(data)), copy_done())
    assert wire.tags(client.until_ready()) == ["COPY 10"]


def test_portal_of_copy_described(target, table):
    client = target.wire()
    messages = client.batch(parse("c", f"COPY {table} TO STDOUT"), describe("S", "c"), bind("", "c"), execute())
    assert kinds(messages) == "1tn2H" + "d" * 10 + "cCZ"


def test_psycopg_copy(target, table):
    with target.connect() as db:
        with db.cursor() as cursor:
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for i in range(100, 200):
                    copy.write_row((i, "x"))
            with cursor.copy(f"COPY {table} TO STDOUT") as copy:
                assert len(list(copy.rows())) == 110
            with pytest.raises(psycopg.errors.QueryCanceled):
                with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                    copy.write_row((500, "x"))
                    raise psycopg.errors.QueryCanceled("mine")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            with db.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
                copy.write("bad\tx\n")
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (110,)
