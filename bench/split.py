#!/usr/bin/python3
"""
What standbys win: reads a second with the primary alone, and with two standbys, side by side in interleaved rounds.

    bench/split.py [--rounds 5] [--seconds 5] [--clients 32] [--links 4] [--work 5ms]

All nodes are on this machine, so a node's limit is made: a read is a STABLE function that sleeps for --work, and there are
--links server connections to a node. So a node can do links/work reads a second, whatever the machine does meanwhile.
Targets: the proxy with the split and without; PgBouncer, which knows one server; PgCat with its split, if it is here.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bench"))

from harness.process import BIN, Server, as_user, environment, find_program, free_port, give  # noqa: E402


class Nodes:
    """A primary and two standbys, started by PostgreSQL's own tools."""

    def __init__(self, folder, links):
        self.folder, self.ports, self.links = folder, [free_port() for _ in range(3)], links
        self.data = [os.path.join(folder, f"node{i}") for i in range(3)]
        self.tool("initdb", "-D", self.data[0], "-U", "bench", "-A", "trust", "--no-sync")
        self.start(0)
        self.sql("CREATE FUNCTION work(seconds float) RETURNS int LANGUAGE plpgsql STABLE AS "
                 "$$ BEGIN PERFORM pg_sleep(seconds); RETURN 1; END $$")
        for i in (1, 2):
            self.tool("pg_basebackup", "-h", "127.0.0.1", "-p", str(self.ports[0]), "-U", "bench", "-D", self.data[i], "-R",
                      "-c", "fast")
            self.start(i)

    def tool(self, name, *arguments):
        subprocess.run([f"{BIN}/{name}", *arguments], check=True, cwd="/", env=environment(), stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user())

    def start(self, i):
        self.tool("pg_ctl", "-D", self.data[i], "-w", "-l", os.path.join(self.folder, f"node{i}.log"), "-o",
                  f"-c port={self.ports[i]} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off", "start")

    def sql(self, text):
        self.tool("psql", "-XAtq", "-h", "127.0.0.1", "-p", str(self.ports[0]), "-U", "bench", "-d", "postgres", "-c", text)

    def stop(self):
        for data in reversed(self.data):
            subprocess.run([f"{BIN}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, cwd="/", check=False, **as_user())


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o640)
    give(path)
    return path


def helios(nodes, split):
    port = free_port()
    config = f"""
[proxy]
listen_address = "127.0.0.1:{port}"
admin_address = ""
[pool]
mode = "transaction"
max_connections = {nodes.links}
[auth]
mode = "trust"
[server_tls]
mode = "disable"
[log]
level = "warn"
[health]
user = "bench"
check_interval = "1s"
[load_balancer]
read_write_split = {str(split).lower()}
slow_start = "0s"
"""
    for i, node in enumerate(nodes.ports):
        config += f'[[nodes]]\nhost = "127.0.0.1"\nport = {node}\nrole = "{"standby" if i else "primary"}"\n'
    binary = os.path.join(ROOT, "build-release/src/server/heliosdb-proxy")
    return [binary, "--config", write(nodes.folder, f"helios{split}.toml", config)], port


def pgbouncer(nodes):
    program, port = find_program("pgbouncer", "pgbouncer-new") or find_program("pgbouncer"), free_port()
    return program and [program, write(nodes.folder, "pgbouncer.ini", f"""
[databases]
postgres = host=127.0.0.1 port={nodes.ports[0]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {write(nodes.folder, "users", '"bench" "bench"')}
pool_mode = transaction
default_pool_size = {nodes.links}
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
""")], port


def pgcat(nodes):
    program, port = find_program("pgcat"), free_port()
    servers = ", ".join(f'["127.0.0.1", {node}, "{"replica" if i else "primary"}"]' for i, node in enumerate(nodes.ports))
    return program and [program, "--log-level", "error", write(nodes.folder, "pgcat.toml", f"""
[general]
host = "127.0.0.1"
port = {port}
admin_username = "admin"
admin_password = "admin"
connect_timeout = 30000
[pools.postgres]
pool_mode = "transaction"
query_parser_enabled = true
query_parser_read_write_splitting = true
primary_reads_enabled = false
default_role = "any"
[pools.postgres.users.0]
username = "bench"
password = "bench"
auth_type = "trust"
pool_size = {nodes.links}
statement_timeout = 0
[pools.postgres.shards.0]
servers = [{servers}]
database = "postgres"
""")], port


def measure(args, port, script):
    done = subprocess.run([f"{BIN}/pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "bench", "-n", "-f", script, "-c",
                           str(args.clients), "-j", "2", "-T", str(args.seconds), "-M", args.protocol, "postgres"],
                          capture_output=True, text=True, cwd="/", check=False,
                          env=environment(PGSSLMODE="disable", PGPASSWORD="bench"), **as_user())
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.M)
    if done.returncode or not found:
        raise SystemExit(f"pgbench on {port}: {done.stderr[-500:]}")
    return float(found[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--links", type=int, default=4)
    parser.add_argument("--work", type=float, default=5, help="milliseconds")
    parser.add_argument("--protocol", default="extended")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="helios-split-")
    os.chmod(folder, 0o755)
    give(folder)
    nodes, servers, values = Nodes(folder, args.links), {}, {}
    try:
        script = write(folder, "read.sql", f"SELECT work({args.work / 1000});\n")
        for name, (command, port) in {"helios, split": helios(nodes, True), "helios, no split": helios(nodes, False),
                                      "pgbouncer": pgbouncer(nodes), "pgcat, split": pgcat(nodes)}.items():
            if not command:
                print(f"{name} is not here")
                continue
            servers[name] = Server(folder, name, command, port)
        for name, server in servers.items():
            measure(args, server.port, script)  # the catalog is read, connections are open
        for _ in range(args.rounds):
            for name, server in servers.items():
                before = server.cpu_seconds()
                tps = measure(args, server.port, script)
                values.setdefault(name, []).append((tps, (server.cpu_seconds() - before) / tps / args.seconds * 1e6))
        for name, found in values.items():
            print(f"{name:18} {statistics.median(v[0] for v in found):8.0f} reads/s   proxy CPU "
                  f"{statistics.median(v[1] for v in found):6.1f} us a read")
        split, alone = (statistics.median(v[0] for v in values[f"helios, {n}"]) for n in ("split", "no split"))
        print(f"two standbys give {split / alone:.2f} times the reads of the primary alone")
    finally:
        for server in servers.values():
            server.stop()
        nodes.stop()
        subprocess.run(["rm", "-rf", folder], check=False)


if __name__ == "__main__":
    main()
