"""
`heliosdb-proxy ctl`: what it says is what the admin API says, what it does has happened, and its exit status tells which;
how it finds the proxy and the token; that nobody's name controls a terminal; completion in real shells.
"""

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import threading

import psycopg
import pytest

from conftest import BINARY
from harness.terminal import Terminal
from harness.wait import wait_until

TOKEN = "ctl-s3cret-token"


class Ctl:
    """ctl of one proxy."""

    def __init__(self, proxy, env=None):
        self.proxy = proxy
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HELIOS_ADMIN")}
        self.env.update(env or {})

    def run(self, *words, config=True, stdin=None):
        """(exit status, standard output, standard error)"""
        where = ["--config", self.proxy.config_path] if config else []
        done = subprocess.run([BINARY, "ctl", *where, *(str(w) for w in words)], capture_output=True, timeout=60,
                              env=self.env, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def __call__(self, *words):
        status, out, error = self.run(*words)
        assert status == 0, (words, status, out, error)
        return out

    def json(self, *words):
        return json.loads(self("--output", "json", *words))

    def csv(self, *words):
        return list(csv.DictReader(io.StringIO(self("--output", "csv", *words), newline="")))

    def refused(self, *words, status=1):
        found, out, error = self.run(*words)
        assert found == status and not out, (words, found, out, error)
        return error


@pytest.fixture
def ctl(make_proxy):
    proxy = make_proxy({"proxy": {"admin_token": TOKEN}})
    return Ctl(proxy)


# ---------------------------------------------------------------- what it shows

def test_it_shows_what_the_api_says(ctl, closing):
    client = closing(ctl.proxy.connect(application_name="shop"))
    client.execute("SELECT 1")
    assert ctl.json("status")["clients"] == 1
    assert ctl.json("whoami")["role"] == "admin"
    assert [n["name"] for n in ctl.json("nodes")["items"]] == [n["name"] for n in ctl.proxy.json("/nodes")]
    pool, = ctl.json("pools")["items"]
    assert pool["database"] == "app" and pool["clients"] == 1
    session, = ctl.json("sessions", "application=shop", "database=app")["items"]
    assert session["pid"] == client.info.backend_pid and session["state"] == "idle"
    assert ctl.json("sessions", "application=shopping")["items"] == []
    assert ctl.json("session", session["pid"])["application"] == "shop"
    assert len(ctl.json("topology")["items"]) == 1
    setting, = ctl.json("config", "pool.mode")["items"]
    assert setting["value"] == "transaction"
    assert {i["key"] for i in ctl.json("config")["items"]} >= {i["key"] for i in ctl.json("config", "pool")["items"]} > {"pool.mode"}


def test_query_statistics(ctl, closing):
    assert ctl.json("queries")["enabled"] is False
    ctl.proxy.reload({"analytics": {"enabled": True}})
    client = closing(ctl.proxy.connect())
    for number in range(7):
        client.execute(f"SELECT {number} AS often")
    client.execute("CREATE TEMP TABLE once (n int)")
    assert ctl.json("queries", "sort=calls", "limit=1")["items"][0]["query"] == "select ? as often"
    row, = ctl.csv("queries", "class=schema")
    assert row["query"] == "create temp table once(n int)" and (row["calls"], row["user"]) == ("1", "app")
    row, = ctl.csv("queries", "query=OFTEN")
    assert row["calls"] == "7" and row["rows"] == "7"
    assert ctl.csv("queries", f"query={row['fingerprint']}") == [row]
    assert ctl.csv("queries", "database=none") == []
    assert ctl("queries").startswith("total_ms ")
    assert dict((r["key"], r["value"]) for r in ctl.csv("queries", "reset"))["fingerprints"] == "2"
    assert ctl.json("queries")["items"] == []


def test_formats(ctl, closing):
    client = closing(ctl.proxy.connect(application_name='a "b", c'))
    client.execute("SELECT 1")
    session, = ctl.json("sessions")["items"]
    row, = ctl.csv("sessions")
    assert row["application"] == 'a "b", c' and row["pid"] == str(session["pid"])
    assert row["pinned"] == "no" and row["tls"] == ""
    head, line = ctl("sessions").splitlines()
    assert head.split()[:3] == ["pid", "database", "user"] and line.split()[:3] == [str(session["pid"]), "app", "app"]
    assert dict((r["key"], r["value"]) for r in ctl.csv("status"))["clients"] == "1"
    assert ["ready", "yes"] in [line.split() for line in ctl("status").splitlines()]
    assert ctl("topology").startswith("primary ")


def test_raw_paths(ctl):
    assert json.loads(ctl("get", "/livez")) == {"alive": True}
    assert "# TYPE heliosdb_proxy" in ctl("get", "/metrics")
    assert ctl("post", "/api/v1/reload").startswith("{")
    assert "takes a path" in ctl.refused("get", "livez", status=2)
    assert "405" in ctl.refused("delete", "/livez")


# ---------------------------------------------------------------- what it does

def test_cancel_and_kill(ctl, gate, closing):
    g = gate()
    victim = closing(ctl.proxy.connect())
    victim.execute("SELECT 1")
    assert "(409)" in ctl.refused("cancel", victim.info.backend_pid)
    seen = []

    def work():
        try:
            victim.execute(f"SELECT {g.passage}")
        except psycopg.Error as e:
            seen.append(e.sqlstate)

    worker = threading.Thread(target=work)
    worker.start()
    g.wait()
    ctl("cancel", victim.info.backend_pid)
    worker.join(30)
    assert seen == ["57014"]
    ctl("kill", victim.info.backend_pid)
    with pytest.raises(psycopg.OperationalError):
        victim.execute("SELECT 1")
    assert "(404)" in ctl.refused("kill", victim.info.backend_pid)


def test_nodes_come_and_go(ctl, make_postgres):
    other = make_postgres()
    ctl("node", "add", f"127.0.0.1:{other.port}", "name=second", "role=standby", "weight=7", "enabled=true")
    assert {n["name"]: n["weight"] for n in ctl.json("nodes")["items"]}["second"] == 7
    ctl("node", "drain", "second", "deadline_secs=30")
    assert ctl.json("node", "show", "second")["draining"]
    ctl("node", "undrain", "second")
    assert not ctl.json("node", "show", "second")["draining"]
    ctl("node", "disable", "second")
    assert ctl.json("node", "show", "second")["enabled"] is False
    ctl("node", "enable", "second")
    assert ctl.json("node", "show", "second")["enabled"] is True
    ctl("node", "remove", "second")
    wait_until(lambda: len(ctl.json("nodes")["items"]) == 1)
    primary = ctl.json("nodes")["items"][0]["name"]
    assert "primary" in ctl.refused("node", "drain", primary) and ctl.json("node", "show", primary)["draining"] is None


def test_databases_are_operated(ctl, closing):
    client = closing(ctl.proxy.connect())
    client.execute("SELECT 1")
    ctl("pause", "app")
    wait_until(lambda: ctl.json("pools")["items"][0]["paused"])
    ctl("resume", "app")
    assert not ctl.json("pools")["items"][0]["paused"]
    client.execute("SELECT 1")
    ctl("disable", "app")
    with pytest.raises(psycopg.OperationalError):
        ctl.proxy.connect()
    ctl("enable", "app")
    closing(ctl.proxy.connect())
    ctl("reconnect", "app")
    client.execute("SELECT 1")


def test_reload_says_what_changed(ctl):
    ctl.proxy.config["pool"]["query_wait_timeout"] = "200s"
    ctl.proxy.write_config()
    assert "pool.query_wait_timeout" in json.dumps(ctl.json("reload")["changed"])
    ctl.proxy.config["pool"]["query_wait_timeout"] = "nonsense"
    ctl.proxy.write_config()
    status, _, error = ctl.run("--url", f"http://127.0.0.1:{ctl.proxy.admin_port}", "--token-file", "-", "reload", config=False,
                               stdin=TOKEN.encode())
    assert status == 1 and "not reloaded" in error


# ---------------------------------------------------------------- which proxy, which token

def test_exit_status(ctl):
    assert "(404)" in ctl.refused("session", "4000000000")
    assert "did you mean nodes?" in ctl.refused("nodse", status=2)
    for wrong in [[], ["node"], ["kill"], ["kill", "abc"], ["sessions", "colour=red"], ["status", "more"], ["--output", "xml", "status"],
                  ["--follow", "nodes"], ["node", "add", "host:99999"], ["node", "add", "h:1", "weight=heavy"], ["--timeout", "0", "status"]]:
        ctl.refused(*wrong, status=2)
    status, _, error = ctl.run("--url", "http://127.0.0.1:1", "status", config=False)
    assert status == 3 and "cannot be reached" in error
    # a port that is somebody else's
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)

    def answer():
        peer, _ = listener.accept()
        peer.recv(4096)
        peer.sendall(b"220 mail.example ESMTP\r\n")
        peer.close()

    thread = threading.Thread(target=answer)
    thread.start()
    status, _, error = ctl.run("--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "status", config=False)
    thread.join()
    listener.close()
    assert status == 3, error


def test_the_token_comes_from_many_places(ctl, tmp_path):
    url = f"http://127.0.0.1:{ctl.proxy.admin_port}/"
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    assert "(401)" in ctl.run("--url", url, "pools", config=False)[2]
    assert ctl.run("--url", url, "--token-file", file, "pools", config=False)[0] == 0
    assert Ctl(ctl.proxy, {"HELIOS_ADMIN_TOKEN": TOKEN}).run("--url", url, "pools", config=False)[0] == 0
    both = {"HELIOS_ADMIN_TOKEN": TOKEN, "HELIOS_ADMIN_URL": url}
    assert Ctl(ctl.proxy, both).run("pools", config=False)[0] == 0
    # what is said on the command line counts more
    file.write_text("wrong\n")
    assert "(401)" in Ctl(ctl.proxy, both).run("--token-file", file, "pools", config=False)[2]
    assert ctl.run("--url", url, "--token-file", tmp_path / "none", "pools", config=False)[0] == 2


def test_the_configurations_token_goes_nowhere_else(ctl):
    """With a URL of its own the file's token stays where it is."""
    heard = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)

    def listen():
        peer, _ = listener.accept()
        heard.append(peer.recv(65536))
        peer.close()

    thread = threading.Thread(target=listen)
    thread.start()
    ctl.run("--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "status")
    thread.join()
    listener.close()
    assert b"GET /api/v1/status" in heard[0] and b"uthorization" not in heard[0] and TOKEN.encode() not in heard[0]


def test_the_socket_of_the_configuration(make_proxy, tmp_path):
    proxy = make_proxy({"proxy": {"admin_token": TOKEN}, "admin": {"socket": str(tmp_path / "admin")}})
    ctl = Ctl(proxy)
    assert ctl.json("status")["ready"] is True
    assert ctl.run("--socket", tmp_path / "admin", "status", config=False)[0] == 0  # the proxy's own user needs no token
    status, _, error = ctl.run("--socket", tmp_path / "none", "status", config=False)
    assert status == 3 and "none" in error


def test_a_configuration_that_is_wrong(ctl, tmp_path):
    broken = tmp_path / "proxy.toml"
    broken.write_text(open(ctl.proxy.config_path).read().replace("max_connections", "max_conections"))
    status, _, error = ctl.run("-c", broken, "status", config=False)
    assert status == 2 and str(broken) in error and "max_conections" in error


# ---------------------------------------------------------------- terminals

def test_it_asks_on_a_terminal(ctl, closing):
    client = closing(ctl.proxy.connect())
    pid = client.info.backend_pid
    for answer, status in [("n", 1), ("", 1), ("y", 0)]:
        assert client.execute("SELECT 1").fetchone() == (1,)
        terminal = closing(Terminal(BINARY, ["ctl", "-c", ctl.proxy.config_path, "kill", pid]))
        terminal.wait_for(f"kill {pid}? [y/N]")
        terminal.send(answer + "\r")
        assert terminal.wait_end() == status
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    client = closing(ctl.proxy.connect())
    terminal = closing(Terminal(BINARY, ["ctl", "-c", ctl.proxy.config_path, "--yes", "kill", client.info.backend_pid]))
    assert terminal.wait_end() == 0 and "[y/N]" not in terminal.text()


def test_no_name_controls_the_terminal(ctl, postgres, closing):
    name = "ev\x1b[2J\x1b]0;owned\x07il\x9b31m\u202eabc"
    quoted = '"' + name + '"'
    admin = closing(postgres.admin("postgres"))
    admin.execute(f"CREATE ROLE {quoted} LOGIN")
    try:
        client = closing(ctl.proxy.connect(user=name))
        client.execute("SELECT 1")
        assert ctl.json("sessions")["items"][0]["user"] == name
        assert ctl.csv("sessions")[0]["user"] == name  # for a program it is exact
        for words in (["sessions"], ["-o", "csv", "sessions"], ["-o", "json", "sessions"], ["session", client.info.backend_pid],
                      ["get", "/api/v1/sessions"], ["get", "/metrics"]):
            terminal = closing(Terminal(BINARY, ["ctl", "-c", ctl.proxy.config_path, *words], columns=200))
            assert terminal.wait_end() == 0
            seen = terminal.bytes.decode()
            assert "ev" in seen and not any(c in seen for c in "\x1b\x07\x9b\u202e"), (words, seen)
        client.close()
        wait_until(lambda: not ctl.proxy.sessions())
    finally:
        ctl.proxy.stop()
        admin.execute(f"DROP ROLE {quoted}")


# ---------------------------------------------------------------- completion

class Shell:
    """bash or zsh on a terminal, with the program on its path and completion as the package installs it."""

    def __init__(self, name, ctl, folder):
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "heliosdb-proxy").symlink_to(os.path.abspath(BINARY))
        script = subprocess.run([BINARY, "completion", name], capture_output=True, check=True).stdout
        env = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PS1": "ready> ", "HOME": str(folder), "HELIOS_ADMIN_TOKEN": TOKEN,
               "HELIOS_ADMIN_URL": f"http://127.0.0.1:{ctl.proxy.admin_port}", "HISTFILE": "", "INPUTRC": "/dev/null"}
        if name == "bash":
            (folder / "rc").write_text(f"PS1='ready> '\nbind 'set enable-bracketed-paste off'\nbind 'set bell-style none'\nbind 'set show-all-if-ambiguous on'\n"
                                       f"bind 'set completion-query-items 0'\nbind 'set page-completions off'\n. {folder}/script\n")
            (folder / "script").write_bytes(script)
            arguments = ["--noprofile", "--rcfile", folder / "rc", "-i"]
        else:
            functions = folder / "functions"
            functions.mkdir()
            (functions / "_heliosdb-proxy").write_bytes(script)
            (folder / ".zshrc").write_text(f"PS1='ready> '\nunsetopt zle_bracketed_paste prompt_sp prompt_cr\nfpath=({functions} $fpath)\n"
                                           f"autoload -Uz compinit\ncompinit -u -d {folder}/dump\nzstyle ':completion:*' menu no\n"
                                           "unsetopt auto_menu list_beep\nunset zle_bracketed_paste\n")
            env["ZDOTDIR"] = str(folder)
            arguments = ["-i"]
        self.terminal = Terminal(name, arguments, columns=160, lines=50, env=env)
        self.terminal.wait_for("ready>")

    def complete(self, line, *expected, gone=()):
        """Types the line and a tab (twice, so that choices are listed), and waits for what is on the screen."""
        self.terminal.send(line + "\t\t")
        self.terminal.wait_for(*expected, gone=gone)
        self.terminal.send("\x15\x0c")  # an empty line, an empty screen
        wait_until(lambda: self.terminal.text().strip() == "ready>", 30, self.terminal.text)

    def close(self):
        self.terminal.close()


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_shells_complete(name, ctl, closing, tmp_path, make_postgres):
    if not shutil.which(name):
        pytest.skip(f"no {name} here")
    client = closing(ctl.proxy.connect())
    client.execute("SELECT 1")
    pid = client.info.backend_pid
    ctl("node", "add", "127.0.0.1:1", "name=second-node", "enabled=false")
    shell = closing(Shell(name, ctl, tmp_path))
    shell.complete("heliosdb-proxy ct", "heliosdb-proxy ctl ")
    shell.complete("heliosdb-proxy ctl no", "ctl node", "nodes")
    shell.complete("heliosdb-proxy ctl node dr", "ctl node drain ")
    shell.complete("heliosdb-proxy ctl node drain seco", "drain second-node ")
    shell.complete("heliosdb-proxy ctl node drain 127", f"drain 127.0.0.1:{ctl.proxy.postgres.port}")
    shell.complete("heliosdb-proxy ctl node drain second-node fo", "second-node force=")
    shell.complete("heliosdb-proxy ctl node drain second-node force=tr", "second-node force=true")
    shell.complete("heliosdb-proxy ctl queries ", "reset", "sort=")
    shell.complete("heliosdb-proxy ctl queries sort=p", "queries sort=p99_time")
    shell.complete("heliosdb-proxy ctl kill ", f"kill {pid} ")
    shell.complete("heliosdb-proxy ctl pause a", "pause app ")
    shell.complete("heliosdb-proxy ctl --output cs", "--output csv ")
    shell.complete("heliosdb-proxy ctl sessions data", "sessions database=")
    shell.complete("heliosdb-proxy ctl --token-file /etc/passw", "--token-file /etc/passwd")
    shell.complete("heliosdb-proxy top --view qu", "--view queries ")


