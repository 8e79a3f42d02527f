"""CancelRequest: it hits the query that its client runs now, and nothing else, ever."""

import os
import random
import signal
import socket
import threading

import pytest
from harness import ServerError, Wire, wait_until, wire
from harness.later import Later
from harness.signals import interrupt_is_pending, stand_still
from harness.wire import (bind, cancel_packet, copy_data, copy_done, errors, execute, flush, parse, query, rows, run,
                          sync)

pytestmark = pytest.mark.matrix


def sleep_text(mark, seconds=60):
    return f"SELECT pg_sleep({seconds}) /* {mark} */"


def wait_running(postgres, mark):
    wait_until(lambda: postgres.backends("wait_event = 'PgSleep' AND query LIKE %s", [f"%{mark}%"]))


def test_cancel_of_a_running_query(target, name):
    client = target.wire()
    for i in range(5):
        client.send(query(sleep_text(f"{name}_{i}")))
        wait_running(target.postgres, f"{name}_{i}")
        client.cancel()
        messages = client.until_ready()
        assert errors(messages) == ["57014"]
        assert client.value("SELECT 'usable'") == "usable"


def test_cancel_of_an_extended_query(target, name):
    client = target.wire()
    client.send(run(sleep_text(name)), sync())
    wait_running(target.postgres, name)
    client.cancel()
    assert errors(client.until_ready()) == ["57014"]
    assert rows(client.batch(run("SELECT 'usable'"))) == [["usable"]]


def test_cancel_in_the_middle_of_a_pipeline(target, name):
    client = target.wire()
    client.send(run("SELECT 'before'"), sync(), run(sleep_text(name)), sync(), run("SELECT 'after'"), sync())
    wait_running(target.postgres, name)
    client.cancel()
    messages = client.until_ready(3)
    assert errors(messages) == ["57014"] and rows(messages) == [["before"], ["after"]]


def test_cancel_of_a_flushed_query(target, name):
    client = target.wire()
    client.send(run(sleep_text(name)), flush())
    wait_running(target.postgres, name)
    client.cancel()
    assert client.read_until("E")[-1].code == "57014"
    client.send(sync())
    client.until_ready()
    assert client.value("SELECT 1") == "1"


@pytest.mark.modes("session", "transaction")
def test_cancel_in_a_transaction(target, name):
    client = target.wire()
    client.query("BEGIN")
    client.send(query(sleep_text(name)))
    wait_running(target.postgres, name)
    client.cancel()
    assert errors(client.until_ready()) == ["57014"]
    assert client.status == "E"
    client.query("ROLLBACK")
    assert client.value("SELECT 1") == "1"


def test_cancel_of_an_idle_client_does_nothing(target):
    client, other = target.wire(), target.wire()
    for _ in range(20):
        client.cancel()
        assert client.value("SELECT 1") == "1"
        assert other.value("SELECT 1") == "1"


def test_cancel_with_a_wrong_key_does_nothing(target, gate):
    client, passing = target.wire(), gate()
    client.send(query(f"SELECT {passing.passage}"))
    passing.wait()
    pid, key = client.backend_key
    wrong = bytes([key[0] ^ 1]) + key[1:]
    for packet in (cancel_packet(pid, wrong), cancel_packet(pid + 1, key), cancel_packet(0, b"\0\0\0\0"),
                   cancel_packet(pid, key[:-1]), cancel_packet(pid, key + b"x"), cancel_packet(pid, b"")):
        other = Wire(target.address)
        other.send(packet)
        other.until_closed()
        other.socket.close()
    assert client.is_quiet()
    passing.open()
    assert not errors(client.until_ready())


def test_cancel_of_a_client_that_left(target):
    client = target.wire()
    key = client.backend_key
    client.close()
    others = [target.wire() for _ in range(5)]
    for other in others:
        other.send(query("SELECT pg_sleep(0.05)"))
    with Wire(target.address) as canceller:
        canceller.send(cancel_packet(*key))
        canceller.until_closed()
    for other in others:
        assert not errors(other.until_ready())


