"""Clients that have said all they had to say: they half-close or send Terminate, and get their answers before the end."""

import random
import socket
import ssl
import threading

import pytest
from harness import Wire, wait_until, wire
from harness.wire import bind, copy_data, copy_done, errors, execute, flush, parse, query, rows, run, sync

APP = {"user": "app", "database": "app"}


def say_all(client, *parts):
    """As `printf ... | nc` does: everything is sent, then the writing side is closed."""
    client.send(*parts)
    client.socket.shutdown(socket.SHUT_WR)


def is_waiting(target, text, event):
    return target.postgres.backends("query LIKE %s AND wait_event = %s", [f"%{text}%", event])


def test_half_closed_client_gets_its_answers(target):
    client = target.wire()
    say_all(client, query("SELECT 'one'"), run("SELECT 'two'"), sync(), query("SELECT 1/0"), query("SELECT 'three'"))
    messages = client.until_closed()
    assert (rows(messages), errors(messages)) == ([["one"], ["two"], ["three"]], ["22012"])


def test_half_closed_while_its_query_runs(target, gate):
    client, passing = target.wire(), gate()
    client.send(query(f"SELECT {passing.passage}, 'ran'"), query("SELECT 'next'"))
    passing.wait()
    client.socket.shutdown(socket.SHUT_WR)
    passing.open()
    assert [row[-1] for row in rows(client.until_closed())] == ["ran", "next"]


def test_all_in_one_packet_from_startup_on(target):
    client = target.raw()
    say_all(client, wire.startup_packet(APP), query("SELECT 'one'"), run("SELECT 'two'"), sync())
    assert rows(client.until_closed()) == [["one"], ["two"]]


def test_terminate_behind_queries(target):
    client = target.wire()
    client.send(query("SELECT 'one'"), run("SELECT 'two'"), sync(), wire.terminate())
    assert rows(client.until_closed()) == [["one"], ["two"]]


def test_half_closed_behind_a_flush(target):
    client = target.wire()
    say_all(client, run("SELECT 'flushed'"), flush())
    assert rows(client.until_closed()) == [["flushed"]]


def test_half_closed_without_a_sync_ends(target, table):
    """What no Sync has ended is undone, and nobody waits for ever."""
    client = target.wire()
    say_all(client, run(f"INSERT INTO {table} VALUES (100, 'x')"))
    client.until_closed()
    wait_until(lambda: target.wire().value(f"SELECT count(*) FROM {table}") == "10")


def test_half_closed_in_the_middle_of_a_message(target):
    client = target.wire()
    say_all(client, query("SELECT 'whole'"), query("SELECT 'half'")[:9])
    assert rows(client.until_closed()) == [["whole"]]


def test_half_closed_in_the_middle_of_a_large_message(target, gate):
    """So large that its beginning was passed on."""
    client, passing = target.wire(), gate()
    client.send(query(f"SELECT {passing.passage}, 'whole'"))
    passing.wait()
    sender = threading.Thread(target=say_all, args=(client, query(f"SELECT 'half', '{'x' * 3_000_000}'")[:2_500_000]))
    sender.start()  # it may be read up to its end only when the query before is over
    passing.open()
    sender.join()
    assert [row[-1] for row in rows(client.until_closed())] == ["whole"]
    assert target.wire().value("SELECT 'fine'") == "fine"


def test_half_closed_with_much_to_read(target):
    """More than any buffer holds, in both directions: the end comes when the last byte was read."""
    client = target.wire()
    texts = [query(f"SELECT {i}, repeat('x', 200000)") for i in range(100)]
    texts += [run("SELECT $1::int, $2::text", [i, "y" * 2000]) + sync() for i in range(100, 1000)]
    sender = threading.Thread(target=say_all, args=(client, *texts))
    sender.start()
    answers = rows(client.until_closed())
    sender.join()
    assert [row[0] for row in answers] == [str(i) for i in range(1000)]
    assert [len(row[1]) for row in answers] == [200000] * 100 + [2000] * 900


