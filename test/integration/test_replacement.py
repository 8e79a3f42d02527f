"""SIGUSR2: another process takes over, and no connection is refused."""

import json
import os
import signal
import socket
import subprocess

from harness import Proxy, Wire, crowd, wait_until
from harness.proxy import merge
from harness.wire import errors, query, rows, startup_packet, terminate

HURRIED = 3  # the exit code of an end that had to close clients in their transactions
APP = {"user": "app", "database": "app"}


def test_logins_under_way_end_in_the_old_process(make_proxy, closing):
    proxy = make_proxy()
    early = closing(Wire(proxy.address))
    packet = startup_packet(APP)
    early.send(packet[:7])
    wait_until(lambda: proxy.metric("clients") == 1)
    old = proxy.take_over()
    early.send(packet[7:])
    early.finish_login(APP)
    assert early.value("SELECT 'early'") == "early"
    assert old.poll() is None
    early.close()
    wait_until(lambda: old.poll() is not None)
    assert old.returncode == 0


def test_end_after_a_replacement(make_proxy, closing, tmp_path):
    """SIGTERM to the old process while it finishes: the next one's socket and pid files stay."""
    path, pid_file, admin = tmp_path / "clients", tmp_path / "pid", tmp_path / "admin"
    proxy = make_proxy({"proxy": {"pid_file": str(pid_file)}}, start=False)
    proxy.config["proxy"]["listen_address"] = [proxy.config["proxy"]["listen_address"], f"unix:{path}"]
    proxy.start()
    client = proxy.wire()
    client.query("BEGIN")
    old = proxy.take_over()
    old.send_signal(signal.SIGTERM)
    wait_until(lambda: "shutting down" in proxy.log())
    client.query("COMMIT")
    client.until_closed()
    wait_until(lambda: old.poll() is not None)
    assert old.returncode == 0
    assert closing(Wire(str(path))).login(APP).value("SELECT 1") == "1"
    assert int(pid_file.read_text()) == proxy.process.pid
    proxy.stop()
    assert not path.exists() and not pid_file.exists() and not admin.exists()


def test_admin_over_a_unix_socket(make_proxy, tmp_path):
    path = str(tmp_path / "admin.sock")
    proxy = make_proxy(start=False)
    proxy.config["proxy"]["admin_address"] = f"unix:{path}"
    proxy.spawn()
    Proxy.live.append(proxy)

    def live():
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(path)
                s.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
                return b" 200 " in s.recv(100)
        except OSError:
            return False

    wait_until(live)
    old = proxy.process
    proxy.take_over()
    wait_until(lambda: old.poll() is not None)
    wait_until(live)
    proxy.stop()
    assert not os.path.exists(path)


def replaced_while_clients_come(proxy, serve, times):
    with crowd(serve) as clients:
        for _ in range(times):
            clients.goes_on()
            old = proxy.take_over()
            wait_until(lambda old=old: old.poll() is not None)
            assert old.returncode == 0
        clients.goes_on()


def test_replacement_refuses_nobody(make_proxy):
    proxy = make_proxy()

    def serve():
        with proxy.wire() as client:
            assert client.value("SELECT 1") == "1"

    replaced_while_clients_come(proxy, serve, times=1)


def test_replacement_refuses_no_packet(make_proxy):
    """Startup and query in one packet: each is answered."""
    proxy = make_proxy()

    def serve():
        with Wire(proxy.address) as client:
            client.send(startup_packet(APP), query("SELECT 1"), terminate())
            client.finish_login(APP)
            assert rows(client.until_closed()) == [["1"]]

    replaced_while_clients_come(proxy, serve, times=2)


def test_old_clients_go_on_while_the_old_process_drains(make_proxy, closing):
    proxy = make_proxy()
    client = proxy.wire()
    client.query("BEGIN")
    old = proxy.take_over()
    wait_until(lambda: proxy.admin("/readyz")[0] == 200)
    newer = closing(proxy.wire())
    assert newer.value("SELECT 'new'") == "new"
    assert client.value("SELECT 'old'") == "old"
    client.query("COMMIT")
    client.close()
    wait_until(lambda: old.poll() is not None)
    assert old.returncode == 0
    assert newer.value("SELECT 'still'") == "still"


def test_replacement_that_cannot_start_leaves_the_old_one(make_proxy, closing):
    proxy = make_proxy()
    with open(proxy.config_path, "a", encoding="utf-8") as f:
        f.write("\n[[[")
    before = len(proxy.log())
    proxy.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: len(proxy.log()) > before)
    assert closing(proxy.wire()).value("SELECT 1") == "1"
    proxy.check_alive()
    proxy.write_config()


def test_replacement_that_cannot_start_leaves_the_socket_files(make_proxy, closing, tmp_path):
    """It fails when it has the sockets already."""
    path = tmp_path / "clients"
    proxy = make_proxy(start=False)
    proxy.config["proxy"]["listen_address"] = [proxy.config["proxy"]["listen_address"], f"unix:{path}"]
    proxy.start()
    taken = closing(socket.create_server(("127.0.0.1", 0)))
    proxy.config = merge(proxy.config, {"proxy": {"admin_address": f"127.0.0.1:{taken.getsockname()[1]}"}})
    proxy.write_config()
    proxy.process.send_signal(signal.SIGUSR2)
    proxy.wait_log("the next process did not start")
    assert closing(Wire(str(path))).login(APP).value("SELECT 1") == "1"


