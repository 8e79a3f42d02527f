#!/usr/bin/python3
"""
What a scrape costs with many pools and clients: CPU time of the threads that are not workers, and memory.

    bench/scrape.py [--pools 1000] [--clients 10000] [--scrapes 20] [--binary build-release/src/server/heliosdb-proxy]

Pools are databases of the proxy that all lead to one; clients log in and stay idle. GET /metrics is asked for so many
times, one after the other, and other endpoints of that kind a few times.
"""

import argparse
import collections
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bench"))

from harness.process import BIN, allow_files, as_user, environment, free_port, give  # noqa: E402
from harness.watched import start_watched  # noqa: E402

AT_ONCE = 50  # logins under way
POOL = """max_connections = 10
idle_timeout = "2s"
client_login_timeout = "600s"
"""
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
# What is shown, the path, Accept.
REQUESTS = [("/metrics", "/metrics", "*/*"), ("/metrics (protobuf)", "/metrics", PROTOBUF),
            ("/api/v1/stats", "/api/v1/stats", "*/*"), ("/api/v1/stats/history", "/api/v1/stats/history", "*/*")]


class Postgres:
    def __init__(self, folder):
        self.port, self.data = free_port(), os.path.join(folder, "data")
        self.run("initdb", "-D", self.data, "-U", "bench", "-A", "trust", "--no-sync")
        self.run("pg_ctl", "-D", self.data, "-w", "-l", os.path.join(folder, "postgres.log"), "-o",
                 f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off "
                 "-c max_connections=1300", "start")

    def run(self, program, *arguments):
        subprocess.run([f"{BIN}/{program}", *arguments], check=True, cwd="/", env=environment(), stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user())

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")


def start_proxy(args, folder, postgres):
    return start_watched(folder, "proxy", args.binary, postgres, proxy=f"max_clients = {args.clients + 100}", pool=POOL, more="".join(
        f'[databases.tenant_database_{i:05}]\ndbname = "postgres"\n' for i in range(args.pools)))


def log_in(server, count, pools):
    """Sockets of clients that are logged in."""
    clients, coming = [], collections.deque()

    def finish():
        client = coming.popleft()
        received = b""
        while not received.endswith(b"Z\0\0\0\5I"):
            piece = client.recv(65536)
            if not piece:
                raise SystemExit(f"a login failed: {received[-300:]}")
            received += piece
        clients.append(client)

    for i in range(count):
        packet = b"\0\3\0\0user\0bench\0database\0tenant_database_%05d\0\0" % (i % pools)
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(struct.pack(">I", len(packet) + 4) + packet)
        coming.append(client)
        if len(coming) >= AT_ONCE:
            finish()
    while coming:
        finish()
    return clients


def thread_times(pid):
    """Nanoseconds on a CPU, by thread; of those that are no workers."""
    times = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm", encoding="utf-8") as f:
            name = f.read().strip()
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as f:
            times[thread, name] = int(f.read().split()[0])
    return times


def ask(server, path, accept):
    request = urllib.request.Request(f"http://127.0.0.1:{server.admin}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def measure(server, path, accept, count):
    """(milliseconds of the thread that answers, and until all is there; bytes): of each scrape."""
    rows = []
    for _ in range(count):
        before, began = thread_times(server.pid), time.monotonic()
        size = len(ask(server, path, accept))
        took, after = time.monotonic() - began, thread_times(server.pid)
        rows.append((max(after[t] - before.get(t, 0) for t in after) / 1e6, took * 1e3, size))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=10000)
    parser.add_argument("--scrapes", type=int, default=20)
    parser.add_argument("--binary", default=os.path.join(ROOT, "build-release/src/server/heliosdb-proxy"))
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    files = allow_files(args.clients * 2 + 1000)
    if files < args.clients + 500:
        raise SystemExit(f"{args.clients} clients need as many open files; there may be {files}")
    folder = tempfile.mkdtemp(prefix="helios-scrape-")
    os.chmod(folder, 0o755)
    give(folder)
    postgres, server, clients = Postgres(folder), None, []
    try:
        server = start_proxy(args, folder, postgres)
        clients = log_in(server, args.clients, args.pools)
        time.sleep(5)  # server connections of the logins are closed
        resident = server.resident_bytes()
        print(f"{len(clients)} clients, {args.pools} pools")
        for name, path, accept in REQUESTS:
            rows = measure(server, path, accept, args.scrapes)
            print(f"{name:24} CPU {statistics.median(r[0] for r in rows):6.2f} ms (most {max(r[0] for r in rows):.2f})   "
                  f"answer {statistics.median(r[1] for r in rows):6.2f} ms   {rows[-1][2] / 1e3:8.1f} kB")
        before = sum(thread_times(server.pid).values())
        time.sleep(10)
        print(f"idle: {(sum(thread_times(server.pid).values()) - before) / 10e6:.2f} ms of CPU a second, all threads")
        print(f"resident memory {resident / 1e6:.1f} MB before, {server.resident_bytes() / 1e6:.1f} MB after, "
              f"at most {server.peak_bytes() / 1e6:.1f} MB")
    finally:
        for client in clients:
            client.close()
        if server:
            server.stop()
        postgres.stop()
        subprocess.run(["rm", "-rf", folder], check=False)


if __name__ == "__main__":
    main()