def test_completion_offers_nothing_that_a_shell_would_run(ctl, closing, postgres):
    name = "$(touch /tmp/owned)`id`;x"
    admin = closing(postgres.admin("postgres"))
    admin.execute(f'CREATE DATABASE "{name}"')
    try:
        closing(ctl.proxy.connect(database=name)).execute("SELECT 1")
        closing(ctl.proxy.connect()).execute("SELECT 1")
        found = subprocess.run([BINARY, "complete", "--", "ctl", "-c", ctl.proxy.config_path, "pause", ""], capture_output=True,
                               timeout=30, check=True).stdout.decode()
        assert found.splitlines() == ["app"]
    finally:
        ctl.proxy.stop()
        admin.execute(f'DROP DATABASE "{name}"')


def test_completion_waits_a_second_at_most(ctl):
    """A proxy that does not answer: the listener takes the connection and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = subprocess.run([BINARY, "complete", "--", "ctl", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "kill", ""],
                          capture_output=True, timeout=60, check=True)
    listener.close()
    assert done.stdout == b""


# ---------------------------------------------------------------- streams

class Follower:
    """ctl that follows something; its lines as they come."""

    def __init__(self, ctl, *words):
        self.process = subprocess.Popen([BINARY, "ctl", "-c", ctl.proxy.config_path, "-o", "json", *words], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=ctl.env, text=True)
        self.lines, self.errors = [], []
        self.threads = [threading.Thread(target=lambda to=to, pipe=pipe: to.extend(iter(pipe.readline, "")), daemon=True)
                        for to, pipe in ((self.lines, self.process.stdout), (self.errors, self.process.stderr))]
        for thread in self.threads:
            thread.start()

    def items(self):
        return [json.loads(line) for line in self.lines]

    def end(self):
        self.process.terminate()
        status = self.process.wait(30)
        for thread in self.threads:
            thread.join(30)
        return status

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def need(ctl, path):
    """A build without this part of the API says so."""
    if ctl.proxy.admin(path)[0] in (404, 501):
        pytest.skip(f"{path} is not in this build")


def test_events_are_followed_through_a_restart(ctl, closing):
    need(ctl, "/api/v1/events")
    follower = closing(Follower(ctl, "events", "--follow"))

    def something_happens():
        ctl("pause", "app")
        ctl("resume", "app")
        return any(e["subject"] == "app" for e in follower.items())

    wait_until(something_happens, 30, lambda: str(follower.errors))
    seqs = [e["seq"] for e in follower.items()]
    assert seqs == sorted(set(seqs))
    assert any(e["subject"] == "app" for e in ctl.json("events", "limit=100")["items"])
    ctl.proxy.stop()
    wait_until(lambda: any("trying again" in line for line in follower.errors))
    ctl.proxy.start()
    before = len(follower.lines)
    wait_until(lambda: something_happens() and len(follower.lines) > before, 30)
    assert follower.end() == 0


def test_the_log_is_followed(ctl, closing):
    need(ctl, "/api/v1/log")
    follower = closing(Follower(ctl, "log", "--follow", "level=info"))

    def logged():
        ctl("reload")
        return any("configuration reloaded" in line for line in follower.lines)

    wait_until(logged, 30, lambda: str(follower.errors))
    assert follower.end() == 0


def test_sql(ctl):
    need(ctl, "/api/v1/sql")
    who = ["database=app", "user=app"]
    row, = ctl.csv("sql", "SELECT 1 AS a, NULL AS b, E'x\\ny\\033[0m' AS c", *who)
    assert row == {"a": "1", "b": "", "c": "x\ny\x1b[0m"}
    status, out, error = ctl.run("-o", "csv", "sql", "SELECT generate_series(1, 20) AS n", "max_rows=3", *who)
    assert status == 0 and out.split() == ["n", "1", "2", "3"] and "more rows" in error
    assert "syntax error" in ctl.refused("sql", "SELEC", *who)
    assert ctl.json("explain", "SELECT 1", *who)["to"]


def test_a_stream_that_is_refused(ctl):
    status, out, error = ctl.run("--url", f"http://127.0.0.1:{ctl.proxy.admin_port}", "events", "--follow", config=False)
    assert status == 1 and not out and "(401)" in error
    assert ctl.run("--url", "http://127.0.0.1:1", "events", "--follow", config=False)[0] == 3
