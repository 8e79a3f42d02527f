"""As few threads as carry the load: workers change threads while their clients go on, and are served when they are
parked. How many there are is told to the proxy here (POST /debug/threads); src/loop/crew_test.c has what decides it."""

import os
import re
import signal
import threading
import time

import pytest
from harness import Wire, wait_until


@pytest.fixture
def make_crew(make_proxy):
    def make(workers=3, config=None, **kwargs):
        proxy = make_proxy(config, start=False, **kwargs)
        proxy.config["proxy"].update(workers=workers, adaptive_workers=True)
        return proxy.start()

    return make


def force(proxy, active):
    """Which loops move, do so at the next turn: every worker has had one when this returns."""
    assert proxy.admin(f"/debug/threads?active={active}", "POST", body=b"")[0] == 200
    proxy.settle()


def shares(proxy):
    """Clients of each worker."""
    return sorted(int(value) for (name, _), value in proxy.metrics().items() if name == "worker_sessions")


class Busy(threading.Thread):
    """Transactions and bare statements, each of whose answers is checked."""

    def __init__(self, proxy, number):
        super().__init__(daemon=True)
        self.proxy, self.number = proxy, number
        self.rounds, self.stop, self.problem = 0, False, None

    def run(self):
        try:
            with self.proxy.wire() as client:
                while not self.stop:
                    wanted = [[f"{self.number} {self.rounds}"]]
                    assert client.rows(f"SELECT '{self.number} {self.rounds}'") == wanted
                    client.query("BEGIN")
                    assert client.rows(f"SELECT '{self.number} {self.rounds}' FROM pg_sleep(0.001)") == wanted
                    client.query("COMMIT")
                    self.rounds += 1
        except Exception as e:  # told by the test's own thread
            self.problem = e


def test_clients_go_on_while_threads_join_and_split(make_crew):
    proxy = make_crew(config={"pool": {"max_connections": 4}})
    clients = [Busy(proxy, i) for i in range(9)]
    for client in clients:
        client.start()
    for active in (3, 1, 2) * 20:
        force(proxy, active)
        before = [client.rounds for client in clients]
        wait_until(lambda before=before: all(c.problem or c.rounds > n for c, n in zip(clients, before)), 60)
    for client in clients:
        client.stop = True
    for client in clients:
        client.join()
    assert [client.problem for client in clients] == [None] * 9
    assert proxy.metric("worker_splits_total") == 40  # 1 to 3, 1 to 2 to 3
    assert proxy.metric("worker_joins_total") == 20
    assert proxy.metric("query_errors_total") == 0


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_each_thread_gets_its_share_of_clients(make_crew, tmp_path, closing, family):
    path = str(tmp_path / "socket")
    proxy = make_crew(workers=4, config={"proxy": {"tcp_defer_accept": "0s"}} if family == "tcp" else
                      {"proxy": {"listen_address": f"unix:{path}"}})
    force(proxy, 1)
    clients = []
    for _ in range(40):
        client = Wire(proxy.address if family == "tcp" else path)
        clients.append(closing(client).login({"user": "app", "database": "app"}))
    assert sum(shares(proxy)) == 40
    assert shares(proxy)[-1] - shares(proxy)[0] <= 2
    force(proxy, 4)
    for active in (4, 2):
        force(proxy, active)
        for i, client in enumerate(clients):
            assert client.rows(f"SELECT {i}") == [[str(i)]]
    force(proxy, 1)
    for client in clients:
        client.close()
    wait_until(lambda: shares(proxy) == [0, 0, 0, 0])


def test_a_storm_of_clients_is_spread(make_crew, closing):
    """All knock before the first is let in: those on their way count."""
    proxy = make_crew(workers=2)
    force(proxy, 1)
    clients = [closing(Wire(proxy.address)) for _ in range(60)]
    for client in clients:
        client.startup({"user": "app", "database": "app"})
    for client in clients:
        client.finish_login({"user": "app", "database": "app"})
    assert sum(shares(proxy)) == 60
    assert shares(proxy)[-1] - shares(proxy)[0] <= 2


def switches(proxy, thread):
    """How often the thread went to sleep, or was put to sleep."""
    for task in os.listdir(f"/proc/{proxy.process.pid}/task"):
        with open(f"/proc/{proxy.process.pid}/task/{task}/comm", encoding="utf-8") as f:
            if f.read().strip() != thread:
                continue
        with open(f"/proc/{proxy.process.pid}/task/{task}/status", encoding="utf-8") as f:
            return sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", f.read()))
    raise AssertionError(f"no thread {thread}")


