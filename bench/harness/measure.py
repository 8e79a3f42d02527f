"""One measurement each. They return a dict of numbers; None: this target can't be measured so."""

import glob
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import time

from .process import BIN, Failed, as_user, environment, machine_seconds

READY = b"Z\x00\x00\x00\x05I"  # never within the rows we ask for
SAMPLED = 0.25  # of all transactions: enough for a 99th percentile, and writing them down costs nothing to speak of


def pgbench(target, seconds, *arguments, user="bench", **env):
    """Runs pgbench; (transactions, tps, latency in ms)."""
    command = [f"{BIN}/pgbench", "-h", "127.0.0.1", "-p", str(target.port), "-U", user, "-n", "-S", "-T", str(seconds),
               *arguments, "bench"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", check=False,
                          env=environment(PGPASSWORD=user, **env), timeout=seconds + 120, **as_user())
    tps = re.search(r"^tps = ([\d.]+)", done.stdout, re.M)
    if done.returncode or not tps or float(tps[1]) == 0:
        raise Failed(f"{' '.join(command)}: {(done.stderr or done.stdout)[-500:]}")
    count = int(re.search(r"actually processed: (\d+)", done.stdout)[1])
    latency = float(re.search(r"latency average = ([\d.]+)", done.stdout)[1])
    return count, float(tps[1]), latency


def logged_latencies(prefix):
    """Of the transactions that pgbench wrote down, in ms, in order; the files go."""
    found = []
    for name in glob.glob(prefix + ".*"):
        with open(name, encoding="ascii") as f:
            found += [int(line.split(None, 3)[2]) / 1000 for line in f]
        os.unlink(name)
    return sorted(found)


def percentiles(ordered):
    if not ordered:
        return {}
    return {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[int(len(ordered) * 0.99)]}


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def loaded(target, run):
    """run() -> (units, values); adds the CPU time for each unit (the proxy's, the server's, the client's), and how
    many cores others had of the machine meanwhile."""
    postgres, proxy = target.bench.postgres, target.server

    def now():
        return (time.monotonic(), machine_seconds(), proxy.cpu_seconds() if proxy else 0, postgres.cpu_seconds(),
                children_seconds(), time.process_time())

    before = now()
    units, values = run()
    if proxy and not proxy.alive():
        raise Failed("it has died")
    taken, busy, ours, server, client, harness = (b - a for a, b in zip(before, now()))
    if proxy:
        values["cpu_us"] = ours * 1e6 / units
    values["server_us"] = server * 1e6 / units
    values["client_us"] = (client or harness) * 1e6 / units
    values["others"] = max(0, busy - ours - server - client - harness) / taken
    return values


def select_only(target, seconds, protocol, clients):
    prefix = os.path.join(target.bench.folder, "latencies")

    def run():
        count, tps, latency = pgbench(target, seconds + target.connect_seconds(clients), "-M", protocol, "-c",
                                      str(clients), "-j", str(min(clients, 2)), "--log", f"--log-prefix={prefix}",
                                      f"--sampling-rate={SAMPLED}")
        return count, {"tps": tps, "latency_ms": latency}
    values = loaded(target, run)
    return {**values, **percentiles(logged_latencies(prefix))}


def connect_each(target, seconds, method, clients):
    if not {"scram": target.can_scram, "tls": target.can_tls}.get(method, True):
        return None
    user = "bench_scram" if method == "scram" else "bench"

    def run():
        count, tps, latency = pgbench(target, seconds, "-C", "-c", str(clients), "-j", "2", user=user,
                                      PGSSLMODE="require" if method == "tls" else "disable")
        return count, {"tps": tps, "latency_ms": latency}
    return loaded(target, run)


