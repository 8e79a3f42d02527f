"""
SUSPEND: nothing is read from clients and servers until RESUME; whatever was under way goes on from where it was, byte for
byte, and nobody is late for it. In PgBouncer's words.
"""

import hashlib
import json
import os
import signal
import ssl
import subprocess
import threading

import psycopg
import pytest

from harness import Later, Wire, wait_until
from harness.wire import Closed, copy_data, copy_done, errors, query, rows, run, sync

from test_console import USERS, Console, pgbouncer, row  # noqa: F401 (a fixture)
from test_running import kernel_has_io_uring

CHUNK = 64 << 10
BIG = "SELECT repeat(chr(97 + i % 26), 8000) || i FROM generate_series(1, 1250) i"  # 10 MB
BACK_ENDS = ["epoll", pytest.param("io_uring", marks=pytest.mark.skipif(not kernel_has_io_uring(), reason="no io_uring"))]


@pytest.fixture
def consoles(make_proxy, closing):
    """(proxy, console of its boss)"""
    def make(config=None, **kwargs):
        proxy = make_proxy({"admin": USERS, **(config or {})}, start=False, **kwargs)
        proxy.config["proxy"]["listen_address"] = [f"127.0.0.1:{proxy.port}", f"unix:{proxy.root}/.s.PGSQL.6432"]
        proxy.start()
        return proxy, closing(Console(proxy.address))
    return make


def is_suspended(console):
    return row(console("SHOW STATE"), key="suspended")["value"] == "yes"


def read_queries(proxy):
    """How many statements were read from clients. Every worker has had a turn."""
    proxy.settle()
    return proxy.metric("queries_total")


def slow_wire(proxy):
    """A client for whom the kernel keeps no more than 200 kB, whatever happens: what it does not read stays with the proxy."""
    client = Wire(f"{proxy.root}/.s.PGSQL.6432", timeout=60)
    client.login({"user": "app", "database": "app"})
    return client


def fill_up(proxy, console, client):
    """It asks for more than all that is between it and the proxy can hold, and reads none of it."""
    client.send(query(f"{BIG}; {BIG}"))

    def is_full():
        waits = max(s["send_avail"] for s in console("SHOW SOCKETS") if (s["type"], s["database"]) == ("C", "app"))
        sent = proxy.metric("bytes_sent_total")
        for _ in range(5):
            proxy.settle()
        return waits > 0 and proxy.metric("bytes_sent_total") == sent

    wait_until(is_full)


# ---------------------------------------------------------------- PgBouncer's words

def test_words_are_pgbouncers(pgbouncer, consoles):  # noqa: F811
    _, console = consoles({"databases": {"app": {}}})

    def said(of, command):
        try:
            return of(command)
        except psycopg.Error as e:
            return e.sqlstate, e.diag.message_primary

    for command in ("RESUME", "SUSPEND", "SHOW STATE", "SUSPEND", "PAUSE", "PAUSE app", "KILL", "KILL app", "RESUME app",
                    "SHOW STATE", "RECONNECT", "RESUME", "SHOW STATE", "RESUME", "PAUSE app", "SUSPEND", "RESUME app", "PAUSE",
                    "SUSPEND", "RESUME"):
        assert said(console, command) == said(pgbouncer, command), command
    for of in (console, pgbouncer):  # the words are another matter
        assert isinstance(said(of, "SUSPEND now"), tuple)
    assert "SUSPEND" in " ".join(str(n) for n in notices(console, "SHOW HELP"))


def notices(console, command):
    heard = []
    console.db.add_notice_handler(lambda d: heard.append(d.message_primary))
    console(command)
    return heard


# ---------------------------------------------------------------- what is under way