def test_cancel_twice(target, name):
    client = target.wire()
    client.send(query(sleep_text(name)))
    wait_running(target.postgres, name)
    for _ in range(5):
        client.cancel()
    assert errors(client.until_ready()) == ["57014"]
    # a late one may still hit; but only this client
    for _ in range(10):
        assert set(errors(client.query("SELECT 1"))) <= {"57014"}


def test_cancel_of_a_copy(target, table):
    client = target.wire()
    client.send(query(f"COPY {table} FROM STDIN"))
    client.read_until("G")
    client.cancel()  # takes effect when the server wakes up for data
    client.send(*(copy_data(f"{i}\tx\n") for i in range(100, 110)), copy_done())
    assert errors(client.until_ready()) == ["57014"]
    assert client.value(f"SELECT count(*) FROM {table}") == "10"


def test_driver_cancels(target, name):
    with target.connect() as db:
        def canceller():
            wait_running(target.postgres, name)
            getattr(db, "cancel_safe", db.cancel)()  # psycopg 3.1 has the plain one only
        thread = threading.Thread(target=canceller)
        thread.start()
        with pytest.raises(Exception) as e:
            db.execute(sleep_text(name))
        thread.join()
        assert e.value.sqlstate == "57014"
        assert db.execute("SELECT 1").fetchone() == (1,)


# ---------------------------------------------------------------- waiting clients

@pytest.mark.parametrize("extended", [False, True])
def test_cancel_while_waiting_for_a_link(make_proxy, closing, extended):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    holder, waiter = closing(proxy.wire()), closing(proxy.wire())
    holder.query("BEGIN")
    for _ in range(3):
        waiter.send(run("SELECT 1") + sync() if extended else query("SELECT 1"))
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        waiter.cancel()
        messages = waiter.until_ready()
        assert errors(messages) == ["57014"]
        assert waiter.status == "I"
        wait_until(lambda: proxy.metric("clients_waiting") == 0)
    assert holder.value("SELECT 'still here'") == "still here"
    holder.query("COMMIT")
    assert waiter.value("SELECT 2") == "2"


