"""Limits and lifetimes of the process and of links: jitter, descriptors, the watchdog, exit codes, bounded pipelines."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import threading

import pytest
from harness import Proxy, lease_port, wait_until
from harness.proxy import merge
from harness.wire import ServerError, errors, query, rows, run, sync

WRONG_CONFIG_OR_START, WRONG_USAGE = 1, 2  # exit codes, as heliosdb-proxy(1) has them


def open_links(proxy):
    return proxy.metric("links_opened_total") - proxy.metric("links_closed_total")


# ---------------------------------------------------------------- clients of a database, of a user

def refused(proxy, limit, **who):
    with pytest.raises(ServerError) as e:
        proxy.wire(**who)
    assert e.value.code == "53300" and limit in e.value.message


def test_clients_of_a_database_and_of_a_user(make_proxy, closing):
    proxy = make_proxy({"databases": {"app": {"max_database_clients": 3}, "postgres": {"dbname": "app"}},
                        "users": {"app": {"max_user_clients": 2}}})
    first, second = (closing(proxy.wire()) for _ in range(2))
    refused(proxy, "max_user_client_connections")
    refused(proxy, "max_user_client_connections", database="postgres")  # over all databases
    third = closing(proxy.wire(user="app2"))
    refused(proxy, "max_db_client_connections", user="app2")  # over all users
    closing(proxy.wire(user="app2", database="postgres"))
    assert proxy.metric("login_failures_total") == 3
    second.close()
    wait_until(lambda: proxy.metric("clients") == 3)
    second = closing(proxy.wire())
    proxy.reload({"databases": {"app": {"max_database_clients": 1}}})  # whoever is there stays
    assert first.value("SELECT 1") == second.value("SELECT 1") == third.value("SELECT 1") == "1"
    refused(proxy, "max_db_client_connections", user="app2")
    proxy.reload({"databases": {"app": {"max_database_clients": 0}}})
    for _ in range(5):
        closing(proxy.wire(user="app2"))


@pytest.mark.parametrize("mode", ["trust", "passthrough", "scram-sha-256"])
def test_no_place_is_lost(make_proxy, closing, mode):
    """However a login ends, and many at once: as many as the limit says get in, and after them as many again."""
    users = {"users": {"app": {"password": "app"}}} if mode == "scram-sha-256" else {}
    proxy = make_proxy({"auth": {"mode": mode}, "pool": {"mode": "transaction", "max_database_clients": 4}, **users})
    for _ in range(3):
        inside, outside = [], []

        def login():
            try:
                inside.append(closing(proxy.wire(password="app")))
            except ServerError as e:
                outside.append(e.code)

        threads = [threading.Thread(target=login) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(inside) == 4 and outside == ["53300"] * 8
        assert all(client.value("SELECT 1") == "1" for client in inside)
        for client in inside:
            client.close()
        wait_until(lambda: proxy.metric("clients") == 0)


# ---------------------------------------------------------------- links

def test_lifetimes_are_spread(make_proxy, closing):
    """Links born together must not die together: each lives up to a tenth less than max_lifetime, by chance."""
    proxy = make_proxy({"pool": {"max_connections": 20, "max_lifetime": "10000s", "idle_timeout": 0,
                                 "query_wait_timeout": 0, "pool_idle_timeout": 0},
                        "health": {"check_interval": "86400s"}})
    clients = [closing(proxy.wire()) for _ in range(20)]
    for text in ("BEGIN", "COMMIT"):
        for client in clients:
            client.query(text)
    proxy.advance(8900)  # the oldest has a hundred seconds left, at the least
    assert open_links(proxy) == 20
    seen = set()
    for _ in range(24):
        proxy.advance(50)
        seen.add(open_links(proxy))
    proxy.advance_until(lambda: open_links(proxy) == 0, step=50, limit=500)
    assert len(seen - {0, 20}) > 3, seen


@pytest.mark.parametrize("reset,plain,changed", [("always", 1, 1), ("when_changed", 0, 1), ("never", 0, 0)])
def test_when_links_are_reset(make_proxy, reset, plain, changed):
    proxy = make_proxy({"pool": {"mode": "session", "max_connections": 1, "reset": reset}})

    def resets_of(sql):
        before = proxy.metric("resets_total")
        with proxy.wire() as client:
            assert not errors(client.query(sql))
        with proxy.wire() as client:  # it gets the link when the reset is over
            client.query("SELECT 1")
            return proxy.metric("resets_total") - before

    first = resets_of("SELECT 1")
    assert (first > 0) == bool(plain)
    assert (resets_of("CREATE TEMP TABLE kept (a int)") > 0) == bool(changed)


def test_a_pipeline_beyond_its_limit_pauses_and_ends(make_proxy, closing):
    """max_pipeline: more messages than may be under way; nothing is lost, and others go on."""
    proxy = make_proxy({"limits": {"max_pipeline": 64}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    count = 2000
    sender = threading.Thread(target=client.send, args=[run("SELECT $1::int", [i]) + sync() for i in range(count)])
    sender.start()
    assert other.value("SELECT 'other'") == "other"
    assert rows(client.until_ready(count)) == [[str(i)] for i in range(count)]
    sender.join()


@pytest.mark.parametrize("keepalive", ["60s", "0s"])
def test_sockets_have_keepalive(make_proxy, closing, postgres, keepalive):
    """Both sides: else a host that vanishes without a word is never missed."""
    proxy = make_proxy({"proxy": {"tcp_keepalive": keepalive}})
    client = closing(proxy.wire())
    client.query("BEGIN")
    folder = f"/proc/{proxy.process.pid}/fd"
    inodes = {os.readlink(f"{folder}/{fd}").removeprefix("socket:[").rstrip("]") for fd in os.listdir(folder)}

    def timers():
        """{port of the client's or the server's end: timer} of the proxy's own sockets. 02: keepalive, 00: none"""
        found = {}
        with open("/proc/net/tcp", encoding="utf-8") as f:
            for line in f.read().splitlines()[1:]:
                _, local, remote, state, _, timer, _, _, _, inode = line.split()[:10]
                if inode in inodes and state == "01":
                    local, remote = int(local[-4:], 16), int(remote[-4:], 16)
                    if local == proxy.port or remote == postgres.port:
                        found["client" if local == proxy.port else "server"] = timer[:2]
        return found

    expected = "00" if keepalive == "0s" else "02"
    wait_until(lambda: timers() == {"client": expected, "server": expected}, 20, lambda: str(timers()))