def test_clients_of_the_old_process_have_a_deadline(make_proxy):
    proxy = make_proxy({"proxy": {"shutdown_drain_timeout": "1s"}})
    client = proxy.wire()
    assert client.value("SELECT 1") == "1"
    old = proxy.take_over()  # that it is served until then, test_old_clients_go_on_... says, without a deadline
    assert errors(client.until_closed()) == ["57P01"]
    wait_until(lambda: old.poll() is not None)
    assert old.returncode == HURRIED


# ---- what operators have changed while it ran ----

def post(proxy, path, body=None, expected=200):
    status, text = proxy.admin(path, "POST", body=json.dumps(body).encode() if body is not None else b"")
    assert status == expected, f"{path}: {status} {text}"


def begin_login(proxy, closing):
    """It waits for a server connection: the new process has not asked a server yet how it greets clients."""
    client = closing(Wire(proxy.address))
    client.startup(APP)
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    return client


def states(proxy):
    """Of databases and nodes, as far as operators have a say."""
    with proxy.connect(database="pgbouncer") as console:
        shown = console.execute("SHOW DATABASES")
        at = {column.name: i for i, column in enumerate(shown.description)}
        databases = {row[at["name"]]: (int(row[at["paused"]]), int(row[at["disabled"]])) for row in shown.fetchall()}
    nodes = {}
    for n in proxy.json("/nodes"):
        deadline = n["draining"] and n["draining"]["deadline_in_ms"]
        nodes[n["name"]] = (n["enabled"], n["enabled"] and n["draining"] is not None, deadline and deadline > 0)
    return databases, nodes


def test_what_operators_have_changed_holds_in_the_next_process(make_proxy, closing, postgres):
    names = ("a", "b", "c", "d")
    nodes = [Proxy.node(("127.0.0.1", 1) if name != "a" else postgres, "standby" if name != "a" else "primary", name=name)
             for name in names[:3]]
    for node, port in zip(nodes[1:], (1, 2)):
        node["port"] = port
    proxy = make_proxy({"admin": {"users": ["app"]}, "nodes": nodes, "databases": {"*": {}, "app": {}, "other": {}, "shut": {"dbname": "app"}}})
    post(proxy, "/api/v1/databases/app/pause")
    post(proxy, "/api/v1/databases/shut/disable")
    post(proxy, "/nodes/b/drain?deadline_secs=3600")
    post(proxy, "/nodes/c/disable")
    post(proxy, "/nodes", {"host": "127.0.0.1", "port": 3, "name": "d"}, expected=201)
    post(proxy, "/nodes/d/drain")
    wait_until(lambda: states(proxy)[1]["c"][0] is False)
    before = states(proxy)
    assert before[0]["app"] == (1, 0) and before[0]["shut"] == (0, 1)
    assert before[1]["b"] == (True, True, True) and before[1]["c"][0] is False and before[1]["d"] == (True, True, None)
    for _ in range(2):  # each hands on what it was handed
        old = proxy.take_over()
        wait_until(lambda old=old: old.poll() is not None)
        assert states(proxy) == before
    waiting = begin_login(proxy, closing)
    assert closing(proxy.wire(database="other", user="app2")).value("SELECT 2") == "2"
    refused = closing(Wire(proxy.address))
    refused.startup({"user": "app", "database": "shut"})
    assert errors(refused.until_closed())
    post(proxy, "/api/v1/databases/app/resume")
    waiting.finish_login(APP)
    assert waiting.value("SELECT 1") == "1"
    for path in ("/api/v1/databases/shut/enable", "/nodes/b/undrain", "/nodes/c/enable", "/nodes/d/undrain"):
        post(proxy, path)
    assert closing(proxy.wire(database="shut")).value("SELECT 3") == "3"
    wait_until(lambda: states(proxy)[1]["c"][0] is True)
    after = states(proxy)
    proxy.take_over()
    assert states(proxy) == after, "and what was taken back is not there any more"
    assert after[1] == {"a": (True, False, None), "b": (True, False, None), "c": (True, False, None), "d": (True, False, None)}


def test_all_are_paused_in_the_next_process(make_proxy, closing):
    proxy = make_proxy({"admin": {"users": ["app"]}})
    console = closing(proxy.wire(database="pgbouncer"))
    assert not errors(console.query("PAUSE"))
    old = proxy.take_over()
    client = begin_login(proxy, closing)
    fresh = closing(proxy.wire(database="pgbouncer"))
    assert errors(fresh.query("PAUSE")) == ["08P01"], "already"
    assert not errors(fresh.query("RESUME"))
    client.finish_login(APP)
    assert client.value("SELECT 1") == "1"
    console.close()
    wait_until(lambda: old.poll() is not None)


def test_a_state_that_is_not_understood_ends_the_start(make_proxy, tmp_path):
    """As one that a newer version has written: nothing is undone behind the operator's back."""
    state = tmp_path / "state"
    proxy = make_proxy(start=False)
    proxy.write_config()
    for text in (b"2\0", b"1\0pause", b"1\0drain\0h\0" + b"5\0", b"1\0members\0{}\0", b"1\0what\0x\0", b"x" * 100):
        state.write_bytes(text)
        with open(state, "rb") as f:
            os.dup2(f.fileno(), 77)
            try:
                done = subprocess.run(proxy.command(), env={**os.environ, "HELIOS_STATE_FD": "77"}, pass_fds=[77], capture_output=True,
                                      timeout=60)
            finally:
                os.close(77)
        assert done.returncode == 1 and b"is not understood" in done.stderr, (text, done.stderr)