def test_cancel_of_a_waiting_pipeline(make_proxy, closing):
    """The first batch is cancelled; what is behind it goes on waiting, and is answered."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    holder, waiter = closing(proxy.wire()), closing(proxy.wire())
    holder.query("BEGIN")
    waiter.send(query("SELECT 'a'"), query("SELECT 'b'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    waiter.cancel()
    assert errors(waiter.until_ready()) == ["57014"]
    holder.query("COMMIT")
    assert rows(waiter.until_ready()) == [["b"]]


def test_cancel_of_a_waiter_keeps_the_line(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    holder = closing(proxy.wire())
    holder.query("BEGIN")
    waiters = [closing(proxy.wire()) for _ in range(10)]
    for i, waiter in enumerate(waiters):
        waiter.send(query(f"SELECT {i}"))
    wait_until(lambda: proxy.metric("clients_waiting") == 10)
    for waiter in waiters[::2]:
        waiter.cancel()
    for waiter in waiters[::2]:
        assert errors(waiter.until_ready()) == ["57014"]
    holder.query("COMMIT")
    for i, waiter in enumerate(waiters):
        if i % 2:
            assert rows(waiter.until_ready()) == [[str(i)]]


# ---------------------------------------------------------------- in the moment when the wait is over

def post(proxy, path):
    return proxy.admin(f"/api/v1/{path}", method="POST", body=b"")[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_cancel_of_what_was_granted_a_link_just_now(make_proxy, closing, workers):
    """It has a link, and has not sent anything: time stands still meanwhile."""
    proxy = make_proxy({"proxy": {"workers": workers}, "pool": {"mode": "session", "max_connections": 1}})
    for text in (query("SELECT 'first'"), run("SELECT 'first'") + sync()):
        holder, waiter = proxy.wire(), closing(proxy.wire())
        holder.query("SELECT 1")
        waiter.send(text, query("SELECT 'second'"))
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        wait_until(lambda: post(proxy, "suspend") == 200)
        assert proxy.admin(f"/api/v1/sessions/{holder.backend_key[0]}", method="DELETE")[0] == 200
        wait_until(lambda: [bool(s["link"]) for s in proxy.sessions()] == [True])
        assert post(proxy, f"sessions/{waiter.backend_key[0]}/cancel") == 202
        assert post(proxy, "resume") == 200
        assert errors(waiter.until_ready()) == ["57014"]
        assert rows(waiter.until_ready()) == [["second"]]
        waiter.close()
        holder.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_cancel_around_the_end_of_the_wait(make_proxy, closing, workers):
    """A link comes and a cancel comes; also when the server has it and has not begun: one is enough, each time."""
    proxy = make_proxy({"proxy": {"workers": workers}, "pool": {"max_connections": 1}})
    holder, waiter = closing(proxy.wire()), closing(proxy.wire())
    for n in range(100):
        holder.query("BEGIN")
        waiter.send(query("SELECT pg_sleep(60)") if n % 2 else run("SELECT pg_sleep(60)") + sync())
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        holder.send(query("COMMIT"))
        waiter.cancel()
        assert errors(waiter.until_ready()) == ["57014"]
        holder.until_ready()


def test_cancel_while_settings_are_tried(make_proxy, closing, postgres):
    """A set of them that no server has accepted yet is waited for. The server has not begun with it: it misses the cancel."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"max_connections": 1}})
    other, client = closing(proxy.wire()), closing(proxy.wire())
    for n, text in enumerate((query("SELECT pg_sleep(60)"), run("SELECT pg_sleep(60)") + sync())):
        client.query(f"SET statement_timeout = {100000 + n}")
        backend, forwarded = int(other.value("SELECT pg_backend_pid()")), proxy.metric("cancels_forwarded_total")
        stand_still(backend)
        try:
            client.send(text, query("SELECT 'next'"))
            wait_until(lambda: any(s["link"] for s in proxy.sessions()))
            cancel = Later(client.cancel)
            wait_until(lambda: proxy.metric("cancels_forwarded_total") > forwarded)
            wait_until(lambda: interrupt_is_pending(backend))
        finally:
            os.kill(backend, signal.SIGCONT)
        cancel.result()
        assert errors(client.until_ready()) == ["57014"]
        assert rows(client.until_ready()) == [["next"]]


# ---------------------------------------------------------------- never another's

def test_cancel_goes_to_the_link_of_now(make_proxy, closing, postgres, name):
    """A client's query runs on another link each time; its cancel must follow."""
    proxy = make_proxy({"pool": {"max_connections": 3}})
    clients = [closing(proxy.wire()) for _ in range(6)]
    rng = random.Random(1)
    for i in range(12):
        victim, bystander = rng.sample(clients, 2)
        bystander.send(query(sleep_text(f"{name}_b{i}", 0.3)))
        victim.send(query(sleep_text(f"{name}_v{i}")))
        wait_running(postgres, f"{name}_v{i}")
        victim.cancel()
        assert errors(victim.until_ready()) == ["57014"]
        assert not errors(bystander.until_ready())


@pytest.mark.parametrize("workers", [1, 2])
def test_cancel_never_hits_the_next_user_of_the_link(make_proxy, closing, workers):
    """
    Two clients on one link. The first cancels around the end of its own query, when the link is about to be the
    second's: whichever way the race goes, the second must never see 57014.
    """
    proxy = make_proxy({"proxy": {"workers": workers}, "pool": {"max_connections": 1}})
    first, second = closing(proxy.wire()), closing(proxy.wire())
    rng = random.Random(7)
    hit = 0
    for i in range(300):
        first.send(query(f"SELECT pg_sleep({rng.choice([0, 0.0005, 0.001, 0.002])})"))
        second.send(query("SELECT pg_sleep(0.002), 'second'"))
        first.cancel()
        mine = errors(first.until_ready())
        assert set(mine) <= {"57014"}
        hit += len(mine)
        messages = second.until_ready()
        assert not errors(messages), f"turn {i}: the neighbour was cancelled"
        assert rows(messages)[0][1] == "second"
    assert proxy.metric("links_opened_total") <= 1 + proxy.metric("links_closed_total")


