"""The proxy as a service: signals, reload, logs, admin address, options."""

import ctypes
import errno
import json
import os
import re
import signal
import socket
import subprocess
import threading
import tomllib
import urllib.error
import urllib.request

import pytest
from harness import Proxy, ServerError, Wire, lease_port, wait_until
from harness.hosts import Hosts
from harness.postgres import PASSWORD
from harness.proxy import merge, toml
from harness.wire import Closed, errors, query, rows


APP = {"user": "app", "database": "app"}


# ---------------------------------------------------------------- SIGHUP

def test_reload(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    clients = [closing(proxy.wire()) for _ in range(2)]
    clients[0].query("BEGIN")
    clients[1].send(query("SELECT 'second link'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    before = len(proxy.log())
    proxy.reload({"pool": {"max_connections": 2}})
    assert rows(clients[1].until_ready()) == [["second link"]]
    said = proxy.log()[before:]
    assert "max_connections" in said, "the difference is logged"
    clients[0].query("COMMIT")


def test_reload_changes_the_mode(make_proxy, closing):
    proxy = make_proxy({"pool": {"mode": "session", "max_connections": 1}})
    first = closing(proxy.wire())
    first.query("SELECT 1")
    proxy.reload({"pool": {"mode": "transaction"}})
    first.query("SELECT 1")
    assert closing(proxy.wire()).value("SELECT 1") == "1"
    assert first.value("SELECT 2") == "2"


@pytest.mark.parametrize("damage", ["syntax", "key", "value", "missing"])
def test_invalid_reload_is_refused(make_proxy, closing, damage):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    client = closing(proxy.wire())
    good = open(proxy.config_path, encoding="utf-8").read()
    bad = {"syntax": good + "\n[[[", "key": good.replace("max_connections", "max_conections"),
           "value": good.replace("max_connections = 1", "max_connections = 0"), "missing": None}[damage]
    if bad is None:
        os.unlink(proxy.config_path)
    else:
        with open(proxy.config_path, "w", encoding="utf-8") as f:
            f.write(bad)
    proxy.process.send_signal(signal.SIGHUP)
    proxy.wait_log("configuration not reloaded")
    assert client.value("SELECT 1") == "1"
    assert closing(proxy.wire()).value("SELECT 1") == "1"
    assert proxy.admin("/readyz")[0] == 200
    proxy.reload({"pool": {"max_connections": 3}})
    assert client.value("SELECT 1") == "1"


def test_reload_of_what_needs_a_restart_says_so(make_proxy, closing):
    proxy = make_proxy()
    client = closing(proxy.wire())
    before = len(proxy.log())
    proxy.reload({"proxy": {"workers": 3}, "pool": {"max_connections": 7}})
    wait_until(lambda: "workers" in proxy.log()[before:] and "restart" in proxy.log()[before:])
    assert client.value("SELECT 1") == "1"


def test_many_reloads_under_load(make_proxy):
    proxy = make_proxy({"pool": {"max_connections": 3}})
    stop, problems = threading.Event(), []

    def work():
        try:
            while not stop.is_set():
                with proxy.wire() as client:
                    for i in range(20):
                        if client.value(f"SELECT {i}") != str(i):
                            problems.append(i)
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for i in range(20):
        proxy.reload({"pool": {"max_connections": 1 + i % 4, "mode": ("session", "transaction")[i % 2],
                               "idle_timeout": f"{i + 1}s"}})
    stop.set()
    for t in threads:
        t.join()
    assert not problems


def test_reload_of_nodes(make_proxy, closing, make_postgres):
    """The node is replaced by another: transactions end where they are, the next ones run on the new one."""
    old, new = make_postgres(), make_postgres()
    proxy = make_proxy(postgres=old)
    client = closing(proxy.wire())
    client.query("BEGIN")
    assert client.value("SHOW port") == str(old.port)
    proxy.reload({"nodes": [Proxy.node(new)]})
    assert client.value("SHOW port") == str(old.port)
    client.query("COMMIT")
    wait_until(lambda: client.value("SHOW port") == str(new.port))


@pytest.mark.parametrize("change,sql,before,after", [
    ({"dbname": "other"}, "current_database()", "app", "other"), ({"user": "app2"}, "session_user", "trust_user", "app2")])
def test_reload_of_where_a_database_leads(make_proxy, closing, change, sql, before, after):
    """Clients that are there stay, and meet what is new with their next transaction; old links are closed."""
    table = {"dbname": "app"}
    proxy = make_proxy({"databases": {"shop": table}})
    idle, busy = (closing(proxy.wire(database="shop", user="trust_user")) for _ in range(2))
    assert idle.value(f"SELECT {sql}") == before
    busy.query("BEGIN")
    old = busy.server_pid()
    start = len(proxy.log())
    proxy.reload({"databases": {"shop": {**table, **change}}})
    wait_until(lambda: "configuration reloaded" in proxy.log()[start:])
    assert "lead elsewhere" in proxy.log()[start:]
    assert busy.value(f"SELECT {sql}") == before, "a transaction ends where it began"
    assert idle.value(f"SELECT {sql}") == after
    assert busy.server_pid() == old
    busy.query("COMMIT")
    assert busy.value(f"SELECT {sql}") == after
    assert closing(proxy.wire(database="shop", user="trust_user")).value(f"SELECT {sql}") == after
    wait_until(lambda: proxy.metric("links_opened_total") - proxy.metric("links_closed_total") <= 2)
    start = len(proxy.log())
    proxy.reload()
    wait_until(lambda: "configuration reloaded" in proxy.log()[start:])
    assert "lead elsewhere" not in proxy.log()[start:], "nothing changed"


def test_reload_without_a_database(make_proxy, closing):
    """Who is there stays; nobody comes in any more."""
    proxy = make_proxy({"databases": {"shop": {"dbname": "app"}, "app": {}}})
    client = closing(proxy.wire(database="shop"))
    assert client.value("SELECT current_database()") == "app"
    proxy.reload({"databases": {"shop": None}})
    proxy.wait_log("configuration reloaded")
    assert client.value("SELECT current_database()") == "app"
    with pytest.raises(ServerError) as e:
        proxy.wire(database="shop")
    assert e.value.code == "3D000"
    assert closing(proxy.wire()).value("SELECT 1") == "1"


def test_reload_of_a_databases_password(make_proxy, closing, make_postgres):
    server = make_postgres()
    table = {"dbname": "app", "user": "scram_user", "password": PASSWORD}
    proxy = make_proxy({"databases": {"shop": table}}, postgres=server)
    client = closing(proxy.wire(database="shop"))
    old = client.server_pid()
    server.sql("ALTER ROLE scram_user PASSWORD 'new'")
    assert client.server_pid() == old, "the password is asked for at logins only"
    proxy.reload({"databases": {"shop": {**table, "password": "new"}}})
    proxy.wait_log("configuration reloaded")
    assert "'new'" not in proxy.log() and PASSWORD not in proxy.log()
    assert client.rows("SELECT session_user, pg_backend_pid() <> " + old) == [["scram_user", "t"]]
    proxy.reload({"databases": {"shop": {**table, "password": "wrong"}}})
    wait_until(lambda: proxy.log().count("configuration reloaded") == 2)
    assert errors(client.query("SELECT 1")) == ["28P01"]


# ---------------------------------------------------------------- logs

def test_log_file_is_opened_anew(make_proxy, tmp_path):
    log = tmp_path / "proxy.log"
    proxy = make_proxy({"log": {"file": str(log)}})
    proxy.wire(application_name="first").close()
    wait_until(lambda: "app" in log.read_text())
    os.rename(log, tmp_path / "old.log")
    proxy.process.send_signal(signal.SIGUSR1)
    wait_until(log.exists)
    proxy.wire().close()
    wait_until(lambda: log.read_text())


def test_json_log(make_proxy):
    proxy = make_proxy({"log": {"format": "json"}})
    proxy.wire(application_name='quo"te\\ \u0001').close()
    with pytest.raises(ServerError):
        proxy.wire(database='no"such\\database').query("SELECT 1")
        raise ServerError({"C": "3D000"})
    wait_until(lambda: len(proxy.log_lines()) > 2)
    for line in proxy.log_lines():
        assert isinstance(json.loads(line), dict)


def test_log_lines_have_no_control_characters(make_proxy):
    """A user name must not forge a log line."""
    proxy = make_proxy()
    with pytest.raises((ServerError, Closed)):
        proxy.wire(user="x\n2020-01-01 FORGED\r\x1b[31m").query("SELECT 1")
        raise Closed
    assert not re.search(r"^2020-01-01 FORGED", proxy.log(), re.M)
    assert "\x1b[31m" not in proxy.log()


def test_log_of_a_full_disk(make_proxy, closing):
    proxy = make_proxy({"log": {"file": "/dev/full"}})
    for _ in range(20):
        assert closing(proxy.wire()).value("SELECT 1") == "1"


# ---------------------------------------------------------------- the admin address

def test_health(make_proxy):
    proxy = make_proxy()
    for path in ("/health", "/healthz", "/livez", "/readyz"):
        assert proxy.admin(path)[0] == 200, path
    assert proxy.admin("/nonsense")[0] == 404
    assert proxy.admin("/metrics", method="DELETE")[0] in (404, 405)


def test_readyz_tells_when_no_server_is_there(make_proxy, make_postgres):
    server = make_postgres()
    proxy = make_proxy(postgres=server, config={"health": {"check_interval_secs": 1}})
    server.stop()

    def unready():
        proxy.advance(5)
        return proxy.admin("/readyz")[0] == 503

    wait_until(unready)
    assert proxy.admin("/livez")[0] == 200
    server.start()

    def ready():
        proxy.advance(5)
        return proxy.admin("/readyz")[0] == 200

    wait_until(ready)


def test_views(make_proxy, closing, postgres):
    proxy = make_proxy()
    client = closing(proxy.wire(application_name="seen"))
    client.query("BEGIN")
    nodes = proxy.json("/nodes")
    nodes = nodes if isinstance(nodes, list) else nodes["nodes"]
    assert any(str(postgres.port) in json.dumps(n) for n in nodes)
    (pool,) = [p for p in proxy.pools() if p["user"] == "app"]
    assert pool["active_connections"] == 1
    assert "seen" in json.dumps(proxy.sessions()) or any(s.get("user") == "app" for s in proxy.sessions())
    assert proxy.metric("clients") == 1


def test_metrics_are_prometheus_text(make_proxy):
    status, text = make_proxy().admin("/metrics")
    assert status == 200
    names = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram", "summary", "untyped")
            assert name not in names, "each metric is described once"
            names.add(name)
        elif line and not line.startswith("#"):
            name = re.match(r"[\w:]+", line)[0]
            assert name.startswith("heliosdb_proxy_") or name.startswith("process_"), line
            assert name in names or re.sub(r"_(bucket|sum|count|total)$", "", name) in names, line


def test_token(make_proxy):
    proxy = make_proxy({"proxy": {"admin_token": "s3cret"}})
    assert proxy.admin("/pools")[0] == 200
    bare = urllib.request.Request(f"http://127.0.0.1:{proxy.admin_port}/pools")
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(bare, timeout=60)
    assert e.value.code == 401
    assert proxy.admin("/pools", token="wrong")[0] in (401, 403)
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin_port}/livez", timeout=60) as answer:
        assert answer.status == 200


def test_admin_beyond_loopback_needs_a_token(make_proxy, closing):
    """The quick start's admin address: it runs, says so, and answers health checks only."""
    proxy = make_proxy(start=False)
    proxy.config = merge(proxy.config, {"proxy": {"admin_address": f"0.0.0.0:{proxy.admin_port}"}})
    proxy.start()
    proxy.wait_log("warning.*admin_token")
    assert proxy.admin("/livez")[0] == 200
    assert proxy.admin("/pools")[0] == proxy.admin("/metrics")[0] == 403
    assert proxy.admin("/reload", method="POST", body=b"")[0] == 403
    assert closing(proxy.wire()).value("SELECT 1") == "1"


def test_version_tells_the_same_as_the_command_line(make_proxy):
    proxy = make_proxy()
    said = subprocess.run([proxy.binary, "--version"], text=True, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    features = proxy.json("/version")["features"]
    assert re.search("features: (.*)", said)[1].split() == features
    assert {"pool-modes", "routing-hints", "lag-routing", "circuit-breaker", "query-analytics",
            "observability", "postgres-topology"} <= set(features), "what is there has the reference's names, too"


def kernel_has_io_uring():
    ring = ctypes.CDLL(None, use_errno=True).syscall(425, 0, 0)  # io_uring_setup: no entries, so it makes none
    return ring == -1 and ctypes.get_errno() in (errno.EINVAL, errno.EFAULT)


@pytest.mark.parametrize("io", ["epoll", "io_uring", "auto"])
def test_the_back_end_that_was_asked_for_runs(make_proxy, closing, io):
    proxy = make_proxy({"proxy": {"io": io}}, start=False)
    features = subprocess.run([proxy.binary, "--version"], text=True, stdout=subprocess.PIPE, check=True).stdout.split()
    if io == "io_uring" and not (io in features and kernel_has_io_uring()):
        assert proxy.start_fails() == 1
        proxy.wait_log("io_uring cannot be used.*reason=")
        return
    proxy.start()
    runs = proxy.json("/version")["io"]
    assert runs == io if io != "auto" else runs in ("epoll", "io_uring")
    proxy.wait_log(f"listening .*io={runs}")
    assert closing(proxy.wire()).value("SELECT 1") == "1"


def test_reload_over_the_admin_api(make_proxy, postgres):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    proxy.config = merge(proxy.config, {"pool": {"max_connections": 2}})
    proxy.write_config()
    assert proxy.admin("/reload", method="POST", body=b"")[0] == 200
    proxy.wait_log("configuration reloaded")
    by_flags = make_proxy(start=False)
    by_flags.command = lambda: [by_flags.binary, "--primary", f"127.0.0.1:{postgres.port}", "--listen",
                                f"127.0.0.1:{by_flags.port}", "--admin", f"127.0.0.1:{by_flags.admin_port}"]
    by_flags.start()
    assert by_flags.admin("/reload", method="POST", body=b"")[0] == 409  # there is no file


def test_admin_survives_garbage(make_proxy):
    proxy = make_proxy()
    for data in (b"\0" * 100, b"GET " + b"/" * 100000 + b" HTTP/1.1\r\n\r\n",
                 b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", os.urandom(2000), b"GET /metrics HTTP/1.0\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", proxy.admin_port), 10) as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                s.recv(100)
            except OSError:
                pass  # it may hang up at any time
    assert proxy.admin("/livez")[0] == 200


# ---------------------------------------------------------------- listening

def test_several_addresses(make_proxy, closing, tmp_path):
    lease = lease_port()
    path = str(tmp_path / ".s.PGSQL.6432")
    addresses = [f"127.0.0.1:{lease.port}", f"unix:{path}"]
    if os.path.exists("/proc/net/if_inet6") and open("/proc/net/if_inet6", encoding="utf-8").read():
        addresses.append(f"[::1]:{lease.port}")
    proxy = make_proxy(start=False)
    proxy.config = merge(proxy.config, {"proxy": {"listen_address": addresses}})
    proxy.start()
    places = [("127.0.0.1", lease.port), path] + ([("::1", lease.port)] if len(addresses) == 3 else [])
    for place in places:
        client = closing(Wire(place)).login({"user": "app", "database": "app"})
        assert client.value("SELECT 1") == "1"
        client.cancel()
    proxy.stop()
    assert not os.path.exists(path), "the socket file is taken away at the end"
    lease.release()


def test_server_by_unix_socket(make_proxy, closing, postgres):
    proxy = make_proxy({"nodes": [{"host": postgres.root, "port": postgres.port, "role": "primary"}]})
    client = closing(proxy.wire())
    assert client.value("SELECT inet_client_addr() IS NULL") == "t"
    client.cancel()


def test_server_whose_unix_socket_is_not_there(make_proxy, closing, tmp_path):
    """Connecting fails at once, inside of the call that begins it: the client is told, rather than left to wait."""
    proxy = make_proxy({"nodes": [{"host": str(tmp_path), "port": 5432, "role": "primary"}]})
    with pytest.raises(ServerError) as e:
        closing(proxy.wire()).rows("SELECT 1")
    assert e.value.code == "08001"
    proxy.wait_log(f"tried=.*{tmp_path}/.s.PGSQL.5432: No such file")


def test_server_by_name(make_proxy, closing, postgres):
    proxy = make_proxy({"nodes": [{"host": "localhost", "port": postgres.port, "role": "primary"}]})
    assert closing(proxy.wire()).value("SELECT 1") == "1"


def full_listener(address):
    """A socket at this address at which connections hang, and what keeps it so."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(0)
    clients = []
    for _ in range(4):
        clients.append(socket.socket())
        clients[-1].setblocking(False)
        clients[-1].connect_ex(address)
    return listener, *clients


@pytest.mark.parametrize("works,silent", [(0, False), (1, False), (1, True)])
def test_server_by_a_name_with_two_addresses(make_proxy, make_postgres, closing, tmp_path, works, silent):
    """They are tried in turn. The name is in a hosts file that only the proxy under test sees."""
    hosts = Hosts(tmp_path, {"two.test": ["127.0.0.1", "127.0.0.2"]})
    order = hosts.resolve("two.test")
    if len(order) != 2:
        pytest.skip("the resolver gives one address")
    server = make_postgres({"listen_addresses": order[works]})
    node = {"host": "two.test", "port": server.port, "role": "primary"}
    proxy = make_proxy({"nodes": [node], "pool": {"login_retry": "0s"}, "health": {"check_interval": "1s"}}, start=False)
    hosts.show_to(proxy)
    for held in full_listener((order[0], server.port)) if silent else ():
        closing(held)
    if silent:
        proxy.spawn()
        Proxy.live.append(proxy)
        proxy.wait_log("admin API")
    else:
        proxy.start()
    client = closing(Wire(proxy.address))
    client.startup(APP)
    if silent:
        proxy.advance_until(lambda: not client.is_quiet(), 1)
    client.finish_login(APP)
    assert client.value("SELECT host(inet_server_addr())") == order[works]
    client.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: server.backends("wait_event = 'PgSleep'"))
    client.cancel()
    assert errors(client.until_ready()) == ["57014"], "cancels go where the link leads"
    node_is = {}

    def checked(wanted):
        proxy.advance(2)
        node_is.update(proxy.json("/nodes")[0] if isinstance(proxy.json("/nodes"), list) else
                       proxy.json("/nodes")["nodes"][0])
        return node_is["healthy"] is wanted and node_is["last_check"]

    wait_until(lambda: checked(True))
    server.stop()
    wait_until(lambda: checked(False))
    if silent:
        return
    assert errors(closing(proxy.wire()).query("SELECT 1")) == ["08001"]
    wait_until(lambda: re.search(r"127\.0\.0\.1:\d+: Connection refused", proxy.log()) and
               re.search(r"127\.0\.0\.2:\d+: Connection refused", proxy.log()))


def test_port_in_use(make_proxy):
    proxy = make_proxy()
    second = make_proxy(start=False)
    second.config = merge(second.config, {"proxy": {"listen_address": f"127.0.0.1:{proxy.port}"}})
    second.expects_failure = True
    second.spawn()
    assert second.process.wait(20) != 0
    assert str(proxy.port) in second.log()


def test_pid_file(make_proxy, tmp_path):
    path = tmp_path / "proxy.pid"
    proxy = make_proxy({"proxy": {"pid_file": str(path)}})
    assert int(path.read_text()) == proxy.process.pid
    proxy.stop()
    assert not path.exists()


@pytest.mark.parametrize("io", ["epoll", "auto"])
def test_io(make_proxy, closing, io):
    assert closing(make_proxy({"proxy": {"io": io}}).wire()).value("SELECT 1") == "1"


def test_notify_of_systemd(make_proxy, tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(20)
        proxy = make_proxy(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"})
        said = ""

        def heard(word):
            nonlocal said
            while word not in said:
                said += notify.recv(4096).decode() + "\n"

        heard("READY=1")
        heard("WATCHDOG=1")
        proxy.process.send_signal(signal.SIGTERM)
        heard("STOPPING=1")
        proxy.wait_end()


def test_socket_activation(make_proxy, closing):
    proxy = make_proxy(start=False)
    listener = socket.create_server(("127.0.0.1", proxy.port))
    proxy.write_config()
    script = 'exec 3<&"$FD"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    with open(proxy.log_path, "ab") as log:
        proxy.process = subprocess.Popen(["bash", "-c", script, "bash", *proxy.command()], stdout=log, stderr=log,
                                         env=dict(os.environ, FD=str(listener.fileno())),
                                         pass_fds=[listener.fileno()])
    Proxy.live.append(proxy)
    wait_until(proxy._is_ready)
    listener.close()
    with proxy.wire() as client:
        assert client.value("SELECT 1") == "1"
    old = proxy.take_over()
    wait_until(lambda: old.poll() is not None)
    assert closing(proxy.wire()).value("SELECT 2") == "2"


# ---------------------------------------------------------------- the command line

@pytest.fixture
def command(make_proxy, tmp_path):
    """Runs the binary with a configuration's text: (exit code, output)."""
    binary = make_proxy(start=False).binary

    def run(text, *arguments, env=None):
        path = tmp_path / "proxy.toml"
        path.write_text(text)
        done = subprocess.run([binary, "--config", str(path), *arguments], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=dict(os.environ, **(env or {})), timeout=20, check=False)
        return done.returncode, done.stdout if "--print-config" in arguments else done.stdout + done.stderr

    return run


QUICK_START = """
[proxy]
listen_address = "0.0.0.0:6432"
admin_address = "127.0.0.1:9090"
[pool]
mode = "transaction"
min_connections = 5
max_connections = 100
idle_timeout_secs = 300
[load_balancer]
strategy = "least_connections"
read_write_split = true
[health]
check_interval_secs = 5
check_query = "SELECT 1"
failure_threshold = 3
[[nodes]]
host = "127.0.0.1"
port = 5432
role = "primary"
[[nodes]]
host = "127.0.0.2"
port = 5432
role = "standby"
sync = true
[[nodes]]
host = "127.0.0.3"
port = 5432
role = "standby"
"""


def test_quick_start_file(command):
    code, said = command(QUICK_START, "--check-config")
    assert code == 0, said
    code, said = command(QUICK_START.replace('[proxy]\n', ''), "--check-config")
    assert code == 0, said


@pytest.mark.parametrize("change,word", [
    ('max_connections = 100', ('max_conections = 100', "max_connections")),
    ('mode = "transaction"', ('mode = "transactional"', "transaction")),
    ('port = 5432', ('port = 543200', "port")),
    ('[pool]', ('[pol]', "pool")),
    ('idle_timeout_secs = 300', ('idle_timeout = "300 parsecs"', "idle_timeout")),
    ('role = "primary"', ('role = "master"', "primary")),
    ('max_connections = 100', ('max_connections = "many"', "max_connections")),
], ids=lambda c: str(c)[:30])
def test_mistakes_are_told_with_their_line(command, change, word):
    text = QUICK_START.replace(change, word[0], 1)
    line = text[:text.index(word[0])].count("\n") + 1
    code, said = command(text, "--check-config")
    assert code != 0
    assert f"proxy.toml:{line}" in said and word[1] in said


def test_print_config(command):
    code, said = command(QUICK_START, "--print-config")
    assert code == 0
    assert re.search(r"max_connections\s*=\s*100", said) and re.search(r"workers\s*=", said)
    printed = tomllib.loads(said)
    assert printed["pool"]["max_connections"] == 100 and printed["nodes"][0]["port"] == 5432
    code, again = command(said, "--check-config")
    assert code == 0, again
    assert tomllib.loads(command(said, "--print-config")[1]) == printed, "what is printed means the same when it is read"


def test_print_config_of_odd_names(command):
    text = QUICK_START + r'''
[databases."a b.\"c\""]
user = "x\u0001y \\ ö"
pool_mode = "statement"
connect_query = """SET a = 'b'
"""
[databases."*"]
default_pool_size = 30
[users."größe"]
query_timeout_ms = 1500
'''
    said = command(text, "--print-config")[1]
    printed = tomllib.loads(said)
    odd = printed["databases"]['a b."c"']
    assert (odd["user"], odd["mode"], odd["connect_query"]) == ("x\x01y \\ ö", "statement", "SET a = 'b'\n")
    assert printed["databases"]["*"]["max_connections"] == 30 and printed["users"]["größe"]["query_timeout"] == "1500ms"
    assert tomllib.loads(command(said, "--print-config")[1]) == printed


def test_environment(command):
    text = QUICK_START.replace("max_connections = 100", "max_connections = ${HELIOS_TEST_N:-17}")
    assert re.search(r"max_connections\s*=\s*17", command(text, "--print-config")[1])
    assert re.search(r"max_connections\s*=\s*23", command(text, "--print-config", env={"HELIOS_TEST_N": "23"})[1])


def test_strict(command):
    text = QUICK_START + "\n[rate_limit]\nenabled = true\n"
    code, said = command(text, "--check-config")
    assert code == 0 and "rate_limit" in said
    assert command(text, "--check-config", "--strict")[0] != 0


def test_version_and_help(make_proxy):
    binary = make_proxy(start=False).binary
    version = subprocess.run([binary, "--version"], text=True, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    assert re.search(r"\d+\.\d+\.\d+", version)
    said = subprocess.run([binary, "--help"], text=True, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    assert "--config" in said and "--check-config" in said
    assert subprocess.run([binary, "--nonsense"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          timeout=20).returncode != 0


def test_missing_file(make_proxy):
    done = subprocess.run([make_proxy(start=False).binary, "--config", "/nonexistent.toml"], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert done.returncode != 0 and "/nonexistent.toml" in done.stdout


def test_toml_writer():
    assert toml({"a": {"b": 1, "c": {"d": "x\"y"}}, "n": [{"e": True}, {"e": [1, 2]}]}) == \
        '\n[a]\nb = 1\n\n[a.c]\nd = "x\\"y"\n\n[[n]]\ne = true\n\n[[n]]\ne = [1, 2]\n'