def test_half_closed_and_slow_to_read(target):
    """It reads nothing before the query is long over; the end waits until it has read all."""
    client = target.wire()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    say_all(client, query("SELECT repeat('x', 5000000)"))
    assert target.wire().value("SELECT 'fine'") == "fine"
    (row,) = rows(client.until_closed())
    assert len(row[0]) == 5000000


def test_half_closed_while_it_waits_for_a_link(narrow, name):
    oracle = narrow.oracle()
    oracle.query("SELECT pg_advisory_lock(hashtext($$" + name + "$$))")
    holder, client = narrow.wire(), narrow.wire()
    holder.send(query(f"SELECT pg_advisory_xact_lock(hashtext($${name}$$))"))
    wait_until(lambda: is_waiting(narrow, name, "advisory"))
    say_all(client, query("SELECT 'waited'"), run("SELECT 'too'"), sync())
    if narrow.shares_links:
        wait_until(lambda: narrow.proxy.metric("clients_waiting") == 1)
    oracle.query("SELECT pg_advisory_unlock_all()")
    assert rows(client.until_closed()) == [["waited"], ["too"]]
    holder.until_ready()
    assert holder.value("SELECT 'on'") == "on"


def test_half_closed_after_the_login_is_closed_at_once(target):
    client = target.wire()
    client.socket.shutdown(socket.SHUT_WR)
    assert client.until_closed() == []


def test_half_closed_behind_an_insert(target, table):
    client = target.wire()
    say_all(client, query(f"INSERT INTO {table} VALUES (100, 'x')"))
    assert wire.tags(client.until_closed()) == ["INSERT 0 1"]
    assert target.wire().value(f"SELECT count(*) FROM {table}") == "11"


@pytest.mark.modes("session", "transaction")
def test_half_closed_in_a_transaction(target, table):
    """Its statements are answered; as there is nobody who could commit, it is rolled back then."""
    client = target.wire()
    client.query("BEGIN")
    say_all(client, query(f"INSERT INTO {table} VALUES (100, 'x')"), query(f"SELECT count(*) FROM {table}"))
    assert rows(client.until_closed()) == [["11"]]
    wait_until(lambda: target.wire().value(f"SELECT count(*) FROM {table}") == "10")
    idle = target.wire()
    idle.query("BEGIN")
    idle.query(f"LOCK {table}")
    idle.socket.shutdown(socket.SHUT_WR)
    assert idle.until_closed() == []
    assert target.wire().value(f"SELECT count(*) FROM {table}") == "10"


def test_half_closed_behind_a_whole_copy(target, table):
    client = target.wire()
    say_all(client, query(f"COPY {table} FROM STDIN"), copy_data("100\tx\n"), copy_data("101\ty\n"), copy_done(),
            query(f"SELECT count(*) FROM {table}"))
    messages = client.until_closed()
    assert (wire.tags(messages)[0], rows(messages)) == ("COPY 2", [["12"]])


def test_half_closed_in_a_copy_without_its_end(target, table):
    client = target.wire()
    say_all(client, query("SELECT 'before'"), query(f"COPY {table} FROM STDIN"), copy_data("100\tx\n"))
    messages = client.until_closed()
    assert rows(messages) == [["before"]] and "C" not in wire.kinds(messages)[-1:]
    wait_until(lambda: not target.postgres.backends("query LIKE %s AND state = 'active'", [f"%COPY {table}%"]))
    assert target.wire().value(f"SELECT count(*) FROM {table}") == "10"


@pytest.mark.proxy_only
def test_half_closed_client_that_dies_later_is_noticed(target, name):
    """Between the two it was served; the query of one that has left altogether is ended."""
    client = target.wire()
    say_all(client, query(f"SELECT pg_sleep(60) /* {name} */"))
    wait_until(lambda: is_waiting(target, name, "PgSleep"))
    client.abort()
    wait_until(lambda: not target.postgres.backends("query LIKE %s AND state = 'active'", [f"%{name}%"]))


