"""Bad input and faults from both sides: a proper error where it can still be heard, and no other client notices."""

import os
import random
import signal
import socket
import struct

import pytest
from harness import FakeServer, Proxy, Relay, ServerError, Wire, wait_until, wire
from harness.postgres import Postgres
from harness.wire import (Closed, Deadline, bind, copy_data, copy_done, describe, errors, execute, flush, message,
                          parse, query, rows, run, sync)

APP = {"user": "app", "database": "app"}


def still_serves(target):
    with target.wire() as client:
        assert client.value("SELECT 'fine'") == "fine"


# ---------------------------------------------------------------- before the login

@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    b"\0" * 64,
    b"\xff" * 64,
    b"\0\0\0\x08",
    b"\0\0\0\x09\x04\xd2\x16\x2fx",
    b"Q\0\0\0\x0dSELECT 1\0",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    struct.pack("!II", 16, wire.CANCEL_REQUEST) + b"\0" * 8,
    struct.pack("!II", 12, wire.CANCEL_REQUEST) + b"\0" * 4,
    struct.pack("!II", 9000, wire.CANCEL_REQUEST) + b"\1" * 8992,
    struct.pack("!II", 9, wire.SSL_REQUEST) + b"x",
], ids=range(12))
def test_garbage_for_a_startup_packet(target, data):
    client = target.raw()
    client.send(data)
    client.socket.shutdown(socket.SHUT_WR)
    said = client.bytes_until_closed()
    assert said[:1] in (b"", b"E", b"N", b"S", b"G")
    still_serves(target)


@pytest.mark.parametrize("seed", range(20))
def test_random_startup_packets(target, seed):
    rng = random.Random(seed)
    for _ in range(10):
        body = bytearray(wire.startup_packet({**APP, "application_name": "x", "_pq_.a": "b"}))
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(4, len(body))] = rng.choice([0, 1, 255, rng.randrange(256)])
        client = target.raw()
        client.send(body)
        try:
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        client.bytes_until_closed()
    still_serves(target)


def test_clients_that_connect_and_leave(target):
    for _ in range(100):
        target.raw().socket.close()
    for _ in range(20):
        client = target.raw()
        client.send(wire.startup_packet(APP)[:20])
        client.abort()
    still_serves(target)


# ---------------------------------------------------------------- behind the login

@pytest.mark.parametrize("data", [
    b"z\0\0\0\4",
    b"\0\0\0\0\0",
    b"Q\0\0\0\3",
    b"Q\0\0\0\0",
    b"Q\xff\xff\xff\xff",
    b"Q\x80\0\0\0",
    b"S\x7f\xff\xff\xff",
    b"H\0\0\1\0" + b"x" * 252,
    b"R\0\0\0\x08\0\0\0\0",
    b"Z\0\0\0\5I",
    b"T\0\0\0\4",
], ids=range(11))
def test_a_message_that_cannot_be(target, data):
    """08P01, and the connection ends: where the next message would begin nobody knows."""
    client = target.wire()
    client.send(data)
    client.socket.shutdown(socket.SHUT_WR)
    messages = client.until_closed()
    assert [m.code for m in messages if m.kind == "E"] in (["08P01"], ["54000"], [])
    still_serves(target)


