"""
PgBouncer's console: what it shows, compared with a real PgBouncer where there is one; that numbers are true; that
PAUSE, RECONNECT, DISABLE and KILL do what they say while clients work; over both protocols, with real drivers.
"""

import asyncio
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import urllib.request

import asyncpg
import psycopg
import pytest

from harness.later import Later
from harness.ports import lease_port
from harness.wait import wait_until
from harness.wire import ServerError, bind, describe, errors, execute, parse, query, sync

PEER = pathlib.Path(os.environ.get("HELIOS_PEERS", "/var/cache/heliosproxy/peers")) / "pgbouncer/bin/pgbouncer"
USERS = {"users": ["boss"], "stats_users": ["clerk"]}
SHOWS = ["CLIENTS", "SERVERS", "POOLS", "DATABASES", "USERS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "LISTS",
         "CONFIG", "FDS", "MEM", "SOCKETS", "ACTIVE_SOCKETS", "DNS_HOSTS", "DNS_ZONES", "STATE", "VERSION", "PEERS",
         "PEER_POOLS"]
OWN_SHOWS = ["POOLS_EXTENDED", "PREPARED_STATEMENTS"]


class Console:
    """A client of the console; rows are dicts."""

    def __init__(self, address, user="boss", database="pgbouncer", **more):
        host, port = address
        self.db = psycopg.connect(host=host, port=port, user=user, dbname=database, autocommit=True, connect_timeout=60,
                                  cursor_factory=psycopg.ClientCursor, **more)

    def __call__(self, command):
        cursor = self.db.execute(command)
        if cursor.description is None:
            return cursor.statusmessage
        names = [c.name for c in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]

    def columns(self, command):
        """(name, type oid, size) of each."""
        return [(c.name, c.type_code, c.internal_size) for c in self.db.execute(command).description]

    def refused(self, command, text, code="08P01"):
        with pytest.raises(psycopg.Error) as e:
            self.db.execute(command)
        assert text in str(e.value) and e.value.sqlstate == code, e.value

    def close(self):
        self.db.close()


@pytest.fixture
def consoles(make_proxy, closing):
    """(proxy, console of its boss)"""
    def make(config=None, **kwargs):
        proxy = make_proxy({"admin": USERS, **(config or {})}, **kwargs)
        return proxy, closing(Console(proxy.address))
    return make


def row(rows, **which):
    found = [r for r in rows if all(r[k] == v for k, v in which.items())]
    assert len(found) == 1, rows
    return found[0]


# ---------------------------------------------------------------- who may

def test_users_see_or_do_what_they_may(consoles, closing):
    proxy, boss = consoles()
    clerk = closing(Console(proxy.address, user="clerk", database="helios"))
    assert clerk("SHOW VERSION")[0]["version"].startswith("PgBouncer 1.25")
    for command in ("PAUSE", "RESUME", "KILL", "RELOAD", "SHUTDOWN", "KILL_CLIENT 1", "DISABLE app", "SET a = b", "SHOW FDS"):
        clerk.refused(command, "admin access needed")
    assert boss("SHOW FDS")
    with pytest.raises(psycopg.OperationalError, match="app.*not allowed"):
        Console(proxy.address, user="app")
    assert proxy.open_links() == 0  # none of it leads to a node


def test_passwords_are_asked_for(consoles):
    proxy, _ = consoles({"auth": {"mode": "trust"}})
    proxy.reload({"auth": {"mode": "scram-sha-256"}, "users": {"boss": {"password": "secret"}}})
    console = Console(proxy.address, password="secret")
    assert console("SHOW STATE")
    console.close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        Console(proxy.address, password="wrong")


def test_without_users_of_its_own_the_console_is_closed(make_proxy):
    proxy = make_proxy({"admin": USERS, "auth": {"mode": "passthrough"}})
    with pytest.raises(psycopg.OperationalError, match="the proxy itself can authenticate"):
        Console(proxy.address, password="app")


def test_a_database_of_that_name(make_proxy, closing):
    proxy = make_proxy({"admin": USERS, "databases": {"pgbouncer": {"dbname": "app"}}})
    assert closing(proxy.wire(database="pgbouncer")).value("SELECT current_database()") == "app"
    assert closing(Console(proxy.address, database="helios"))("SHOW STATE")
    proxy.reload({"admin": {"databases": []}})
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        Console(proxy.address, database="helios")


