"""The end of the proxy: gently, at the deadline, at once, whatever its clients do. And its limits: it refuses, but lives."""

import os
import select
import signal
import socket
import subprocess

import pytest
from harness import ServerError, Wire, wait_until
from harness.wire import DEADLINE, Closed, Deadline, errors, flush, query, rows, run, startup_packet, terminate

HURRIED = 3  # the exit code of an end that had to close clients in their transactions
APP = {"user": "app", "database": "app"}


def admits(address):
    """False: a new client is refused, by the kernel or with 57P01."""
    try:
        with Wire(address, 2) as client:
            client.login(APP)
        return True
    except Deadline:
        return True  # neither in nor refused: the worst of all
    except ServerError as e:
        assert e.code in ("57P01", "57P03")
        return False
    except (OSError, Closed):
        return False


# ---------------------------------------------------------------- SIGTERM

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_end(make_proxy, table, number):
    proxy = make_proxy()
    busy, idle = proxy.wire(), proxy.wire()
    busy.query("BEGIN")
    busy.query(f"INSERT INTO {table} VALUES (100, 'x')")
    proxy.process.send_signal(number)
    idle_end = idle.until_closed()
    assert [m.code for m in idle_end if m.kind == "E"] == ["57P01"]
    wait_until(lambda: not admits(proxy.address))
    assert busy.value(f"SELECT count(*) FROM {table}") == "11"
    assert not errors(busy.query("COMMIT"))
    busy.until_closed()
    proxy.wait_end()
    assert proxy.postgres.value(f"SELECT count(*) FROM {table}", database="app") == 11


def test_running_query_ends_before_the_proxy(make_proxy, gate):
    proxy, passing = make_proxy(), gate()
    client = proxy.wire()
    client.send(query(f"SELECT {passing.passage}, 'done'"))
    passing.wait()
    proxy.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not admits(proxy.address))
    passing.open()
    assert rows(client.until_ready())[0][1] == "done"
    client.until_closed()
    proxy.wait_end()


def test_end_at_the_deadline(make_proxy, postgres):
    proxy = make_proxy({"proxy": {"shutdown_drain_timeout": "1s"}})
    client = proxy.wire()
    client.query("BEGIN")
    proxy.process.send_signal(signal.SIGTERM)
    assert [m.code for m in client.until_closed() if m.kind == "E"] == ["57P01"]
    proxy.wait_end(expected=HURRIED)
    wait_until(lambda: not postgres.backends("state LIKE 'idle in%%' AND usename = 'app'"))


def test_second_signal_ends_at_once(make_proxy):
    proxy = make_proxy()
    client = proxy.wire()
    client.query("BEGIN")
    proxy.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not admits(proxy.address))
    assert proxy.process.poll() is None
    proxy.process.send_signal(signal.SIGTERM)
    client.until_closed()
    proxy.wait_end(expected=HURRIED)