# ---------------------------------------------------------------- descriptors

def test_the_descriptor_limit_is_raised(make_proxy):
    proxy = make_proxy({"proxy": {"max_clients": 100}}, start=False)
    command = proxy.command()
    proxy.command = lambda: ["prlimit", "--nofile=256:4096", *command]
    proxy.start()
    assert resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE) == (4096, 4096)
    assert "too few file descriptors" not in proxy.log()


def test_too_low_a_descriptor_limit_is_told_with_numbers(make_proxy):
    proxy = make_proxy({"proxy": {"max_clients": 10000}}, nofile=512)
    proxy.wait_log(r"warning too few file descriptors.*LimitNOFILE.*limit=512")


# ---------------------------------------------------------------- systemd

class Notify:
    """The socket that systemd listens on."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.said = []

    def take(self):
        self.socket.setblocking(False)
        try:
            while True:
                self.said += self.socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self.said

    def hears(self, word):
        """word comes after all that was said before now."""
        known = len(self.take())
        wait_until(lambda: any(line.startswith(word) for line in self.take()[known:]), 20,
                   lambda: f"no {word}: {self.said}")


@pytest.fixture
def notify(tmp_path):
    made = Notify(str(tmp_path / "notify"))
    yield made
    made.socket.close()


def test_reload_is_told_to_systemd(make_proxy, notify):
    proxy = make_proxy(env={"NOTIFY_SOCKET": notify.socket.getsockname()})
    wait_until(lambda: "READY=1" in notify.take())  # the admin API answers a moment earlier
    known = len(notify.take())
    proxy.reload({"pool": {"max_connections": 3}})
    wait_until(lambda: "READY=1" in notify.take()[known:])
    assert "RELOADING=1" in notify.take()[known:]


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


class Stuck:
    """Stops one thread of a process, as if it hung: with ptrace, whose calls must come from one thread of ours."""

    def __init__(self, pid, name):
        self.thread = next(int(t) for t in os.listdir(f"/proc/{pid}/task")
                           if open(f"/proc/{pid}/task/{t}/comm", encoding="utf-8").read().strip() == name)
        self.ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        self.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def __enter__(self):
        if self.ptrace(PTRACE_SEIZE, self.thread, None, None) < 0:
            pytest.skip("no ptrace here")
        self.ptrace(PTRACE_INTERRUPT, self.thread, None, None)
        os.waitpid(self.thread, 0x40000000)  # __WALL
        return self

    def __exit__(self, *_):
        self.ptrace(PTRACE_DETACH, self.thread, None, None)


def test_watchdog_hears_nothing_of_a_stuck_worker(make_proxy, notify):
    """The control thread alone is not the proxy: systemd must notice when a worker hangs."""
    proxy = make_proxy({"proxy": {"workers": 2}, "health": {"check_interval": "86400s"}},
                       env={"NOTIFY_SOCKET": notify.socket.getsockname(), "WATCHDOG_USEC": "1000000000"})

    def control_turns():
        """A period of the watchdog passes, and the control thread looks for what is due."""
        proxy.advance(600, stuck=True)
        for _ in range(2):  # the second signal is taken behind all that the first turn had to do
            count = proxy.log().count("log file opened anew")
            proxy.process.send_signal(signal.SIGUSR1)
            wait_until(lambda: proxy.log().count("log file opened anew") > count)

    def hears():
        known = len(notify.take())
        control_turns()
        return "WATCHDOG=1" in notify.take()[known:]

    wait_until(hears)
    with Stuck(proxy.process.pid, "worker-0"):  # one that is never parked
        hears()  # an answer may have been under way
        assert not any(hears() for _ in range(2))
    wait_until(hears)


# ---------------------------------------------------------------- exit codes

@pytest.mark.parametrize("arguments,code", [
    (["--nonsense"], WRONG_USAGE), ([], WRONG_USAGE), (["--config"], WRONG_USAGE),
    (["--config", "/nonexistent.toml"], WRONG_CONFIG_OR_START), (["--version"], 0), (["--help"], 0),
])
def test_exit_codes_of_the_command_line(make_proxy, arguments, code):
    done = subprocess.run([make_proxy(start=False).binary, *arguments], stdout=subprocess.PIPE, check=False,
                          stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == code, done.stdout
    assert done.stdout.strip(), "it says what and why"


def test_exit_code_of_a_start_that_fails(make_proxy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for key in ("listen_address", "admin_address"):
            proxy = make_proxy(start=False)
            proxy.config = merge(proxy.config, {"proxy": {key: f"127.0.0.1:{taken.getsockname()[1]}"}})
            proxy.expects_failure = True
            proxy.spawn()
            assert proxy.process.wait(20) == WRONG_CONFIG_OR_START, key
            assert str(taken.getsockname()[1]) in proxy.log()


def test_exit_code_of_a_wrong_configuration(make_proxy):
    proxy = make_proxy({"pool": {"max_connections": 0}}, start=False)
    proxy.expects_failure = True
    proxy.spawn()
    assert proxy.process.wait(20) == WRONG_CONFIG_OR_START
    assert f"{proxy.config_path}:" in proxy.log()


def test_a_signal_before_the_first_client_ends_it_well(make_proxy):
    proxy = make_proxy()
    proxy.process.send_signal(signal.SIGTERM)
    proxy.wait_end(expected=0)


# ---------------------------------------------------------------- names

def test_a_node_whose_name_does_not_resolve_harms_no_other(make_proxy, closing, postgres):
    """DNS failure at the start: the others serve, and its own clients are told which name it was."""
    lease = lease_port()
    proxy = make_proxy({"nodes": [Proxy.node(postgres, name="a"),
                                  {"host": "no-such-host.invalid", "port": lease.port, "role": "primary", "name": "b"}],
                        "databases": {"other": {"node": "b"}, "app": {"node": "a"}}})
    lease.release()
    with pytest.raises(Exception) as e:
        proxy.wire(database="other").value("SELECT 1")
    assert getattr(e.value, "code", None) == "08001"
    client = closing(proxy.wire())
    client.send(query("SELECT 'serves'"))
    assert rows(client.until_ready()) == [["serves"]]