@pytest.mark.parametrize("body", [
    message("Q", b"SELECT 1"),
    message("Q", b""),
    message("P", b"name"),
    message("P", b"\0SELECT 1\0\0\5"),
    message("P", b"\0SELECT 1\0\xff\xff"),
    message("B", b"\0"),
    message("B", b"\0\0\0\1\0\0"),
    message("B", b"\0\0\0\0\0\1\x7f\xff\xff\xff"),
    message("B", b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"),
    message("D", b""),
    message("D", b"X\0"),
    message("D", b"Sname"),
    message("E", b"\0"),
    message("E", b"\0\0\0"),
    message("C", b"Q\0"),
    message("C", b"S"),
    message("S", b"more"),
    message("H", b"more"),
    message("F", b"\0\0"),
    message("p", b"password\0"),
    message("f", b"no end"),
], ids=lambda b: repr(b)[2:20])
def test_malformed_body(target, body):
    """PostgreSQL says 08P01; it goes on where it can. Whoever sits in between may also end the connection."""
    client = target.wire()
    client.send(body, sync(), query("SELECT 'alive'"))
    client.timeout = 10
    codes = []
    try:
        while True:
            m = client.read_raw()
            if m.kind == "E":
                codes.append(m.code)
            if m.kind == "D":
                break
    except Closed:
        assert codes or target.mode, "closed without a word"
    assert set(codes) <= {"08P01", "26000", "34000"}
    still_serves(target)


@pytest.mark.parametrize("seed", range(30))
def test_mutated_conversations(target, seed):
    """Valid messages with some bytes changed. The neighbour notices nothing, and no link is left in doubt."""
    rng = random.Random(seed)
    neighbour = target.wire()
    for _ in range(5):
        parts = [run("SELECT $1::int, $2::text", [1, "x"]), parse("s", "SELECT 1"), bind("p", "s"), describe("S", "s"),
                 execute("p", 1), query("SELECT 1; SELECT 2"), sync(), flush(), wire.close("S", "s")]
        rng.shuffle(parts)
        data = bytearray(b"".join(parts) + sync())
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 0xff, rng.randrange(256)])
        client = target.wire()
        try:
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        client.bytes_until_closed()
        assert rows(neighbour.batch(run("SELECT 'well'"))) == [["well"]]


@pytest.mark.parametrize("seed", range(10))
def test_truncated_conversations(target, seed):
    rng = random.Random(seed)
    data = query("SELECT 1") + run("SELECT $1::int", [1]) + sync() + query("SELECT 2")
    for _ in range(10):
        client = target.wire()
        client.send(data[:rng.randrange(len(data))])
        if rng.random() < 0.5:
            client.abort()
        else:
            client.socket.shutdown(socket.SHUT_WR)
            client.bytes_until_closed()
    still_serves(target)


def test_one_byte_at_a_time(target):
    client = target.wire()
    for byte in query("SELECT 1") + run("SELECT $1::text", ["x"]) + sync():
        client.send(bytes([byte]))
    messages = client.until_ready(2)
    assert rows(messages) == [["1"], ["x"]]


@pytest.mark.parametrize("kept", ["100kB", "1MB", "8MB"])
def test_message_as_long_as_the_longest_that_is_kept(make_proxy, closing, kept):
    """One that must be whole before it is passed on, and of which a few bytes come late."""
    proxy = make_proxy({"pool": {"mode": "transaction"}, "limits": {"max_message_kept": kept}})
    size = {"100kB": 100 << 10, "1MB": 1 << 20, "8MB": 8 << 20}[kept]
    for over in (-9, -1, 0, 1, 9):
        client = closing(proxy.wire())
        text = query("SELECT '" + "x" * (size + over - 10) + "'")
        assert len(text) == 1 + 4 + size + over
        client.send(text[:-2])
        client.send(text[-2:])
        assert [len(row[0]) for row in rows(client.until_ready())] == [size + over - 10]


# ---------------------------------------------------------------- clients that die