@pytest.mark.parametrize("io", BACK_ENDS)
@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_clients_work_on_as_if_nothing_had_been(io, mode, consoles, closing, name):
    """With three workers, some of whose server connections are shared, and move."""
    proxy, console = consoles({"proxy": {"io": io, "workers": 3}, "pool": {"mode": mode, "max_connections": 8}})
    clients, rounds = 8, 150
    with proxy.connect() as db:
        db.execute(f"CREATE TABLE {name} (client int, n int)")
    stop = threading.Event()

    def work(number):
        done = 0
        with closing(proxy.connect()) as db:
            while done < rounds or not stop.is_set():
                db.execute(f"INSERT INTO {name} VALUES (%s, %s)", (number, done))
                assert db.execute("SELECT %s::int", (done,)).fetchone() == (done,)
                done += 1
        return done

    threads = [Later(lambda n=n: work(n)) for n in range(clients)]
    for _ in range(6):
        moved = read_queries(proxy)
        wait_until(lambda: read_queries(proxy) > moved)  # they work
        assert console("SUSPEND") == "SUSPEND"
        before = read_queries(proxy)
        assert read_queries(proxy) == before
        assert console("RESUME") == "RESUME"
    stop.set()
    done = [t.result() for t in threads]
    with proxy.connect() as db:
        found = db.execute(f"SELECT client, count(*), count(DISTINCT n), max(n) FROM {name} GROUP BY 1 ORDER BY 1").fetchall()
        db.execute(f"DROP TABLE {name}")
    assert found == [(n, d, d, d - 1) for n, d in enumerate(done)]
    assert proxy.metric("query_errors_total") == 2 * 0  # nobody was told anything


@pytest.mark.parametrize("io", BACK_ENDS)
def test_in_the_middle_of_a_long_answer(io, consoles, closing, postgres):
    proxy, console = consoles({"proxy": {"io": io}})
    direct = closing(Wire(postgres.address))
    direct.login({"user": "app", "database": "app"})
    expected = hashlib.sha256(b"".join(m.body for m in direct.query(BIG) if m.kind == "D")).hexdigest()
    client = closing(slow_wire(proxy))
    client.send(query(BIG))
    got = [client.read() for _ in range(50)]
    reader_may_go_on, is_still = threading.Event(), threading.Event()

    def read_all():
        while not is_still.is_set():  # what is flushed
            if not client.is_quiet(0.02):
                continue
        taken = len(client._in)
        reader_may_go_on.wait(60)
        return taken, client.until_ready()

    reader = Later(read_all)
    assert console("SUSPEND") == "SUSPEND"
    is_still.set()
    sent = proxy.metric("bytes_sent_total")
    proxy.settle()
    assert proxy.metric("bytes_sent_total") == sent
    assert is_suspended(console)
    assert console("RESUME") == "RESUME"
    reader_may_go_on.set()
    taken, rest = reader.result()
    assert taken < 9 << 20  # it was in the middle
    assert hashlib.sha256(b"".join(m.body for m in got + rest if m.kind == "D")).hexdigest() == expected
    assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("io", BACK_ENDS)
def test_in_the_middle_of_a_copy(io, consoles, closing, name):
    proxy, console = consoles({"proxy": {"io": io}})
    client = closing(proxy.wire())
    client.query(f"CREATE TABLE {name} (n int, filler text)")
    client.send(query(f"COPY {name} FROM STDIN"))
    client.read_until("G")
    lines = [f"{n}\t{'x' * 1000}\n".encode() for n in range(10000)]  # 10 MB
    sent = 0

    def send_all():
        nonlocal sent
        client.timeout = 60
        for line in lines:
            client.send(copy_data(line))
            sent += 1
        client.send(copy_done())
        return client.until_ready()

    sender = Later(send_all)
    wait_until(lambda: sent > 1000)
    for _ in range(3):
        assert console("SUSPEND") == "SUSPEND"
        proxy.settle()
        received = proxy.metric("bytes_received_total")
        proxy.settle()
        assert proxy.metric("bytes_received_total") == received
        assert console("RESUME") == "RESUME"
    assert not errors(sender.result())
    assert client.rows(f"SELECT count(*), count(DISTINCT n), sum(length(filler)) FROM {name}") == [["10000", "10000", "10000000"]]
    client.query(f"DROP TABLE {name}")


