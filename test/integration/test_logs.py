"""What the log says of a fault: one line, which names it; floods are limited and counted; the level and format hold."""

import json
import os
import re
import signal
import struct

import pytest
from harness import FakeServer, Relay, ServerError, Wire, wait_until
from harness.wire import copy_data, message, query, startup_packet

APP = {"user": "app", "database": "app"}
QUIET = {"log": {"connections": False, "disconnections": False}, "health": {"check_interval": "86400s"}}


def fresh_lines(proxy, before, at_least=1):
    """Lines since `before`, once there are so many and the proxy has done all that it had to do."""
    wait_until(lambda: proxy.log().count("\n") - before >= at_least, 20, lambda: "no line:\n" + proxy.log()[-2000:])
    with proxy.wire() as client:
        assert client.value("SELECT 'fine'") == "fine", "no other client notices"
    return proxy.log().splitlines()[before:]


def mark(proxy):
    """Where the log is now, behind the lines of the start."""
    proxy.wait_log("admin API address=")
    return proxy.log().count("\n")


# ---------------------------------------------------------------- one line for a fault

def told(client):
    """SQLSTATE of the one error that the client hears before its connection ends."""
    (error,) = [m for m in client.until_closed() if m.kind == "E"]
    assert error.fields["S"] == error.fields["V"] == "FATAL" and error.fields["M"]
    return error.code


def garbage(proxy):
    with Wire(proxy.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return told(client)


def oversized_startup(proxy):
    with Wire(proxy.address) as client:
        client.send(struct.pack("!I", 1 << 30))
        return told(client)


def oversized_message(proxy):
    with proxy.wire() as client:
        client.send(b"Q\xff\xff\xff\xff")
        return told(client)


def unknown_message(proxy):
    with proxy.wire() as client:
        client.send(message("z"))
        return told(client)


def wrong_state(proxy):
    with proxy.wire() as client:
        client.send(message("p", b"password\0"))
        return told(client)


def unfinished_startup(proxy):
    with Wire(proxy.address) as client:
        client.send(startup_packet(APP)[:9])
        wait_until(lambda: proxy.metric("clients") >= 1)
        proxy.advance_until(lambda: not client.is_quiet(0.02), step=61)
        return told(client)


def idle_too_long(proxy):
    with proxy.wire() as client:
        client.query("BEGIN")
        proxy.advance_until(lambda: not client.is_quiet(0.02), step=61)
        return told(client)


CLIENT_FAULTS = [
    (garbage, "08P01", "login refused"),
    (oversized_startup, "08P01", "login refused"),
    (oversized_message, "08P01", "client closed by the proxy"),
    (unknown_message, "08P01", "client closed by the proxy"),
    (wrong_state, "08P01", "client closed by the proxy"),
    (unfinished_startup, "08006", "login refused"),
    (idle_too_long, "25P03", "client closed by the proxy"),
]


@pytest.mark.parametrize("fault,code,said", CLIENT_FAULTS, ids=[f.__name__ for f, _, _ in CLIENT_FAULTS])
def test_a_fault_of_a_client_is_one_line(make_proxy, fault, code, said):
    """And one error, with its SQLSTATE, to the client itself."""
    proxy = make_proxy({**QUIET, "pool": {"idle_transaction_timeout": "60s"}})
    before = mark(proxy)
    assert fault(proxy) == code
    lines = fresh_lines(proxy, before)
    assert len(lines) == 1, "\n".join(lines)
    assert said in lines[0] and "client=127.0.0.1:" in lines[0] and re.search(r"detail=\S", lines[0]), lines[0]


def lost_in_a_query(proxy, relay):
    client = proxy.wire()
    client.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: b"pg_sleep" in relay.requests)
    relay.drop_all()
    with client:
        return client.read_until("E")[-1].code


def lost_in_a_copy(proxy, relay):
    client = proxy.wire()
    client.send(query("CREATE TEMP TABLE x (i int); COPY x FROM STDIN"))
    client.read_until("G")
    client.send(copy_data("1\n"))
    relay.drop_all()
    with client:
        return client.read_until("E")[-1].code


@pytest.mark.parametrize("fault", [lost_in_a_query, lost_in_a_copy])
def test_a_lost_server_connection_is_one_warning(make_proxy, postgres, fault):
    relay = Relay(postgres)
    try:
        proxy = make_proxy({**QUIET, "pool": {"max_connections": 1, "login_retry": 0},
                            "server_tls": {"mode": "disable"}}, postgres=relay)
        before = mark(proxy)
        assert fault(proxy, relay) == "08006"
        warnings = [line for line in fresh_lines(proxy, before) if re.search(r"\b(warning|error)\b", line)]
        assert len(warnings) == 1 and "server connection lost" in warnings[0], warnings
    finally:
        relay.close()


def test_a_server_that_sends_nonsense_is_one_warning(make_proxy):
    lies = [True]

    def serve(kind, body, reply):
        if kind in "QS":
            reply(message("y") if lies and lies.pop() else FakeServer.answer())

    fake = FakeServer(serve)
    try:
        proxy = make_proxy({**QUIET, "pool": {"max_connections": 1, "login_retry": 0}}, postgres=fake)
        before = mark(proxy)
        with proxy.wire() as client:
            client.send(query("SELECT 1"))
            assert [m.code for m in client.until_closed() if m.kind == "E"] == ["08006"]
        wait_until(lambda: mark(proxy) > before)
        warnings = [line for line in proxy.log().splitlines()[before:] if re.search(r"\b(warning|error)\b", line)]
        assert len(warnings) == 1 and "0x79" in warnings[0], warnings
    finally:
        fake.close()