def test_a_parked_thread_sleeps(make_crew, closing):
    proxy = make_crew(workers=2)
    force(proxy, 2)
    clients = [closing(proxy.wire()) for _ in range(4)]
    force(proxy, 1)
    before = switches(proxy, "worker-1")
    for i in range(100):
        for client in clients:
            assert client.rows(f"SELECT {i}") == [[str(i)]]
    assert switches(proxy, "worker-1") <= before + 3  # it may just have been about to lie down


def test_an_idle_proxy_does_not_look_at_itself(make_crew, closing):
    """Each worker ticks once a second, and nothing else: a window is 20 ms."""
    proxy = make_crew(workers=2)
    closing(proxy.wire())
    force(proxy, 0)
    began, before = time.monotonic(), switches(proxy, "worker-0") + switches(proxy, "worker-1")
    time.sleep(2)
    slept = switches(proxy, "worker-0") + switches(proxy, "worker-1") - before
    assert slept <= 6 * (time.monotonic() - began) + 10


def test_an_idle_proxy_does_not_spin(make_crew, closing):
    """Whatever it did for the client that was just there: the ticks of its workers are no reason to."""
    proxy = make_crew(config={"proxy": {"spin": "auto", "spin_most": "1ms"}}, workers=2)
    client = closing(proxy.wire())
    for i in range(3000):
        assert client.rows(f"SELECT {i}") == [[str(i)]]

    def goes_on(seconds):
        before, turns = proxy.metric("loop_spins_total"), proxy.metric("loop_turns_total")
        wait_until(lambda: proxy.metric("loop_turns_total") > turns)
        time.sleep(seconds)
        return proxy.metric("loop_spins_total") > before

    wait_until(lambda: not goes_on(0.1))
    assert not goes_on(2)
    assert proxy.metric("worker_spins") == 0
    assert client.rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("changes", [{"spin": "off"}, {"spin_most": "0s"}], ids=str)
def test_a_reload_ends_spinning(make_crew, closing, changes):
    """src/loop/crew_test.c has what goes on inside."""
    proxy = make_crew(config={"proxy": {"spin_most": "1ms"}}, workers=1)
    client = closing(proxy.wire())
    for i in range(1000):
        assert client.rows(f"SELECT {i}") == [[str(i)]]
    proxy.reload({"proxy": changes})
    proxy.settle()
    before = proxy.metric("loop_spins_total")
    for i in range(2000):
        assert client.rows(f"SELECT {i}") == [[str(i)]]
    assert proxy.metric("worker_spins") == 0
    assert proxy.metric("loop_spins_total") == before


@pytest.mark.parametrize("active", [1, 2, 3])
def test_ends_with_clients_while_threads_are_parked(make_crew, closing, active):
    proxy = make_crew()
    clients = [closing(proxy.wire()) for _ in range(6)]
    clients[0].query("BEGIN")
    force(proxy, 3)
    force(proxy, active)
    proxy.reload({"pool": {"max_connections": 7}})
    proxy.process.send_signal(signal.SIGTERM)
    for client in clients[1:]:
        client.until_closed()
    assert clients[0].rows("SELECT 1") == [["1"]]
    clients[0].query("COMMIT")
    proxy.wait_end()


def test_is_replaced_while_threads_are_parked(make_crew, closing):
    proxy = make_crew()
    client = closing(proxy.wire())
    force(proxy, 2)
    force(proxy, 1)
    old = proxy.take_over()
    with proxy.wire() as fresh:
        assert fresh.rows("SELECT 1") == [["1"]]
    assert client.rows("SELECT 2") == [["2"]]
    client.close()
    wait_until(lambda: old.poll() is not None)
    assert old.returncode == 0


def test_a_fixed_number(make_proxy):
    proxy = make_proxy({"proxy": {"workers": 2, "adaptive_workers": False}})
    assert proxy.admin("/debug/threads?active=1", "POST", body=b"")[0] == 409
    assert proxy.metric("worker_threads_active") == 2


def test_debug_threads_refuses_nonsense(make_crew, make_proxy):
    proxy = make_crew(workers=2)
    for text in ("", "?active=", "?active=3", "?active=-1", "?active=x"):
        assert proxy.admin("/debug/threads" + text, "POST", body=b"")[0] == 400
    assert make_proxy(clock=False).admin("/debug/threads?active=1", "POST", body=b"")[0] == 404
