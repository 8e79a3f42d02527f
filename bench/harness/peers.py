"""
Other poolers, each with its own idea of the same settings: transaction pooling, 20 server connections, as many threads
as cores where it has threads, no log lines for clients.

    pgbouncer             from the path: Debian's 1.18
    pgbouncer-session     the same in session mode with a link for each client, for what 1.18 can't do otherwise
    pgbouncer-new         a newer one, which shares prepared statements
    odyssey, pgcat        from the path
    rust                  the Rust heliosdb-proxy (scripts/get-peers builds it)

A program that is not on the path may lie in the folder of peers, NAME/bin, or be named: pgcat:binary=/somewhere/pgcat.
"""

import functools
import os
import re
import subprocess

from .process import environment, find_program, free_port
from .targets import HBA, USERS, Target


@functools.lru_cache(maxsize=None)
def version_of(program):
    done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          env=environment(), timeout=20)
    text = (done.stdout + done.stderr).strip()
    return text.splitlines()[0] if text else ""


class Peer(Target):
    is_peer = True
    options = ("pool", "binary", "workers")
    program_name, folder, on_path = "", None, True

    @property
    def program(self):
        return self.settings.get("binary") or find_program(self.program_name, self.folder, self.on_path)

    def missing(self):
        return "" if self.program else f"{self.program_name} is not here"

    @property
    def workers(self):
        return self.settings.get("workers", str(os.cpu_count()))

    def version(self):
        return version_of(self.program)


class PgBouncer(Peer):
    """One thread."""

    program_name, mode = "pgbouncer", "transaction"

    @property
    def can_prepare(self):
        numbers = re.search(r"(\d+)\.(\d+)", self.version())
        return self.mode == "session" or tuple(int(n) for n in numbers.groups()) >= (1, 21)

    def spawn(self):
        port = free_port()
        prepared = "max_prepared_statements = 200" if self.can_prepare and self.mode != "session" else ""
        config = self.write("ini", f"""
[databases]
bench = host=127.0.0.1 port={self.bench.postgres.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
listen_backlog = 4096
unix_socket_dir =
auth_type = hba
auth_hba_file = {self.write("hba", HBA)}
auth_file = {self.write("users", USERS)}
pool_mode = {self.mode}
default_pool_size = {self.pool}
max_client_conn = {self.bench.most_clients}
client_tls_sslmode = allow
client_tls_cert_file = {self.bench.certificate[0]}
client_tls_key_file = {self.bench.certificate[1]}
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
{prepared}
""")
        return self.run([self.program, config], port)


class PgBouncerSession(PgBouncer):
    mode = "session"
    link_for_each = True

    @property
    def pool(self):
        return int(self.settings.get("pool", 1100))


class PgBouncerNew(PgBouncer):
    folder, on_path = "pgbouncer", False


class Odyssey(Peer):
    program_name = "odyssey"

    def spawn(self):
        port = free_port()
        rule = f"""
		storage "server"
		storage_db "bench"
		storage_user "bench"
		pool "transaction"
		pool_size {self.pool}
		pool_discard no
		pool_cancel yes
		pool_rollback yes
		pool_reserve_prepared_statement yes
		client_fwd_error yes
		log_debug no
"""
        config = self.write("conf", f"""
daemonize no
locks_dir "{self.bench.folder}"
log_format "%p %t %l [%i %s] (%c) %m\\n"
log_to_stdout yes
log_debug no
log_config no
log_session no
log_query no
log_stats no
workers {self.workers}
resolvers 1
readahead 8192
nodelay yes
coroutine_stack_size 16
client_max {self.bench.most_clients}
listen {{
	host "127.0.0.1"
	port {port}
	backlog 4096
	tls "allow"
	tls_cert_file "{self.bench.certificate[0]}"
	tls_key_file "{self.bench.certificate[1]}"
}}
storage "server" {{
	type "remote"
	host "127.0.0.1"
	port {self.bench.postgres.port}
}}
database "bench" {{
	user "bench" {{
		authentication "none"{rule}	}}
	user "bench_scram" {{
		authentication "scram-sha-256"
		password "bench_scram"{rule}	}}
}}
""")
        return self.run([self.program, config], port)


class PgCat(Peer):
    program_name, can_scram = "pgcat", False

    def spawn(self):
        port = free_port()
        config = self.write("toml", f"""
[general]
host = "127.0.0.1"
port = {port}
admin_username = "admin"
admin_password = "admin"
worker_threads = {self.workers}
tls_certificate = "{self.bench.certificate[0]}"
tls_private_key = "{self.bench.certificate[1]}"
log_client_connections = false
log_client_disconnections = false
connect_timeout = 30000

[pools.bench]
pool_mode = "transaction"
query_parser_enabled = false
prepared_statements_cache_size = 500

[pools.bench.users.0]
username = "bench"
password = "bench"
auth_type = "trust"
pool_size = {self.pool}
statement_timeout = 0

[pools.bench.shards.0]
servers = [["127.0.0.1", {self.bench.postgres.port}, "primary"]]
database = "bench"
""")
        return self.run([self.program, "--log-level", "error", config], port)


class Rust(Peer):
    """It has a server connection for each client, and lets the server ask for passwords."""

    program_name, on_path, link_for_each = "heliosdb-proxy", False, True

    def spawn(self):
        port = free_port()
        config = self.write("toml", f"""
listen_address = "127.0.0.1:{port}"
admin_address = "127.0.0.1:{free_port()}"
tr_enabled = false
tr_mode = "none"

[pool]
min_connections = 2
max_connections = {self.pool}
idle_timeout_secs = 300
max_lifetime_secs = 1800
acquire_timeout_secs = 30
test_on_acquire = false

[pool_mode]
mode = "transaction"
max_pool_size = {self.pool}
skip_clean_reset = true

[load_balancer]
read_strategy = "round_robin"
read_write_split = false
latency_threshold_ms = 100

[health]
check_interval_secs = 5
check_timeout_secs = 3
failure_threshold = 3
success_threshold = 1
check_query = "SELECT 1"

[tls]
enabled = true
cert_path = "{self.bench.certificate[0]}"
key_path = "{self.bench.certificate[1]}"
require_client_cert = false

[[nodes]]
host = "127.0.0.1"
port = {self.bench.postgres.port}
http_port = 8080
role = "primary"
weight = 100
enabled = true
""")
        return self.run([self.program, "--config", config, "--log-level", "error"], port)


PEERS = {
    "pgbouncer": (PgBouncer, {}),
    "pgbouncer-session": (PgBouncerSession, {}),
    "pgbouncer-new": (PgBouncerNew, {}),
    "odyssey": (Odyssey, {}),
    "pgcat": (PgCat, {}),
    "rust": (Rust, {}),
}