# ---------------------------------------------------------------- floods, levels

def test_floods_of_server_failures_are_limited_and_counted(make_proxy, closing):
    """Two hundred users whom the server refuses: ten lines a second at most, and none is lost without a trace."""
    proxy = make_proxy({**QUIET, "proxy": {"workers": 1}, "pool": {"login_retry": "0s"}})
    strangers = [closing(Wire(proxy.address)) for _ in range(200)]
    for i, client in enumerate(strangers):  # all at once: even a slow machine refuses more than ten a second
        client.startup({"user": f"stranger{i}", "database": "app"})
    for client in strangers:
        with pytest.raises(ServerError):
            client.finish_login({})
    proxy.advance(2)
    with pytest.raises(ServerError):
        proxy.wire(user="the_last_stranger")
    proxy.wait_log("the_last_stranger")
    lines = [line for line in proxy.log().splitlines() if "cannot log in to a server" in line]
    kept_back = sum(int(n) for line in lines for n in re.findall(r"not_logged=(\d+)", line))
    assert len(lines) < 200 and kept_back > 0
    assert len(lines) + kept_back == proxy.metric("link_login_failures_total")


def test_floods_of_refused_logins_are_limited_and_counted(make_proxy, closing):
    proxy = make_proxy({**QUIET, "proxy": {"workers": 1}})
    clients = [closing(Wire(proxy.address)) for _ in range(400)]
    for client in clients:
        client.send(struct.pack("!II", 9, 0x00030000) + b"x")
    for client in clients:
        client.bytes_until_closed()
    proxy.advance(2)
    proxy_wire = closing(Wire(proxy.address))
    proxy_wire.send(struct.pack("!II", 9, 0x00030000) + b"x")
    proxy_wire.bytes_until_closed()
    proxy.wait_log("more logins were refused")
    lines = proxy.log().count("login refused")
    kept_back = sum(int(n) for n in re.findall(r"not_logged=(\d+)", proxy.log()))
    assert lines < 400 and lines + kept_back == proxy.metric("login_failures_total") == 401


@pytest.mark.parametrize("level", ["warn", "error"])
def test_level(make_proxy, level):
    proxy = make_proxy({"log": {"level": level}})
    proxy.wire().close()
    proxy.process.send_signal(signal.SIGUSR1)
    with pytest.raises(ServerError):
        proxy.wire(database="nosuch")
    proxy.reload({"log": {"level": "info"}})
    proxy.wait_log("configuration reloaded")
    early = proxy.log().partition("configuration changed")[0]
    assert "client logged in" not in early and "log file opened anew" not in early
    proxy.wire().close()
    proxy.wait_log("client logged in")


def test_format_follows_a_reload(make_proxy):
    proxy = make_proxy()
    proxy.reload({"log": {"format": "json"}})
    proxy.wait_log("configuration reloaded")
    before = mark(proxy)
    proxy.wire().close()
    wait_until(lambda: mark(proxy) > before)
    line = json.loads(proxy.log_lines()[before])
    assert line["user"] == "app" and line["client"].startswith("127.0.0.1:") and line["level"] == "info"


def test_reopening_where_it_cannot_keeps_the_old_file(make_proxy, tmp_path):
    """Between rotation and SIGUSR1 the folder went away: lines go on into the file that is open."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "proxy.log"
    proxy = make_proxy({"log": {"file": str(log)}})
    kept = open(log, encoding="utf-8")
    moved = tmp_path / "moved"
    os.rename(folder, moved)
    proxy.process.send_signal(signal.SIGUSR1)
    proxy.wire(application_name="after").close()
    wait_until(lambda: "client logged in" in kept.read())
    kept.close()


def test_a_log_reader_that_is_gone_ends_nothing(make_proxy, tmp_path):
    """The log is a pipe whose reader ends: EPIPE costs lines, nothing else."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    proxy = make_proxy({"log": {"file": str(path)}})
    os.close(reader)
    for _ in range(20):
        with proxy.wire() as client:
            assert client.value("SELECT 1") == "1"


# ---------------------------------------------------------------- secrets

def memory_has(pid, needle):
    """Is it anywhere in what the process can write to?"""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            where, rights = line.split()[:2]
            begin, end = (int(x, 16) for x in where.split("-"))
            if "rw" not in rights or end - begin > 1 << 30 or "[v" in line:
                continue
            for at in range(begin, end, 1 << 24):
                try:
                    memory.seek(at)
                    if needle in memory.read(min(1 << 24, end - at) + len(needle)):
                        return True
                except (OSError, ValueError):
                    break
    return False


@pytest.mark.parametrize("mode,user", [("password", "plain_user"), ("passthrough", "scram_user"),
                                       ("passthrough", "md5_user")])
def test_passwords_that_were_wrong_are_wiped(make_proxy, mode, user):
    """A clear password that opened nothing is nowhere in memory once its connection is gone."""
    secret = f"Wrong.Secret.{mode}.{user}"
    proxy = make_proxy({"auth": {"mode": mode}, "users": {"plain_user": {"password": "other"}}})
    if not proxy.measures_memory:
        pytest.skip("a sanitizer keeps what is freed")
    with pytest.raises(ServerError), Wire(proxy.address) as client:
        client.login({"user": user, "database": "app"}, secret)
    wait_until(lambda: proxy.metric("clients") == 0)
    assert memory_has(proxy.process.pid, proxy.config_path.encode()), "the search finds what is there"
    proxy.sessions()  # each worker's turn is over: what it had to free is freed
    assert not memory_has(proxy.process.pid, secret.encode())
