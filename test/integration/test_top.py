"""`heliosdb-proxy top` on a real terminal: what it shows is so, keys do what they say, and the terminal is as before at the end."""

import os
import re
import signal
import subprocess
import termios
import threading

import psycopg
import pytest

from conftest import BINARY
from harness.terminal import Terminal
from harness.wait import wait_until


@pytest.fixture
def proxy(make_proxy):
    return make_proxy({"pool": {"query_wait_timeout": "300s"}})


@pytest.fixture
def top(proxy, closing):
    def start(*options, columns=80, lines=24, env=None):
        return closing(Terminal(BINARY, ["top", "-c", proxy.config_path, "-d", "0.2", *options], columns, lines, env))
    return start


def in_background(work):
    """Runs it; what it returns or raises is in .result."""
    class Job(threading.Thread):
        result = None

        def run(self):
            try:
                self.result = work()
            except psycopg.Error as e:
                self.result = e.sqlstate or "lost"

    job = Job(daemon=True)
    job.start()
    return job


def is_whole(terminal):
    """Nothing of a frame is outside of the screen: the first line is at the top, the keys are in the last one."""
    lines = terminal.text().splitlines()
    return lines[0].startswith("heliosdb-proxy") and lines[-1].startswith("q quit")


# ---------------------------------------------------------------- what it shows

def test_views(proxy, top, gate, closing):
    g = gate()
    busy = closing(proxy.connect(application_name="busy"))
    idle = closing(proxy.connect(application_name="idle"))
    idle.execute("SELECT 1")
    job = in_background(lambda: busy.execute(f"SELECT {g.passage}"))
    g.wait()
    terminal = top()
    terminal.wait_for("[1 pools]", "clients 2", "nodes 1/1", "ready", "DATABASE", "by WAITING down")
    assert terminal.line("app ").split()[:2] == ["app", "app"]
    terminal.send("2")
    terminal.wait_for("[2 queries]", "1 of 1", str(busy.info.backend_pid), "active")
    terminal.send("3")
    terminal.wait_for("[3 nodes]", f"127.0.0.1:{proxy.postgres.port}", "primary")
    terminal.send("\t")
    terminal.wait_for("[4 sessions]", "2 of 2", str(busy.info.backend_pid), str(idle.info.backend_pid))
    g.open()
    job.join(30)
    terminal.send("2")
    terminal.wait_for("[2 queries]", "0 of 0")
    terminal.send("q")
    assert terminal.wait_end() == 0


def test_query_statistics(proxy, top, closing):
    terminal = top(columns=200)
    terminal.send("6")
    terminal.wait_for("[6 statements]", "by TOTAL down", "0 of 0", "query statistics are off")
    proxy.reload({"analytics": {"enabled": True}})
    client = closing(proxy.connect())
    client.execute("SELECT pg_sleep(0.2) AS slow")
    for number in range(5):
        client.execute(f"SELECT {number} AS often")
    terminal.wait_for("2 of 2", "select ? as often", "select pg_sleep(?) as slow", gone=["are off"])

    def first():
        return terminal.text().splitlines()[4]

    wait_until(lambda: "slow" in first(), 20, terminal.text)
    terminal.send("<")
    terminal.wait_for("by CALLS down")
    wait_until(lambda: first().split()[0] == "5" and "often" in first(), 20, terminal.text)
    terminal.send("/slow\r")
    terminal.wait_for("1 of 2", gone=["often"])
    proxy.reload({"analytics": {"enabled": False}})
    terminal.wait_for("0 of 0", "query statistics are off")
    assert "query statistics are off" in batch(proxy, "-n", "1", "--view", "statements").stdout.decode()


def test_sort_filter_and_select(proxy, top, closing):
    clients = [closing(proxy.connect(application_name=f"app-{i:02d}")) for i in range(30)]
    pids = [c.info.backend_pid for c in clients]
    terminal = top("--view", "sessions", columns=140)
    terminal.wait_for("30 of 30", "by STATE up")

    def shown():
        return [int(m[1]) for m in re.finditer(r"^ *(\d+) app ", terminal.text(), re.M)]

    for _ in range(5):
        terminal.send("<")
    terminal.wait_for("by PID up")
    wait_until(lambda: shown() == sorted(pids)[:len(shown())] and len(shown()) == 19, 20, terminal.text)
    terminal.send("R")
    terminal.wait_for("by PID down")
    wait_until(lambda: shown()[0] == max(pids), 20, terminal.text)
    terminal.send("\x1b[F")  # End: the last row is in sight
    wait_until(lambda: min(pids) in shown(), 20, terminal.text)
    terminal.send("/APP-1\r")
    terminal.wait_for("10 of 30", "filter APP-1", gone=["app-20"])
    terminal.send("/\x7f07\r")
    terminal.wait_for("1 of 30", "app-07", gone=["app-17"])
    terminal.send("\x1b")
    terminal.wait_for("30 of 30", gone=["filter APP"])
    terminal.send("h")
    terminal.wait_for("drain the selected node")
    terminal.send("x ")
    terminal.wait_for("PAUSED")
    terminal.send(" ")
    terminal.wait_for("30 of 30", gone=["PAUSED"])


