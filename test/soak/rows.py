#!/usr/bin/env python3
"""
The wrong-row detector: hundreds of clients on a few links, and each knows every byte of its answers before it asks.

    test/soak/rows.py --binary build/src/server/heliosdb-proxy --seconds 30 [--workers 2] [--io epoll] [--links 8]
        [--clients 200] [--seed S] [--switch 20] [--set pool.reset=always ...]
    test/soak/rows.py --binary ... --prove     does it find what is wrong? See tamper.py.

Meanwhile links are killed, the configuration is reloaded, clients die in the middle of everything, cancel, do not read.
An error that a killed link explains is allowed once for each link killed; a cancelled query to who cancelled it. At the
end nothing may be left over, and clients that never read must not have cost memory. When an answer was wrong, what that
client did last is printed. The seed decides what each client does; the kernel, in which order.
"""

import argparse
import collections
import functools
import heapq
import logging
import os
import random
import select
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))

import after  # noqa: E402
import psycopg  # noqa: E402
from actions import ACTIONS, SETUP, Actor  # noqa: E402
from harness import Postgres, Proxy, SanitizerReport, Wire, wait_until, wire  # noqa: E402
from harness.postgres import DEFAULT_BIN, Template  # noqa: E402
from harness.proxy import merge  # noqa: E402
from rowclient import PATIENCE, Canceller, Cut, Lost, Wrong  # noqa: E402
from tamper import WAYS, Tamperer  # noqa: E402

STATEMENTS = 12          # max_prepared_statements: fewer than there are, so that they are closed and made anew
HOGS = 60                # clients that never read
HOG_MEMORY = 1 << 20     # that each of them may cost
CONFIG = {
    "proxy": {"shutdown_drain_timeout": "10s"},
    "pool": {"mode": "transaction", "max_prepared_statements": STATEMENTS, "query_wait_timeout": 0,
             "client_login_timeout": "600s"},
    "log": {"connections": False, "disconnections": False},
}