def test_cancels_while_the_link_changes_hands(make_proxy, closing):
    """Threads: three clients that work, one link, and a storm of cancels for the one of them that may be hit."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    victim = closing(proxy.wire())
    others = [closing(proxy.wire()) for _ in range(2)]
    stop = threading.Event()
    problems = []

    def cancels():
        while not stop.is_set():
            try:
                victim.cancel()
            except Exception as e:  # noqa: BLE001
                problems.append(e)
                return

    def works(client):
        try:
            while not stop.is_set():
                messages = client.query("SELECT pg_sleep(0.0005)")
                if errors(messages):
                    problems.append(messages)
        except Exception as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=cancels) for _ in range(2)]
    threads += [threading.Thread(target=works, args=(o,)) for o in others]
    for t in threads:
        t.start()
    for _ in range(300):
        if not set(errors(victim.query("SELECT pg_sleep(0.001)"))) <= {"57014"}:
            problems.append("victim")
    stop.set()
    for t in threads:
        t.join()
    assert not problems


def test_cancel_from_any_worker(make_proxy, closing, postgres, name):
    """The kernel spreads connections over the workers' listeners: of forty, no worker stays without one."""
    proxy = make_proxy({"proxy": {"workers": 4}})
    client = closing(proxy.wire())
    for i in range(40):
        client.send(query(sleep_text(f"{name}_{i}")))
        wait_running(postgres, f"{name}_{i}")
        client.cancel()
        assert errors(client.until_ready()) == ["57014"]
    assert proxy.metric("cancel_requests_total") >= 40
    assert proxy.metric("cancels_forwarded_total") >= 40


def test_long_key_of_protocol_3_2(make_proxy, closing, postgres, name):
    proxy = make_proxy()
    client = closing(proxy.wire(version=(3, 2)))
    assert client.negotiated is None
    assert 4 < len(client.backend_key[1]) <= 256
    client.send(query(sleep_text(name)))
    wait_running(postgres, name)
    pid, key = client.backend_key
    with Wire(proxy.address) as other:  # the first four bytes alone are not enough
        other.send(cancel_packet(pid, key[:4]))
        other.until_closed()
    assert postgres.backends("state = 'active' AND query LIKE %s", [f"%{name}%"])
    client.cancel()
    assert errors(client.until_ready()) == ["57014"]


def test_cancel_storm(make_proxy, closing, postgres):
    proxy = make_proxy()
    client = closing(proxy.wire())
    before = proxy.descriptors()
    for _ in range(10):
        sockets = [Wire(proxy.address) for _ in range(50)]
        for s in sockets:
            s.send(cancel_packet(*client.backend_key))
        for s in sockets:
            s.until_closed()
            s.socket.close()
    wait_until(lambda: proxy.descriptors() <= before + 2)
    assert client.value("SELECT 1") == "1"


def test_keys_differ(make_proxy, closing):
    proxy = make_proxy()
    keys = [closing(proxy.wire()).backend_key for _ in range(100)]
    assert len(set(keys)) == 100
    assert len({key for _, key in keys}) == 100


def test_cancelled_then_reused_statement(target, name):
    client = target.wire()
    client.batch(parse("s", f"SELECT pg_sleep($1::float8) /* {name} */"))
    client.send(bind("", "s", ["60"]), execute(), sync())
    wait_running(target.postgres, name)
    client.cancel()
    assert errors(client.until_ready()) == ["57014"]
    assert len(rows(client.batch(bind("", "s", ["0"]), execute()))) == 1