def test_the_proxys_own_user_comes_in_over_a_unix_socket(make_proxy):
    proxy = make_proxy({"auth": {"mode": "passthrough"}}, start=False)
    folder = proxy.root
    proxy.config["proxy"]["listen_address"] = [f"127.0.0.1:{proxy.port}", f"unix:{folder}/.s.PGSQL.6432"]
    proxy.start()
    console = Console((folder, 6432), user="pgbouncer")
    assert console("SHOW FDS") and console("RECONNECT") == "RECONNECT"
    console.close()


# ---------------------------------------------------------------- what is shown

@pytest.fixture(scope="module")
def pgbouncer(postgres, tmp_path_factory):
    """A real one, or skipped."""
    program = str(PEER) if PEER.exists() else None
    if not program:
        pytest.skip("no PgBouncer: scripts/get-peers builds one")
    folder = tmp_path_factory.mktemp("pgbouncer")
    lease = lease_port()
    (folder / "ini").write_text(f"""
[databases]
app = host=127.0.0.1 port={postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {lease.port}
unix_socket_dir =
auth_type = any
admin_users = boss
stats_users = clerk
""")
    command = [program, str(folder / "ini")]
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        os.chmod(folder, 0o755)
        os.chmod(folder.parent, 0o755)
        os.chmod(folder.parent.parent, 0o755)
        command[1:1] = ["-u", "postgres"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def connects():
        try:
            return Console(("127.0.0.1", lease.port))
        except psycopg.OperationalError:
            assert process.poll() is None, (folder / "log").read_text()
            return None

    console = wait_until(connects, 20)
    yield console
    console.close()
    process.send_signal(signal.SIGINT)
    process.wait(20)
    lease.release()


@pytest.mark.parametrize("what", SHOWS)
def test_columns_are_pgbouncers(what, pgbouncer, consoles):
    _, console = consoles()
    assert console.columns(f"SHOW {what}") == pgbouncer.columns(f"SHOW {what}")


@pytest.mark.parametrize("what", ["TOTALS", "LISTS", "STATE"])
def test_rows_have_pgbouncers_names(what, pgbouncer, consoles):
    _, console = consoles()
    def names(of):
        return [next(iter(r.values())) for r in of(f"SHOW {what}")]
    assert names(console) == names(pgbouncer)


def test_everything_can_be_shown_while_there_are_clients(consoles, closing):
    proxy, console = consoles()
    client = closing(proxy.wire())
    client.value("SELECT 1")
    for what in SHOWS + OWN_SHOWS:
        found = console(f"SHOW {what}")
        assert found or what in ("ACTIVE_SOCKETS", "DNS_HOSTS", "DNS_ZONES", "PEERS", "PEER_POOLS"), what
    assert console("SHOW HELP") == "SHOW"


def test_clients_pools_and_servers(consoles, closing, gate):
    proxy, console = consoles({"pool": {"max_connections": 1}})
    barrier = gate()
    busy, waiting, idle = (closing(proxy.wire(application_name=n)) for n in ("busy", "waits", "idle"))
    busy.send(query(f"SELECT {barrier.passage}"))
    barrier.wait()
    waiting.send(query("SELECT 2"))
    wait_until(lambda: row(console("SHOW POOLS"), database="app")["cl_waiting"] == 1)
    pool = row(console("SHOW POOLS"), database="app")
    assert (pool["user"], pool["cl_active"], pool["sv_active"], pool["sv_idle"]) == ("app", 2, 1, 0)
    assert pool["pool_mode"] == "transaction"
    clients = console("SHOW CLIENTS")
    states = {c["application_name"]: c["state"] for c in clients if c["database"] == "app"}
    assert states == {"busy": "active", "waits": "waiting", "idle": "idle"}
    server = row(console("SHOW SERVERS"), database="app")
    assert server["state"] == "active" and server["application_name"] == "busy"
    of_busy = row(clients, application_name="busy")
    assert of_busy["link"] == server["ptr"] and server["link"] == of_busy["ptr"]
    assert of_busy["addr"] == "127.0.0.1" and of_busy["local_port"] == proxy.port
    assert server["port"] == proxy.postgres.port
    with proxy.postgres.admin("app") as db:
        assert db.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s",
                          [server["remote_pid"]]).fetchone()[0] == 1
    barrier.open()
    assert busy.until_ready() and waiting.until_ready()
    assert idle.value("SELECT 3") == "3"
    lists = {r["list"]: r["items"] for r in console("SHOW LISTS")}
    assert lists["used_clients"] == 4 and lists["used_servers"] == 1 and lists["pools"] == 2
    assert row(console("SHOW DATABASES"), name="app")["current_client_connections"] == 3
    assert row(console("SHOW USERS"), name="app")["current_connections"] == 1
    for client in (busy, waiting, idle):
        client.close()
    wait_until(lambda: row(console("SHOW POOLS"), database="app")["cl_active"] == 0)


