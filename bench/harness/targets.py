"""
Whom the clients connect to, by name:

    direct                      PostgreSQL itself
    relay, relay-unix           an ideal relay (bench/relay.c): bytes copied, nothing looked at, a server connection for
                                each client; by loopback TCP, and by the server's unix socket
    helios, helios-1w           the proxy, with as many workers as cores, and with one
    helios-unix                 the same, by the server's unix socket
    helios-epoll, helios-uring  with one back end and with the other
    helios-shared               with shared links ([pool] share)
    pgbouncer, pgbouncer-session, pgbouncer-new, odyssey, pgcat, rust       see peers.py

Each may have options after a colon: helios:workers=2,pool=8,binary=/tmp/other/heliosdb-proxy. The proxy takes every key
of its configuration as section.key=value: helios:pool.share=auto,proxy.io=epoll. What a target needs is started when
it is first used and ends with the run; a target that does not start is left out, and the others go on.
"""

import os
import re
import subprocess

from .process import Server, free_port, give

POOL = 20
USERS = '"bench" "bench"\n"bench_scram" "bench_scram"\n'
HBA = "host all bench_scram 127.0.0.0/8 scram-sha-256\nhost all all 127.0.0.0/8 trust\n"


class Target:
    can_prepare = True  # protocol-level prepared statements, with links shared
    can_scram = True  # asks its clients for passwords by SCRAM
    link_for_each = False  # a client has a server process of its own
    is_peer = False
    server_is_ours = True  # the process under measurement is no server of PostgreSQL's
    answers_itself = False  # some queries, without a server
    can_tls = True
    options = ("pool",)

    def __init__(self, name, settings, bench):
        self.name, self.settings, self.bench = name, settings, bench
        self.server = None
        unknown = set(settings) - set(self.options)
        if unknown:
            raise SystemExit(f"run.py: {name}: no such option: {', '.join(sorted(unknown))}")

    def missing(self):
        """Why it can't be measured here; empty: it can."""
        return ""

    def write(self, name, text):
        path = os.path.join(self.bench.folder, re.sub(r"\W", "_", self.name) + "." + name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o640)
        give(path)
        return path

    def run(self, command, port):
        return Server(self.bench.folder, self.name, command, port)

    def start(self):
        if self.server is None:
            self.server = self.spawn()
        return self

    def stop(self):
        if self.server is not None:
            self.server.stop()
            self.server = None

    @property
    def port(self):
        return self.server.port

    @property
    def pool(self):
        return int(self.settings.get("pool", POOL))

    def connect_seconds(self, clients):
        """pgbench's time runs from before it connects; its tps doesn't count that."""
        return clients // 100 + 1 if self.link_for_each and clients > 16 else 0


class Direct(Target):
    options = ()
    link_for_each = True
    server_is_ours = False

    def start(self):
        return self

    @property
    def port(self):
        return self.bench.postgres.port

    def version(self):
        return "PostgreSQL " + self.bench.postgres.sql("SHOW server_version").split()[0]


class Relay(Target):
    options = ("unix", "threads")
    link_for_each = True

    @property
    def can_tls(self):
        return not self.settings.get("unix")  # the server has none there, and the relay itself never

    def spawn(self):
        port, server = free_port(), str(self.bench.postgres.port)
        if self.settings.get("unix"):
            server = f"{self.bench.folder}/.s.PGSQL.{server}"
        return self.run([self.bench.relay, str(port), server, self.settings.get("threads", "1")], port)

    def version(self):
        return "relay of bench/"


class Helios(Target):
    """The proxy. Short names of options stand for keys of its configuration."""

    options = ("binary", "unix")
    answers_itself = True
    short = {"pool": "pool.max_connections", "workers": "proxy.workers", "io": "proxy.io", "share": "pool.share"}

    def __init__(self, name, settings, bench):
        self.keys = {self.short.get(key, key): value for key, value in settings.items() if key not in self.options}
        super().__init__(name, {key: value for key, value in settings.items() if key in self.options}, bench)
        wrong = [key for key in self.keys if not re.fullmatch(r"\w+\.\w+", key)]
        if wrong:
            raise SystemExit(f"run.py: {name}: {wrong[0]} is no option: one is section.key=value")

    @property
    def binary(self):
        return self.settings.get("binary", self.bench.binary)

    def config(self, port):
        keys = {
            "proxy.listen_address": f"127.0.0.1:{port}", "proxy.admin_address": "", "proxy.workers": str(os.cpu_count()),
            "proxy.max_clients": str(self.bench.most_clients), "pool.mode": "transaction",
            "pool.max_connections": str(POOL), "auth.hba_file": self.write("hba", HBA),
            "auth.auth_file": self.write("users", USERS), "tls.cert_path": self.bench.certificate[0],
            "tls.key_path": self.bench.certificate[1], "server_tls.mode": "disable", "log.level": "warn",
            "log.connections": "false", "log.disconnections": "false", **self.keys}
        sections = {}
        for key, value in keys.items():
            section, _, name = key.partition(".")
            sections.setdefault(section, []).append(f"{name} = {toml(value)}")
        host = self.bench.folder if self.settings.get("unix") else "127.0.0.1"
        text = "".join(f"[{section}]\n" + "\n".join(lines) + "\n\n" for section, lines in sections.items())
        return text + f'[[nodes]]\nhost = "{host}"\nport = {self.bench.postgres.port}\nrole = "primary"\n'

    def missing(self):
        path = self.write("check.toml", self.config(1))
        done = subprocess.run([self.binary, "--config", path, "--check-config"], capture_output=True, text=True,
                              check=False)
        errors = [line.rpartition("error: ")[2] for line in done.stderr.splitlines() if "error: " in line]
        return ", ".join(errors) or "its configuration is refused" if done.returncode else ""

    def spawn(self):
        port = free_port()
        return self.run([self.binary, "--config", self.write("toml", self.config(port))], port)

    def version(self):
        done = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[0]


def toml(value):
    """A value as TOML has it: what looks like a number, a truth or an array is one."""
    return value if re.fullmatch(r"-?\d+(\.\d+)?|true|false|\[.*\]", value) else '"' + value.replace('"', '\\"') + '"'


OWN = {
    "direct": (Direct, {}),
    "relay": (Relay, {}),
    "relay-unix": (Relay, {"unix": "yes"}),
    "helios": (Helios, {}),
    "helios-1w": (Helios, {"workers": "1"}),
    "helios-unix": (Helios, {"unix": "yes"}),
    "helios-epoll": (Helios, {"io": "epoll"}),
    "helios-uring": (Helios, {"io": "io_uring"}),
    "helios-shared": (Helios, {"share": "autocommit"}),
}