class Loop:
    """All clients, on one thread."""

    def __init__(self, args, address, rows_oid):
        self.args = args
        self.address = address
        self.rows_oid = rows_oid
        self.epoll = select.epoll()
        self.all = {}
        self.timers = []
        self.order = 0
        self.queries = 0
        self.lost = 0
        self.counts = collections.Counter()
        self.wrong = []
        self.stopping = False
        self.began = time.monotonic()
        self.lives = collections.Counter()

    # -- what connections need

    def add(self, connection):
        self.all[connection.fd] = connection
        self.epoll.register(connection.fd, 0)

    def remove(self, connection):
        self.epoll.unregister(connection.fd)
        del self.all[connection.fd]

    def later(self, seconds, run):
        self.order += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.order, run))

    def count(self, what):
        self.counts[what] += 1

    def stray_cancel(self, key):
        Canceller(self, self.address, key, lambda: None)

    def left(self, client):
        self.begin(client.index)

    # -- lives

    def begin(self, index):
        if self.stopping:
            return
        self.lives[index] += 1
        life = self.lives[index]
        rng = random.Random(f"{self.args.seed}/{index}/{life}")
        if rng.random() < 0.02:
            packet = wire.startup_packet({"user": "app", "database": "app"}) + wire.query("SELECT 1")
            Cut(self, self.address, packet[:rng.randrange(len(packet))] if rng.random() < 0.9 else os.urandom(50))
            self.count("cut logins")
        client = Actor(self, self.address, f"c{index}.{life}", rng, self.args.die)
        client.index = index

    def guarded(self, run, client):
        """What goes wrong there is the client's; it is replaced."""
        try:
            run()
            return
        except Lost:
            self.lost += 1
            self.count("lost to a killed link")
        except (Wrong, AssertionError) as e:
            self.found(client, e)
        except Exception as e:  # noqa: BLE001
            self.found(client, e, traceback.format_exc())
        if client:
            client.close()
            if isinstance(client, Actor):
                self.begin(client.index)

    def found(self, client, e, more=""):
        self.wrong.append(f"{getattr(client, 'name', client)}: {e}"[:1000])
        if len(self.wrong) <= 3 and not self.args.prove:
            story = client.story() if isinstance(client, Actor) else ""
            print(f"WRONG {self.wrong[-1]}\n{more}{story}", flush=True)
        if len(self.wrong) >= 10 or self.args.prove:
            self.stopping = True

    # -- turning

    def turn(self):
        now = time.monotonic()
        wait = min(max(self.timers[0][0] - now, 0), 0.2) if self.timers else 0.2
        for fd, events in self.epoll.poll(wait):
            connection = self.all.get(fd)
            if connection:
                self.guarded(functools.partial(connection.ready, events), connection)
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            run = heapq.heappop(self.timers)[2]
            self.guarded(run, getattr(run, "__self__", None))

    def look_for_forgotten(self):
        now = time.monotonic()
        for client in [c for c in self.all.values() if isinstance(c, Actor) and c.is_forgotten(now, self.args.patience)]:
            self.guarded(functools.partial(self.forgotten, client), client)

    def forgotten(self, client):
        raise Wrong(f"nothing came for {self.args.patience} s; it waits for {[str(u.parts[u.at])[:200] for u in client.units][:3]}")

    def run(self, alive):
        for index in range(self.args.clients):
            self.begin(index)
        end = self.began + self.args.seconds
        while time.monotonic() < end and not self.stopping and alive():
            self.turn()
            if self.order % 64 == 0:
                self.look_for_forgotten()
        self.took = time.monotonic() - self.began
        self.stopping = True
        deadline = time.monotonic() + self.args.patience
        while self.all and alive() and time.monotonic() < deadline and not (self.args.prove and self.wrong):
            self.turn()
        if self.all and not self.args.prove:
            self.look_for_forgotten()
            self.wrong.append(f"{len(self.all)} connections did not end")
        for connection in list(self.all.values()):
            connection.close()


# ---------------------------------------------------------------- faults