def test_statistics_count_what_clients_do(consoles, closing):
    proxy, console = consoles()
    client = closing(psycopg.connect(host=proxy.address[0], port=proxy.address[1], user="app", dbname="app",
                                     autocommit=True, prepare_threshold=0))
    for _ in range(10):
        client.execute("SELECT 1")
    with client.transaction():
        client.execute("SELECT pg_sleep(0.02)")
        client.execute("SELECT 2")
    stats = row(console("SHOW STATS"), database="app")
    assert stats["total_query_count"] == 14 and stats["total_xact_count"] >= 11
    assert stats["total_server_assignment_count"] >= 11
    assert 20000 <= stats["total_query_time"] <= stats["total_xact_time"] + 20000
    assert stats["total_received"] > 100 and stats["total_sent"] > 100
    assert stats["total_client_parse_count"] == 3 and stats["total_server_parse_count"] == 3
    assert stats["total_bind_count"] == 12
    totals = {r["name"]: r["value"] for r in console("SHOW TOTALS")}
    assert totals["total_query_count"] == 14 == proxy.metric("queries_total")
    # the counters stay true when the pool is gone
    client.close()
    proxy.advance_until(lambda: not [p for p in console("SHOW POOLS") if p["database"] == "app"], 1000, 100000, 60)
    assert proxy.metric("queries_total") == 14
    assert row(console("SHOW STATS"), database="app")["total_query_count"] == 14


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_query_time_is_that_of_answers(mode, consoles, closing, gate):
    proxy, console = consoles({"pool": {"mode": mode, "max_lifetime": "0s", "idle_timeout": "0s"}})
    barrier = gate()
    client = closing(proxy.wire())

    def seconds():
        stats = row(console("SHOW STATS"), database="app")
        return int(stats["total_query_time"]) // 1000000, int(stats["total_xact_time"]) // 1000000

    client.query("BEGIN")
    client.query("SELECT 1")
    proxy.advance(1000)  # idle in transaction
    client.send(query(f"SELECT {barrier.passage}"))
    barrier.wait()
    proxy.advance(2000)  # at work
    barrier.open()
    assert not errors(client.until_ready())
    proxy.advance(4000)
    client.query("COMMIT")
    client.close()  # the link goes back in either mode
    wait_until(lambda: row(console("SHOW POOLS"), database="app")["sv_active"] == 0)
    queries, transactions = seconds()
    assert 2000 <= queries < 2900 and 7000 <= transactions < 7900


def test_averages_are_of_the_last_period(consoles, closing):
    proxy, console = consoles()
    client = closing(proxy.wire())
    assert client.value("SELECT 1") == "1"
    proxy.advance(61)
    for _ in range(120):
        client.value("SELECT 1")
    wait_until(lambda: row(console("SHOW STATS"), database="app")["avg_query_count"] >= 1)


def test_thousands_of_clients_are_shown_page_by_page(consoles, closing):
    proxy, console = consoles()
    for _ in range(600):
        closing(proxy.wire())
    shown = [c for c in console("SHOW CLIENTS") if c["database"] == "app"]
    assert len(shown) == 600 == len({c["id"] for c in shown})


def test_who_does_not_read_holds_nobody_up(consoles, closing):
    proxy, console = consoles()
    for _ in range(300):
        closing(proxy.wire())
    slow = closing(proxy.wire(user="boss", database="pgbouncer"))
    slow.send(query("SHOW CLIENTS") * 300)
    assert closing(proxy.wire()).value("SELECT 1") == "1"
    assert len(console("SHOW CLIENTS")) >= 300
    slow.close()  # in the middle of it
    wait_until(lambda: proxy.metric("clients") <= 303)
    assert console("SHOW LISTS")


# ---------------------------------------------------------------- protocols