@pytest.mark.parametrize("columns,lines", [(80, 24), (40, 10), (250, 60), (20, 5)])
def test_it_fits(columns, lines, proxy, top, closing):
    for i in range(8):
        closing(proxy.connect(application_name=f"application with a long name {i}"))
    terminal = top("--view", "sessions", columns=columns, lines=lines)
    wait_until(lambda: is_whole(terminal) and "1 " in terminal.text(), 20, terminal.text)
    terminal.resize(100, 30)
    terminal.wait_for("STATE", "8 of 8")
    wait_until(lambda: is_whole(terminal), 20, terminal.text)


def test_hostile_names(proxy, top, postgres, closing):
    name = "ev\x1b[2J\x1b]0;owned\x07il\u202e日本語"
    quoted = '"' + name + '"'
    admin = closing(postgres.admin("postgres"))
    admin.execute(f"CREATE ROLE {quoted} LOGIN")
    try:
        closing(proxy.connect(user=name)).execute("SELECT 1")
        terminal = top("--view", "sessions", columns=120)
        terminal.wait_for("ev?[2J?]0~")
        wait_until(lambda: is_whole(terminal), 20, terminal.text)
        assert b"\x1b[2J" not in terminal.bytes and b"owned\x07" not in terminal.bytes
        terminal.send("q")
        assert terminal.wait_end() == 0
        latin = top("--view", "sessions", columns=200, env={"LC_ALL": "C"})
        latin.wait_for("ev?[2J?]0~")
        wait_until(lambda: is_whole(latin), 20, latin.text)
        assert all(b < 0x80 for b in latin.bytes)
    finally:
        proxy.stop()
        admin.execute(f"DROP ROLE {quoted}")


# ---------------------------------------------------------------- what it does

def test_cancel_and_kill_ask_first(proxy, top, gate, closing):
    g = gate()
    victim = closing(proxy.connect())
    job = in_background(lambda: victim.execute(f"SELECT {g.passage}"))
    g.wait()
    pid = victim.info.backend_pid
    terminal = top("--view", "queries")
    terminal.wait_for("1 of 1", str(pid))
    terminal.send("c")
    terminal.wait_for(f"cancel what session {pid} runs? y/N")
    terminal.send("n")
    terminal.wait_for("not done")
    assert job.is_alive()
    terminal.send("c")
    terminal.wait_for("? y/N")
    terminal.send("y")
    terminal.wait_for(": done")
    job.join(30)
    assert job.result == "57014"
    terminal.send("4")
    terminal.wait_for("[4 sessions]", "1 of 1")
    terminal.send("k")
    terminal.wait_for(f"close session {pid}? y/N")
    terminal.send("y")
    terminal.wait_for("0 of 0")
    with pytest.raises(psycopg.OperationalError):
        victim.execute("SELECT 1")
    terminal.send("k")
    terminal.wait_for("there is nothing selected")


def test_nodes_and_databases(proxy, top, closing):
    client = closing(proxy.connect())
    client.execute("SELECT 1")
    terminal = top("--view", "nodes", columns=120)
    terminal.wait_for("1 of 1", "primary")
    terminal.send("d")
    terminal.wait_for("drain node 127.0.0.1")
    terminal.send("y")
    terminal.wait_for("is the primary")  # the proxy's own words
    terminal.send("1")
    terminal.wait_for("[1 pools]", "app")
    terminal.send("p")
    terminal.wait_for("pause database app? y/N")
    terminal.send("y")
    wait_until(lambda: proxy.pools()[0]["paused"])
    terminal.send("r")
    terminal.wait_for("resume database app? y/N")
    terminal.send("y")
    wait_until(lambda: not proxy.pools()[0]["paused"])
    client.execute("SELECT 1")


# ---------------------------------------------------------------- what goes wrong

def test_a_proxy_that_is_away(proxy, top):
    terminal = top()
    terminal.wait_for("clients 0", "ready")
    proxy.stop()
    terminal.wait_for("cannot be reached", "trying again", "clients 0")  # what was known stays
    proxy.start()
    terminal.wait_for("ready", gone=["cannot be reached"])
    terminal.send("q")
    assert terminal.wait_end() == 0