@pytest.mark.parametrize("io", BACK_ENDS)
def test_in_the_middle_of_a_transaction_and_of_a_batch(io, consoles, closing, name):
    proxy, console = consoles({"proxy": {"io": io}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    other.query(f"CREATE TABLE {name} (n int)")
    client.query("BEGIN")
    client.query(f"INSERT INTO {name} VALUES (0)")
    whole = b"".join(query(f"INSERT INTO {name} VALUES ({n}) RETURNING n") for n in range(1, 101))
    client.send(whole[:1001])  # within a message
    wait_until(lambda: proxy.metric("queries_total") > 3)
    assert console("SUSPEND") == "SUSPEND"
    client.send(whole[1001:], query("COMMIT"))
    other.send(run("SELECT $1::int + 1", ["41"]), sync())
    before = read_queries(proxy)
    assert read_queries(proxy) == before
    assert other.is_quiet()
    assert console("RESUME") == "RESUME"
    assert rows(client.until_ready(101)) == [[str(n)] for n in range(1, 101)]
    assert rows(other.until_ready()) == [["42"]]
    assert other.value(f"SELECT count(*) FROM {name}") == "101"
    other.query(f"DROP TABLE {name}")


@pytest.mark.parametrize("io", BACK_ENDS)
def test_in_the_middle_of_a_login_and_with_tls(io, consoles, closing, certs):
    tls = {"enabled": True, "cert_path": certs.server.cert, "key_path": certs.server.key}
    proxy, console = consoles({"proxy": {"io": io}, "tls": tls})
    trust = ssl.create_default_context(cafile=certs.ca)

    def secure(client):
        client.start_tls(trust)
        client.login({"user": "app", "database": "app"})
        return client

    def begun():
        client = closing(Wire(proxy.address, timeout=60))
        assert client.ssl_request() == b"S"
        return client

    def welcomed(client):
        client.login({"user": "app", "database": "app"})
        return client

    inside = secure(begun())
    shaking, silent = begun(), closing(Wire(proxy.address, timeout=60))
    silent.send(b"\0")  # the first byte of its first packet
    wait_until(lambda: proxy.metric("clients") == 4)
    assert console("SUSPEND") == "SUSPEND"
    logins = proxy.metric("logins_total")
    shakes = Later(lambda: secure(shaking))
    comes = Later(lambda: welcomed(closing(Wire(proxy.address, timeout=60))))  # who is not accepted even
    inside.send(query("SELECT 1"), query(BIG))
    silent.send(b"\0\0\x20\0\x03\0\0user\0app\0database\0app\0\0"[:0])
    proxy.settle()
    assert shakes.is_alive() and comes.is_alive()
    assert proxy.metric("clients") == 4 and proxy.metric("logins_total") == logins
    assert console("RESUME") == "RESUME"
    assert len(rows(inside.until_ready(2))) == 1251
    for client in (shakes.result(), comes.result()):
        assert client.value("SELECT 2") == "2"
    packet = b"\0\x03\0\0user\0app\0database\0app\0\0"
    silent.send(bytes([0, 0, 4 + len(packet)]) + packet)
    silent.until_ready()
    assert silent.value("SELECT 3") == "3"


def test_again_and_again(consoles, closing):
    """Workers may hear of several changes at once."""
    proxy, console = consoles({"proxy": {"workers": 4}})
    client = closing(proxy.wire())
    for n in range(50):
        client.send(query(f"SELECT {n}"))
        assert console("SUSPEND") == "SUSPEND"
        assert console("RESUME") == "RESUME"
    assert rows(client.until_ready(50)) == [[str(n)] for n in range(50)]


def test_who_leaves_meanwhile_is_gone_afterwards(consoles, closing):
    proxy, console = consoles()
    idle, inside, stays = (closing(proxy.wire()) for _ in range(3))
    inside.query("BEGIN")
    assert console("SUSPEND") == "SUSPEND"
    idle.close()
    inside.abort()
    proxy.settle()
    assert proxy.metric("clients") == 4
    assert console("RESUME") == "RESUME"
    wait_until(lambda: proxy.metric("clients") == 2)
    assert stays.value("SELECT 1") == "1"


def test_a_server_that_restarts_meanwhile(consoles, closing, make_postgres):
    proxy, console = consoles(postgres=make_postgres())
    client = closing(proxy.wire())
    client.value("SELECT 1")
    assert console("SUSPEND") == "SUSPEND"
    proxy.postgres.restart()
    client.send(query("SELECT 2"))
    assert client.is_quiet()
    assert console("RESUME") == "RESUME"
    client.until_ready()  # an answer, or that its connection was lost
    wait_until(lambda: not errors(client.query("SELECT 3")))


# ---------------------------------------------------------------- time

def test_time_stands_still(consoles, closing):
    proxy, console = consoles({"pool": {"client_idle_timeout": "10s", "idle_transaction_timeout": "10s",
                                        "client_login_timeout": "10s", "query_timeout": "10s", "max_connections": 2,
                                        "query_wait_timeout": "10s"}})
    idle, inside, runs, waits = (closing(proxy.wire()) for _ in range(4))
    inside.query("BEGIN")
    runs.query("BEGIN")
    runs.send(query("SELECT pg_advisory_xact_lock(6006006)"))
    runs.until_ready()
    waits.send(query("SELECT 5"))
    login = closing(Wire(proxy.address))
    login.ssl_request()
    wait_until(lambda: proxy.metric("clients") == 6 and proxy.metric("clients_waiting") == 1)
    assert console("SUSPEND") == "SUSPEND"
    for _ in range(4):
        proxy.advance(100)
    assert proxy.metric("clients") == 6
    assert console("RESUME") == "RESUME"
    assert not errors(inside.query("COMMIT")) and not errors(runs.query("COMMIT"))
    assert rows(waits.until_ready()) == [["5"]]
    assert idle.value("SELECT 1") == "1"
    login.login({"user": "app", "database": "app"})
    proxy.advance_until(lambda: proxy.metric("clients") == 1, 11)  # and time goes on
    assert errors(idle.until_closed()) == ["57P05"]


def test_who_does_not_read_is_closed(consoles, closing):
    proxy, console = consoles({"proxy": {"suspend_timeout": "300s"}})
    looking, other = closing(Console(proxy.address)), closing(proxy.wire())
    deaf = closing(slow_wire(proxy))
    fill_up(proxy, looking, deaf)
    suspends = Later(lambda: console("SUSPEND"))
    wait_until(lambda: is_suspended(looking))
    other.send(query("SELECT 1"))
    proxy.settle()
    assert other.is_quiet()
    assert not suspends.is_over, proxy.log()[-1500:]
    looking.refused("SUSPEND", "already suspended/paused")
    proxy.advance(301)
    assert suspends.result() == "SUSPEND"
    proxy.wait_log("within suspend_timeout.*closed=1")
    assert json.loads(proxy.admin("/api/v1/suspend", method="POST", body=b"")[1])["closed"] == 1
    with pytest.raises(Closed):
        while True:
            deaf.read_raw()
    assert console("RESUME") == "RESUME"
    assert rows(other.until_ready()) == [["1"]]


def test_without_a_timeout_it_waits(consoles, closing):
    proxy, console = consoles({"proxy": {"suspend_timeout": "0s"}})
    looking, deaf = closing(Console(proxy.address)), closing(slow_wire(proxy))
    fill_up(proxy, looking, deaf)
    suspends = Later(lambda: console("SUSPEND"))
    wait_until(lambda: is_suspended(looking))
    proxy.advance(1000)
    assert not suspends.is_over
    assert looking("RESUME") == "RESUME"
    with pytest.raises(psycopg.Error, match="RESUME came first"):
        suspends.result()
    assert len(rows(deaf.until_ready())) == 2500


# ---------------------------------------------------------------- who asked

@pytest.mark.parametrize("when", ["waits", "has its answer"])
def test_the_last_console_that_leaves_ends_it(when, consoles, closing):
    proxy, console = consoles()
    clerk, client = closing(Console(proxy.address, user="clerk")), closing(proxy.wire())
    clerk.refused("SUSPEND", "admin access needed")
    deaf = closing(slow_wire(proxy))
    asks = closing(proxy.wire(user="boss", database="pgbouncer"))
    console.close()
    wait_until(lambda: proxy.metric("clients") == 4)
    if when == "waits":
        fill_up(proxy, clerk, deaf)
    asks.send(query("SUSPEND"))
    wait_until(lambda: is_suspended(clerk))
    client.send(query("SELECT 1"))
    if when == "has its answer":
        asks.until_ready()
        assert client.is_quiet()
    asks.close()
    assert rows(client.until_ready()) == [["1"]]
    proxy.wait_log("the suspension is over.*by=\"the last console has left\"")
    assert not is_suspended(clerk)


def test_over_the_admin_api(consoles, closing):
    proxy, console = consoles()
    client = closing(proxy.wire())

    def post(path):
        status, text = proxy.admin(f"/api/v1/{path}", method="POST", body=b"")
        return status, json.loads(text)

    assert proxy.json("/api/v1/status")["suspension"] == "off" and proxy.metric("suspended") == 0
    console("PAUSE app")
    assert post("suspend")[1]["code"] == "paused"
    console("RESUME app")
    wait_until(lambda: post("suspend") == (200, {"status": "suspended", "suspension": "on", "closed": 0}))
    assert proxy.json("/api/v1/status")["suspension"] == "on" and proxy.metric("suspended") == 1
    assert proxy.admin("/readyz")[0] == 503 and "suspended" in proxy.admin("/readyz")[1]
    assert [post(f"databases/app/{what}")[1]["code"] for what in ("pause", "kill")] == ["suspended"] * 2
    console.close()  # it did not ask
    wait_until(lambda: proxy.metric("clients") == 1)
    client.send(query("SELECT 1"))
    assert client.is_quiet()
    assert post("resume") == (200, {"status": "resumed", "suspension": "off", "closed": 0})
    assert rows(client.until_ready()) == [["1"]]
    assert post("resume")[1]["status"] == "not suspended"
    for verb, state in (("suspend", "on"), ("resume-all", "off")):
        subprocess.run([proxy.binary, "ctl", "--url", f"http://127.0.0.1:{proxy.admin_port}", verb, "--yes"],
                       check=True, timeout=30, capture_output=True)
        wait_until(lambda s=state: proxy.json("/api/v1/status")["suspension"] == s)
    assert [e["kind"] for e in proxy.json("/api/v1/events?kind=proxy.suspended,proxy.resumed")["items"]] == \
        ["proxy.suspended", "proxy.resumed"] * 2
    assert client.value("SELECT 2") == "2"


def test_what_else_operators_do_meanwhile(consoles, closing):
    proxy, console = consoles()
    victim, client = closing(proxy.wire(application_name="victim")), closing(proxy.wire())
    client.query("BEGIN")
    assert console("SUSPEND") == "SUSPEND"
    found = row(console("SHOW CLIENTS"), application_name="victim")
    assert console(f"KILL_CLIENT {found['id']}") == "KILL_CLIENT"
    assert errors(victim.until_closed()) == ["57P01"]
    assert console("RELOAD") == "RELOAD"
    os.kill(proxy.process.pid, signal.SIGUSR2)
    proxy.wait_log("cannot start the next process.*suspended")
    assert client.is_quiet() and is_suspended(console)
    proxy.process.send_signal(signal.SIGTERM)  # transactions are to end
    proxy.wait_log("the suspension is over.*by=\"the proxy ends\"")
    assert client.value("SELECT 1") == "1"
    client.query("COMMIT")
    proxy.wait_end()


def test_shutdown_at_once(consoles, closing):
    proxy, console = consoles()
    client = closing(proxy.wire())
    client.query("BEGIN")
    assert console("SUSPEND") == "SUSPEND"
    with pytest.raises(psycopg.OperationalError):
        console("SHUTDOWN")
    proxy.wait_end()