def test_extended_protocol_gives_binary_values(consoles):
    proxy, console = consoles()
    with psycopg.connect(host=proxy.address[0], port=proxy.address[1], user="boss", dbname="pgbouncer") as db:
        with db.cursor(binary=True) as cursor:  # in a transaction, too
            found = cursor.execute("SHOW LISTS").fetchall()
            assert [tuple(r.values()) for r in console("SHOW LISTS")][:3] == found[:3]
            assert cursor.execute("SHOW STATS").description[1].type_code == 1700
            cursor.execute("SHOW TOTALS")
            assert all(value == int(value) for _, value in cursor.fetchall())
        with pytest.raises(psycopg.Error, match="invalid command 'SHOW NOTHING', use SHOW HELP;"):
            db.execute("SHOW NOTHING")
        db.rollback()
        assert db.execute("SHOW STATE", prepare=True).fetchall()


def test_asyncpg(consoles):
    proxy, _ = consoles()

    async def run():
        db = await asyncpg.connect(host=proxy.address[0], port=proxy.address[1], user="boss", database="pgbouncer")
        found = await db.fetch("SHOW DATABASES")
        assert found[-1]["name"] == "pgbouncer" and found[-1]["port"] == 0
        assert (await db.fetchrow("SHOW STATE"))["key"] == "active"
        assert await db.execute("RECONNECT") == "RECONNECT"
        await db.close()

    asyncio.run(run())


def test_psql(consoles, postgres):
    proxy, _ = consoles()
    done = subprocess.run(["psql", "-X", "-h", proxy.address[0], "-p", str(proxy.address[1]), "-U", "boss", "pgbouncer"],
                          input="\\x\nSHOW POOLS;\nSHOW HELP;\nnonsense;\nSHOW VERSION;\n", capture_output=True, text=True,
                          timeout=30)
    assert re.search(r"database +\| pgbouncer", done.stdout) and "PgBouncer 1.25" in done.stdout
    assert "KILL_CLIENT <client_id>" in done.stderr and "invalid command 'nonsense;'" in done.stderr