@pytest.mark.parametrize("how", ["abort", "close"])
def test_client_dies_while_its_query_runs(target, name, how):
    client = target.wire()
    client.send(query(f"SELECT pg_sleep(2) /* {name} */"))
    wait_until(lambda: target.postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    client.abort() if how == "abort" else client.socket.close()
    still_serves(target)
    wait_until(lambda: not target.postgres.backends("query LIKE %s AND state = 'active'", [f"%{name}%"]))


@pytest.mark.proxy_only
def test_query_of_a_dead_client_is_ended(target, name):
    """A link that goes on with what nobody waits for is one link less."""
    client = target.wire()
    client.send(query(f"SELECT pg_sleep(60) /* {name} */"))
    wait_until(lambda: target.postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    client.abort()
    wait_until(lambda: not target.postgres.backends("query LIKE %s AND state = 'active'", [f"%{name}%"]))


def test_clients_that_die_at_random_leave_no_link(make_proxy, closing, postgres):
    proxy = make_proxy({"pool": {"max_connections": 3}})
    rng = random.Random(5)
    texts = [query("BEGIN"), query("SELECT 1"), run("SELECT pg_sleep(0.01)"), sync(), flush(), query("SELECT 1/0"),
             query("COPY (SELECT 1) TO STDOUT"), parse("x", "SELECT 1"), query("CREATE TEMP TABLE t (a int)"),
             query("COPY pg_temp.none FROM STDIN"), copy_data("x\n"), copy_done(), bind("", "x"), execute()]
    for _ in range(150):
        client = proxy.wire()
        client.send(*rng.choices(texts, k=rng.randrange(1, 12)))
        if rng.random() < 0.3:
            client.timeout = 0.02
            try:
                client.until_ready()
            except (Deadline, Closed):
                pass
        rng.choice([client.abort, client.socket.close, client.close])()
    wait_until(lambda: proxy.metric("clients") == 0)
    clients = [closing(proxy.wire()) for _ in range(3)]
    for client in clients:
        assert not errors(client.query("BEGIN")), "all three links are there"
    pool = next(p for p in proxy.pools() if p["user"] == "app")
    assert pool["active_connections"] == 3 and pool["pending_requests"] == 0 and pool["pinned"] == 0
    assert len(postgres.backends("usename = 'app' AND state LIKE 'idle in%%'")) >= 3


# ---------------------------------------------------------------- servers that die

def conversation(client, table):
    """A bit of everything; returns when it is over or broken: the codes of errors seen."""
    seen = []
    steps = [query("SELECT 1"), run("SELECT $1::text", ["x"]) + sync(), query("BEGIN"),
             query(f"INSERT INTO {table} VALUES (1000, 'x')"), query("ROLLBACK"), query("COPY (SELECT 1) TO STDOUT")]
    try:
        for step in steps:
            client.send(step)
            while True:
                m = client.read_raw()
                if m.kind == "E":
                    seen.append(m.code)
                if m.kind == "Z":
                    break
    except (Closed, ConnectionError, BrokenPipeError):
        seen.append("closed")
    return seen


def test_server_dies_after_any_byte(make_proxy, closing, postgres, table):
    """The connection to the server is cut after 0, 1, 2 ... bytes of its answers, in the middle of messages too."""
    relay = Relay(postgres)
    try:
        proxy = make_proxy(postgres=relay, config={"pool": {"max_connections": 1, "login_retry": 0},
                                                   "server_tls": {"mode": "disable"}})
        with proxy.wire() as client:
            start = relay.replied
            assert conversation(client, table) == []
            total = relay.replied - start
        rng = random.Random(3)
        for cut in sorted({0, 1, 4, 5, 6, *rng.sample(range(total), 40)}):
            relay.budget = None
            client = wait_until(lambda: _working(proxy))
            relay.budget = cut
            seen = conversation(client, table)
            relay.budget = None
            assert seen, f"cut after {cut} of {total} bytes, and the client saw nothing"
            known = [c for c in seen if c != "closed"]
            # in the middle of a message that was passed on in part nothing can be said any more: then it is closed
            assert set(known) <= {"08006", "57P01", "08001", "25P02"}, (cut, seen)
            client.socket.close()
        with wait_until(lambda: _working(proxy)) as client:
            assert client.value(f"SELECT count(*) FROM {table}") == "10"
    finally:
        relay.close()


def _working(proxy):
    """A client that has just had an answer, or None."""
    try:
        client = proxy.wire()
        client.rows("SELECT 1")
        return client
    except (ServerError, Closed, ConnectionError):
        return None


def test_idle_link_lost_is_nobodys_business(make_proxy, closing, postgres):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    clients = [closing(proxy.wire()) for _ in range(3)]
    for i in range(5):
        pid = clients[0].server_pid()
        postgres.sql("SELECT pg_terminate_backend(%s)", [int(pid)])
        wait_until(lambda: not postgres.backends("pid = %s", [int(pid)]))
        wait_until(lambda: proxy.metric("links_lost_total") == i + 1)
        for client in clients:
            assert client.value("SELECT 1") == "1"


def test_backend_terminated_while_it_runs(make_proxy, closing, postgres, name):
    proxy = make_proxy()
    client, other = closing(proxy.wire()), closing(proxy.wire())
    client.send(query(f"SELECT pg_sleep(60) /* {name} */"))
    running = wait_until(lambda: postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    postgres.sql("SELECT pg_terminate_backend(%s)", running)
    codes = []
    try:
        codes = errors(client.until_ready())
    except Closed:
        pass
    assert codes == ["57P01"] or not codes
    assert other.value("SELECT 1") == "1"
    still_serves(proxy)


def test_backend_terminated_says_why(make_proxy, closing, postgres, name):
    """The server's own last words reach the client."""
    proxy = make_proxy()
    client = closing(proxy.wire())
    client.query("BEGIN")
    pid = int(client.server_pid())
    postgres.sql("SELECT pg_terminate_backend(%s)", [pid])
    wait_until(lambda: not postgres.backends("pid = %s", [pid]))
    codes = [m.code for m in client.until_closed() if m.kind == "E"]
    assert codes[:1] in (["57P01"], ["08006"])


@pytest.mark.parametrize("how", ["kill", "immediate", "fast"])
def test_server_restarts(make_proxy, closing, make_postgres, how):
    """Those who ran something are told; everybody is served again afterwards, without a restart of the proxy."""
    server = make_postgres()
    proxy = make_proxy(postgres=server, config={"pool": {"login_retry": "1s"}})
    idle, busy = closing(proxy.wire()), closing(proxy.wire())
    idle.query("SELECT 1")
    busy.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: server.backends("wait_event = 'PgSleep'"))
    server.kill() if how == "kill" else server.stop(how)
    codes = [m.code for m in busy.read_until("E") if m.kind == "E"]
    assert codes and set(codes) <= {"57P01", "57P02", "08006"}
    with pytest.raises((ServerError, Closed)) as e:
        proxy.wire().rows("SELECT 1")
    assert getattr(e.value, "code", "08")[:2] in ("08", "57")
    server.start()

    def again():
        proxy.advance(2)
        return _working(proxy)

    closing(wait_until(again))
    messages = idle.query("SELECT 1")
    assert not errors(messages) or errors(idle.query("SELECT 1")) == []


def test_server_starts_late(make_proxy, closing, make_postgres):
    server = make_postgres()
    server.stop()
    proxy = make_proxy(postgres=server, start=False, config={"pool": {"login_retry": "1s"}})
    proxy.spawn()
    Proxy.live.append(proxy)

    def told():
        try:
            proxy.wire().rows("SELECT 1")
        except ServerError as e:
            return e
        except OSError:
            return None

    assert wait_until(told).code[:2] in ("08", "57")
    server.start()

    def served():
        proxy.advance(2)
        return _working(proxy)

    closing(wait_until(served))


def test_server_that_ends_behind_its_answer(make_proxy, postgres, closing, gate):
    """The answer and the FATAL reach the proxy together. The client, which has all it asked for, is told nothing."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    for simple in (True, False):
        pid = int(client.server_pid())
        passing = gate()
        text = f"SELECT 'mine' FROM {passing.passage}"
        client.send(query(text) if simple else run(text) + sync())
        passing.wait()
        os.kill(proxy.process.pid, signal.SIGSTOP)
        try:
            passing.open()
            wait_until(lambda: postgres.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'idle'", [pid]))
            postgres.sql("SELECT pg_terminate_backend(%s)", [pid])
            wait_until(lambda: not postgres.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]))
        finally:
            os.kill(proxy.process.pid, signal.SIGCONT)
        messages = client.until_ready() + client.query("SELECT 'next'")
        assert not errors(messages) and rows(messages) == [["mine"], ["next"]]
        assert other.value("SELECT 'fine'") == "fine"


def test_server_that_stops_moving(make_proxy, closing, make_postgres, postgres):
    """SIGSTOP: connections stand, nothing comes. The proxy stays responsive, and all goes on with SIGCONT."""
    server = make_postgres()
    proxy = make_proxy(postgres=server)
    client, waiting = closing(proxy.wire()), closing(proxy.wire())
    client.query("SELECT 1")
    server.pause()
    try:
        client.send(query("SELECT 'after all'"))
        waiting.send(query("SELECT 'me too'"))
        wait_until(lambda: proxy.admin("/livez")[0] == 200)
        assert proxy.metric("clients") == 2
        third = closing(Wire(proxy.address))
        third.startup(APP)
    finally:
        server.resume()
    assert rows(client.until_ready()) == [["after all"]]
    assert rows(waiting.until_ready()) == [["me too"]]
    third.finish_login(APP)
    assert third.value("SELECT 1") == "1"


def test_server_that_vanishes_without_a_word(make_proxy, closing, postgres):
    """Nothing is closed, nothing passes: time-outs must end the wait, and new connections must work again."""
    relay = Relay(postgres)
    try:
        proxy = make_proxy(postgres=relay, config={"pool": {"max_connections": 1, "query_timeout": "30s",
                                                            "login_retry": "1s", "connect_timeout": "5s"},
                                                   "server_tls": {"mode": "disable"}})
        client = closing(proxy.wire())
        client.query("SELECT 1")
        relay.hold()
        client.send(query("SELECT 1"))
        wait_until(lambda: relay.requests.endswith(query("SELECT 1")))

        def told():
            proxy.advance(10)
            return not client.is_quiet(0.02)

        wait_until(told)
        codes = [m.code for m in client.until_closed() if m.kind == "E"]
        assert codes in (["57014"], ["08006"])
        relay.drop_all()
        relay.release()

        def served():
            proxy.advance(2)
            return _working(proxy)

        closing(wait_until(served))
    finally:
        relay.release()
        relay.close()


# ---------------------------------------------------------------- servers that lie

READY = message("Z", b"I")
LIES = {
    "random": os.urandom(200),
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zero length": b"D\0\0\0\0",
    "short length": b"T\0\0\0\3",
    "endless length": b"D\xff\xff\xff\xff",
    "unknown type": b"y\0\0\0\4" + READY,
    "client's message": query("SELECT 1"),
    "ready with a wrong status": message("Z", b"X"),
    "ready without a status": message("Z", b""),
    "ready with too much": message("Z", b"II"),
    "authentication again": message("R", struct.pack("!I", 0)) + READY,
    "parameter without end": message("S", b"DateStyle") + READY,
    "parse complete unasked": message("1") + READY,
    "error without end": message("E", b"SERROR\0C22012") + READY,
    "copy unasked": message("d", b"x") + READY,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=[n.replace(" ", "-") for n in LIES])
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_server_that_answers_nonsense(make_proxy, closing, lie, extended):
    state = {"lies": True}

    def serve(kind, body, reply):
        if kind in "QS" and state["lies"]:
            reply(lie)
            raise EOFError
        if kind == "Q":
            reply(FakeServer.answer())
        elif kind == "S":
            reply(READY)

    fake = FakeServer(serve)
    try:
        proxy = make_proxy(postgres=fake, config={"pool": {"max_connections": 1, "login_retry": 0}})
        client = closing(proxy.wire())
        client.send(run("SELECT 1") + sync() if extended else query("SELECT 1"))
        try:
            messages = client.until_ready()
        except Closed:
            messages = []
        except AssertionError as e:
            raise AssertionError(f"nonsense was passed on to the client: {e}") from None
        assert {c for c in errors(messages)} <= {"08006", "22012", "XX000", ""}
        state["lies"] = False
        fresh = closing(wait_until(lambda: _working(proxy)))
        assert fresh.value("SELECT 1") == "1"
    finally:
        fake.close()


@pytest.mark.parametrize("greeting", [
    os.urandom(100), b"", b"E", b"R\0\0\0\x08\0\0\0\x63", b"R\0\0\0\x04", b"R\0\0\0\x0a\0\0\0\x05ab",
    message("R", struct.pack("!I", 10) + b"SCRAM-SHA-1\0\0"), message("R", struct.pack("!I", 10)),
    message("R", struct.pack("!I", 11) + b"r=x"), message("R", struct.pack("!I", 0)) + message("Z", b"T"),
    message("K", b"abc"), message("R", struct.pack("!I", 0)) + message("K", b"\0" * 400) + READY, b"\xff" * 100_000,
    message("v", struct.pack("!II", 0, 1000)),
], ids=range(14))
def test_server_that_greets_with_nonsense(make_proxy, greeting):
    fake = FakeServer(greeting=greeting)
    try:
        proxy = make_proxy(postgres=fake, start=False, config={"pool": {"login_retry": 0, "connect_timeout": "2s"}})
        proxy.spawn()
        Proxy.live.append(proxy)
        wait_until(lambda: _alive(proxy))
        client = Wire(proxy.address)
        client.startup(APP)

        def answered():
            proxy.advance(1)
            return not client.is_quiet(0.02)

        wait_until(answered)
        with pytest.raises((ServerError, Closed)) as e:
            client.finish_login(APP)
            client.send(query("SELECT 1"))
            for m in wait_until(lambda: _advance_and_read(proxy, client)):
                if m.kind == "E":
                    raise ServerError(m.fields)
        assert getattr(e.value, "code", "08")[:2] in ("08", "28", "57")
        client.socket.close()
    finally:
        fake.close()


def _advance_and_read(proxy, client):
    proxy.advance(1)
    if client.is_quiet(0.02):
        return None
    return client.until_closed()


def _alive(proxy):
    try:
        return proxy.admin("/livez")[0] == 200
    except OSError:
        return False


def test_server_starting_up(make_proxy):
    fatal = message("E", b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0")
    fake = FakeServer(greeting=fatal)
    try:
        proxy = make_proxy(postgres=fake, start=False)
        proxy.spawn()
        Proxy.live.append(proxy)
        wait_until(lambda: _alive(proxy))
        with pytest.raises(ServerError) as e:
            proxy.wire().rows("SELECT 1")
        assert (e.value.code, e.value.message) == ("57P03", "the database system is starting up")
    finally:
        fake.close()


def test_server_in_recovery(make_proxy, template):
    """A standby that takes no connections (hot_standby = off)."""
    server = Postgres(template, {"hot_standby": "off", "primary_conninfo": "host=/nonexistent"})
    try:
        path = os.path.join(server.data, "standby.signal")
        with open(path, "w", encoding="utf-8"):
            pass
        os.chmod(path, 0o666)
        server.start(wait=False)
        wait_until(lambda: b"57P03" in _greeting(server))
        proxy = make_proxy(postgres=server, start=False)
        proxy.spawn()
        Proxy.live.append(proxy)
        wait_until(lambda: _alive(proxy))
        with pytest.raises(ServerError) as e:
            proxy.wire().rows("SELECT 1")
        assert e.value.code == "57P03"
    finally:
        server.remove()


def _greeting(server):
    try:
        with Wire(server.address, 2) as client:
            client.startup(APP)
            return client.bytes_until_closed()
    except (OSError, Deadline):
        return b""


def test_hot_standby_serves_reads(make_proxy, closing, make_postgres):
    primary = make_postgres()
    standby = primary.standby()
    proxy = make_proxy({"nodes": [Proxy.node(primary), Proxy.node(standby, "standby")]}, postgres=primary)
    client = closing(proxy.wire())
    assert client.value("SELECT pg_is_in_recovery()") == "f"
    only = make_proxy({"nodes": [Proxy.node(standby)]}, postgres=primary)
    reader = closing(only.wire())
    assert reader.value("SELECT pg_is_in_recovery()") == "t"
    assert errors(reader.query("CREATE TABLE x ()")) == ["25006"]


def test_unknown_host(make_proxy):
    proxy = make_proxy({"nodes": [{"host": "no-such-host.invalid", "port": 5432, "role": "primary"}]}, start=False)
    proxy.spawn()
    Proxy.live.append(proxy)
    wait_until(lambda: _alive(proxy))
    with pytest.raises((ServerError, Closed)) as e:
        proxy.wire().rows("SELECT 1")
    assert getattr(e.value, "code", "08")[:2] in ("08", "57")
    proxy.wait_log("no-such-host.invalid")  # the admin API and clients are served a moment before the lines of the start


def test_one_dead_node_leaves_the_other_alone(make_proxy, closing, postgres, make_postgres):
    other = make_postgres()
    proxy = make_proxy({"nodes": [Proxy.node(postgres, name="a"), Proxy.node(other, name="b")],
                        "databases": {"app": {"node": "a"}, "other": {"node": "b"}}})
    first, second = closing(proxy.wire(database="app")), closing(proxy.wire(database="other"))
    assert (first.value("SHOW port"), second.value("SHOW port")) == (str(postgres.port), str(other.port))
    other.stop()
    for i in range(5):
        assert first.value("SELECT 1") == "1"
    with pytest.raises((ServerError, Closed)):
        proxy.wire(database="other").rows("SELECT 1")
    assert closing(proxy.wire(database="app")).value("SELECT 1") == "1"


# ---------------------------------------------------------------- resources

def test_descriptors_run_out(make_proxy):
    """More connections than descriptors: some are refused or wait, nothing dies, and later all is well."""
    proxy = make_proxy(nofile=80, config={"proxy": {"workers": 1}, "pool": {"max_connections": 5}})
    with proxy.wire() as client:
        client.query("SELECT 1")
    crowd = []
    for _ in range(150):
        try:
            s = socket.create_connection(proxy.address, 5)
            s.sendall(wire.startup_packet(APP))
            crowd.append(s)
        except OSError:
            pass
    wait_until(lambda: proxy.process.poll() is None)
    for s in crowd:
        s.close()
    wait_until(lambda: _working(proxy))
    wait_until(lambda: proxy.metric("clients") <= 2)


def test_low_descriptor_limit_is_told_at_start(make_proxy):
    proxy = make_proxy(nofile=100, config={"proxy": {"max_clients": 10000}})
    proxy.wait_log(r"(?i)descriptor|nofile|open files")


def test_no_descriptor_leaks(make_proxy, postgres):
    proxy = make_proxy({"pool": {"max_connections": 3}})

    def churn():
        for i in range(40):
            client = Wire(proxy.address)
            if i % 4 == 0:
                client.send(b"garbage garbage garbage")
            elif i % 4 == 1:
                client.startup(APP)
                client.abort()
                continue
            else:
                client.login(APP)
                client.query("SELECT 1")
                client.cancel()
            client.socket.close()
        wait_until(lambda: proxy.metric("clients") == 0)

    churn()
    wait_until(lambda: proxy.descriptors())
    before = proxy.descriptors()
    for _ in range(3):
        churn()
    wait_until(lambda: proxy.descriptors() <= before + 3)


def test_clock_jumps(make_proxy, closing):
    """Hours at once, as after a suspend: links are renewed, clients are served."""
    proxy = make_proxy({"pool": {"query_timeout": 0, "client_idle_timeout": 0}})
    clients = [closing(proxy.wire()) for _ in range(3)]
    for hours in (1, 24, 24 * 365):
        proxy.advance(hours * 3600)
        for client in clients:
            wait_until(lambda: not errors(client.query("SELECT 1")))


def test_sigpipe_and_friends(make_proxy):
    proxy = make_proxy()
    for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGWINCH):
        proxy.process.send_signal(number)
    still_serves(proxy)