class Faults(threading.Thread):
    """Kills links and reloads the configuration."""

    def __init__(self, args, proxy, postgres):
        super().__init__(daemon=True)
        self.args, self.proxy, self.postgres = args, proxy, postgres
        self.stop = threading.Event()
        self.killed = self.reloads = 0
        self.problem = None

    def run(self):
        rng = random.Random(f"{self.args.seed}/faults")
        try:
            with self.postgres.admin() as db:
                while not self.stop.wait(rng.random() * 2 / self.args.faults):
                    if rng.random() < 0.2:
                        self.reload(rng)
                    else:
                        self.kill(db, rng.choice((1, 1, 1, 2)))
        except Exception:  # noqa: BLE001
            self.problem = traceback.format_exc()

    def kill(self, db, count):
        """Links that are logged in: one that is not would fail for all who wait."""
        self.killed += db.execute(
            "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) AS done FROM (SELECT pid FROM pg_stat_activity WHERE "
            "usename = 'app' AND state IS NOT NULL ORDER BY random() LIMIT %s) AS a) AS b WHERE done", [count]).fetchone()[0]

    def reload(self, rng):
        self.proxy.config = merge(self.proxy.config, {"pool": {
            "max_prepared_statements": rng.choice((STATEMENTS, STATEMENTS // 2, 100)),
            "max_connections": max(2, self.args.links - rng.randrange(3))}})
        self.proxy.reload()
        self.reloads += 1


class Switches(threading.Thread):
    """Workers go from thread to thread (loop/crew.c)."""

    def __init__(self, args, proxy):
        super().__init__(daemon=True)
        self.args, self.proxy = args, proxy
        self.stop = threading.Event()
        self.done = 0
        self.problem = None

    def run(self):
        rng = random.Random(f"{self.args.seed}/switches")
        try:
            while not self.stop.wait(rng.random() * 2 / self.args.switch):
                active = rng.randrange(self.args.workers + 1)
                status, text = self.proxy.admin(f"/debug/threads?active={active}", "POST", body=b"")
                assert status == 200, f"{status} {text}"
                self.done += 1
        except Exception:  # noqa: BLE001
            self.problem = traceback.format_exc()


def hogs(proxy, results):
    """Clients that ask for much and read nothing, and send more as long as it is taken from them."""
    before = proxy.rss()
    clients = [Wire(proxy.address, 120) for _ in range(HOGS)]
    texts = wire.query("SELECT repeat('x', 10000) FROM generate_series(1, 10000)") + wire.query("SELECT 1") * 1000
    for client in clients:
        client.login({"user": "app", "database": "app"})
        client.socket.setblocking(False)
    most, began = 0, time.monotonic()
    quiet_since = began
    while time.monotonic() - quiet_since < 1 and time.monotonic() - began < 10:
        for client in clients:
            try:
                if client.socket.send(texts):
                    quiet_since = time.monotonic()
            except BlockingIOError:
                pass
        rss = proxy.rss()
        if rss > most + (1 << 20):
            most, quiet_since = rss, time.monotonic()
        time.sleep(0.02)
    for client in clients:
        client.abort()
    # Whoever was paused with a full buffer is heard to its end: each of them still has its turn on a link.
    wait_until(lambda: proxy.metric("clients") == 0, 150, "clients that have gone stay")
    limit = before + HOGS * HOG_MEMORY + (32 << 20)
    if proxy.measures_memory:
        results.check("clients that never read cost little", lambda: after.true(
            most < limit, f"VmRSS {most >> 20} MB with {HOGS} of them, {before >> 20} MB before"))


# ---------------------------------------------------------------- the run

def setting(text):
    """section.key=value as a dict; what looks like a number or a boolean is one."""
    path, _, value = text.partition("=")
    section, _, key = path.rpartition(".")
    if not section or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not section.key=value")
    value = {"true": True, "false": False}.get(value, int(value) if value.lstrip("-").isdigit() else value)
    return {section: {key: value}}


def configuration(args):
    config = merge(CONFIG, {"proxy": {"workers": args.workers}, "pool": {"max_connections": args.links}})
    if args.io:
        config = merge(config, {"proxy": {"io": args.io}})
    for change in args.set:
        config = merge(config, change)
    return config


def lost_per_kill(config):
    """A link that is shared by several at a time takes the answers of all of them with it."""
    return 1 if config["pool"].get("share", "none") in ("none", "off", False) else 64


def soak(args, results, postgres):
    config = configuration(args)
    proxy = Proxy(args.binary, postgres, config, clock=args.switch > 0).start()  # with it there is /debug/threads
    try:
        for _ in range(20):
            after.still_serves(proxy)
        before = proxy.descriptors(), proxy.rss()
        loop = Loop(args, proxy.address, postgres.value("SELECT 'soak_rows'::regclass::oid", database="app"))
        faults = Faults(args, proxy, postgres)
        if args.faults:
            faults.start()
        switches = Switches(args, proxy)
        if args.switch:
            switches.start()
        loop.run(lambda: proxy.process.poll() is None)
        switches.stop.set()
        if args.switch:
            switches.join(60)
        faults.stop.set()
        if args.faults:
            faults.join(60)
        print("; ".join(f"{n} {what}" for what, n in sorted(loop.counts.items())))
        print(f"{loop.queries} answers, {loop.queries / loop.took:.0f} a second; {faults.killed} links killed, "
              f"{faults.reloads} reloads, {switches.done} times other threads")
        results.check("every answer was the client's own", lambda: after.true(not loop.wrong, "\n".join(loop.wrong)))
        results.check("a killed link cost one client its answer", lambda: after.true(
            loop.lost <= faults.killed * lost_per_kill(config), f"{loop.lost} were lost to {faults.killed} killed links"))
        results.check("faults went on", lambda: after.true(not faults.problem, faults.problem))
        results.check("threads were told", lambda: after.true(not switches.problem, switches.problem))
        each = args.clients // len(ACTIONS)  # so many clients begin with the same; less, where links are killed in logins
        results.check("everything was done", lambda: after.true(
            loop.counts["first lives"] <= args.clients - each or all(loop.counts[a.__name__] for a in ACTIONS),
            str(loop.counts)))
        if args.hogs and not loop.wrong:
            hogs(proxy, results)
        after.all_is_well(results, proxy, postgres, args.links, before)
        if results.failed or args.keep:
            after.keep_log(proxy, args.seed)
    finally:
        remove(proxy)


def remove(proxy):
    try:
        proxy.remove()
    except (AssertionError, SanitizerReport):
        pass  # told already


def prove(args, results, postgres):
    """Each way of spoiling answers must be found, and nothing where nothing was spoiled."""
    oid = postgres.value("SELECT 'soak_rows'::regclass::oid", database="app")
    for way in (None, *WAYS):
        postgres.sql("TRUNCATE soak_rows, soak_copy", database="app")  # clients have the same names each time
        args.seconds = 3 if way is None else args.most_seconds
        proxy = Proxy(args.binary, postgres, configuration(args), clock=False).start()
        relay = Tamperer(proxy, way, args.seed)
        try:
            loop = Loop(args, relay.address, oid)
            loop.run(lambda: proxy.process.poll() is None)
            found = "; ".join(loop.wrong)[:300]
            if way is None:
                results.check("finds nothing where nothing was spoiled", lambda: after.true(not found, found))
            else:
                results.check(f"finds {way}", lambda: after.true(
                    found, f"not found in {loop.queries} answers, of which {relay.spoiled} were spoiled"))
            print(f"       {loop.queries} answers. {found}")
        finally:
            relay.close()
            remove(proxy)


def begin(args, results):
    template = Template(args.pg_bin)
    postgres = Postgres(template)
    try:
        postgres.start()
        with postgres.admin("app") as db:
            db.execute(SETUP)
        (prove if args.prove else soak)(args, results, postgres)
    finally:
        postgres.remove()
        template.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--links", type=int, default=None, help="pool.max_connections; by chance from 2 to 20")
    parser.add_argument("--io", help="[proxy] io")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="any key of the configuration")
    parser.add_argument("--faults", type=float, default=4, help="killed links and reloads a second; 0: none")
    parser.add_argument("--switch", type=float, default=0, help="how often a second other threads run the workers")
    parser.add_argument("--die", type=float, default=0.002, help="how likely a client dies with a request")
    parser.add_argument("--no-hogs", dest="hogs", action="store_false", help="without the clients that never read")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds after which a client is forgotten")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--prove", action="store_true", help="show that it finds answers that were spoiled on the way")
    parser.add_argument("--pg-bin", default=os.environ.get("HELIOS_PG_BIN", DEFAULT_BIN))
    parser.add_argument("--keep", action="store_true", help="keep the proxy's log also when all went well")
    args = parser.parse_args()
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1 << 30)
    rng = random.Random(f"{args.seed}/links")
    args.links = args.links or rng.choice((2, 3, 5, 8, 20))
    args.binary = os.path.abspath(args.binary)
    if args.prove:
        args.clients, args.links, args.patience, args.faults, args.die = 20, 4, 10, 0, 0
        args.most_seconds = args.seconds
    print(f"seed {args.seed}, {args.seconds:g} s, {args.clients} clients, {args.workers} workers, {args.links} links, "
          f"io {args.io or 'auto'}, set {args.set}", flush=True)
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    results = after.Results()
    results.check("the run", lambda: begin(args, results))
    print(f"seed {args.seed}")
    return results.last_line()


if __name__ == "__main__":
    sys.exit(main())