class Client:
    """A connection that costs its process next to nothing: it looks only for the end of each answer."""

    buffer = bytearray(1 << 20)

    def __init__(self, port, user="bench"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = struct.pack("!I", 196608) + f"user\0{user}\0database\0bench\0\0".encode()
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        self.wait()

    def wait(self):
        """Reads up to ReadyForQuery; how many bytes came."""
        view, total, tail = memoryview(self.buffer), 0, b""
        while True:
            n = self.socket.recv_into(view)
            if n == 0:
                raise Failed("the connection was closed: " + repr(bytes(tail)))
            total += n
            tail = (tail + bytes(view[max(0, n - 6):n]))[-6:]
            if tail == READY:
                return total

    def send(self, kind, body):
        self.socket.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def query(self, text):
        self.send(b"Q", text.encode() + b"\0")
        return self.wait()

    def close(self):
        try:
            self.socket.sendall(b"X\0\0\0\4")
        except OSError:
            pass
        self.socket.close()


def rows_query(row_bytes, total_bytes):
    rows = total_bytes // row_bytes
    outer = max(1, rows // 1000)
    return (f"SELECT v FROM (SELECT repeat('x', {row_bytes}) AS v OFFSET 0) AS a, generate_series(1, {outer}) AS b, "
            f"generate_series(1, {rows // outer}) AS c")


def copy_in(client, row_bytes, total_bytes):
    """The server reads the rows and keeps none of them: the way there is what is measured."""
    row = b"x" * (row_bytes - 1) + b"\n"
    data = row * max(1, (1 << 18) // row_bytes)
    message = b"d" + struct.pack("!I", len(data) + 4) + data
    client.send(b"Q", b"COPY bench_copy FROM STDIN WHERE false\0")
    while client.socket.recv(4096)[:1] != b"G":
        pass
    sent = 0
    while sent < total_bytes:
        client.socket.sendall(message)
        sent += len(data)
    client.send(b"c", b"")
    client.wait()
    return sent


def stream(target, seconds, row_bytes, total_bytes, way="rows"):
    """One client reads or writes a large amount again and again; MB/s, the proxy's CPU for each MB, its peak memory."""
    query = rows_query(row_bytes, total_bytes)
    if way == "out":
        query = f"COPY ({query}) TO STDOUT"
    client = Client(target.port)
    try:
        client.query(query if total_bytes < 32 << 20 and way != "in" else "SELECT 1")
        if target.server:
            target.server.forget_peak()

        def run():
            begin = time.monotonic()
            moved = 0
            while True:
                moved += copy_in(client, row_bytes, total_bytes) if way == "in" else client.query(query)
                taken = time.monotonic() - begin
                if taken >= seconds:
                    break
            return moved / 1e6, {"mb_per_s": moved / 1e6 / taken}
        values = loaded(target, run)
        if target.server:
            values["peak_mb"] = target.server.peak_bytes() / 1e6
        return values
    except (OSError, struct.error) as e:
        raise Failed(str(e)) from e
    finally:
        client.close()


def system_calls(target, seconds, protocol, clients):
    """System calls for each transaction, in a run of its own: counted by the kernel's tracepoint (perf) where there
    is one, else by strace, which slows the proxy down so much that its batches grow."""
    if not target.server:
        return None
    connecting = target.connect_seconds(clients) + (2 if clients > 256 else 0)
    load = [f"{BIN}/pgbench", "-h", "127.0.0.1", "-p", str(target.port), "-U", "bench", "-n", "-S", "-T",
            str(seconds + connecting + 2), "-P", "1", "-M", protocol, "-c", str(clients), "-j",
            "2" if clients > 1 else "1", "bench"]
    running = subprocess.Popen(load, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, cwd="/", env=environment(), **as_user())
    try:
        output = ""
        while not output.rpartition("\n")[0].rpartition("\n")[2].startswith("progress"):  # all are connected
            line = running.stdout.readline()
            if not line:
                raise Failed(output[-300:])
            output += line
        calls, taken, tool = count_calls(target.server.pid, seconds)
        output += running.communicate(timeout=120)[0]
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    tps = [float(n) for n in re.findall(r"^progress: .*? ([\d.]+) tps", output, re.M)]
    middle = tps[1:1 + seconds] or tps
    if not middle or not sum(middle):
        raise Failed(output[-300:])
    return {"calls": calls / taken / (sum(middle) / len(middle)), "with_" + tool: 1}


def count_calls(pid, seconds):
    with tempfile.NamedTemporaryFile("r", prefix="bench-calls-") as out:
        begin = time.monotonic()
        done = subprocess.run(["perf", "stat", "-x;", "-o", out.name, "-e", "raw_syscalls:sys_enter", "-p", str(pid), "--",
                               "sleep", str(seconds)], stdin=subprocess.DEVNULL, capture_output=True, check=False) \
            if can_perf() else None
        taken = time.monotonic() - begin
        counted = re.search(r"^(\d+);", out.read(), re.M) if done and done.returncode == 0 else None
        if counted:
            return int(counted[1]), seconds if abs(taken - seconds) < 0.5 else taken, "perf"
    with tempfile.NamedTemporaryFile("r", prefix="bench-calls-") as out:
        tracer = subprocess.Popen(["strace", "-f", "-c", "-U", "name,calls", "-o", out.name, "-p", str(pid)],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        total = re.search(r"^total\s+(\d+)", out.read(), re.M)
        if not total:
            raise Failed("strace counted nothing")
        return int(total[1]), seconds, "strace"


def can_perf():
    return any(os.access(os.path.join(d, "perf"), os.X_OK) for d in os.environ.get("PATH", "").split(":"))