def test_it_is_told_no(make_proxy, closing):
    proxy = make_proxy({"proxy": {"admin_token": "x" * 20}})
    url = f"http://127.0.0.1:{proxy.admin_port}"
    terminal = closing(Terminal(BINARY, ["top", "--url", url, "-d", "0.2"]))
    terminal.wait_for("token", "(401)")
    terminal.send("q")
    assert terminal.wait_end() == 0
    done = subprocess.run([BINARY, "top", "--url", url, "--batch", "-n", "1"], capture_output=True, timeout=60)
    assert done.returncode == 1 and b"(401)" in done.stderr


def attributes(terminal):
    return termios.tcgetattr(terminal.process.child_fd)


@pytest.mark.parametrize("how", ["q", "\x03", signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_terminal_is_as_before(how, proxy, closing):
    """It runs below a shell, which keeps the terminal open."""
    command = f"{BINARY} top -c {proxy.config_path} -d 0.2 & echo pid=$!; fg >/dev/null; echo over=$?; exec sleep 1000"
    shell = closing(Terminal("bash", ["--norc", "-c", "set -m; " + command.replace("& echo", "</dev/tty & echo")]))
    shell.wait_for("[1 pools]", "ready")
    during = attributes(shell)
    assert not during[3] & (termios.ICANON | termios.ECHO)
    pid = int(re.search(rb"pid=(\d+)", shell.bytes)[1])
    if isinstance(how, str):
        shell.send(how)
    else:
        os.kill(pid, how)
    shell.wait_for("over=0")
    after = attributes(shell)
    assert after[3] & termios.ICANON and after[3] & termios.ECHO
    assert shell.bytes.count(b"\x1b[?1049h") == shell.bytes.count(b"\x1b[?1049l") == 1
    assert shell.bytes.rindex(b"\x1b[?25h") > shell.bytes.rindex(b"\x1b[?25l")


def test_it_can_be_stopped_and_continued(proxy, closing):
    shell = closing(Terminal("bash", ["--norc", "--noprofile", "-i"], env={"PS1": "ready> ", "HISTFILE": ""}))
    shell.wait_for("ready>")
    shell.send(f"{BINARY} top -c {proxy.config_path} -d 0.2\r")
    shell.wait_for("[1 pools]", "ready  clients")
    shell.send("\x1a")
    shell.wait_for("Stopped")
    assert attributes(shell)[3] & termios.ECHO or "ready>" in shell.text()
    shell.send("fg\r")
    shell.wait_for("[1 pools]", "ready  clients")
    shell.send("q")
    wait_until(lambda: shell.read() and shell.bytes.count(b"\x1b[?1049l") == 2 and shell.bytes.endswith(b"ready> "))


def test_nobody_reads_any_more(proxy, closing):
    """The window was closed."""
    terminal = closing(Terminal(BINARY, ["top", "-c", proxy.config_path, "-d", "0.2"]))
    terminal.wait_for("ready  clients")
    pid = terminal.process.pid
    os.close(terminal.process.child_fd)
    terminal.process.closed = True
    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)


# ---------------------------------------------------------------- without a terminal

def batch(proxy, *options, **more):
    return subprocess.run([BINARY, "top", "-c", proxy.config_path, "--batch", *options], capture_output=True, timeout=60, **more)


def test_batch(proxy, closing):
    client = closing(proxy.connect())
    client.execute("SELECT 1")
    done = batch(proxy, "-n", "2", "-d", "0.2")
    assert done.returncode == 0 and not done.stderr
    text = done.stdout.decode()
    assert text.count("DATABASE") == 2 and "\x1b" not in text and "clients 1" in text
    text = batch(proxy, "-n", "1", "--view", "sessions").stdout.decode()
    assert str(client.info.backend_pid) in text
    narrow = batch(proxy, "-n", "1", "--view", "sessions", env={**os.environ, "COLUMNS": "60"}).stdout.decode()
    assert all(len(line) <= 60 for line in narrow.splitlines()[2:])
    piped = subprocess.run([BINARY, "top", "-c", proxy.config_path, "-n", "1"], capture_output=True, timeout=60)
    assert piped.returncode == 0 and b"\x1b" not in piped.stdout  # no terminal: plain by itself


def test_batch_that_is_ended(proxy):
    process = subprocess.Popen([BINARY, "top", "-c", proxy.config_path, "--batch", "-d", "60"], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()


def test_batch_without_a_proxy():
    done = subprocess.run([BINARY, "top", "--url", "http://127.0.0.1:1", "--batch", "-n", "1"], capture_output=True, timeout=60)
    assert done.returncode == 3 and b"cannot be reached" in done.stderr
    assert subprocess.run([BINARY, "top", "--view", "nonsense"], capture_output=True, timeout=60).returncode == 2