def test_statement_timeout_is_no_cancel(target):
    client = target.wire()
    with pytest.raises(ServerError) as e:
        client.rows("SET statement_timeout = '20ms'; SELECT pg_sleep(60)")
    assert e.value.code == "57014" and "timeout" in e.value.message
    client.query("RESET statement_timeout")
    assert wire.errors(client.query("SELECT pg_sleep(0.05)")) == []


# ---------------------------------------------------------------- while the server runs what the proxy put in front

class Held:
    """What touches a relation waits while this lasts: SETs of default_tablespace look at pg_tablespace."""

    def __init__(self, postgres, relation):
        self.postgres = postgres
        self.relation = relation

    def __enter__(self):
        self.holder = self.postgres.admin("app")
        self.holder.execute(f"BEGIN; LOCK TABLE {self.relation} IN ACCESS EXCLUSIVE MODE")
        return self

    def __exit__(self, *exception):
        self.holder.close()  # and so it ends

    def waiters(self):
        return [pid for pid, in self.holder.execute("SELECT pid FROM pg_locks WHERE NOT granted AND relation = %s::regclass",
                                                    [self.relation])]

    def wait(self):
        wait_until(self.waiters)
        return self.waiters()


def with_settings_of_its_own(proxy, closing):
    """A client, and another one whose settings are known, and not those that are on the only link."""
    other, client = closing(proxy.wire()), closing(proxy.wire())
    client.query("SET default_tablespace = 'pg_default'")
    for each in (other, client, other):
        each.query("SELECT 1")
    return client, other


def cancel_is_held_back(proxy, client, bystander):
    """A cancel that has come to the proxy and is still to go to the server. Returns the thread that waits for its end."""
    connections, forwarded = proxy.metric("connections_total"), proxy.metric("cancels_forwarded_total")
    thread = threading.Thread(target=client.cancel)
    thread.start()
    wait_until(lambda: proxy.metric("connections_total") > connections)
    assert not errors(bystander.query("DEALLOCATE ALL"))  # which the proxy answers: it has seen the cancel before
    assert proxy.metric("cancels_forwarded_total") == forwarded
    return thread


@pytest.mark.parametrize("text", ["simple", "extended"])
def test_cancel_while_the_settings_are_put_onto_the_link(make_proxy, closing, postgres, gate, text):
    """They stand in front of the query, which must not run without them: the cancel is the query's."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"max_connections": 1}})
    client, other = with_settings_of_its_own(proxy, closing)
    sql = f"SELECT {gate().passage}"
    with Held(postgres, "pg_tablespace") as held:
        client.send(query(sql) if text == "simple" else run(sql) + sync())
        held.wait()
        threads = [cancel_is_held_back(proxy, client, other) for _ in range(2)]
    assert errors(client.until_ready()) == ["57014"]
    for thread in threads:
        thread.join()
    assert client.value("SHOW default_tablespace") == "pg_default"
    assert other.value("SHOW default_tablespace") == ""
    assert not errors(client.query("SELECT 1"))


@pytest.mark.parametrize("by", ["client", "server"])
def test_cancel_of_what_reset_leads_to(make_proxy, closing, postgres, by):
    """RESET is done, and what the client logged in with is put onto the link again: that is not to be cancelled."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"max_connections": 1}})
    other, client = closing(proxy.wire()), closing(proxy.wire(default_tablespace="pg_default"))
    client.query("SET default_tablespace = ''")
    with Held(postgres, "pg_tablespace") as held:
        client.send(query("RESET default_tablespace"))
        backend, = held.wait()
        if by == "client":
            thread = cancel_is_held_back(proxy, client, other)
        else:
            held.holder.execute("SELECT pg_cancel_backend(%s)", [backend])
            wait_until(lambda: backend in held.waiters())
    assert not errors(client.until_ready())
    if by == "client":
        thread.join()
    assert client.value("SHOW default_tablespace") == "pg_default"