def test_pgbouncer_exporter(consoles, closing):
    """Prometheus' own, where there is one."""
    program = shutil.which("pgbouncer_exporter")
    if not program:
        pytest.skip("no pgbouncer_exporter on the path")
    proxy, _ = consoles()
    assert closing(proxy.wire()).value("SELECT 1") == "1"
    lease = lease_port()
    address = f"127.0.0.1:{lease.port}"
    process = subprocess.Popen([program, "--web.listen-address", address, "--pgBouncer.connectionString",
                                f"postgres://clerk@127.0.0.1:{proxy.port}/pgbouncer?sslmode=disable"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def scrape():
        try:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
                return answer.read().decode()
        except OSError:
            assert process.poll() is None
            return None

    try:
        found = wait_until(scrape)
    finally:
        process.terminate()
        log = process.communicate(timeout=20)[0]
        lease.release()
    assert "\npgbouncer_up 1\n" in found and "level=ERROR" not in log and "level=WARN" not in log, log
    assert 'pgbouncer_stats_totals_queries_pooled_total{database="app"} 1' in found
    assert 'pgbouncer_databases_paused{database="app"' in found
    assert 'pgbouncer_client_connections{application_name="",database="app",state="idle",user="app"} 1' in found


def test_batches_and_errors(consoles, closing):
    proxy, _ = consoles()
    client = closing(proxy.wire(user="boss", database="pgbouncer"))
    client.send(parse("a", "SHOW STATE") + describe("S", "a") + bind("p", "a") + describe("P", "p") + execute("p", 1) +
                parse("a", "SHOW STATE") + execute("p") + sync() + query("SHOW STATE") + query("") +
                bind("", "missing") + sync() + parse("", "BEGIN") + bind() + execute() + sync() + query("SELECT 1"))
    assert "".join(m.kind for m in client.until_ready()) == "1tT2TDDDCEZ"
    assert "".join(m.kind for m in client.until_ready()) == "TDDDCZ"
    assert "".join(m.kind for m in client.until_ready()) == "IZ"
    assert "".join(m.kind for m in client.until_ready()) == "EZ"
    assert "".join(m.kind for m in client.until_ready()) == "12CZ"
    assert "".join(m.kind for m in client.until_ready()) == "TDCZ"


def test_who_sends_a_command_and_no_more_gets_the_answer(consoles, closing):
    proxy, _ = consoles()
    client = closing(proxy.wire(user="boss", database="pgbouncer"))
    client.send(query("SHOW CLIENTS") + query("SHOW STATE"))
    client.socket.shutdown(socket.SHUT_WR)
    assert client.until_ready() and client.until_ready()
    wait_until(lambda: proxy.metric("clients") == 1)


# ---------------------------------------------------------------- PAUSE and the others

def test_pause_waits_for_transactions_and_clients_wait_for_resume(consoles, closing, make_postgres):
    proxy, console = consoles(postgres=make_postgres())
    looking = closing(Console(proxy.address))
    inside, outside = closing(proxy.wire()), closing(proxy.wire())
    outside.value("SELECT 1")
    inside.query("BEGIN")
    pause = Later(lambda: console("PAUSE app"))
    wait_until(lambda: row(looking("SHOW DATABASES"), name="app")["paused"] == 1)
    wait_until(lambda: len(proxy.postgres.backends("usename = 'app'")) == 1)  # idle ones go
    outside.send(query("SELECT 2"))
    wait_until(lambda: row(looking("SHOW POOLS"), database="app")["cl_waiting"] == 1)
    assert inside.value("SELECT 3") == "3" and not pause.is_over
    inside.query("COMMIT")
    assert pause.result() == "PAUSE"
    assert not proxy.postgres.backends("usename = 'app'")
    assert proxy.metric("pool_paused", database="app") == 1
    assert [p["paused"] for p in proxy.pools() if p["database"] == "app"] == [True]
    looking.refused("PAUSE app", "already suspended/paused")
    late = closing(proxy.wire())
    late.send(query("SELECT 4"))
    wait_until(lambda: row(looking("SHOW POOLS"), database="app")["cl_waiting"] == 2)
    assert looking("RESUME app") == "RESUME"
    assert outside.until_ready() and late.until_ready()
    assert proxy.metric("pool_paused", database="app") == 0
    looking.refused("RESUME app", "database app is not paused")


def test_pause_of_all(consoles, closing):
    proxy, console = consoles()
    client = closing(proxy.wire())
    client.value("SELECT 1")
    assert console("PAUSE") == "PAUSE"
    assert row(console("SHOW STATE"), key="paused")["value"] == "yes"
    client.send(query("SELECT 2"))
    wait_until(lambda: row(console("SHOW POOLS"), database="app")["cl_waiting"] == 1)
    console.refused("PAUSE", "already suspended/paused")
    assert console("RESUME") == "RESUME"
    assert client.until_ready()
    console.refused("RESUME", "pooler is not paused/suspended")


def test_who_waits_in_a_paused_database_waits_no_longer_than_ever(consoles, closing):
    proxy, console = consoles({"pool": {"query_wait_timeout": "5s"}})
    client = closing(proxy.wire())
    client.value("SELECT 1")
    console("PAUSE app")
    client.send(query("SELECT 2"))
    wait_until(lambda: row(console("SHOW POOLS"), database="app")["cl_waiting"] == 1)
    proxy.advance(6)
    assert errors(client.until_ready()) == ["53300"]
    console("RESUME app")
    assert client.value("SELECT 3") == "3"


@pytest.mark.parametrize("way", ["cancel", "leave"])
def test_a_pause_that_is_given_up(way, consoles, closing):
    proxy, console = consoles()
    inside = closing(proxy.wire())
    inside.query("BEGIN")
    other = closing(proxy.wire(user="boss", database="pgbouncer"))
    other.send(query("PAUSE app"))
    wait_until(lambda: row(console("SHOW DATABASES"), name="app")["paused"] == 1)
    if way == "cancel":
        other.cancel()
        assert errors(other.until_ready()) == ["57014"]
        assert row(console("SHOW DATABASES"), name="app")["paused"] == 0
    else:
        other.close()
        wait_until(lambda: row(console("SHOW LISTS"), list="used_clients")["items"] == 2)
        assert row(console("SHOW DATABASES"), name="app")["paused"] == 1
        console("RESUME app")
    inside.query("COMMIT")
    assert closing(proxy.wire()).value("SELECT 1") == "1"


def test_reconnect_and_wait_close(consoles, closing):
    proxy, console = consoles()
    waiter = closing(Console(proxy.address))
    inside = closing(proxy.wire())
    inside.query("BEGIN")
    before = {s["remote_pid"] for s in console("SHOW SERVERS")}
    assert console("RECONNECT app") == "RECONNECT"
    assert [s["close_needed"] for s in console("SHOW SERVERS")] == [1]
    wait = Later(lambda: waiter("WAIT_CLOSE app"))
    assert closing(proxy.wire()).value("SELECT 1") == "1"  # on a new one
    assert not wait.is_over
    inside.query("COMMIT")
    assert wait.result() == "WAIT_CLOSE"
    wait_until(lambda: not before & {s["remote_pid"] for s in console("SHOW SERVERS")})


def test_disable_refuses_new_clients_only(consoles, closing):
    proxy, console = consoles()
    old = closing(proxy.wire())
    assert console("DISABLE app") == "DISABLE"
    with pytest.raises(ServerError) as e:
        proxy.wire()
    assert e.value.code == "08004" and "database does not allow connections: app" in str(e.value)
    assert old.value("SELECT 1") == "1"
    assert row(console("SHOW DATABASES"), name="app")["disabled"] == 1
    assert console("ENABLE app") == "ENABLE"
    assert closing(proxy.wire()).value("SELECT 1") == "1"
    console.refused("DISABLE pgbouncer", "admin db")


def test_names_that_are_not_there(consoles):
    _, console = consoles({"databases": {"app": {}}})
    for command in ("PAUSE", "RESUME", "RECONNECT", "KILL", "DISABLE", "ENABLE"):
        console.refused(f"{command} missing", "no such database: missing")
    console.refused("KILL_CLIENT 8000000", "client not found")
    console.refused("KILL_CLIENT x", "invalid client pointer supplied")


def test_kill_drops_clients_until_resume(consoles, closing, make_postgres):
    proxy, console = consoles(postgres=make_postgres())
    client, other = closing(proxy.wire()), closing(proxy.wire(database="postgres"))
    client.query("BEGIN")
    other.value("SELECT 1")
    assert console("KILL app") == "KILL"
    assert errors(client.until_closed()) == ["57P01"]
    wait_until(lambda: not proxy.postgres.backends("datname = 'app' AND usename = 'app'"))
    assert other.value("SELECT 2") == "2"
    again = closing(proxy.wire())
    again.send(query("SELECT 3"))
    wait_until(lambda: row(console("SHOW POOLS"), database="app")["cl_waiting"] == 1)
    console("RESUME app")
    assert again.until_ready()


def test_kill_client(consoles, closing):
    proxy, console = consoles()
    client, other = closing(proxy.wire(application_name="victim")), closing(proxy.wire())
    client.value("SELECT 1")
    victim = row(console("SHOW CLIENTS"), application_name="victim")
    assert console(f"KILL_CLIENT {victim['id']}") == "KILL_CLIENT"
    assert errors(client.until_closed()) == ["57P01"]
    assert other.value("SELECT 1") == "1"


def test_reload(consoles):
    proxy, console = consoles()
    proxy.config["pool"]["max_connections"] = 7
    proxy.write_config()
    assert console("RELOAD") == "RELOAD"
    wait_until(lambda: row(console("SHOW CONFIG"), key="default_pool_size")["value"] == "7")
    proxy.config["pool"]["max_connections"] = "nonsense"
    proxy.write_config()
    console.refused("RELOAD", "RELOAD failed")
    proxy.config["pool"]["max_connections"] = 7
    proxy.write_config()


def test_what_drivers_set_is_ignored(consoles):
    _, console = consoles()
    assert console("SET client_encoding = 'UTF8'") == "SET"


def test_shutdown_now(consoles, closing):
    proxy, console = consoles()
    client = closing(proxy.wire())
    client.query("BEGIN")
    with pytest.raises(psycopg.OperationalError):
        console("SHUTDOWN")
    proxy.wait_end()


def test_shutdown_after_transactions(consoles, closing):
    proxy, console = consoles()
    client = closing(proxy.wire())
    client.query("BEGIN")
    assert console("SHUTDOWN WAIT_FOR_SERVERS") == "SHUTDOWN"
    proxy.wait_log("shutting down")
    assert client.value("SELECT 1") == "1"
    client.send(query("COMMIT"))
    proxy.wait_end()


def test_shutdown_after_clients(consoles, closing):
    proxy, console = consoles()
    client = closing(proxy.wire())
    assert console("SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
    proxy.wait_log("last client has left")
    assert client.value("SELECT 1") == "1"
    proxy.advance(3600)
    assert client.value("SELECT 1") == "1"
    client.close()
    console.close()
    proxy.wait_end()
