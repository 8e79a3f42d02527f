"""
Whom the clients connect to, by name:

    direct                      PostgreSQL itself
    helios, helios-1w           the proxy, with as many workers as cores, and with one
    pgbouncer                   PgBouncer from the path
    pgbouncer-session           the same in session mode with a link for each client

Each may have options after a colon: helios:workers=2,pool=8,binary=/tmp/other/heliosdb-proxy. What a target needs is
started when it is first used and ends with the run.
"""

import os
import re
import subprocess

from .process import Server, find_program, free_port, give

POOL = 20
CLIENTS = 2100
USERS = '"bench" "bench"\n"bench_scram" "bench_scram"\n'
HBA = "host all bench_scram 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"


class Target:
    can_prepare = True  # protocol-level prepared statements, with links shared
    link_for_each = False  # a client has a server process of its own
    options = ("pool",)

    def __init__(self, name, settings, bench):
        self.name, self.settings, self.bench = name, settings, bench
        self.server = None
        unknown = set(settings) - set(self.options)
        if unknown:
            raise SystemExit(f"run.py: {name}: no such option: {', '.join(sorted(unknown))}")

    def write(self, name, text):
        path = os.path.join(self.bench.folder, re.sub(r"\W", "_", self.name) + "." + name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        give(path)
        return path

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
        return clients // 50 if self.link_for_each else 0


class Direct(Target):
    options = ()
    link_for_each = True

    def start(self):
        return self

    @property
    def port(self):
        return self.bench.postgres.port

    @staticmethod
    def version(bench):
        return "PostgreSQL " + bench.postgres.sql("SHOW server_version").split()[0]


class Helios(Target):
    options = ("pool", "workers", "binary", "io")
    log_level = "warn"

    def spawn(self):
        port = free_port()
        workers = int(self.settings.get("workers", os.cpu_count()))
        users = self.write("users", USERS)
        hba = self.write("hba", HBA)
        config = self.write("toml", f"""
[proxy]
listen_address = "127.0.0.1:{port}"
admin_address = ""
workers = {workers}
io = "{self.settings.get('io', 'auto')}"
max_clients = {CLIENTS}

[pool]
mode = "transaction"
max_connections = {self.pool}

[auth]
hba_file = "{hba}"
auth_file = "{users}"

[server_tls]
mode = "disable"

[log]
level = "{self.log_level}"
connections = false
disconnections = false

[[nodes]]
host = "127.0.0.1"
port = {self.bench.postgres.port}
role = "primary"
""")
        binary = self.settings.get("binary", self.bench.binary)
        return Server(self.bench.folder, self.name, [binary, "--config", config], port)

    @staticmethod
    def version(bench):
        done = subprocess.run([bench.binary, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[0]


class PgBouncer(Target):
    mode = "transaction"

    def __init__(self, name, settings, bench):
        super().__init__(name, settings, bench)
        self.program = find_program("pgbouncer")
        self.can_prepare = self.mode == "session" or pgbouncer_version(self.program) >= (1, 21)

    def spawn(self):
        port = free_port()
        users = self.write("users", USERS)
        hba = self.write("hba", HBA)
        prepared = ""
        if pgbouncer_version(self.program) >= (1, 21):
            prepared = "max_prepared_statements = 200"
        config = self.write("ini", f"""
[databases]
bench = host=127.0.0.1 port={self.bench.postgres.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = hba
auth_hba_file = {hba}
auth_file = {users}
pool_mode = {self.mode}
default_pool_size = {self.pool}
max_client_conn = {CLIENTS}
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
{prepared}
""")
        return Server(self.bench.folder, self.name, [self.program, config], port)

    @staticmethod
    def version(_bench):
        program = find_program("pgbouncer")
        return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


class PgBouncerSession(PgBouncer):
    mode = "session"
    link_for_each = True

    @property
    def pool(self):
        return int(self.settings.get("pool", 1000))


def pgbouncer_version(program):
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(n) for n in re.search(r"(\d+)\.(\d+)", text).groups())


KINDS = {
    "direct": (Direct, {}),
    "helios": (Helios, {}),
    "helios-1w": (Helios, {"workers": "1"}),
    "pgbouncer": (PgBouncer, {}),
    "pgbouncer-session": (PgBouncerSession, {}),
}


def make_target(text, bench):
    kind, _, options = text.partition(":")
    if kind not in KINDS:
        raise SystemExit(f"run.py: {kind}: none of {', '.join(KINDS)}")
    make, settings = KINDS[kind]
    settings = dict(settings)
    for option in filter(None, options.split(",")):
        key, sign, value = option.partition("=")
        if not sign:
            raise SystemExit(f"run.py: {text}: options are key=value")
        settings[key] = value
    return make(text, settings, bench)