@pytest.mark.parametrize("by", ["client", "server"])
def test_cancel_of_what_the_proxy_asks_for(make_proxy, closing, postgres, by):
    """Parameters are asked for behind the answer (track_parameters): a client that has that hears of nothing else."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"max_connections": 1, "track_parameters": ["work_mem"]}})
    other, client = closing(proxy.wire()), closing(proxy.wire())
    client.query("SELECT 1")
    wait_until(lambda: proxy.pools()[0]["idle"] == 1)  # else what is asked behind that meets the lock, on the only link
    with Held(postgres, "pg_settings") as held:
        client.send(query("SELECT 'answer'"))
        assert rows(client.until_ready()) == [["answer"]]
        backend, = held.wait()
        if by == "client":
            thread = cancel_is_held_back(proxy, client, other)
        else:
            held.holder.execute("SELECT pg_cancel_backend(%s)", [backend])
            wait_until(lambda: backend not in held.waiters())
    if by == "client":
        thread.join()
    assert client.value("SELECT 'usable'") == "usable"


# ---------------------------------------------------------------- a replaced process (SIGUSR2)

def sleeping(client, postgres, mark):
    client.send(query(sleep_text(mark)))
    wait_running(postgres, mark)


@pytest.mark.parametrize("replacements", [1, 2, 3])
@pytest.mark.parametrize("version", [(3, 0), (3, 2)], ids=["3.0", "3.2"])
def test_cancel_of_a_client_of_an_old_process(make_proxy, closing, postgres, name, replacements, version):
    """The CancelRequest comes to the newest process, whose predecessors may have gone meanwhile."""
    proxy = make_proxy()
    client = closing(proxy.wire(version=version))
    sleeping(client, postgres, name)
    old = [proxy.take_over() for _ in range(replacements)]
    for process in old[1:]:
        wait_until(lambda pid=process.pid: pid not in proxy._family())
    client.cancel()
    assert errors(client.until_ready()) == ["57014"]
    assert client.value("SELECT 'on'") == "on"
    newer = closing(proxy.wire())
    sleeping(newer, postgres, name + "_new")
    newer.cancel()
    assert errors(newer.until_ready()) == ["57014"]


def test_cancels_of_each_generation(make_proxy, closing, postgres, name):
    proxy = make_proxy()
    clients = []
    for generation in range(3):
        clients.append(closing(proxy.wire()))
        sleeping(clients[-1], postgres, f"{name}_{generation}")
        if generation < 2:
            proxy.take_over()
    for i in (1, 0, 2):
        clients[i].cancel()
        assert errors(clients[i].until_ready()) == ["57014"]
        assert all(c.is_quiet() for j, c in enumerate(clients) if (1, 0, 2).index(j) > (1, 0, 2).index(i))


def test_cancel_with_a_key_that_nobody_knows(make_proxy, closing, postgres, name):
    """A process before is asked, or has gone: nothing happens, and the connection ends."""
    proxy = make_proxy()
    client = closing(proxy.wire())
    gone = closing(proxy.wire())
    sleeping(client, postgres, name)
    old = proxy.take_over()

    def ask(pid, key):
        with socket.create_connection(proxy.address) as s:
            s.settimeout(15)
            s.sendall(cancel_packet(pid, key))
            assert s.recv(1) == b""

    pid, key = client.backend_key
    for strange in ((pid, bytes(4)), (0, key), (2**32 - 1, bytes(32)), (pid, key + bytes(28)), (pid, bytes(200))):
        ask(*strange)
    for _ in range(300):
        ask(pid, os.urandom(4))
    assert client.is_quiet()
    ask(*client.backend_key)
    assert errors(client.until_ready()) == ["57014"]
    client.close()
    gone.close()
    wait_until(lambda: old.poll() is not None)
    assert old.returncode == 0
    ask(*client.backend_key)
    ask(*gone.backend_key)
    assert closing(proxy.wire()).value("SELECT 1") == "1"