@pytest.mark.proxy_only
@pytest.mark.parametrize("terminates", [False, True])
def test_client_that_closes_is_noticed_while_its_query_runs(target, name, terminates):
    """A FIN alone could be a half-close: only an answer to something that is sent to it tells."""
    client = target.wire()
    client.send(query(f"SELECT pg_sleep(600) /* {name} */"))
    wait_until(lambda: is_waiting(target, name, "PgSleep"))
    if terminates:
        client.send(wire.terminate())
    client.socket.close()
    wait_until(lambda: not is_waiting(target, name, "PgSleep"))
    assert target.wire().value("SELECT 'fine'") == "fine"


def test_client_that_closes_gives_up_its_place_in_the_line(make_proxy, closing):
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1, "query_wait_timeout": "0s"}})
    holder, client = closing(proxy.wire()), proxy.wire()
    holder.query("BEGIN")
    client.send(query("CREATE TABLE never_made (a int)"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    client.socket.close()
    wait_until(lambda: proxy.metric("clients_waiting") == 0)
    holder.query("COMMIT")
    assert holder.value("SELECT to_regclass('never_made') IS NULL") == "t"


FULL = [query(f"SELECT {i}, '{'x' * 1000}'") for i in range(1100)]  # more than is kept of a client that waits


def line_of_one(proxy):
    """Somebody has the only link."""
    holder = proxy.wire()
    holder.query("BEGIN")
    return holder


@pytest.mark.parametrize("aborts", [False, True])
def test_client_that_has_sent_much_gives_up_its_place_in_the_line(make_proxy, closing, aborts):
    """So much that the proxy has stopped to read it."""
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1, "query_wait_timeout": "0s"}})
    holder, client = closing(line_of_one(proxy)), proxy.wire()
    client.send(query("CREATE TABLE never_made (a int)"), *FULL)
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    if aborts:
        client.abort()
    else:
        client.socket.close()
    wait_until(lambda: proxy.metric("clients_waiting") == 0)
    holder.query("COMMIT")
    assert holder.value("SELECT to_regclass('never_made') IS NULL") == "t"


def test_half_closed_with_full_buffers_while_it_waits(make_proxy, closing):
    """It has not left: it gets all its answers."""
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1}})
    holder, client = closing(line_of_one(proxy)), closing(proxy.wire())
    say_all(client, *FULL)
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    holder.query("COMMIT")
    assert [int(row[0]) for row in rows(client.until_closed())] == list(range(1100))


def test_half_closed_over_tls(make_proxy, certs, gate):
    """close_notify comes one way; the TCP connection behind it may be half closed, too, or not."""
    proxy = make_proxy({"tls": {"enabled": True, "cert_path": certs.server.cert, "key_path": certs.server.key}})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for tcp_too in (False, True):
        client = Wire(proxy.address)
        assert client.ssl_request() == b"S"
        client.start_tls(context)
        client.login(APP)
        passing = gate()
        client.send(query(f"SELECT {passing.passage}, 'ran'"), run("SELECT 'next'"), sync())
        passing.wait()
        client.socket.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            client.socket.unwrap()  # sends close_notify; the other one comes at the end
        if tcp_too:
            socket.socket.shutdown(client.socket, socket.SHUT_WR)
        passing.open()
        assert [row[-1] for row in rows(client.until_closed())] == ["ran", "next"]
        client.socket.close()
    wait_until(lambda: proxy.metric("clients") == 0)


def test_half_closed_clients_leave_nothing_behind(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 2}})
    rng = random.Random(11)
    parts = [query("BEGIN"), query("SELECT 1"), run("SELECT 2"), sync(), flush(), query("SELECT 1/0"), execute(),
             query("COPY (SELECT 1) TO STDOUT"), parse("x", "SELECT 1"), bind("", "x"), wire.terminate(),
             query("CREATE TEMP TABLE t (a int)"), query("COPY pg_temp.t FROM STDIN"), copy_data("1\n"), copy_done()]
    for _ in range(150):
        client = proxy.wire()
        say_all(client, *rng.choices(parts, k=rng.randrange(1, 12)))
        client.until_closed()
        client.socket.close()
    wait_until(lambda: proxy.metric("clients") == 0)
    for client in [closing(proxy.wire()) for _ in range(2)]:
        assert not errors(client.query("BEGIN")), "both links are there"
