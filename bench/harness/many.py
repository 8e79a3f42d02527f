"""What bench/clients.c measures: storms, idle clients, fairness, answers of the proxy itself, the kernel's floor."""

import json
import subprocess
import time

from .measure import Client, loaded, select_only
from .process import Failed, Server, as_user, environment, free_port

LOCAL = "DEALLOCATE ALL"  # in transaction pooling the proxy answers it without a server
LOOKUP = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711"


def clients(target, what, count, *arguments):
    """Runs bench/clients.c to its end; what its last line says."""
    command = [target.bench.clients, what, str(target.port), str(count), *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", check=False,
                          env=environment(), timeout=600, **as_user())
    if done.returncode or not done.stdout.strip():
        raise Failed(f"{' '.join(command)}: {(done.stderr or done.stdout)[-500:]}")
    values = json.loads(done.stdout.splitlines()[-1])
    if values["failed"] and what != "storm":
        raise Failed(f"{values['failed']} of {count} clients failed: {done.stderr[-300:]}")
    return values


class Held:
    """Clients that log in and then do nothing, until the block ends."""

    def __init__(self, target, count, tls=False):
        command = [target.bench.clients, "hold", str(target.port), str(count)] + ["tls"] * tls
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
                                        env=environment(), **as_user())
        self.count = count

    def __enter__(self):
        try:
            self.confirm()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def confirm(self):
        line = self.process.stdout.readline()
        if not line or json.loads(line)["held"] != self.count:
            raise Failed(f"{self.count} clients could not be held: {line.strip()}")

    def query(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.confirm()


def storm(target, count):
    """All connect at once over TLS; the time from the first connect() until each has its ReadyForQuery."""
    def run():
        values = clients(target, "storm", count, "tls")
        return max(values["clients"], 1), values
    return loaded(target, run)


def idle_memory(target, count, tls):
    """Resident bytes for each idle client: logged in only, and after a query of each."""
    target.stop()  # a fresh process: nothing is left over from earlier clients
    target.start()
    with Held(target, 20, tls) as few:  # what the first clients cost once is not theirs
        few.query()
        time.sleep(0.5)
        before = target.server.resident_bytes()
        with Held(target, count, tls) as many:
            time.sleep(0.5)
            logged_in = target.server.resident_bytes()
            many.query()
            time.sleep(0.5)
            used = target.server.resident_bytes()
    return {"bytes_logged_in": (logged_in - before) / count, "bytes_used": (used - before) / count}


def held_latency(target, seconds, count, active):
    """What `active` clients get alone, and while `count` idle ones are connected."""
    alone = select_only(target, seconds, "prepared" if target.can_prepare else "simple", active)
    with Held(target, count):
        values = select_only(target, seconds, "prepared" if target.can_prepare else "simple", active)
    for key in ("tps", "p50_ms", "p99_ms"):
        values["alone_" + key] = alone[key]
    return values


def fairness(target, seconds, count):
    def run():
        values = clients(target, "load", count, seconds, 1, LOOKUP)
        values["tps"] = values.pop("queries") / values.pop("seconds")
        values["slowest_to_median"] = values["slowest_ms"] / values["median_ms"]
        return values["tps"] * seconds, values
    return loaded(target, run)


def local_answers(target, seconds, count, depth):
    """Queries that the proxy answers itself; with `depth` of them in a packet it is the bottleneck, not the client."""
    with_link = Client(target.port)  # what it learns from a server it has learnt by then
    with_link.query("SELECT 1")
    with_link.close()

    def run():
        values = clients(target, "load", count, seconds, depth, LOCAL)
        return values["queries"], {"tps": values["queries"] / values["seconds"]}
    return loaded(target, run)


def floor(target, seconds, count):
    """The relay between a client and a server of fixed bytes: what is left is the kernel's."""
    bench, port = target.bench, free_port()
    server = Server(bench.folder, "answer", [bench.relay, str(port), "answer", "100"], port)
    relay = None
    try:
        front = free_port()
        relay = Server(bench.folder, "floor", [bench.relay, str(front), str(port)], front)
        before = relay.cpu_seconds()
        done = subprocess.run([bench.clients, "fixed", str(front), str(count), str(seconds), "100"], cwd="/", check=False,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, **as_user())
        if done.returncode:
            raise Failed(done.stderr[-300:])
        values = json.loads(done.stdout.splitlines()[-1])
        return {"tps": values["queries"] / values["seconds"], "p50_ms": values["p50_ms"], "p99_ms": values["p99_ms"],
                "cpu_us": (relay.cpu_seconds() - before) * 1e6 / values["queries"]}
    finally:
        for process in filter(None, (relay, server)):
            process.stop()