def test_waiting_clients_are_served_or_told(make_proxy):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    holder, waiter = proxy.wire(), proxy.wire()
    holder.query("BEGIN")
    waiter.send(query("SELECT 'waited'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not admits(proxy.address))
    holder.query("COMMIT")
    messages = waiter.until_closed()
    assert rows(messages) == [["waited"]] or [m.code for m in messages if m.kind == "E"] == ["57P01"]
    proxy.wait_end()


def test_new_clients_are_refused_by_the_kernel(make_proxy):
    proxy = make_proxy()
    client = proxy.wire()
    client.query("BEGIN")
    proxy.process.send_signal(signal.SIGTERM)

    def refused():
        try:
            socket.create_connection(proxy.address, 2).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # it stood in line when the socket was closed
            return False
        return False

    wait_until(refused)
    client.query("COMMIT")
    client.until_closed()
    proxy.wait_end()


STATES = {
    "silent": lambda c: None,
    "half a packet": lambda c: c.send(startup_packet({"user": "app", "database": "app"})[:9]),
    "idle": lambda c: c.login(APP),
    "half a message": lambda c: c.login(APP).send(query("SELECT 1")[:4]),
    "in a transaction": lambda c: c.login(APP).query("BEGIN"),
    "mid-query": lambda c: c.login(APP).send(query("SELECT pg_sleep(60)")),
    "mid-copy": lambda c: c.login(APP).send(query("CREATE TEMP TABLE x (i int); COPY x FROM STDIN")),
    "never reads": lambda c: c.login(APP).send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 500)")),
    "waiting": lambda c: c.login(APP).send(query("SELECT 'waiting'")),
    "listening": lambda c: c.login(APP).query("LISTEN x"),
    "has an open batch": lambda c: c.login(APP).send(run("SELECT 1"), flush()),
}


@pytest.mark.parametrize("links", [1, 20])
@pytest.mark.parametrize("twice", [False, True])
def test_ends_whatever_clients_do(make_proxy, links, twice):
    """
    With all kinds of clients at once: at the deadline, or at once with a second signal; nothing leaks. Whatever else
    could end them lies beyond the time that wait_end() gives.
    """
    proxy = make_proxy({"proxy": {"shutdown_drain_timeout": "600s" if twice else "1s"},
                        "pool": {"max_connections": links, "client_login_timeout": "600s", "connect_timeout": "600s"}})
    clients = []
    for name, begin in STATES.items():
        client = Wire(proxy.address, 2 if links == 1 else DEADLINE)
        clients.append(client)
        try:
            begin(client)
        except Deadline:
            assert links == 1, name  # it waits for the only link
    proxy.process.send_signal(signal.SIGTERM)
    if twice:
        proxy.wait_log("shutting down")
        proxy.process.send_signal(signal.SIGTERM)
    proxy.wait_end(expected=HURRIED)
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize("retry", ["0s", "5s"])
def test_ends_when_the_server_is_dead(make_proxy, make_postgres, retry):
    server = make_postgres()
    proxy = make_proxy({"pool": {"login_retry": retry}}, postgres=server)
    client = proxy.wire()
    assert client.value("SELECT 1") == "1"
    server.stop()
    wait_until(lambda: errors(client.query("SELECT 1")) == ["08001"])
    client.send(query("SELECT 2"))
    proxy.process.send_signal(signal.SIGTERM)
    proxy.wait_end()


def test_ends_while_the_server_does_not_answer(make_proxy):
    """Links that are being opened don't hold the end up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = make_proxy({"nodes": [{"host": "127.0.0.1", "port": silent.getsockname()[1], "role": "primary"}],
                            "pool": {"connect_timeout": "600s"}})
        clients = [Wire(proxy.address) for _ in range(5)]
        for client in clients:
            client.startup(APP)
        wait_until(lambda: proxy.metric("clients_waiting") == 5)
        proxy.process.send_signal(signal.SIGTERM)
        for client in clients:
            assert errors(client.until_closed()) == ["57P01"]
        proxy.wait_end()


# ---------------------------------------------------------------- replication

def stream(proxy):
    """A client that streams as pg_receivewal does."""
    client = proxy.wire(user="postgres", replication="true")
    ((_, timeline, position, _),) = client.rows("IDENTIFY_SYSTEM")
    client.send(query(f"START_REPLICATION PHYSICAL {position} TIMELINE {timeline}"))
    assert client.read().kind == "W"
    return client


def test_replication_that_its_client_ends(make_proxy):
    """Terminate passes like all else, so the server is the first to close: that is no lost connection."""
    proxy = make_proxy()
    client = proxy.wire(user="postgres", replication="true")
    assert client.rows("IDENTIFY_SYSTEM")
    client.send(terminate())
    assert errors(client.until_closed()) == []
    proxy.wait_log("client disconnected.*state=replication.*closed by the client")
    assert proxy.metric("links_lost_total") == 0 and "server connection lost" not in proxy.log()


def test_replication_ends_with_the_proxy(make_proxy, postgres):
    """Streams have no end of their own, so they are told at once; the deadline is not waited for."""
    proxy = make_proxy()
    streaming, idle = stream(proxy), proxy.wire(user="postgres", replication="database")
    assert idle.rows("IDENTIFY_SYSTEM")
    proxy.process.send_signal(signal.SIGTERM)
    for client in (streaming, idle):
        assert errors(client.until_closed()) == ["57P01"]
    proxy.wait_end()
    wait_until(lambda: postgres.value("SELECT count(*) FROM pg_stat_replication") == 0)


def test_replication_under_load_ends_between_two_messages(make_proxy, postgres):
    """Much WAL is on its way: what was begun is sent to its end, and the error stands behind it."""
    proxy = make_proxy()
    client = stream(proxy)
    for _ in range(10):
        postgres.sql("SELECT count(pg_logical_emit_message(false, 'test', repeat('x', 100000))) FROM generate_series(1, 100)")
    messages = [client.read() for _ in range(3)]
    proxy.process.send_signal(signal.SIGTERM)
    messages += client.until_closed()
    assert messages[-1].kind == "E" and messages[-1].code == "57P01"
    assert {m.body[:1] for m in messages[:-1] if m.kind == "d"} <= {b"w", b"k"}
    assert all(m.kind == "d" for m in messages[:-1])
    proxy.wait_end()


def test_base_backup_may_end(make_proxy, postgres, tmp_path):
    """A backup is work that ends, like a transaction: the drain waits for it."""
    proxy = make_proxy()
    client = proxy.wire(user="postgres", replication="true")
    client.send(query("BASE_BACKUP ( CHECKPOINT 'fast', MAX_RATE 2048, WAIT false )"))
    while client.read().kind != "d":
        pass
    proxy.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not admits(proxy.address))
    messages = client.until_closed()
    assert errors(messages) == ["57P01"]
    assert [m.kind for m in messages[-3:]] == ["C", "Z", "E"], "the backup is whole"
    proxy.wait_end()


def test_pg_receivewal_goes_on_elsewhere(make_proxy, postgres, tmp_path):
    """The real one is told by an error of which it knows that it should try again."""
    proxy = make_proxy()
    host, port = proxy.address
    receiver = subprocess.Popen([os.path.join(postgres.bindir, "pg_receivewal"), "-D", str(tmp_path), "-h", host,
                                 "-p", str(port), "-U", "postgres", "--verbose", "--no-loop"],
                                stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: postgres.value("SELECT count(*) FROM pg_stat_replication WHERE sent_lsn IS NOT NULL") == 1)
        proxy.process.send_signal(signal.SIGTERM)
        proxy.wait_end()
        assert "shutting down" in receiver.communicate(timeout=20)[1]
        assert receiver.returncode == 1
    finally:
        receiver.kill()
        receiver.wait()


# ---------------------------------------------------------------- limits

def test_max_clients(make_proxy, closing):
    proxy = make_proxy({"proxy": {"max_clients": 3}})
    clients = [closing(proxy.wire()) for _ in range(3)]
    for _ in range(50):  # some get as far as the startup packet, the others are told at once
        with Wire(proxy.address) as more:
            with pytest.raises(ServerError) as e:
                more.login(APP)
            assert e.value.code == "53300" and "max_clients" in e.value.message
    crowd = [closing(Wire(proxy.address)) for _ in range(40)]
    sockets = {client.socket: client for client in crowd}
    told = wait_until(lambda: len(found := select.select(sockets, [], [], 0)[0]) >= 24 and found)  # 16 may knock
    for each in told:
        assert [m.code for m in sockets[each].until_closed()] == ["53300"]
    for client in crowd:
        client.socket.close()
    clients[0].close()
    wait_until(lambda: proxy.metric("clients") == 2)
    assert closing(proxy.wire()).value("SELECT 1") == clients[1].value("SELECT 1") == "1"


def test_descriptors_run_out(make_proxy, closing):
    """ulimit -n 64: who finds no descriptor waits in the kernel's queue, and is served when there is one again."""
    proxy = make_proxy(nofile=64)
    first = closing(proxy.wire())
    assert first.value("SELECT 1") == "1"
    crowd = [Wire(proxy.address) for _ in range(100)]
    wait_until(lambda: proxy.descriptors() >= 64)
    assert first.value("SELECT 2") == "2"
    for client in crowd:
        client.close()
    wait_until(lambda: admits(proxy.address))
    assert closing(proxy.wire()).value("SELECT 3") == "3"
